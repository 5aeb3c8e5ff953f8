//! Answers of servers that only look unusual: clients of every face take them.

use crate::common::faces::FACES;
use crate::common::peer::{CLOSE, Host, TEXT, upgraded};
use crate::common::{bounded, patient};
use threadwire::Client;

#[test]
fn what_can_be_read_in_one_way_only_is_taken() {
    for &face in FACES {
        bounded(move || {
            let rewrites: [fn(String) -> String; 6] = [
                |answer| answer.replace("\r\n", "\n"),
                |answer| answer.replace(": ", " : "),
                |answer| answer.replace(": ", ":\r\n\t"),
                |answer| answer.replace("HTTP/1.1 101", "HTTP/1.1  101"),
                |answer| answer.replace("HTTP/1.1 101", "HTTP/1.0 101"),
                |answer| answer.replace("Upgrade: ", "Sec-WebSocket-Protocol:\r\nUpgrade: "),
            ];
            let host = Host::listen();
            let client = Client::new(&host.url()).unwrap().config(patient());
            let host = host.run(move |host| {
                for rewrite in rewrites {
                    let mut peer = host.accept();
                    let answer = rewrite(upgraded(&peer.head()));
                    peer.bytes(answer);
                    assert_eq!(peer.frame(), (TEXT, b"hello".to_vec()));
                    peer.send(TEXT, b"hello");
                    assert_eq!(peer.frame().0, CLOSE);
                    peer.close(1000, "");
                }
            });
            for _ in rewrites {
                assert_eq!(face.echo(&client, "hello").unwrap(), "hello", "{face:?}");
            }
            host.join().unwrap();
        });
    }
}
