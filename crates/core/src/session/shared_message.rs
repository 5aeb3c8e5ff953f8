//! Message for many connections: framed once, and compressed once for all of them whose peers can read the same.

use threadwire_proto::deflate::Sharing;
use threadwire_proto::frame::Header;
use threadwire_proto::{Compress, Message, OpCode, Pool};

use super::buffers::Buffers;
use super::send::Framed;

/// The compressed frames of a message, of which there are as many as there are settings among the connections: one, as a
/// rule.
#[derive(Debug, Default)]
pub struct CompressedFrames(Vec<Known>);

/// A frame for connections with these settings; `None` where the message is better sent as it is.
type Known = (Sharing, Option<Box<[u8]>>);

impl CompressedFrames {
    /// The frame of the message for these settings, which is compressed now if it was not before. `None` if the message is
    /// better sent as it is.
    pub fn frame(
        &mut self,
        sharing: Sharing,
        (opcode, payload): (OpCode, &[u8]),
        compress: Compress,
        pool: &mut Pool,
    ) -> Option<&[u8]> {
        let known = self.0.iter().position(|(its, _)| *its == sharing);
        let place = known.unwrap_or_else(|| {
            let mut frame = Vec::new();
            let is_better = sharing.append_frame(opcode, payload, compress, pool, &mut frame);
            self.0.push((sharing, is_better.then(|| frame.into())));
            self.0.len() - 1
        });
        self.0[place].1.as_deref()
    }

    /// For how many settings the message was compressed.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it was compressed for none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A message with the frames that connections share.
#[derive(Debug)]
pub struct SharedMessage<'m> {
    message: Message<'m>,
    compress: Compress,
    /// Not compressed, as a server sends it.
    plain: Vec<u8>,
    compressed: CompressedFrames,
}

impl<'m> SharedMessage<'m> {
    /// Frames a message.
    pub fn new(message: Message<'m>, compress: Compress) -> SharedMessage<'m> {
        let (opcode, payload) = (message.opcode(), message.as_bytes());
        let header = Header { fin: true, rsv: 0, opcode, mask: None, length: payload.len() as u64 }.encode();
        let plain = [&header, payload].concat();
        SharedMessage { message, compress, plain, compressed: CompressedFrames::default() }
    }

    /// The frame for a connection that [shares](super::Session::sharing) this.
    pub fn framed(&mut self, sharing: Option<Sharing>, buffers: &Buffers) -> Framed<'_> {
        let (opcode, payload, compress) = (self.message.opcode(), self.message.as_bytes(), self.compress);
        let compressed = sharing.and_then(|sharing| {
            let pool = &mut buffers.shared.borrow_mut().pool;
            self.compressed.frame(sharing, (opcode, payload), compress, pool)
        });
        let is_compressed = compressed.is_some();
        Framed { frame: compressed.unwrap_or(&self.plain), is_compressed, opcode, payload, compress }
    }

    /// For how many settings it was compressed.
    pub fn compressions(&self) -> usize {
        self.compressed.len()
    }
}

#[cfg(test)]
mod tests {
    use threadwire_proto::{Config, Connection, Deflate, Role};

    use super::*;

    fn sharing(deflate: &Deflate) -> Sharing {
        let agreement = deflate.answer(&[deflate.offer()]).unwrap();
        let server = Connection::new(Role::Server, &Config::default()).with_deflate(deflate, agreement);
        server.sharing().unwrap()
    }

    #[test]
    fn a_message_is_compressed_once_for_all_with_the_same_settings() {
        let (mut frames, mut pool) = (CompressedFrames::default(), Pool::new());
        let mut frame = |sharing, payload: &[u8]| {
            frames.frame(sharing, (OpCode::Text, payload), Compress::Auto, &mut pool).map(<[u8]>::to_vec)
        };
        let (twelve, nine) = (Deflate::new(), Deflate::new().server_max_window_bits(9));
        let first = frame(sharing(&twelve), &[b'a'; 100]);
        assert!(first.is_some());
        // What it is given the second time is not looked at.
        assert_eq!(frame(sharing(&twelve), &[b'b'; 100]), first);
        assert_ne!(frame(sharing(&nine), &[b'b'; 100]), first);
        let short = Deflate::new().threshold(1000);
        assert_eq!(frame(sharing(&short), &[b'a'; 100]), None);
        assert_eq!(frame(sharing(&short), &[b'a'; 2000]), None, "it was found to be too short");
    }

    #[test]
    fn connections_share_the_frame_that_their_settings_allow() {
        let text = "news ".repeat(100);
        let mut message = SharedMessage::new(Message::Text(&text), Compress::Auto);
        let buffers = Buffers::default();
        let own = sharing(&Deflate::new());
        let plain = message.framed(None, &buffers).frame.to_vec();
        assert!(plain.ends_with(text.as_bytes()) && plain.len() == text.len() + 4);
        let compressed = message.framed(Some(own), &buffers).frame.as_ptr();
        let again = message.framed(Some(own), &buffers);
        assert!(again.is_compressed && again.frame.as_ptr() == compressed);
        assert_eq!(message.framed(None, &buffers).frame, plain);
        assert_eq!(message.compressions(), 1);
    }
}
