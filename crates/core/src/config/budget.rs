//! Memory budget: what connections hold of incomplete input and unsent output, counted over a process or a server.
//!
//! Limits for one connection don't bound what many of them hold together. So each tells a budget how much it holds, once that is more
//! than [`QUANTUM`] and whenever it has changed by as much: connections that hold little never touch what all share. Nobody keeps a
//! list of them. A connection that holds something looks at the budget each time it tells it of a change, and once a second, and sees
//! for itself whether it holds more than the others: in a budget that is overdrawn, somebody holds at least the average.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::error::{LimitError, LimitKind};

/// By how much what a connection holds has to change before it is told.
pub(crate) const QUANTUM: usize = 16 << 10;

/// The limit where nothing says how much memory there is.
const UNKNOWN: usize = 512 << 20;

/// How often it is logged that connections end.
const PAUSE: Duration = Duration::from_secs(10);

/// A limit for the memory that connections hold together: incomplete messages with what they have been inflated to, output that waits,
/// and messages that were not received yet. There is [one for the process](Budget::process), which counts every connection, and a program
/// may have others, for a server each ([`Config::budget`](crate::Config::budget)), which count there as well.
///
/// - With three quarters of it in use, a server reads no more from connections that hold more than their share, unless that is but a message which
///   is arriving. The share is the limit divided by the number of those that hold more than 16 KiB.
/// - Past it, connections that hold at least the average of those are closed, until the others have room: with 1008 where output waits for
///   the peer, or a message is incomplete, and with 1013 where it is this side that has not received. [`Closed::error`](crate::Closed::error)
///   is of [`LimitKind::Memory`](crate::LimitKind::Memory), and a warning is logged. New upgrades are answered with 503.
///
/// Connections that hold no more than 16 KiB are not counted, and always served. What they take beside it (about 500 bytes of heap when idle,
/// a window for compression) depends on their number: bound that by [`Admission`](crate::Admission). Each can hold one turn's worth
/// of bytes more than its share before it is noticed.
///
/// ```
/// use threadwire::{Budget, Config, Reply, Server};
/// # use threadwire::{Connection, Message};
///
/// let budget = Budget::new(64 << 20);
/// let config = Config::default().budget(budget.clone());
/// let server = Server::bind("127.0.0.1:0")?.config(config)
///     .serve(|_| Reply::with(|ws: &Connection, message: Message<'_>| ws.send(message)))?;
/// println!("{} of {} bytes, {} connections ended", budget.held(), budget.limit(), budget.ended());
/// # server.stop();
/// # Ok::<(), threadwire::Error>(())
/// ```
#[derive(Clone)]
pub struct Budget(Arc<Shared>);

struct Shared {
    limit: AtomicUsize,
    held: AtomicUsize,
    /// How many connections hold something that was told.
    holders: AtomicUsize,
    refused: AtomicU64,
    ended: AtomicU64,
    /// When it was logged last, in milliseconds since the first time; 0 for never.
    logged: AtomicU64,
    is_process: bool,
}

static PROCESS: OnceLock<Budget> = OnceLock::new();
static START: OnceLock<Instant> = OnceLock::new();

impl Budget {
    fn of(limit: usize, is_process: bool) -> Budget {
        Budget(Arc::new(Shared {
            limit: AtomicUsize::new(limit),
            held: AtomicUsize::new(0),
            holders: AtomicUsize::new(0),
            refused: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            logged: AtomicU64::new(0),
            is_process,
        }))
    }

    /// A budget of this many bytes. What counts there counts in the process's as well.
    pub fn new(limit: usize) -> Budget {
        Budget::of(limit, false)
    }

    /// The one of the process. Its limit is half of the memory that the system, or the control group of the process (a container), has; 512 MiB
    /// where neither says. Half, as an allocator's copies while buffers grow, and all else that a program has, need room too; and a
    /// share rather than a number, so that the default fits a small machine and is not in the way of a large one.
    pub fn process() -> Budget {
        PROCESS.get_or_init(|| Budget::of(available().map_or(UNKNOWN, |bytes| bytes / 2), true)).clone()
    }

    /// The limit in bytes.
    pub fn limit(&self) -> usize {
        self.0.limit.load(Ordering::Relaxed)
    }

    /// Sets the limit in bytes, from now on. [`usize::MAX`] is none.
    pub fn set_limit(&self, bytes: usize) {
        self.0.limit.store(bytes, Ordering::Relaxed);
    }

    /// How many bytes are held now.
    pub fn held(&self) -> usize {
        self.0.held.load(Ordering::Relaxed)
    }

    /// How many connections hold more than 16 KiB now.
    pub fn holders(&self) -> usize {
        self.0.holders.load(Ordering::Relaxed)
    }

    /// How many upgrades were answered with 503 so far.
    pub fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }

    /// How many connections were closed so far for what they held.
    pub fn ended(&self) -> u64 {
        self.0.ended.load(Ordering::Relaxed)
    }

    fn is_full(&self) -> bool {
        self.held() > self.limit()
    }

    fn pressure(&self, held: usize) -> Pressure {
        let (all, limit, holders) = (self.held(), self.limit(), self.holders().max(1));
        if all > limit && held >= all / holders {
            Pressure::Full
        } else if all > limit / 4 * 3 && held > limit / 4 * 3 / holders {
            Pressure::Tight
        } else {
            Pressure::None
        }
    }

    fn change(&self, before: usize, now: usize) {
        let Shared { held, holders, .. } = &*self.0;
        if now > before {
            held.fetch_add(now - before, Ordering::Relaxed);
        } else {
            held.fetch_sub(before - now, Ordering::Relaxed);
        }
        match (before, now) {
            (0, 1..) => _ = holders.fetch_add(1, Ordering::Relaxed),
            (1.., 0) => _ = holders.fetch_sub(1, Ordering::Relaxed),
            _ => {}
        }
    }

    /// Whether it is time to log again.
    fn may_log(&self) -> bool {
        let now = START.get_or_init(Instant::now).elapsed().as_millis() as u64 + 1;
        let logged = self.0.logged.load(Ordering::Relaxed);
        (logged == 0 || now >= logged + PAUSE.as_millis() as u64)
            && self.0.logged.compare_exchange(logged, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Budget");
        shown.field("limit", &self.limit()).field("held", &self.held()).finish_non_exhaustive()
    }
}

/// How near a budget is to its limit, for one who holds something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Pressure {
    /// It may go on.
    None,
    /// It is to hold no more than it does.
    Tight,
    /// It is to go.
    Full,
}

/// The budgets in which a connection counts.
#[derive(Clone)]
#[doc(hidden)]
pub struct Budgets {
    own: Option<Budget>,
    process: Budget,
}

impl Budgets {
    /// The process's, and one beside it.
    pub fn of(own: Option<&Budget>) -> Budgets {
        Budgets { own: own.filter(|own| !own.0.is_process).cloned(), process: Budget::process() }
    }

    fn all(&self) -> impl Iterator<Item = &Budget> {
        self.own.iter().chain([&self.process])
    }

    /// Whether somebody new may come. One that may not is counted.
    pub fn admit(&self) -> Result<(), LimitError> {
        let Some(full) = self.all().find(|budget| budget.is_full()) else { return Ok(()) };
        full.0.refused.fetch_add(1, Ordering::Relaxed);
        Err(LimitError { kind: LimitKind::Memory, limit: full.limit() })
    }
}

/// What one connection holds. Dropped, it is given back.
pub(crate) struct Account {
    budgets: Budgets,
    told: usize,
}

impl Account {
    pub(crate) fn new(budgets: Budgets) -> Account {
        Account { budgets, told: 0 }
    }

    /// So much is held now.
    pub(crate) fn tell(&mut self, held: usize) {
        self.budgets.all().for_each(|budget| budget.change(self.told, held));
        self.told = held;
    }

    pub(crate) fn pressure(&self) -> Pressure {
        let pressures = self.budgets.all().map(|budget| budget.pressure(self.told));
        pressures.max().unwrap_or(Pressure::None)
    }

    /// The connection ends for what it holds: counts and logs that. The limit that it was about.
    #[cold]
    pub(crate) fn ends(&self) -> usize {
        let full = self.budgets.all().find(|budget| budget.pressure(self.told) == Pressure::Full);
        let budget = full.unwrap_or(&self.budgets.process);
        budget.0.ended.fetch_add(1, Ordering::Relaxed);
        if budget.may_log() {
            tracing::warn!(
                held = budget.held(),
                limit = budget.limit(),
                connection = self.told,
                ended = budget.ended(),
                refused = budget.refused(),
                "connections hold more memory than their budget: those that hold most are closed"
            );
        }
        budget.limit()
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.tell(0);
    }
}

/// How much memory the machine has, or the control group that this process is in, if that is less; in bytes.
fn available() -> Option<usize> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let of_machine = read("/proc/meminfo").and_then(|text| total(&text));
    // In a container the own group is mostly seen as the root.
    let group = read("/proc/self/cgroup").unwrap_or_default();
    let group = group.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default().to_owned();
    let of_group = [
        format!("/sys/fs/cgroup{group}/memory.max"),
        "/sys/fs/cgroup/memory.max".to_owned(),
        "/sys/fs/cgroup/memory/memory.limit_in_bytes".to_owned(),
    ];
    let of_group = of_group.iter().filter_map(|path| read(path)?.trim().parse::<u64>().ok());
    let least = of_machine.into_iter().chain(of_group).min()?;
    Some(usize::try_from(least).unwrap_or(usize::MAX))
}

/// The memory of the machine, by `/proc/meminfo`.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts(budget: &Budget, held: &[usize]) -> Vec<Account> {
        let open = |held: &usize| {
            let mut account = Account::new(Budgets::of(Some(budget)));
            account.tell(*held);
            account
        };
        held.iter().map(open).collect()
    }

    #[test]
    fn those_that_hold_most_are_held_back_and_then_go() {
        let budget = Budget::new(1000);
        let mut held = accounts(&budget, &[100, 100, 400]);
        assert!(held.iter().all(|account| account.pressure() == Pressure::None));
        held[2].tell(600);
        let pressures: Vec<Pressure> = held.iter().map(Account::pressure).collect();
        assert_eq!(pressures, [Pressure::None, Pressure::None, Pressure::Tight]);
        assert!(Budgets::of(Some(&budget)).admit().is_ok());
        held[2].tell(900);
        let pressures: Vec<Pressure> = held.iter().map(Account::pressure).collect();
        assert_eq!(pressures, [Pressure::None, Pressure::None, Pressure::Full]);
        assert!(Budgets::of(Some(&budget)).admit().is_err());
        assert_eq!((held[2].ends(), budget.ended(), budget.refused()), (1000, 1, 1));
        held.truncate(2);
        assert!(held.iter().all(|account| account.pressure() == Pressure::None));
        assert_eq!((budget.held(), budget.holders()), (200, 2));
        drop(held);
        assert_eq!((budget.held(), budget.holders()), (0, 0));
    }

    #[test]
    fn one_of_many_that_hold_the_same_goes_and_then_there_is_room() {
        let budget = Budget::new(1000);
        let mut held = accounts(&budget, &[101; 10]);
        let first = held.iter().position(|account| account.pressure() == Pressure::Full);
        drop(held.remove(first.unwrap()));
        assert!(held.iter().all(|account| account.pressure() < Pressure::Full));
    }

    #[test]
    fn what_a_machine_has_is_read_as_its_system_writes_it() {
        assert_eq!(total("MemTotal:       24574860 kB\nMemFree: 1 kB\n"), Some(24_574_860 << 10));
        assert_eq!((total(""), total("MemTotal: many kB")), (None, None));
        let limit = Budget::process().limit();
        assert!(limit >= 1 << 20, "{limit}");
    }
}
