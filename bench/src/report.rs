//! Tables of the `echo` command.

use crate::pin::Cores;
use crate::scenario::Scenario;
use crate::servers::BASELINE;
use crate::stats::{median, quantile, ratios};
use serde::Serialize;
use std::fmt::Write as _;

/// One server, in one scenario, in one round.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Measurement {
    /// The scenario.
    pub(crate) scenario: Scenario,
    /// Its name.
    pub(crate) server: String,
    /// The round; measurements of one are paired.
    pub(crate) round: usize,
    /// Messages echoed.
    pub(crate) messages: u64,
    /// Nanoseconds they took.
    pub(crate) elapsed_ns: u64,
    /// Nanoseconds of CPU the server took, in user and kernel mode.
    pub(crate) server_cpu_ns: u64,
    /// Nanoseconds of CPU the load took.
    pub(crate) load_cpu_ns: u64,
    /// The median round trip, in nanoseconds.
    pub(crate) p50_ns: u64,
    /// The round trip that 99 of 100 messages stayed within, in nanoseconds.
    pub(crate) p99_ns: u64,
}

/// All of a run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Results {
    /// How many rounds there are; scenarios of long messages divide each into several.
    pub(crate) rounds: u32,
    /// Seconds that each server is loaded in a round.
    pub(crate) seconds: f64,
    /// The cores in use.
    pub(crate) cores: Cores,
    /// In the order they were made.
    pub(crate) measurements: Vec<Measurement>,
}

/// A compared figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Metric {
    Rate,
    ServerCpu,
    LoadCpu,
    Median,
    P99,
}

impl Metric {
    fn of(self, measurement: &Measurement) -> f64 {
        let messages = measurement.messages as f64;
        match self {
            Metric::Rate => messages * 1e9 / measurement.elapsed_ns as f64,
            Metric::ServerCpu => measurement.server_cpu_ns as f64 / messages,
            Metric::LoadCpu => measurement.load_cpu_ns as f64 / messages,
            Metric::Median => measurement.p50_ns as f64 / 1000.0,
            Metric::P99 => measurement.p99_ns as f64 / 1000.0,
        }
    }
}

/// A metric of one server in one scenario, over the rounds.
struct Column {
    values: Vec<f64>,
    ratios: Vec<f64>,
}

impl Results {
    /// An empty one.
    pub(crate) fn new(rounds: u32, seconds: f64, cores: Cores) -> Results {
        Results { rounds, seconds, cores, measurements: Vec::new() }
    }

    fn column(&self, scenario: Scenario, server: &str, metric: Metric) -> Column {
        let of = |server: &str| -> Vec<f64> {
            // Measurements are already in the order of their rounds.
            self.measurements
                .iter()
                .filter(|measurement| measurement.scenario == scenario && measurement.server == server)
                .map(|measurement| metric.of(measurement))
                .collect()
        };
        let values = of(server);
        Column { ratios: ratios(&values, &of(BASELINE)), values }
    }

    /// The values of `name` over the measurements, each once, in order of appearance.
    fn distinct<T: PartialEq>(&self, name: impl Fn(&Measurement) -> Option<T>) -> Vec<T> {
        let mut all = Vec::new();
        for one in self.measurements.iter().filter_map(name) {
            if !all.contains(&one) {
                all.push(one);
            }
        }
        all
    }

    fn servers_in(&self, scenario: Scenario) -> Vec<String> {
        self.distinct(|measurement| (measurement.scenario == scenario).then(|| measurement.server.clone()))
    }
}

/// The table of one scenario, for a terminal: medians over the rounds, each beside its ratio to the baseline's.
pub(crate) fn table(results: &Results, scenario: Scenario) -> String {
    let servers = results.servers_in(scenario);
    let width = servers.iter().map(String::len).max().unwrap_or(0).max(8);
    let mut out = format!(
        "\n{scenario}: connections x messages in flight on each x bytes\n\
         {:width$}  messages/s  x raw   server CPU  x raw (quartiles)   p50 us  x raw   p99 us  x raw   load CPU\n",
        "server",
    );
    for server in servers {
        let column = |metric| results.column(scenario, &server, metric);
        let (rate, cpu, p50, p99) =
            (column(Metric::Rate), column(Metric::ServerCpu), column(Metric::Median), column(Metric::P99));
        writeln!(
            out,
            "{server:width$}  {:10.0}  {:5.2}  {:7.0} ns  {:5.2} ({:.2} - {:.2})  {:7.1}  {:5.2}  {:7.1}  {:5.2}  {:6.0} ns",
            median(&rate.values),
            median(&rate.ratios),
            median(&cpu.values),
            median(&cpu.ratios),
            quantile(&cpu.ratios, 0.25),
            quantile(&cpu.ratios, 0.75),
            median(&p50.values),
            median(&p50.ratios),
            median(&p99.values),
            median(&p99.ratios),
            median(&column(Metric::LoadCpu).values),
        )
        .expect("a String takes all that is written to it");
    }
    out
}

/// The tables of all scenarios, for a document: one for each metric, in which a row is a scenario and a column a server.
pub(crate) fn markdown(results: &Results) -> String {
    let scenarios = results.distinct(|measurement| Some(measurement.scenario));
    let servers =
        results.distinct(|measurement| (measurement.server != BASELINE).then(|| measurement.server.clone()));
    let mut out = String::new();
    for (metric, title, digits) in [
        (
            Metric::ServerCpu,
            "Server CPU time per message, in ns of the raw baseline, and as multiples of it",
            0,
        ),
        (Metric::Rate, "Messages per second, of the raw baseline, and as multiples of it", 0),
        (Metric::Median, "Median round trip, in us of the raw baseline, and as multiples of it", 1),
        (
            Metric::P99,
            "99th percentile of the round trip, in us of the raw baseline, and as multiples of it",
            1,
        ),
    ] {
        let mut line = |cells: Vec<String>| {
            writeln!(out, "| {} |", cells.join(" | ")).expect("a String takes all that is written to it");
        };
        let head = [title, BASELINE].map(str::to_owned).into_iter();
        line(head.chain(servers.iter().cloned()).collect());
        line(["---".to_owned()].into_iter().chain((0..=servers.len()).map(|_| "--:".to_owned())).collect());
        for scenario in &scenarios {
            let baseline = median(&results.column(*scenario, BASELINE, metric).values);
            let mut cells = vec![
                format!(
                    "{} x {} x {} B, {}",
                    scenario.connections, scenario.in_flight, scenario.bytes, scenario.kind
                ),
                format!("{baseline:.digits$}"),
            ];
            cells.extend(servers.iter().map(|server| {
                let ratio = median(&results.column(*scenario, server, metric).ratios);
                if ratio.is_nan() { "".to_owned() } else { format!("{ratio:.2}") }
            }));
            line(cells);
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario;

    fn results() -> Results {
        let scenario = scenario::all()[0];
        let mut results = Results::new(3, 0.5, Cores { server: 1, load: 0 });
        // The machine gets slower from round to round; the ratio does not.
        for round in 0..3 {
            let slow = round as u64 + 1;
            for (server, factor) in [(BASELINE, 2), ("other", 3)] {
                results.measurements.push(Measurement {
                    scenario,
                    server: server.to_owned(),
                    round,
                    messages: 1000,
                    elapsed_ns: 1_000_000 * factor * slow,
                    server_cpu_ns: 500_000 * factor * slow,
                    load_cpu_ns: 100_000,
                    p50_ns: 1000 * factor * slow,
                    p99_ns: 3000 * factor * slow,
                });
            }
        }
        results
    }

    #[test]
    fn a_table_has_medians_and_paired_ratios() {
        let table = table(&results(), scenario::all()[0]);
        let row = table.lines().last().unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(row, "other 166667 0.67 3000 ns 1.50 (1.50 - 1.50) 6.0 1.50 18.0 1.50 100 ns");
    }

    #[test]
    fn a_document_gets_a_table_for_each_metric() {
        let text = markdown(&results());
        assert_eq!(text.lines().filter(|line| line.starts_with("| ---")).count(), 4);
        assert!(text.contains("| 1 x 1 x 20 B, binary | 2000 | 1.50 |"), "{text}");
        assert!(text.contains("| 1 x 1 x 20 B, binary | 250000 | 0.67 |"), "{text}");
    }
}
