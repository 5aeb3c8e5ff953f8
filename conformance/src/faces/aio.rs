//! Echo server and client of the async face.

use std::time::Duration;

use threadwire::aio::{self, Event};
use threadwire::{CloseCode, Config, Error, Limits, OwnedMessage};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::{Seen, Step, client, server_tls};
use crate::settings;

/// How long a server may be silent before a check gives it up.
const PATIENCE: Duration = Duration::from_secs(20);

fn config() -> Config {
    // Limits as large as the messages of the suites; and a close timeout short enough not to hold them up.
    let limits = Limits::default().max_message(16 << 20);
    let (close_timeout, deflate) = (Duration::from_secs(2), settings::deflate());
    Config::default().limits(limits).close_timeout(close_timeout).deflate(deflate)
}

/// Echoes until the end. What went wrong is in how the connection ended, and no fault of ours.
async fn echo_all(ws: &mut aio::Connection) {
    while let Ok(Some(message)) = ws.recv().await {
        if ws.send(&message).await.is_err() {
            break;
        }
    }
}

pub(super) fn serve(listen: &str) -> Result<(), Error> {
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let mut stop = Some(stop);
    ctrlc::set_handler(move || drop(stop.take())).map_err(Error::other)?;
    Runtime::new()?.block_on(async {
        let mut server = aio::Server::bind(listen).await?.config(config());
        if let Some(tls) = server_tls()? {
            server = server.tls(tls);
        }
        println!("listening on ws://{}", server.local_addr()?);
        server.serve_until(stopped, |_request, mut ws| async move { echo_all(&mut ws).await }).await
    })
}

async fn connect(url: &str) -> Result<aio::Connection, Error> {
    aio::connect(&client(url)?.config(config())).await
}

pub(super) fn echo(url: &str) -> Result<(), Error> {
    Runtime::new()?.block_on(async {
        let mut ws = connect(url).await?;
        echo_all(&mut ws).await;
        ws.handle().wait_closed().await;
        Ok(())
    })
}

pub(super) fn ask(url: &str) -> Result<String, Error> {
    Runtime::new()?.block_on(async {
        let mut ws = connect(url).await?;
        let mut last = None;
        while let Some(message) = ws.recv().await? {
            last = Some(message);
        }
        match last {
            Some(OwnedMessage::Text(text)) => Ok(text),
            _ => Err(Error::other("the server closed without a text message")),
        }
    })
}

pub(super) fn exchange(
    url: &str,
    steps: &[Step],
    (messages, pongs): (usize, usize),
    code: CloseCode,
) -> Result<Seen, Error> {
    Runtime::new()?.block_on(async {
        let mut seen = Seen::default();
        let (sender, mut receiver) = connect(url).await?.split();
        let send = async {
            for step in steps {
                sender.send_frame(step.opcode, step.fin, &step.payload).await?;
            }
            Ok(())
        };
        let receive = async {
            while seen.messages.len() < messages || seen.pongs.len() < pongs {
                // Patience begins anew with everything that arrives.
                match timeout(PATIENCE, receiver.recv_event()).await {
                    Ok(Ok(Some(Event::Message(message)))) => {
                        seen.messages.push((message.as_text().is_some(), message.into_bytes()));
                    }
                    Ok(Ok(Some(Event::Pong(payload)))) => seen.pongs.push(payload),
                    Ok(Ok(Some(_))) => {}
                    _ => break,
                }
            }
        };
        let (sent, ()): (Result<(), Error>, ()) = tokio::join!(send, receive);
        sent?;
        let closed = sender.close_with(code, "").await?;
        seen.closed = Some((closed.code, closed.clean));
        seen.error = closed.error.as_ref().map(ToString::to_string);
        Ok(seen)
    })
}
