//! Echo app: a thread sends three messages over the app and closes it.
//!
//! `cargo run --example echoapp -- ws://HOST:PORT/PATH`, with an echo server's URL. Without one, it serves the echo itself.

use std::sync::mpsc;
use std::thread;

use threadwire::{App, Connection, Error, Message, Reply, Server};

/// Runs the app, and returns what was echoed.
pub fn run(url: &str) -> Result<Vec<String>, Error> {
    let mut app = App::new(url)?;
    let handle = app.handle();
    let (tell_opened, opened) = mpsc::channel();
    let (tell, heard) = mpsc::channel();

    let thread = thread::spawn(move || -> Result<Vec<String>, Error> {
        let mut echoes = Vec::new();
        // No answer any more: the app has ended.
        if opened.recv().is_ok() {
            for number in 0..3 {
                handle.send(&format!("Hello {number}"))?;
                echoes.extend(heard.recv());
            }
            handle.close()?;
            println!("thread terminating...");
        }
        Ok(echoes)
    });

    app = app
        .on_open(move |_ws| {
            println!("Opened connection");
            tell_opened.send(())
        })
        .on_message(move |_ws, message| {
            println!("{message}");
            tell.send(message.to_string())
        })
        .on_error(|_ws, error| println!("{error:#}"))
        .on_close(|_ws, closed| println!("### closed ### {closed}"));
    let ended = app.run_forever();
    // With its callbacks the channels end, for which the thread may be waiting.
    drop(app);
    let echoes = thread.join().map_err(|_| Error::other("the thread panicked"))?;
    ended?;
    echoes
}

/// Runs it against the server that is asked for, or one of its own.
pub fn main() -> Result<(), Error> {
    if let Some(url) = std::env::args().nth(1) {
        run(&url)?;
        return Ok(());
    }
    let echo = || Reply::with(|ws: &Connection, message: Message<'_>| ws.send(message));
    let server = Server::bind("127.0.0.1:0")?.serve(move |_request| echo())?;
    let echoes = run(&format!("ws://{}", server.local_addr().unwrap()));
    server.stop();
    server.join()?;
    assert_eq!(echoes?, ["Hello 0", "Hello 1", "Hello 2"]);
    Ok(())
}
