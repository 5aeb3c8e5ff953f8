//! TLS settings of clients: trust, pinned keys, client certificates.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustls::client::{ResolvesClientCert, Resumption};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SignatureScheme};
use rustls_platform_verifier::Verifier as PlatformVerifier;

use super::verify::{Pin, Verifier, parse_pin};
use super::words::InWords;
use super::{HTTP, Pem, key_log, provider};
use crate::error::{Error, TlsError, TlsFileError, TlsProblem};

/// How a `Client` speaks TLS, for `wss://` URLs: see `Client::tls`. Each setting has a
/// default that is right for servers on the internet: certificates are verified as this system does it, by its roots.
///
/// Clones of it, and of a client that has it, share the sessions that are taken up again with the same server, which saves
/// most of a handshake. All clients without settings of their own share one set.
///
/// ```no_run
/// use threadwire::client::ClientTls;
/// use threadwire::{Client, Connection, Message, tls::Pem};
///
/// let tls = ClientTls::new()
///     .extra_roots(Pem::file("our-ca.pem"))?
///     .identity(Pem::file("me.pem"), Pem::file("me.key"))?;
/// let client = Client::new("wss://intranet.example/feed")?.tls(tls);
/// let ws = client.connect(|_ws: &Connection, message: Message<'_>| Ok(println!("{message}")))?;
/// # Ok::<(), threadwire::Error>(())
/// ```
#[derive(Clone)]
pub struct ClientTls {
    trust: Trust,
    pins: Vec<Pin>,
    identity: Option<Arc<Identity>>,
    name: Option<ServerName<'static>>,
    sends_name: bool,
    alpn: Vec<Vec<u8>>,
    resumes: bool,
    logs_keys: bool,
    accepts_any: bool,
    /// Settings of the program's own, instead of all of that.
    own: Option<Arc<ClientConfig>>,
    /// The setting that can't be combined with the program's own.
    beside_own: Option<&'static str>,
    /// Whether the identity is not to be shown.
    is_anonymous: bool,
    /// The rustls settings, made once.
    made: Arc<CachedConfig>,
    /// The same without the identity.
    made_anonymous: Arc<CachedConfig>,
}

/// Settings for rustls, made when they are needed: the system's roots are not at hand. What fails is tried again the next time.
#[derive(Default)]
struct CachedConfig(Mutex<Option<Arc<ClientConfig>>>);

impl CachedConfig {
    /// Others wait as long as they are made: they would have the same to do.
    fn get(
        &self,
        make: impl FnOnce() -> Result<Arc<ClientConfig>, rustls::Error>,
    ) -> Result<Arc<ClientConfig>, rustls::Error> {
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = &*made {
            return Ok(Arc::clone(made));
        }
        Ok(Arc::clone(made.insert(make()?)))
    }
}

#[derive(Clone)]
enum Trust {
    /// The system's roots, and these.
    System(Vec<CertificateDer<'static>>),
    /// These roots.
    Only(Vec<CertificateDer<'static>>),
    /// Any server; if keys are pinned, any that has one of them.
    AnyServer,
}

/// A client without a certificate.
#[derive(Debug)]
struct NoClientCertificate;

impl ResolvesClientCert for NoClientCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Default for ClientTls {
    fn default() -> ClientTls {
        ClientTls::new()
    }
}

impl ClientTls {
    /// The default settings, as they are with none.
    pub fn new() -> ClientTls {
        ClientTls {
            trust: Trust::System(Vec::new()),
            pins: Vec::new(),
            identity: None,
            name: None,
            sends_name: true,
            alpn: vec![HTTP.to_vec()],
            resumes: true,
            logs_keys: true,
            accepts_any: false,
            own: None,
            beside_own: None,
            is_anonymous: false,
            made: Arc::default(),
            made_anonymous: Arc::default(),
        }
    }

    /// Settings of rustls as they are, for what the others don't cover. Only [`server_name`](ClientTls::server_name) can
    /// be added: the others fail with [`Error::Other`] where they can fail, and otherwise connecting does, with
    /// [`TlsProblem::Settings`]. Without ALPN in them none is used, where otherwise `http/1.1` is offered.
    pub fn from_config(config: Arc<ClientConfig>) -> ClientTls {
        ClientTls { own: Some(config), ..ClientTls::new() }
    }

    /// The settings shared by all clients that have none of their own.
    #[doc(hidden)]
    pub fn shared() -> ClientTls {
        static SHARED: OnceLock<ClientTls> = OnceLock::new();
        SHARED.get_or_init(ClientTls::new).clone()
    }

    /// The same but for something: what was made before does not fit any more. `setting` is what the program calls it.
    fn changed(mut self, setting: &'static str, change: impl FnOnce(&mut ClientTls)) -> ClientTls {
        if self.own.is_some() {
            self.beside_own.get_or_insert(setting);
        }
        (self.made, self.made_anonymous) = (Arc::default(), Arc::default());
        change(&mut self);
        self
    }

    /// Where the settings are rustls's own, nothing can be changed.
    fn check_can_change(&self, setting: &str) -> Result<(), Error> {
        match self.own {
            Some(_) => Err(Error::other(beside_own(setting))),
            None => Ok(()),
        }
    }

    /// The same for a server that was not the program's choice, but another server's: without what is meant for the one that was.
    #[doc(hidden)]
    pub fn elsewhere(&self) -> ClientTls {
        let mut tls = ClientTls { name: None, ..self.clone() };
        let own = self.own.as_ref();
        if self.identity.is_some() || own.is_some_and(|own| own.client_auth_cert_resolver.has_certs()) {
            tls.is_anonymous = true;
            tls.made = Arc::clone(&self.made_anonymous);
        }
        tls
    }

    /// Verifies servers by these roots beside the system's, in addition to those that were added before. Fails with
    /// [`Error::TlsFile`], and with [`Error::Other`] where no roots are asked any more ([`only_pins`](ClientTls::only_pins),
    /// [`danger_accept_any_certificate`](ClientTls::danger_accept_any_certificate)), or the settings are
    /// [rustls's own](ClientTls::from_config).
    pub fn extra_roots(self, roots: Pem) -> Result<ClientTls, Error> {
        self.check_can_change("extra_roots")?;
        let more = checked_roots(&roots)?;
        if matches!(self.trust, Trust::AnyServer) {
            return Err(Error::other("roots can't be added where none is asked: see `only_roots`"));
        }
        Ok(self.changed("extra_roots", |tls| match &mut tls.trust {
            Trust::System(roots) | Trust::Only(roots) => roots.extend(more),
            Trust::AnyServer => {}
        }))
    }

    /// Verifies servers by these roots alone, instead of the system's. Fails as [`extra_roots`](ClientTls::extra_roots)
    /// does.
    pub fn only_roots(self, roots: Pem) -> Result<ClientTls, Error> {
        self.check_can_change("only_roots")?;
        let roots = checked_roots(&roots)?;
        Ok(self.changed("only_roots", |tls| tls.trust = Trust::Only(roots)))
    }

    /// Shows this certificate, with the chain behind it, to servers that ask for one (mutual TLS). Fails as
    /// [`extra_roots`](ClientTls::extra_roots) does, also if the key is another one's.
    pub fn identity(self, chain: Pem, key: Pem) -> Result<ClientTls, Error> {
        self.check_can_change("identity")?;
        let identity = Identity { chain: chain.certificates()?, key: key.key()? };
        super::certified(&chain, &key, identity.chain.clone(), identity.key.clone_key())?;
        Ok(self.changed("identity", |tls| tls.identity = Some(Arc::new(identity))))
    }

    /// Only talks to servers with this key, or another one that is pinned: the SHA-256 of the SubjectPublicKeyInfo, in the
    /// notation of curl's `--pinnedpubkey`, which is `sha256//` and BASE64. In addition to verification, unless
    /// [`only_pins`](ClientTls::only_pins) says otherwise. A server with another key fails with
    /// [`TlsProblem::WrongKey`], which has the key that would have to be pinned.
    ///
    /// Fails with [`Error::TlsFile`] for what is no such text, and with [`Error::Other`] where the settings are
    /// [rustls's own](ClientTls::from_config).
    pub fn pin(self, key: &str) -> Result<ClientTls, Error> {
        self.check_can_change("pin")?;
        let Some(pin) = parse_pin(key) else {
            let problem = "is no pin, expected sha256// and 44 characters of BASE64".to_owned();
            return Err(Error::from(TlsFileError { name: format!("{key:?}"), problem, source: None }));
        };
        Ok(self.changed("pin", |tls| tls.pins.push(pin)))
    }

    /// Takes a pinned key for proof enough: the certificate that it comes in may be self-signed, expired, or another
    /// host's. Connecting fails with [`TlsProblem::Settings`] if none is pinned.
    pub fn only_pins(self) -> ClientTls {
        self.changed("only_pins", |tls| {
            tls.trust = Trust::AnyServer;
            tls.accepts_any = false;
        })
    }

    /// Accepts any certificate of any server, and so also a man in the middle. For tests; to trust one
    /// self-signed certificate, [pin](ClientTls::pin) its key or make it a [root](ClientTls::only_roots).
    pub fn danger_accept_any_certificate(self) -> ClientTls {
        self.changed("danger_accept_any_certificate", |tls| {
            tls.trust = Trust::AnyServer;
            tls.pins.clear();
            tls.accepts_any = true;
        })
    }

    /// Expects a certificate for this name or IP address, and asks for it (SNI), instead of the host of the URL. Fails with
    /// [`Error::Tls`] and [`TlsProblem::Name`] for what is neither.
    pub fn server_name(mut self, name: &str) -> Result<ClientTls, Error> {
        self.name = Some(server_name(name)?);
        Ok(self)
    }

    /// Does not say which host it wants (no SNI); its certificate is verified all the same.
    pub fn no_sni(self) -> ClientTls {
        self.changed("no_sni", |tls| tls.sends_name = false)
    }

    /// Offers these protocols (ALPN, RFC 7301), the best one first; `http/1.1` by default, as browsers do for WebSockets.
    /// No protocol at all may be right for a server without ALPN.
    pub fn alpn<P: AsRef<[u8]>>(self, protocols: impl IntoIterator<Item = P>) -> ClientTls {
        let protocols = protocols.into_iter().map(|protocol| protocol.as_ref().to_vec()).collect();
        self.changed("alpn", |tls| tls.alpn = protocols)
    }

    /// Begins every connection anew, instead of taking up sessions again.
    pub fn no_resumption(self) -> ClientTls {
        self.changed("no_resumption", |tls| tls.resumes = false)
    }

    /// Does not heed the environment variable `SSLKEYLOGFILE`. By default, where that is set, the keys of each session are
    /// appended to the file that it names, so that Wireshark and others can read what was encrypted (in the format of NSS).
    pub fn no_key_log(self) -> ClientTls {
        self.changed("no_key_log", |tls| tls.logs_keys = false)
    }

    /// The settings for rustls, and the name that the server at this host has to have. `host` is without brackets.
    #[doc(hidden)]
    pub fn prepare(&self, host: &str) -> Result<(Arc<ClientConfig>, ServerName<'static>), Error> {
        let name = match &self.name {
            Some(name) => name.clone(),
            None => server_name(host)?,
        };
        let config = match (&self.own, self.beside_own) {
            (Some(_), Some(setting)) => Err(rustls::Error::General(beside_own(setting))),
            (Some(own), None) if !self.is_anonymous => Ok(Arc::clone(own)),
            (Some(own), None) => self.made.get(|| Ok(Arc::new(anonymous(own)))),
            (None, _) => self.made.get(|| self.make()),
        };
        let config = config.map_err(|error| {
            Error::from(TlsError {
                host: host.to_owned(),
                problem: TlsProblem::Settings,
                source: Some(Box::new(InWords(error))),
            })
        })?;
        Ok((config, name))
    }

    fn make(&self) -> Result<Arc<ClientConfig>, rustls::Error> {
        let provider = provider();
        let roots = match &self.trust {
            Trust::System(roots) | Trust::Only(roots) => roots.clone(),
            Trust::AnyServer => Vec::new(),
        };
        let inner: Option<Arc<dyn rustls::client::danger::ServerCertVerifier>> = match &self.trust {
            Trust::System(extra) => {
                let extra = extra.iter().cloned();
                Some(Arc::new(PlatformVerifier::new_with_extra_roots(extra, Arc::clone(&provider))?))
            }
            Trust::Only(roots) => {
                let mut store = RootCertStore::empty();
                for root in roots {
                    store.add(root.clone())?;
                }
                let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(
                    Arc::new(store),
                    Arc::clone(&provider),
                );
                Some(verifier.build().map_err(|error| rustls::Error::General(error.to_string()))?)
            }
            Trust::AnyServer if self.pins.is_empty() && !self.accepts_any => {
                return Err(rustls::Error::General(
                    "only pinned keys are trusted, and none is pinned".into(),
                ));
            }
            Trust::AnyServer => None,
        };
        let verifier = Verifier { inner, roots, pins: self.pins.clone(), provider: Arc::clone(&provider) };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match &self.identity {
            Some(identity) if !self.is_anonymous => {
                builder.with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())?
            }
            _ => builder.with_no_client_auth(),
        };
        config.enable_sni = self.sends_name;
        config.alpn_protocols = self.alpn.clone();
        if !self.resumes {
            config.resumption = Resumption::disabled();
        }
        if self.logs_keys {
            config.key_log = key_log();
        }
        Ok(Arc::new(config))
    }
}

/// The error for a setting that can't be combined with settings of rustls.
fn beside_own(setting: &str) -> String {
    format!("{setting} has no effect beside TLS settings of rustls's own, expected it to be among them")
}

/// The same without a certificate to show, and without sessions that were agreed on with one.
fn anonymous(config: &ClientConfig) -> ClientConfig {
    let mut config = config.clone();
    config.client_auth_cert_resolver = Arc::new(NoClientCertificate);
    config.resumption = Resumption::disabled();
    config
}

/// Roots that can be used as such.
fn checked_roots(pem: &Pem) -> Result<Vec<CertificateDer<'static>>, Error> {
    let roots = pem.certificates()?;
    let mut store = RootCertStore::empty();
    for root in &roots {
        store.add(root.clone()).map_err(|error| {
            pem.error("has a certificate in it that can't be a root", Some(InWords(error).into()))
        })?;
    }
    Ok(roots)
}

fn server_name(host: &str) -> Result<ServerName<'static>, Error> {
    ServerName::try_from(host.to_owned()).map_err(|error| {
        Error::from(TlsError { host: host.to_owned(), problem: TlsProblem::Name, source: Some(error.into()) })
    })
}

/// Without keys and certificates.
impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.own.is_some() {
            return f.debug_struct("ClientTls").field("name", &self.name).finish_non_exhaustive();
        }
        let trust = match &self.trust {
            Trust::System(extra) => format!("the system's roots and {} more", extra.len()),
            Trust::Only(roots) => format!("{} roots", roots.len()),
            Trust::AnyServer if self.accepts_any => "anybody".to_owned(),
            Trust::AnyServer => "pinned keys".to_owned(),
        };
        f.debug_struct("ClientTls")
            .field("trust", &trust)
            .field("pins", &self.pins.len())
            .field("identity", &self.identity.is_some())
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_is_tried_again_and_what_was_made_is_kept() {
        let made = CachedConfig::default();
        let failed = || Err(rustls::Error::General("the roots can't be read".to_owned()));
        assert!(made.get(failed).is_err());
        let config = made.get(|| ClientTls::new().danger_accept_any_certificate().make()).unwrap();
        assert!(Arc::ptr_eq(&made.get(failed).unwrap(), &config));
    }
}
