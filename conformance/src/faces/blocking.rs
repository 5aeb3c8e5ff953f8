//! Echo server and client of the blocking face.

use std::sync::mpsc;

use threadwire::blocking::{Connection, Select, Selected, Server, connect};
use threadwire::worker::EventLoop;
use threadwire::{CloseCode, Error, OwnedMessage};

use super::{PATIENCE, Seen, Step, client, config, server_tls};

/// How many connections are served at the same time where each has a thread.
const THREADS: usize = 16;

fn bind(listen: &str) -> Result<Server, Error> {
    let server = Server::bind(listen)?.config(config());
    Ok(match server_tls()? {
        Some(tls) => server.tls(tls),
        None => server,
    })
}

/// All connections on this thread.
pub(super) fn serve(listen: &str) -> Result<(), Error> {
    let server = bind(listen)?;
    let remote = EventLoop::current().remote();
    ctrlc::set_handler(move || remote.stop()).map_err(Error::other)?;
    println!("listening on ws://{}", server.local_addr().unwrap());
    let mut select = Select::new();
    select.serve(server);
    loop {
        match select.recv() {
            Ok(Some((key, Selected::Message(message)))) => answer(&mut select[key], &message)?,
            Ok(Some(_)) => {}
            Ok(None) | Err(Error::Stopped) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// A thread for each connection.
pub(super) fn serve_with_threads(listen: &str) -> Result<(), Error> {
    let server = bind(listen)?.serve(THREADS, echo_all)?;
    let (signal, signals) = mpsc::channel();
    let handler = move || {
        // A second signal has no receiver.
        let _ = signal.send(());
    };
    ctrlc::set_handler(handler).map_err(Error::other)?;
    println!("listening on ws://{}", server.local_addr().unwrap());
    signals.recv().map_err(Error::other)?;
    server.stop();
    server.join()
}

pub(super) fn echo(url: &str) -> Result<(), Error> {
    let mut ws = open(url)?;
    match echo_all(&mut ws) {
        // However it ends.
        Err(Error::Ended(_)) => Ok(()),
        other => other,
    }
}

fn echo_all(ws: &mut Connection) -> Result<(), Error> {
    while let Some(message) = ws.recv()? {
        answer(ws, &message)?;
    }
    Ok(())
}

/// The peer may have closed behind its message.
fn answer(ws: &mut Connection, message: &OwnedMessage) -> Result<(), Error> {
    match ws.send(message) {
        Err(Error::Closed) => Ok(()),
        sent => sent,
    }
}

fn open(url: &str) -> Result<Connection, Error> {
    connect(&client(url)?)
}

pub(super) fn ask(url: &str) -> Result<String, Error> {
    let mut ws = open(url)?;
    let last = ws.iter().filter_map(Result::ok).last();
    match last {
        Some(OwnedMessage::Text(text)) => Ok(text),
        _ => Err(Error::other("the server closed without a text message")),
    }
}

pub(super) fn exchange(url: &str, steps: &[Step], expected: usize, code: CloseCode) -> Result<Seen, Error> {
    let mut ws = open(url)?;
    for step in steps {
        ws.connection().send_frame(step.opcode, step.fin, &step.payload)?;
    }
    let mut messages = Vec::new();
    // Patience begins anew with every message.
    while messages.len() < expected {
        match ws.recv_timeout(PATIENCE) {
            Ok(Some(message)) => messages.push(keep(message)),
            Err(error) if error.is_timeout() => break,
            Ok(None) | Err(Error::Ended(_)) => break,
            Err(error) => return Err(error),
        }
    }
    let closed = ws.close_with(code, "")?;
    // Messages that came although nothing was missing.
    while let Ok(Some(message)) = ws.try_recv() {
        messages.push(keep(message));
    }
    let error = closed.error.as_ref().map(ToString::to_string);
    let closed = Some((closed.code, closed.clean));
    Ok(Seen { messages, hides_pongs: true, closed, error, ..Seen::default() })
}

fn keep(message: OwnedMessage) -> (bool, Vec<u8>) {
    (message.as_text().is_some(), message.into_bytes())
}
