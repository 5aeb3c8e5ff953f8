//! TLS of clients.

use std::fmt;
use std::sync::{Arc, OnceLock};

use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::Verifier as PlatformVerifier;

use super::verify::{Pin, Verifier, parse_pin};
use super::{HTTP, Pem, TlsProblem, provider};
use crate::Error;

/// How a [`Client`](crate::Client) speaks TLS, for `wss://` URLs: see [`Client::tls`](crate::Client::tls). Each setting has a
/// default that is right for servers on the internet: certificates are verified as this system does it, by its roots.
///
/// Clones of it, and of a client that has it, share the sessions that are taken up again with the same server, which saves
/// most of a handshake. All clients without settings of their own share one set.
///
/// ```no_run
/// use threadwire::{Client, ClientTls, Connection, Message, tls::Pem};
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
    accepts_any: bool,
    /// Settings of the program's own, instead of all of that.
    own: Option<Arc<ClientConfig>>,
    /// What it comes to, made when it is needed: the system's roots are not at hand.
    made: Arc<OnceLock<Result<Arc<ClientConfig>, rustls::Error>>>,
}

#[derive(Clone)]
enum Trust {
    /// The system's roots, and these.
    System(Vec<CertificateDer<'static>>),
    /// These roots.
    Only(Vec<CertificateDer<'static>>),
    /// Whoever it is; if keys are pinned, whoever has one of them.
    Anybody,
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
            accepts_any: false,
            own: None,
            made: Arc::default(),
        }
    }

    /// Settings of rustls as they are, for what the others don't cover. Only [`server_name`](ClientTls::server_name) can
    /// be added. Without ALPN in them none is used, where otherwise `http/1.1` is offered.
    pub fn from_config(config: Arc<ClientConfig>) -> ClientTls {
        ClientTls { own: Some(config), ..ClientTls::new() }
    }

    /// What all clients share that have no settings of their own.
    pub(crate) fn shared() -> ClientTls {
        static SHARED: OnceLock<ClientTls> = OnceLock::new();
        SHARED.get_or_init(ClientTls::new).clone()
    }

    /// The same but for something: what was made before does not fit any more.
    fn changed(mut self, change: impl FnOnce(&mut ClientTls)) -> ClientTls {
        self.made = Arc::default();
        change(&mut self);
        self
    }

    /// Verifies servers by these roots beside the system's, in addition to those that were added before. Fails with
    /// [`Error::TlsFile`].
    pub fn extra_roots(self, roots: Pem) -> Result<ClientTls, Error> {
        let more = checked_roots(&roots)?;
        Ok(self.changed(|tls| match &mut tls.trust {
            Trust::System(roots) | Trust::Only(roots) => roots.extend(more),
            Trust::Anybody => {}
        }))
    }

    /// Verifies servers by these roots alone, instead of the system's. Fails with [`Error::TlsFile`].
    pub fn only_roots(self, roots: Pem) -> Result<ClientTls, Error> {
        let roots = checked_roots(&roots)?;
        Ok(self.changed(|tls| tls.trust = Trust::Only(roots)))
    }

    /// Shows this certificate, with the chain behind it, to servers that ask for one (mutual TLS). Fails with
    /// [`Error::TlsFile`], also if the key is another one's.
    pub fn identity(self, chain: Pem, key: Pem) -> Result<ClientTls, Error> {
        let identity = Identity { chain: chain.certificates()?, key: key.key()? };
        super::certified(&chain, &key, identity.chain.clone(), identity.key.clone_key())?;
        Ok(self.changed(|tls| tls.identity = Some(Arc::new(identity))))
    }

    /// Only talks to servers with this key, or another one that is pinned: the SHA-256 of the SubjectPublicKeyInfo, in the
    /// notation of curl's `--pinnedpubkey`, which is `sha256//` and BASE64. In addition to verification, unless
    /// [`only_pins`](ClientTls::only_pins) says otherwise. A server with another key fails with
    /// [`TlsProblem::WrongKey`], which has the key that would have to be pinned.
    ///
    /// Fails with [`Error::TlsFile`] for what is no such text.
    pub fn pin(self, key: &str) -> Result<ClientTls, Error> {
        let Some(pin) = parse_pin(key) else {
            let problem = "is no pin, expected sha256// and 44 characters of BASE64".to_owned();
            return Err(Error::TlsFile { name: format!("{key:?}"), problem, source: None });
        };
        Ok(self.changed(|tls| tls.pins.push(pin)))
    }

    /// Takes a pinned key for proof enough: the certificate that it comes in may be self-signed, expired, or another
    /// host's. Connecting fails with [`TlsProblem::Settings`] if none is pinned.
    pub fn only_pins(self) -> ClientTls {
        self.changed(|tls| {
            tls.trust = Trust::Anybody;
            tls.accepts_any = false;
        })
    }

    /// Talks to anybody who has any certificate, and so to whoever sits in between as well. For tests; to trust one
    /// self-signed certificate, [pin](ClientTls::pin) its key or make it a [root](ClientTls::only_roots).
    pub fn danger_accept_any_certificate(self) -> ClientTls {
        self.changed(|tls| {
            tls.trust = Trust::Anybody;
            tls.pins.clear();
            tls.accepts_any = true;
        })
    }

    /// Expects a certificate for this name or IP address, and asks for it (SNI), instead of the host of the URL. Fails with
    /// [`Error::Tls`] and [`TlsProblem::Name`] for what is neither.
    pub fn server_name(self, name: &str) -> Result<ClientTls, Error> {
        let name = server_name(name)?;
        Ok(self.changed(|tls| tls.name = Some(name)))
    }

    /// Does not say which host it wants (no SNI); its certificate is verified all the same.
    pub fn no_sni(self) -> ClientTls {
        self.changed(|tls| tls.sends_name = false)
    }

    /// Offers these protocols (ALPN, RFC 7301), the best one first; `http/1.1` by default, as browsers do for WebSockets.
    /// None at all may be right for a server that knows nothing of it.
    pub fn alpn<P: AsRef<[u8]>>(self, protocols: impl IntoIterator<Item = P>) -> ClientTls {
        let protocols = protocols.into_iter().map(|protocol| protocol.as_ref().to_vec()).collect();
        self.changed(|tls| tls.alpn = protocols)
    }

    /// Begins every connection anew, instead of taking up sessions again.
    pub fn no_resumption(self) -> ClientTls {
        self.changed(|tls| tls.resumes = false)
    }

    /// The settings for rustls, and the name that the server at this host has to have. `host` is without brackets.
    pub(crate) fn prepare(&self, host: &str) -> Result<(Arc<ClientConfig>, ServerName<'static>), Error> {
        let name = match &self.name {
            Some(name) => name.clone(),
            None => server_name(host)?,
        };
        let config = match &self.own {
            Some(own) => Arc::clone(own),
            None => self.made.get_or_init(|| self.make()).clone().map_err(|error| Error::Tls {
                host: host.to_owned(),
                problem: TlsProblem::Settings,
                source: Some(Box::new(error)),
            })?,
        };
        Ok((config, name))
    }

    fn make(&self) -> Result<Arc<ClientConfig>, rustls::Error> {
        let provider = provider();
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
            Trust::Anybody if self.pins.is_empty() && !self.accepts_any => {
                return Err(rustls::Error::General(
                    "only pinned keys are trusted, and none is pinned".into(),
                ));
            }
            Trust::Anybody => None,
        };
        let verifier = Verifier { inner, pins: self.pins.clone(), provider: Arc::clone(&provider) };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match &self.identity {
            Some(identity) => {
                builder.with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())?
            }
            None => builder.with_no_client_auth(),
        };
        config.enable_sni = self.sends_name;
        config.alpn_protocols = self.alpn.clone();
        if !self.resumes {
            config.resumption = Resumption::disabled();
        }
        Ok(Arc::new(config))
    }
}

/// Roots that can be used as such.
fn checked_roots(pem: &Pem) -> Result<Vec<CertificateDer<'static>>, Error> {
    let roots = pem.certificates()?;
    let mut store = RootCertStore::empty();
    for root in &roots {
        store
            .add(root.clone())
            .map_err(|error| pem.error("has a certificate in it that can't be a root", Some(error.into())))?;
    }
    Ok(roots)
}

fn server_name(host: &str) -> Result<ServerName<'static>, Error> {
    ServerName::try_from(host.to_owned()).map_err(|error| Error::Tls {
        host: host.to_owned(),
        problem: TlsProblem::Name,
        source: Some(error.into()),
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
            Trust::Anybody if self.accepts_any => "anybody".to_owned(),
            Trust::Anybody => "pinned keys".to_owned(),
        };
        f.debug_struct("ClientTls")
            .field("trust", &trust)
            .field("pins", &self.pins.len())
            .field("identity", &self.identity.is_some())
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
