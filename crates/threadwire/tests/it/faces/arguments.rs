//! What a program may hand over on each face: messages and URLs that it owns or borrows, and closures whose types are inferred.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::error::Error as StdError;
use std::rc::Rc;
use std::sync::Arc;

use threadwire::reconnect::Backoff;
use threadwire::{
    App, Client, CloseCode, Connection, Error, Message, OwnedMessage, Reply, Room, WhenFull, blocking,
    connect, on_message, wait_until,
};

use crate::common::{Serving, bind, bounded, echo};

fn echoing() -> Serving {
    Serving::with(bind(), |_| Reply::with(echo))
}

/// Sends a text ten times and three bytes five times, in each form in which they may be given.
macro_rules! each_form {
    ($send:ident) => {
        $send!(String::from("text"));
        $send!(&String::from("text"));
        $send!(format!("{}", "text"));
        $send!("text");
        $send!(Cow::Borrowed("text"));
        $send!(Arc::<str>::from("text"));
        $send!(Box::<str>::from("text"));
        $send!(OwnedMessage::from("text".to_owned()));
        $send!(&OwnedMessage::from("text".to_owned()));
        $send!(Message::Text("text"));
        $send!(vec![1, 2, 3]);
        $send!(&vec![1, 2, 3]);
        $send!([1, 2, 3]);
        $send!(&[1, 2, 3]);
        $send!(&[1, 2, 3][..]);
    };
}

fn forms() -> Vec<OwnedMessage> {
    let (text, bytes) = (OwnedMessage::Text("text".to_owned()), OwnedMessage::Binary(vec![1, 2, 3]));
    [vec![text; 10], vec![bytes; 5]].concat()
}

/// A listener that keeps what comes.
fn keeping(got: &Rc<RefCell<Vec<OwnedMessage>>>) -> impl threadwire::Listener + use<> {
    let keeps = Rc::clone(got);
    on_message(move |_, message| keeps.borrow_mut().push(message.to_owned()))
}

#[test]
fn messages_may_be_owned_or_borrowed_with_callbacks_by_handles_and_to_rooms() {
    bounded(|| {
        let server = echoing();
        let got = Rc::default();
        let ws = connect(server.url("/"), keeping(&got)).unwrap();
        let all = |got: &Rc<RefCell<Vec<OwnedMessage>>>| {
            wait_until(None, || got.borrow().len() == forms().len()).unwrap();
            assert_eq!(got.take(), forms());
        };
        macro_rules! send {
            ($message:expr) => {
                ws.send($message).unwrap()
            };
        }
        each_form!(send);
        all(&got);
        macro_rules! send_with {
            ($message:expr) => {
                ws.send_with($message, WhenFull::Error).unwrap()
            };
        }
        each_form!(send_with);
        all(&got);
        let handle = ws.handle();
        macro_rules! by_handle {
            ($message:expr) => {
                handle.send($message).unwrap()
            };
        }
        each_form!(by_handle);
        all(&got);
        let room = Room::new();
        room.join(&ws);
        macro_rules! to_room {
            ($message:expr) => {
                drop(room.send($message))
            };
        }
        each_form!(to_room);
        all(&got);
        let again = Client::new(server.url("/")).unwrap().reconnect(Backoff::default()).start(keeping(&got));
        wait_until(None, || again.connection().is_some()).unwrap();
        macro_rules! reconnecting {
            ($message:expr) => {
                again.send($message).unwrap()
            };
        }
        each_form!(reconnecting);
        all(&got);
        again.close().unwrap();
        ws.close().unwrap();
    });
}

#[test]
fn messages_may_be_owned_or_borrowed_on_the_blocking_face() {
    bounded(|| {
        let server = echoing();
        let mut ws = blocking::connect(server.url("/")).unwrap();
        macro_rules! send {
            ($message:expr) => {
                ws.send($message).unwrap()
            };
        }
        each_form!(send);
        let got: Vec<OwnedMessage> =
            (0..forms().len()).map(|_| ws.recv().unwrap().unwrap().to_owned()).collect();
        assert_eq!(got, forms());
        ws.close().unwrap();
        blocking::connect(Client::new(server.url("/")).unwrap()).unwrap().close().unwrap();
    });
}

#[test]
fn messages_may_be_owned_or_borrowed_in_an_app() {
    bounded(|| {
        let server = echoing();
        let got = Rc::<RefCell<Vec<OwnedMessage>>>::default();
        let keeps = Rc::clone(&got);
        let app = App::new(server.url("/")).unwrap();
        let handle = app.handle();
        app.on_open(move |_| -> Result<(), Error> {
            macro_rules! send {
                ($message:expr) => {
                    handle.send($message)?
                };
            }
            each_form!(send);
            Ok(())
        })
        .on_message(move |ws, message| -> Result<(), Error> {
            keeps.borrow_mut().push(message.to_owned());
            if keeps.borrow().len() == forms().len() { ws.close() } else { Ok(()) }
        })
        .run_forever()
        .unwrap();
        assert_eq!(got.take(), forms());
    });
}

#[cfg(feature = "aio")]
#[test]
fn messages_may_be_owned_or_borrowed_on_the_async_face() {
    bounded(|| {
        let server = echoing();
        crate::common::tasks::single().block_on(async {
            let mut ws = threadwire::aio::connect(server.url("/")).await.unwrap();
            macro_rules! send {
                ($message:expr) => {
                    ws.send($message).await.unwrap()
                };
            }
            each_form!(send);
            let handle = ws.handle();
            macro_rules! by_handle {
                ($message:expr) => {
                    handle.send($message).unwrap()
                };
            }
            each_form!(by_handle);
            macro_rules! later {
                ($message:expr) => {
                    handle.send_async($message).await.unwrap()
                };
            }
            each_form!(later);
            macro_rules! to_all {
                ($message:expr) => {
                    assert_eq!(threadwire::aio::broadcast([&handle], $message).sent, 1)
                };
            }
            each_form!(to_all);
            for _ in 0..4 {
                let mut got = Vec::new();
                while got.len() < forms().len() {
                    got.push(ws.recv().await.unwrap().unwrap().to_owned());
                }
                assert_eq!(got, forms());
            }
            ws.close().await.unwrap();
        });
    });
}

#[test]
fn closures_need_no_types_and_may_fail_with_any_error() {
    bounded(|| {
        let server = Serving::with(bind(), |_| {
            Reply::with(on_message(|ws, message| -> Result<(), Box<dyn StdError + Send + Sync>> {
                let number: u32 = message.as_text().unwrap_or_default().parse()?;
                Ok(ws.send(format!("{}", number + 1))?)
            }))
        });
        let count = Rc::new(Cell::new(0));
        let counts = Rc::clone(&count);
        let client = Client::new(server.url("/")).unwrap();
        let ws = client
            .connect(on_message(move |ws: &Connection, message| {
                counts.set(counts.get() + 1);
                ws.send(format!("not {message}"))
            }))
            .unwrap();
        ws.send("1").unwrap();
        assert_eq!(ws.wait_closed().unwrap().code, CloseCode::INTERNAL_ERROR);
        assert_eq!(count.get(), 1);

        let counts = Rc::clone(&count);
        client.start(on_message(move |_, _| counts.set(counts.get() + 1))).unwrap();
    });
}
