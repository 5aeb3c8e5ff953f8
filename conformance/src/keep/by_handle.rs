//! A handle's thread, which is none of a loop's.

use std::thread;

use threadwire::messages::Backlog;
use threadwire::{Error, Handle};

use super::{Doing, Kept, PAUSE, TEXT};

/// Uses a connection by its handle until its end, of which it tells.
pub(super) fn keep(handle: &Handle, kept: &Kept) {
    keep_with(handle, kept, |text| handle.send(text), || handle.close());
}

/// The same, with another handle around it to send and to close.
pub(super) fn keep_with(
    handle: &Handle,
    kept: &Kept,
    send: impl Fn(&'static str) -> Result<(), Error>,
    close: impl FnOnce() -> Result<(), Error>,
) {
    match kept.usage.doing {
        Doing::Receive => {
            let mut messages = handle.messages(Backlog::default());
            while let Ok(Some(_)) = messages.recv_timeout(kept.left()) {
                kept.count();
            }
        }
        Doing::Send | Doing::SendNative => {
            while kept.goes_on() && send(TEXT).is_ok() {
                kept.count();
                thread::sleep(PAUSE);
            }
        }
        Doing::Nothing => thread::sleep(kept.left()),
    }
    if kept.usage.closes && handle.is_open() {
        kept.begin_to_close();
        let _ = close();
    }
    match handle.wait_closed() {
        Ok(closed) => kept.tell(Some(&closed)),
        Err(error) => kept.failed(&error),
    }
}
