//! Property tests of compression: random messages in random fragments, pieces and settings come out as they went in.

use crate::common::fixed_cases;
use proptest::collection::vec;
use proptest::prelude::*;
use threadwire_proto::{Compress, Config, Connection, Deflate, Event, Level, OpCode, Role, Shared};

/// A payload that compresses well, badly, or that is what was sent before.
#[derive(Clone, Debug)]
enum Payload {
    Words(Vec<u8>),
    Noise(Vec<u8>),
    Same(u8, usize),
}

impl Payload {
    fn bytes(&self) -> Vec<u8> {
        const WORDS: [&str; 8] =
            ["price", "\"symbol\":", "BTC", "{", "},", "1234.5", "caf\u{e9}", "the quick brown fox "];
        match self {
            Payload::Words(words) => {
                words.iter().flat_map(|word| WORDS[usize::from(word % 8)].bytes()).collect()
            }
            Payload::Noise(bytes) => bytes.clone(),
            Payload::Same(byte, count) => vec![*byte; *count],
        }
    }
}

fn payload() -> impl Strategy<Value = Payload> {
    prop_oneof![
        4 => vec(any::<u8>(), 0..300).prop_map(Payload::Words),
        2 => vec(any::<u8>(), 0..2000).prop_map(Payload::Noise),
        1 => (any::<u8>(), 0..100_000usize).prop_map(|(byte, count)| Payload::Same(byte, count)),
    ]
}

#[derive(Clone, Debug)]
struct Sent {
    payload: Payload,
    compress: Compress,
    /// Where it is cut into fragments, in thousandths of its length.
    cuts: Vec<usize>,
    ping: bool,
}

fn sent() -> impl Strategy<Value = Sent> {
    let compress = prop_oneof![Just(Compress::Auto), Just(Compress::Always), Just(Compress::Never)];
    (payload(), compress, vec(0..=1000usize, 0..4), any::<bool>()).prop_map(
        |(payload, compress, mut cuts, ping)| {
            cuts.sort_unstable();
            Sent { payload, compress, cuts, ping }
        },
    )
}

fn settings() -> impl Strategy<Value = Deflate> {
    ((9..=15u8, 9..=15u8), any::<bool>(), any::<bool>(), 1..=9u8, 1..=9u8).prop_map(
        |((server, client), server_forgets, client_forgets, level, mem_level)| {
            Deflate::new()
                .server_max_window_bits(server)
                .client_max_window_bits(client)
                .server_no_context_takeover(server_forgets)
                .client_no_context_takeover(client_forgets)
                .level(level)
                .mem_level(mem_level)
        },
    )
}

proptest! {
    #![proptest_config(fixed_cases(200))]

    #[test]
    fn what_goes_in_comes_out(
        deflate in settings(),
        messages in vec(sent(), 1..12),
        piece in 1..5000usize,
        at_frames in any::<bool>(),
        from_client in any::<bool>(),
        // Whether another connection uses the same engines in between.
        crowded in any::<bool>(),
    ) {
        let agreement = deflate.answer(&[deflate.offer()]).expect("it takes its own offers");
        let level = if at_frames { Level::Frames } else { Level::Messages };
        let config = Config::default().level(level);
        let connection = |role| Connection::new(role, &config).with_deflate(&deflate, agreement);
        let roles = if from_client { [Role::Client, Role::Server] } else { [Role::Server, Role::Client] };
        let [mut sender, mut receiver] = roles.map(connection);
        let mut crowd: Vec<_> = (0..if crowded { 80 } else { 0 }).map(|_| connection(Role::Server)).collect();
        let (mut shared, mut there) = (Shared::new(), Shared::new());
        for message in &messages {
            let payload = message.payload.bytes();
            let mut wire = Vec::new();
            let mut start = 0;
            for cut in message.cuts.iter().map(|cut| cut * payload.len() / 1000) {
                let opcode = if start == 0 && wire.is_empty() { OpCode::Binary } else { OpCode::Continuation };
                let part = &payload[start..cut];
                sender.send_frame_with(opcode, false, part, message.compress.into(), &mut shared, &mut wire).unwrap();
                if message.ping {
                    sender.send_frame(OpCode::Ping, true, b"?", &mut shared, &mut wire).unwrap();
                }
                start = cut;
            }
            let opcode = if message.cuts.is_empty() { OpCode::Binary } else { OpCode::Continuation };
            let rest = &payload[start..];
            sender.send_frame_with(opcode, true, rest, message.compress.into(), &mut shared, &mut wire).unwrap();
            for other in &mut crowd {
                other.send_frame_with(OpCode::Text, true, b"something else", Compress::Always.into(), &mut shared, &mut Vec::new()).unwrap();
            }

            let mut received = Vec::new();
            for piece in wire.chunks_mut(piece) {
                let mut input = piece;
                while !input.is_empty() {
                    let Some(event) = receiver.receive(&mut input, &mut there, &mut Vec::new()) else { continue };
                    match &event {
                        Event::Frame(frame) if frame.opcode().is_control() => {}
                        Event::Frame(frame) => received.extend_from_slice(frame.payload()),
                        other => prop_assert!(false, "{other:?}"),
                    }
                    event.recycle(&mut there.pool);
                }
            }
            prop_assert!(received == payload, "{} of {} bytes", received.len(), payload.len());
        }
    }

    #[test]
    fn garbage_never_panics_nor_takes_more_than_the_limit(bytes in vec(any::<u8>(), 0..3000), piece in 1..500usize) {
        let deflate = Deflate::new();
        let agreement = deflate.answer(&[deflate.offer()]).expect("it takes its own offers");
        let limits = threadwire_proto::Limits::default().max_message(10_000);
        let config = Config::default().limits(limits);
        let mut client = Connection::new(Role::Client, &config).with_deflate(&deflate, agreement);
        let mut wire = vec![0xc2, 126, (bytes.len() >> 8) as u8, bytes.len() as u8];
        wire.extend(&bytes);
        let mut shared = Shared::new();
        for piece in wire.chunks_mut(piece) {
            let mut input = piece;
            while !input.is_empty() {
                let Some(event) = client.receive(&mut input, &mut shared, &mut Vec::new()) else { continue };
                if let Some(frame) = event.frame() {
                    prop_assert!(frame.payload().len() <= 10_000);
                }
                event.recycle(&mut shared.pool);
            }
        }
    }
}
