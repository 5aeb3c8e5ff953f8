//! Threads that are no workers and are stopped: what waits on their connections leaves, and a close frame behind it.

use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use crate::common::peer::{BINARY, Host, Peer};
use crate::common::{bounded, patient};
use threadwire::blocking::{self, Select, Selected, Server};
use threadwire::worker::EventLoop;
use threadwire::{App, Client, Connection, Error, Message};

/// More than the system takes at once.
const MUCH: usize = 8 << 20;

/// How many peers there are.
const PEERS: usize = 3;

/// Reads nothing until the thread was stopped, and then all of it, with the close frame.
fn hear(peer: &mut Peer, stopped: &Receiver<()>) {
    stopped.recv().unwrap();
    // What the other end has not looked at would have its socket reset the connection.
    peer.send(BINARY, &[1; 1000]);
    let (first, payload) = peer.frame();
    assert!(first == BINARY && payload == vec![7; MUCH], "{} bytes", payload.len());
    assert_eq!(peer.closed(), (1001, String::new()));
    peer.close(1001, "");
}

/// Leaves a long message, without waiting for the peer to read it.
fn much(ws: &Connection) {
    ws.send(Message::Binary(&vec![7; MUCH])).unwrap();
}

/// Peers of a server at this address, each with what tells it that the server's thread was stopped.
fn peers(addr: std::net::SocketAddr) -> Vec<(Sender<()>, JoinHandle<()>)> {
    let peer = |_| {
        let (tell, stopped) = mpsc::channel();
        (tell, thread::spawn(move || hear(&mut Peer::open(addr, "/"), &stopped)))
    };
    (0..PEERS).map(peer).collect()
}

fn tell_all(peers: &[(Sender<()>, JoinHandle<()>)]) {
    peers.iter().for_each(|(tell, _)| tell.send(()).unwrap());
}

/// Stops this thread, as a signal's handler does.
fn stop() {
    EventLoop::current().set_grace(crate::common::PATIENCE);
    EventLoop::current().remote().stop();
}

/// Runs this on a thread of its own, to the thread's end.
fn on_a_thread(serve: impl FnOnce(Server, Vec<(Sender<()>, JoinHandle<()>)>) + Send + 'static) {
    bounded(move || {
        let thread = thread::spawn(move || {
            let server = Server::bind("127.0.0.1:0").unwrap().config(patient());
            let peers = peers(server.local_addr().unwrap());
            serve(server, peers);
        });
        thread.join().unwrap();
    });
}

fn join_all(peers: Vec<(Sender<()>, JoinHandle<()>)>) {
    peers.into_iter().for_each(|(_, peer)| peer.join().unwrap());
}

#[test]
fn connections_one_by_one() {
    on_a_thread(|mut server, peers| {
        let mut connections = Vec::new();
        for _ in 0..PEERS {
            let ws = server.accept().unwrap();
            much(ws.connection());
            connections.push(ws);
        }
        stop();
        assert!(matches!(connections[0].recv(), Err(Error::Stopped)));
        tell_all(&peers);
        drop(connections);
        join_all(peers);
    });
}

#[test]
fn connections_in_a_select() {
    on_a_thread(|server, peers| {
        let mut select = Select::new();
        select.serve(server);
        for _ in 0..PEERS {
            let Some((key, Selected::Connected)) = select.recv().unwrap() else { panic!("it has begun") };
            much(select[key].connection());
        }
        stop();
        assert!(matches!(select.recv(), Err(Error::Stopped)));
        tell_all(&peers);
        drop(select);
        join_all(peers);
    });
}

/// A server made by hand, of which a client is that has much to say.
fn listening(stopped: Receiver<()>) -> (Client, JoinHandle<()>) {
    let host = Host::listen();
    let client = Client::new(&host.url()).unwrap().config(patient());
    (client, host.run(move |host| hear(&mut host.upgrade(b""), &stopped)))
}

#[test]
fn clients() {
    bounded(|| {
        let thread = thread::spawn(|| {
            let (tell, stopped) = mpsc::channel();
            let (client, host) = listening(stopped);
            let ws = blocking::connect(&client).unwrap();
            much(ws.connection());
            stop();
            tell.send(()).unwrap();
            drop(ws);
            host.join().unwrap();
        });
        thread.join().unwrap();

        let thread = thread::spawn(|| {
            let (tell, stopped) = mpsc::channel();
            let (client, host) = listening(stopped);
            let app = App::new(&client).unwrap().on_open(move |ws| {
                ws.send(Message::Binary(&vec![7; MUCH]))?;
                stop();
                tell.send(()).map_err(Error::other)
            });
            assert!(matches!({ app }.run_forever(), Err(Error::Stopped)));
            host.join().unwrap();
        });
        thread.join().unwrap();
    });
}
