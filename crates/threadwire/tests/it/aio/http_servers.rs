//! Upgrades of requests that another HTTP server has received.

use std::convert::Infallible;

use crate::common::PATIENCE;
use crate::common::peer::{Peer, request, request_with};
use crate::common::tasks::{echo, join, on_runtimes};
use axum::Router;
use axum::body::Body;
use axum::response::Response;
use axum::routing::get;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::service::service_fn;
use threadwire::{Client, Config, Deflate, Error, aio};
use tokio::net::TcpListener;

async fn upgrade(upgrade: aio::Upgrade) -> Result<Response, String> {
    let chosen = upgrade.subprotocols().find(|name| *name == "v2").map(str::to_owned);
    let upgrade = match chosen {
        Some(name) => upgrade.subprotocol(&name),
        None => Ok(upgrade),
    };
    let upgrade = upgrade.and_then(|upgrade| upgrade.header("X-Room", "lobby"));
    let upgrade = upgrade.and_then(|upgrade| upgrade.config(Config::default().close_timeout(PATIENCE)));
    let upgrade = upgrade.map_err(|error| error.to_string())?;
    Ok(upgrade.on_upgrade(|ws| async move { echo(ws).await.unwrap() }))
}

#[test]
fn a_route_of_axum_echoes() {
    on_runtimes(|| async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let app = Router::new().route("/echo", get(upgrade)).route("/plain", get(|| async { "plain" }));
        let serving = tokio::spawn(async move { axum::serve(listener, app).await });
        let client = Client::new(&format!("ws://{addr}/echo")).unwrap().subprotocols(["v1", "v2"]).unwrap();
        let mut ws = aio::connect(&client).await.unwrap();
        assert_eq!(ws.subprotocol(), Some("v2"));
        assert_eq!(ws.response_headers().unwrap().get("X-Room"), Some("lobby"));
        for message in ["one", "two"] {
            ws.send(message).await.unwrap();
            assert_eq!(ws.recv().await.unwrap().unwrap(), message);
        }
        assert!(ws.close().await.unwrap().clean);
        match aio::connect(&format!("ws://{addr}/plain")).await {
            Err(Error::Status(answer)) => assert_eq!(answer.status(), 200),
            other => panic!("{other:?}"),
        }
        let peer = std::thread::spawn(move || {
            let mut plain = Peer::connect(addr);
            plain.bytes("GET /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            assert!(plain.rest().starts_with("HTTP/1.1 426 "));
            let mut old = Peer::connect(addr);
            old.bytes(request_with("/echo", "Connection: close\r\n").replace("Version: 13", "Version: 8"));
            assert!(old.head().starts_with("HTTP/1.1 426 "));
        });
        join(peer).await;
        serving.abort();
    });
}

/// Whoever compresses has to refuse an offer that can't be read; to others it is nothing.
#[test]
fn a_malformed_offer_concerns_only_those_who_compress() {
    on_runtimes(|| async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let compressed = |upgrade: aio::Upgrade| async {
            let upgrade = upgrade.config(Config::default().deflate(Deflate::default())).unwrap();
            upgrade.on_upgrade::<Body, _>(|_| async { panic!("it was refused") })
        };
        let app = Router::new().route("/echo", get(upgrade)).route("/compressed", get(compressed));
        let serving = tokio::spawn(async move { axum::serve(listener, app).await });
        let peer = std::thread::spawn(move || {
            for (path, status) in [("/echo", "HTTP/1.1 101 "), ("/compressed", "HTTP/1.1 400 ")] {
                let mut peer = Peer::connect(addr);
                peer.bytes(request_with(path, "Sec-WebSocket-Extensions: permessage-deflate;\r\n"));
                let head = peer.head();
                assert!(head.starts_with(status), "{path}: {head}");
            }
        });
        join(peer).await;
        serving.abort();
    });
}

#[test]
fn what_comes_right_behind_a_request_is_received() {
    on_runtimes(|| async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            let service = service_fn(|mut request| async move {
                Ok::<_, Infallible>(match aio::Upgrade::new(&mut request) {
                    Ok(upgrade) => upgrade
                        .config(Config::default())
                        .unwrap()
                        .on_upgrade(|ws| async { echo(ws).await.unwrap() }),
                    Err(error) => aio::Upgrade::refusal::<Full<Bytes>>(&error),
                })
            });
            let (stream, _) = listener.accept().await.unwrap();
            let stream = hyper_util::rt::TokioIo::new(stream);
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(stream, service);
            connection.with_upgrades().await.unwrap();
        });
        let peer = std::thread::spawn(move || {
            let mut peer = Peer::connect(addr);
            let early = crate::common::peer::masked(crate::common::peer::TEXT, b"early");
            peer.bytes([request("/").as_bytes(), &early].concat());
            assert!(peer.head().starts_with("HTTP/1.1 101 "));
            assert_eq!(peer.text(), "early");
            peer.close(1000, "");
            assert_eq!(peer.code(), 1000);
        });
        join(peer).await;
        serving.await.unwrap();
    });
}
