//! Other programs that speak TLS, as the peer.

use std::io::{ErrorKind, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use super::PATIENCE;

/// A program that runs. Ended with the test.
pub struct Tool {
    child: Child,
    input: Option<ChildStdin>,
    output: Receiver<(Kind, Vec<u8>)>,
    /// Its output and errors so far.
    heard: [Vec<u8>; 2],
}

/// Which of its streams.
type Kind = usize;

impl Tool {
    /// Starts it. `None`, with the reason on the terminal, if it is not there.
    pub fn start(program: &str, arguments: &[&str]) -> Option<Tool> {
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = match child {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                eprintln!("skipped: there is no {program} here");
                return None;
            }
            child => child.unwrap(),
        };
        let (tell, output) = mpsc::channel();
        let input = child.stdin.take();
        let streams: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for (kind, mut stream) in streams.into_iter().enumerate() {
            let tell = tell.clone();
            thread::spawn(move || {
                let mut bytes = [0; 4096];
                while let Ok(count @ 1..) = stream.read(&mut bytes) {
                    if tell.send((kind, bytes[..count].to_vec())).is_err() {
                        break;
                    }
                }
            });
        }
        Some(Tool { child, input, output, heard: Default::default() })
    }

    /// Writes to its input.
    pub fn say(&mut self, bytes: impl AsRef<[u8]>) {
        let input = self.input.as_mut().unwrap();
        input.write_all(bytes.as_ref()).unwrap();
        input.flush().unwrap();
    }

    /// Waits until its output, on either stream, has these bytes in it. Returns what came up to their end, since the last time.
    pub fn hear(&mut self, expected: impl AsRef<[u8]>) -> Vec<u8> {
        let expected = expected.as_ref();
        loop {
            for heard in &mut self.heard {
                let found = heard.windows(expected.len()).position(|window| window == expected);
                if let Some(start) = found {
                    return heard.drain(..start + expected.len()).collect();
                }
            }
            if !self.listen() {
                let said = self.heard.each_ref().map(|heard| String::from_utf8_lossy(heard));
                panic!("expected {:?}, but it said {said:?}", String::from_utf8_lossy(expected));
            }
        }
    }

    /// Takes what it says next. False if it ends or takes too long.
    fn listen(&mut self) -> bool {
        let Ok((kind, bytes)) = self.output.recv_timeout(PATIENCE / 2) else { return false };
        self.heard[kind].extend(bytes);
        true
    }

    /// The next bytes of its output, this many.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        while self.heard[0].len() < count {
            assert!(self.listen(), "expected {count} bytes, but it said {:?}", self.heard);
        }
        self.heard[0].drain(..count).collect()
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        // The process may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
