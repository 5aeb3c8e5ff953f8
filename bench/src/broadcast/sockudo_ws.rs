//! Broadcast with sockudo-ws: its publish and subscribe, with one topic; each connection is a task that sends what its channel
//! receives.
//!
//! The socket is not split, as its example does: the halves share a lock and a task for control frames, and cost more.
//! Its own pings and timeouts are off, which the other arms do not have.

use crate::servers::{Outcome, tokio_echo};
use futures_util::{SinkExt as _, StreamExt as _};
use sockudo_ws::handshake::server_handshake;
use sockudo_ws::pubsub::PubSub;
use sockudo_ws::{Config, Message, Role, WebSocketStream};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

const TOPIC: &str = "room";

/// Serves 127.0.0.1 at `port`.
pub(super) fn run(port: u16) -> Outcome {
    let room = Arc::new(PubSub::new());
    tokio_echo::serve(port, move |stream| member(stream, Arc::clone(&room)))
}

async fn member(mut stream: TcpStream, room: Arc<PubSub>) -> Outcome {
    let config = Config::builder().auto_ping(false).idle_timeout(0).build();
    let early = server_handshake(&mut stream).await?.leftover;
    let mut socket = WebSocketStream::from_raw_with_leftover(stream, Role::Server, config, early);
    let (sender, mut said) = mpsc::unbounded_channel();
    let id = room.create_subscriber(sender);
    room.subscribe(id, TOPIC);
    loop {
        tokio::select! {
            Some(message) = said.recv() => socket.send(message).await?,
            heard = socket.next() => match heard.transpose() {
                Ok(Some(message @ Message::Text(_))) => _ = room.publish(TOPIC, message),
                Ok(Some(_)) => {}
                ended => {
                    room.remove_subscriber(id);
                    return Ok(ended.map(|_| ())?);
                }
            },
        }
    }
}
