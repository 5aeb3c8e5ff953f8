//! DNS threads: look-ups of host names by the system, and other work that would block a loop or a task.
//!
//! There are at most 16 such threads in a process. They come with the work and go when there is none; what is more waits for its
//! turn, and is not begun any more when nobody waits for it. A name server that does not answer thus costs threads, but not many.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;

use crate::panic::catch;

/// The most threads.
const MOST: usize = 16;

struct Job {
    work: Box<dyn FnOnce() + Send>,
    wanted: Weak<()>,
}

struct Pool {
    waiting: VecDeque<Job>,
    threads: usize,
}

static POOL: Mutex<Pool> = Mutex::new(Pool { waiting: VecDeque::new(), threads: 0 });

fn pool() -> MutexGuard<'static, Pool> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A waiting caller: dropped, the work is not begun any more.
pub struct Waiter {
    _wanted: Arc<()>,
}

/// Does some work on a DNS thread, and calls `tell` with the result there.
pub fn offload<T: 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
    tell: impl FnOnce(io::Result<T>) + Send + 'static,
) -> Waiter {
    let wanted = Arc::new(());
    let job = Job { work: Box::new(move || tell(contained(work))), wanted: Arc::downgrade(&wanted) };
    let mut pool = pool();
    pool.waiting.retain(|job| job.wanted.strong_count() > 0);
    pool.waiting.push_back(job);
    if pool.threads < MOST {
        match thread::Builder::new().name("threadwire resolver".to_owned()).spawn(work_on) {
            Ok(_) => pool.threads += 1,
            // Without another thread the job waits for one of the pool; with none at all it is done here.
            Err(error) if pool.threads == 0 => {
                tracing::debug!(%error, "can't start a thread to resolve names");
                let job = pool.waiting.pop_back();
                drop(pool);
                if let Some(job) = job {
                    (job.work)();
                }
            }
            Err(error) => tracing::debug!(%error, "can't start another thread to resolve names"),
        }
    }
    Waiter { _wanted: wanted }
}

/// The work may be the program's own, and panic.
fn contained<T>(work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    catch(|| Ok(work())).unwrap_or_else(|panicked| Err(io::Error::other(panicked)))
}

fn work_on() {
    loop {
        let job = {
            let mut pool = pool();
            let job = pool.waiting.pop_front();
            if job.is_none() {
                pool.threads -= 1;
                return;
            }
            job
        };
        if let Some(job) = job.filter(|job| job.wanted.strong_count() > 0) {
            (job.work)();
        }
    }
}

/// The addresses of a host, as the system finds them.
pub fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    (host, port).to_socket_addrs().map(Vec::from_iter)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[test]
    fn work_is_done_elsewhere_by_a_few_threads_and_only_if_it_is_wanted() {
        // All of the threads are held up, and more work waits behind them.
        let (release, gate) = mpsc::channel::<()>();
        let gate = Arc::new(Mutex::new(gate));
        let (tell, told) = mpsc::channel();
        let held: Vec<Waiter> = (0..MOST + 5)
            .map(|number| {
                let (gate, tell) = (Arc::clone(&gate), tell.clone());
                let hold = move || {
                    let _ = gate.lock().unwrap().recv();
                    Ok(number)
                };
                offload(hold, move |result| tell.send(result.unwrap()).unwrap())
            })
            .collect();
        let unwanted = offload(|| Ok(()), |_| panic!("nobody waits for it"));
        drop(unwanted);
        let (tell_last, last) = mpsc::channel();
        let _wanted = offload(
            || Err::<(), _>(io::ErrorKind::NotFound.into()),
            move |result| drop(tell_last.send(result)),
        );
        assert!(pool().threads <= MOST);
        drop(release);
        let mut done: Vec<usize> = (0..held.len()).map(|_| told.recv_timeout(PATIENCE).unwrap()).collect();
        done.sort_unstable();
        assert_eq!(done, (0..held.len()).collect::<Vec<_>>());
        assert_eq!(last.recv_timeout(PATIENCE).unwrap().unwrap_err().kind(), io::ErrorKind::NotFound);

        // A panic is a result as well.
        let (tell, told) = mpsc::channel();
        let _wanted = offload::<()>(|| panic!("a bug"), move |result| drop(tell.send(result)));
        let error = told.recv_timeout(PATIENCE).unwrap().unwrap_err();
        assert!(error.to_string().contains("a bug"), "{error}");
    }
}
