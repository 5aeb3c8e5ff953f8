//! Check of an echo server: messages of all sizes, types and fragmentations must come back as they were sent.

use threadwire::frame::OpCode;
use threadwire::{CloseCode, Error};

use crate::faces::{Face, Seen, Step};

const SIZES: [usize; 8] = [0, 1, 125, 126, 65_535, 65_536, 1 << 20, 10 << 20];

/// Runs every check, and says how each came out. Returns whether all went well.
pub(crate) fn run(face: Face, url: &str, quick: bool) -> Result<bool, Error> {
    let (mut passed, mut failed) = (0, 0);
    for check in checks(if quick { 1 << 16 } else { usize::MAX }) {
        let seen =
            face.exchange(url, &check.steps, (check.messages.len(), check.pongs.len()), check.close)?;
        let differences = check.compare(&seen);
        if differences.is_empty() {
            passed += 1;
            println!("ok    {}", check.name);
        } else {
            failed += 1;
            println!("WRONG {}", check.name);
            differences.iter().for_each(|difference| println!("      {difference}"));
        }
    }
    println!("{passed} passed, {failed} failed");
    Ok(failed == 0)
}

/// Something to send, and what must come back.
struct Check {
    name: String,
    steps: Vec<Step>,
    messages: Vec<(bool, Vec<u8>)>,
    pongs: Vec<Vec<u8>>,
    close: CloseCode,
}

/// All of them, but for messages that are longer than this.
fn checks(longest: usize) -> Vec<Check> {
    let mut checks = Vec::new();
    for is_text in [true, false] {
        let kind = if is_text { "text" } else { "binary" };
        for size in SIZES.into_iter().filter(|size| *size <= longest) {
            let payload = payload(is_text, size);
            let whole = vec![data(is_text, true, payload.clone())];
            checks.push(Check::echo(format!("{kind} of {size} bytes"), whole, is_text, &payload));

            // Three fragments, with a ping behind each of the first two.
            let (first, rest) = payload.split_at(size / 3);
            let (second, third) = rest.split_at(rest.len() / 2);
            let pings = [b"one".to_vec(), b"two".to_vec()];
            let steps = vec![
                data(is_text, false, first.to_vec()),
                control(OpCode::Ping, &pings[0]),
                Step { opcode: OpCode::Continuation, fin: false, payload: second.to_vec() },
                control(OpCode::Ping, &pings[1]),
                Step { opcode: OpCode::Continuation, fin: true, payload: third.to_vec() },
            ];
            let name = format!("{kind} of {size} bytes in three fragments, with pings between");
            checks.push(Check { pongs: pings.into(), ..Check::echo(name, steps, is_text, &payload) });
        }
        let many: Vec<Vec<u8>> = (0..1000).map(|size| payload(is_text, size)).collect();
        checks.push(Check {
            name: format!("1,000 {kind} messages in a row come back in order"),
            steps: many.iter().map(|payload| data(is_text, true, payload.clone())).collect(),
            messages: many.into_iter().map(|payload| (is_text, payload)).collect(),
            pongs: Vec::new(),
            close: CloseCode::NORMAL,
        });
    }
    for code in [1000, 1001, 1011, 3000, 4999] {
        checks.push(Check {
            name: format!("a close with {code} is answered with its code"),
            steps: Vec::new(),
            messages: Vec::new(),
            pongs: Vec::new(),
            close: CloseCode::new(code),
        });
    }
    checks
}

fn data(is_text: bool, fin: bool, payload: Vec<u8>) -> Step {
    Step { opcode: if is_text { OpCode::Text } else { OpCode::Binary }, fin, payload }
}

fn control(opcode: OpCode, payload: &[u8]) -> Step {
    Step { opcode, fin: true, payload: payload.to_vec() }
}

/// A payload of exactly this many bytes; text has characters of one to four bytes, and ends in ASCII.
fn payload(is_text: bool, size: usize) -> Vec<u8> {
    if !is_text {
        return (0..size).map(|index| (index * 31 % 251) as u8).collect();
    }
    let mut text: String = "aé€😀".chars().cycle().take(size / 4).collect();
    while text.len() > size {
        text.pop();
    }
    text.extend(std::iter::repeat_n('z', size - text.len()));
    text.into_bytes()
}

impl Check {
    fn echo(name: String, steps: Vec<Step>, is_text: bool, payload: &[u8]) -> Check {
        let messages = vec![(is_text, payload.to_vec())];
        Check { name, steps, messages, pongs: Vec::new(), close: CloseCode::NORMAL }
    }

    /// A failed check.
    fn compare(&self, seen: &Seen) -> Vec<String> {
        let mut differences = Vec::new();
        if self.messages.len() != seen.messages.len() {
            differences.push(format!(
                "{} messages came back, not {}",
                seen.messages.len(),
                self.messages.len()
            ));
        }
        for (number, (expected, found)) in self.messages.iter().zip(&seen.messages).enumerate() {
            if let Some(difference) = compare(expected, found) {
                differences.push(format!("message {}: {difference}", number + 1));
                break;
            }
        }
        if !seen.hides_pongs && self.pongs != seen.pongs {
            differences.push(format!("the pongs are {:?}, not {:?}", seen.pongs, self.pongs));
        }
        match (seen.closed, &seen.error) {
            (Some((code, true)), None) if code == self.close => {}
            (Some((code, clean)), error) => {
                let clean = if clean { "cleanly" } else { "not cleanly" };
                let why = error.as_ref().map_or(String::new(), |error| format!(": {error}"));
                differences.push(format!("closed with {code}, {clean}, not with {}{why}", self.close));
            }
            (None, _) => differences.push("the connection was not closed".to_owned()),
        }
        differences
    }
}

/// The first difference between two messages.
fn compare(expected: &(bool, Vec<u8>), found: &(bool, Vec<u8>)) -> Option<String> {
    let kind = |is_text| if is_text { "text" } else { "binary" };
    if expected.0 != found.0 {
        return Some(format!("it is {}, not {}", kind(found.0), kind(expected.0)));
    }
    if expected.1.len() != found.1.len() {
        return Some(format!("it has {} bytes, not {}", found.1.len(), expected.1.len()));
    }
    let at = expected.1.iter().zip(&found.1).position(|(expected, found)| expected != found)?;
    Some(format!("byte {at} is {:#04x}, not {:#04x}", found.1[at], expected.1[at]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_differs() {
        let check = Check::echo("hello".into(), Vec::new(), true, b"hello");
        let fine = |messages: Vec<(bool, Vec<u8>)>| Seen {
            messages,
            closed: Some((CloseCode::NORMAL, true)),
            ..Seen::default()
        };
        assert!(check.compare(&fine(vec![(true, b"hello".to_vec())])).is_empty());
        for (seen, expected) in [
            (fine(vec![]), "0 messages came back, not 1"),
            (fine(vec![(false, b"hello".to_vec())]), "message 1: it is binary, not text"),
            (fine(vec![(true, b"hell".to_vec())]), "message 1: it has 4 bytes, not 5"),
            (fine(vec![(true, b"hallo".to_vec())]), "message 1: byte 1 is 0x61, not 0x65"),
            (
                Seen { pongs: vec![b"a".to_vec()], ..fine(vec![(true, b"hello".to_vec())]) },
                "the pongs are [[97]], not []",
            ),
        ] {
            assert_eq!(check.compare(&seen), [expected]);
        }
        let late = Seen { messages: vec![(true, b"hello".to_vec())], ..Seen::default() };
        assert_eq!(check.compare(&late), ["the connection was not closed"]);
    }

    #[test]
    fn payloads_have_the_size_asked_for_and_text_is_utf8() {
        for size in SIZES {
            assert_eq!(payload(false, size).len(), size);
            assert_eq!(String::from_utf8(payload(true, size)).unwrap().len(), size);
        }
    }
}
