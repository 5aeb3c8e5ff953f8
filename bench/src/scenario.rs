//! Scenarios: how many connections, how many messages in flight on each, how long, and of what kind.

use crate::frame::{BINARY, TEXT};
use serde::Serialize;
use std::fmt;

/// The kind of the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// A binary message of all byte values.
    Binary,
    /// A text message of ASCII.
    Ascii,
    /// A text message of scripts whose characters take 1 to 4 bytes.
    Utf8,
}

/// One workload. Its payload is sent over and over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Scenario {
    /// How many connections are open at the same time.
    pub(crate) connections: usize,
    /// How many messages each of them has under way.
    pub(crate) in_flight: usize,
    /// The payload of each message.
    pub(crate) bytes: usize,
    /// The content of the messages.
    pub(crate) kind: Kind,
}

/// Connections, messages in flight on each, bytes of payload.
const SHAPES: [(usize, usize, usize); 7] =
    [(1, 1, 20), (64, 1, 20), (64, 16, 20), (16, 1, 1024), (16, 16, 1024), (8, 1, 16_384), (4, 1, 262_144)];
/// The shapes that are also measured with text of many scripts.
const MANY_SCRIPTS: [(usize, usize, usize); 2] = [(16, 1, 1024), (16, 16, 1024)];

/// All scenarios, in the order of the report.
pub(crate) fn all() -> Vec<Scenario> {
    let of = |kind| move |(connections, in_flight, bytes)| Scenario { connections, in_flight, bytes, kind };
    let binary = SHAPES.into_iter().map(of(Kind::Binary));
    binary
        .chain(SHAPES.into_iter().map(of(Kind::Ascii)))
        .chain(MANY_SCRIPTS.into_iter().map(of(Kind::Utf8)))
        .collect()
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Kind::Binary => "binary",
            Kind::Ascii => "ascii",
            Kind::Utf8 => "utf8",
        })
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}x{}x{}-{}", self.connections, self.in_flight, self.bytes, self.kind)
    }
}

impl Scenario {
    /// Into how many rounds, each with a new process, a round is divided.
    ///
    /// The cost of long messages depends on what a process and its sockets happen to be given (memory, windows), by more
    /// than servers differ: only many short lives of it have a stable median.
    pub(crate) fn parts(&self) -> u32 {
        if self.bytes > 65_536 { 4 } else { 1 }
    }

    /// The opcode of its messages.
    pub(crate) fn opcode(&self) -> u8 {
        if self.kind == Kind::Binary { BINARY } else { TEXT }
    }

    /// The payload of message `number`: they differ, so that replies in the wrong order are seen.
    pub(crate) fn payload(&self, number: usize) -> Vec<u8> {
        const PHRASE: &str =
            "Grüße! Привет, мир. 你好，世界 🌍🚀 — こんにちは, שלום, नमस्ते. Plain words stand between them. ";
        match self.kind {
            Kind::Binary => (0..self.bytes).map(|at| (at * 31 + number * 7) as u8).collect(),
            Kind::Ascii => (0..self.bytes).map(|at| b' ' + ((at * 31 + number * 7) % 95) as u8).collect(),
            Kind::Utf8 => {
                let mut text = String::with_capacity(self.bytes);
                for character in PHRASE.chars().cycle().skip(number % PHRASE.chars().count()) {
                    if text.len() + character.len_utf8() > self.bytes {
                        break;
                    }
                    text.push(character);
                }
                while text.len() < self.bytes {
                    text.push('.');
                }
                text.into_bytes()
            }
        }
    }
}

/// A filter of the command line: `SCENARIO`, `SCENARIO/SERVER` or `/SERVER`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    scenario: String,
    server: String,
}

impl std::str::FromStr for Filter {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Filter, Self::Err> {
        let (scenario, server) = text.split_once('/').unwrap_or((text, ""));
        Ok(Filter { scenario: scenario.to_owned(), server: server.to_owned() })
    }
}

impl Filter {
    /// Whether `filters` let this pair through: one of them has a part of both names, or there are none.
    pub(crate) fn admits(filters: &[Filter], scenario: &str, server: &str) -> bool {
        filters.is_empty()
            || filters
                .iter()
                .any(|filter| scenario.contains(&filter.scenario) && server.contains(&filter.server))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_have_their_length_and_kind() {
        for scenario in all() {
            for number in [0, 1, 15] {
                let payload = scenario.payload(number);
                assert_eq!(payload.len(), scenario.bytes, "{scenario}");
                match scenario.kind {
                    Kind::Binary => {}
                    Kind::Ascii => assert!(payload.is_ascii(), "{scenario}"),
                    Kind::Utf8 => {
                        let text = String::from_utf8(payload).unwrap();
                        let widths: Vec<usize> =
                            (1..=4).filter(|w| text.chars().any(|c| c.len_utf8() == *w)).collect();
                        assert_eq!(widths, [1, 2, 3, 4], "{scenario}");
                    }
                }
            }
            assert_ne!(scenario.payload(0), scenario.payload(1), "{scenario}");
        }
    }

    #[test]
    fn names_of_scenarios_are_unique() {
        let mut names: Vec<String> = all().iter().map(Scenario::to_string).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all().len());
    }

    #[test]
    fn filters_name_a_part_of_the_scenario_and_of_the_server() {
        let admits = |filters: &[&str], scenario, server| {
            let filters: Vec<Filter> = filters.iter().map(|text| text.parse().unwrap()).collect();
            Filter::admits(&filters, scenario, server)
        };
        assert!(admits(&[], "1x1x20-binary", "raw"));
        assert!(admits(&["binary"], "1x1x20-binary", "raw"));
        assert!(!admits(&["ascii"], "1x1x20-binary", "raw"));
        assert!(admits(&["/raw"], "1x1x20-binary", "raw"));
        assert!(!admits(&["1x1x20/other"], "1x1x20-binary", "raw"));
        assert!(admits(&["ascii", "1x1x20/raw"], "1x1x20-binary", "raw"));
    }
}
