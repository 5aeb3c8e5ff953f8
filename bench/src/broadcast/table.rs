//! Tables of broadcasts.

use crate::stats::{median, quantile, ratios};
use std::fmt::Write as _;

/// One measurement of one arm.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) arm: &'static str,
    pub(crate) connections: u32,
    /// Nanoseconds of CPU that the server took for one message to one connection.
    pub(crate) cpu_ns: f64,
    /// Messages that one connection got in a second, times the connections.
    pub(crate) per_second: f64,
}

/// What is told of an arm: medians over the rounds.
struct Row {
    arm: &'static str,
    cpu_ns: f64,
    /// That as multiple of the first arm's of the same round, and the quartiles of it.
    ratio: [f64; 3],
    per_second: f64,
}

/// A row for each arm, in this order; the others are compared with the first.
fn rows(samples: &[Sample], arms: &[&'static str], connections: u32) -> Vec<Row> {
    let Some(first) = arms.first() else { return Vec::new() };
    // In each round every arm is measured once: so the n-th samples of two arms belong together.
    let values = |arm: &str, of: fn(&Sample) -> f64| -> Vec<f64> {
        let these = samples.iter().filter(|sample| sample.arm == arm && sample.connections == connections);
        these.map(of).collect()
    };
    let row = |arm: &&'static str| {
        let cpu = values(arm, |sample| sample.cpu_ns);
        let to_first = ratios(&cpu, &values(first, |sample| sample.cpu_ns));
        Row {
            arm,
            cpu_ns: median(&cpu),
            ratio: [0.5, 0.25, 0.75].map(|at| quantile(&to_first, at)),
            per_second: median(&values(arm, |sample| sample.per_second)),
        }
    };
    arms.iter().map(row).collect()
}

/// The table of one number of connections, for a terminal.
pub(crate) fn table(samples: &[Sample], arms: &[&'static str], connections: u32, bytes: u32) -> String {
    let width = arms.iter().map(|arm| arm.len()).max().unwrap_or(0);
    let mut out = format!(
        "\n{connections} connections, each of which gets every message of {bytes} bytes\n\
         {:width$}  server CPU/delivery      x {} (quartiles)  deliveries/s\n",
        "",
        arms.first().unwrap_or(&""),
    );
    for Row { arm, cpu_ns, ratio: [middle, low, high], per_second } in rows(samples, arms, connections) {
        let spread = format!("{middle:.2} ({low:.2} - {high:.2})");
        writeln!(out, "{arm:width$}  {cpu_ns:16.0} ns  {spread:>21}  {per_second:12.0}")
            .expect("a String takes all that is written to it");
    }
    out
}

/// One table of all numbers of connections, for a document.
pub(crate) fn markdown(samples: &[Sample], arms: &[&'static str], connections: &[u32], bytes: u32) -> String {
    let mut out = String::new();
    let mut line = |cells: Vec<String>| {
        writeln!(out, "| {} |", cells.join(" | ")).expect("a String takes all that is written to it");
    };
    let Some((first, others)) = arms.split_first() else { return String::new() };
    let title = format!(
        "Server CPU time per delivery of {bytes} bytes, in ns of the raw baseline, and as multiples of it"
    );
    line(
        [title, (*first).to_owned()].into_iter().chain(others.iter().map(|arm| (*arm).to_owned())).collect(),
    );
    line(["---".to_owned()].into_iter().chain(arms.iter().map(|_| "--:".to_owned())).collect());
    for connections in connections {
        let rows = rows(samples, arms, *connections);
        let Some((first, others)) = rows.split_first() else { continue };
        let head = [format!("{connections} connections"), format!("{:.0}", first.cpu_ns)];
        line(head.into_iter().chain(others.iter().map(|row| format!("{:.2}", row.ratio[0]))).collect());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The machine gets slower from round to round; the ratio does not.
    fn samples() -> Vec<Sample> {
        let mut samples = Vec::new();
        for slow in [1.0, 2.0, 3.0] {
            for (arm, cpu_ns) in [("raw", 2000.0), ("other", 3000.0)] {
                for connections in [10, 20] {
                    let (cpu_ns, per_second) = (cpu_ns * slow, 1e9 / cpu_ns / slow);
                    samples.push(Sample { arm, connections, cpu_ns, per_second });
                }
            }
        }
        samples
    }

    #[test]
    fn a_table_has_medians_and_paired_ratios() {
        let table = table(&samples(), &["raw", "other"], 10, 64);
        let row = table.lines().last().unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(row, "other 6000 ns 1.50 (1.50 - 1.50) 166667");
    }

    #[test]
    fn a_document_has_a_row_for_each_number_of_connections() {
        let text = markdown(&samples(), &["raw", "other"], &[10, 20], 64);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[1..],
            ["| --- | --: | --: |", "| 10 connections | 4000 | 1.50 |", "| 20 connections | 4000 | 1.50 |"]
        );
    }
}
