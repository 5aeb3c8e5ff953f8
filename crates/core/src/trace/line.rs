//! Lines of a trace, as data and as text.

use std::fmt;

use threadwire_proto::CloseCode;

/// One thing that went over the wire.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct TraceLine<'a> {
    /// A number that no other traced stream of this process has, to tell connections apart.
    pub stream: u64,
    /// Which way it went.
    pub direction: Direction,
    /// The event.
    pub event: TraceEvent<'a>,
}

/// Which way something went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the peer.
    Sent,
    /// From the peer.
    Received,
}

/// An event on the wire.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum TraceEvent<'a> {
    /// The head of a request or a response, with its lines ended by `\n`, and escaped where they were not printable.
    ///
    /// Hidden (shown as `***`) are: the values of headers whose name speaks of cookies, authorization, tokens, keys,
    /// secrets, passwords, signatures or sessions (`Sec-WebSocket-Key` is none of these); user names and passwords in URLs;
    /// parameters in queries whose name speaks of such things; and subprotocols that do, or that are too long for a name.
    ///
    /// Bytes behind a response that is no upgrade are not shown.
    Head(&'a str),
    /// A frame (RFC 6455, section 5.2).
    Frame {
        /// The opcode; one that is reserved breaks a rule.
        opcode: u8,
        /// Whether it is the last of its message.
        fin: bool,
        /// The reserved bits: RSV1 is 4, RSV2 is 2, RSV3 is 1. With RSV1 the payload is compressed.
        rsv: u8,
        /// How long the payload is, in bytes.
        length: u64,
        /// The payload, unmasked, or as much of it as is [to be shown](super::Trace::payload).
        payload: &'a [u8],
        /// Whether it is part of a text message, or of one of bytes. False for control frames.
        is_text: bool,
    },
}

/// The number of the stream, `>` for what is sent and `<` for what is received, and the event. A head has a line for each of
/// its own.
impl fmt::Display for TraceLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let arrow = if self.direction == Direction::Sent { '>' } else { '<' };
        let TraceEvent::Head(head) = self.event else {
            return write!(f, "{} {arrow} {}", self.stream, self.event);
        };
        for (number, line) in head.lines().enumerate() {
            if number > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{} {arrow} {line}", self.stream)?;
        }
        Ok(())
    }
}

impl fmt::Display for TraceEvent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TraceEvent::Frame { opcode, fin, rsv, length, payload, is_text } = *self else {
            let TraceEvent::Head(head) = self else { return Ok(()) };
            return f.write_str(head);
        };
        match opcode {
            0 => f.write_str("continuation")?,
            1 => f.write_str("text")?,
            2 => f.write_str("binary")?,
            8 => f.write_str("close")?,
            9 => f.write_str("ping")?,
            10 => f.write_str("pong")?,
            _ => write!(f, "opcode {opcode}")?,
        }
        if rsv != 0 {
            write!(f, ", rsv {rsv:03b}")?;
        }
        if !fin {
            f.write_str(", more follows")?;
        }
        let is_cut = payload.len() as u64 != length;
        if let (8, &[first, second, ref reason @ ..]) = (opcode, payload) {
            write!(f, ": {}", CloseCode::new(u16::from_be_bytes([first, second])).get())?;
            return if reason.is_empty() { Ok(()) } else { text(f, " ", reason, is_cut) };
        }
        write!(f, ", {length} {}", if length == 1 { "byte" } else { "bytes" })?;
        if payload.is_empty() {
            return Ok(());
        }
        if is_text && rsv == 0 {
            return text(f, ": ", payload, is_cut);
        }
        f.write_str(":")?;
        payload.iter().try_for_each(|byte| write!(f, " {byte:02x}"))?;
        f.write_str(if is_cut { " ..." } else { "" })
    }
}

/// Text, escaped. A character that is not there as a whole, since it was cut or goes on in the next frame, is left out.
fn text(f: &mut fmt::Formatter<'_>, before: &str, bytes: &[u8], is_cut: bool) -> fmt::Result {
    let whole = match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => &bytes[..error.valid_up_to()],
        _ => bytes,
    };
    write!(f, "{before}{:?}{}", String::from_utf8_lossy(whole), if is_cut { "..." } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(opcode: u8, payload: &[u8], length: u64) -> TraceEvent<'_> {
        TraceEvent::Frame { opcode, fin: true, rsv: 0, length, payload, is_text: opcode == 1 }
    }

    #[test]
    fn frames_read_as_what_they_are() {
        for (event, expected) in [
            (frame(1, b"hello", 5), r#"text, 5 bytes: "hello""#),
            (frame(1, "né".as_bytes(), 3), r#"text, 3 bytes: "né""#),
            (frame(1, &"né".as_bytes()[..2], 300), r#"text, 300 bytes: "n"..."#),
            (frame(1, b"a\xffb", 3), "text, 3 bytes: \"a\u{fffd}b\""),
            (frame(1, b"\x1b[2J\r\n\"", 7), r#"text, 7 bytes: "\u{1b}[2J\r\n\"""#),
            (frame(1, "\u{202e}".as_bytes(), 3), r#"text, 3 bytes: "\u{202e}""#),
            (frame(1, b"", 0), "text, 0 bytes"),
            (frame(2, b"\x00\xff", 2), "binary, 2 bytes: 00 ff"),
            (frame(2, b"\x00", 9), "binary, 9 bytes: 00 ..."),
            (frame(9, b"x", 1), "ping, 1 byte: 78"),
            (frame(8, b"", 0), "close, 0 bytes"),
            (frame(8, b"\x03", 1), "close, 1 byte: 03"),
            (frame(8, b"\x03\xe8", 2), "close: 1000"),
            (frame(8, b"\x03\xe9b\x07ye", 6), r#"close: 1001 "b\u{7}ye""#),
            (frame(11, b"", 0), "opcode 11, 0 bytes"),
        ] {
            assert_eq!(event.to_string(), expected);
        }
        let part =
            TraceEvent::Frame { opcode: 0, fin: false, rsv: 4, length: 1, payload: b"a", is_text: true };
        assert_eq!(part.to_string(), "continuation, rsv 100, more follows, 1 byte: 61");
    }

    #[test]
    fn each_line_of_a_head_says_whose_it_is() {
        let event = TraceEvent::Head("GET / HTTP/1.1\nHost: a\n");
        let line = TraceLine { stream: 7, direction: Direction::Sent, event };
        assert_eq!(line.to_string(), "7 > GET / HTTP/1.1\n7 > Host: a");
        let line = TraceLine { stream: 7, direction: Direction::Received, event: frame(1, b"", 0) };
        assert_eq!(line.to_string(), "7 < text, 0 bytes");
    }
}
