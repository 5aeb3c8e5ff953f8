//! TLS on the async face: transfer and close.

use crate::common::certificates::Authority;
use threadwire::{Client, aio};

#[tokio::test]
async fn messages_of_all_sizes_come_back() {
    let authority = Authority::new("authority");
    let tls = authority.sign(&["localhost"]).server();
    let server = aio::Server::bind("127.0.0.1:0").await.unwrap().tls(tls);
    let url = format!("wss://localhost:{}/", server.local_addr().unwrap().port());
    tokio::spawn(server.serve(|_request, mut ws| async move {
        while let Some(message) = ws.recv().await.unwrap() {
            ws.send(&message).await.unwrap();
        }
    }));
    let client = Client::new(&url).unwrap().tls(authority.trusted());
    let mut ws = aio::connect(&client).await.unwrap();
    assert!(ws.peer_addr().unwrap().ip().is_loopback());
    for size in [0, 1, 20, 126, 16_384, 16_385, 70_000, 1_000_000] {
        let payload: Vec<u8> = (0..size).map(|at| (at * 31) as u8).collect();
        ws.send(&payload[..]).await.unwrap();
        assert!(ws.recv().await.unwrap().unwrap() == payload[..], "{size}");
    }
    ws.close().await.unwrap();
    assert!(ws.recv().await.unwrap().is_none());
}
