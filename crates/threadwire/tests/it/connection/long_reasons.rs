//! Close reasons that a close frame has no room for: cut at a character, on every face, and the connection closes.

use std::thread::{self, JoinHandle};

use crate::common::peer::{Host, Peer, TEXT};
use crate::common::{bind, bounded, echo, patient};
use threadwire::reconnect::{Backoff, State};
use threadwire::server::Shutdown;
use threadwire::{App, Client, CloseCode, Connection, Error, Message, Reply, blocking};

const CODE: CloseCode = CloseCode::new(4000);

/// Two bytes a character, one more than has room.
fn long() -> String {
    "é".repeat(62)
}

/// What is left of it.
fn cut() -> (u16, String) {
    (4000, "é".repeat(61))
}

/// A server that has one client, and hears its close frame.
fn server() -> (Client, JoinHandle<()>) {
    let host = Host::listen();
    let client = Client::new(&host.url()).unwrap().config(patient());
    let hearing = host.run(|host| {
        let mut peer = host.upgrade(b"");
        assert_eq!(peer.closed(), cut());
        peer.close(4000, "");
    });
    (client, hearing)
}

fn deaf(_ws: &Connection, _message: Message<'_>) -> Result<(), Error> {
    Ok(())
}

#[test]
fn a_client_sends_as_much_of_a_reason_as_fits() {
    bounded(|| {
        let (client, hearing) = server();
        let ws = client.connect(deaf).unwrap();
        ws.close_with(CODE, &long()).unwrap();
        assert!(ws.wait_closed().unwrap().clean);
        hearing.join().unwrap();

        let (client, hearing) = server();
        let ws = client.connect(deaf).unwrap();
        let handle = ws.handle();
        thread::spawn(move || handle.close_with(CODE, &long()).unwrap()).join().unwrap();
        assert!(ws.wait_closed().unwrap().clean);
        hearing.join().unwrap();

        let (client, hearing) = server();
        let mut ws = blocking::connect(&client).unwrap();
        assert!(ws.close_with(CODE, &long()).unwrap().clean);
        hearing.join().unwrap();

        let (client, hearing) = server();
        let mut app = App::new(&client).unwrap().on_open(|ws| ws.close_with(CODE, &long()));
        assert!(app.run_forever().unwrap().closed.unwrap().clean);
        hearing.join().unwrap();

        let (client, hearing) = server();
        let handle = client.reconnect(Backoff::default()).start(deaf);
        threadwire::wait_until(None, || handle.state() == State::Open).unwrap();
        handle.close_with(CODE, &long()).unwrap();
        handle.wait_ended().unwrap();
        hearing.join().unwrap();
    });
}

#[cfg(feature = "aio")]
#[test]
fn a_task_sends_as_much_of_a_reason_as_fits() {
    crate::common::tasks::on_runtimes(|| async {
        let (client, hearing) = server();
        let ws = threadwire::aio::connect(&client).await.unwrap();
        assert!(ws.close_with(CODE, &long()).await.unwrap().clean);
        crate::common::tasks::join(hearing).await;

        let (client, hearing) = server();
        let mut ws = threadwire::aio::connect(&client).await.unwrap();
        ws.handle().close_with(CODE, &long()).unwrap();
        assert!(matches!(ws.recv().await, Err(Error::Ended(closed)) if closed.clean));
        crate::common::tasks::join(hearing).await;
    });
}

/// A client that hears how it is closed.
fn leaving(addr: std::net::SocketAddr) -> JoinHandle<()> {
    let mut peer = Peer::open(addr, "/");
    peer.send(TEXT, b"here");
    assert_eq!(peer.text(), "here", "it is open on both sides");
    thread::spawn(move || {
        assert_eq!(peer.closed(), cut());
        peer.close(4000, "");
        peer.end();
    })
}

fn shutdown() -> Shutdown {
    Shutdown::default().code(CODE).reason(long())
}

#[test]
fn a_shutdown_sends_as_much_of_a_reason_as_fits() {
    bounded(|| {
        let running = bind().config(patient()).serve(|_| Reply::with(echo)).unwrap();
        let peer = leaving(running.local_addr().unwrap());
        assert_eq!(running.shutdown(shutdown()).unwrap().clean, 1);
        peer.join().unwrap();

        let serving = blocking::Server::bind("127.0.0.1:0").unwrap().config(patient()).serve(1, |ws| {
            while let Some(message) = ws.recv()? {
                ws.send(&message)?;
            }
            Ok(())
        });
        let serving = serving.unwrap();
        let peer = leaving(serving.local_addr().unwrap());
        assert_eq!(serving.shutdown(shutdown()).unwrap().clean, 1);
        peer.join().unwrap();
    });
}

#[cfg(feature = "aio")]
#[test]
fn a_shutdown_of_tasks_sends_as_much_of_a_reason_as_fits() {
    crate::common::tasks::on_runtimes(|| async {
        let server = threadwire::aio::Server::bind("127.0.0.1:0").await.unwrap().config(patient());
        let (addr, stopper) = (server.local_addr().unwrap(), server.stopper());
        let serving = tokio::spawn(server.serve(|_, ws| crate::common::tasks::echo(ws)));
        let peer = tokio::task::spawn_blocking(move || leaving(addr)).await.unwrap();
        assert_eq!(stopper.shutdown(shutdown()).await.unwrap().clean, 1);
        serving.await.unwrap().unwrap();
        crate::common::tasks::join(peer).await;
    });
}
