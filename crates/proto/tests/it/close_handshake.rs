//! Tests of the close handshake: two peers, wires between them, and virtual time (RFC 6455, sections 5.5.1 and 7).

use std::time::{Duration, Instant};

use crate::common::NANOSECOND;
use crate::common::chunks::Chunks;
use crate::common::pair::{LATENCY, Pair};
use crate::common::peer::{BINARY, CLOSE, PING, PONG, Peer, Seen, TEXT, frame, frames};
use threadwire_proto::{
    CloseCode, CloseFrame, Compress, Config, Connection, Initiator, Message, OpCode, Role, SendError, Shared,
    Violation, state::State,
};

const TIMEOUT: Duration = Duration::from_secs(5);

impl Peer {
    fn close(&mut self, code: impl Into<Option<u16>>, reason: &str) {
        let code = code.into().map(CloseCode::new);
        self.connection.close(CloseFrame { code, reason }, &mut self.shared, &mut self.out).unwrap();
    }

    fn send(&mut self, opcode: OpCode, fin: bool, payload: &[u8]) -> Result<(), SendError> {
        self.connection.send_frame(opcode, fin, payload, &mut self.shared, &mut self.out)
    }

    fn state(&self) -> State {
        self.connection.state()
    }

    fn end(&self) -> End<'_> {
        let closing = self.connection.closing().expect("the connection closes");
        End {
            initiator: closing.initiator,
            code: closing.code().get(),
            reason: closing.reason(),
            is_clean: closing.is_clean(),
            timed_out: closing.timed_out,
        }
    }
}

/// What a user is told about the end of a connection.
#[derive(Debug, PartialEq)]
struct End<'a> {
    initiator: Initiator,
    code: u16,
    reason: &'a str,
    is_clean: bool,
    timed_out: bool,
}

impl<'a> End<'a> {
    fn clean(initiator: Initiator, code: u16, reason: &'a str) -> End<'a> {
        End { initiator, code, reason, is_clean: true, timed_out: false }
    }

    /// Without the peer's close frame.
    fn lost(initiator: Initiator) -> End<'static> {
        End { initiator, code: 1006, reason: "", is_clean: false, timed_out: false }
    }
}

const ROLES: [(Role, Role); 2] = [(Role::Client, Role::Server), (Role::Server, Role::Client)];

#[test]
fn closes_cleanly_from_either_side() {
    for (own, other) in ROLES {
        for mut pair in Pair::all() {
            pair.peer(own).close(1001, "lunch");
            assert_eq!(pair.peer(own).state(), State::Closing);
            pair.run();
            for role in [own, other] {
                assert_eq!(pair.peer(role).state(), State::Ended, "{role:?} of {own:?}'s closing");
            }
            assert_eq!(pair.peer(own).seen, [Seen::Close(Some(1001), String::new())]);
            assert_eq!(pair.peer(other).seen, [Seen::Close(Some(1001), "lunch".into())]);
            assert_eq!(pair.peer(own).end(), End::clean(Initiator::Local, 1001, ""));
            assert_eq!(pair.peer(other).end(), End::clean(Initiator::Peer, 1001, "lunch"));
        }
    }
}

#[test]
fn keeps_both_close_frames() {
    let mut pair = Pair::new(&Config::default(), Chunks::Whole);
    pair.client.close(4000, "why not");
    pair.run();
    let said = Some((Some(CloseCode::new(4000)), "why not".to_owned()));
    let answer = Some((Some(CloseCode::new(4000)), String::new()));
    let client = pair.client.connection.closing().unwrap();
    assert_eq!((&client.sent, &client.received), (&said, &answer));
    let server = pair.server.connection.closing().unwrap();
    assert_eq!((&server.sent, &server.received), (&answer, &said));
}

#[test]
fn a_close_frame_without_a_code_is_answered_without_one() {
    for (own, other) in ROLES {
        for mut pair in Pair::all() {
            pair.peer(own).close(None, "");
            assert_eq!(frames(own, &pair.peer(own).out), [(CLOSE, vec![])]);
            pair.run();
            assert_eq!(pair.peer(own).seen, [Seen::Close(None, String::new())]);
            assert_eq!(pair.peer(own).end(), End::clean(Initiator::Local, 1005, ""));
            assert_eq!(pair.peer(other).end(), End::clean(Initiator::Peer, 1005, ""));
        }
    }
}

#[test]
fn both_may_close_at_once() {
    for mut pair in Pair::all() {
        pair.client.close(1000, "from the client");
        pair.server.close(1001, "from the server");
        pair.run();
        assert_eq!(pair.client.seen, [Seen::Close(Some(1001), "from the server".into())]);
        assert_eq!(pair.server.seen, [Seen::Close(Some(1000), "from the client".into())]);
        assert_eq!(pair.client.end(), End::clean(Initiator::Local, 1001, "from the server"));
        assert_eq!(pair.server.end(), End::clean(Initiator::Local, 1000, "from the client"));
        assert_eq!((pair.client.state(), pair.server.state()), (State::Ended, State::Ended));
    }
}

#[test]
fn the_server_ends_tcp_and_the_client_waits_for_that() {
    for mut pair in Pair::all() {
        pair.client.close(1000, "");
        let start = pair.now;
        pair.run_until(start + LATENCY);
        assert_eq!((pair.client.state(), pair.server.state()), (State::Closing, State::Closed));
        assert!(pair.down.ended && !pair.up.ended, "right behind its close frame");
        pair.run_until(start + 2 * LATENCY);
        assert_eq!((pair.client.state(), pair.server.state()), (State::Ended, State::Closed));
        pair.run_until(start + 3 * LATENCY);
        assert_eq!(pair.server.state(), State::Ended);
    }
    for mut pair in Pair::all() {
        pair.server.close(1000, "");
        let start = pair.now;
        pair.run_until(start + LATENCY);
        assert_eq!((pair.client.state(), pair.server.state()), (State::Closed, State::Closing));
        assert!(!pair.up.ended && !pair.client.connection.should_end_tcp(), "the client goes first");
        pair.run_until(start + 2 * LATENCY);
        assert_eq!((pair.client.state(), pair.server.state()), (State::Closed, State::Closed));
        assert!(pair.down.ended && !pair.up.ended);
        pair.run_until(start + 3 * LATENCY);
        assert_eq!((pair.client.state(), pair.server.state()), (State::Ended, State::Closed));
        pair.run_until(start + 4 * LATENCY);
        assert_eq!(pair.server.state(), State::Ended);
    }
}

#[test]
fn a_client_does_not_wait_for_ever_for_the_server_to_end_tcp() {
    let mut pair = Pair::new(&Config::default(), Chunks::Whole);
    pair.client.close(1000, "");
    // The server's answer, and no end of TCP after it.
    pair.down.ended = true;
    let start = pair.now;
    pair.run_until(start + LATENCY);
    pair.client.feed(&frame(Role::Client, CLOSE, b"\x03\xe8"));
    assert_eq!(pair.client.state(), State::Closed);
    pair.run_until(start + TIMEOUT - NANOSECOND);
    assert_eq!(pair.client.state(), State::Closed);
    pair.run_until(start + TIMEOUT);
    assert_eq!(pair.client.state(), State::Ended);
    assert_eq!(pair.client.end(), End::clean(Initiator::Local, 1000, ""), "both close frames were there");
}

#[test]
fn a_peer_that_never_answers_is_given_up_when_the_time_is_over_and_not_before() {
    for (own, _) in ROLES {
        for timeout in [Duration::ZERO, NANOSECOND, Duration::from_millis(300), TIMEOUT] {
            let config = Config::default().close_timeout(timeout);
            let mut peer = Peer::new(own, &config);
            let start = Instant::now();
            assert_eq!(peer.connection.deadline(start), None, "an open connection has no deadline");
            assert!(!peer.connection.expire(start + TIMEOUT * 2));

            peer.close(1000, "bye");
            assert_eq!(peer.connection.deadline(start), Some(start + timeout));
            assert_eq!(peer.connection.deadline(start + NANOSECOND), Some(start + timeout), "it moves");
            if let Some(before) = timeout.checked_sub(NANOSECOND) {
                assert!(!peer.connection.expire(start + before));
                assert_eq!(peer.state(), State::Closing);
            }
            assert!(peer.connection.expire(start + timeout));
            assert_eq!(peer.state(), State::Ended);
            assert_eq!(peer.connection.deadline(start + timeout), None);
            assert_eq!(peer.end(), End { timed_out: true, ..End::lost(Initiator::Local) });
        }
    }
}

#[test]
fn giving_up_resets_tcp_for_the_other_side_too() {
    for (own, other) in ROLES {
        for mut pair in Pair::all() {
            (pair.up.blocked, pair.down.blocked) = (own == Role::Server, own == Role::Client);
            let start = pair.now;
            pair.peer(own).close(1000, "bye");
            // The close frame arrives; its answer never leaves.
            pair.run_until(start + TIMEOUT - NANOSECOND);
            assert_eq!(pair.peer(own).state(), State::Closing);
            assert_eq!(pair.peer(other).state(), State::Closed);
            pair.run_until(start + TIMEOUT);
            assert_eq!(pair.peer(own).end(), End { timed_out: true, ..End::lost(Initiator::Local) });
            pair.run();
            assert_eq!(pair.peer(other).state(), State::Ended);
            assert_eq!(pair.peer(other).end(), End::clean(Initiator::Peer, 1000, "bye"));
        }
    }
}

#[test]
fn what_a_peer_sends_after_our_close_frame_is_dropped_and_its_own_close_frame_counts() {
    for (own, other) in ROLES {
        for mut pair in Pair::all() {
            pair.peer(own).close(1000, "bye");
            let late = pair.peer(other);
            late.send(OpCode::Text, false, "half of a m".as_bytes()).unwrap();
            late.send(OpCode::Ping, true, b"are you there").unwrap();
            late.send(OpCode::Continuation, true, "essage".as_bytes()).unwrap();
            late.send(OpCode::Binary, true, &[7; 70_000]).unwrap();
            pair.run();
            assert_eq!(pair.peer(own).seen, [Seen::Close(Some(1000), String::new())]);
            assert_eq!(pair.peer(other).seen, [Seen::Close(Some(1000), "bye".into())], "no pong");
            assert_eq!(pair.peer(own).end(), End::clean(Initiator::Local, 1000, ""));
            assert_eq!(pair.peer(other).end(), End::clean(Initiator::Peer, 1000, "bye"));
        }
    }
}

#[test]
fn a_peer_that_sends_without_end_does_not_put_the_deadline_off() {
    let start = Instant::now();
    let mut client = Peer::new(Role::Client, &Config::default());
    client.close(1000, "");
    assert_eq!(client.connection.deadline(start), Some(start + TIMEOUT));
    for second in 1..5 {
        let now = start + Duration::from_secs(second);
        client.feed(&frame(Role::Client, TEXT, b"and another thing"));
        assert!(!client.connection.expire(now));
        assert_eq!(client.connection.deadline(now), Some(start + TIMEOUT));
    }
    assert!(client.connection.expire(start + TIMEOUT));
    assert_eq!(client.seen, []);
}

#[test]
fn pings_received_while_closing_are_not_answered() {
    for (own, _) in ROLES {
        let mut peer = Peer::new(own, &Config::default());
        peer.close(1000, "");
        peer.out.clear();
        peer.feed(&frame(own, PING, b"anyone?"));
        assert_eq!(peer.out, b"");
        assert_eq!(peer.seen, []);
        assert_eq!(peer.state(), State::Closing);
    }
}

#[test]
fn a_broken_rule_while_closing_is_reported_and_sends_nothing_more() {
    for (own, _) in ROLES {
        let mut peer = Peer::new(own, &Config::default());
        peer.close(1000, "");
        peer.out.clear();
        peer.feed(&frame(own, 0xc1, b"rsv1"));
        assert_eq!(peer.seen, [Seen::Failed(Violation::ReservedBits(4))]);
        assert_eq!(peer.out, b"");
        assert_eq!(peer.state(), State::Failed);
        assert!(peer.connection.should_end_tcp());
        let end = peer.end();
        assert_eq!((end.initiator, end.code, end.is_clean), (Initiator::Local, 1002, false));
    }
}

#[test]
fn a_failed_connection_ends_by_tcp_or_by_its_deadline() {
    for (own, other) in ROLES {
        for mut pair in Pair::all() {
            let start = pair.now;
            pair.peer(other).out = frame(own, 0x83, b"reserved");
            pair.run();
            assert_eq!(pair.now, start + 3 * LATENCY, "there, the close frame back, and the end of TCP");
            let reason = "opcode 0x3 is reserved";
            let failed = End { code: 1002, reason, ..End::lost(Initiator::Local) };
            assert_eq!(pair.peer(own).end(), failed);
            assert_eq!(pair.peer(other).end(), End::clean(Initiator::Peer, 1002, reason));
            assert_eq!((pair.client.state(), pair.server.state()), (State::Ended, State::Ended));
        }

        let mut peer = Peer::new(own, &Config::default());
        let start = Instant::now();
        peer.feed(b"\x83");
        assert_eq!(peer.connection.deadline(start), Some(start + TIMEOUT));
        assert!(!peer.connection.expire(start + TIMEOUT - NANOSECOND));
        assert!(peer.connection.expire(start + TIMEOUT));
        assert!(!peer.end().timed_out, "it was over before");
    }
}

#[test]
fn tcp_ending_while_open_is_a_loss_by_the_peer() {
    for (own, other) in ROLES {
        for mut pair in Pair::all() {
            pair.peer(other).send(OpCode::Text, true, b"last words").unwrap();
            pair.peer(other).send(OpCode::Text, false, b"and th").unwrap();
            pair.end_tcp(other);
            pair.run();
            assert_eq!(pair.peer(own).seen, [Seen::Text("last words".into())]);
            assert_eq!(pair.peer(own).end(), End::lost(Initiator::Peer));
            assert_eq!((pair.client.state(), pair.server.state()), (State::Ended, State::Ended));
            assert_eq!(pair.peer(own).send(OpCode::Text, true, b""), Err(SendError::NotOpen));
        }
    }
}

#[test]
fn a_reset_loses_what_is_under_way() {
    for (own, other) in ROLES {
        for mut pair in Pair::all() {
            pair.peer(other).send(OpCode::Text, true, b"never arrives").unwrap();
            pair.peer(own).close(1000, "neither does this");
            let middle = pair.now + LATENCY / 2;
            pair.run_until(middle);
            pair.reset(other);
            pair.run();
            assert_eq!((&pair.client.seen[..], &pair.server.seen[..]), (&[][..], &[][..]));
            assert_eq!(pair.peer(own).end(), End::lost(Initiator::Local), "we had begun to close");
            assert_eq!((pair.client.state(), pair.server.state()), (State::Ended, State::Ended));
        }
    }
}

#[test]
fn tcp_ending_before_the_answer_to_our_close_frame_is_not_clean() {
    for (own, other) in ROLES {
        for mut pair in Pair::all() {
            pair.peer(own).close(1000, "bye");
            pair.end_tcp(other);
            pair.run();
            assert_eq!(pair.peer(own).end(), End::lost(Initiator::Local));
            assert_eq!(pair.peer(own).state(), State::Ended);
        }
    }
}

#[test]
fn tcp_ending_after_both_close_frames_is_clean_however_it_ends() {
    for (own, other) in ROLES {
        let (mut own, mut other) = (Peer::new(own, &Config::default()), Peer::new(other, &Config::default()));
        own.close(1000, "bye");
        other.feed(&own.out);
        own.feed(&other.out);
        assert_eq!((own.state(), other.state()), (State::Closed, State::Closed));
        own.connection.tcp_ended();
        other.connection.tcp_ended();
        assert_eq!(own.end(), End::clean(Initiator::Local, 1000, ""));
        assert_eq!(other.end(), End::clean(Initiator::Peer, 1000, "bye"));
    }
}

#[test]
fn tcp_ending_after_a_failure_leaves_the_failure_as_it_is() {
    for (own, _) in ROLES {
        let mut peer = Peer::new(own, &Config::default());
        peer.feed(b"\x83");
        let failed = format!("{:?}", peer.connection.closing());
        peer.connection.tcp_ended();
        peer.connection.tcp_ended();
        assert_eq!(peer.state(), State::Ended);
        assert_eq!(format!("{:?}", peer.connection.closing()), failed);
    }
}

#[test]
fn closing_is_possible_inside_a_fragmented_message_of_either_side() {
    for (own, other) in ROLES {
        for mut pair in Pair::all() {
            pair.peer(own).send(OpCode::Text, false, b"never ").unwrap();
            pair.peer(other).send(OpCode::Binary, false, b"neither ").unwrap();
            pair.peer(own).close(1001, "enough");
            let rest = pair.peer(own).send(OpCode::Continuation, true, b"finished");
            assert_eq!(rest, Err(SendError::NotOpen));
            pair.run();
            let rest = pair.peer(other).send(OpCode::Continuation, true, b"finished");
            assert_eq!(rest, Err(SendError::NotOpen));
            assert_eq!(pair.peer(other).seen, [Seen::Close(Some(1001), "enough".into())]);
            assert_eq!(pair.peer(own).end(), End::clean(Initiator::Local, 1001, ""));
            assert_eq!(pair.peer(other).end(), End::clean(Initiator::Peer, 1001, "enough"));
        }
    }
}

/// A server that defers the client's end, and what has come: a message and a close frame, in one piece.
fn deferring() -> Peer {
    let mut server = Peer::new(Role::Server, &Config::default());
    server.connection.defer_end(true);
    let close = [&1000_u16.to_be_bytes()[..], b"bye"].concat();
    server.feed(&[frame(Role::Server, TEXT, b"hi"), frame(Role::Server, CLOSE, &close)].concat());
    assert_eq!(server.seen, [Seen::Text("hi".into())]);
    assert_eq!(server.state(), State::Open);
    assert!(server.connection.has_deferred_end() && server.connection.has_deferred_close());
    server
}

#[test]
fn a_deferred_close_is_answered_behind_the_answers_to_what_came_before() {
    let mut server = deferring();
    server.feed(&frame(Role::Server, TEXT, b"too late"));
    server.send(OpCode::Text, true, b"hi").unwrap();
    let Peer { connection, shared, out, .. } = &mut server;
    assert_eq!(connection.end_deferred(shared, out), Some(Ok(())));
    assert_eq!(connection.end_deferred(shared, out), None, "once");
    assert_eq!(
        frames(Role::Server, &server.out),
        [(TEXT, b"hi".to_vec()), (CLOSE, 1000_u16.to_be_bytes().to_vec())]
    );
    assert_eq!(server.state(), State::Closed);
    assert_eq!(server.end(), End::clean(Initiator::Peer, 1000, "bye"));
}

#[test]
fn a_close_of_ones_own_answers_a_deferred_one() {
    let mut server = deferring();
    server.close(1001, "");
    assert_eq!(frames(Role::Server, &server.out), [(CLOSE, 1001_u16.to_be_bytes().to_vec())]);
    assert_eq!(server.state(), State::Closed, "nothing more is to be waited for");
    assert_eq!(server.end(), End::clean(Initiator::Peer, 1000, "bye"));

    // And a broken rule that was deferred is not waited for either.
    let mut server = Peer::new(Role::Server, &Config::default());
    server.connection.defer_end(true);
    server.feed(&frame(Role::Client, TEXT, b"not masked"));
    assert!(server.connection.has_deferred_end() && !server.connection.has_deferred_close());
    server.close(1001, "");
    assert_eq!(server.state(), State::Failed);
}

#[test]
fn tcp_ending_behind_a_deferred_close_keeps_its_code_but_is_not_clean() {
    let mut server = deferring();
    server.connection.tcp_ended();
    let closing = server.connection.closing().expect("it has ended");
    assert_eq!((closing.code().get(), closing.reason(), closing.is_clean()), (1000, "bye", false));
}

#[test]
fn nothing_is_sent_once_the_connection_is_not_open() {
    type Ending = fn(&mut Peer, Role);
    let endings: [(State, Ending); 4] = [
        (State::Closing, |peer, _| peer.close(1000, "")),
        (State::Closed, |peer, role| peer.feed(&frame(role, CLOSE, b""))),
        (State::Failed, |peer, _| peer.feed(b"\x83")),
        (State::Ended, |peer, _| peer.connection.tcp_ended()),
    ];
    for (role, _) in ROLES {
        for (state, ending) in endings {
            let mut peer = Peer::new(role, &Config::default());
            ending(&mut peer, role);
            assert_eq!(peer.state(), state);
            peer.out.clear();
            let before = format!("{:?}", peer.connection.closing());
            for opcode in [OpCode::Text, OpCode::Binary, OpCode::Continuation, OpCode::Ping, OpCode::Pong] {
                assert_eq!(
                    peer.send(opcode, true, b"late"),
                    Err(SendError::NotOpen),
                    "{opcode} in {state:?}"
                );
            }
            let sent = peer.connection.send(Message::Text("late"), &mut peer.shared, &mut peer.out);
            assert_eq!(sent, Err(SendError::NotOpen));
            if role == Role::Server {
                let header = peer.connection.send_header(OpCode::Text, true, 4, Compress::Auto).map(|_| ());
                assert_eq!(header, Err(SendError::NotOpen));
            }
            peer.close(4000, "a second close changes nothing");
            assert_eq!(peer.state(), state);
            assert_eq!(peer.out, b"", "in {state:?}");
            assert_eq!(format!("{:?}", peer.connection.closing()), before);
        }
    }
}

#[test]
fn pings_to_a_peer_that_does_not_read_cost_little_and_the_last_is_answered_in_the_end() {
    for mut pair in Pair::all() {
        pair.down.blocked = true;
        for number in 0..1500_u32 {
            let payload = [&number.to_be_bytes()[..], &[b'.'; 121]].concat();
            pair.client.send(OpCode::Ping, true, &payload).unwrap();
        }
        pair.run();
        assert_eq!(pair.server.seen.len(), 1500, "the user sees every ping");
        let pong = 2 + 125;
        let waiting = pair.server.out.len();
        assert!((Connection::PONG_ROOM..=Connection::PONG_ROOM + pong).contains(&waiting), "{waiting} bytes");
        let answered = waiting / pong;

        pair.down.blocked = false;
        pair.run();
        let pongs: Vec<u32> = pair
            .client
            .seen
            .iter()
            .map(|seen| match seen {
                Seen::Pong(payload) => u32::from_be_bytes(payload[..4].try_into().unwrap()),
                other => panic!("expected a pong, not {other:?}"),
            })
            .collect();
        let expected: Vec<u32> = (0..answered as u32).chain([1499]).collect();
        assert_eq!(pongs, expected, "those that there was room for, and the last");

        pair.client.send(OpCode::Ping, true, b"now again").unwrap();
        pair.client.seen.clear();
        pair.run();
        assert_eq!(pair.client.seen, [Seen::Pong(b"now again".to_vec())], "once, and no late one after it");
    }
}

#[test]
fn a_late_pong_is_not_sent_after_a_close_frame() {
    let mut server = Peer::new(Role::Server, &Config::default());
    server.send(OpCode::Binary, true, &[0; Connection::PONG_ROOM]).unwrap();
    server.feed(&frame(Role::Server, PING, b"late"));
    server.close(1000, "");
    let written: Vec<u8> = frames(Role::Server, &server.out).iter().map(|(head, _)| *head).collect();
    assert_eq!(written, [BINARY, CLOSE]);
    server.out.clear();
    server.connection.drained(&mut server.shared, &mut server.out);
    assert_eq!(server.out, b"");
}

#[test]
fn a_late_pong_does_not_follow_the_pong_to_a_later_ping() {
    let mut server = Peer::new(Role::Server, &Config::default());
    server.send(OpCode::Binary, true, &[0; Connection::PONG_ROOM]).unwrap();
    server.feed(&frame(Role::Server, PING, b"first"));
    // A part of the output was written, and so there is room again.
    server.out.clear();
    server.feed(&frame(Role::Server, PING, b"second"));
    server.connection.drained(&mut server.shared, &mut server.out);
    assert_eq!(frames(Role::Server, &server.out), [(PONG, b"second".to_vec())]);
}

#[test]
fn the_reason_of_a_failure_while_closing_is_not_our_own_farewell() {
    let mut c = Connection::new(Role::Client, &Config::default());
    let (mut shared, mut out) = (Shared::new(), Vec::new());
    c.close(CloseFrame { code: Some(CloseCode::NORMAL), reason: "bye" }, &mut shared, &mut out).unwrap();
    let mut bytes = *b"\x83";
    let mut input = &mut bytes[..];
    while c.receive(&mut input, &mut shared, &mut out).is_some() {}
    let closing = c.closing().unwrap();
    assert_eq!((closing.code().get(), closing.reason()), (1002, ""), "1002 with the reason of our 1000");
}
