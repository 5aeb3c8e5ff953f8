//! Connections that outlive the failures of their callbacks, where that is wanted.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use threadwire::reconnect::Backoff;
use threadwire::{
    App, Client, Closed, Config, Connection, Error, Listener, Message, Reply, blocking, connect, on_message,
    wait_until,
};

use crate::common::{Serving, bind, bounded, echo, patient};

fn going_on() -> Config {
    patient().close_on_error(false)
}

/// Fails at first, in each way, and then echoes.
#[derive(Default)]
struct Clumsy {
    failures: u32,
    closed: Rc<RefCell<Option<Arc<Closed>>>>,
}

impl Listener for Clumsy {
    fn on_open(&mut self, _ws: &Connection) -> Result<(), Error> {
        panic!("no good morning");
    }

    fn on_message(&mut self, ws: &Connection, message: Message<'_>) -> Result<(), Error> {
        self.failures += 1;
        match self.failures {
            1 => Err(Error::other("not understood")),
            2 => panic!("not at all"),
            3 => ws.send_frame(threadwire::frame::OpCode::Continuation, true, b"of nothing"),
            _ => ws.send(message),
        }
    }

    fn on_close(&mut self, ws: &Connection, _closed: &Closed) {
        *self.closed.borrow_mut() = ws.closed();
    }
}

#[test]
fn a_servers_connection_goes_on_after_errors_and_panics() {
    bounded(|| {
        let server = Serving::with(bind().config(going_on()), |_| Reply::with(Clumsy::default()));
        let mut ws = blocking::connect(server.url("/")).unwrap();
        for text in ["an error", "a panic", "a frame that must not be sent", "an echo"] {
            ws.send(text).unwrap();
        }
        assert_eq!(ws.recv().unwrap().unwrap().to_string(), "an echo");
        assert!(ws.close().unwrap().is_normal());
    });
}

#[test]
fn a_clients_connection_goes_on_and_its_end_knows_nothing_of_the_failures() {
    bounded(|| {
        let server = Serving::with(bind(), |_| Reply::with(echo));
        let closed = Rc::default();
        let client = Client::new(server.url("/")).unwrap().config(going_on());
        let ws = client.connect(Clumsy { failures: 0, closed: Rc::clone(&closed) }).unwrap();
        for text in ["an error", "a panic", "a frame that must not be sent"] {
            ws.send(text).unwrap();
        }
        ws.measure_roundtrip(1).unwrap();
        assert!(ws.is_open());
        ws.close().unwrap();
        ws.wait_closed().unwrap();
        let closed = closed.borrow_mut().take().unwrap();
        assert!(closed.is_normal() && closed.error.is_none(), "{closed}");
        // Without the setting the first of them ends it.
        let ended = connect(server.url("/"), on_message(|_, _| Err::<(), _>("not understood"))).unwrap();
        ended.send("an error").unwrap();
        assert_eq!(ended.wait_closed().unwrap().code, threadwire::CloseCode::INTERNAL_ERROR);
    });
}

#[test]
fn a_connection_that_comes_back_goes_on_and_need_not() {
    bounded(|| {
        let server = Serving::with(bind(), |_| Reply::with(echo));
        let client = Client::new(server.url("/")).unwrap().config(going_on());
        let heard = Rc::new(Cell::new(0));
        let hears = Rc::clone(&heard);

        struct Fails(Rc<Cell<u32>>);

        impl Listener for Fails {
            fn on_open(&mut self, ws: &Connection) -> Result<(), Error> {
                ws.send("one")?;
                panic!("after the first message");
            }

            fn on_message(&mut self, ws: &Connection, _message: Message<'_>) -> Result<(), Error> {
                self.0.set(self.0.get() + 1);
                ws.send("more")?;
                Err(Error::other("not understood"))
            }
        }

        let handle = client.reconnect(Backoff::default()).start(Fails(hears));
        wait_until(None, || heard.get() >= 3).unwrap();
        handle.send("from elsewhere").unwrap();
        assert_eq!(handle.connections(), 1);
        handle.close().unwrap();
        handle.wait_ended().unwrap();
    });
}

#[test]
fn an_app_goes_on_and_is_told_of_each_failure() {
    bounded(|| {
        let server = Serving::with(bind(), |_| Reply::with(echo));
        let client = Client::new(server.url("/")).unwrap().config(going_on());
        let told = Rc::new(RefCell::new(Vec::new()));
        let tells = Rc::clone(&told);
        App::new(&client)
            .unwrap()
            .on_open(|ws| {
                for text in ["1", "two", "3", "end"] {
                    ws.send(text)?;
                }
                Ok::<(), Error>(())
            })
            .on_message(|ws, message| -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
                if message.as_text() == Some("end") {
                    return Ok(ws.close()?);
                }
                message.as_text().unwrap_or_default().parse::<u32>()?;
                panic!("it was a number");
            })
            .on_error(move |_, error| tells.borrow_mut().push(error.to_string()))
            .run_forever()
            .unwrap();
        let number = "a callback panicked: it was a number";
        assert_eq!(told.take(), [number, "invalid digit found in string", number]);
    });
}
