//! Connections of the async face that are kept, each in a task of its own.

use std::str::FromStr;
use std::time::Duration;

use threadwire::aio::{self, Connection, Handle, Receiver, Sender};
use threadwire::{Client, Config, Error, OwnedMessage};
use tokio::runtime::Runtime;
use tokio::time::{sleep, timeout};

use super::{Doing, Held, Kept, PAUSE, STAGGER, TEXT, Usage, told};

pub(super) fn serve(listen: &str, config: Config, stay: Duration) -> Result<(), Error> {
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let mut stop = Some(stop);
    ctrlc::set_handler(move || drop(stop.take())).map_err(Error::other)?;
    Runtime::new()?.block_on(async {
        let server = aio::Server::bind(listen).await?.config(config);
        println!("listening on ws://{}", server.local_addr()?);
        server
            .serve_until(stopped, move |request, ws| async move {
                if let Ok(usage) = Usage::from_str(request.path()) {
                    keep(ws, Kept::new(usage, stay)).await;
                }
            })
            .await
    })
}

pub(super) fn connect(url: &str, config: &Config, stay: Duration, paths: Vec<Usage>) -> Result<(), Error> {
    Runtime::new()?.block_on(async {
        let count = paths.len();
        for usage in paths {
            let client = Client::new(&format!("{url}{}", usage.path))?.config(config.clone());
            tokio::spawn(async move {
                let kept = Kept::new(usage, stay);
                match aio::connect(&client).await {
                    Ok(ws) => keep(ws, kept).await,
                    Err(error) => kept.failed(&error),
                }
            });
            sleep(STAGGER).await;
        }
        while told() < count {
            sleep(PAUSE).await;
        }
        Ok(())
    })
}

/// What the program has of a connection.
enum Part {
    Connection(Connection),
    Halves(Sender, Receiver),
    Sender(Sender),
    Receiver(Receiver),
    Handle(Handle),
}

impl Part {
    fn of(ws: Connection, held: Held) -> Part {
        match held {
            Held::Connection | Held::Select => Part::Connection(ws),
            Held::Halves => {
                let (sender, receiver) = ws.split();
                Part::Halves(sender, receiver)
            }
            Held::Sender => Part::Sender(ws.split().0),
            Held::Receiver => Part::Receiver(ws.split().1),
            Held::Handle => {
                let handle = ws.handle();
                tokio::spawn(async move {
                    // This task has the connection, and waits for something else.
                    ws.handle().wait_closed().await;
                });
                Part::Handle(handle)
            }
        }
    }

    async fn send(&self) -> Result<(), Error> {
        match self {
            Part::Connection(ws) => ws.send(TEXT).await,
            Part::Halves(sender, _) | Part::Sender(sender) => sender.send(TEXT).await,
            Part::Handle(handle) => handle.send(TEXT),
            Part::Receiver(_) => Err(Error::other("this half does not send")),
        }
    }

    async fn recv(&mut self) -> Result<Option<OwnedMessage>, Error> {
        match self {
            Part::Connection(ws) => ws.recv().await,
            Part::Halves(_, receiver) | Part::Receiver(receiver) => receiver.recv().await,
            Part::Sender(_) | Part::Handle(_) => Err(Error::other("that does not receive")),
        }
    }

    async fn close(&self) {
        let _ = match self {
            Part::Connection(ws) => ws.close().await.map(drop),
            Part::Halves(sender, _) | Part::Sender(sender) => sender.close().await.map(drop),
            Part::Receiver(receiver) => receiver.handle().close(),
            Part::Handle(handle) => handle.close(),
        };
    }
}

async fn keep(ws: Connection, kept: Kept) {
    let handle = ws.handle();
    let mut part = Part::of(ws, kept.usage.held);
    match kept.usage.doing {
        Doing::Receive => {
            while let Ok(Ok(Some(_))) = timeout(kept.left(), part.recv()).await {
                kept.count();
            }
        }
        Doing::Send | Doing::SendNative => {
            while kept.goes_on() && part.send().await.is_ok() {
                kept.count();
                sleep(PAUSE).await;
            }
        }
        Doing::Nothing => sleep(kept.left()).await,
    }
    if kept.usage.closes && handle.is_open() {
        kept.begin_to_close();
        part.close().await;
    }
    let closed = handle.wait_closed().await;
    kept.tell(Some(&closed));
}
