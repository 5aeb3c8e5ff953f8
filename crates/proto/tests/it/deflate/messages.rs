//! Tests of compressed messages (RFC 7692, sections 6 and 7.2), byte by byte where the RFC has them.

use threadwire_proto::deflate::Agreement;
use threadwire_proto::frame::Header;
use threadwire_proto::{
    CloseCode, Compress, Config, Connection, Deflate, Event, Level, Limits, Message, OpCode, Role,
    SendOptions, Shared, Violation,
};

/// Both sides with the largest windows, unless `deflate` has others.
fn agreement(deflate: &Deflate) -> Agreement {
    deflate.answer(&[deflate.offer()]).expect("it takes its own offers")
}

struct Side {
    connection: Connection,
    shared: Shared,
    out: Vec<u8>,
}

impl Side {
    fn new(role: Role, config: &Config, deflate: &Deflate) -> Side {
        let connection = Connection::new(role, config).with_deflate(deflate, agreement(deflate));
        Side { connection, shared: Shared::new(), out: Vec::new() }
    }

    fn client() -> Side {
        Side::new(Role::Client, &Config::default(), &wide())
    }

    fn server() -> Side {
        Side::new(Role::Server, &Config::default(), &wide())
    }

    fn send(&mut self, opcode: OpCode, fin: bool, payload: &[u8], compress: Compress) -> Vec<u8> {
        let Side { connection, shared, out } = self;
        connection
            .send_frame_with(opcode, fin, payload, compress.into(), shared, out)
            .expect("it may be sent");
        std::mem::take(out)
    }

    /// What arrives: each frame or message with its opcode, and the rule that was broken, if one was.
    fn receive(&mut self, wire: &[u8]) -> (Vec<(OpCode, Vec<u8>)>, Option<Violation>) {
        self.receive_in(&[wire])
    }

    fn receive_in(&mut self, pieces: &[&[u8]]) -> (Vec<(OpCode, Vec<u8>)>, Option<Violation>) {
        let (mut received, mut broken) = (Vec::new(), None);
        for piece in pieces {
            let mut piece = piece.to_vec();
            let mut input = &mut piece[..];
            // In as many turns as it takes.
            while !input.is_empty() {
                let event = self.connection.receive(&mut input, &mut self.shared, &mut self.out);
                match &event {
                    Some(Event::Frame(frame)) => received.push((frame.opcode(), frame.payload().to_vec())),
                    Some(Event::Close(_)) | None => {}
                    Some(Event::Failed(violation)) => broken = Some(*violation),
                }
                event.into_iter().for_each(|event| event.recycle(&mut self.shared.pool));
            }
        }
        (received, broken)
    }
}

fn wide() -> Deflate {
    Deflate::new().server_max_window_bits(15).client_max_window_bits(15)
}

fn text(text: &str) -> (OpCode, Vec<u8>) {
    (OpCode::Text, text.as_bytes().to_vec())
}

/// A frame of a server.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let opcode = match first & 0xf {
        0 => OpCode::Continuation,
        1 => OpCode::Text,
        2 => OpCode::Binary,
        _ => OpCode::Ping,
    };
    let header = Header {
        fin: first & 0x80 != 0,
        rsv: first >> 4 & 7,
        opcode,
        mask: None,
        length: payload.len() as u64,
    };
    let mut wire = Vec::new();
    header.append_to(&mut wire, payload);
    wire
}

#[test]
fn every_example_of_the_rfc_is_read() {
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    // 7.2.3.1: in one frame, and in two.
    assert_eq!(Side::client().receive(&frame(0xc1, &hello)), (vec![text("Hello")], None));
    let two = [frame(0x41, &hello[..3]), frame(0x80, &hello[3..])].concat();
    assert_eq!(Side::client().receive(&two), (vec![text("Hello")], None));
    // 7.2.3.2: the second refers to the first.
    let sharing = [frame(0xc1, &hello), frame(0xc1, &[0xf2, 0x00, 0x11, 0x00, 0x00])].concat();
    assert_eq!(Side::client().receive(&sharing), (vec![text("Hello"), text("Hello")], None));
    // 7.2.3.3: a block without compression.
    let stored = [0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00];
    assert_eq!(Side::client().receive(&frame(0xc1, &stored)), (vec![text("Hello")], None));
    // 7.2.3.4: a block that says that it is the last.
    let last = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
    assert_eq!(Side::client().receive(&frame(0xc1, &last)), (vec![text("Hello")], None));
    // 7.2.3.5: two blocks.
    let blocks = [0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00];
    assert_eq!(Side::client().receive(&frame(0xc1, &blocks)), (vec![text("Hello")], None));
    // 7.2.3.6: nothing.
    assert_eq!(Side::client().receive(&frame(0xc1, &[0x00])), (vec![text("")], None));
}

#[test]
fn what_is_sent_is_marked_on_its_first_frame_only() {
    let long = b"a message that repeats itself, a message that repeats itself, a message that repeats itself";
    let mut server = Side::server();
    let wire = server.send(OpCode::Text, true, long, Compress::Auto);
    assert_eq!(wire[0], 0xc1);
    assert!(wire.len() < long.len());
    let fragments = [
        server.send(OpCode::Binary, false, b"in ", Compress::Auto),
        server.send(OpCode::Ping, true, long, Compress::Always),
        server.send(OpCode::Continuation, false, b"", Compress::Auto),
        server.send(OpCode::Continuation, true, b"three", Compress::Never),
    ];
    assert_eq!(fragments.each_ref().map(|wire| wire[0]), [0x42, 0x89, 0x00, 0x80]);
    let mut client = Side::client();
    assert_eq!(client.receive(&wire).0, [(OpCode::Text, long.to_vec())]);
    let (received, broken) = client.receive(&fragments.concat());
    assert_eq!(received, [(OpCode::Ping, long.to_vec()), (OpCode::Binary, b"in three".to_vec())]);
    assert_eq!(broken, None);
}

#[test]
fn an_empty_message_is_one_byte() {
    let mut server = Side::server();
    for _ in 0..3 {
        assert_eq!(server.send(OpCode::Text, true, b"", Compress::Always), [0xc1, 0x01, 0x00]);
    }
    let end = [
        server.send(OpCode::Text, false, b"not empty", Compress::Auto),
        server.send(OpCode::Continuation, true, b"", Compress::Auto),
    ];
    assert_eq!(end[1], [0x80, 0x01, 0x00]);
    let mut client = Side::client();
    assert_eq!(client.receive(&[0xc1, 0x01, 0x00]), (vec![text("")], None));
    assert_eq!(client.receive(&end.concat()), (vec![text("not empty")], None));
}

#[test]
fn short_messages_go_out_as_they_are_unless_that_is_asked_for() {
    let mut server = Side::server();
    assert_eq!(server.send(OpCode::Text, true, b"short", Compress::Auto), b"\x81\x05short");
    assert_eq!(server.send(OpCode::Text, true, &[b'x'; 64], Compress::Never)[0], 0x81);
    assert_eq!(server.send(OpCode::Text, true, b"short", Compress::Always)[0], 0xc1);
    assert_eq!(server.send(OpCode::Text, true, &[b'x'; 64], Compress::Auto)[0], 0xc1);
}

#[test]
fn a_fragmented_message_that_begins_plainly_goes_on_plainly() {
    let mut server = Side::server();
    let wire = [
        server.send(OpCode::Text, false, &[b'x'; 100], Compress::Never),
        server.send(OpCode::Continuation, true, &[b'y'; 100], Compress::Always),
        server.send(OpCode::Text, true, &[b'z'; 100], Compress::Auto),
    ];
    assert_eq!(wire.each_ref().map(|wire| wire[0]), [0x01, 0x80, 0xc1]);
    let (received, broken) = Side::client().receive(&wire.concat());
    assert_eq!((received.len(), broken), (2, None));
}

#[test]
fn long_payloads_that_would_be_compressed_get_no_header_alone() {
    let mut server = Side::server();
    let header = |server: &mut Side, opcode, fin, compress| {
        server.connection.send_header(opcode, fin, 100_000, compress).expect("it may be sent").is_some()
    };
    assert!(!header(&mut server, OpCode::Binary, true, Compress::Auto));
    assert!(header(&mut server, OpCode::Binary, true, Compress::Never));
    assert!(header(&mut server, OpCode::Binary, false, Compress::Never));
    assert!(header(&mut server, OpCode::Continuation, true, Compress::Auto));
    server.send(OpCode::Text, false, b"compressed", Compress::Auto);
    assert!(!header(&mut server, OpCode::Continuation, true, Compress::Never));
}

/// A message of other bytes each time, which does not get smaller.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn with_takeover_what_the_compressor_has_seen_is_sent_compressed_though_it_is_longer() {
    // Sent as it was, its place in the window would differ on both sides, and the next message would be garbled.
    let (mut server, mut client) = (Side::server(), Side::client());
    let (noise, sense) = (noise(500, 1), "sense ".repeat(50));
    for _ in 0..3 {
        let wire = server.send(OpCode::Binary, true, &noise, Compress::Auto);
        assert_eq!(wire[0], 0xc2);
        assert_eq!(client.receive(&wire).0, [(OpCode::Binary, noise.clone())]);
        let wire = server.send(OpCode::Text, true, sense.as_bytes(), Compress::Auto);
        assert_eq!(client.receive(&wire).0, [text(&sense)]);
        let wire = server.send(OpCode::Text, true, sense.as_bytes(), Compress::Never);
        assert_eq!(client.receive(&wire).0, [text(&sense)]);
    }
}

/// The most that a payload may grow by: five bytes for each stored block of 65535, and the end of the message.
fn grown(length: usize) -> usize {
    length + length.div_ceil(0xffff) * 5 + 1
}

#[test]
fn what_gets_no_smaller_grows_by_the_headers_of_stored_blocks_at_most() {
    for level in [1, 2, 6, 9] {
        for takeover in [true, false] {
            let deflate =
                wide().level(level).server_no_context_takeover(!takeover).server_max_window_bits(12);
            let mut server = Side::new(Role::Server, &Config::default(), &deflate);
            let mut client = Side::new(Role::Client, &Config::default(), &deflate);
            for length in [0, 1, 63, 64, 1000, 4096, 0xffff, 0x10000, 0x1ffff, 300_000] {
                let noise = noise(length, length as u64);
                let sense = "sense ".repeat(20).into_bytes();
                let frames = [
                    (OpCode::Binary, true, &noise),
                    (OpCode::Binary, true, &sense),
                    (OpCode::Binary, false, &noise),
                    (OpCode::Continuation, false, &sense),
                    (OpCode::Continuation, false, &noise),
                    (OpCode::Continuation, true, &noise),
                    (OpCode::Binary, true, &noise),
                ];
                let mut received = Vec::new();
                for (opcode, fin, payload) in frames {
                    let wire = server.send(opcode, fin, payload, Compress::Always);
                    let header = match wire[1] {
                        126 => 4,
                        127 => 10,
                        _ => 2,
                    };
                    assert!(
                        wire.len() - header <= grown(payload.len()),
                        "level {level}: {} bytes of {}",
                        wire.len(),
                        payload.len()
                    );
                    let (mut new, broken) = client.receive(&wire);
                    assert_eq!(broken, None, "level {level}, {length} bytes");
                    received.append(&mut new);
                }
                let fragments = [&noise[..], &sense, &noise, &noise].concat();
                let expected =
                    [&noise, &sense, &fragments, &noise].map(|said| (OpCode::Binary, said.clone()));
                assert!(received == expected, "level {level}, {length} bytes");
            }
        }
    }
}

#[test]
fn without_takeover_what_gets_no_smaller_goes_out_as_it_is() {
    let deflate = wide().server_no_context_takeover(true);
    let mut server = Side::new(Role::Server, &Config::default(), &deflate);
    let mut client = Side::new(Role::Client, &Config::default(), &deflate);
    let noise = noise(500, 1);
    let wire = server.send(OpCode::Binary, true, &noise, Compress::Auto);
    assert_eq!(wire[0], 0x82);
    assert_eq!(client.receive(&wire).0, [(OpCode::Binary, noise)]);
    // And every message can be read by one who has seen none before it.
    for _ in 0..3 {
        let wire = server.send(OpCode::Text, true, &[b'x'; 200], Compress::Auto);
        assert_eq!(wire[0], 0xc1);
        let mut newcomer = Side::new(Role::Client, &Config::default(), &deflate);
        assert_eq!(newcomer.receive(&wire).0, [(OpCode::Text, vec![b'x'; 200])]);
        assert_eq!(client.receive(&wire).0, [(OpCode::Text, vec![b'x'; 200])]);
    }
}

#[test]
fn with_takeover_the_next_message_refers_to_the_last() {
    let (mut server, mut client) = (Side::server(), Side::client());
    let noise = noise(1000, 7);
    let first = server.send(OpCode::Binary, true, &noise, Compress::Auto);
    let second = server.send(OpCode::Binary, true, &noise, Compress::Auto);
    assert!(first.len() > 1000 && second.len() < 100, "{} and {} bytes", first.len(), second.len());
    assert_eq!(client.receive(&[first, second].concat()).0.len(), 2);
}

#[test]
fn a_window_of_eight_bits_is_never_promised_for_our_compressor() {
    let deflate = Deflate::new();
    let answer = threadwire_proto::handshake::Extension::new("permessage-deflate").unwrap();
    let answer = answer.with_param("client_max_window_bits", Some("8")).unwrap();
    let agreement = deflate.accept(&[answer]).expect("it is allowed").expect("it was accepted");
    let connection = Connection::new(Role::Client, &Config::default()).with_deflate(&deflate, agreement);
    let mut client = Side { connection, shared: Shared::new(), out: Vec::new() };
    let wire = client.send(OpCode::Text, true, &[b'x'; 1000], Compress::Always);
    assert_eq!(wire[0], 0x81, "it is sent as it is");
    assert_eq!(client.connection.sharing(), None);
    // What the server compresses is read all the same.
    let wire = Side::server().send(OpCode::Text, true, &[b'x'; 1000], Compress::Auto);
    assert_eq!(client.receive(&wire).0.len(), 1);
}

#[test]
fn reserved_bits_out_of_place_are_a_protocol_error() {
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    for (wire, expected) in [
        (frame(0xa1, b"x"), Violation::ReservedBits(2)),
        (frame(0x91, b"x"), Violation::ReservedBits(1)),
        (frame(0xd1, b"x"), Violation::ReservedBits(5)),
        (frame(0xc9, b"x"), Violation::CompressedOutOfPlace(OpCode::Ping)),
        (
            [frame(0x41, &hello[..3]), frame(0xc0, &hello[3..])].concat(),
            Violation::CompressedOutOfPlace(OpCode::Continuation),
        ),
        (frame(0xc0, b"x"), Violation::CompressedOutOfPlace(OpCode::Continuation)),
    ] {
        let (received, broken) = Side::client().receive(&wire);
        assert_eq!((received, broken), (vec![], Some(expected)));
        assert_eq!(expected.code(), CloseCode::PROTOCOL_ERROR);
    }
    let mut plain = Connection::new(Role::Client, &Config::default());
    let mut wire = frame(0xc1, &hello);
    match plain.receive(&mut &mut wire[..], &mut Shared::new(), &mut Vec::new()) {
        Some(Event::Failed(violation)) => assert_eq!(violation, Violation::ReservedBits(4)),
        other => panic!("{other:?}"),
    };
}

#[test]
fn uncompressed_messages_are_not_inflated() {
    let mut client = Side::client();
    let wire = [frame(0x81, b"plain"), frame(0x01, b"al"), frame(0x80, b"so")].concat();
    assert_eq!(client.receive(&wire), (vec![text("plain"), text("also")], None));
}

#[test]
fn corrupt_streams_and_those_cut_short_are_refused_with_1007() {
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let stored = [0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00];
    let mut wrong: Vec<Vec<u8>> = vec![
        vec![0xff; 20],                                    // a block of a kind that there is not
        vec![0x00, 0x05, 0x00, 0x00, 0x00, 1, 2, 3, 4, 5], // a length that does not match its complement
        vec![0xf2, 0x00, 0x11, 0x00, 0x00],                // refers to what was never said
        vec![],
    ];
    wrong.extend((1..hello.len() - 1).map(|cut| hello[..cut].to_vec()));
    wrong.extend((2..stored.len() - 1).map(|cut| stored[..cut].to_vec()));
    for payload in wrong {
        let mut client = Side::client();
        let (received, broken) = client.receive(&frame(0xc2, &payload));
        let broken = broken.unwrap_or_else(|| panic!("{payload:02x?} was taken for {received:02x?}"));
        assert!(
            matches!(broken, Violation::CorruptDeflate(_) | Violation::DeflateCut),
            "{payload:02x?}: {broken}"
        );
        assert_eq!(broken.code(), CloseCode::INVALID_DATA);
        assert!(client.out.len() > 4, "the peer is told");
    }
}

#[test]
fn text_that_is_not_utf8_when_inflated_is_refused() {
    let mut server = Side::server();
    let wire = server.send(
        OpCode::Text,
        true,
        b"caf\xc3 and more, so that it is well over the threshold of sixty",
        Compress::Always,
    );
    let (_, broken) = Side::client().receive(&wire);
    assert_eq!(broken.map(|rule| rule.code()), Some(CloseCode::INVALID_DATA));
    // A character in two fragments is none the worse for it.
    let mut server = Side::server();
    let wire = [
        server.send(OpCode::Text, false, b"caf\xc3", Compress::Always),
        server.send(OpCode::Continuation, true, b"\xa9", Compress::Auto),
    ];
    assert_eq!(Side::client().receive(&wire.concat()), (vec![text("caf\u{e9}")], None));
}

#[test]
fn a_bomb_is_stopped_at_the_limit() {
    let limits = Limits::default().max_message(1 << 20).max_frame(1 << 20);
    let bomb = Side::new(Role::Server, &Config::default(), &wide().level(9)).send(
        OpCode::Binary,
        true,
        &vec![0; 64 << 20],
        Compress::Auto,
    );
    assert!(bomb.len() < 100_000, "{} bytes", bomb.len());
    for level in [Level::Messages, Level::Frames] {
        let config = Config::default().limits(limits).level(level);
        let mut client = Side::new(Role::Client, &config, &wide());
        let (received, broken) = client.receive(&bomb);
        assert_eq!((received, broken), (vec![], Some(Violation::InflatedTooLong { limit: 1 << 20 })));
        assert_eq!(broken.map(|rule| rule.code()), Some(CloseCode::TOO_BIG));
    }
}

#[test]
fn the_limit_is_for_all_fragments_together_and_to_the_byte() {
    let limits = Limits::default().max_message(10_000);
    for (last, fits) in [(5_000, true), (5_001, false)] {
        let config = Config::default().limits(limits);
        let mut client = Side::new(Role::Client, &config, &wide());
        let mut server = Side::server();
        let wire = [
            server.send(OpCode::Binary, false, &[1; 5_000], Compress::Auto),
            server.send(OpCode::Continuation, true, &vec![2; last], Compress::Auto),
        ];
        let (received, broken) = client.receive(&wire.concat());
        assert_eq!(received.len(), usize::from(fits));
        assert_eq!(broken.is_none(), fits, "{broken:?}");
    }
}

#[test]
fn a_message_as_long_as_the_limit_that_does_not_get_smaller_is_taken() {
    let limits = Limits::default().max_message(100_000);
    let config = Config::default().limits(limits);
    let noise = noise(100_000, 3);
    for level in [1, 6, 9] {
        let mut server = Side::new(Role::Server, &Config::default(), &wide().level(level).mem_level(1));
        let wire = server.send(OpCode::Binary, true, &noise, Compress::Auto);
        assert!(wire.len() > 100_000);
        let (received, broken) = Side::new(Role::Client, &config, &wide()).receive(&wire);
        assert_eq!((received.len(), broken), (1, None));
    }
}

#[test]
fn empty_blocks_without_end_are_a_message_too_long() {
    let limits = Limits::default().max_message(1000);
    let mut client = Side::new(Role::Client, &Config::default().limits(limits), &wide());
    let nothing = [0, 0, 0, 0xff, 0xff].repeat(1000);
    let (_, broken) = client.receive(&frame(0xc2, &nothing));
    assert_eq!(broken.map(|rule| rule.code()), Some(CloseCode::TOO_BIG));
}

#[test]
fn blocks_that_say_that_they_are_the_last_may_be_followed_by_others() {
    // "Hello" in a last block, then a block that refers back to it, then the end.
    let mut payload = vec![0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    payload.extend([0xf2, 0x00, 0x11, 0x00, 0x00]);
    for takeover in [true, false] {
        let deflate = wide().server_no_context_takeover(!takeover);
        let mut client = Side::new(Role::Client, &Config::default(), &deflate);
        for _ in 0..3 {
            assert_eq!(client.receive(&frame(0xc1, &payload)), (vec![text("HelloHello")], None));
        }
        // In fragments, with the border anywhere.
        for cut in 1..payload.len() {
            let wire = [frame(0x41, &payload[..cut]), frame(0x80, &payload[cut..])].concat();
            assert_eq!(client.receive(&wire), (vec![text("HelloHello")], None), "cut at {cut}");
        }
        // Some end with the last block itself.
        assert_eq!(client.receive(&frame(0xc1, &payload[..7])), (vec![text("Hello")], None));
        let after = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
        assert_eq!(client.receive(&frame(0xc1, &after)), (vec![text("Hello")], None));
    }
    // What comes behind it refers to it.
    let mut client = Side::client();
    let wire = [
        frame(0xc1, &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00]),
        frame(0xc1, &[0xf2, 0x00, 0x11, 0x00, 0x00]),
    ];
    assert_eq!(client.receive(&wire.concat()), (vec![text("Hello"), text("Hello")], None));
}

#[test]
fn a_tail_that_was_left_at_the_end_changes_nothing() {
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let stored = [0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00];
    let last = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
    let tail = [0x00, 0x00, 0xff, 0xff];
    let again = [0xf2, 0x00, 0x11, 0x00, 0x00];
    for takeover in [true, false] {
        let deflate = wide().server_no_context_takeover(!takeover);
        for message in [&hello[..], &stored, &last] {
            for left in 0..=tail.len() {
                let payload = [message, &tail[..left]].concat();
                for cut in 0..payload.len() {
                    let mut client = Side::new(Role::Client, &Config::default(), &deflate);
                    for _ in 0..3 {
                        let wire = [frame(0x41, &payload[..cut]), frame(0x80, &payload[cut..])].concat();
                        assert_eq!(
                            client.receive(&wire),
                            (vec![text("Hello")], None),
                            "{left} left, cut at {cut}"
                        );
                        // What comes behind it is at its place.
                        let next = if takeover { &again[..] } else { &hello };
                        assert_eq!(
                            client.receive(&frame(0xc1, next)),
                            (vec![text("Hello")], None),
                            "{left} left"
                        );
                    }
                }
            }
        }
    }
    for left in 0..=tail.len() {
        let empty = [&[0x00], &tail[..left]].concat();
        assert_eq!(Side::client().receive(&frame(0xc1, &empty)), (vec![text("")], None), "{left} left");
    }
    // What only looks like a tail is none: here it is the content of a block that goes on, or a wrong length.
    let cut = [&[0x00, 0x06, 0x00, 0xf9, 0xff, 0x00][..], &tail].concat();
    for payload in [&cut[..], &cut[..9], &cut[..8], &cut[..7], &[0x00, 0x00, 0xff], &[0x00, 0xff, 0xff]] {
        let (received, broken) = Side::client().receive(&frame(0xc2, payload));
        assert!(received.is_empty() && broken.is_some(), "{payload:02x?}: {received:02x?}");
    }
}

#[test]
fn last_blocks_without_end_are_refused() {
    // Each would have the whole window told to the engine again.
    let mut client = Side::client();
    let (received, broken) = client.receive(&frame(0xc2, &[0x03, 0x00].repeat(10_000)));
    assert!(received.is_empty());
    assert!(matches!(broken, Some(Violation::CorruptDeflate(_))), "{broken:?}");
    // Some of them are fine, in each message anew.
    let mut client = Side::client();
    let few = frame(0xc2, &[0x03, 0x00].repeat(60));
    let (received, broken) = client.receive(&few.repeat(5));
    assert_eq!((received.len(), broken), (5, None));
}

#[test]
fn at_the_level_of_frames_each_is_inflated_as_it_comes() {
    let config = Config::default().level(Level::Frames);
    let mut client = Side::new(Role::Client, &config, &wide());
    let mut server = Side::server();
    let wire = [
        server.send(OpCode::Text, false, "one ".repeat(30).as_bytes(), Compress::Auto),
        server.send(OpCode::Ping, true, b"", Compress::Auto),
        server.send(OpCode::Continuation, false, "two ".repeat(30).as_bytes(), Compress::Auto),
        server.send(OpCode::Continuation, true, b"three", Compress::Auto),
        server.send(OpCode::Text, true, "one ".repeat(30).as_bytes(), Compress::Auto),
    ];
    let (received, broken) = client.receive(&wire.concat());
    assert_eq!(broken, None);
    let expected = [
        (OpCode::Text, "one ".repeat(30).into_bytes()),
        (OpCode::Ping, vec![]),
        (OpCode::Continuation, "two ".repeat(30).into_bytes()),
        (OpCode::Continuation, b"three".to_vec()),
        (OpCode::Text, "one ".repeat(30).into_bytes()),
    ];
    assert_eq!(received, expected);
    let wire = server.send(OpCode::Text, true, &[b'x'; 100], Compress::Auto);
    let mut wire = wire;
    let mut input = &mut wire[..];
    let event = client.connection.receive(&mut input, &mut client.shared, &mut client.out);
    assert_eq!(event.and_then(|event| event.frame().map(|frame| frame.rsv())), Some(Header::RSV1));
}

#[test]
fn bytes_may_come_one_by_one() {
    let (mut server, mut client) = (Side::server(), Side::client());
    for round in 0..3 {
        let long = format!("{round} and something that repeats and repeats and repeats ").repeat(5);
        let wire = [
            server.send(OpCode::Text, true, long.as_bytes(), Compress::Auto),
            server.send(OpCode::Binary, false, long.as_bytes(), Compress::Auto),
            server.send(OpCode::Ping, true, b"between", Compress::Auto),
            server.send(OpCode::Continuation, true, b"", Compress::Auto),
        ]
        .concat();
        let pieces: Vec<&[u8]> = wire.chunks(1).collect();
        let (received, broken) = client.receive_in(&pieces);
        let expected =
            [text(&long), (OpCode::Ping, b"between".to_vec()), (OpCode::Binary, long.into_bytes())];
        assert_eq!((&received[..], broken), (&expected[..], None));
    }
}

#[test]
fn many_connections_take_turns_with_few_engines() {
    // More than are kept for long: each has to be primed with what its connection said before.
    let deflate = Deflate::new().server_max_window_bits(9).client_max_window_bits(10);
    let (mut shared, mut there) = (Shared::new(), Shared::new());
    let mut pairs: Vec<_> = (0..300)
        .map(|_| {
            [Role::Server, Role::Client].map(|role| {
                Connection::new(role, &Config::default()).with_deflate(&deflate, agreement(&deflate))
            })
        })
        .collect();
    for round in 0..4 {
        for (number, [server, client]) in pairs.iter_mut().enumerate() {
            let message = format!("{{\"connection\":{number},\"says\":\"the same thing over again\"}}")
                .repeat(1 + round);
            let (mut out, mut back) = (Vec::new(), Vec::new());
            server.send(Message::Text(&message), &mut shared, &mut out).expect("it is open");
            if round > 0 {
                assert!(out.len() < 60, "it refers to what was said before: {} bytes", out.len());
            }
            match client.receive(&mut &mut out[..], &mut there, &mut back) {
                Some(Event::Frame(frame)) => assert_eq!(frame.message(), Some(Message::Text(&message))),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn what_is_compressed_once_can_be_sent_to_all_in_between() {
    let mut server = Side::server();
    let mut client = Side::client();
    let own = "what only this one is told, again and again ".repeat(5);
    let news = "news for everybody ".repeat(10);
    for _ in 0..3 {
        let wire = server.send(OpCode::Text, true, own.as_bytes(), Compress::Auto);
        assert_eq!(client.receive(&wire).0, [text(&own)]);
        let sharing = server.connection.sharing().expect("it is between two messages");
        let mut wire = Vec::new();
        assert!(sharing.append_frame(
            OpCode::Text,
            news.as_bytes(),
            Compress::Auto,
            &mut server.shared.pool,
            &mut wire
        ));
        server.connection.sent_shared();
        assert_eq!(client.receive(&wire).0, [text(&news)]);
        assert_eq!(Side::client().receive(&wire).0, [text(&news)], "it refers to nothing");
    }
    let mut wire = Vec::new();
    let sharing = server.connection.sharing().expect("it is between two messages");
    assert!(!sharing.append_frame(
        OpCode::Text,
        b"short",
        Compress::Auto,
        &mut server.shared.pool,
        &mut wire
    ));
    assert!(!sharing.append_frame(
        OpCode::Binary,
        &noise(200, 5),
        Compress::Always,
        &mut server.shared.pool,
        &mut wire
    ));
    assert!(wire.is_empty());
    server.send(OpCode::Text, false, b"the first of two", Compress::Auto);
    assert_eq!(server.connection.sharing(), None, "its engine has begun");
}

#[test]
fn a_message_that_may_be_dropped_can_be_missing() {
    let (mut server, mut client) = (Side::server(), Side::client());
    let tick = |number: u32| {
        format!("{{\"tick\":{number},\"symbol\":\"BTCUSDT\",\"price\":\"64000.00\"}}").repeat(2)
    };
    let mut send = |number, droppable| {
        let Side { connection, shared, out } = &mut server;
        let options = SendOptions { droppable, compress: Compress::Auto };
        let tick = tick(number);
        connection
            .send_frame_with(OpCode::Text, true, tick.as_bytes(), options, shared, out)
            .expect("it is open");
        std::mem::take(out)
    };
    let wire: Vec<_> = (0..8).map(|number| send(number, number % 3 != 0)).collect();
    assert!(wire.iter().all(|wire| wire[0] == 0xc1));
    for (number, wire) in (0..).zip(&wire).filter(|(number, _)| number % 3 != 2) {
        assert_eq!(client.receive(wire).0, [text(&tick(number))]);
    }
}

#[test]
fn the_end_lets_go_of_everything() {
    let mut client = Side::client();
    let wire = Side::server().send(OpCode::Text, false, &[b'x'; 100], Compress::Auto);
    client.receive(&wire);
    client.connection.tcp_ended();
    assert_eq!(client.connection.deflate(), None);
}
