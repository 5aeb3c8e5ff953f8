//! Table of the `accept` command.

use super::Measurement;
use crate::servers::BASELINE;
use crate::stats::{median, quantile, ratios};
use std::fmt::Write as _;

/// The table of all servers: medians over the rounds, and their ratios to the baseline's.
pub(super) fn of(measurements: &[Measurement], parallel: usize, markdown: bool) -> String {
    let mut servers: Vec<&str> = Vec::new();
    for measurement in measurements {
        if !servers.contains(&measurement.server.as_str()) {
            servers.push(&measurement.server);
        }
    }
    let width = servers.iter().map(|server| server.len()).max().unwrap_or(0).max(8);
    let mut out = if markdown {
        format!(
            "\n| {parallel} at a time | connections/s | x raw | server CPU | x raw | quartiles |\n\
             | --- | --: | --: | --: | --: | --- |\n"
        )
    } else {
        format!(
            "\n{parallel} at a time\n{:width$}  connections/s  x raw   server CPU  x raw (quartiles)   load CPU\n",
            "server"
        )
    };
    for server in servers {
        let column = |value: fn(&Measurement) -> f64| {
            let of = |name: &str| -> Vec<f64> {
                measurements.iter().filter(|one| one.server == name).map(value).collect()
            };
            let values = of(server);
            let ratios = ratios(&values, &of(BASELINE));
            (median(&values), ratios)
        };
        let (rate, rates) = column(|one| one.outcome.connections as f64 / one.outcome.elapsed.as_secs_f64());
        let (cpu, cpus) = column(|one| one.server_cpu as f64 / one.outcome.connections as f64 / 1e3);
        let (load, _) = column(|one| one.outcome.cpu as f64 / one.outcome.connections as f64 / 1e3);
        let (times, times_cpu) = (median(&rates), median(&cpus));
        let (low, high) = (quantile(&cpus, 0.25), quantile(&cpus, 0.75));
        let line = if markdown {
            format!(
                "| {server} | {rate:.0} | {times:.2} | {cpu:.1} us | {times_cpu:.2} | {low:.2} - {high:.2} |"
            )
        } else {
            format!(
                "{server:width$}  {rate:13.0}  {times:5.2}  {cpu:8.1} us  {times_cpu:5.2} ({low:.2} - {high:.2})  {load:5.1} us"
            )
        };
        writeln!(out, "{line}").expect("a String takes all that is written to it");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::load::Outcome;
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_table_has_medians_and_paired_ratios() {
        let mut measurements = Vec::new();
        // The machine gets slower from round to round; the ratio does not.
        for slow in 1..=3 {
            for (server, factor) in [(BASELINE, 2), ("other", 3)] {
                let elapsed = Duration::from_millis(100 * factor * slow);
                measurements.push(Measurement {
                    server: server.to_owned(),
                    outcome: Outcome { connections: 1000, elapsed, cpu: 2_000_000 },
                    server_cpu: 5_000_000 * factor * slow,
                });
            }
        }
        let table = of(&measurements, 64, false);
        let row = table.lines().last().unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(row, "other 1667 0.67 30.0 us 1.50 (1.50 - 1.50) 2.0 us");
        assert!(
            of(&measurements, 1, true).contains("| other | 1667 | 0.67 | 30.0 us | 1.50 | 1.50 - 1.50 |")
        );
    }
}
