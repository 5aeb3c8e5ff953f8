//! Measurements of every arm of the `workers` command.

use super::arm::Arm;
use super::duty::{Duty, Event, Trips};
use crate::fail;
use crate::fail::Result;
use crate::measure::process_cpu_time;
use crate::pin::{self, Cores};
use crate::stats::quantile;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// How many workers are alive at the same time, of those that are made and ended.
pub(crate) const BATCH: u64 = 100;
/// A measurement that has not ended by then never will.
const PATIENCE: Duration = Duration::from_secs(20);
/// Time for threads to fall asleep.
const SETTLE: Duration = Duration::from_millis(5);
/// Time for a thread that has nothing more to do to go.
const EXIT: Duration = Duration::from_micros(200);
/// How many events a producer fires before it looks at the clock again.
const STRIDE: u64 = 1024;

/// A measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    OneToOne,
    EightToOne,
    PingPong,
    PingPongOneCore,
    Lives,
    Stop,
}

/// One of the numbers it gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Metric {
    /// The counted quantity, with its unit.
    pub(crate) title: &'static str,
    /// How many decimals are worth printing.
    pub(crate) digits: usize,
}

const fn metric(title: &'static str, digits: usize) -> Metric {
    Metric { title, digits }
}

/// All, in the order of the report.
pub(crate) const MEASURES: [Measure; 6] = [
    Measure::OneToOne,
    Measure::EightToOne,
    Measure::PingPong,
    Measure::PingPongOneCore,
    Measure::Lives,
    Measure::Stop,
];

/// How much is done for one measurement. Nothing goes on for longer than `time` (lives: four times that), but for what
/// it has begun.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    pub(crate) events: u64,
    pub(crate) round_trips: usize,
    pub(crate) lives: u64,
    pub(crate) stops: u64,
    pub(crate) time: Duration,
}

impl Extent {
    /// For numbers.
    pub(crate) const FULL: Extent = Extent {
        events: 1_000_000,
        round_trips: 10_000,
        lives: 10_000,
        stops: 400,
        time: Duration::from_millis(500),
    };

    /// To see whether an arm works, and to have everything done once before it is measured.
    pub(crate) const TRIAL: Extent =
        Extent { events: 8000, round_trips: 100, lives: BATCH, stops: 8, time: Duration::from_millis(100) };
}

impl Measure {
    /// The numbers [`of`](Measure::of) gives, in their order.
    pub(crate) fn metrics(self) -> [Metric; 2] {
        match self {
            Measure::OneToOne | Measure::EightToOne => [metric("events/s", 0), metric("CPU ns/event", 0)],
            Measure::PingPong | Measure::PingPongOneCore | Measure::Stop => {
                [metric("p50 us", 1), metric("p99 us", 1)]
            }
            Measure::Lives => [metric("us/worker", 1), metric("CPU us/worker", 1)],
        }
    }

    /// A description in one line.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Measure::OneToOne => "events from one thread to one worker, a core for each",
            Measure::EightToOne => "events from eight threads to one worker",
            Measure::PingPong => "round trip between two workers, a core for each",
            Measure::PingPongOneCore => "round trip between two workers on one core",
            Measure::Lives => "spawn, stop and join, a hundred workers alive at a time",
            Measure::Stop => "from stop() on another thread until an idle worker is joined",
        }
    }

    /// Measures an arm once. `None` if it cannot do that.
    ///
    /// # Errors
    /// The arm does not work: events got lost or into disorder, workers did not end.
    pub(crate) fn of<A: Arm>(self, extent: Extent, cores: Cores) -> Result<Option<[f64; 2]>> {
        let own = |core| A::THREADS.then_some(core);
        match self {
            Measure::OneToOne => events::<A>(1, extent, Some(cores)).map(Some),
            Measure::EightToOne => events::<A>(8, extent, None).map(Some),
            Measure::PingPong => round_trips::<A>(extent, [own(cores.load), own(cores.server)]).map(Some),
            Measure::PingPongOneCore if !A::THREADS => Ok(None),
            Measure::PingPongOneCore => round_trips::<A>(extent, [Some(cores.server); 2]).map(Some),
            Measure::Lives => lives::<A>(extent).map(Some),
            Measure::Stop => stops::<A>(extent).map(Some),
        }
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Measure::OneToOne => "1-to-1",
            Measure::EightToOne => "8-to-1",
            Measure::PingPong => "ping-pong",
            Measure::PingPongOneCore => "ping-pong-one-core",
            Measure::Lives => "lives",
            Measure::Stop => "stop",
        })
    }
}

/// Events per second, and nanoseconds of CPU for each, of both sides.
fn events<A: Arm>(producers: u32, extent: Extent, cores: Option<Cores>) -> Result<[f64; 2]> {
    let (done, counted) = mpsc::channel();
    let core = cores.filter(|_| A::THREADS).map(|cores| cores.server);
    let worker = A::spawn(Duty::tally(producers as usize, core, done))?;
    let start = Arc::new(Barrier::new(producers as usize + 1));
    let threads: Vec<_> = (0..producers)
        .map(|producer| {
            let (start, remote) = (Arc::clone(&start), worker.remote());
            thread::spawn(move || -> Result<(Instant, u64)> {
                let pinned = cores.map_or(Ok(()), |cores| pin::pin(cores.load));
                start.wait();
                pinned?;
                produce::<A>(&remote, producer, extent.events / u64::from(producers), extent.time)
            })
        })
        .collect();
    // Everyone is started, and waits.
    thread::sleep(SETTLE);
    let cpu = process_cpu_time();
    start.wait();
    let counted = counted.recv_timeout(PATIENCE);
    let cpu = process_cpu_time() - cpu;

    let (mut began, mut sent) = (None::<Instant>, 0);
    for thread in threads {
        let (start, count) = thread.join().map_err(|_| fail!("a producer panicked"))??;
        began = Some(began.map_or(start, |began| began.min(start)));
        sent += count;
    }
    worker.stop();
    worker.join()?;
    let (tally, ended) = counted.map_err(|_| fail!("of {sent} events, the last ones never came"))?;
    if tally.events() != sent || tally.disordered > 0 {
        return Err(fail!("{sent} events: {} came, {} out of order", tally.events(), tally.disordered));
    }
    let elapsed = began.map_or(Duration::ZERO, |began| ended - began);
    Ok([sent as f64 / elapsed.as_secs_f64(), cpu as f64 / sent as f64])
}

/// Fires up to `count` events, for as long as it may. Returns when it began, and how many it were.
fn produce<A: Arm>(remote: &A::Remote, producer: u32, count: u64, limit: Duration) -> Result<(Instant, u64)> {
    let began = Instant::now();
    for number in 0..count {
        let last = number + 1 == count || (number % STRIDE == STRIDE - 1 && began.elapsed() >= limit);
        A::fire(remote, Event { producer, last, number })?;
        if last {
            return Ok((began, number + 1));
        }
    }
    Err(fail!("there were no events to fire"))
}

/// The median and the 99th percentile of a round trip, in microseconds.
fn round_trips<A: Arm>(extent: Extent, cores: [Option<usize>; 2]) -> Result<[f64; 2]> {
    let (done, made) = mpsc::channel();
    let peer = Arc::new(OnceLock::new());
    let pong = A::spawn(Duty::pong(Arc::clone(&peer), cores[0]))?;
    let trips = Trips::new(extent.round_trips, extent.time);
    let ping = A::spawn(Duty::ping(pong.remote(), cores[1], trips, done))?;
    let remote = peer.get_or_init(|| ping.remote());
    A::fire(remote, Event::default())?;
    let made = made.recv_timeout(PATIENCE);
    ping.stop();
    pong.stop();
    ping.join()?;
    pong.join()?;
    let trips = made.map_err(|_| fail!("an event did not come back"))??;
    if trips.wrong > 0 || trips.took.is_empty() {
        let Trips { took, wrong, .. } = trips;
        return Err(fail!("of {} events, {wrong} came back as others", took.len()));
    }
    Ok(in_microseconds(&trips.took))
}

/// Microseconds that a worker takes from its start to its end, and of CPU.
fn lives<A: Arm>(extent: Extent) -> Result<[f64; 2]> {
    let (awake, _) = mpsc::channel();
    let ended = Arc::new(AtomicU64::new(0));
    let (start, cpu) = (Instant::now(), process_cpu_time());
    let mut made = 0;
    while made < extent.lives && (made == 0 || start.elapsed() < 4 * extent.time) {
        let workers = spawn_idle::<A>(BATCH, &awake, &ended)?;
        workers.iter().for_each(A::stop);
        workers.into_iter().try_for_each(A::join)?;
        made += BATCH;
    }
    let (elapsed, cpu) = (start.elapsed(), process_cpu_time() - cpu);
    all_ended(&ended, made)?;
    Ok([elapsed.as_nanos() as f64 / 1000.0 / made as f64, cpu as f64 / 1000.0 / made as f64])
}

/// The median and the 99th percentile of the time that stopping and joining a worker takes, in microseconds.
fn stops<A: Arm>(extent: Extent) -> Result<[f64; 2]> {
    let ended = Arc::new(AtomicU64::new(0));
    let mut took = Vec::new();
    let start = Instant::now();
    while (took.len() as u64) < extent.stops && (took.is_empty() || start.elapsed() < extent.time) {
        let (awake, up) = mpsc::channel();
        let workers = spawn_idle::<A>(BATCH.min(extent.stops), &awake, &ended)?;
        for worker in &workers {
            A::fire(&worker.remote(), Event::default())?;
        }
        for _ in &workers {
            up.recv_timeout(PATIENCE).map_err(|_| fail!("a worker did not start"))?;
        }
        thread::sleep(SETTLE);
        for worker in workers {
            let asked = Instant::now();
            worker.stop();
            worker.join()?;
            took.push(asked.elapsed().as_nanos() as f64);
            // The thread of one that has told its end is still to go; that is not the next one's time.
            thread::sleep(EXIT);
        }
    }
    all_ended(&ended, took.len() as u64)?;
    Ok(in_microseconds(&took))
}

fn spawn_idle<A: Arm>(count: u64, awake: &mpsc::Sender<()>, ended: &Arc<AtomicU64>) -> Result<Vec<A>> {
    (0..count).map(|_| A::spawn(Duty::idle(awake.clone(), Arc::clone(ended)))).collect()
}

/// Sees that the duties of all workers were dropped, at the latest soon after they were joined.
fn all_ended(ended: &AtomicU64, made: u64) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while ended.load(Ordering::Acquire) < made {
        if Instant::now() > deadline {
            let left = made - ended.load(Ordering::Acquire);
            return Err(fail!("{left} of {made} workers were joined and still hold what they were given"));
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn in_microseconds(nanoseconds: &[f64]) -> [f64; 2] {
    [0.5, 0.99].map(|at| quantile(nanoseconds, at) / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workers::std_mpsc::StdMpsc;
    use crate::workers::threadwire::Threadwire;
    use std::thread::JoinHandle;

    /// An arm that loses one event of each producer.
    struct Careless(mpsc::Sender<Option<Event>>, JoinHandle<()>);

    impl Arm for Careless {
        const NAME: &'static str = "careless";
        type Remote = mpsc::Sender<Option<Event>>;

        fn spawn(mut duty: Duty<Careless>) -> Result<Careless> {
            let (events, inbox) = mpsc::channel();
            let run = move || {
                while let Ok(Some(event)) = inbox.recv() {
                    duty.on(event);
                }
            };
            Ok(Careless(events, thread::spawn(run)))
        }

        fn remote(&self) -> Self::Remote {
            self.0.clone()
        }

        fn fire(remote: &Self::Remote, event: Event) -> Result<()> {
            if event.number != 7 {
                remote.send(Some(event))?;
            }
            Ok(())
        }

        fn stop(&self) {
            self.0.send(None).unwrap();
        }

        fn join(self) -> Result<()> {
            self.1.join().unwrap();
            Ok(())
        }
    }

    const CORES: Cores = Cores { server: 1, load: 0 };

    #[test]
    fn every_measure_gives_its_numbers() {
        let Ok(cores) = pin::cores() else { return };
        for measure in MEASURES {
            for numbers in [
                measure.of::<StdMpsc>(Extent::TRIAL, cores).unwrap(),
                measure.of::<Threadwire>(Extent::TRIAL, cores).unwrap(),
            ] {
                let numbers = numbers.unwrap();
                assert!(
                    numbers.iter().all(|number| number.is_finite() && *number > 0.0),
                    "{measure}: {numbers:?}"
                );
            }
        }
    }

    #[test]
    fn refuses_an_arm_that_loses_events() {
        let error = Measure::EightToOne.of::<Careless>(Extent::TRIAL, CORES).unwrap_err();
        assert_eq!(error.to_string(), "8000 events: 7992 came, 7936 out of order");
    }
}
