//! Settings of the codec, and what each is worth: size, time and memory.

use super::codec::{Codec, Settings, TAIL};
use super::market::{Kind, Market};
use crate::counting_allocator;
use crate::fail::Result;
use crate::measure::own_cpu_time;
use std::time::Duration;

const LEVELS: [u8; 4] = [1, 3, 6, 9];
const WINDOW_BITS: [u8; 3] = [9, 12, 15];
const MEM_LEVELS: [u8; 3] = [1, 5, 8];

/// Messages of which sizes and times are the mean, at least: enough to fill any window.
const MESSAGES: usize = 300;

/// The cost of a setting for one kind of message.
struct Cost {
    /// Bytes on the wire, without headers, as a part of the message.
    wire: f64,
    /// Nanoseconds to compress a message.
    deflate_ns: f64,
    /// Nanoseconds to inflate it again.
    inflate_ns: f64,
}

/// Prints the tables.
pub(super) fn run(kinds: &[Kind], takeovers: &[bool], time: Duration, markdown: bool) -> Result<()> {
    let grid = LEVELS.into_iter().flat_map(|level| {
        WINDOW_BITS.into_iter().flat_map(move |window_bits| {
            MEM_LEVELS.map(|mem_level| Settings { level, window_bits, mem_level, takeover: true })
        })
    });
    // All are too many for a document: it has those that differ from the defaults in one.
    let rows: Vec<Settings> = grid.filter(|settings| !markdown || differences(*settings) <= 1).collect();
    let (measurements, time) = (rows.len() * kinds.len() * takeovers.len(), time.as_secs_f64());
    eprintln!("{measurements} measurements of {time} s: about {:.0} s", measurements as f64 * time);
    eprintln!("{:.1} KiB to inflate", kib(memory(|| zlib_rs::Inflate::new(false, 15))));
    let mut columns = Vec::new();
    for kind in kinds {
        for takeover in takeovers {
            let takeover = if *takeover { "takeover" } else { "no takeover" };
            columns.push(format!("{}, {takeover}", kind.title()));
        }
    }
    if markdown {
        println!(
            "| Level, window bits, memory level | to compress | {} |\n| --- | --: |{}",
            columns.join(" | "),
            " --: |".repeat(columns.len())
        );
    } else {
        println!("level  window  memory   KiB to compress");
        println!("{:38}{}", "", columns.iter().map(|column| format!("{column:>36}")).collect::<String>());
        let head = format!("{:>9}{:>14}{:>13}", "wire", "deflate ns", "inflate ns");
        println!("{:38}{}", "", head.repeat(columns.len()));
    }
    for settings in rows {
        let Settings { level, window_bits, mem_level, .. } = settings;
        let memory = kib(memory(|| settings.engine()));
        let mut cells = Vec::new();
        for kind in kinds {
            for takeover in takeovers {
                let cost = measure(Settings { takeover: *takeover, ..settings }, *kind, time)?;
                let Cost { wire, deflate_ns, inflate_ns } = cost;
                cells.push(if markdown {
                    format!("{wire:.3}, {:.1} µs + {:.1} µs", deflate_ns / 1e3, inflate_ns / 1e3)
                } else {
                    format!("{wire:9.3}{deflate_ns:14.0}{inflate_ns:13.0}")
                });
            }
        }
        if markdown {
            let default = if differences(settings) == 0 { " (the defaults)" } else { "" };
            println!(
                "| {level}, {window_bits}, {mem_level}{default} | {memory:.0} KiB | {} |",
                cells.join(" | ")
            );
        } else {
            println!("{level:5}  {window_bits:6}  {mem_level:6}  {memory:13.1}{:2}{}", "", cells.concat());
        }
    }
    Ok(())
}

/// In how many settings it differs from the defaults.
fn differences(settings: Settings) -> usize {
    let defaults = Settings::defaults(true);
    [
        settings.level != defaults.level,
        settings.window_bits != defaults.window_bits,
        settings.mem_level != defaults.mem_level,
    ]
    .into_iter()
    .filter(|differs| *differs)
    .count()
}

/// Bytes that what is made takes on the heap.
fn memory<T>(make: impl Fn() -> T) -> i64 {
    counting_allocator::start();
    let before = counting_allocator::live();
    let made = make();
    let bytes = counting_allocator::live() - before;
    drop(made);
    bytes
}

fn kib(bytes: i64) -> f64 {
    bytes as f64 / 1024.0
}

/// Compresses and inflates the messages of one feed for about so many seconds.
fn measure(settings: Settings, kind: Kind, seconds: f64) -> Result<Cost> {
    let (mut sender, mut receiver) = (Codec::new(settings), Codec::new(settings));
    let mut market = Market::new(1);
    let (mut wire, mut out) = (Vec::new(), Vec::new());
    let (mut messages, mut bytes, mut sent, mut deflating, mut inflating) = (0, 0, 0, 0, 0);
    while messages < MESSAGES || (deflating + inflating) as f64 / 1e9 < seconds {
        let message = market.next(kind);
        wire.clear();
        let begin = own_cpu_time();
        sender.deflate(message.as_bytes(), &mut wire)?;
        let middle = own_cpu_time();
        sent += wire.len();
        wire.extend_from_slice(&TAIL);
        let resumed = own_cpu_time();
        receiver.inflate(&wire, &mut out)?;
        inflating += own_cpu_time() - resumed;
        deflating += middle - begin;
        bytes += message.len();
        messages += 1;
    }
    let mean = |sum: u64| sum as f64 / messages as f64;
    Ok(Cost { wire: sent as f64 / bytes as f64, deflate_ns: mean(deflating), inflate_ns: mean(inflating) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_setting_of_a_document_differs_from_the_defaults_at_most() {
        let settings =
            |level, window_bits, mem_level| Settings { level, window_bits, mem_level, takeover: true };
        assert_eq!(differences(settings(1, 12, 5)), 0);
        assert_eq!(differences(settings(6, 12, 5)), 1);
        assert_eq!(differences(settings(6, 15, 8)), 3);
    }

    #[test]
    fn a_longer_window_makes_messages_shorter() {
        let wire = |window_bits, takeover| {
            let settings = Settings { level: 6, window_bits, mem_level: 8, takeover };
            measure(settings, Kind::Trade, 0.0).unwrap().wire
        };
        assert!(wire(12, true) < wire(9, true));
        assert!(wire(9, true) < wire(9, false));
    }
}
