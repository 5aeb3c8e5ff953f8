//! Tables of the `clients` command.

use super::meter::Outcome;
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

/// In each round every arm is measured once: so the n-th samples of two arms belong together.
fn values(samples: &[Sample], arm: &str, of: fn(&Outcome) -> f64) -> Vec<f64> {
    samples.iter().filter(|sample| sample.arm == arm).map(|sample| of(&sample.outcome)).collect()
}

fn cpu(outcome: &Outcome) -> f64 {
    outcome.cpu as f64 / outcome.count as f64
}

fn per_second(outcome: &Outcome) -> f64 {
    outcome.count as f64 * 1e9 / outcome.elapsed as f64
}

/// The other library that takes the least CPU time, if there is any.
fn best_peer(samples: &[Sample]) -> Option<&'static str> {
    let peers = samples.iter().filter(|sample| sample.peer).map(|sample| sample.arm);
    let of = |arm: &str| median(&values(samples, arm, cpu));
    peers.min_by(|one, other| of(one).total_cmp(&of(other)))
}

fn ratio(value: f64) -> String {
    if value.is_nan() { "-".to_owned() } else { format!("{value:.2}") }
}

/// The table for a terminal, or for a document: a row for each arm, in this order; the others are compared with the first.
pub(crate) fn table(samples: &[Sample], arms: &[&'static str], title: &str, markdown: bool) -> String {
    let first = arms.first().copied().unwrap_or("");
    let peer = best_peer(samples);
    let width = arms.iter().map(|arm| arm.len()).max().unwrap_or(0);
    let (to_first, to_peer) = (format!("x {first} (quartiles)"), format!("x {}", peer.unwrap_or("peer")));
    let mut out = String::new();
    let mut put = |text: std::fmt::Arguments<'_>| {
        out.write_fmt(text).expect("a String takes all that is written to it");
    };
    if markdown {
        put(format_args!(
            "| {title} | per second | p50 us | p99 us | client CPU ns | x {first} | {to_peer} |\n\
             | --- | --: | --: | --: | --: | --: | --: |\n"
        ));
    } else {
        put(format_args!(
            "\n{title}\n{:width$}  per second    p50 us    p99 us  client CPU  {to_first:>20}  {to_peer:>19}\n",
            ""
        ));
    }
    for arm in arms {
        let of = |value| median(&values(samples, arm, value));
        let cpus = values(samples, arm, cpu);
        let firsts = ratios(&cpus, &values(samples, first, cpu));
        let peers = peer.map_or(Vec::new(), |peer| ratios(&cpus, &values(samples, peer, cpu)));
        let (rate, p50, p99) = (
            of(per_second),
            of(|outcome| outcome.p50 as f64 / 1000.0),
            of(|outcome| outcome.p99 as f64 / 1000.0),
        );
        let [middle, low, high] = [0.5, 0.25, 0.75].map(|at| quantile(&firsts, at));
        let (cpu, to_peer) = (median(&cpus), ratio(median(&peers)));
        if markdown {
            put(format_args!(
                "| {arm} | {rate:.0} | {p50:.1} | {p99:.1} | {cpu:.0} | {middle:.2} | {to_peer} |\n"
            ));
        } else {
            let spread = format!("{middle:.2} ({low:.2} - {high:.2})");
            put(format_args!(
                "{arm:width$}  {rate:10.0}  {p50:8.1}  {p99:8.1}  {cpu:7.0} ns  {spread:>20}  {to_peer:>19}\n"
            ));
        }
    }
    if markdown {
        put(format_args!("\n"));
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
            let arms =
                [("raw", false, 1000), ("ours", false, 1500), ("slow", true, 9000), ("quick", true, 3000)];
            for (arm, peer, cpu) in arms {
                let elapsed = 500_000_000 * slow;
                let outcome = Outcome { count: 1000, elapsed, cpu: 1000 * cpu * slow, p50: 7000, p99: 9000 };
                samples.push(Sample { arm, peer, outcome });
            }
        }
        samples
    }

    #[test]
    fn a_table_has_medians_and_ratios_to_the_first_and_to_the_best_peer() {
        let table = table(&samples(), &["raw", "ours", "slow", "quick"], "clients", false);
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let lines: Vec<String> = table.lines().map(words).collect();
        assert!(lines[2].ends_with("x raw (quartiles) x quick"), "{table}");
        assert_eq!(lines[4], "ours 1000 7.0 9.0 3000 ns 1.50 (1.50 - 1.50) 0.50");
        assert_eq!(lines.len(), 7);
    }

    #[test]
    fn a_document_gets_the_same_numbers() {
        let samples: Vec<Sample> = samples().into_iter().filter(|sample| !sample.peer).collect();
        let table = table(&samples, &["raw", "ours"], "clients", true);
        assert!(table.ends_with("| ours | 1000 | 7.0 | 9.0 | 3000 | 1.50 | - |\n\n"), "{table}");
    }
}
