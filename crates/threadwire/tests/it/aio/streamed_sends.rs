//! Messages on tokio whose parts come from a stream.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::common::patient;
use crate::common::tasks::on_runtimes;
use threadwire::{Error, aio};

struct Rows(mpsc::Receiver<&'static str>);

impl Stream for Rows {
    type Item = Result<&'static str, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx).map(|row| row.map(Ok))
    }
}

async fn pair() -> (aio::Connection, aio::Connection) {
    let (here, there) = tokio::io::duplex(4096);
    let ends = tokio::join!(aio::connect_over(here, "ws://localhost/"), aio::accept_over(there, patient()));
    (ends.0.unwrap(), ends.1.unwrap())
}

/// A message in parts that has begun, and what gives it more.
async fn begun(ws: &aio::Connection) -> (JoinHandle<Result<(), Error>>, mpsc::Sender<&'static str>) {
    let (give, rows) = mpsc::channel(1);
    let handle = ws.handle();
    let sending = tokio::spawn(async move { handle.send_parts(Rows(rows)).await });
    for part in ["one ", "two ", "three"] {
        // When the last one has found room, the one before was taken, and so the first was sent.
        give.send(part).await.unwrap();
    }
    (sending, give)
}

#[test]
fn other_messages_wait_for_the_end_of_one_in_parts_or_are_refused() {
    on_runtimes(|| async {
        let (ws, mut peer) = pair().await;
        let (sending, give) = begun(&ws).await;
        assert!(matches!(ws.handle().send("at once"), Err(Error::Send(_))));
        let (handle, second) = (ws.handle(), ws.handle());
        let waiting = tokio::spawn(async move { handle.send_async("behind").await });
        let (nothing, rows) = mpsc::channel(1);
        let also_waiting = tokio::spawn(async move { second.send_parts(Rows(rows)).await });
        drop(give);
        sending.await.unwrap().unwrap();
        waiting.await.unwrap().unwrap();
        drop(nothing);
        also_waiting.await.unwrap().unwrap();
        assert_eq!(peer.recv().await.unwrap().unwrap(), "one two three");
        assert_eq!(peer.recv().await.unwrap().unwrap(), "behind");
        ws.handle().send("and on").unwrap();
        assert_eq!(peer.recv().await.unwrap().unwrap(), "and on", "nothing comes of no parts");
    });
}

#[test]
fn a_message_that_is_dropped_in_the_middle_closes_the_connection() {
    on_runtimes(|| async {
        let (ws, mut peer) = pair().await;
        let (sending, _give) = begun(&ws).await;
        sending.abort();
        assert!(sending.await.unwrap_err().is_cancelled());
        assert!(matches!(peer.recv().await, Err(Error::Ended(closed)) if closed.code.get() == 1011));
        assert!(matches!(ws.send("behind").await, Err(Error::Closed)));
    });
}
