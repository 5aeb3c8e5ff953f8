//! Flushing on the async face: messages leave together and soon, whatever the task does next.

use std::future::pending;
use std::time::Duration;

use crate::common::tasks::{Counted, Writes, client, echo, join, on_runtimes, several, single};
use crate::common::{bounded, patient};
use threadwire::aio::{self, Connection};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::yield_now;

type Something = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// A client whose writes are counted, and its server.
async fn counted() -> (Connection, Connection, Writes) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let writes = Writes::default();
    let stream = Counted { stream, writes: writes.clone() };
    let accept = async { aio::accept_over(listener.accept().await.unwrap().0, patient()).await };
    let (client, server) = tokio::join!(aio::connect_over(stream, "ws://127.0.0.1/"), accept);
    writes.take();
    (client.unwrap(), server.unwrap(), writes)
}

#[test]
fn a_burst_leaves_in_one_write() {
    for (runtime, most) in [(single(), 1), (several(), 19)] {
        bounded(move || {
            runtime.block_on(async {
                let (mut client, server, writes) = counted().await;
                tokio::spawn(echo(server));
                let bursts = async move {
                    for _ in 0..10 {
                        for number in 0..20 {
                            client.send(&format!("{number}")).await.unwrap();
                        }
                        for _ in 0..20 {
                            client.recv().await.unwrap().unwrap();
                        }
                        // Another thread of the runtime may flush in the middle of it.
                        assert!((1..=most).contains(&writes.take()));
                    }
                };
                tokio::spawn(bursts).await.unwrap();
            });
        });
    }
}

#[test]
fn a_burst_of_a_task_that_does_not_receive_leaves_in_one_write() {
    for (runtime, most) in [(single(), 1), (several(), 19)] {
        bounded(move || {
            runtime.block_on(async {
                let (client, mut server, writes) = counted().await;
                let task = tokio::spawn(async move {
                    for number in 0..20 {
                        client.send(&format!("{number}")).await.unwrap();
                    }
                    pending::<()>().await;
                });
                for number in 0..20 {
                    assert_eq!(server.recv().await.unwrap().unwrap(), number.to_string().as_str());
                }
                assert!((1..=most).contains(&writes.take()));
                task.abort();
            });
        });
    }
}

#[test]
fn what_was_sent_leaves_though_the_task_goes_on_to_something_else() {
    on_runtimes(|| async {
        let something: [fn() -> Something; 3] = [
            || Box::pin(pending()),
            || Box::pin(tokio::time::sleep(Duration::from_secs(3600))),
            || {
                Box::pin(async {
                    loop {
                        yield_now().await;
                    }
                })
            },
        ];
        for something in something {
            let (ws, peer) = client(patient(), |mut peer| assert_eq!(peer.text(), "on its way")).await;
            let task = tokio::spawn(async move {
                ws.send("on its way").await.unwrap();
                something().await;
            });
            join(peer).await;
            task.abort();
        }
    });
}

#[test]
fn what_was_sent_leaves_though_the_task_ends() {
    on_runtimes(|| async {
        let (ws, peer) = client(patient(), |mut peer| {
            assert_eq!(peer.text(), "last words");
            assert_eq!(peer.code(), 1001);
            peer.close(1001, "");
        })
        .await;
        tokio::spawn(async move { ws.send("last words").await.unwrap() }).await.unwrap();
        join(peer).await;
    });
}

#[test]
fn a_flush_writes_before_the_task_awaits_anything_else() {
    on_runtimes(|| async {
        let (ws, peer) = client(patient(), |mut peer| assert_eq!(peer.text(), "now")).await;
        ws.send("now").await.unwrap();
        ws.flush().await.unwrap();
        assert_eq!(ws.buffered(), 0);
        // The runtime does not get a turn before the peer has it.
        peer.join().unwrap();
    });
}

#[test]
fn a_pong_leaves_though_the_task_does_not_receive_again() {
    on_runtimes(|| async {
        let (mut ws, peer) = client(patient(), |mut peer| {
            let wire = [
                crate::common::peer::frame(crate::common::peer::PING, false, b"1"),
                crate::common::peer::frame(crate::common::peer::TEXT, false, b"2"),
            ];
            peer.bytes(wire.concat());
            assert_eq!(peer.frame(), (crate::common::peer::PONG, b"1".to_vec()));
        })
        .await;
        assert_eq!(ws.recv().await.unwrap().unwrap(), "2");
        join(peer).await;
    });
}
