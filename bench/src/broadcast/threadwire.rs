//! Broadcast with Threadwire: a room, to which each listener sends the messages of its member.

use crate::servers::Outcome;
use std::net::Ipv4Addr;
use threadwire::{Connection, Error, Listener, Message, Reply, Room, Server};

struct Member(Room);

impl Listener for Member {
    fn on_open(&mut self, ws: &Connection) -> Result<(), Error> {
        self.0.join(ws);
        Ok(())
    }

    fn on_message(&mut self, _ws: &Connection, message: Message<'_>) -> Result<(), Error> {
        self.0.send(message);
        Ok(())
    }
}

/// Serves 127.0.0.1 at `port`.
pub(super) fn run(port: u16) -> Outcome {
    let room = Room::new();
    Server::bind((Ipv4Addr::LOCALHOST, port))?.run(move |_request| Reply::with(Member(room.clone())))?;
    Ok(())
}
