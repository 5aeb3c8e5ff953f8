//! Codec of the raw server: zlib-rs, with the settings that Threadwire has by default.

use crate::fail;
use crate::fail::Result;
use zlib_rs::{DeflateConfig, DeflateFlush, InflateFlush};

/// Bytes left out at the end of a message (RFC 7692, section 7.2.1).
pub(crate) const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// Settings of an engine that compresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// 1 to 9.
    pub(crate) level: u8,
    /// 9 to 15.
    pub(crate) window_bits: u8,
    /// 1 to 9.
    pub(crate) mem_level: u8,
    /// Whether messages refer to earlier ones.
    pub(crate) takeover: bool,
}

impl Settings {
    /// Those of [`threadwire::Deflate::default`] on a server.
    pub(crate) const fn defaults(takeover: bool) -> Settings {
        Settings { level: 1, window_bits: 12, mem_level: 5, takeover }
    }

    /// An engine that compresses.
    pub(crate) fn engine(self) -> zlib_rs::Deflate {
        let mut config = DeflateConfig::new(i32::from(self.level));
        config.window_bits = -i32::from(self.window_bits);
        config.mem_level = i32::from(self.mem_level);
        zlib_rs::Deflate::new_with_config(config)
    }
}

/// The engines of one connection.
pub(crate) struct Codec {
    deflate: zlib_rs::Deflate,
    inflate: zlib_rs::Inflate,
    takeover: bool,
}

impl Codec {
    pub(crate) fn new(settings: Settings) -> Codec {
        let inflate = zlib_rs::Inflate::new(false, 15);
        Codec { deflate: settings.engine(), inflate, takeover: settings.takeover }
    }

    /// Inflates a message, with its tail, into `out`. Returns its length.
    pub(crate) fn inflate(&mut self, mut message: &[u8], out: &mut Vec<u8>) -> Result<usize> {
        if !self.takeover {
            self.inflate.reset(false);
        }
        let mut made = 0;
        loop {
            if out.len() == made {
                out.resize(2 * made + 4096, 0);
            }
            let (before_in, before_out) = (self.inflate.total_in(), self.inflate.total_out());
            let room = &mut out[made..];
            self.inflate
                .decompress(message, room, InflateFlush::SyncFlush)
                .map_err(|error| fail!("inflate: {error:?}"))?;
            message = &message[(self.inflate.total_in() - before_in) as usize..];
            made += (self.inflate.total_out() - before_out) as usize;
            if message.is_empty() && made < out.len() {
                return Ok(made);
            }
        }
    }

    /// Compresses a message to the end of `out`, without its tail.
    pub(crate) fn deflate(&mut self, message: &[u8], out: &mut Vec<u8>) -> Result<()> {
        if !self.takeover {
            self.deflate.reset();
        }
        let start = out.len();
        // Once that is enough, as messages are.
        out.resize(start + message.len() + message.len() / 8 + 64, 0);
        let (before_in, before_out) = (self.deflate.total_in(), self.deflate.total_out());
        self.deflate
            .compress(message, &mut out[start..], DeflateFlush::SyncFlush)
            .map_err(|error| fail!("deflate: {error:?}"))?;
        let made = (self.deflate.total_out() - before_out) as usize;
        let is_whole = (self.deflate.total_in() - before_in) as usize == message.len();
        out.truncate(start + made);
        if !is_whole || !out.ends_with(&TAIL) {
            return Err(fail!("a message did not fit"));
        }
        out.truncate(start + made - TAIL.len());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deflate::market::{Kind, Market};

    #[test]
    fn what_is_compressed_comes_out_again() {
        for takeover in [true, false] {
            let mut codec = Codec::new(Settings::defaults(takeover));
            let mut market = Market::new(3);
            let (mut wire, mut out) = (Vec::new(), Vec::new());
            for kind in [Kind::Trade, Kind::Book, Kind::Trade, Kind::Trade] {
                let message = market.next(kind);
                wire.clear();
                codec.deflate(message.as_bytes(), &mut wire).unwrap();
                assert!(wire.len() < message.len());
                wire.extend_from_slice(&TAIL);
                let length = codec.inflate(&wire, &mut out).unwrap();
                assert_eq!(&out[..length], message.as_bytes());
            }
        }
    }
}
