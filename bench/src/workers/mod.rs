//! The `workers` command: Threadwire's workers beside plain threads with a channel and, with the feature `peers`, actor
//! libraries.
//!
//! Every arm does the same work ([`duty`]) in the same measurements ([`measures`]), in interleaved rounds.

mod arm;
mod crossbeam;
mod duty;
mod measures;
mod std_mpsc;
mod table;
mod threadwire;

#[cfg(feature = "peers")]
mod actix;
#[cfg(feature = "peers")]
mod kameo;
#[cfg(feature = "peers")]
mod ractor;
#[cfg(feature = "peers")]
mod runtime;

use crate::fail;
use crate::fail::Result;
use crate::measure;
use crate::pin::{self, Cores};
use crate::scenario::Filter;
use arm::Arm;
use measures::{BATCH, Extent, MEASURES, Measure};
use table::Sample;

/// Help text below the options.
pub(crate) const ABOUT: &str = "\
Measures:
  1-to-1              a million events (or as many as half a second allows) from one thread, a core for each side
  8-to-1              as many from eight threads, on whatever core
  ping-pong           round trips between two workers, a core for each
  ping-pong-one-core  round trips between two workers that share a core: what remains without the cores' own wake-ups
  lives               spawn, stop and join of 10,000 workers (or as many as two seconds allow), 100 alive at a time
  stop                from stop() on another thread until an idle worker is joined

Arms: std (a thread that runs boxed closures out of an mpsc channel; all others are compared with it),
crossbeam-channel (the same with its channel, which spins before it parks) and threadwire (posted closures).
With the feature `peers` also actix (an Arbiter for each actor), ractor and kameo (a thread for each actor), and
`ractor tasks` and `kameo tasks` (actors that share a runtime of two threads: these are no threads).
What an arm cannot do is a dash. Every event is counted, and must come in order. To join is to wait for the thread's own
end, but for threadwire and ractor, which tell the end of what ran on it.
Each number is the median of the rounds, its ratio the median of the rounds' ratios, with their quartiles.";

/// Options of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How often each arm is measured.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Only measures and arms with these parts in their names: MEASURE, MEASURE/ARM or /ARM, for instance `ping-pong`
    /// or `8-to-1/threadwire`; std is always there. May be repeated.
    #[arg(long, value_name = "FILTER")]
    only: Vec<Filter>,
    /// Prints one table for a document instead of those for a terminal.
    #[arg(long)]
    markdown: bool,
}

/// An arm as a value.
struct Entry {
    name: &'static str,
    measure: fn(Measure, Extent, Cores) -> Result<Option<[f64; 2]>>,
}

impl Entry {
    fn of<A: Arm>() -> Entry {
        Entry { name: A::NAME, measure: Measure::of::<A> }
    }
}

/// All arms; the others are compared with the first.
fn entries() -> Vec<Entry> {
    vec![
        Entry::of::<std_mpsc::StdMpsc>(),
        Entry::of::<crossbeam::Crossbeam>(),
        Entry::of::<threadwire::Threadwire>(),
        Entry::of::<threadwire::ThreadwireEvents>(),
        #[cfg(feature = "peers")]
        Entry::of::<actix::Actix>(),
        #[cfg(feature = "peers")]
        Entry::of::<ractor::Ractor>(),
        #[cfg(feature = "peers")]
        Entry::of::<ractor::RactorTask>(),
        #[cfg(feature = "peers")]
        Entry::of::<kameo::Kameo>(),
        #[cfg(feature = "peers")]
        Entry::of::<kameo::KameoTask>(),
    ]
}

/// Runs the command.
pub(crate) fn run(options: &Options) -> Result<()> {
    measure::supported()?;
    let cores = pin::cores()?;
    let entries = entries();
    let plan: Vec<(Measure, Vec<&Entry>)> =
        MEASURES.into_iter().filter_map(|measure| selected(measure, &entries, &options.only)).collect();
    if plan.is_empty() {
        return Err(fail!("no measure or arm has a name like that"));
    }
    let measurements: usize = plan.iter().map(|(_, entries)| entries.len()).sum();
    eprintln!(
        "{} measures, {} rounds of {measurements} measurements, each of at most a second or two, {BATCH} workers alive at \
         a time. Those that keep to their cores use {} and {}.",
        plan.len(),
        options.rounds,
        cores.load,
        cores.server,
    );
    let run = |entry: &Entry, measure, extent| {
        (entry.measure)(measure, extent, cores).map_err(|error| fail!("{}, {measure}: {error}", entry.name))
    };
    for (measure, entries) in &plan {
        for entry in entries {
            run(entry, *measure, Extent::TRIAL)?;
        }
    }
    let mut samples: Vec<Sample> = Vec::new();
    for (measure, entries) in &plan {
        for round in 0..options.rounds {
            for turn in 0..entries.len() {
                // Rotated, so that no arm is always the first.
                let entry = entries[(turn + round as usize) % entries.len()];
                let values = run(entry, *measure, Extent::FULL)?;
                samples.push(Sample { measure: *measure, arm: entry.name, round, values });
            }
        }
        if options.markdown {
            eprintln!("{measure} is done");
        } else {
            print!("{}", table::table(&samples, *measure));
        }
    }
    if options.markdown {
        let measures: Vec<Measure> = plan.iter().map(|(measure, _)| *measure).collect();
        print!("{}", table::markdown(&samples, &measures));
    }
    Ok(())
}

/// The arms that the filters leave for a measure; the first is among them if any is.
fn selected<'e>(
    measure: Measure,
    entries: &'e [Entry],
    filters: &[Filter],
) -> Option<(Measure, Vec<&'e Entry>)> {
    let admitted = |entry: &Entry| Filter::admits(filters, &measure.to_string(), entry.name);
    let any = entries.iter().any(admitted);
    let chosen = entries.iter().enumerate().filter(|(at, entry)| *at == 0 || admitted(entry));
    any.then(|| (measure, chosen.map(|(_, entry)| entry).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(measure: Measure, filters: &[&str]) -> Option<Vec<&'static str>> {
        let filters: Vec<Filter> = filters.iter().map(|text| text.parse().unwrap()).collect();
        let entries = entries();
        selected(measure, &entries, &filters)
            .map(|(_, entries)| entries.iter().map(|entry| entry.name).collect())
    }

    #[test]
    fn names_of_arms_and_measures_are_unique() {
        let mut names: Vec<String> = entries().iter().map(|entry| entry.name.to_owned()).collect();
        names.extend(MEASURES.iter().map(Measure::to_string));
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn the_first_arm_is_there_whatever_the_filter() {
        assert_eq!(chosen(Measure::Stop, &["/threadwire events"]), Some(vec!["std", "threadwire events"]));
        assert_eq!(chosen(Measure::Stop, &["stop/crossbeam"]), Some(vec!["std", "crossbeam-channel"]));
    }

    #[test]
    fn a_measure_that_no_filter_names_is_left_out() {
        assert_eq!(chosen(Measure::Stop, &["ping-pong"]), None);
        assert_eq!(chosen(Measure::Stop, &["nobody"]), None);
    }

    #[test]
    fn every_arm_works() {
        let Ok(cores) = pin::cores() else { return };
        for entry in entries() {
            for measure in MEASURES {
                (entry.measure)(measure, Extent::TRIAL, cores)
                    .unwrap_or_else(|error| panic!("{}, {measure}: {error}", entry.name));
            }
        }
    }
}
