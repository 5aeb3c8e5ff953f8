//! Clients of each face, made alike: connect, echo one message, close.

use std::cell::RefCell;
use std::rc::Rc;

use threadwire::{App, Client, Connection, Error, Message, blocking, wait_until};

/// A face of the library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    /// Callbacks.
    Listener,
    /// Receiving and sending.
    Blocking,
    /// Apps.
    App,
    /// Async.
    #[cfg(feature = "aio")]
    Aio,
}

/// All of them.
pub const FACES: &[Face] = &[
    Face::Listener,
    Face::Blocking,
    Face::App,
    #[cfg(feature = "aio")]
    Face::Aio,
];

/// One for each way in which connections are driven.
pub const DRIVERS: &[Face] = &[
    Face::Listener,
    #[cfg(feature = "aio")]
    Face::Aio,
];

impl Face {
    /// Connects to an echo, and returns what comes back.
    pub fn echo(self, client: &Client, text: &str) -> Result<String, Error> {
        match self {
            Face::Listener => {
                let got = Rc::new(RefCell::new(None));
                let note = Rc::clone(&got);
                let ws = client.connect(move |ws: &Connection, message: Message<'_>| {
                    *note.borrow_mut() = Some(message.to_string());
                    ws.close()
                })?;
                ws.send(text)?;
                wait_until(None, || ws.has_ended())?;
                let got = got.borrow_mut().take();
                Ok(got.expect("an echo"))
            }
            Face::Blocking => {
                let mut ws = blocking::connect(client)?;
                ws.send(text)?;
                let got = ws.recv()?.expect("an echo").to_string();
                ws.close()?;
                Ok(got)
            }
            Face::App => {
                let got = Rc::new(RefCell::new(None));
                let note = Rc::clone(&got);
                let text = text.to_owned();
                App::new(client)?
                    .on_open(move |ws| ws.send(&text))
                    .on_message(move |ws, message| {
                        *note.borrow_mut() = Some(message.to_string());
                        ws.close()
                    })
                    .on_error(|_, _| {})
                    .run_forever()?;
                let got = got.borrow_mut().take();
                Ok(got.expect("an echo"))
            }
            #[cfg(feature = "aio")]
            Face::Aio => super::tasks::single().block_on(async {
                let mut ws = threadwire::aio::connect(client).await?;
                ws.send(text).await?;
                let got = ws.recv().await?.expect("an echo").to_string();
                ws.close().await?;
                Ok(got)
            }),
        }
    }

    /// Connects, and returns what that fails with.
    pub fn fails(self, client: &Client) -> Error {
        match self.echo(client, "hello") {
            Ok(_) => panic!("{self:?} connected with {client:?}"),
            Err(error) => error,
        }
    }
}
