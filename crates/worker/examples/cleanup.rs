//! Cleanup by a drop guard when a worker is stopped: a stop is an error that `?` passes on, so the
//! guard is dropped on the way out, as it is if the task comes to its end, or panics.

use std::error::Error;
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;

use threadwire_worker::{EventLoop, Remote, Stopped, Worker, wait_event, wait_forever};

/// Stands for a server that somebody has to end: as long as it runs, there is a lock file.
struct Server {
    lock: PathBuf,
}

impl Server {
    fn open() -> io::Result<Server> {
        let lock = std::env::temp_dir().join(format!("threadwire-example-{}.lock", std::process::id()));
        File::create_new(&lock)?;
        Ok(Server { lock })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        println!("the server has ended");
        if let Err(error) = fs::remove_file(&self.lock) {
            eprintln!("the lock file stays: {error}");
        }
    }
}

fn serve(owner: &Remote) -> Result<io::Result<()>, Stopped> {
    let server = match Server::open() {
        Ok(server) => server,
        Err(error) => return Ok(Err(error)),
    };
    let _ = owner.fire(server.lock.clone());
    wait_forever()?;
    Ok(Ok(()))
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let here = EventLoop::current().remote();
    let worker = Worker::spawn(move || serve(&here));
    let lock = wait_event::<PathBuf>()?;
    println!("a server runs: {} exists", lock.display());
    assert!(lock.exists());

    worker.stop();
    assert!(worker.join()?.was_stopped());
    assert!(!lock.exists());
    Ok(())
}
