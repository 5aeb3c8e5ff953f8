//! TLS settings of servers: certificates by name, client certificates, reload.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rustls::server::{
    ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert, ServerSessionMemoryCache,
    StoresServerSessions, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use webpki::EndEntityCert;

use super::verify::ClientVerifier;
use super::words::InWords;
use super::{HTTP, Pem, certified, key_log, provider};
use crate::error::Error;

/// How many sessions of TLS 1.2 clients are kept that use no tickets.
const SESSIONS: usize = 1024;

/// How a server speaks TLS: see `Server::tls`. Clones are the same: what is changed or
/// [reloaded](ServerTls::reload) through one of them, on any thread, is so for the handshakes that begin from then on.
///
/// ```
/// use threadwire::server::ServerTls;
/// use threadwire::{Connection, Message, Reply, Server, tls::Pem};
/// # use threadwire::client::ClientTls;
/// # use threadwire::{Client, blocking};
/// # let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
/// # let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
///
/// // From files it would be Pem::file("example.pem") and so on.
/// let tls = ServerTls::new(Pem::bytes(chain.clone()), Pem::bytes(key))?;
/// let server = Server::bind("127.0.0.1:0")?
///     .tls(tls.clone())
///     .serve(|_request| Reply::with(|ws: &Connection, message: Message<'_>| ws.send(message)))?;
///
/// // When the files have changed:
/// if let Err(error) = tls.reload() {
///     eprintln!("the certificates remain as they are: {error:#}");
/// }
/// # let client = Client::new(&format!("wss://localhost:{}", server.local_addr()?.port()))?;
/// # let client = client.tls(ClientTls::new().only_roots(Pem::bytes(chain))?);
/// # let mut ws = blocking::connect(&client)?;
/// # ws.send("hello")?;
/// # assert_eq!(ws.recv()?.unwrap(), "hello");
/// # server.stop();
/// server.join()?;
/// # Ok::<(), threadwire::Error>(())
/// ```
#[derive(Clone)]
pub struct ServerTls(Arc<Reloadable>);

struct Reloadable {
    settings: Mutex<Settings>,
    /// The rustls settings made from them.
    current: RwLock<Arc<ServerConfig>>,
}

/// Whether clients have to show certificates (mutual TLS), and by which roots these are verified.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum ClientCertificates {
    /// Clients are not asked for certificates. The default.
    #[default]
    None,
    /// Clients are asked for a certificate, and may have none: see [`TlsInfo`](super::TlsInfo).
    Optional(Pem),
    /// Without one, the handshake fails.
    Required(Pem),
}

#[derive(Clone)]
struct Settings {
    /// The first is shown to clients that ask for a name that none has, or for none.
    certificates: Vec<(Pem, Pem)>,
    clients: ClientCertificates,
    alpn: Vec<Vec<u8>>,
    tickets: Option<Arc<dyn ProducesTickets>>,
    sessions: Arc<dyn StoresServerSessions>,
    logs_keys: bool,
    /// Settings of the program's own, instead of all of that.
    own: Option<Arc<ServerConfig>>,
}

impl ServerTls {
    /// With a certificate, the chain behind it, and its key. Fails with [`Error::TlsFile`], which says what is wrong with
    /// which of them.
    pub fn new(chain: Pem, key: Pem) -> Result<ServerTls, Error> {
        let settings = Settings {
            certificates: vec![(chain, key)],
            clients: ClientCertificates::None,
            alpn: vec![HTTP.to_vec()],
            tickets: None,
            sessions: ServerSessionMemoryCache::new(SESSIONS),
            logs_keys: true,
            own: None,
        }
        .with_tickets()?;
        let current = RwLock::new(settings.make()?);
        Ok(ServerTls(Arc::new(Reloadable { settings: Mutex::new(settings), current })))
    }

    /// Settings of rustls as they are, for what the others don't cover. To exchange them, see
    /// [`set_config`](ServerTls::set_config).
    pub fn from_config(config: Arc<ServerConfig>) -> ServerTls {
        let settings = Settings {
            certificates: Vec::new(),
            clients: ClientCertificates::None,
            alpn: Vec::new(),
            tickets: None,
            sessions: Arc::new(NoServerSessionStorage {}),
            logs_keys: false,
            own: Some(Arc::clone(&config)),
        };
        ServerTls(Arc::new(Reloadable { settings: Mutex::new(settings), current: RwLock::new(config) }))
    }

    /// Exchanges all settings for these.
    pub fn set_config(&self, config: Arc<ServerConfig>) {
        let mut settings = self.0.settings.lock().unwrap_or_else(PoisonError::into_inner);
        settings.own = Some(Arc::clone(&config));
        self.set_current(config);
    }

    /// Adds a certificate for other names: each client is shown the one for the name that it asks for (SNI), by the names in the
    /// certificates, wildcards among them; and the first one if none has that name. Fails with [`Error::TlsFile`], and
    /// with [`Error::Other`] where the settings are [rustls's own](ServerTls::from_config).
    pub fn certificate(self, chain: Pem, key: Pem) -> Result<ServerTls, Error> {
        self.change(|settings| settings.certificates.push((chain, key)))?;
        Ok(self)
    }

    /// Whether clients have to show certificates; they are not asked for any by default. Sessions are not taken up again
    /// over a change of that. Fails as [`certificate`](ServerTls::certificate) does.
    pub fn client_certificates(self, clients: ClientCertificates) -> Result<ServerTls, Error> {
        self.change(|settings| settings.clients = clients)?;
        Ok(self)
    }

    /// The protocols that are agreed on with clients that offer some (ALPN, RFC 7301); `http/1.1` by default. A client
    /// that offers only others is refused. Fails as [`certificate`](ServerTls::certificate) does.
    pub fn alpn<P: AsRef<[u8]>>(self, protocols: impl IntoIterator<Item = P>) -> Result<ServerTls, Error> {
        let protocols = protocols.into_iter().map(|protocol| protocol.as_ref().to_vec()).collect();
        self.change(|settings| settings.alpn = protocols)?;
        Ok(self)
    }

    /// Has every connection begin anew, instead of taking up sessions again. By default clients get tickets, which are good for
    /// 12 hours at most. Fails as [`certificate`](ServerTls::certificate) does.
    pub fn no_resumption(self) -> Result<ServerTls, Error> {
        self.change(|settings| {
            settings.tickets = None;
            settings.sessions = Arc::new(NoServerSessionStorage {});
        })?;
        Ok(self)
    }

    /// Does not heed the environment variable `SSLKEYLOGFILE`, as [`ClientTls::no_key_log`](super::ClientTls::no_key_log) does not. Fails as
    /// [`certificate`](ServerTls::certificate) does.
    pub fn no_key_log(self) -> Result<ServerTls, Error> {
        self.change(|settings| settings.logs_keys = false)?;
        Ok(self)
    }

    /// Reads all files again, certificates, keys and the roots for clients, and uses them for the handshakes that begin from now
    /// on. If one can't be used, nothing changes: fails as [`new`](ServerTls::new) does, and with [`Error::Other`] where
    /// the settings are [rustls's own](ServerTls::from_config).
    pub fn reload(&self) -> Result<(), Error> {
        self.change(|_| {})
    }

    fn change(&self, change: impl FnOnce(&mut Settings)) -> Result<(), Error> {
        let mut settings = self.0.settings.lock().unwrap_or_else(PoisonError::into_inner);
        if settings.own.is_some() {
            return Err(Error::other("these TLS settings are rustls's own, see ServerTls::set_config"));
        }
        let mut changed = settings.clone();
        change(&mut changed);
        if !matches!(
            (&settings.clients, &changed.clients),
            (ClientCertificates::None, ClientCertificates::None)
        ) {
            // Clients verified by other roots must be verified again, not resumed.
            changed.sessions = match changed.tickets {
                Some(_) => ServerSessionMemoryCache::new(SESSIONS),
                None => changed.sessions,
            };
            if changed.tickets.is_some() {
                changed = changed.with_tickets()?;
            }
        }
        let config = changed.make()?;
        *settings = changed;
        self.set_current(config);
        Ok(())
    }

    fn set_current(&self, config: Arc<ServerConfig>) {
        *self.0.current.write().unwrap_or_else(PoisonError::into_inner) = config;
    }

    /// The settings of a handshake that begins now.
    #[doc(hidden)]
    pub fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Settings {
    /// With tickets whose key nobody knows yet.
    fn with_tickets(mut self) -> Result<Settings, Error> {
        let tickets = super::tickets().map_err(Error::other)?;
        self.tickets = Some(tickets);
        Ok(self)
    }

    fn make(&self) -> Result<Arc<ServerConfig>, Error> {
        let provider = provider();
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(Error::other)?;
        let builder = match &self.clients {
            ClientCertificates::None => builder.with_no_client_auth(),
            ClientCertificates::Optional(pem) | ClientCertificates::Required(pem) => {
                let roots = pem.certificates()?;
                let mut store = RootCertStore::empty();
                for root in &roots {
                    store.add(root.clone()).map_err(|error| {
                        pem.error("has a certificate in it that can't be a root", Some(InWords(error).into()))
                    })?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider);
                let verifier = match &self.clients {
                    ClientCertificates::Optional(_) => verifier.allow_unauthenticated(),
                    _ => verifier,
                };
                let inner = verifier
                    .build()
                    .map_err(|error| pem.error("has no roots that can be used", Some(error.into())))?;
                builder.with_client_cert_verifier(Arc::new(ClientVerifier { inner, roots }))
            }
        };
        let mut config = builder.with_cert_resolver(Arc::new(Certificates::read(&self.certificates)?));
        config.alpn_protocols = self.alpn.clone();
        config.session_storage = Arc::clone(&self.sessions);
        if self.logs_keys {
            config.key_log = key_log();
        }
        match &self.tickets {
            Some(tickets) => config.ticketer = Arc::clone(tickets),
            None => config.send_tls13_tickets = 0,
        }
        Ok(Arc::new(config))
    }
}

/// Certificates by the names that they are for.
#[derive(Debug)]
struct Certificates {
    all: Vec<Arc<CertifiedKey>>,
    by_name: HashMap<String, usize>,
}

impl Certificates {
    fn read(files: &[(Pem, Pem)]) -> Result<Certificates, Error> {
        let mut certificates = Certificates { all: Vec::new(), by_name: HashMap::new() };
        for (number, (chain, key)) in files.iter().enumerate() {
            let certified = certified(chain, key, chain.certificates()?, key.key()?)?;
            if let Some(Ok(certificate)) = certified.cert.first().map(EndEntityCert::try_from) {
                for name in certificate.valid_dns_names() {
                    certificates.by_name.entry(name.to_ascii_lowercase()).or_insert(number);
                }
            }
            certificates.all.push(Arc::new(certified));
        }
        Ok(certificates)
    }

    fn find(&self, name: &str) -> Option<usize> {
        let name = name.to_ascii_lowercase();
        let wildcard = || {
            let (_, domain) = name.split_once('.')?;
            self.by_name.get(&format!("*.{domain}"))
        };
        self.by_name.get(&name).or_else(wildcard).copied()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let number = hello.server_name().and_then(|name| self.find(name)).unwrap_or(0);
        self.all.get(number).cloned()
    }
}

/// Without keys.
impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = self.0.settings.lock().unwrap_or_else(PoisonError::into_inner);
        f.debug_struct("ServerTls")
            .field("certificates", &settings.certificates)
            .field("clients", &settings.clients)
            .finish_non_exhaustive()
    }
}
