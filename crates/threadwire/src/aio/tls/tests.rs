//! A read of TLS leaves its answers to those who write.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::ClientConnection;
use rustls::pki_types::ServerName;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::*;
use crate::client::ClientTls;
use crate::server::ServerTls;
use crate::tls::Pem;
use threadwire_core::tls::session::Session;

/// A stream in memory.
#[derive(Default)]
struct Line {
    arrives: VecDeque<u8>,
    left: Vec<u8>,
    writes: usize,
}

struct End(Arc<Mutex<Line>>);

impl AsyncRead for End {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut line = self.0.lock().unwrap();
        if line.arrives.is_empty() {
            return Poll::Pending;
        }
        let count = line.arrives.len().min(buffer.remaining());
        let bytes: Vec<u8> = line.arrives.drain(..count).collect();
        buffer.put_slice(&bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for End {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut line = self.0.lock().unwrap();
        line.writes += 1;
        line.left.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// What either side has to say reaches the other: the client is rustls as it comes.
fn exchange(client: &mut ClientConnection, line: &Mutex<Line>) {
    let mut line = line.lock().unwrap();
    let left = std::mem::take(&mut line.left);
    let mut left = &left[..];
    while !left.is_empty() {
        client.read_tls(&mut left).unwrap();
        client.process_new_packets().unwrap();
    }
    while client.wants_write() {
        client.write_tls(&mut line.arrives).unwrap();
    }
}

#[test]
fn a_read_leaves_what_has_to_be_answered_to_those_who_write() {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let server = ServerTls::new(Pem::bytes(cert.pem()), Pem::bytes(signing_key.serialize_pem())).unwrap();
    let config = ClientTls::new().danger_accept_any_certificate().prepare("localhost").unwrap().0;
    let mut client = ClientConnection::new(config, ServerName::try_from("localhost").unwrap()).unwrap();
    let line = Arc::new(Mutex::new(Line::default()));
    let stream = Stream::of(End(Arc::clone(&line)));
    let secured = TlsStream::of(Session::server(server.current(), Vec::new()).unwrap(), stream);
    let mut stream = Stream::Tls(Box::new(secured));
    let cx = &mut Context::from_waker(Waker::noop());
    let mut answers = 0;
    // The handshake is what there is most to answer in.
    client.writer().write_all(b"question").unwrap();
    let mut room = [0; 100];
    let count = loop {
        exchange(&mut client, &line);
        let written = line.lock().unwrap().writes;
        let read = Polled { stream: &mut stream, cx }.read(&mut room);
        assert_eq!(line.lock().unwrap().writes, written);
        answers += usize::from(Polled { stream: &mut stream, cx }.has_unsent());
        assert!(Pin::new(&mut stream).poll_flush(cx).is_ready());
        assert!(!Polled { stream: &mut stream, cx }.has_unsent());
        if let Ok(read) = read {
            break read;
        }
    };
    assert_eq!(&room[..count], b"question");
    assert!(answers > 1, "hello, and tickets: {answers}");
    assert!(Pin::new(&mut stream).poll_write(cx, b"answer").is_ready());
    exchange(&mut client, &line);
    let mut answer = [0; 6];
    client.reader().read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"answer");
}
