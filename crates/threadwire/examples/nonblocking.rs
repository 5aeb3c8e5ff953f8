//! Receiving without waiting, in three programs: one with a loop of its own that only takes what is there, one that receives on
//! another thread, and one that sleeps in another loop's poll.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use threadwire::blocking::{self, Connection, Server, Serving};
use threadwire::worker::EventLoop;
use threadwire::worker::mio::{Events, Interest, Poll, Token, unix::SourceFd};
use threadwire::{CloseCode, Error};

/// A server that counts to ten, and then leaves.
fn count_to_ten() -> Result<Serving, Error> {
    Server::bind("127.0.0.1:0")?.serve(1, |ws| {
        for number in 1..=10 {
            ws.send(&number.to_string())?;
            threadwire::sleep(Duration::from_millis(1))?;
        }
        ws.close_with(CloseCode::NORMAL, "that's all").map(drop)
    })
}

/// A game: it draws frame after frame, whatever arrives, and takes what is there between two of them.
fn frames(url: &str) -> Result<usize, Error> {
    let mut ws = blocking::connect(url)?;
    let (mut frame, mut numbers) = (0, 0);
    loop {
        match ws.try_recv() {
            Ok(Some(number)) => {
                println!("{number} came before frame {frame}");
                numbers += 1;
            }
            Ok(None) => return Ok(numbers),
            // Nothing more for now.
            Err(error) if error.is_timeout() => {
                frame += 1;
                thread::sleep(Duration::from_micros(500)); // where it draws
            }
            Err(error) => return Err(error),
        }
    }
}

/// A thread that receives, and passes on what comes: to another thread, or (by a channel of tokio's, say) to a task. Both can
/// send by a handle.
fn another_thread(url: &str) -> Result<usize, Error> {
    let (give, given) = mpsc::channel();
    let url = url.to_owned();
    let receiving = thread::spawn(move || {
        let mut ws = blocking::connect(&url)?;
        let handle = ws.handle();
        while let Some(message) = ws.recv()? {
            if give.send((message, handle.clone())).is_err() {
                break; // nobody wants them any more
            }
        }
        Ok(())
    });
    let mut numbers = 0;
    for (message, handle) in given {
        println!("{message}, from the other thread");
        numbers += 1;
        // The server may have left by now.
        let _ = handle.send("seen");
    }
    receiving.join().unwrap_or_else(|_| Err(Error::other("receiving panicked")))?;
    Ok(numbers)
}

/// Takes all that has arrived. False at the end.
fn take_all(ws: &mut Connection, numbers: &mut usize) -> Result<bool, Error> {
    loop {
        match ws.try_recv() {
            Ok(Some(number)) => {
                println!("{number}, and the poll may go on");
                *numbers += 1;
            }
            Ok(None) => return Ok(false),
            Err(error) if error.is_timeout() => return Ok(true),
            Err(error) => return Err(error),
        }
    }
}

/// The thread's loop is a part of another one, such as that of a user interface: it is only turned when its descriptor says that
/// there is something to do, or when it is time for that.
fn another_loop(url: &str) -> Result<usize, Error> {
    let mut ws = blocking::connect(url)?;
    let event_loop = EventLoop::current();
    let mut poll = Poll::new()?;
    poll.registry().register(&mut SourceFd(&event_loop.poll_fd()?), Token(0), Interest::READABLE)?;
    let mut events = Events::with_capacity(8);
    let mut numbers = 0;
    while take_all(&mut ws, &mut numbers)? {
        let timeout = event_loop.before_sleep()?;
        poll.poll(&mut events, timeout)?;
    }
    Ok(numbers)
}

pub(crate) fn main() -> Result<(), Error> {
    let server = count_to_ten()?;
    let url = format!("ws://{}", server.local_addr().unwrap());
    for program in [frames, another_thread, another_loop] {
        assert_eq!(program(&url)?, 10);
    }
    server.stop();
    server.join()
}
