//! Test certificates, made as they are needed.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use threadwire::client::ClientTls;
use threadwire::server::ServerTls;
use threadwire::tls::Pem;

pub use super::files::Files;

/// Somebody who signs certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, both as PEM.
pub struct Identity {
    /// The certificate.
    pub chain: String,
    /// Its key.
    pub key: String,
}

impl Authority {
    /// One with this name.
    pub fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Its own certificate.
    pub fn pem(&self) -> Pem {
        Pem::bytes(self.0.pem())
    }

    /// The same as it lies in a file.
    pub fn text(&self) -> String {
        self.0.pem()
    }

    /// A certificate for these names.
    pub fn sign(&self, names: &[&str]) -> Identity {
        self.sign_with(names, |_| {})
    }

    /// The same, with something changed.
    pub fn sign_with(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let mut params = params(names);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let chain = params.signed_by(&key, &self.0).unwrap().pem();
        Identity { chain, key: key.serialize_pem() }
    }

    /// Settings of clients that trust only this one.
    pub fn trusted(&self) -> ClientTls {
        ClientTls::new().only_roots(self.pem()).unwrap()
    }
}

fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, "the name of a test");
    params
}

/// A certificate that is signed by itself.
pub fn self_signed(names: &[&str]) -> Identity {
    let key = KeyPair::generate().unwrap();
    let chain = params(names).self_signed(&key).unwrap().pem();
    Identity { chain, key: key.serialize_pem() }
}

/// The same, and one that may sign others, as `openssl req -x509` makes it.
pub fn self_signed_authority(names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Identity {
    let key = KeyPair::generate().unwrap();
    let mut params = params(names);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    change(&mut params);
    Identity { chain: params.self_signed(&key).unwrap().pem(), key: key.serialize_pem() }
}

/// One that was valid in the first days of 2020.
pub fn expired(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2020, 1, 10);
}

/// One that is valid from 2090 on.
pub fn not_yet_valid(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(2090, 1, 1);
    params.not_after = date_time_ymd(2091, 1, 1);
}

impl Identity {
    /// The certificate, for use.
    pub fn chain(&self) -> Pem {
        Pem::bytes(self.chain.clone())
    }

    /// Its key, for use.
    pub fn key(&self) -> Pem {
        Pem::bytes(self.key.clone())
    }

    /// Settings of a server that shows it.
    pub fn server(&self) -> ServerTls {
        ServerTls::new(self.chain(), self.key()).unwrap()
    }

    /// Its key, as it is pinned.
    pub fn pin(&self) -> String {
        use base64::Engine as _;
        use rcgen::PublicKeyData as _;
        use sha2::Digest as _;
        let key = KeyPair::from_pem(&self.key).unwrap();
        let digest = sha2::Sha256::digest(key.subject_public_key_info());
        format!("sha256//{}", base64::engine::general_purpose::STANDARD.encode(digest))
    }
}
