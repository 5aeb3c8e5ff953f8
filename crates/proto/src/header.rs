//! Frame headers on the wire (RFC 6455, section 5.2).

use crate::opcode::OpCode;
use crate::{Violation, mask};

/// The longest payload of a control frame, in bytes (RFC 6455, section 5.5).
pub const MAX_CONTROL: usize = 125;

/// The header of a frame.
///
/// ```
/// use threadwire_proto::frame::{Header, OpCode};
///
/// let header = Header { fin: true, rsv: 0, opcode: OpCode::Text, mask: None, length: 5 };
/// let wire = header.encode();
/// assert_eq!(&*wire, b"\x81\x05");
/// assert_eq!(Header::parse(&wire), Ok(Some((header, 2))));
/// assert_eq!(Header::parse(b"\x81"), Ok(None), "more bytes are needed");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Whether the frame is the last one of its message.
    pub fin: bool,
    /// The three reserved bits: RSV1 is 4, RSV2 is 2, RSV3 is 1.
    pub rsv: u8,
    /// The opcode of the frame.
    pub opcode: OpCode,
    /// The key that the payload is masked with, if it is.
    pub mask: Option<[u8; 4]>,
    /// The length of the payload in bytes.
    pub length: u64,
}

impl Header {
    /// The longest header, in bytes.
    pub const MAX_SIZE: usize = 14;
    /// The reserved bit that marks a compressed message (RFC 7692, section 7.2).
    pub const RSV1: u8 = 4;

    /// Reads a header from the front of `bytes`: the header and its size, or `None` if more bytes are needed. What
    /// can be refused is refused at the first byte that shows it.
    ///
    /// # Errors
    ///
    /// A [`Violation`] of what a header shows by itself: its opcode, its length, and what control frames must not be.
    /// Reserved bits and the mask are left to the [`Reader`](crate::Reader), as is whether the frame may come now.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<Option<(Header, usize)>, Violation> {
        let [first, rest @ ..] = bytes else { return Ok(None) };
        let bits = first & 0x0f;
        let Some(opcode) = OpCode::parse(bits) else { return Err(Violation::ReservedOpCode(bits)) };
        let fin = first & 0x80 != 0;
        let rsv = first >> 4 & 0x7;
        if !fin && opcode.is_control() {
            return Err(Violation::FragmentedControl(opcode));
        }
        let [second, rest @ ..] = rest else { return Ok(None) };
        let short = second & 0x7f;
        let (length, rest, size) = match short {
            0..=125 => (u64::from(short), rest, 2),
            _ if opcode.is_control() => return Err(Violation::ControlTooLong(opcode)),
            126 => {
                let Some((length, rest)) = rest.split_first_chunk() else { return Ok(None) };
                let length = u64::from(u16::from_be_bytes(*length));
                if length < 126 {
                    return Err(Violation::LengthNotMinimal(length));
                }
                (length, rest, 4)
            }
            _ => {
                let Some((length, rest)) = rest.split_first_chunk() else { return Ok(None) };
                let length = u64::from_be_bytes(*length);
                if length >> 63 != 0 {
                    return Err(Violation::LengthTooLarge);
                }
                if length <= u64::from(u16::MAX) {
                    return Err(Violation::LengthNotMinimal(length));
                }
                (length, rest, 10)
            }
        };
        if second & 0x80 == 0 {
            return Ok(Some((Header { fin, rsv, opcode, mask: None, length }, size)));
        }
        let Some(key) = rest.first_chunk() else { return Ok(None) };
        Ok(Some((Header { fin, rsv, opcode, mask: Some(*key), length }, size + 4)))
    }

    /// The header as it goes on the wire, its length in the shortest form.
    #[inline]
    pub fn encode(&self) -> EncodedHeader {
        let mut bytes = [0; Header::MAX_SIZE];
        let [first, masked] = self.first_bytes();
        bytes[0] = first;
        let mut size = match self.length {
            0..=125 => {
                bytes[1] = masked | self.length as u8;
                2
            }
            126..=0xffff => {
                bytes[1] = masked | 126;
                bytes[2..4].copy_from_slice(&(self.length as u16).to_be_bytes());
                4
            }
            _ => {
                bytes[1] = masked | 127;
                bytes[2..10].copy_from_slice(&self.length.to_be_bytes());
                10
            }
        };
        if let Some(key) = self.mask {
            bytes[size..size + 4].copy_from_slice(&key);
            size += 4;
        }
        EncodedHeader { bytes, size: size as u8 }
    }

    /// Appends the frame to `out`: the header, and the payload, masked if the header has a key. The payload must be as
    /// long as the header says.
    ///
    /// ```
    /// use threadwire_proto::frame::{Header, OpCode};
    ///
    /// let header = Header { fin: true, rsv: 0, opcode: OpCode::Text, mask: Some([1, 1, 0, 0]), length: 2 };
    /// let mut out = Vec::new();
    /// header.append_to(&mut out, b"hi");
    /// assert_eq!(out, b"\x81\x82\x01\x01\0\0ih");
    /// ```
    #[inline]
    pub fn append_to(&self, out: &mut Vec<u8>, payload: &[u8]) {
        debug_assert_eq!(self.length, payload.len() as u64);
        out.reserve(Header::MAX_SIZE + payload.len());
        // Each form is appended as a whole: bytes that are put together in memory and read back at once are slow to read.
        let [first, masked] = self.first_bytes();
        match self.length {
            0..=125 => out.extend_from_slice(&[first, masked | self.length as u8]),
            126..=0xffff => {
                let [high, low] = (self.length as u16).to_be_bytes();
                out.extend_from_slice(&[first, masked | 126, high, low]);
            }
            _ => {
                out.extend_from_slice(&[first, masked | 127]);
                out.extend_from_slice(&self.length.to_be_bytes());
            }
        }
        match self.mask {
            Some(key) => {
                out.extend_from_slice(&key);
                mask::append(out, payload, key);
            }
            None => out.extend_from_slice(payload),
        }
    }

    /// The first byte, and the mask bit of the second.
    #[inline]
    fn first_bytes(&self) -> [u8; 2] {
        let first = u8::from(self.fin) << 7 | (self.rsv & 0x7) << 4 | self.opcode as u8;
        [first, u8::from(self.mask.is_some()) << 7]
    }
}

/// A header as bytes; dereferences to them.
#[derive(Clone, Copy)]
pub struct EncodedHeader {
    bytes: [u8; Header::MAX_SIZE],
    size: u8,
}

impl std::ops::Deref for EncodedHeader {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.size)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_encodes_it_parses_and_every_cut_asks_for_more() {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536, 1 << 40, (1 << 63) - 1] {
            for mask in [None, Some([1, 2, 3, 4])] {
                let header = Header { fin: true, rsv: 0, opcode: OpCode::Binary, mask, length };
                let wire = header.encode();
                assert_eq!(Header::parse(&wire), Ok(Some((header, wire.len()))));
                for cut in 0..wire.len() {
                    assert_eq!(Header::parse(&wire[..cut]), Ok(None), "{cut} of {} bytes", wire.len());
                }
            }
        }
    }

    #[test]
    fn refuses_reserved_opcodes_at_the_first_byte() {
        for bits in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
            assert_eq!(Header::parse(&[0x80 | bits]), Err(Violation::ReservedOpCode(bits)));
        }
    }

    #[test]
    fn refuses_control_frames_that_are_fragmented_or_long() {
        for opcode in [OpCode::Close, OpCode::Ping, OpCode::Pong] {
            assert_eq!(Header::parse(&[opcode as u8]), Err(Violation::FragmentedControl(opcode)));
            assert_eq!(Header::parse(&[0x80 | opcode as u8, 126]), Err(Violation::ControlTooLong(opcode)));
            assert_eq!(Header::parse(&[0x80 | opcode as u8, 127]), Err(Violation::ControlTooLong(opcode)));
        }
    }

    #[test]
    fn refuses_lengths_that_are_not_in_their_shortest_form() {
        assert_eq!(Header::parse(b"\x82\x7e\x00\x7d"), Err(Violation::LengthNotMinimal(125)));
        assert_eq!(
            Header::parse(b"\x82\x7f\x00\x00\x00\x00\x00\x00\xff\xff"),
            Err(Violation::LengthNotMinimal(65_535))
        );
        assert_eq!(
            Header::parse(b"\x82\x7f\x80\x00\x00\x00\x00\x00\x00\x00"),
            Err(Violation::LengthTooLarge)
        );
    }

    #[test]
    fn keeps_the_reserved_bits() {
        for rsv in 0..8 {
            let header = Header { fin: false, rsv, opcode: OpCode::Text, mask: None, length: 0 };
            assert_eq!(Header::parse(&header.encode()), Ok(Some((header, 2))));
        }
    }
}
