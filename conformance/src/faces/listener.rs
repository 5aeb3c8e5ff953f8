//! Echo server and client of the callback face.

use std::cell::RefCell;
use std::rc::Rc;

use threadwire::{CloseCode, Closed, Connection, Error, Listener, Message, Reply, Server, wait_until};

use super::{PATIENCE, Seen, Step, client, config, server_tls};

struct Echo {
    seen: Rc<RefCell<Seen>>,
}

impl Listener for Echo {
    fn on_message(&mut self, ws: &Connection, message: Message<'_>) -> Result<(), Error> {
        ws.send(message)
    }

    fn on_close(&mut self, _ws: &Connection, closed: &Closed) {
        self.seen.borrow_mut().closed = Some((closed.code, closed.clean));
    }
}

pub(super) fn serve(listen: &str) -> Result<(), Error> {
    let mut server = Server::bind(listen)?.config(config());
    if let Some(tls) = server_tls()? {
        server = server.tls(tls);
    }
    let server =
        server.serve(|_request| Reply::with(|ws: &Connection, message: Message<'_>| ws.send(message)))?;
    let stopper = server.stopper();
    ctrlc::set_handler(move || stopper.stop()).map_err(Error::other)?;
    println!("listening on ws://{}", server.local_addr().unwrap());
    server.join()
}

pub(super) fn echo(url: &str) -> Result<(), Error> {
    let seen = Rc::<RefCell<Seen>>::default();
    client(url)?.connect(Echo { seen: Rc::clone(&seen) })?;
    wait_until(None, || seen.borrow().closed.is_some())?;
    Ok(())
}

/// Keeps what arrives.
struct Keep {
    seen: Rc<RefCell<Seen>>,
}

impl Listener for Keep {
    fn on_message(&mut self, _ws: &Connection, message: Message<'_>) -> Result<(), Error> {
        let is_text = message.as_text().is_some();
        self.seen.borrow_mut().messages.push((is_text, message.as_bytes().to_vec()));
        Ok(())
    }

    fn on_pong(&mut self, _ws: &Connection, payload: &[u8]) -> Result<(), Error> {
        self.seen.borrow_mut().pongs.push(payload.to_vec());
        Ok(())
    }

    fn on_close(&mut self, _ws: &Connection, closed: &Closed) {
        let mut seen = self.seen.borrow_mut();
        seen.closed = Some((closed.code, closed.clean));
        seen.error = closed.error.as_ref().map(ToString::to_string);
    }
}

pub(super) fn ask(url: &str) -> Result<String, Error> {
    let seen = Rc::<RefCell<Seen>>::default();
    client(url)?.connect(Keep { seen: Rc::clone(&seen) })?;
    wait_until(None, || seen.borrow().closed.is_some())?;
    match seen.take().messages.pop() {
        Some((true, text)) => String::from_utf8(text).map_err(Error::other),
        _ => Err(Error::other("the server closed without a text message")),
    }
}

pub(super) fn exchange(
    url: &str,
    steps: &[Step],
    (messages, pongs): (usize, usize),
    code: CloseCode,
) -> Result<Seen, Error> {
    let seen = Rc::<RefCell<Seen>>::default();
    let ws = client(url)?.connect(Keep { seen: Rc::clone(&seen) })?;
    for step in steps {
        ws.send_frame(step.opcode, step.fin, &step.payload)?;
    }
    // Patience begins anew with everything that arrives.
    loop {
        let before = (seen.borrow().messages.len(), seen.borrow().pongs.len());
        let progress = || {
            let seen = seen.borrow();
            (seen.messages.len(), seen.pongs.len()) != before || seen.closed.is_some()
        };
        let is_complete = before.0 >= messages && before.1 >= pongs;
        if is_complete || seen.borrow().closed.is_some() || !wait_until(Some(PATIENCE), progress)? {
            break;
        }
    }
    let _ = ws.close_with(code, "");
    wait_until(None, || seen.borrow().closed.is_some())?;
    Ok(seen.take())
}
