//! Threadwire: a list of the members, to each of whom the listener sends what one of them says.

use crate::servers::Outcome;
use std::cell::RefCell;
use std::net::Ipv4Addr;
use threadwire::{Accept, Closed, Connection, Error, Listener, Message, Server};

thread_local! {
    static ROOM: RefCell<Vec<Connection>> = const { RefCell::new(Vec::new()) };
}

struct Member;

impl Listener for Member {
    fn on_open(&mut self, ws: &Connection) -> Result<(), Error> {
        ROOM.with_borrow_mut(|room| room.push(ws.clone()));
        Ok(())
    }

    fn on_message(&mut self, _ws: &Connection, message: Message<'_>) -> Result<(), Error> {
        ROOM.with_borrow(|room| room.iter().try_for_each(|member| member.send(message)))
    }

    fn on_close(&mut self, _ws: &Connection, _closed: &Closed) {
        ROOM.with_borrow_mut(|room| room.retain(|member| !member.has_ended()));
    }
}

/// Serves 127.0.0.1 at `port`.
pub(super) fn run(port: u16) -> Outcome {
    Server::bind((Ipv4Addr::LOCALHOST, port))?.run(|_request| Accept::with(Member))?;
    Ok(())
}
