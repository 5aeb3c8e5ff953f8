//! A connection of each face with a peer that is made by hand, for a scenario to use.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use threadwire::{Client, Config, Connection, Error, Message};

use crate::common::keeping::await_frame;
use crate::common::patient;
use crate::common::peer::{Host, Peer};

/// A client of a peer that is made by hand, and that peer, once the client has connected.
pub(crate) fn client(config: Config) -> (Client, JoinHandle<Peer>) {
    let host = Host::listen();
    let url = host.url();
    (Client::new(&url).unwrap().config(config), host.run(|host| host.upgrade(b"")))
}

/// Listens to messages, and does nothing about them.
pub(crate) fn deaf(_ws: &Connection, _message: Message<'_>) -> Result<(), Error> {
    Ok(())
}

/// Turns this thread's loop until a frame has arrived at the peer.
pub(crate) fn frame(peer: &mut Peer) -> (u8, Vec<u8>) {
    await_frame(peer)
}

/// The same for the text of a message.
pub(crate) fn text(peer: &mut Peer) -> String {
    String::from_utf8(await_frame(peer).1).unwrap()
}

/// Callbacks, on this thread.
pub(crate) mod listener {
    use super::*;

    /// An open connection of callbacks.
    pub(crate) fn open(config: Config) -> (Connection, Peer) {
        let (client, peer) = client(config);
        (client.connect(deaf).unwrap(), peer.join().unwrap())
    }

    /// With a connection and its peer.
    pub(crate) fn peer(scenario: impl FnOnce(&Connection, &mut Peer)) {
        let (ws, mut peer) = open(patient());
        scenario(&ws, &mut peer);
    }

    /// As it is.
    pub(crate) fn alone(scenario: impl FnOnce()) {
        scenario();
    }

    /// As a client.
    pub(crate) fn client_of(scenario: impl FnOnce(crate::common::faces::Face)) {
        scenario(crate::common::faces::Face::Listener);
    }

    /// As a server.
    pub(crate) fn server(scenario: impl FnOnce(crate::common::doors::Face)) {
        scenario(crate::common::doors::Face::Listener);
    }
}

/// The blocking face, on this thread.
pub(crate) mod blocking {
    use super::*;

    /// An open connection.
    pub(crate) fn open(config: Config) -> (threadwire::blocking::Connection, Peer) {
        let (client, peer) = client(config);
        (threadwire::blocking::connect(&client).unwrap(), peer.join().unwrap())
    }

    /// With a connection and its peer.
    pub(crate) fn peer(scenario: impl FnOnce(&mut threadwire::blocking::Connection, &mut Peer)) {
        let (mut ws, mut peer) = open(patient());
        scenario(&mut ws, &mut peer);
        ws.connection().abort();
    }

    /// As it is.
    pub(crate) fn alone(scenario: impl FnOnce()) {
        scenario();
    }

    /// As a client.
    pub(crate) fn client_of(scenario: impl FnOnce(crate::common::faces::Face)) {
        scenario(crate::common::faces::Face::Blocking);
    }

    /// As a server.
    pub(crate) fn server(scenario: impl FnOnce(crate::common::doors::Face)) {
        scenario(crate::common::doors::Face::Blocking);
    }
}

/// Apps: a scenario is their `on_open`.
pub(crate) mod app {
    use super::*;
    use threadwire::App;

    /// With a connection and its peer, in the callback.
    pub(crate) fn peer(scenario: impl FnOnce(&Connection, &mut Peer) + 'static) {
        let (client, peer) = client(patient());
        let mut once = Some((scenario, peer));
        let (tell, told) = mpsc::channel();
        let app = App::new(&client).unwrap().on_open(move |ws| {
            let (scenario, peer) = once.take().expect("it does not reconnect");
            // The library would contain a panic.
            let result = catch_unwind(AssertUnwindSafe(|| scenario(ws, &mut peer.join().unwrap())));
            tell.send(result).unwrap();
            ws.abort();
        });
        // How it ended is the scenario's affair.
        let _ended = app.on_error(|_, _| {}).run_forever();
        told.recv().unwrap().unwrap_or_else(|panic| resume_unwind(panic));
    }

    /// As it is.
    pub(crate) fn alone(scenario: impl FnOnce()) {
        scenario();
    }

    /// As a client.
    pub(crate) fn client_of(scenario: impl FnOnce(crate::common::faces::Face)) {
        scenario(crate::common::faces::Face::App);
    }
}

/// The async face, on a runtime of several threads, so that a scenario may block its own to wait for the peer.
pub(crate) mod aio {
    use super::*;
    use crate::common::tasks::several;
    use threadwire::aio::{self, Connection};

    /// An open connection.
    pub(crate) async fn open(config: Config) -> (Connection, Peer) {
        let (client, peer) = client(config);
        (aio::connect(&client).await.unwrap(), peer.join().unwrap())
    }

    /// With a connection and its peer.
    pub(crate) fn peer(scenario: impl AsyncFnOnce(&mut Connection, &mut Peer)) {
        several().block_on(async {
            let (mut ws, mut peer) = open(patient()).await;
            scenario(&mut ws, &mut peer).await;
        });
    }

    /// As it is, on the runtime.
    pub(crate) fn alone(scenario: impl AsyncFnOnce()) {
        several().block_on(scenario());
    }

    /// As a client.
    pub(crate) fn client_of(scenario: impl FnOnce(crate::common::faces::Face)) {
        scenario(crate::common::faces::Face::Aio);
    }

    /// As a server.
    pub(crate) fn server(scenario: impl FnOnce(crate::common::doors::Face)) {
        scenario(crate::common::doors::Face::Aio);
    }
}

/// Handles of connections of callbacks, from a thread without a loop.
pub(crate) mod handle {
    use super::*;
    use threadwire::Handle;

    /// With a handle and the peer.
    pub(crate) fn peer(scenario: impl FnOnce(&Handle, &mut Peer)) {
        let (give, given) = mpsc::channel();
        let owner = thread::spawn(move || {
            let (ws, peer) = listener::open(patient());
            give.send((ws.handle(), peer)).unwrap();
            // However the scenario ends it.
            ws.wait_closed().unwrap();
        });
        let (handle, mut peer) = given.recv().unwrap();
        scenario(&handle, &mut peer);
        handle.abort();
        owner.join().unwrap();
    }
}

/// Handles of the async face, from a thread outside of the runtime.
pub(crate) mod aio_handle {
    use super::*;
    use crate::common::tasks::several;
    use threadwire::aio::Handle;

    /// With a handle and the peer.
    pub(crate) fn peer(scenario: impl FnOnce(&Handle, &mut Peer)) {
        let runtime = several();
        let (mut ws, mut peer) = runtime.block_on(aio::open(patient()));
        let handle = ws.handle();
        runtime.spawn(async move { while let Ok(Some(_)) = ws.recv().await {} });
        scenario(&handle, &mut peer);
        handle.abort();
    }
}
