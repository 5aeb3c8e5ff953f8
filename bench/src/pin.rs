//! CPU affinity: the server and the load must not take each other's core.

use crate::fail::Result;

/// The cores of a run, by their number in the system.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct Cores {
    /// Where the server under test runs, alone.
    pub(crate) server: usize,
    /// Where this process runs, and makes the load.
    pub(crate) load: usize,
}

#[cfg(target_os = "linux")]
mod sys {
    use super::{Cores, Result};
    use crate::fail;
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    pub(crate) fn cores() -> Result<Cores> {
        let allowed = sched_getaffinity(None)?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
        // The first core tends to serve the interrupts of the machine.
        match (cores.next(), cores.next_back()) {
            (Some(load), Some(server)) => Ok(Cores { server, load }),
            _ => Err(fail!("this needs two cores: one for the server, one for the load")),
        }
    }

    pub(crate) fn pin(core: usize) -> Result<()> {
        let mut set = CpuSet::new();
        set.set(core);
        sched_setaffinity(None, &set).map_err(|error| fail!("cannot run on core {core} alone: {error}"))
    }
}

#[cfg(not(target_os = "linux"))]
mod sys {
    use super::{Cores, Result};
    use crate::fail;

    pub(crate) fn cores() -> Result<Cores> {
        Err(fail!("measuring needs Linux: cores to pin to, and /proc for CPU time and memory"))
    }

    pub(crate) fn pin(_core: usize) -> Result<()> {
        cores().map(|_| ())
    }
}

/// Picks the cores of a run among those this process may use.
///
/// # Errors
/// There is only one, or this system cannot pin (anything but Linux).
pub(crate) fn cores() -> Result<Cores> {
    sys::cores()
}

/// Keeps the calling thread, and what it starts from now on, on one core.
pub(crate) fn pin(core: usize) -> Result<()> {
    sys::pin(core)
}
