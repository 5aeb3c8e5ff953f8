//! A peer in memory, with a log of all its events, and frames that are written and read by hand: the tests do not trust
//! the crate's own encoder.

use threadwire_proto::{Config, Connection, Event, Message, OpCode, Role, Shared, Violation, mask::Keys};

/// FIN, RSV and the opcode as they go on the wire.
pub(crate) const TEXT: u8 = 0x81;
pub(crate) const BINARY: u8 = 0x82;
pub(crate) const CLOSE: u8 = 0x88;
pub(crate) const PING: u8 = 0x89;
pub(crate) const PONG: u8 = 0x8a;
/// A text's first fragment, of several.
pub(crate) const TEXT_BEGINS: u8 = 0x01;
pub(crate) const BINARY_BEGINS: u8 = 0x02;
/// A fragment in the middle.
pub(crate) const GOES_ON: u8 = 0x00;
/// The last fragment.
pub(crate) const ENDS: u8 = 0x80;

/// What a user was told: an event with a payload of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Text(String),
    Binary(Vec<u8>),
    /// A data frame that is no whole message.
    Fragment(OpCode, bool, Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
    Failed(Violation),
}

impl Seen {
    fn of(event: &Event<'_>) -> Seen {
        match event {
            Event::Failed(violation) => Seen::Failed(*violation),
            Event::Close(frame) => {
                let close = frame.close().expect("a close frame that was let through can be read");
                Seen::Close(close.code.map(|code| code.get()), close.reason.to_owned())
            }
            Event::Frame(frame) => match (frame.message(), frame.opcode()) {
                (Some(Message::Text(text)), _) => Seen::Text(text.to_owned()),
                (Some(Message::Binary(bytes)), _) => Seen::Binary(bytes.to_owned()),
                (None, OpCode::Ping) => Seen::Ping(frame.payload().to_vec()),
                (None, OpCode::Pong) => Seen::Pong(frame.payload().to_vec()),
                (None, opcode) => Seen::Fragment(opcode, frame.fin(), frame.payload().to_vec()),
            },
        }
    }
}

/// A connection with what it needs: output that waits to be written, and a log of its events.
pub(crate) struct Peer {
    pub(crate) connection: Connection,
    pub(crate) shared: Shared,
    pub(crate) out: Vec<u8>,
    pub(crate) seen: Vec<Seen>,
}

impl Peer {
    pub(crate) fn new(role: Role, config: &Config) -> Peer {
        let keys = Keys::fixed([[0x37, 0xfa, 0x21, 0x3d], [0x80, 0x01, 0xff, 0x00], [1, 2, 3, 4]]);
        Peer {
            connection: Connection::new(role, config),
            shared: Shared { keys, ..Shared::new() },
            out: Vec::new(),
            seen: Vec::new(),
        }
    }

    /// Receives what one read has brought.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        let mut bytes = bytes.to_vec();
        let mut input = &mut bytes[..];
        while let Some(event) = self.connection.receive(&mut input, &mut self.shared, &mut self.out) {
            self.seen.push(Seen::of(&event));
            if let Event::Frame(frame) | Event::Close(frame) = event {
                frame.recycle(&mut self.shared.pool);
            }
        }
        assert!(input.is_empty(), "input was left behind");
    }
}

/// A frame as a peer of `to` has to send it: masked for a server, plain for a client.
pub(crate) fn frame(to: Role, head: u8, payload: &[u8]) -> Vec<u8> {
    let length = payload.len();
    let mut wire = vec![head];
    match length {
        0..=125 => wire.push(length as u8),
        126..=0xffff => wire.extend([&[126][..], &(length as u16).to_be_bytes()].concat()),
        _ => wire.extend([&[127][..], &(length as u64).to_be_bytes()].concat()),
    }
    let mut key = [0; 4];
    if to == Role::Server {
        wire[1] |= 0x80;
        key = [0xa1, 0x5b, 0x0c, 0xf2];
        wire.extend(key);
    }
    wire.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    wire
}

/// Takes apart what `from` wrote: the first byte and the payload of every frame, all of them whole and masked as
/// they must be.
pub(crate) fn frames(from: Role, mut wire: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let [head, second, rest @ ..] = wire {
        let (size, rest) = match second & 0x7f {
            126 => (2, rest),
            127 => (8, rest),
            _ => (0, rest),
        };
        let (long, rest) = rest.split_at(size);
        let length = match size {
            0 => usize::from(second & 0x7f),
            _ => long.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)),
        };
        assert_eq!(second & 0x80 != 0, from == Role::Client, "clients mask, servers do not");
        let (key, rest) = if from == Role::Client { rest.split_at(4) } else { (&[0][..], rest) };
        let (payload, rest) = rest.split_at(length);
        frames.push((*head, payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect()));
        wire = rest;
    }
    assert!(wire.is_empty(), "a frame was cut off");
    frames
}
