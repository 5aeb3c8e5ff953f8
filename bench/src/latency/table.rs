//! Tables of the `latency` command.

use super::recorder::Outcome;
use crate::stats::{median, quantile, ratios};
use std::fmt::Write as _;

/// One measurement of one arm.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) arm: &'static str,
    /// Whether the arm is another library.
    pub(crate) peer: bool,
    pub(crate) outcome: Outcome,
}

/// The figures of an arm: medians over the rounds.
struct Row {
    arm: &'static str,
    /// Of p50, p99 and p99.9, in microseconds.
    times: [f64; 3],
    per_second: f64,
    /// p50 as multiple of the first arm's of the same round, and the quartiles of that.
    ratio: [f64; 3],
    /// p50 as multiple of the best peer's of the same round; NaN without one.
    to_peer: f64,
}

/// In each round every arm is measured once: so the n-th samples of two arms belong together.
fn values(samples: &[Sample], arm: &str, of: fn(&Outcome) -> f64) -> Vec<f64> {
    samples.iter().filter(|sample| sample.arm == arm).map(|sample| of(&sample.outcome)).collect()
}

fn p50(outcome: &Outcome) -> f64 {
    outcome.p50 as f64 / 1000.0
}

/// The other library with the shortest median, if there is any.
fn best_peer(samples: &[Sample]) -> Option<&'static str> {
    let peers = samples.iter().filter(|sample| sample.peer).map(|sample| sample.arm);
    let of = |arm: &str| median(&values(samples, arm, p50));
    peers.min_by(|one, other| of(one).total_cmp(&of(other)))
}

/// A row for each arm, in this order; the others are compared with the first.
fn rows(samples: &[Sample], arms: &[&'static str], seconds: f64) -> Vec<Row> {
    let Some(first) = arms.first() else { return Vec::new() };
    let peer = best_peer(samples);
    let row = |arm: &&'static str| {
        let medians = values(samples, arm, p50);
        let to_first = ratios(&medians, &values(samples, first, p50));
        let to_peer = peer.map_or(Vec::new(), |peer| ratios(&medians, &values(samples, peer, p50)));
        Row {
            arm,
            times: [
                median(&medians),
                median(&values(samples, arm, |outcome| outcome.p99 as f64 / 1000.0)),
                median(&values(samples, arm, |outcome| outcome.p999 as f64 / 1000.0)),
            ],
            per_second: median(&values(samples, arm, |outcome| outcome.count as f64)) / seconds,
            ratio: [0.5, 0.25, 0.75].map(|at| quantile(&to_first, at)),
            to_peer: median(&to_peer),
        }
    };
    arms.iter().map(row).collect()
}

fn ratio(value: f64) -> String {
    if value.is_nan() { "-".to_owned() } else { format!("{value:.2}") }
}

/// The table for a terminal, or for a document.
pub(crate) fn table(
    samples: &[Sample],
    arms: &[&'static str],
    bytes: usize,
    seconds: f64,
    markdown: bool,
) -> String {
    let rows = rows(samples, arms, seconds);
    let first = arms.first().copied().unwrap_or("");
    let peer = best_peer(samples).unwrap_or("peer");
    let mut out = String::new();
    let mut put = |text: std::fmt::Arguments<'_>| {
        out.write_fmt(text).expect("a String takes all that is written to it");
    };
    if markdown {
        put(format_args!(
            "| Round trips of {bytes} bytes, one in flight | p50 us | p99 us | p99.9 us | p50 x {first} | p50 x {peer} |\n\
             | --- | --: | --: | --: | --: | --: |\n"
        ));
        for Row { arm, times: [p50, p99, p999], ratio: [middle, ..], to_peer, .. } in rows {
            let (middle, to_peer) = (ratio(middle), ratio(to_peer));
            put(format_args!("| {arm} | {p50:.1} | {p99:.1} | {p999:.1} | {middle} | {to_peer} |\n"));
        }
        return out;
    }
    let width = arms.iter().map(|arm| arm.len()).max().unwrap_or(0);
    let (to_first, to_peer) = (format!("p50 x {first} (quartiles)"), format!("p50 x {peer}"));
    put(format_args!(
        "\nround trips of {bytes} bytes, one in flight; times in us\n\
         {:width$}       p50       p99     p99.9  per second  {to_first:>23}  {to_peer:>23}\n",
        ""
    ));
    for Row { arm, times: [p50, p99, p999], per_second, ratio: [middle, low, high], to_peer } in rows {
        let (spread, to_peer) = (format!("{middle:.2} ({low:.2} - {high:.2})"), ratio(to_peer));
        put(format_args!(
            "{arm:width$}  {p50:8.1}  {p99:8.1}  {p999:8.1}  {per_second:10.0}  {spread:>23}  {to_peer:>23}\n"
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The machine gets slower from round to round; the ratios do not.
    fn samples() -> Vec<Sample> {
        let mut samples = Vec::new();
        for slow in 1..=3 {
            for (arm, peer, p50) in
                [("raw", false, 2000), ("ours", false, 3000), ("slow", true, 8000), ("quick", true, 4000)]
            {
                let p50 = p50 * slow;
                let outcome = Outcome { count: 60_000 / slow, p50, p99: 2 * p50, p999: 3 * p50 };
                samples.push(Sample { arm, peer, outcome });
            }
        }
        samples
    }

    fn words(line: &str) -> String {
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_table_has_medians_and_ratios_to_the_first_and_to_the_best_peer() {
        let table = table(&samples(), &["raw", "ours", "slow", "quick"], 64, 0.5, false);
        let lines: Vec<String> = table.lines().map(words).collect();
        assert!(lines[2].ends_with("p50 x quick"), "{table}");
        assert_eq!(lines[4], "ours 6.0 12.0 18.0 60000 1.50 (1.50 - 1.50) 0.75");
        assert_eq!(lines.len(), 7);
    }

    #[test]
    fn a_document_gets_the_same_numbers() {
        let table = table(&samples(), &["raw", "ours"], 64, 0.5, true);
        assert_eq!(table.lines().last(), Some("| ours | 6.0 | 12.0 | 18.0 | 1.50 | 0.75 |"));
    }

    #[test]
    fn without_a_peer_there_is_no_ratio_to_one() {
        let samples: Vec<Sample> = samples().into_iter().filter(|sample| !sample.peer).collect();
        let table = table(&samples, &["raw", "ours"], 64, 0.5, false);
        assert!(words(table.lines().last().unwrap()).ends_with("(1.50 - 1.50) -"), "{table}");
    }
}
