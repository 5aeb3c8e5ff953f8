//! TLS test servers, TLS clients of every face, and a scripted peer that speaks TLS.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use threadwire::client::ClientTls;
use threadwire::server::ServerTls;
use threadwire::tls::rustls::pki_types::pem::PemObject;
use threadwire::tls::rustls::{ClientConnection, StreamOwned};
use threadwire::{App, Client, Connection, Error, Message, Reply, Running, Server};
use threadwire::{blocking, tls::rustls};

use super::certificates::Authority;
use super::peer::{frame, parse, request};
use super::{PATIENCE, bind, echo, patient};

/// An echo server in TLS on a worker of its own, which stops when the test lets go of it.
pub struct Secure {
    /// The server.
    pub running: Running,
    /// How it speaks TLS.
    pub tls: ServerTls,
}

impl Secure {
    /// One with these settings.
    pub fn with(tls: ServerTls) -> Secure {
        Secure::on(bind().config(patient()), tls)
    }

    /// One that is set up further.
    pub fn on(server: Server, tls: ServerTls) -> Secure {
        let running = server.tls(tls.clone()).serve(|_| Reply::with(echo)).unwrap();
        Secure { running, tls }
    }

    /// One for `localhost`, and who has signed its certificate.
    pub fn trusted() -> (Secure, Authority) {
        let authority = Authority::new("authority");
        (Secure::with(authority.sign(&["localhost"]).server()), authority)
    }

    /// The listening address.
    pub fn addr(&self) -> SocketAddr {
        self.running.local_addr().unwrap()
    }

    /// Its URL with this host.
    pub fn url(&self, host: &str) -> String {
        format!("wss://{host}:{}/", self.addr().port())
    }

    /// A client of it, as `localhost`.
    pub fn client(&self, tls: ClientTls) -> Client {
        Client::new(&self.url("localhost")).unwrap().tls(tls).config(patient())
    }
}

impl Drop for Secure {
    fn drop(&mut self) {
        self.running.stop();
    }
}

/// The result of one echo and a clean end on a face.
pub type Attempt = fn(&Client) -> Result<(), Error>;

/// Every face on which there are clients.
pub const FACES: &[(&str, Attempt)] = &[
    ("listener", listener),
    ("blocking", by_blocking),
    ("app", app),
    #[cfg(feature = "aio")]
    ("aio", aio),
];

fn listener(client: &Client) -> Result<(), Error> {
    let ws = client.connect(|ws: &Connection, message: Message<'_>| {
        assert_eq!(message.as_text(), Some("hello"));
        ws.close()
    })?;
    ws.send("hello")?;
    ws.wait_closed()?;
    assert!(ws.closed().unwrap().is_normal(), "{:?}", ws.closed());
    Ok(())
}

fn by_blocking(client: &Client) -> Result<(), Error> {
    let mut ws = blocking::connect(client)?;
    ws.send("hello")?;
    // The server may have something against us that it finds out later.
    assert_eq!(ws.recv()?.unwrap(), "hello");
    ws.close()?;
    Ok(())
}

fn app(client: &Client) -> Result<(), Error> {
    let mut app = App::new(client)?.on_open(|ws| ws.send("hello")).on_message(|ws, message| {
        assert_eq!(message.as_text(), Some("hello"));
        ws.close()
    });
    app.run_forever().map(drop)
}

#[cfg(feature = "aio")]
fn aio(client: &Client) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut ws = threadwire::aio::connect(client).await?;
        ws.send("hello").await?;
        assert_eq!(ws.recv().await?.unwrap(), "hello");
        ws.close().await?;
        assert!(ws.recv().await?.is_none());
        Ok(())
    })
}

/// A client by hand, by rustls as it comes.
pub struct TlsPeer(pub StreamOwned<ClientConnection, TcpStream>);

impl TlsPeer {
    /// Connects, trusting an authority, and upgrades.
    pub fn open(addr: SocketAddr, trusted: &Authority) -> TlsPeer {
        let root = rustls::pki_types::CertificateDer::from_pem_slice(trusted.text().as_bytes()).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(root).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let config = Arc::new(config);
        let socket = TcpStream::connect(addr).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        let mut peer = TlsPeer(StreamOwned::new(ClientConnection::new(config, name).unwrap(), socket));
        peer.0.write_all(request("/").as_bytes()).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            peer.0.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
        peer
    }

    /// Sends a frame.
    pub fn send(&mut self, first: u8, payload: &[u8]) {
        self.0.write_all(&frame(first, true, payload)).unwrap();
        self.0.flush().unwrap();
    }

    /// The next frame.
    pub fn frame(&mut self) -> (u8, Vec<u8>) {
        let mut bytes = Vec::new();
        loop {
            if let Some((first, payload, _)) = parse(&bytes, false) {
                return (first, payload);
            }
            // Never more than what is needed next.
            let mut more = vec![0; if bytes.len() < 10 { 1 } else { length(&bytes) - bytes.len() }];
            self.0.read_exact(&mut more).unwrap();
            bytes.extend(more);
        }
    }

    /// Whether TLS ends as it should, with nothing before.
    pub fn ends(&mut self) -> bool {
        match self.0.read(&mut [0]) {
            Ok(count) => count == 0,
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => false,
            Err(error) => panic!("{error}"),
        }
    }
}

/// How long the frame is that begins with these bytes.
fn length(bytes: &[u8]) -> usize {
    match bytes[1] {
        126 => 4 + usize::from(u16::from_be_bytes([bytes[2], bytes[3]])),
        127 => 10 + u64::from_be_bytes(bytes[2..10].try_into().unwrap()) as usize,
        short => 2 + usize::from(short),
    }
}
