//! Tests of chunking: however the network cuts a stream of bytes, the events, the answers and the final state are the same.

use std::{ops::Range, sync::LazyLock};

use crate::common::chunks::{Chunks, Rng};
use crate::common::peer::{
    BINARY, BINARY_BEGINS, CLOSE, ENDS, GOES_ON, PING, PONG, Peer, Seen, TEXT, TEXT_BEGINS, frame, frames,
};
use crate::common::{LEVELS, ROLES, fixed_cases};
use proptest::prelude::*;
use threadwire_proto::{CloseCode, Config, Level, Limits, Message, OpCode, Role, state::State};

/// Streams up to this many bytes are split everywhere. Cuts of longer ones take time, and are chosen.
const SHORT: usize = 600;

fn config(level: Level) -> Config {
    // So low that a stream can go past them.
    let limits = Limits::default().max_frame(70_000).max_message(70_100).max_fragments(20);
    Config::default().level(level).limits(limits)
}

/// Text of exactly `length` bytes, with characters of one to four bytes.
fn text(length: usize) -> String {
    let mut text = "aé€😀".repeat(length / 10);
    text.push_str(&"z".repeat(length % 10));
    text
}

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 7 + index / 256) as u8).collect()
}

/// What comes out of a stream, apart from events.
#[derive(Debug, PartialEq)]
struct Outcome {
    seen: Vec<Seen>,
    out: Vec<u8>,
    state: State,
    closing: String,
    is_idle: bool,
}

impl Outcome {
    fn of(mut peer: Peer) -> Outcome {
        let state = peer.connection.state();
        Outcome {
            state,
            closing: format!("{:?}", peer.connection.closing()),
            // A reader that stopped at an error has no place between frames.
            is_idle: state != State::Failed && peer.connection.reader().is_idle(),
            seen: peer.seen,
            out: peer.out,
        }
    }
}

/// A stream as a list of frames; what follows a broken rule is there to be ignored.
struct Stream {
    name: String,
    wire: Vec<u8>,
    /// Where the headers of the frames lie.
    headers: Vec<Range<usize>>,
}

impl Stream {
    fn new(to: Role, name: impl Into<String>, frames: &[(u8, &[u8])]) -> Stream {
        let mut stream = Stream { name: name.into(), wire: Vec::new(), headers: Vec::new() };
        for (head, payload) in frames {
            let start = stream.wire.len();
            stream.wire.extend(frame(to, *head, payload));
            stream.headers.push(start..stream.wire.len() - payload.len());
        }
        stream
    }

    /// Where it is cut in two: everywhere, or in and around its headers and in a few other places.
    fn cuts(&self) -> Vec<usize> {
        let length = self.wire.len();
        if length <= SHORT {
            return (0..=length).collect();
        }
        let headers = self.headers.iter().flat_map(|header| header.start.saturating_sub(1)..header.end + 2);
        let chosen = [4096, length / 2, length - 4097, length - 1];
        headers.chain(chosen).filter(|cut| *cut <= length).collect()
    }
}

/// Every kind of frame, message and mistake.
fn make_streams(to: Role) -> Vec<Stream> {
    let mut streams = Vec::new();
    for length in [0, 1, 125, 126, 65_535, 65_536] {
        let (text, bytes) = (text(length), bytes(length));
        let end: (u8, &[u8]) = (TEXT, b"and the next");
        streams.push(Stream::new(to, format!("text of {length}"), &[(TEXT, text.as_bytes()), end]));
        streams.push(Stream::new(to, format!("binary of {length}"), &[(BINARY, &bytes), end]));
        if length != 65_535 {
            let (front, back) = bytes.split_at(length / 3);
            let fragments = [(BINARY_BEGINS, front), (PING, b"between"), (ENDS, back), end];
            streams.push(Stream::new(to, format!("fragmented binary of {length}"), &fragments));
        }
        if length <= 125 {
            streams.push(Stream::new(to, format!("ping of {length}"), &[(PING, &bytes), end]));
            streams.push(Stream::new(to, format!("pong of {length}"), &[(PONG, &bytes), end]));
        } else if length == 126 {
            for head in [PING, PONG, CLOSE] {
                let name = format!("{head:#x} of {length}");
                streams.push(Stream::new(to, name, &[end, (head, &bytes), end]));
            }
        }
    }

    // Each character is cut by a border between fragments.
    let words = "aé€😀".as_bytes();
    let cut = [
        (TEXT_BEGINS, &words[..2]),
        (GOES_ON, &words[2..4]),
        (PING, b"1"),
        (GOES_ON, b""),
        (GOES_ON, &words[4..7]),
        (PONG, b""),
        (PING, &[b'2'; 125]),
        (GOES_ON, &words[7..9]),
        (ENDS, &words[9..]),
        (BINARY, b"next"),
        (TEXT_BEGINS, b""),
        (ENDS, b""),
        (TEXT, b"end"),
    ];
    streams.push(Stream::new(to, "text cut inside its characters", &cut));
    streams.push(Stream::new(to, "an unfinished message", &cut[..6]));
    streams.push(Stream::new(
        to,
        "a close frame inside a message",
        &[cut[0], (CLOSE, b"\x03\xe9bye"), cut[1]],
    ));

    let good: (u8, &[u8]) = (TEXT, b"good");
    let ping: (u8, &[u8]) = (PING, b"good");
    let last: &[(&str, u8, &[u8])] = &[
        ("close", CLOSE, b""),
        ("close with a code", CLOSE, b"\x03\xe8"),
        ("close with code and reason", CLOSE, b"\x0f\xa0why \xe2\x82\xac"),
        ("close of one byte", CLOSE, b"\x03"),
        ("close with 1005", CLOSE, b"\x03\xed"),
        ("close with broken text", CLOSE, b"\x03\xe8\xff"),
        ("reserved bits", 0xa1, b"rsv2"),
        ("reserved bits of a ping", 0xd9, b"rsv1 and rsv3"),
        ("a reserved opcode", 0x83, b"data"),
        ("a reserved control opcode", 0x8b, b"control"),
        ("a fragmented ping", 0x09, b"fragment"),
        ("an orphan", ENDS, b"goes on"),
        ("an orphan fragment", GOES_ON, b"goes on"),
        ("broken text", TEXT, b"fine \xf4\x90\x80\x80 fine"),
        ("text that ends inside a character", TEXT, b"fine \xe2\x82"),
    ];
    for (name, head, payload) in last {
        streams.push(Stream::new(to, *name, &[good, ping, (*head, payload), good, ping]));
    }
    let begun = (TEXT_BEGINS, &b"begun \xc3"[..]);
    let inside: &[(&str, u8, &[u8])] = &[
        ("text inside a message", TEXT, b"new"),
        ("a binary fragment inside a message", BINARY_BEGINS, b"new"),
        ("text broken at a border", GOES_ON, b"\x20"),
        ("text broken by its end", ENDS, b""),
        ("reserved bits on a continuation", 0xc0, b"\xa9"),
    ];
    for (name, head, payload) in inside {
        streams.push(Stream::new(to, *name, &[good, begun, ping, (*head, payload), good, ping]));
    }
    let many = [&[(BINARY_BEGINS, &b"1"[..])][..], &[(GOES_ON, &b"+1"[..]); 20], &[good]].concat();
    streams.push(Stream::new(to, "too many fragments", &many));

    let mask = if to == Role::Server { 0x80 } else { 0 };
    let raw: [(&str, &[u8]); 7] = [
        ("one frame over the limit", &[BINARY, mask | 127, 0, 0, 0, 0, 0, 1, 0x11, 0xd5, 1, 2, 3, 4, 5]),
        ("a message over the limit", &[ENDS, mask | 127, 0, 0, 0, 0, 0, 1, 0x11, 0x70, 1, 2, 3, 4, 5]),
        ("a wrong mask bit", &[BINARY, (mask ^ 0x80) | 1, 1, 2, 3, 4, 5, 6]),
        ("16 bits for 125", &[BINARY, mask | 126, 0, 125, 1, 2, 3, 4, 5, 6]),
        ("64 bits for 65535", &[BINARY, mask | 127, 0, 0, 0, 0, 0, 0, 255, 255, 1, 2, 3, 4, 5]),
        ("the highest bit of 64", &[BINARY, mask | 127, 128, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4, 5]),
        ("a length beyond all limits", &[BINARY, mask | 127, 64, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5]),
    ];
    for (name, bytes) in raw {
        let begun = (BINARY_BEGINS, &[9; 101][..]);
        let before = if bytes[0] == ENDS { [good, begun] } else { [good, ping] };
        let mut stream = Stream::new(to, name, &before);
        stream.wire.extend(bytes);
        streams.push(stream);
    }
    streams
}

fn streams(to: Role) -> &'static [Stream] {
    static STREAMS: LazyLock<[Vec<Stream>; 2]> = LazyLock::new(|| ROLES.map(make_streams));
    &STREAMS[ROLES.iter().position(|role| *role == to).unwrap()]
}

/// Runs `test` on every stream, in both roles and at both levels, with the outcome of receiving it at once.
fn for_all(mut test: impl FnMut(&Stream, &dyn Fn() -> Peer, &dyn Fn(Peer, &str))) {
    for role in ROLES {
        for stream in streams(role) {
            for level in LEVELS {
                let new = || Peer::new(role, &config(level));
                let mut whole = new();
                whole.feed(&stream.wire);
                let whole = Outcome::of(whole);
                let check = |peer: Peer, how: &str| {
                    let outcome = Outcome::of(peer);
                    // The payloads may be long: better not to print them.
                    let is_same = outcome == whole;
                    let (few, many) = (outcome.seen.len(), whole.seen.len());
                    let name = &stream.name;
                    assert!(is_same, "{name} to a {role:?}, {level:?}, {how}: {few} events, {many} at once");
                };
                test(stream, &new, &check);
            }
        }
    }
}

#[test]
fn every_cut_in_two_gives_the_same() {
    for_all(|stream, new, check| {
        for cut in stream.cuts() {
            let mut peer = new();
            peer.feed(&stream.wire[..cut]);
            peer.feed(&stream.wire[cut..]);
            check(peer, &format!("cut at {cut}"));
        }
    });
}

#[test]
fn pieces_of_every_kind_give_the_same() {
    for_all(|stream, new, check| {
        let random = (3..7).map(|seed| Chunks::Random(Rng(seed)));
        for mut chunks in Chunks::all().into_iter().chain(random) {
            let mut peer = new();
            for piece in chunks.cut(&stream.wire) {
                peer.feed(piece);
            }
            check(peer, &format!("in pieces: {chunks:?}"));
        }
    });
}

/// Reads as a socket does in one vectored read: into the room for a long payload first, as far as there is one,
/// and what does not fit there into the common buffer. Returns whether there was room.
fn read(peer: &mut Peer, mut bytes: &[u8]) -> bool {
    let Some(room) = peer.connection.reader().room() else {
        peer.feed(bytes);
        return false;
    };
    let here = room.len().min(bytes.len());
    room[..here].copy_from_slice(&bytes[..here]);
    bytes = &bytes[here..];
    peer.connection.reader().commit(here);
    peer.feed(bytes);
    true
}

#[test]
fn reading_straight_into_long_payloads_gives_the_same() {
    let mut direct = 0;
    for_all(|stream, new, check| {
        for seed in 0..5 {
            let mut peer = new();
            for piece in Chunks::Random(Rng(seed)).cut(&stream.wire) {
                direct += u32::from(read(&mut peer, piece));
            }
            check(peer, &format!("read directly, seed {seed}"));
        }
        let mut peer = new();
        for piece in stream.wire.chunks(10_000) {
            direct += u32::from(read(&mut peer, piece));
        }
        check(peer, "read directly, 10,000 bytes at a time");
    });
    assert!(direct > 500, "there was room only {direct} times");
}

#[test]
fn room_is_for_long_payloads_of_data_only() {
    for role in ROLES {
        for (length, expected) in [(4096, false), (4097, true)] {
            let mut peer = Peer::new(role, &Config::default());
            let wire = frame(role, BINARY, &bytes(length));
            let header = wire.len() - length;
            peer.feed(&wire[..header + 1]);
            assert_eq!(peer.connection.reader().room().map(|room| room.len()), expected.then_some(4096));
        }
        let mut peer = Peer::new(role, &Config::default());
        assert!(peer.connection.reader().room().is_none());
        peer.feed(&frame(role, BINARY_BEGINS, &bytes(5000)));
        assert!(peer.connection.reader().room().is_none(), "between two fragments");
        let ping = frame(role, PING, &[1; 125]);
        peer.feed(&ping[..20]);
        assert!(peer.connection.reader().room().is_none(), "inside a ping");
    }
}

#[test]
fn streams_come_out_as_they_were_meant() {
    for to in ROLES {
        for stream in streams(to) {
            let mut peer = Peer::new(to, &config(Level::Messages));
            peer.feed(&stream.wire);
            assert!(!peer.seen.is_empty(), "nothing came of {}", stream.name);
            assert!(frames(to, &peer.out).len() <= 3, "{}", stream.name);
            if stream.name.ends_with("over the limit") {
                let closing = peer.connection.closing().map(|closing| closing.code());
                assert_eq!(closing, Some(CloseCode::TOO_BIG), "{}", stream.name);
            }
            if stream.name == "text cut inside its characters" {
                let expected = [
                    Seen::Ping(b"1".to_vec()),
                    Seen::Pong(vec![]),
                    Seen::Ping(vec![b'2'; 125]),
                    Seen::Text("aé€😀".into()),
                    Seen::Binary(b"next".to_vec()),
                    Seen::Text(String::new()),
                    Seen::Text("end".into()),
                ];
                assert_eq!(peer.seen, expected);
            }
        }
    }
}

/// A message as it will be sent: in pieces that begin after as many bytes as each number says, with pings between.
#[derive(Clone, Debug)]
struct Sent {
    message: Result<String, Vec<u8>>,
    fragments: Vec<(usize, Option<Vec<u8>>)>,
}

fn messages() -> impl Strategy<Value = Vec<Sent>> {
    let text = "(?s).{0,60}";
    let bytes = || proptest::collection::vec(any::<u8>(), 0..60);
    let long = (0..20_000_usize).prop_map(self::bytes);
    let message = prop_oneof![
        4 => text.prop_map(Ok),
        4 => bytes().prop_map(Err),
        1 => (0..20_000_usize).prop_map(|length| Ok(self::text(length))),
        1 => long.prop_map(Err),
    ];
    let fragment = (prop_oneof![0..8_usize, 0..10_000_usize], proptest::option::weighted(0.3, bytes()));
    let sent = (message, proptest::collection::vec(fragment, 0..6))
        .prop_map(|(message, fragments)| Sent { message, fragments });
    proptest::collection::vec(sent, 1..10)
}

/// Sends a message as its fragments say, and notes what the other side should see of it at each level.
fn send(peer: &mut Peer, sent: &Sent, expected: &mut [Vec<Seen>; 2]) {
    let Peer { connection, shared, out, .. } = peer;
    let message = match &sent.message {
        Ok(text) => Message::Text(text),
        Err(bytes) => Message::Binary(bytes),
    };
    let whole = match &sent.message {
        Ok(text) => Seen::Text(text.clone()),
        Err(bytes) => Seen::Binary(bytes.clone()),
    };
    let mut opcode = message.opcode();
    let mut rest = message.as_bytes();
    for (size, ping) in &sent.fragments {
        let (fragment, behind) = rest.split_at(rest.len().min(*size));
        rest = behind;
        connection.send_frame(opcode, false, fragment, shared, out).unwrap();
        expected[1].push(Seen::Fragment(opcode, false, fragment.to_vec()));
        opcode = OpCode::Continuation;
        if let Some(ping) = ping {
            connection.send_frame(OpCode::Ping, true, ping, shared, out).unwrap();
            expected.iter_mut().for_each(|seen| seen.push(Seen::Ping(ping.clone())));
        }
    }
    connection.send_frame(opcode, true, rest, shared, out).unwrap();
    expected[1].push(match opcode {
        OpCode::Continuation => Seen::Fragment(opcode, true, rest.to_vec()),
        _ => whole.clone(),
    });
    expected[0].push(whole);
}

proptest! {
    #![proptest_config(fixed_cases(64))]

    #[test]
    fn the_other_side_sees_exactly_what_was_sent(
        messages in messages(),
        from_client: bool,
        seed: u64,
        direct: bool,
    ) {
        let (from, to) = if from_client { (Role::Client, Role::Server) } else { (Role::Server, Role::Client) };
        let mut sender = Peer::new(from, &Config::default());
        let mut expected = [vec![], vec![]];
        for sent in &messages {
            send(&mut sender, sent, &mut expected);
        }
        for (level, expected) in LEVELS.into_iter().zip(expected) {
            let mut receiver = Peer::new(to, &Config::default().level(level));
            for piece in Chunks::Random(Rng(seed)).cut(&sender.out) {
                if direct {
                    read(&mut receiver, piece);
                } else {
                    receiver.feed(piece);
                }
            }
            let pongs: Vec<(u8, Vec<u8>)> = expected.iter().filter_map(|seen| match seen {
                Seen::Ping(payload) => Some((PONG, payload.clone())),
                _ => None,
            }).collect();
            prop_assert_eq!(frames(to, &receiver.out), pongs, "a pong for each ping, in order");
            prop_assert_eq!(&receiver.seen, &expected);
            prop_assert!(receiver.connection.reader().is_idle());
        }
    }
}
