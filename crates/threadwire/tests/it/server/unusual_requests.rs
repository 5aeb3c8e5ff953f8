//! Requests that only look unusual, and what smuggling needs: the first are upgraded on every face, the others are not.

use crate::common::bounded;
use crate::common::doors::{FACES, Plan, status};
use crate::common::peer::{Peer, TEXT, request, request_with};
use threadwire::{Config, Reply, Request};

#[test]
fn what_can_be_read_in_one_way_only_is_upgraded() {
    for &face in FACES {
        bounded(move || {
            let speaks_nothing = Config::default().deflate(None);
            let served = face.serve(Plan::new(move |_: &Request| face.accept()).config(speaks_nothing));
            let key = |key: &str| request("/").replace("dGhlIHNhbXBsZSBub25jZQ==", key);
            let host = |host: &str| request("/").replace("Host: 127.0.0.1", host);
            for head in [
                format!("\r\n{}", request("/")),
                format!("\r\n\r\n{}", request("/")),
                key("AQIDBAUGBwgJCgsMDQ4PEC=="),
                request("ws://127.0.0.1/"),
                request("http://127.0.0.1:80/"),
                host("Host: [fe80::1%25lo]:9001"),
                request_with("/", "Sec-WebSocket-Extensions: permessage-deflate;\r\n"),
                request_with("/", "Sec-WebSocket-Protocol: a b, a, a,\r\n"),
            ] {
                let mut peer = Peer::connect(served.addr());
                // In two writes, with the border between the empty lines and the rest.
                peer.bytes(&head[..2]);
                peer.bytes(&head[2..]);
                assert_eq!(status(&peer.head()), 101, "{face:?}: {head}");
                peer.send(TEXT, b"hello");
                assert_eq!(peer.text(), "hello", "{face:?}: {head}");
            }
        });
    }
}

#[test]
fn a_malformed_offer_is_refused_by_those_who_speak_what_is_offered() {
    for &face in FACES {
        bounded(move || {
            let speaks = Config::default().deflate(threadwire::Deflate::new());
            let served = face.serve(Plan::new(move |_: &Request| face.accept()).config(speaks));
            let offer = |offer: &str| served.status("/", &format!("Sec-WebSocket-Extensions: {offer}\r\n"));
            assert_eq!(offer("permessage-deflate"), 101, "{face:?}");
            assert_eq!(offer("permessage-deflate;"), 400, "{face:?}");
        });
    }
}

#[test]
fn nothing_that_smuggling_needs_is_upgraded() {
    for &face in FACES {
        bounded(move || {
            let served = face.serve(Plan::new(move |_: &Request| face.accept()));
            for headers in [
                "Content-Length: 5\r\n",
                "Content-Length: 0\r\nContent-Length: 0\r\n",
                "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
                "Transfer-Encoding : chunked\r\n",
                "X: a\r\n Transfer-Encoding: chunked\r\n",
                "X: a\nTransfer-Encoding: chunked\r\n",
                "X: a\rTransfer-Encoding: chunked\r\n",
                "X: a\0b\r\n",
                "Host: other\r\n",
            ] {
                assert_eq!(served.status("/", headers), 400, "{face:?}: {headers:?}");
            }
        });
    }
}

#[test]
fn pages_need_one_host_as_upgrades_do() {
    for &face in FACES {
        bounded(move || {
            let served = face.serve(Plan::new(|_: &Request| Reply::status(200)));
            for (head, expected) in [
                ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 200),
                ("GET / HTTP/1.0\r\n\r\n", 200),
                ("GET / HTTP/1.1\r\n\r\n", 400),
                ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
                ("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400),
                ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400),
                ("HEAD / HTTP/1.1\r\n\r\n", 400),
            ] {
                assert_eq!(status(&served.answer(head)), expected, "{face:?}: {head:?}");
            }
        });
    }
}
