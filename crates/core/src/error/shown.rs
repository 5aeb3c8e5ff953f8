//! Text of a peer within a message: as it came, but for what could forge a line of a log or steer a terminal.

use std::fmt::{self, Write as _};

/// Escapes what can't be seen. Quotes and backslashes stay: a realm reads as it was sent.
pub(crate) struct Shown<'a>(pub(crate) &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.chars() {
            match letter {
                '"' | '\'' | '\\' => f.write_char(letter)?,
                letter => write!(f, "{}", letter.escape_debug())?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_stay_and_control_characters_do_not() {
        for (text, shown) in [
            ("Basic realm=\"x\"", "Basic realm=\"x\""),
            ("it's C:\\", "it's C:\\"),
            ("größer ☕", "größer ☕"),
            ("a\r\nb\u{1b}[2J\u{7f}", "a\\r\\nb\\u{1b}[2J\\u{7f}"),
            ("\u{202e}gnp", "\\u{202e}gnp"),
        ] {
            assert_eq!(Shown(text).to_string(), shown);
        }
    }
}
