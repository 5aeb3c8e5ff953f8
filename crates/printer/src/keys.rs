//! The decoder of a terminal's bytes into keys.

/// What a person did at the keyboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Char(char),
    Enter,
    Backspace,
    Delete,
    Left,
    Right,
    WordLeft,
    WordRight,
    Home,
    End,
    Up,
    Down,
    /// Ctrl-U: everything before the cursor.
    KillBefore,
    /// Ctrl-K: everything behind the cursor.
    KillAfter,
    /// Ctrl-W: the word before the cursor.
    KillWord,
    /// Ctrl-L.
    Redraw,
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-D.
    EndOrDelete,
    /// Ctrl-Z.
    Suspend,
}

/// Longer than any sequence a keyboard sends. What exceeds it is not one.
const LONGEST: usize = 32;

/// Turns bytes into keys. It keeps what is incomplete, so it does not matter how the bytes are cut.
#[derive(Default)]
pub(crate) struct Decoder {
    state: State,
    /// The beginning of a character in UTF-8, or the parameters of a control sequence.
    kept: Vec<u8>,
}

#[derive(Default)]
enum State {
    #[default]
    Ground,
    /// In a character of so many bytes.
    Utf8(usize),
    /// Behind ESC.
    Escape,
    /// Behind ESC O.
    Single,
    /// Behind ESC [.
    Control,
}

impl Decoder {
    pub(crate) fn decode(&mut self, bytes: &[u8], mut each: impl FnMut(Key)) {
        for &byte in bytes {
            if let Some(key) = self.byte(byte) {
                each(key);
            }
        }
    }

    fn byte(&mut self, byte: u8) -> Option<Key> {
        match std::mem::take(&mut self.state) {
            State::Ground => self.ground(byte),
            State::Utf8(length) if byte & 0xc0 == 0x80 => self.continued(byte, length),
            // A character that was broken off is dropped.
            State::Utf8(_) => self.ground(byte),
            State::Escape => self.escaped(byte),
            State::Single => final_key(byte),
            State::Control => self.control(byte),
        }
    }

    fn ground(&mut self, byte: u8) -> Option<Key> {
        match byte {
            0x1b => {
                self.state = State::Escape;
                None
            }
            b' '..=b'~' => Some(Key::Char(byte.into())),
            0xc2..=0xdf => self.begin(byte, 2),
            0xe0..=0xef => self.begin(byte, 3),
            0xf0..=0xf4 => self.begin(byte, 4),
            0x80.. => None,
            _ => ctrl_key(byte),
        }
    }

    fn begin(&mut self, byte: u8, length: usize) -> Option<Key> {
        self.kept.clear();
        self.kept.push(byte);
        self.state = State::Utf8(length);
        None
    }

    fn continued(&mut self, byte: u8, length: usize) -> Option<Key> {
        self.kept.push(byte);
        if self.kept.len() < length {
            self.state = State::Utf8(length);
            return None;
        }
        let c = std::str::from_utf8(&self.kept).ok()?.chars().next()?;
        (!crate::wrap::is_harmful(c)).then_some(Key::Char(c))
    }

    fn escaped(&mut self, byte: u8) -> Option<Key> {
        match byte {
            b'[' => {
                self.kept.clear();
                self.state = State::Control;
                None
            }
            b'O' => {
                self.state = State::Single;
                None
            }
            0x1b => {
                self.state = State::Escape;
                None
            }
            b'b' => Some(Key::WordLeft),
            b'f' => Some(Key::WordRight),
            0x7f | 0x08 => Some(Key::KillWord),
            // The escape key, and then another one.
            0x00..0x20 => ctrl_key(byte),
            _ => None,
        }
    }

    fn control(&mut self, byte: u8) -> Option<Key> {
        match byte {
            0x20..0x40 if self.kept.len() < LONGEST => {
                self.kept.push(byte);
                self.state = State::Control;
                None
            }
            b'~' => match self.kept.split(|&byte| byte == b';').next()? {
                b"1" | b"7" => Some(Key::Home),
                b"4" | b"8" => Some(Key::End),
                b"3" => Some(Key::Delete),
                _ => None,
            },
            // With Alt (3) or Ctrl (5).
            b'C' if self.kept.ends_with(b";5") || self.kept.ends_with(b";3") => Some(Key::WordRight),
            b'D' if self.kept.ends_with(b";5") || self.kept.ends_with(b";3") => Some(Key::WordLeft),
            0x1b => {
                self.state = State::Escape;
                None
            }
            0x00..0x20 => ctrl_key(byte),
            _ => final_key(byte),
        }
    }
}

/// The keys that are told by the last byte of a sequence.
fn final_key(byte: u8) -> Option<Key> {
    match byte {
        b'A' => Some(Key::Up),
        b'B' => Some(Key::Down),
        b'C' => Some(Key::Right),
        b'D' => Some(Key::Left),
        b'H' => Some(Key::Home),
        b'F' => Some(Key::End),
        // The Enter of the numeric pad.
        b'M' => Some(Key::Enter),
        _ => None,
    }
}

fn ctrl_key(byte: u8) -> Option<Key> {
    // As on the keyboard: Ctrl-A is 1.
    match byte | 0x60 {
        _ if byte == 0x7f => Some(Key::Backspace),
        b'a' => Some(Key::Home),
        b'b' => Some(Key::Left),
        b'c' => Some(Key::Interrupt),
        b'd' => Some(Key::EndOrDelete),
        b'e' => Some(Key::End),
        b'f' => Some(Key::Right),
        b'h' => Some(Key::Backspace),
        b'i' => Some(Key::Char('\t')),
        b'j' | b'm' => Some(Key::Enter),
        b'k' => Some(Key::KillAfter),
        b'l' => Some(Key::Redraw),
        b'n' => Some(Key::Down),
        b'p' => Some(Key::Up),
        b'u' => Some(Key::KillBefore),
        b'w' => Some(Key::KillWord),
        b'z' => Some(Key::Suspend),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        let mut keys = Vec::new();
        Decoder::default().decode(bytes, |key| keys.push(key));
        keys
    }

    #[test]
    fn each_key_is_known_by_all_its_names() {
        for (names, key) in [
            (&["\r", "\n", "\x1bOM"][..], Key::Enter),
            (&["\x7f", "\x08"], Key::Backspace),
            (&["\x1b[3~"], Key::Delete),
            (&["\x1b[D", "\x1bOD", "\x02"], Key::Left),
            (&["\x1b[C", "\x1bOC", "\x06"], Key::Right),
            (&["\x1b[A", "\x1bOA", "\x10"], Key::Up),
            (&["\x1b[B", "\x1bOB", "\x0e"], Key::Down),
            (&["\x1b[H", "\x1bOH", "\x1b[1~", "\x1b[7~", "\x01"], Key::Home),
            (&["\x1b[F", "\x1bOF", "\x1b[4~", "\x1b[8~", "\x05"], Key::End),
            (&["\x1b[1;5D", "\x1b[1;3D", "\x1bb"], Key::WordLeft),
            (&["\x1b[1;5C", "\x1b[1;3C", "\x1bf"], Key::WordRight),
            (&["\x15"], Key::KillBefore),
            (&["\x0b"], Key::KillAfter),
            (&["\x17", "\x1b\x7f"], Key::KillWord),
            (&["\x0c"], Key::Redraw),
            (&["\x03"], Key::Interrupt),
            (&["\x04"], Key::EndOrDelete),
            (&["\x1a"], Key::Suspend),
            (&["\t"], Key::Char('\t')),
            (&["a"], Key::Char('a')),
            (&["ü"], Key::Char('ü')),
            (&["世"], Key::Char('世')),
            (&["👍"], Key::Char('👍')),
        ] {
            for name in names {
                assert_eq!(keys(name.as_bytes()), [key], "{name:?}");
                let twice = format!("{name}x{name}");
                assert_eq!(keys(twice.as_bytes()), [key, Key::Char('x'), key], "{name:?}");
            }
        }
    }

    #[test]
    fn it_does_not_matter_how_the_bytes_are_cut() {
        let bytes = "aü世👍\x1b[A\x1bOB\x1b[3~\x1b[1;5Cb\x1b[200~\r".as_bytes();
        let whole = keys(bytes);
        assert_eq!(whole.len(), 10);
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                let mut cut = Vec::new();
                let mut decoder = Decoder::default();
                for part in [&bytes[..first], &bytes[first..second], &bytes[second..]] {
                    decoder.decode(part, |key| cut.push(key));
                }
                assert_eq!(cut, whole);
            }
        }
    }

    #[test]
    fn whatever_comes_no_key_carries_a_control_character_and_the_next_one_is_understood() {
        for first in 0..=255 {
            for second in 0..=255 {
                for key in keys(&[first, second]) {
                    assert!(
                        !matches!(key, Key::Char(c) if c != '\t' && c.is_control()),
                        "{first} {second}: {key:?}"
                    );
                }
                // Twice: the first one may be the end of a sequence.
                let mut more = keys(&[first, second, b'~', b'\r']);
                assert_eq!(more.pop(), Some(Key::Enter), "{first} {second}");
            }
        }
        assert_eq!(keys(&[b"\x1b[".as_slice(), &[b'1'; 1000], b"\r"].concat()).pop(), Some(Key::Enter));
    }

    #[test]
    fn what_is_no_utf8_and_what_would_reorder_the_line_is_left_out() {
        assert_eq!(
            keys(b"\xffa\xc3b\xe4\xbdc\xed\xa0\x80d"),
            "abcd".chars().map(Key::Char).collect::<Vec<_>>()
        );
        assert_eq!(keys("a\u{202e}\u{85}b".as_bytes()), [Key::Char('a'), Key::Char('b')]);
    }
}
