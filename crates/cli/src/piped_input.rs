//! Piped input of `threadwire connect`: lines of a file or another command, read no further ahead than the connection takes them.

use std::io::{self, BufRead, Read};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use threadwire::worker::{EventLoop, Remote};

/// The longest line, in bytes.
pub(crate) const MAX_LINE: usize = 64 << 20;

/// How many lines are read before the first of them is sent.
const AHEAD: usize = 16;

pub(crate) enum Piped {
    Text(String),
    Binary(Vec<u8>),
    End,
    /// What was read can't be sent, or could not be read: why, in a sentence.
    Failed(String),
}

/// Reads lines on a thread of its own, since reading from standard input blocks; the loop of the calling thread turns when there
/// is one. With `is_binary`, they need not be UTF-8.
pub(crate) fn lines(is_binary: bool) -> Receiver<Piped> {
    let (send, receive) = mpsc::sync_channel(AHEAD);
    let remote = EventLoop::current().remote();
    thread::spawn(move || {
        let mut lines = Lines { input: io::stdin().lock(), is_binary, number: 0 };
        loop {
            let piped = lines.next();
            let is_last = matches!(piped, Piped::End | Piped::Failed(_));
            if send.send(piped).is_err() || !wake(&remote) || is_last {
                return;
            }
        }
    });
    receive
}

/// Has the loop look into the channel. False if it has ended.
fn wake(remote: &Remote) -> bool {
    remote.post(|_| {}).is_ok()
}

struct Lines<R> {
    input: R,
    is_binary: bool,
    /// Of the line that was read last, from 1.
    number: u64,
}

impl<R: BufRead> Lines<R> {
    fn next(&mut self) -> Piped {
        let mut line = Vec::new();
        // One byte more than a line may have, and its end.
        match (&mut self.input).take(MAX_LINE as u64 + 2).read_until(b'\n', &mut line) {
            Ok(0) => return Piped::End,
            Ok(_) => self.number += 1,
            Err(error) => return Piped::Failed(format!("can't read standard input: {error}")),
        }
        if line.last() == Some(&b'\n') {
            line.pop();
            if !self.is_binary && line.last() == Some(&b'\r') {
                line.pop();
            }
        }
        if line.len() > MAX_LINE {
            return Piped::Failed(format!(
                "line {} of standard input is longer than {} MiB",
                self.number,
                MAX_LINE >> 20
            ));
        }
        if self.is_binary {
            return Piped::Binary(line);
        }
        String::from_utf8(line).map_or_else(
            |error| {
                Piped::Failed(format!(
                    "line {} of standard input is not UTF-8, from its byte {} on; --binary sends lines as they are",
                    self.number,
                    error.utf8_error().valid_up_to() + 1
                ))
            },
            Piped::Text,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(input: &[u8], is_binary: bool) -> Vec<Piped> {
        let mut lines = Lines { input, is_binary, number: 0 };
        let mut read = Vec::new();
        loop {
            read.push(lines.next());
            if matches!(read.last(), Some(Piped::End | Piped::Failed(_))) {
                return read;
            }
        }
    }

    #[test]
    fn lines_lose_their_ends_and_the_last_needs_none() {
        let read = read("one\r\n\ngrüße".as_bytes(), false);
        let texts: Vec<&str> = read
            .iter()
            .filter_map(|piped| if let Piped::Text(text) = piped { Some(&**text) } else { None })
            .collect();
        assert_eq!(texts, ["one", "", "grüße"]);
        assert!(matches!(read.last(), Some(Piped::End)));
    }

    #[test]
    fn a_line_that_is_not_utf_8_is_named_and_ends_the_input() {
        let read = read(b"one\nab\xffc\nthree\n", false);
        let Some(Piped::Failed(why)) = read.last() else { panic!("it was taken") };
        assert!(why.starts_with("line 2 of standard input is not UTF-8, from its byte 3 on"), "{why}");
        assert_eq!(read.len(), 2);
    }

    #[test]
    fn binary_lines_are_taken_as_they_are() {
        let read = read(b"a\xff\r\nb", true);
        assert!(
            matches!(&read[..], [Piped::Binary(a), Piped::Binary(b), Piped::End] if a == b"a\xff\r" && b == b"b")
        );
    }

    #[test]
    fn a_line_has_a_limit() {
        let mut long = vec![b'x'; MAX_LINE];
        assert!(matches!(read(&long, false)[0], Piped::Text(_)));
        long.push(b'\n');
        assert!(matches!(read(&long, false)[0], Piped::Text(_)));
        long[MAX_LINE] = b'x';
        assert!(
            matches!(&read(&long, false)[..], [Piped::Failed(why)] if why.contains("longer than 64 MiB"))
        );
    }
}
