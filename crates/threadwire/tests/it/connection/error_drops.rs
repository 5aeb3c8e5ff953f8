//! Errors of the program whose `drop` calls the library again.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use crate::common::recorder::{Call, Log};
use crate::common::{Serving, bounded, ignore, patient};
use threadwire::reconnect::{Backoff, Cause, ReconnectHandle, State};
use threadwire::{Client, Connection, Error, Handle, Message, blocking};

/// An error that does this when it is dropped.
#[derive(Debug)]
struct Dropped<T: Tell>(T);

/// The log of the drop.
trait Tell: fmt::Debug {
    fn tell(&self);
}

impl Tell for Handle {
    fn tell(&self) {
        let _ = self.send("bye");
    }
}

impl Tell for ReconnectHandle {
    fn tell(&self) {
        let _ = self.state();
    }
}

impl<T: Tell> Display for Dropped<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("on purpose")
    }
}

impl<T: Tell> std::error::Error for Dropped<T> {}

impl<T: Tell> Drop for Dropped<T> {
    fn drop(&mut self) {
        self.0.tell();
    }
}

/// Two errors of one connection: of the callback for messages, and of the one that is called as so much waits. The second is
/// dropped, as the first is why the connection ends, or the other way round.
#[test]
fn an_error_that_is_not_told_may_use_a_handle_as_it_is_dropped() {
    bounded(|| {
        struct Fails;

        impl threadwire::Listener for Fails {
            fn on_message(&mut self, ws: &Connection, _: Message<'_>) -> Result<(), Error> {
                ws.send(&vec![0; 12_000_000])?;
                Err(Error::other(Dropped(ws.handle())))
            }

            fn on_pause_writing(&mut self, ws: &Connection) -> Result<(), Error> {
                Err(Error::other(Dropped(ws.handle())))
            }
        }

        let serving =
            Serving::with(crate::common::bind().config(patient()), |request| match request.path() {
                "/echo" => threadwire::Reply::with(crate::common::echo),
                _ => threadwire::Reply::with(Fails),
            });
        let bystander = serving.bystander();
        let mut ws = blocking::connect(&serving.url("/")).unwrap();
        ws.send("fail").unwrap();
        while let Ok(Some(_)) = ws.recv() {}
        bystander.noticed_nothing();
    });
}

#[test]
fn the_error_of_an_end_may_use_the_handle_as_it_is_dropped() {
    bounded(|| {
        let serving = Serving::recording(patient(), &Log::new(), |ws, call| {
            if *call == Call::Open { ws.send("hi") } else { ignore(ws, call) }
        });
        let backoff = Backoff::default().first(Duration::from_millis(5)).max_attempts(4);
        let client = Client::new(&serving.url("/")).unwrap().config(patient());
        let handle = client.reconnect(backoff).retry_if(|_: &Cause| true).start_with(|handle| {
            let handle = handle.clone();
            move |_: &Connection, _: Message<'_>| Err(Error::other(Dropped(handle.clone())))
        });
        assert_eq!(handle.wait_ended().unwrap().state, State::GaveUp);
    });
}
