//! Scripted proxies: they record what they are asked for, and let through what a table says.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

#[cfg(feature = "tls")]
use threadwire::tls::rustls::ServerConfig;

use super::PATIENCE;

/// The protocol of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// HTTP, by `CONNECT`.
    Http,
    /// The same in TLS.
    #[cfg(feature = "tls")]
    Https,
    /// SOCKS4, and 4a.
    Socks4,
    /// SOCKS5.
    Socks5,
}

/// A proxy that runs until the end of the test.
pub struct Proxying {
    /// The listening address.
    pub addr: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

/// How it lets through.
#[derive(Clone)]
struct Rules {
    kind: Kind,
    /// The addresses of known hosts.
    host: (String, SocketAddr),
    login: Option<(String, String)>,
    #[cfg(feature = "tls")]
    tls: Option<Arc<ServerConfig>>,
}

impl Proxying {
    /// A proxy that knows this host, and lets everybody through.
    pub fn start(kind: Kind, host: &str, addr: SocketAddr) -> Proxying {
        Proxying::with(kind, host, addr, None)
    }

    /// The same for those who know user name and password.
    pub fn with(kind: Kind, host: &str, addr: SocketAddr, login: Option<(&str, &str)>) -> Proxying {
        Proxying::run(Rules {
            kind,
            host: (host.to_owned(), addr),
            login: login.map(|(user, password)| (user.to_owned(), password.to_owned())),
            #[cfg(feature = "tls")]
            tls: None,
        })
    }

    /// The same in TLS.
    #[cfg(feature = "tls")]
    pub fn secure(
        host: &str,
        addr: SocketAddr,
        login: Option<(&str, &str)>,
        identity: &super::certificates::Identity,
    ) -> Proxying {
        use threadwire::tls::rustls::crypto::ring::default_provider;
        use threadwire::tls::rustls::pki_types::pem::PemObject;
        use threadwire::tls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

        let chain = vec![CertificateDer::from_pem_slice(identity.chain.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        Proxying::run(Rules {
            kind: Kind::Https,
            host: (host.to_owned(), addr),
            login: login.map(|(user, password)| (user.to_owned(), password.to_owned())),
            tls: Some(Arc::new(config)),
        })
    }

    fn run(rules: Rules) -> Proxying {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (rules, notes) = (rules.clone(), Arc::clone(&notes));
                thread::spawn(move || rules.serve(stream.unwrap(), &notes));
            }
        });
        Proxying { addr, asked }
    }

    /// The requests so far: host, port and user.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// A stream that is read and written.
trait Duplex: Read + Write {}

impl<T: Read + Write> Duplex for T {}

impl Rules {
    /// Serves one connection. A client that goes away is no reason to fail.
    fn serve(&self, stream: TcpStream, notes: &Mutex<Vec<String>>) {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let socket = stream.try_clone().unwrap();
        #[cfg(feature = "tls")]
        let mut stream: Box<dyn Duplex> = match &self.tls {
            None => Box::new(stream),
            Some(config) => {
                use threadwire::tls::rustls::{ServerConnection, StreamOwned};
                let session = ServerConnection::new(Arc::clone(config)).unwrap();
                Box::new(StreamOwned::new(session, stream))
            }
        };
        #[cfg(not(feature = "tls"))]
        let mut stream: Box<dyn Duplex> = Box::new(stream);
        let asked = match self.kind {
            Kind::Socks4 => self.socks4(&mut stream),
            Kind::Socks5 => self.socks5(&mut stream),
            _ => self.http(&mut stream),
        };
        let Ok(Some((asked, to))) = asked else { return };
        notes.lock().unwrap().push(asked);
        let Ok(server) = TcpStream::connect(to) else { return };
        server.set_nodelay(true).unwrap();
        socket.set_nodelay(true).unwrap();
        pump(stream, &socket, server);
    }

    /// The address of a host.
    fn find(&self, host: &str, port: u16) -> SocketAddr {
        let (name, addr) = &self.host;
        match host.parse::<IpAddr>() {
            Ok(ip) => SocketAddr::new(ip, port),
            Err(_) => {
                assert_eq!(host, name);
                assert_eq!(port, addr.port());
                *addr
            }
        }
    }

    fn http(&self, stream: &mut Box<dyn Duplex>) -> std::io::Result<Option<(String, SocketAddr)>> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.lines();
        let target = lines.next().unwrap().strip_prefix("CONNECT ").unwrap();
        let target = target.strip_suffix(" HTTP/1.1").unwrap();
        let login = lines.find_map(|line| line.strip_prefix("Proxy-Authorization: ")).unwrap_or("");
        if let Some((user, password)) = &self.login {
            use base64::Engine as _;
            let login = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
            if !head.contains(&format!("Proxy-Authorization: Basic {login}\r\n")) {
                stream.write_all(
                    b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"here\"\r\n\
                      Content-Length: 0\r\n\r\n",
                )?;
                return Ok(None);
            }
        }
        let (host, port) = target.rsplit_once(':').unwrap();
        let host = host.trim_matches(['[', ']']);
        let to = self.find(host, port.parse().unwrap());
        stream.write_all(b"HTTP/1.1 200 Connection established\r\nVia: 1.1 proxy\r\n\r\n")?;
        stream.flush()?;
        let who = if login.is_empty() { "nobody" } else { "somebody" };
        Ok(Some((format!("{target} for {who}"), to)))
    }

    fn socks4(&self, stream: &mut Box<dyn Duplex>) -> std::io::Result<Option<(String, SocketAddr)>> {
        let mut head = [0; 8];
        stream.read_exact(&mut head)?;
        assert_eq!(head[..2], [4, 1]);
        let port = u16::from_be_bytes([head[2], head[3]]);
        let user = until_nul(stream)?;
        let host = match &head[4..] {
            [0, 0, 0, 1] => until_nul(stream)?,
            ip => Ipv4Addr::new(ip[0], ip[1], ip[2], ip[3]).to_string(),
        };
        if self.login.as_ref().is_some_and(|(expected, _)| *expected != user) {
            stream.write_all(&[0, 93, 0, 0, 0, 0, 0, 0])?;
            return Ok(None);
        }
        let to = self.find(&host, port);
        stream.write_all(&[0, 90, 0, 0, 0, 0, 0, 0])?;
        let who = if user.is_empty() { "nobody" } else { "somebody" };
        Ok(Some((format!("{host}:{port} for {who}"), to)))
    }

    fn socks5(&self, stream: &mut Box<dyn Duplex>) -> std::io::Result<Option<(String, SocketAddr)>> {
        let mut head = [0; 2];
        stream.read_exact(&mut head)?;
        assert_eq!(head[0], 5);
        let mut ways = vec![0; head[1].into()];
        stream.read_exact(&mut ways)?;
        let mut who = "nobody";
        if let Some((user, password)) = &self.login {
            if !ways.contains(&2) {
                stream.write_all(&[5, 0xff])?;
                return Ok(None);
            }
            stream.write_all(&[5, 2])?;
            let mut version = [0];
            stream.read_exact(&mut version)?;
            assert_eq!(version, [1]);
            let login = (short(stream)?, short(stream)?);
            let is_known = login == (user.clone(), password.clone());
            stream.write_all(&[1, u8::from(!is_known)])?;
            if !is_known {
                return Ok(None);
            }
            who = "somebody";
        } else {
            stream.write_all(&[5, 0])?;
        }
        let mut head = [0; 4];
        stream.read_exact(&mut head)?;
        assert_eq!(head[..3], [5, 1, 0]);
        let host = match head[3] {
            1 => {
                let mut ip = [0; 4];
                stream.read_exact(&mut ip)?;
                Ipv4Addr::from(ip).to_string()
            }
            4 => {
                let mut ip = [0; 16];
                stream.read_exact(&mut ip)?;
                Ipv6Addr::from(ip).to_string()
            }
            3 => short(stream)?,
            kind => panic!("{kind}"),
        };
        let mut port = [0; 2];
        stream.read_exact(&mut port)?;
        let port = u16::from_be_bytes(port);
        let to = self.find(&host, port);
        stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])?;
        Ok(Some((format!("{host}:{port} for {who}"), to)))
    }
}

/// A text with its length in front.
fn short(stream: &mut dyn Read) -> std::io::Result<String> {
    let mut length = [0];
    stream.read_exact(&mut length)?;
    let mut text = vec![0; length[0].into()];
    stream.read_exact(&mut text)?;
    Ok(String::from_utf8(text).unwrap())
}

/// A text with a NUL behind it.
fn until_nul(stream: &mut dyn Read) -> std::io::Result<String> {
    let mut text = Vec::new();
    loop {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        match byte {
            [0] => return Ok(String::from_utf8(text).unwrap()),
            [byte] => text.push(byte),
        }
    }
}

/// Moves bytes both ways, by turns: TLS can't be read and written by two threads. Ends with either side.
fn pump(mut client: Box<dyn Duplex>, socket: &TcpStream, mut server: TcpStream) {
    let turn = Duration::from_millis(1);
    socket.set_read_timeout(Some(turn)).unwrap();
    server.set_read_timeout(Some(turn)).unwrap();
    let mut buffer = vec![0; 64 << 10];
    loop {
        for from_client in [true, false] {
            let (from, to): (&mut dyn Read, &mut dyn Write) =
                if from_client { (&mut client, &mut server) } else { (&mut server, &mut client) };
            match from.read(&mut buffer) {
                Ok(0) => {
                    let _ = server.shutdown(Shutdown::Both);
                    let _ = socket.shutdown(Shutdown::Both);
                    return;
                }
                Ok(count) => {
                    if to.write_all(&buffer[..count]).and_then(|()| to.flush()).is_err() {
                        return;
                    }
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => return,
            }
        }
    }
}
