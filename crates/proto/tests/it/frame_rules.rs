//! Tests of the rules of RFC 6455 for open connections, one by one, with the close code for a peer that breaks them; of our
//! own limits; and of mistakes that other implementations have made.

use std::collections::HashSet;

use crate::common::peer::{
    BINARY, BINARY_BEGINS, CLOSE, ENDS, GOES_ON, PING, PONG, Peer, Seen, TEXT, TEXT_BEGINS, frame, frames,
};
use crate::common::{LEVELS, ROLES};
use threadwire_proto::{
    CloseCode, CloseFrame, Compress, Config, Connection, Event, Level, Limits, Message, OpCode, Role,
    SendError, Shared, Violation, state::State, utf8::InvalidUtf8,
};

const NOT_UTF8: Violation = Violation::InvalidUtf8(InvalidUtf8);

fn peer(role: Role) -> Peer {
    Peer::new(role, &Config::default())
}

fn limited(role: Role, limits: Limits) -> Peer {
    Peer::new(role, &Config::default().limits(limits))
}

/// Frames for `to`, one after the other.
fn wire(to: Role, frames: &[(u8, &[u8])]) -> Vec<u8> {
    frames.iter().flat_map(|(head, payload)| frame(to, *head, payload)).collect()
}

/// Whatever a peer has to refuse, it refuses like this: one event, one close frame, the end.
#[track_caller]
fn assert_failed(role: Role, peer: &mut Peer, violation: Violation) {
    assert_eq!(peer.seen.last(), Some(&Seen::Failed(violation)), "to a {role:?}");
    let written = frames(role, &peer.out);
    let (head, payload) = written.last().expect("a close frame");
    let code = violation.code().get();
    assert_eq!((*head, &payload[..2]), (CLOSE, &code.to_be_bytes()[..]));
    assert!(payload.len() > 2, "the reason says what was wrong");
    assert!(std::str::from_utf8(&payload[2..]).is_ok());
    assert_eq!(written.iter().filter(|(head, _)| *head == CLOSE).count(), 1);
    assert_eq!(peer.connection.state(), State::Failed);
    assert!(peer.connection.should_end_tcp());
    let closing = peer.connection.closing().unwrap();
    assert_eq!((closing.code().get(), closing.violation, closing.is_clean()), (code, Some(violation), false));
    assert_eq!(closing.reason().as_bytes(), &payload[2..]);

    // Nothing counts after it.
    let (seen, out) = (peer.seen.clone(), peer.out.clone());
    peer.feed(&wire(role, &[(PING, b"hello?"), (TEXT, b"hello?"), (CLOSE, b"")]));
    assert_eq!((&peer.seen, &peer.out), (&seen, &out));
}

/// What was sent to a peer of `role` is refused, at both levels, with `code`.
#[track_caller]
fn refuses(role: Role, bytes: &[u8], violation: Violation, code: u16) {
    assert_eq!(violation.code().get(), code, "{violation}");
    for level in LEVELS {
        let mut peer = Peer::new(role, &Config::default().level(level));
        peer.feed(bytes);
        assert_failed(role, &mut peer, violation);
    }
}

/// These frames are refused by both roles.
#[track_caller]
fn both_refuse(frames: &[(u8, &[u8])], violation: Violation, code: u16) {
    for role in ROLES {
        refuses(role, &wire(role, frames), violation, code);
    }
}

/// What a peer of `role` sees of these frames.
#[track_caller]
fn seen(role: Role, frames: &[(u8, &[u8])]) -> Vec<Seen> {
    let mut peer = peer(role);
    peer.feed(&wire(role, frames));
    peer.seen
}

// Section 5.1: overview.

#[test]
fn a_server_refuses_frames_without_a_mask() {
    for head in [TEXT, BINARY, PING, PONG, CLOSE] {
        refuses(Role::Server, &frame(Role::Client, head, b"\x03\xe8"), Violation::Unmasked, 1002);
        refuses(Role::Server, &frame(Role::Client, head, b""), Violation::Unmasked, 1002);
    }
}

#[test]
fn a_client_refuses_frames_with_a_mask() {
    for head in [TEXT, BINARY, PING, PONG, CLOSE] {
        refuses(Role::Client, &frame(Role::Server, head, b"\x03\xe8"), Violation::Masked, 1002);
        refuses(Role::Client, &frame(Role::Server, head, b""), Violation::Masked, 1002);
    }
}

// Section 5.2: the frame.

#[test]
fn reserved_bits_are_refused_on_every_kind_of_frame() {
    for rsv in 1..8 {
        for head in [TEXT, BINARY, PING, PONG, CLOSE, TEXT_BEGINS] {
            both_refuse(&[(head | rsv << 4, b"\x03\xe8")], Violation::ReservedBits(rsv), 1002);
        }
        for head in [GOES_ON, ENDS] {
            let frames: [(u8, &[u8]); 2] = [(BINARY_BEGINS, b"plain"), (head | rsv << 4, b"not plain")];
            both_refuse(&frames, Violation::ReservedBits(rsv), 1002);
        }
    }
}

#[test]
fn reserved_opcodes_are_refused_at_their_first_byte() {
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        for fin in [0, 0x80] {
            for role in ROLES {
                refuses(role, &[fin | opcode], Violation::ReservedOpCode(opcode), 1002);
            }
        }
    }
}

#[test]
fn lengths_that_a_shorter_form_would_hold_are_refused() {
    for (role, mask) in [(Role::Client, 0), (Role::Server, 0x80)] {
        for length in [0, 1, 125] {
            let bytes = [BINARY, mask | 126, 0, length];
            refuses(role, &bytes, Violation::LengthNotMinimal(length.into()), 1002);
        }
        for length in [0, 125, 126, 65_535_u64] {
            let bytes = [&[BINARY, mask | 127][..], &length.to_be_bytes()].concat();
            refuses(role, &bytes, Violation::LengthNotMinimal(length), 1002);
        }
    }
}

#[test]
fn a_length_with_its_highest_bit_set_is_refused() {
    for (role, mask) in [(Role::Client, 0), (Role::Server, 0x80)] {
        for length in [1 << 63, u64::MAX] {
            let bytes = [&[BINARY, mask | 127][..], &length.to_be_bytes()].concat();
            refuses(role, &bytes, Violation::LengthTooLarge, 1002);
        }
    }
}

// Section 5.3: masks.

#[test]
fn a_client_masks_every_frame_with_another_key_and_a_server_masks_nothing() {
    let payload = b"plain as day, for everyone to read";
    let mut client = Connection::new(Role::Client, &Config::default());
    // Keys as users get them, which are not known beforehand.
    let (mut shared, mut out, mut keys) = (Shared::new(), Vec::new(), HashSet::new());
    for index in 0..50 {
        let opcode = [OpCode::Text, OpCode::Binary, OpCode::Ping, OpCode::Pong][index % 4];
        out.clear();
        client.send_frame(opcode, true, payload, &mut shared, &mut out).unwrap();
        assert_eq!(frames(Role::Client, &out), [(0x80 | opcode as u8, payload.to_vec())]);
        keys.insert(out[2..6].to_vec());
        assert!(!out.windows(8).any(|bytes| payload.windows(8).any(|plain| plain == bytes)));
    }
    out.clear();
    client.close(CloseFrame { code: Some(CloseCode::NORMAL), reason: "" }, &mut shared, &mut out).unwrap();
    keys.insert(out[2..6].to_vec());
    assert_eq!(keys.len(), 51, "a key was used twice");

    let mut server = peer(Role::Server);
    server.connection.send(Message::Binary(payload), &mut server.shared, &mut server.out).unwrap();
    assert_eq!(server.out, [&[BINARY, payload.len() as u8][..], payload].concat());
}

#[test]
fn pongs_and_close_frames_of_a_client_are_masked_too() {
    let mut client = peer(Role::Client);
    client.feed(&wire(Role::Client, &[(PING, b"one"), (PING, b"two"), (CLOSE, b"\x03\xe8")]));
    let expected = [(PONG, b"one".to_vec()), (PONG, b"two".to_vec()), (CLOSE, b"\x03\xe8".to_vec())];
    assert_eq!(frames(Role::Client, &client.out), expected);
    assert_ne!(client.out[2..6], client.out[2 + 4 + 3 + 2..][..4], "a key of its own for each");
}

// Section 5.4: fragments.

#[test]
fn a_continuation_of_nothing_is_refused() {
    for head in [GOES_ON, ENDS] {
        both_refuse(&[(head, b"")], Violation::NothingToContinue, 1002);
        both_refuse(&[(TEXT, b"whole"), (head, b"more")], Violation::NothingToContinue, 1002);
        let frames: [(u8, &[u8]); 3] = [(TEXT_BEGINS, b"be"), (ENDS, b"gun"), (head, b"more")];
        both_refuse(&frames, Violation::NothingToContinue, 1002);
    }
}

#[test]
fn a_message_inside_another_is_refused() {
    for (head, opcode) in [
        (TEXT, OpCode::Text),
        (BINARY, OpCode::Binary),
        (TEXT_BEGINS, OpCode::Text),
        (BINARY_BEGINS, OpCode::Binary),
    ] {
        for begins in [TEXT_BEGINS, BINARY_BEGINS] {
            let violation = Violation::MessageUnfinished(opcode);
            both_refuse(&[(begins, b"be"), (head, b"new")], violation, 1002);
            both_refuse(&[(begins, b"be"), (GOES_ON, b"gun"), (PING, b""), (head, b"")], violation, 1002);
        }
    }
}

#[test]
fn empty_fragments_are_fine_anywhere() {
    for role in ROLES {
        let text = [(TEXT_BEGINS, &b""[..]), (GOES_ON, b""), (GOES_ON, b"x"), (GOES_ON, b""), (ENDS, b"")];
        assert_eq!(seen(role, &text), [Seen::Text("x".into())]);
        let nothing = [(BINARY_BEGINS, &b""[..]), (GOES_ON, b""), (ENDS, b"")];
        assert_eq!(seen(role, &nothing), [Seen::Binary(vec![])]);
        let cut = [
            (TEXT_BEGINS, &b"\xe2"[..]),
            (GOES_ON, b""),
            (GOES_ON, b"\x82"),
            (GOES_ON, b""),
            (ENDS, b"\xac"),
        ];
        assert_eq!(seen(role, &cut), [Seen::Text("€".into())]);
    }
}

#[test]
fn control_frames_between_fragments_are_seen_and_answered_at_once() {
    for role in ROLES {
        let mut peer = peer(role);
        peer.feed(&wire(role, &[(TEXT_BEGINS, b"mes"), (PING, b"now"), (PONG, b"")]));
        assert_eq!(peer.seen, [Seen::Ping(b"now".to_vec()), Seen::Pong(vec![])]);
        assert_eq!(frames(role, &peer.out), [(PONG, b"now".to_vec())]);
        peer.feed(&wire(role, &[(ENDS, b"sage")]));
        assert_eq!(peer.seen[2..], [Seen::Text("message".into())]);
    }
}

#[test]
fn frames_come_as_they_are_at_their_level() {
    for role in ROLES {
        let mut peer = Peer::new(role, &Config::default().level(Level::Frames));
        let frames =
            [(TEXT_BEGINS, &b"\xe2"[..]), (PING, b""), (GOES_ON, b"\x82"), (ENDS, b"\xac"), (TEXT, b"x")];
        peer.feed(&wire(role, &frames));
        let expected = [
            Seen::Fragment(OpCode::Text, false, vec![0xe2]),
            Seen::Ping(vec![]),
            Seen::Fragment(OpCode::Continuation, false, vec![0x82]),
            Seen::Fragment(OpCode::Continuation, true, vec![0xac]),
            Seen::Text("x".into()),
        ];
        assert_eq!(peer.seen, expected);
    }
}

// Section 5.5: control frames.

#[test]
fn fragmented_control_frames_are_refused_at_their_first_byte() {
    for opcode in [OpCode::Close, OpCode::Ping, OpCode::Pong] {
        for role in ROLES {
            refuses(role, &[opcode as u8], Violation::FragmentedControl(opcode), 1002);
        }
    }
}

#[test]
fn control_frames_over_125_bytes_are_refused_at_their_second_byte() {
    for opcode in [OpCode::Close, OpCode::Ping, OpCode::Pong] {
        let head = 0x80 | opcode as u8;
        for (role, mask) in [(Role::Client, 0), (Role::Server, 0x80)] {
            for length in [126, 127] {
                refuses(role, &[head, mask | length], Violation::ControlTooLong(opcode), 1002);
            }
            refuses(role, &frame(role, head, &[b'x'; 126]), Violation::ControlTooLong(opcode), 1002);
        }
    }
}

#[test]
fn control_frames_of_125_bytes_are_fine() {
    for role in ROLES {
        let reason = "r".repeat(123);
        let close = [&1000_u16.to_be_bytes()[..], reason.as_bytes()].concat();
        let frames = [(PING, &[1; 125][..]), (PONG, &[2; 125]), (CLOSE, &close)];
        let expected = [Seen::Ping(vec![1; 125]), Seen::Pong(vec![2; 125]), Seen::Close(Some(1000), reason)];
        assert_eq!(seen(role, &frames), expected);
    }
}

#[test]
fn a_ping_is_answered_with_its_own_payload_and_a_pong_with_nothing() {
    for role in ROLES {
        let mut one = peer(role);
        one.feed(&wire(role, &[(PING, b""), (PONG, b"unasked"), (PING, &[0xff; 125])]));
        assert_eq!(frames(role, &one.out), [(PONG, vec![]), (PONG, vec![0xff; 125])]);
        assert_eq!(one.seen.len(), 3);

        let mut silent = Peer::new(role, &Config::default().auto_pong(false));
        silent.feed(&wire(role, &[(PING, b"left to the user")]));
        assert_eq!(silent.seen, [Seen::Ping(b"left to the user".to_vec())]);
        assert_eq!(silent.out, b"");
    }
}

// Sections 5.5.1 and 7.4: close frames and their codes.

#[test]
fn a_close_frame_of_one_byte_is_refused() {
    both_refuse(&[(CLOSE, b"\x03")], Violation::CloseCodeCut, 1002);
}

#[test]
fn close_codes_that_must_not_be_sent_are_refused() {
    let never = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535_u16];
    for code in never {
        both_refuse(&[(CLOSE, &code.to_be_bytes())], Violation::CloseCodeInvalid(code), 1002);
        let with_reason = [&code.to_be_bytes()[..], b"why"].concat();
        both_refuse(&[(CLOSE, &with_reason)], Violation::CloseCodeInvalid(code), 1002);
    }
}

#[test]
fn close_codes_that_may_be_sent_are_seen_and_answered_with_the_same_code() {
    let fine = (1000..=1003).chain(1007..=1014).chain([3000, 3999, 4000, 4999]);
    for code in fine {
        for role in ROLES {
            let mut peer = peer(role);
            let payload = [&u16::to_be_bytes(code)[..], "tschüß".as_bytes()].concat();
            peer.feed(&frame(role, CLOSE, &payload));
            assert_eq!(peer.seen, [Seen::Close(Some(code), "tschüß".into())]);
            let answer = frames(role, &peer.out);
            assert_eq!(answer.len(), 1);
            assert_eq!((answer[0].0, &answer[0].1[..2]), (CLOSE, &payload[..2]));
            let closing = peer.connection.closing().unwrap();
            assert_eq!((closing.code().get(), closing.reason(), closing.is_clean()), (code, "tschüß", true));
        }
    }
}

#[test]
fn a_close_frame_without_a_code_is_answered_without_one() {
    for role in ROLES {
        let mut peer = peer(role);
        peer.feed(&frame(role, CLOSE, b""));
        assert_eq!(peer.seen, [Seen::Close(None, String::new())]);
        assert_eq!(frames(role, &peer.out), [(CLOSE, vec![])]);
        assert_eq!(peer.connection.closing().unwrap().code(), CloseCode::NO_STATUS);
    }
}

#[test]
fn a_close_reason_that_is_not_utf8_is_refused() {
    for reason in [&b"\xff"[..], b"cut \xe2\x82", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80"] {
        let payload = [b"\x03\xe8", reason].concat();
        both_refuse(&[(CLOSE, &payload)], Violation::CloseReasonNotUtf8, 1007);
    }
}

#[test]
fn what_follows_a_close_frame_is_dropped() {
    for role in ROLES {
        let close = (CLOSE, &b"\x03\xe8first"[..]);
        let behind = wire(role, &[(TEXT, b"late"), (PING, b"late"), (CLOSE, b"\x0f\xa0second")]);
        let garbage = b"\xff\xff\xff\xff".to_vec();
        for late in [behind, garbage] {
            let mut peer = peer(role);
            peer.feed(&[wire(role, &[close]), late.clone()].concat());
            peer.feed(&late);
            assert_eq!(peer.seen, [Seen::Close(Some(1000), "first".into())]);
            assert_eq!(frames(role, &peer.out), [(CLOSE, b"\x03\xe8".to_vec())], "one answer");
            assert_eq!(peer.connection.state(), State::Closed);
            assert_eq!(peer.connection.closing().unwrap().reason(), "first");
        }
    }
}

// Section 8.1: UTF-8.

/// Texts that are not UTF-8, and the number of bytes after which that is certain.
const BROKEN: [(&[u8], usize); 14] = [
    (b"\x80", 1),
    (b"\xbf", 1),
    (b"\xc0\xaf", 1),
    (b"\xc1\x81", 1),
    (b"\xc3\x28", 2),
    (b"\xe0\x9f\xbf", 2),
    (b"\xe2\x82\x28", 3),
    (b"\xed\xa0\x80", 2),
    (b"\xf0\x8f\xbf\xbf", 2),
    (b"\xf0\x9f\x98\x41", 4),
    (b"\xf4\x90\x80\x80", 2),
    (b"\xf5\x80\x80\x80", 1),
    (b"\xfe", 1),
    (b"\xff", 1),
];

#[test]
fn text_that_is_not_utf8_is_refused() {
    for (broken, _) in BROKEN {
        let text = ["κόσμε ".as_bytes(), broken, b" and on"].concat();
        both_refuse(&[(TEXT, &text)], NOT_UTF8, 1007);
        both_refuse(&[(TEXT_BEGINS, b"whole "), (ENDS, &text)], NOT_UTF8, 1007);
        both_refuse(&[(TEXT_BEGINS, &text)], NOT_UTF8, 1007);
        for role in ROLES {
            assert_eq!(seen(role, &[(BINARY, &text)]), [Seen::Binary(text.clone())], "bytes are not text");
        }
    }
}

#[test]
fn text_fails_at_the_byte_that_breaks_it_though_the_rest_of_its_frame_is_still_to_come() {
    // Also behind more text than is looked at byte by byte.
    for before in ["κόσμε", &"a".repeat(200), &"κόσμε".repeat(50)] {
        for (broken, certain) in BROKEN {
            for role in ROLES {
                for level in LEVELS {
                    let text = [before.as_bytes(), broken, b"rest of the frame"].concat();
                    let bytes = frame(role, TEXT, &text);
                    let start = bytes.len() - text.len() + before.len();
                    let mut peer = Peer::new(role, &Config::default().level(level));
                    peer.feed(&bytes[..start]);
                    for at in start..start + certain {
                        assert_eq!(peer.seen, [], "{broken:x?} failed before byte {certain}");
                        peer.feed(&bytes[at..at + 1]);
                    }
                    assert_failed(role, &mut peer, NOT_UTF8);

                    let mut peer = Peer::new(role, &Config::default().level(level));
                    peer.feed(&bytes[..start + certain]);
                    assert_failed(role, &mut peer, NOT_UTF8);
                }
            }
        }
    }
}

#[test]
fn text_fails_at_the_byte_that_breaks_it_when_each_byte_is_a_fragment() {
    for (broken, certain) in BROKEN {
        for role in ROLES {
            let mut peer = peer(role);
            peer.feed(&frame(role, TEXT_BEGINS, "κόσμε".as_bytes()));
            for (count, byte) in (1..=certain).zip(broken) {
                peer.feed(&frame(role, GOES_ON, &[*byte]));
                if count < certain {
                    assert_eq!(peer.seen, []);
                    // Nothing that comes between is taken for text.
                    peer.feed(&frame(role, PONG, b"\xff\xff"));
                    peer.seen.clear();
                }
            }
            assert_failed(role, &mut peer, NOT_UTF8);
        }
    }
}

#[test]
fn text_that_ends_inside_a_character_is_refused_at_its_end() {
    for cut in [&b"\xc3"[..], b"\xe2", b"\xe2\x82", b"\xf0", b"\xf0\x9f", b"\xf0\x9f\x98"] {
        let text = [b"fine ", cut].concat();
        both_refuse(&[(TEXT, &text)], NOT_UTF8, 1007);
        both_refuse(&[(TEXT_BEGINS, b"fine "), (ENDS, cut)], NOT_UTF8, 1007);
        both_refuse(&[(TEXT_BEGINS, &text), (GOES_ON, b""), (ENDS, b"")], NOT_UTF8, 1007);
        for role in ROLES {
            assert_eq!(seen(role, &[(TEXT_BEGINS, &text), (GOES_ON, b"")]), [], "more may come");
        }
    }
}

#[test]
fn a_text_begins_anew_after_one_that_ended() {
    for role in ROLES {
        let frames = [
            (BINARY, &b"\xc3"[..]),
            (TEXT, b"\xc3\xa9"),
            (BINARY_BEGINS, b"\xe2"),
            (ENDS, b""),
            (TEXT, b"x"),
        ];
        assert_eq!(seen(role, &frames).len(), 4);
    }
    both_refuse(&[(BINARY, b"\xc3"), (TEXT, b"\xa9")], NOT_UTF8, 1007);
}

#[test]
fn text_in_many_small_fragments_is_checked_once() {
    let text = "aé€😀zz".repeat((4 << 20) / 12);
    for role in ROLES {
        let mut peer = peer(role);
        for (index, fragment) in text.as_bytes().chunks(64).enumerate() {
            peer.feed(&frame(role, if index == 0 { TEXT_BEGINS } else { GOES_ON }, fragment));
        }
        peer.feed(&frame(role, ENDS, b""));
        assert!(peer.seen == [Seen::Text(text.clone())]);
    }
}

// Section 10.4: limits.

#[test]
fn a_frame_over_the_limit_is_refused_by_its_header() {
    let limits = Limits::default().max_frame(1000);
    for role in ROLES {
        for head in [TEXT, BINARY, TEXT_BEGINS] {
            let mut whole = limited(role, limits);
            whole.feed(&frame(role, head, &[b'x'; 2000]));
            assert_eq!(whole.connection.state(), State::Open, "of messages, the length of the whole counts");

            let frames = Config::default().level(Level::Frames).limits(limits);
            let mut fits = Peer::new(role, &frames);
            fits.feed(&frame(role, head, &[b'x'; 1000]));
            assert_eq!(fits.connection.state(), State::Open);

            let mut long = Peer::new(role, &frames);
            let bytes = frame(role, head, &[b'x'; 1001]);
            long.feed(&bytes[..bytes.len() - 1001]);
            let violation = Violation::FrameTooLong { length: 1001, limit: 1000 };
            assert_eq!(violation.code(), CloseCode::TOO_BIG);
            assert_failed(role, &mut long, violation);
        }
    }
}

#[test]
fn a_message_over_the_limit_is_refused_by_the_header_that_goes_past_it() {
    let limits = Limits::default().max_message(1000);
    for role in ROLES {
        let mut fits = limited(role, limits);
        fits.feed(&wire(role, &[(BINARY_BEGINS, &[1; 600]), (PING, &[2; 125]), (ENDS, &[1; 400])]));
        fits.feed(&wire(role, &[(BINARY_BEGINS, &[1; 600]), (ENDS, &[1; 400]), (BINARY, &[1; 1000])]));
        assert_eq!(fits.seen.len(), 4, "each message counts anew, and control frames do not");

        let mut long = limited(role, limits);
        long.feed(&frame(role, BINARY_BEGINS, &[1; 600]));
        let bytes = frame(role, GOES_ON, &[1; 401]);
        long.feed(&bytes[..bytes.len() - 401]);
        let violation = Violation::MessageTooLong { length: 1001, limit: 1000 };
        assert_eq!(violation.code(), CloseCode::TOO_BIG);
        assert_failed(role, &mut long, violation);

        let mut single = limited(role, limits);
        single.feed(&frame(role, TEXT, &[b'x'; 1001]));
        assert_failed(role, &mut single, violation);
    }
}

#[test]
fn a_message_of_too_many_fragments_is_refused() {
    let limits = Limits::default().max_fragments(3);
    for role in ROLES {
        let mut peer = limited(role, limits);
        for _ in 0..2 {
            peer.feed(&wire(role, &[(TEXT_BEGINS, b""), (GOES_ON, b""), (PING, b""), (ENDS, b"")]));
        }
        assert_eq!(peer.seen.len(), 4);
        peer.feed(&wire(role, &[(TEXT_BEGINS, b""), (GOES_ON, b""), (GOES_ON, b"")]));
        assert_eq!(peer.connection.state(), State::Open);
        peer.feed(&wire(role, &[(ENDS, b"")]));
        let violation = Violation::TooManyFragments { limit: 3 };
        assert_eq!(violation.code(), CloseCode::TOO_BIG);
        assert_failed(role, &mut peer, violation);
    }
}

#[test]
fn only_the_limit_on_frames_counts_where_nothing_is_assembled() {
    let limits = Limits::default().max_frame(10).max_message(10).max_fragments(2);
    for role in ROLES {
        let mut peer = Peer::new(role, &Config::default().level(Level::Frames).limits(limits));
        let many =
            [(BINARY_BEGINS, &[1; 10][..]), (GOES_ON, &[1; 10]), (GOES_ON, &[1; 10]), (ENDS, &[1; 10])];
        peer.feed(&wire(role, &many));
        assert_eq!(peer.seen.len(), 4);
        peer.feed(&frame(role, BINARY, &[1; 11]));
        assert_failed(role, &mut peer, Violation::FrameTooLong { length: 11, limit: 10 });
    }
}

#[test]
fn a_huge_claim_is_refused_at_once() {
    for (role, mask) in [(Role::Client, 0), (Role::Server, 0x80)] {
        for length in [(16 << 20) + 1, 1 << 32, 1 << 62, (1 << 63) - 1_u64] {
            let bytes = [&[BINARY, mask | 127][..], &length.to_be_bytes(), &[0; 4]].concat();
            let limit = 16 << 20;
            for (level, violation) in [
                (Level::Messages, Violation::MessageTooLong { length, limit }),
                (Level::Frames, Violation::FrameTooLong { length, limit }),
            ] {
                let mut peer = Peer::new(role, &Config::default().level(level));
                peer.feed(&bytes);
                assert_failed(role, &mut peer, violation);
            }
        }
    }
}

#[test]
fn a_claim_that_is_allowed_is_believed_as_far_as_it_has_come_true() {
    const CLAIM: u64 = 16 << 20;
    for (role, mask) in [(Role::Client, 0), (Role::Server, 0x80)] {
        let mut peer = peer(role);
        let header = [&[BINARY, mask | 127][..], &CLAIM.to_be_bytes()].concat();
        peer.feed(&header);
        if role == Role::Server {
            peer.feed(&[0; 4]);
        }
        let mut arrived = 0;
        while arrived < 1 << 20 {
            let room = peer.connection.reader().room().expect("a long payload").len();
            assert!(room <= arrived.max(64 << 10), "{room} bytes of room after {arrived}");
            peer.connection.reader().commit(room);
            peer.feed(b"");
            arrived += room;
        }
        assert_eq!((peer.seen.len(), peer.connection.state()), (0, State::Open));
    }
}

#[test]
fn limits_as_large_as_can_be_said_do_no_harm() {
    let limits = Limits::default().max_frame(usize::MAX).max_message(usize::MAX).max_fragments(u32::MAX);
    for (role, mask) in [(Role::Client, 0), (Role::Server, 0x80)] {
        for level in LEVELS {
            let mut peer = Peer::new(role, &Config::default().level(level).limits(limits));
            let header = [&[BINARY_BEGINS, mask | 127][..], &((1_u64 << 63) - 1).to_be_bytes()].concat();
            peer.feed(&header);
            peer.feed(&[7; 100]);
            assert!(peer.connection.reader().room().unwrap().len() <= 64 << 10);
            assert_eq!(peer.connection.state(), State::Open);
        }
    }
}

// Order: what is good comes first.

#[test]
fn good_frames_before_a_bad_one_are_delivered_and_answered_before_the_close_frame() {
    for role in ROLES {
        let mut peer = peer(role);
        let mut bytes = wire(role, &[(TEXT, b"good"), (PING, b"too"), (BINARY, b"and good"), (0x83, b"bad")]);
        bytes.extend(frame(role, TEXT, b"lost"));
        let mut input = &mut bytes[..];
        // A user that answers each message as it comes.
        let Peer { connection, shared, out, .. } = &mut peer;
        let mut failed = None;
        while let Some(event) = connection.receive(&mut input, shared, out) {
            match event {
                Event::Frame(frame) => {
                    if let Some(message) = frame.message() {
                        connection.send(message, shared, out).expect("still open");
                    }
                }
                other => failed = Some(format!("{other:?}")),
            }
        }
        assert_eq!(failed.as_deref(), Some("Failed(ReservedOpCode(3))"));
        let written = frames(role, out);
        let expected = [(TEXT, b"good".to_vec()), (PONG, b"too".to_vec()), (BINARY, b"and good".to_vec())];
        assert_eq!(written[..3], expected);
        assert_eq!((written.len(), written[3].0), (4, CLOSE));
    }
}

#[test]
fn the_last_whole_frame_of_an_input_is_known() {
    for role in ROLES {
        let mut peer = peer(role);
        let mut bytes = wire(role, &[(TEXT, b"1"), (PING, b"2"), (TEXT, b"3"), (TEXT, b"cut")]);
        let length = bytes.len();
        let mut input = &mut bytes[..length - 1];
        let mut last = Vec::new();
        while let Some(event) = peer.connection.receive(&mut input, &mut peer.shared, &mut peer.out) {
            if let Event::Frame(frame) = event {
                last.push(frame.is_last_in_input());
            }
        }
        assert_eq!(last, [false, false, true]);
    }
}

// The same rules for what we send.

#[test]
fn refuses_to_send_what_a_peer_would_refuse() {
    for role in ROLES {
        let mut peer = peer(role);
        let Peer { connection, shared, out, .. } = &mut peer;
        let mut send =
            |opcode, fin, length| connection.send_frame(opcode, fin, &vec![0; length], shared, out);
        assert_eq!(send(OpCode::Close, true, 2), Err(SendError::CloseByFrame));
        for opcode in [OpCode::Ping, OpCode::Pong] {
            assert_eq!(send(opcode, false, 0), Err(SendError::FragmentedControl(opcode)));
            assert_eq!(send(opcode, true, 126), Err(SendError::ControlTooLong { opcode, length: 126 }));
        }
        assert_eq!(send(OpCode::Continuation, true, 1), Err(SendError::NothingToContinue));
        assert_eq!(send(OpCode::Continuation, false, 1), Err(SendError::NothingToContinue));
        assert_eq!(send(OpCode::Binary, false, 1), Ok(()));
        assert_eq!(send(OpCode::Binary, true, 1), Err(SendError::MessageUnfinished));
        assert_eq!(send(OpCode::Text, false, 1), Err(SendError::MessageUnfinished));
        assert_eq!(send(OpCode::Pong, true, 125), Ok(()));
        assert_eq!(send(OpCode::Continuation, true, 0), Ok(()));
        assert_eq!(send(OpCode::Continuation, true, 0), Err(SendError::NothingToContinue));
        for code in [0, 999, 1004, 1005, 1006, 1015, 2999, 5000] {
            let close = CloseFrame { code: Some(CloseCode::new(code)), reason: "" };
            assert_eq!(connection.close(close, shared, out), Err(SendError::CloseCodeInvalid(code)));
        }
        let bare = CloseFrame { code: None, reason: "why" };
        assert_eq!(connection.close(bare, shared, out), Err(SendError::ReasonWithoutCode));
        assert_eq!(connection.state(), State::Open);
        let heads: Vec<u8> = frames(role, out).iter().map(|(head, _)| *head).collect();
        assert_eq!(heads, [BINARY_BEGINS, PONG, ENDS], "nothing of what was refused was written");
        out.clear();
        let long = CloseFrame { code: Some(CloseCode::NORMAL), reason: &"é".repeat(62) };
        assert_eq!(connection.close(long, shared, out), Ok(()));
        let cut = [&1000_u16.to_be_bytes()[..], "é".repeat(61).as_bytes()].concat();
        assert_eq!(frames(role, out), [(CLOSE, cut)], "of a reason that is too long leaves as much as fits");
    }
}

#[test]
fn a_header_for_a_payload_that_is_written_apart_follows_the_same_rules() {
    let mut server = peer(Role::Server);
    let mut header = |opcode, fin, length| server.connection.send_header(opcode, fin, length, Compress::Auto);
    let bytes = header(OpCode::Text, false, 70_000).unwrap().expect("a server's frame is not masked");
    assert_eq!(*bytes, [TEXT_BEGINS, 127, 0, 0, 0, 0, 0, 1, 0x11, 0x70]);
    assert_eq!(header(OpCode::Text, true, 1).map(|_| ()), Err(SendError::MessageUnfinished));
    assert!(header(OpCode::Continuation, true, 0).is_ok());
    assert_eq!(header(OpCode::Continuation, true, 0).map(|_| ()), Err(SendError::NothingToContinue));

    let mut client = peer(Role::Client);
    assert!(client.connection.send_header(OpCode::Text, false, 1, Compress::Auto).unwrap().is_none());
    let sent = client.connection.send(Message::Text("x"), &mut client.shared, &mut client.out);
    assert_eq!(sent, Ok(()), "a header that was not given begins no message");
}

#[test]
fn a_close_frame_does_not_slip_through_as_any_other() {
    for role in ROLES {
        let mut peer = peer(role);
        let Peer { connection, shared, out, .. } = &mut peer;
        let sent = connection.send_frame(OpCode::Close, true, b"\x00\x00", shared, out);
        assert_eq!(sent, Err(SendError::CloseByFrame));
        assert!(out.is_empty());
        if role == Role::Server {
            assert!(connection.send_header(OpCode::Close, true, 0, Compress::Auto).is_err());
        }
        assert_eq!(connection.state(), State::Open);
    }
}
