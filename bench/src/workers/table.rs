//! Tables of the `workers` command.

use super::measures::{Measure, Metric};
use crate::stats::{median, quantile, ratios};
use std::fmt::Write as _;

/// One measurement of one arm.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) measure: Measure,
    pub(crate) arm: &'static str,
    /// Samples of one round are paired.
    pub(crate) round: u32,
    /// The values of the measure's metrics; `None` if the arm cannot do that.
    pub(crate) values: Option<[f64; 2]>,
}

/// The medians of an arm over the rounds: NaN where there is no number.
struct Cell {
    value: f64,
    /// As multiple of the first arm's.
    ratio: f64,
    /// The quartiles of that multiple.
    quartiles: [f64; 2],
}

fn cell(samples: &[Sample], measure: Measure, metric: usize, arm: &str, first: &str) -> Cell {
    let of = |arm: &str| -> Vec<(u32, f64)> {
        samples
            .iter()
            .filter(|sample| sample.measure == measure && sample.arm == arm)
            .filter_map(|sample| Some((sample.round, sample.values?[metric])))
            .collect()
    };
    let own = of(arm);
    // The first arm's values of the same rounds.
    let base: Vec<f64> = of(first)
        .into_iter()
        .filter(|(round, _)| own.iter().any(|(other, _)| other == round))
        .map(|(_, value)| value)
        .collect();
    let own: Vec<f64> = own.into_iter().map(|(_, value)| value).collect();
    let ratios = ratios(&own, &base);
    Cell {
        value: median(&own),
        ratio: median(&ratios),
        quartiles: [0.25, 0.75].map(|at| quantile(&ratios, at)),
    }
}

fn number(value: f64, digits: usize) -> String {
    if value.is_nan() { "-".to_owned() } else { format!("{value:.digits$}") }
}

/// The arms of which there are samples, in order of appearance in the first round.
fn arms(samples: &[Sample]) -> Vec<&'static str> {
    let mut arms = Vec::new();
    for sample in samples.iter().filter(|sample| sample.round == 0) {
        if !arms.contains(&sample.arm) {
            arms.push(sample.arm);
        }
    }
    arms
}

/// The table of one measure, for a terminal: medians over the rounds, each beside its ratio to the first arm's.
pub(crate) fn table(samples: &[Sample], measure: Measure) -> String {
    let samples: Vec<Sample> = samples.iter().filter(|sample| sample.measure == measure).cloned().collect();
    let arms = arms(&samples);
    let Some(first) = arms.first() else { return String::new() };
    let width = arms.iter().map(|arm| arm.len()).max().unwrap_or(0);
    let mut out = format!("\n{measure}: {}\n{:width$}", measure.title(), "");
    let mut put = |text: std::fmt::Arguments<'_>| out.write_fmt(text).expect("a String takes all");
    for Metric { title, .. } in measure.metrics() {
        put(format_args!("  {title:>13}  {:>20}", format!("x {first} (quartiles)")));
    }
    put(format_args!("\n"));
    for arm in &arms {
        put(format_args!("{arm:width$}"));
        for (at, metric) in measure.metrics().into_iter().enumerate() {
            let Cell { value, ratio, quartiles: [low, high] } = cell(&samples, measure, at, arm, first);
            let spread = if ratio.is_nan() { String::new() } else { format!(" ({low:.2} - {high:.2})") };
            let (value, ratio) = (number(value, metric.digits), number(ratio, 2) + &spread);
            put(format_args!("  {value:>13}  {ratio:>20}"));
        }
        put(format_args!("\n"));
    }
    out
}

/// One table of all measures, for a document: a row is a metric, a column an arm. What was left out is blank.
pub(crate) fn markdown(samples: &[Sample], measures: &[Measure]) -> String {
    let arms = arms(samples);
    let Some((first, others)) = arms.split_first() else { return String::new() };
    let mut out = String::new();
    let mut line = |cells: Vec<String>| {
        writeln!(out, "| {} |", cells.join(" | ")).expect("a String takes all that is written to it");
    };
    let head = [format!("Medians of {first}, and as multiples of it"), (*first).to_owned()].into_iter();
    line(head.chain(others.iter().map(|arm| (*arm).to_owned())).collect());
    line(["---".to_owned()].into_iter().chain(arms.iter().map(|_| "--:".to_owned())).collect());
    for measure in measures {
        for (at, metric) in measure.metrics().into_iter().enumerate() {
            let of = |arm| cell(samples, *measure, at, arm, first);
            let row =
                [format!("{}: {}", measure.title(), metric.title), number(of(first).value, metric.digits)];
            let measured = |arm| samples.iter().any(|one| one.measure == *measure && one.arm == arm);
            let ratios = others
                .iter()
                .map(|arm| if measured(*arm) { number(of(arm).ratio, 2) } else { String::new() });
            line(row.into_iter().chain(ratios).collect());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The machine gets slower from round to round; the ratio does not.
    fn samples() -> Vec<Sample> {
        let mut samples = Vec::new();
        for round in 0..3 {
            let slow = f64::from(round + 1);
            for (arm, values) in
                [("std", Some([10.0, 40.0])), ("other", Some([15.0, 20.0])), ("unable", None)]
            {
                let values = values.map(|values| values.map(|value| value * slow));
                samples.push(Sample { measure: Measure::PingPongOneCore, arm, round, values });
            }
        }
        samples
    }

    fn words(text: &str, row: &str) -> String {
        let line = text.lines().find(|line| line.starts_with(row)).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_table_has_medians_and_paired_ratios() {
        let table = table(&samples(), Measure::PingPongOneCore);
        assert_eq!(words(&table, "std"), "std 20.0 1.00 (1.00 - 1.00) 80.0 1.00 (1.00 - 1.00)");
        assert_eq!(words(&table, "other"), "other 30.0 1.50 (1.50 - 1.50) 40.0 0.50 (0.50 - 0.50)");
    }

    #[test]
    fn what_an_arm_cannot_do_is_a_dash() {
        assert_eq!(words(&table(&samples(), Measure::PingPongOneCore), "unable"), "unable - - - -");
        let markdown = markdown(&samples(), &[Measure::PingPongOneCore]);
        assert!(markdown.contains("p50 us | 20.0 | 1.50 | - |"), "{markdown}");
    }

    #[test]
    fn what_was_left_out_is_blank() {
        let mut samples = samples();
        samples.push(Sample { measure: Measure::Lives, arm: "std", round: 0, values: Some([50.0, 80.0]) });
        let markdown = markdown(&samples, &[Measure::Lives]);
        assert!(markdown.contains("CPU us/worker | 80.0 |  |  |"), "{markdown}");
    }

    #[test]
    fn a_document_has_a_row_for_each_metric() {
        let markdown = markdown(&samples(), &[Measure::PingPongOneCore]);
        let lines: Vec<&str> = markdown.lines().collect();
        assert_eq!(lines[0], "| Medians of std, and as multiples of it | std | other | unable |");
        assert_eq!(lines[1], "| --- | --: | --: | --: |");
        assert_eq!(lines.len(), 4);
    }

    #[test]
    fn a_measure_without_samples_has_no_table() {
        assert_eq!(table(&samples(), Measure::Stop), "");
    }
}
