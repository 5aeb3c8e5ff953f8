//! Frames of a client that only echoes (RFC 6455, section 5.2): masked frames out, expected headers in.

/// Opcode of a text message (section 5.6).
pub(crate) const TEXT: u8 = 0x1;
/// Opcode of a binary message (section 5.6).
pub(crate) const BINARY: u8 = 0x2;
/// Opcode of a ping (section 5.5.2).
pub(crate) const PING: u8 = 0x9;
/// Opcode of a pong (section 5.5.3).
pub(crate) const PONG: u8 = 0xA;

const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;

/// Appends the header of a final, unmasked frame with the shortest length there is (section 5.2): what a server
/// must answer, byte for byte.
pub(crate) fn push_server_header(out: &mut Vec<u8>, opcode: u8, length: usize) {
    push_header(out, opcode, length, 0);
}

/// Appends a final frame masked with `key`, as a client must send it (section 5.3).
pub(crate) fn push_client_frame(out: &mut Vec<u8>, opcode: u8, payload: &[u8], key: [u8; 4]) {
    push_header(out, opcode, payload.len(), MASKED);
    out.extend_from_slice(&key);
    out.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
}

fn push_header(out: &mut Vec<u8>, opcode: u8, length: usize, masked: u8) {
    out.push(FIN | opcode);
    if length < 126 {
        out.push(masked | length as u8);
    } else if let Ok(length) = u16::try_from(length) {
        out.push(masked | 126);
        out.extend_from_slice(&length.to_be_bytes());
    } else {
        out.push(masked | 127);
        out.extend_from_slice(&(length as u64).to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server_header(length: usize) -> Vec<u8> {
        let mut out = Vec::new();
        push_server_header(&mut out, BINARY, length);
        out
    }

    #[test]
    fn lengths_take_the_shortest_form() {
        assert_eq!(server_header(125), [0x82, 125]);
        assert_eq!(server_header(126), [0x82, 126, 0, 126]);
        assert_eq!(server_header(65_535), [0x82, 126, 0xff, 0xff]);
        assert_eq!(server_header(65_536), [0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn a_client_frame_is_the_one_of_the_rfc() {
        // Section 5.7: a single-frame masked text message that contains "Hello".
        let mut out = Vec::new();
        push_client_frame(&mut out, TEXT, b"Hello", [0x37, 0xfa, 0x21, 0x3d]);
        assert_eq!(out, [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
    }
}
