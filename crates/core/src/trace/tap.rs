//! Trace parser: bytes of a stream in, lines out.
//!
//! Each direction is a small state machine that reads heads until the one that agrees to the upgrade, and then the headers of
//! frames. It judges nothing: rules are the protocol's. Of a payload it keeps what is shown.

use std::io::{self, IoSlice, IoSliceMut};

use threadwire_proto::Role;

use super::{Direction, Trace, TraceEvent, TraceLine, next_number, redact};
use crate::transport::Transport;

/// The most bytes kept of an endless head.
const MAX_HEAD: usize = 64 << 10;

/// Watches both directions of a stream, and shows them.
#[derive(Debug)]
pub struct Tap {
    trace: Trace,
    number: u64,
    sent: DirectionParser,
    received: DirectionParser,
}

impl Tap {
    /// For a stream on which the handshake is still to come.
    pub fn new(trace: &Trace, role: Role) -> Tap {
        let is_client = role == Role::Client;
        let (sent, received) = (DirectionParser::new(is_client), DirectionParser::new(!is_client));
        Tap { trace: trace.clone(), number: next_number(), sent, received }
    }

    /// Shows these bytes, which went that way.
    pub fn watch(&mut self, direction: Direction, bytes: &[u8]) {
        let (trace, stream) = (&self.trace, self.number);
        let parser = if direction == Direction::Sent { &mut self.sent } else { &mut self.received };
        parser.watch(bytes, trace.payload, &mut |event| trace.tell(&TraceLine { stream, direction, event }));
    }

    /// Watches the first `count` bytes of these.
    fn watch_first<'b>(
        &mut self,
        direction: Direction,
        buffers: impl IntoIterator<Item = &'b [u8]>,
        count: usize,
    ) {
        let mut left = count;
        for buffer in buffers {
            let here = left.min(buffer.len());
            self.watch(direction, &buffer[..here]);
            left -= here;
        }
    }
}

/// Reading and writing through the watch.
impl Tap {
    pub fn read(&mut self, io: &mut impl Transport, buffer: &mut [u8]) -> io::Result<usize> {
        let count = io.read(buffer)?;
        self.watch(Direction::Received, &buffer[..count]);
        Ok(count)
    }

    pub fn read_vectored(
        &mut self,
        io: &mut impl Transport,
        buffers: &mut [IoSliceMut<'_>],
    ) -> io::Result<usize> {
        let count = io.read_vectored(buffers)?;
        self.watch_first(Direction::Received, buffers.iter().map(|buffer| &**buffer), count);
        Ok(count)
    }

    pub fn write(&mut self, io: &mut impl Transport, bytes: &[u8]) -> io::Result<usize> {
        let count = io.write(bytes)?;
        self.watch(Direction::Sent, &bytes[..count]);
        Ok(count)
    }

    pub fn write_vectored(&mut self, io: &mut impl Transport, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let count = io.write_vectored(buffers)?;
        self.watch_first(Direction::Sent, buffers.iter().map(|buffer| &**buffer), count);
        Ok(count)
    }
}

/// A stream that is traced.
#[derive(Debug)]
pub struct Traced<S> {
    pub stream: S,
    pub tap: Tap,
}

impl<S> Traced<S> {
    pub fn new(stream: S, trace: &Trace, role: Role) -> Traced<S> {
        Traced { stream, tap: Tap::new(trace, role) }
    }

    /// The same for a stream on which somebody else has done the handshake.
    pub fn upgraded(stream: S, trace: &Trace, role: Role) -> Traced<S> {
        let mut tap = Tap::new(trace, role);
        for parser in [&mut tap.sent, &mut tap.received] {
            parser.state = ParserState::Header(PartialHeader::default());
        }
        Traced { stream, tap }
    }
}

/// One direction.
#[derive(Debug)]
struct DirectionParser {
    /// Whether its heads are requests.
    asks: bool,
    state: ParserState,
    /// Whether the message that is under way is a text.
    is_text: bool,
}

#[derive(Debug)]
enum ParserState {
    Head(Vec<u8>),
    Header(PartialHeader),
    Payload {
        header: PartialHeader,
        left: u64,
        shown: Vec<u8>,
    },
    /// The bytes that follow are no WebSocket frames.
    Other,
}

/// The header of a frame, possibly incomplete.
#[derive(Clone, Copy, Debug, Default)]
struct PartialHeader {
    bytes: [u8; 14],
    have: usize,
}

impl PartialHeader {
    /// Its length, or as much of it as the bytes so far tell.
    fn len(&self) -> usize {
        if self.have < 2 {
            return 2;
        }
        let extended = match self.bytes[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let key = if self.is_masked() { 4 } else { 0 };
        2 + extended + key
    }

    fn is_masked(&self) -> bool {
        self.bytes[1] & 0x80 != 0
    }

    fn length(&self) -> u64 {
        let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        match self.bytes[1] & 0x7f {
            126 => number(&self.bytes[2..4]),
            127 => number(&self.bytes[2..10]),
            short => short.into(),
        }
    }

    /// The key for masking, which is the end of the header; zeroes if there is none.
    fn key(&self) -> [u8; 4] {
        let mut key = [0; 4];
        if self.is_masked() {
            key.copy_from_slice(&self.bytes[self.len() - 4..self.len()]);
        }
        key
    }

    fn opcode(&self) -> u8 {
        self.bytes[0] & 0xf
    }
}

impl DirectionParser {
    fn new(asks: bool) -> DirectionParser {
        DirectionParser { asks, state: ParserState::Head(Vec::new()), is_text: false }
    }

    fn watch(&mut self, mut bytes: &[u8], shows: usize, tell: &mut dyn FnMut(TraceEvent<'_>)) {
        while !bytes.is_empty() {
            bytes = match &mut self.state {
                ParserState::Head(head) => {
                    let before = head.len();
                    head.extend_from_slice(bytes);
                    let start = before.saturating_sub(3);
                    let end = head[start..].windows(4).position(|end| end == b"\r\n\r\n");
                    let Some(end) = end.map(|end| start + end + 4) else {
                        if head.len() > MAX_HEAD {
                            tell(TraceEvent::Head(&redact::head(&String::from_utf8_lossy(head))));
                            self.state = ParserState::Other;
                        }
                        return;
                    };
                    let text = String::from_utf8_lossy(&head[..end]).into_owned();
                    tell(TraceEvent::Head(&redact::head(&text)));
                    self.state = after(&text, self.asks);
                    &bytes[end - before..]
                }
                ParserState::Header(header) => {
                    let mut used = 0;
                    while header.have < header.len() && used < bytes.len() {
                        header.bytes[header.have] = bytes[used];
                        header.have += 1;
                        used += 1;
                    }
                    if header.have == header.len() {
                        let header = *header;
                        let left = header.length();
                        self.state = ParserState::Payload { header, left, shown: Vec::new() };
                        self.end_of_frame(tell);
                    }
                    &bytes[used..]
                }
                ParserState::Payload { header, left, shown } => {
                    let here = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    let (payload, rest) = bytes.split_at(here);
                    let room = shows - shown.len();
                    let (start, key) = (shown.len(), header.key());
                    let unmasked = payload.iter().take(room).enumerate();
                    shown.extend(unmasked.map(|(index, byte)| byte ^ key[(start + index) % 4]));
                    *left -= here as u64;
                    self.end_of_frame(tell);
                    rest
                }
                ParserState::Other => return,
            };
        }
    }

    /// Tells of the frame, if it is there as a whole.
    fn end_of_frame(&mut self, tell: &mut dyn FnMut(TraceEvent<'_>)) {
        let ParserState::Payload { header, left: 0, shown } = &self.state else { return };
        let opcode = header.opcode();
        if matches!(opcode, 1 | 2) {
            self.is_text = opcode == 1;
        }
        tell(TraceEvent::Frame {
            opcode,
            fin: header.bytes[0] & 0x80 != 0,
            rsv: header.bytes[0] >> 4 & 7,
            length: header.length(),
            payload: shown,
            is_text: opcode <= 2 && self.is_text,
        });
        self.state = ParserState::Header(PartialHeader::default());
    }
}

/// The state after a head.
fn after(head: &str, asks: bool) -> ParserState {
    let status = head.split(' ').nth(1).unwrap_or_default();
    match status {
        "101" => ParserState::Header(PartialHeader::default()),
        _ if asks => ParserState::Header(PartialHeader::default()),
        // An interim response only announces another (RFC 9110, section 15.2).
        _ if status.starts_with('1') => ParserState::Head(Vec::new()),
        _ => ParserState::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The trace of these bytes, fed in pieces of every size.
    fn told(asks: bool, bytes: &[u8]) -> Vec<String> {
        let mut all = Vec::new();
        for size in 1..=bytes.len() {
            let mut parser = DirectionParser::new(asks);
            let mut told = Vec::new();
            for piece in bytes.chunks(size) {
                parser.watch(piece, 4, &mut |event| told.push(event.to_string()));
            }
            all.push(told);
        }
        assert!(all.windows(2).all(|pair| pair[0] == pair[1]), "the pieces make a difference: {all:?}");
        all.pop().unwrap()
    }

    #[test]
    fn tells_of_heads_and_frames_however_they_are_cut() {
        let mut bytes = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec();
        bytes.extend([0x81, 0x83, 1, 2, 3, 4, b'a' ^ 1, b'b' ^ 2, b'c' ^ 3]);
        bytes.extend([0x09, 0x80, 1, 2, 3, 4]);
        bytes.extend([0x01, 0xfe, 0, 130, 0, 0, 0, 0]);
        bytes.extend([b'x'; 130]);
        bytes.extend([0x80, 0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, b'y']);
        bytes.extend([0x82, 0x81, 0xff, 0, 0, 0, 0xff]);
        let expected = [
            "GET / HTTP/1.1\nHost: a\n",
            r#"text, 3 bytes: "abc""#,
            "ping, more follows, 0 bytes",
            r#"text, more follows, 130 bytes: "xxxx"..."#,
            r#"continuation, 1 byte: "y""#,
            "binary, 1 byte: 00",
        ];
        assert_eq!(told(true, &bytes), expected);
    }

    #[test]
    fn what_follows_a_refusal_is_not_taken_for_frames() {
        let answer = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\n\x81\x00";
        assert_eq!(told(false, answer), ["HTTP/1.1 403 Forbidden\nContent-Length: 2\n"]);
        let answer = b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 101 Switching\r\n\r\n\x81\x00";
        let expected = ["HTTP/1.1 103 Early Hints\n", "HTTP/1.1 101 Switching\n", "text, 0 bytes"];
        assert_eq!(told(false, answer), expected);
    }

    #[test]
    fn a_head_without_end_is_given_up() {
        let mut parser = DirectionParser::new(false);
        let mut told = 0;
        for _ in 0..20 {
            parser.watch(&[b'a'; 8 << 10], 4, &mut |_| told += 1);
        }
        assert!(matches!(parser.state, ParserState::Other));
        assert_eq!(told, 1);
    }
}
