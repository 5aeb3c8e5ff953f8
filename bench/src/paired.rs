//! Tables of servers measured in rounds, each beside the first of them.

use crate::stats::{median, quantile, ratios};
use std::fmt::Write as _;

/// One measurement of one arm.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) arm: &'static str,
    /// The scenario, by its index in the run.
    pub(crate) case: usize,
    /// Nanoseconds of CPU that the server took for one unit of work.
    pub(crate) cpu_ns: f64,
    /// Units of work in a second.
    pub(crate) per_second: f64,
    /// Bytes that the server sent, as a part of the messages that they stand for, where that is told.
    pub(crate) wire: Option<f64>,
}

/// The figures of an arm: medians over the rounds.
struct Row {
    arm: &'static str,
    cpu_ns: f64,
    /// The ratio to the first arm of the same round, and its quartiles.
    ratio: [f64; 3],
    per_second: f64,
    wire: Option<f64>,
}

/// A row for each arm, in this order; the others are compared with the first.
fn rows(samples: &[Sample], arms: &[&'static str], case: usize) -> Vec<Row> {
    let Some(first) = arms.first() else { return Vec::new() };
    // In each round every arm is measured once: so the n-th samples of two arms belong together.
    let values = |arm: &str, of: fn(&Sample) -> Option<f64>| -> Vec<f64> {
        let these = samples.iter().filter(|sample| sample.arm == arm && sample.case == case);
        these.filter_map(of).collect()
    };
    let row = |arm: &&'static str| {
        let cpu = values(arm, |sample| Some(sample.cpu_ns));
        let to_first = ratios(&cpu, &values(first, |sample| Some(sample.cpu_ns)));
        let wire = values(arm, |sample| sample.wire);
        Row {
            arm,
            cpu_ns: median(&cpu),
            ratio: [0.5, 0.25, 0.75].map(|at| quantile(&to_first, at)),
            per_second: median(&values(arm, |sample| Some(sample.per_second))),
            wire: (!wire.is_empty()).then(|| median(&wire)),
        }
    };
    arms.iter().map(row).collect()
}

/// The table of one case, for a terminal. `unit` is the work in the singular and in the plural.
pub(crate) fn table(
    samples: &[Sample],
    arms: &[&'static str],
    (case, title): (usize, &str),
    (unit, units): (&str, &str),
) -> String {
    let width = arms.iter().map(|arm| arm.len()).max().unwrap_or(0);
    let first = arms.first().unwrap_or(&"");
    let rows = rows(samples, arms, case);
    let has_wire = rows.iter().any(|row| row.wire.is_some());
    let mut out = format!("\n{title}\n{:width$}", "");
    let wire = if has_wire { "   wire" } else { "" };
    let (cpu, ratio, rate) =
        (format!("server CPU/{unit}"), format!("x {first} (quartiles)"), format!("{units}/s"));
    writeln!(out, "  {cpu:>19}  {ratio:>21}  {rate:>12}{wire}").expect("a String takes all");
    for Row { arm, cpu_ns, ratio: [middle, low, high], per_second, wire } in rows {
        let spread = format!("{middle:.2} ({low:.2} - {high:.2})");
        let wire = wire.map_or(String::new(), |wire| format!("  {wire:.3}"));
        writeln!(out, "{arm:width$}  {cpu_ns:16.0} ns  {spread:>21}  {per_second:12.0}{wire}")
            .expect("a String takes all that is written to it");
    }
    out
}

/// One table of all cases, for a document: `cases` are their places and what their rows begin with.
pub(crate) fn markdown(
    samples: &[Sample],
    arms: &[&'static str],
    cases: &[(usize, String)],
    title: &str,
) -> String {
    let mut out = String::new();
    let mut line = |cells: Vec<String>| {
        writeln!(out, "| {} |", cells.join(" | ")).expect("a String takes all that is written to it");
    };
    let Some((first, others)) = arms.split_first() else { return String::new() };
    let title = format!("{title}, in ns of the raw baseline, and as multiples of it");
    line(
        [title, (*first).to_owned()].into_iter().chain(others.iter().map(|arm| (*arm).to_owned())).collect(),
    );
    line(["---".to_owned()].into_iter().chain(arms.iter().map(|_| "--:".to_owned())).collect());
    for (case, name) in cases {
        let rows = rows(samples, arms, *case);
        let Some((first, others)) = rows.split_first() else { continue };
        let head = [name.clone(), format!("{:.0}", first.cpu_ns)];
        line(head.into_iter().chain(others.iter().map(|row| format!("{:.2}", row.ratio[0]))).collect());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The machine gets slower from round to round; the ratio does not.
    fn samples(wire: Option<f64>) -> Vec<Sample> {
        let mut samples = Vec::new();
        for slow in [1.0, 2.0, 3.0] {
            for (arm, cpu_ns) in [("raw", 2000.0), ("other", 3000.0)] {
                for case in [0, 1] {
                    let (cpu_ns, per_second) = (cpu_ns * slow, 1e9 / cpu_ns / slow);
                    samples.push(Sample { arm, case, cpu_ns, per_second, wire });
                }
            }
        }
        samples
    }

    #[test]
    fn a_table_has_medians_and_paired_ratios() {
        for (wire, expected) in [
            (None, "other 6000 ns 1.50 (1.50 - 1.50) 166667"),
            (Some(0.25), "other 6000 ns 1.50 (1.50 - 1.50) 166667 0.250"),
        ] {
            let table = table(&samples(wire), &["raw", "other"], (1, "title"), ("turn", "turns"));
            let row = table.lines().last().unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
            assert_eq!(row, expected);
        }
    }

    #[test]
    fn a_document_has_a_row_for_each_case() {
        let cases = [(0, "first".to_owned()), (1, "second".to_owned())];
        let text = markdown(&samples(None), &["raw", "other"], &cases, "CPU time");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[1..],
            ["| --- | --: | --: |", "| first | 4000 | 1.50 |", "| second | 4000 | 1.50 |"]
        );
    }
}
