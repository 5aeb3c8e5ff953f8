//! TLS with nothing but rustls, for the load and the raw server: a read is decrypted out of one shared buffer, a write is
//! encrypted into another, and each takes one system call.

use rcgen::{CertifiedKey, generate_simple_self_signed};
use std::cell::RefCell;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use threadwire::tls::Pem;
use threadwire::tls::rustls::client::UnbufferedClientConnection;
use threadwire::tls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use threadwire::tls::rustls::server::UnbufferedServerConnection;
use threadwire::tls::rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus,
};
use threadwire::tls::rustls::{self, ClientConfig, ServerConfig, crypto};

/// The most that one read takes, with what was incomplete before.
const BUFFER: usize = 64 << 10;
/// How much is encrypted at once, and what the records add to it.
const PIECE: usize = 64 << 10;
const OVERHEAD: usize = 1 << 10;

thread_local! {
    static INPUT: RefCell<Vec<u8>> = RefCell::new(vec![0; BUFFER]);
    static OUTPUT: RefCell<Vec<u8>> = RefCell::new(vec![0; PIECE + OVERHEAD]);
}

/// A certificate for `localhost` and its key, both as PEM: another pair in each process.
pub(crate) fn identity() -> io::Result<(String, String)> {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(vec!["localhost".to_owned()]).map_err(io::Error::other)?;
    Ok((cert.pem(), signing_key.serialize_pem()))
}

/// How Threadwire's servers speak TLS here.
pub(crate) fn server_tls() -> Result<threadwire::server::ServerTls, Box<dyn std::error::Error + Send + Sync>>
{
    let (chain, key) = identity()?;
    Ok(threadwire::server::ServerTls::new(Pem::bytes(chain), Pem::bytes(key))?)
}

/// How other servers do.
pub(crate) fn server_config() -> io::Result<Arc<ServerConfig>> {
    let (chain, key) = identity()?;
    let chain = CertificateDer::from_pem_slice(chain.as_bytes()).map_err(io::Error::other)?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(io::Error::other)?;
    let config = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![chain], key));
    config.map(Arc::new).map_err(io::Error::other)
}

/// How the load does: it has nothing to lose.
pub(crate) fn client_config() -> io::Result<Arc<ClientConfig>> {
    #[derive(Debug)]
    struct Anybody(Arc<crypto::CryptoProvider>);

    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::{DigitallySignedStruct, Error, SignatureScheme};

    impl ServerCertVerifier for Anybody {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: rustls::pki_types::UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.0.signature_verification_algorithms.supported_schemes()
        }
    }

    let provider = Arc::new(crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

enum Side {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
}

/// A stream in TLS; one that does not block, or one that does.
pub(crate) struct Secure<S> {
    pub(crate) stream: S,
    side: Side,
    /// The beginning of a record.
    kept: Vec<u8>,
    /// Decrypted bytes for which the caller had no room.
    plain: Vec<u8>,
    /// Encrypted bytes that the stream did not take.
    unsent: Vec<u8>,
    may_have_more: bool,
}

impl<S: Read + Write> Secure<S> {
    pub(crate) fn client(stream: S) -> io::Result<Secure<S>> {
        thread_local! {
            static CONFIG: io::Result<Arc<ClientConfig>> = client_config();
        }
        let config = CONFIG.with(|config| match config {
            Ok(config) => Ok(Arc::clone(config)),
            Err(error) => Err(io::Error::other(error.to_string())),
        })?;
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        let side = UnbufferedClientConnection::new(config, name).map_err(io::Error::other)?;
        Ok(Secure::of(stream, Side::Client(side)))
    }

    pub(crate) fn server(stream: S, config: Arc<ServerConfig>) -> io::Result<Secure<S>> {
        let side = UnbufferedServerConnection::new(config).map_err(io::Error::other)?;
        Ok(Secure::of(stream, Side::Server(side)))
    }

    fn of(stream: S, side: Side) -> Secure<S> {
        let (kept, plain, unsent) = (Vec::new(), Vec::new(), Vec::new());
        Secure { stream, side, kept, plain, unsent, may_have_more: true }
    }

    /// The same over another form of the stream.
    pub(crate) fn map<T>(self, change: impl FnOnce(S) -> T) -> Secure<T> {
        let Secure { stream, side, kept, plain, unsent, may_have_more } = self;
        Secure { stream: change(stream), side, kept, plain, unsent, may_have_more }
    }

    /// Whether there may be more to read, for which no event will come.
    pub(crate) fn may_have_more(&self) -> bool {
        self.may_have_more || !self.plain.is_empty()
    }

    /// Sends what was not taken before; whether that was all.
    pub(crate) fn push(&mut self) -> io::Result<bool> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(sent) => drop(self.unsent.drain(..sent)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Decrypts the records that lie in `input`, into `room` and behind it. How much is done with, and how much is in the room.
    fn open(&mut self, input: &mut [u8], room: &mut [u8]) -> io::Result<(usize, usize)> {
        let mut take = Take { room, filled: 0, plain: &mut self.plain, unsent: &mut self.unsent };
        let mut done = 0;
        loop {
            let more = match &mut self.side {
                Side::Client(side) => take.step(side.process_tls_records(&mut input[done..])),
                Side::Server(side) => take.step(side.process_tls_records(&mut input[done..])),
            }?;
            done += more.0;
            if !more.1 {
                return Ok((done, take.filled));
            }
        }
    }

    /// Encrypts into `output`; how much that comes to.
    fn seal(&mut self, bytes: &[u8], output: &mut Vec<u8>) -> io::Result<usize> {
        loop {
            let sealed = match &mut self.side {
                Side::Client(side) => seal(side.process_tls_records(&mut self.kept), bytes, output),
                Side::Server(side) => seal(side.process_tls_records(&mut self.kept), bytes, output),
            };
            match sealed? {
                Some(count) => return Ok(count),
                None => output.resize(2 * output.len(), 0),
            }
        }
    }

    /// Before the handshake is done nothing can be encrypted.
    fn is_handshaking(&self) -> bool {
        match &self.side {
            Side::Client(side) => side.is_handshaking(),
            Side::Server(side) => side.is_handshaking(),
        }
    }
}

struct Take<'a> {
    room: &'a mut [u8],
    filled: usize,
    plain: &'a mut Vec<u8>,
    unsent: &'a mut Vec<u8>,
}

impl Take<'_> {
    /// How much more is done with, and whether there is more to do.
    fn step<D>(&mut self, status: UnbufferedStatus<'_, '_, D>) -> io::Result<(usize, bool)> {
        let goes_on = match status.state.map_err(io::Error::other)? {
            ConnectionState::ReadTraffic(mut traffic) => {
                while let Some(record) = traffic.next_record() {
                    let bytes = record.map_err(io::Error::other)?.payload;
                    let count = bytes.len().min(self.room.len() - self.filled);
                    self.room[self.filled..][..count].copy_from_slice(&bytes[..count]);
                    self.filled += count;
                    self.plain.extend_from_slice(&bytes[count..]);
                }
                true
            }
            ConnectionState::EncodeTlsData(mut data) => {
                if let Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) =
                    data.encode(&mut [])
                {
                    let start = self.unsent.len();
                    self.unsent.resize(start + required_size, 0);
                    data.encode(&mut self.unsent[start..]).map_err(io::Error::other)?;
                }
                true
            }
            ConnectionState::TransmitTlsData(data) => {
                data.done();
                true
            }
            ConnectionState::PeerClosed => true,
            _ => false,
        };
        Ok((status.discard, goes_on))
    }
}

fn seal<D>(
    status: UnbufferedStatus<'_, '_, D>,
    bytes: &[u8],
    output: &mut [u8],
) -> io::Result<Option<usize>> {
    let ConnectionState::WriteTraffic(mut traffic) = status.state.map_err(io::Error::other)? else {
        return Err(io::Error::other("TLS has something else to do than to write"));
    };
    match traffic.encrypt(bytes, output) {
        Ok(count) => Ok(Some(count)),
        Err(EncryptError::InsufficientSize(_)) => Ok(None),
        Err(error) => Err(io::Error::other(error)),
    }
}

impl<S: Read + Write> Read for Secure<S> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        if !self.plain.is_empty() {
            let count = self.plain.len().min(room.len());
            room[..count].copy_from_slice(&self.plain[..count]);
            self.plain.drain(..count);
            // The stream may have become ready meanwhile.
            self.may_have_more = true;
            return Ok(count);
        }
        INPUT.with_borrow_mut(|input| {
            loop {
                let held = self.kept.len();
                input[..held].copy_from_slice(&self.kept);
                // Whole records, and no more than there is room for.
                let end = input.len().min(room.len().max(held + (17 << 10)));
                let got = self.stream.read(&mut input[held..end])?;
                if got == 0 {
                    return Ok(0);
                }
                self.may_have_more = held + got == end;
                let (done, filled) = self.open(&mut input[..held + got], room)?;
                self.kept.clear();
                self.kept.extend_from_slice(&input[done..held + got]);
                self.push()?;
                if filled > 0 {
                    return Ok(filled);
                }
            }
        })
    }
}

impl<S: Read + Write> Write for Secure<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        while self.is_handshaking() {
            // Only blocking streams are written to before they are read.
            let mut input = std::mem::take(&mut self.kept);
            let (done, _) = self.open(&mut input, &mut [])?;
            self.kept = input.split_off(done);
            self.push()?;
            if self.is_handshaking() {
                let mut more = [0; 4096];
                let got = self.stream.read(&mut more)?;
                if got == 0 {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
                self.kept.extend_from_slice(&more[..got]);
            }
        }
        if !self.push()? {
            return Err(ErrorKind::WouldBlock.into());
        }
        OUTPUT.with_borrow_mut(|output| {
            let bytes = &bytes[..bytes.len().min(PIECE)];
            let end = self.seal(bytes, output)?;
            let mut sent = 0;
            while sent < end {
                match self.stream.write(&output[sent..end]) {
                    Ok(more) => sent += more,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        self.unsent.extend_from_slice(&output[sent..end]);
                        break;
                    }
                    Err(error) => return Err(error),
                }
            }
            Ok(bytes.len())
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
