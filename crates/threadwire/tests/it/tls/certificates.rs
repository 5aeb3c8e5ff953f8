//! Certificate verification by clients, on every face, and the errors of refused certificates.

use std::sync::Arc;
use std::time::SystemTime;

use crate::common::bounded;
use crate::common::certificates::{
    Authority, Files, expired, not_yet_valid, self_signed, self_signed_authority,
};
use crate::common::secure::{FACES, Secure};
use threadwire::client::ClientTls;
use threadwire::error::TlsProblem;
use threadwire::server::ServerTls;
use threadwire::tls::{ClientCertificates, Pem, rustls};
use threadwire::{Client, Error};

/// Has every face connect, and says what is wrong.
fn problems(client: &Client) -> Vec<TlsProblem> {
    let problem = |(face, connect): &(&str, crate::common::secure::Attempt)| match connect(client) {
        Err(Error::Tls(error)) => {
            assert!(error.source.is_some(), "{face}: {error}");
            assert_eq!(error.host, client_host(client), "{face}");
            error.problem
        }
        other => panic!("{face}: {other:?}"),
    };
    FACES.iter().map(problem).collect()
}

fn client_host(client: &Client) -> String {
    let debug = format!("{client:?}");
    let start = debug.find("wss://").unwrap() + "wss://".len();
    debug[start..].split([':', '/']).next().unwrap().to_owned()
}

/// All faces agree on this.
fn assert_problem(client: &Client, expected: &TlsProblem) {
    for problem in problems(client) {
        assert_eq!(problem, *expected);
    }
}

fn assert_connects(client: &Client) {
    for (face, connect) in FACES {
        connect(client).unwrap_or_else(|error| panic!("{face}: {error:#}"));
    }
}

fn assert_bad(server: ServerTls, client: ClientTls, expected: &TlsProblem) {
    let server = Secure::with(server);
    assert_problem(&server.client(client), expected);
}

#[test]
fn a_certificate_of_a_trusted_authority_is_trusted() {
    bounded(|| {
        let (server, authority) = Secure::trusted();
        let tls = authority.trusted();
        assert_connects(&server.client(tls));
    });
}

#[test]
fn expired_and_future_certificates_say_since_and_until_when() {
    bounded(|| {
        let authority = Authority::new("authority");
        let server = Secure::with(authority.sign_with(&["localhost"], expired).server());
        for problem in problems(&server.client(authority.trusted())) {
            let TlsProblem::Expired { since } = problem else { panic!("{problem:?}") };
            let days = since.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() / 86_400;
            assert_eq!(days, 18_271, "2020-01-10");
            assert_eq!(problem.to_string(), "its certificate expired on Fri, 10 Jan 2020 00:00:00 GMT");
        }
        let server = Secure::with(authority.sign_with(&["localhost"], not_yet_valid).server());
        for problem in problems(&server.client(authority.trusted())) {
            let said = problem.to_string();
            assert_eq!(said, "its certificate is not valid before Sun, 01 Jan 2090 00:00:00 GMT");
        }
    });
}

#[test]
fn strangers_are_told_from_those_who_vouch_for_themselves() {
    bounded(|| {
        let authority = Authority::new("authority");
        let other = Authority::new("another authority").sign(&["localhost"]);
        assert_bad(other.server(), authority.trusted(), &TlsProblem::UnknownIssuer);
        // Of the same name, but another one.
        let other = Authority::new("authority").sign(&["localhost"]);
        assert_bad(other.server(), authority.trusted(), &TlsProblem::UnknownIssuer);
        let alone = self_signed(&["localhost"]);
        let namesake = ClientTls::new().only_roots(self_signed(&["localhost"]).chain()).unwrap();
        assert_bad(alone.server(), namesake, &TlsProblem::SelfSigned);
        assert_bad(alone.server(), authority.trusted(), &TlsProblem::SelfSigned);
        // The system's roots don't know it either, if there are any.
        let server = Secure::with(alone.server());
        let by_default = server.client(ClientTls::new().extra_roots(authority.pem()).unwrap());
        assert_problem(&by_default, &TlsProblem::SelfSigned);
        // As a root, it is.
        assert_connects(&server.client(ClientTls::new().only_roots(alone.chain()).unwrap()));
        assert_connects(&server.client(ClientTls::new().extra_roots(alone.chain()).unwrap()));
    });
}

#[test]
fn a_root_that_is_shown_as_it_is_is_trusted_as_far_as_its_names_and_dates_go() {
    bounded(|| {
        let root = |names: &[&str]| self_signed_authority(names, |_| {});
        let only = |identity: &crate::common::certificates::Identity| {
            ClientTls::new().only_roots(identity.chain()).unwrap()
        };
        let ours = root(&["localhost"]);
        let server = Secure::with(ours.server());
        assert_connects(&server.client(only(&ours)));
        assert_connects(&server.client(ClientTls::new().extra_roots(ours.chain()).unwrap()));
        assert_connects(&server.client(only(&root(&["localhost"])).extra_roots(ours.chain()).unwrap()));
        // Another one of the same name.
        assert_problem(&server.client(only(&root(&["localhost"]))), &TlsProblem::SelfSigned);
        let elsewhere = root(&["elsewhere"]);
        let names = vec!["elsewhere".to_owned()];
        assert_bad(elsewhere.server(), only(&elsewhere), &TlsProblem::WrongName { names });
        let nameless = root(&[]);
        assert_bad(nameless.server(), only(&nameless), &TlsProblem::WrongName { names: Vec::new() });
        let old = self_signed_authority(&["localhost"], expired);
        let server = Secure::with(old.server());
        for problem in problems(&server.client(only(&old))) {
            assert!(matches!(problem, TlsProblem::Expired { .. }), "{problem}");
        }
        let early = self_signed_authority(&["localhost"], not_yet_valid);
        let server = Secure::with(early.server());
        for problem in problems(&server.client(only(&early))) {
            assert!(matches!(problem, TlsProblem::NotYetValid { .. }), "{problem}");
        }
        // The other way round.
        let me = self_signed_authority(&["someone"], |_| {});
        let tls = ours.server().client_certificates(ClientCertificates::Required(me.chain())).unwrap();
        let server = Secure::with(tls);
        assert_connects(&server.client(only(&ours).identity(me.chain(), me.key()).unwrap()));
        let other = self_signed_authority(&["someone"], |_| {});
        let tls = only(&ours).identity(other.chain(), other.key()).unwrap();
        assert_problem(&server.client(tls), &TlsProblem::ClientCertificate);
    });
}

#[test]
fn what_is_wrong_with_a_certificate_is_said_in_plain_words() {
    bounded(|| {
        let (authority, other) = (Authority::new("authority"), Authority::new("another"));
        let signed = authority.sign(&["localhost"]);
        for (identity, tls, words) in [
            (
                self_signed(&["localhost"]),
                authority.trusted(),
                "its certificate is self-signed, and not one of the roots: none of the roots has signed the certificate",
            ),
            (
                authority.sign(&["example.org"]),
                authority.trusted(),
                "its certificate is only for example.org: the certificate is not valid for the name",
            ),
            (
                authority.sign(&[]),
                authority.trusted(),
                "its certificate is for no name at all: names are expected as subject alternative names: \
                 the certificate is not valid for the name",
            ),
            (
                signed,
                other.trusted(),
                "its certificate is signed by nobody among the roots, or the chain is incomplete: \
                 invalid peer certificate: unknown issuer",
            ),
        ] {
            let server = Secure::with(identity.server());
            for (face, connect) in FACES {
                let error = connect(&server.client(tls.clone())).unwrap_err();
                let expected = format!("no TLS connection with localhost: {words}");
                assert_eq!(format!("{error:#}"), expected, "{face}");
            }
        }
    });
}

#[test]
fn a_certificate_for_other_names_says_for_which() {
    bounded(|| {
        let authority = Authority::new("authority");
        let tls = authority.sign(&["example.org", "*.example.net", "192.0.2.1"]).server();
        let server = Secure::with(tls);
        let names = ["example.org", "*.example.net", "192.0.2.1"].map(str::to_owned).to_vec();
        let expected = TlsProblem::WrongName { names };
        assert_problem(&server.client(authority.trusted()), &expected);
        let said = expected.to_string();
        assert_eq!(said, "its certificate is only for example.org, *.example.net, 192.0.2.1");
        // The name that is expected may be another one than the URL's.
        let tls = authority.trusted().server_name("a.example.net").unwrap();
        assert_connects(&server.client(tls));
        let tls = authority.trusted().server_name("192.0.2.1").unwrap();
        assert_connects(&server.client(tls));
    });
}

#[test]
fn an_address_may_be_in_the_certificate() {
    bounded(|| {
        let authority = Authority::new("authority");
        let server = Secure::with(authority.sign(&["127.0.0.1"]).server());
        let client = Client::new(&server.url("127.0.0.1")).unwrap().tls(authority.trusted());
        assert_connects(&client);
        assert_problem(
            &server.client(authority.trusted()),
            &TlsProblem::WrongName { names: vec!["127.0.0.1".into()] },
        );
    });
}

#[test]
fn a_pinned_key_is_required_beside_the_certificate_or_instead_of_it() {
    bounded(|| {
        let authority = Authority::new("authority");
        let (identity, other) = (authority.sign(&["localhost"]), authority.sign(&["localhost"]));
        let server = Secure::with(identity.server());
        assert_connects(&server.client(authority.trusted().pin(&identity.pin()).unwrap()));
        let either = authority.trusted().pin(&other.pin()).unwrap().pin(&identity.pin()).unwrap();
        assert_connects(&server.client(either));
        let wrong = authority.trusted().pin(&other.pin()).unwrap();
        let expected = TlsProblem::WrongKey { found: identity.pin() };
        assert_problem(&server.client(wrong.clone()), &expected);
        assert_problem(&server.client(wrong.only_pins()), &expected);
        // The certificate is nobody's business then.
        let alone = self_signed(&["elsewhere"]);
        let server = Secure::with(alone.server());
        assert_connects(&server.client(ClientTls::new().pin(&alone.pin()).unwrap().only_pins()));
        assert_problem(
            &server.client(authority.trusted().pin(&alone.pin()).unwrap()),
            &TlsProblem::SelfSigned,
        );
        // Pinning without pins trusts no server.
        assert_problem(&server.client(ClientTls::new().only_pins()), &TlsProblem::Settings);
        assert_connects(&server.client(ClientTls::new().danger_accept_any_certificate()));
        assert!(matches!(ClientTls::new().pin("sha256/abc"), Err(Error::TlsFile(_))));
    });
}

#[test]
fn clients_show_certificates_where_servers_want_them() {
    bounded(|| {
        let authority = Authority::new("authority");
        let (people, strangers) = (Authority::new("people"), Authority::new("strangers"));
        let tls = authority.sign(&["localhost"]).server();
        let required = ClientCertificates::Required(people.pem());
        let server = Secure::with(tls.client_certificates(required).unwrap());
        let showing = |authority: &Authority, tls: ClientTls| {
            let identity = authority.sign(&["someone"]);
            tls.identity(identity.chain(), identity.key()).unwrap()
        };
        assert_connects(&server.client(showing(&people, authority.trusted())));
        // In TLS 1.3 a client learns of a refusal only when it reads: the handshake is done on its side.
        for tls in [authority.trusted(), showing(&strangers, authority.trusted())] {
            assert_problem(&server.client(tls), &TlsProblem::ClientCertificate);
        }
    });
}

#[test]
fn servers_know_who_has_shown_what() {
    bounded(|| {
        let (authority, people) = (Authority::new("authority"), Authority::new("people"));
        let optional = ClientCertificates::Optional(people.pem());
        let tls = authority.sign(&["localhost"]).server().client_certificates(optional).unwrap();
        let answer = |request: &threadwire::Request| {
            let shown = request.tls().unwrap().peer_certificates.len();
            assert_eq!(request.tls().unwrap().alpn.as_deref(), Some(&b"http/1.1"[..]));
            threadwire::Reply::with(move |ws: &threadwire::Connection, _: threadwire::Message<'_>| {
                assert_eq!(ws.tls().unwrap().peer_certificates.len(), shown);
                ws.send(&shown.to_string())
            })
        };
        let running = crate::common::bind().tls(tls).serve(answer).unwrap();
        let url = format!("wss://localhost:{}/", running.local_addr().unwrap().port());
        let identity = people.sign(&["someone"]);
        let showing = authority.trusted().identity(identity.chain(), identity.key()).unwrap();
        for (tls, expected) in [(authority.trusted(), "0"), (showing, "1")] {
            let client = Client::new(&url).unwrap().tls(tls);
            let mut ws = threadwire::blocking::connect(&client).unwrap();
            ws.send("what have I shown?").unwrap();
            assert_eq!(ws.recv().unwrap().unwrap(), expected);
        }
        running.stop();
    });
}

#[test]
fn sessions_are_taken_up_again_by_clones_of_a_client() {
    bounded(|| {
        let (server, authority) = Secure::trusted();
        let tls = authority.trusted();
        let resumed = |client: &Client| {
            let mut ws = threadwire::blocking::connect(client).unwrap();
            // The tickets come behind the handshake.
            ws.send("hello").unwrap();
            ws.recv().unwrap();
            let resumed = ws.tls().unwrap().is_resumed;
            ws.close().unwrap();
            resumed
        };
        let client = server.client(tls.clone());
        assert!(!resumed(&client));
        assert!(resumed(&client));
        assert!(resumed(&client.clone()));
        assert!(resumed(&server.client(tls.clone())));
        assert!(!resumed(&server.client(tls.clone().no_resumption())));
        // The file changes, the tickets remain good.
        server.tls.reload().unwrap();
        assert!(resumed(&client));
        // Unless the server wants to know anew whom it talks to.
        let none = server.tls.clone().no_resumption().unwrap();
        assert!(!resumed(&client));
        drop(none);
    });
}

#[cfg(feature = "aio")]
#[test]
fn sessions_are_taken_up_again_across_faces() {
    bounded(|| {
        let (server, authority) = Secure::trusted();
        let tls = authority.trusted();
        let client = server.client(tls);
        let mut ws = threadwire::blocking::connect(&client).unwrap();
        ws.send("hello").unwrap();
        ws.recv().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let ws = threadwire::aio::connect(&client).await.unwrap();
            assert!(ws.tls().unwrap().is_resumed);
        });
    });
}

#[test]
fn certificates_are_reloaded_without_a_restart_and_bad_files_change_nothing() {
    bounded(|| {
        let (first, second) = (Authority::new("first"), Authority::new("second"));
        let files = Files::empty();
        let old = first.sign(&["localhost"]);
        let (chain, key) = (files.write("a.pem", &old.chain), files.write("a.key", &old.key));
        let server = Secure::with(ServerTls::new(Pem::file(&chain), Pem::file(&key)).unwrap());
        let (by_first, by_second) = (server.client(first.trusted()), server.client(second.trusted()));
        let mut before = threadwire::blocking::connect(&by_first).unwrap();

        let new = second.sign(&["localhost"]);
        files.write("a.pem", &new.chain);
        let error = server.tls.reload().unwrap_err();
        let said = format!(
            "can't use {} for TLS: is not the key of the first certificate in {}",
            key.display(),
            chain.display()
        );
        assert_eq!(error.to_string(), said);
        assert_connects(&by_first);

        files.write("a.key", "nothing\n");
        let error = server.tls.reload().unwrap_err();
        assert!(error.to_string().contains("has no key in it"), "{error}");
        std::fs::remove_file(&chain).unwrap();
        let error = format!("{:#}", server.tls.reload().unwrap_err());
        assert!(error.contains("a.pem") && error.contains("can't be read: no such file"), "{error}");
        files.write("a.pem", "-----BEGIN CERTIFICATE-----\nMII\n");
        assert!(server.tls.reload().unwrap_err().to_string().contains("a.pem"));
        assert_connects(&by_first);

        files.write("a.pem", &new.chain);
        files.write("a.key", &new.key);
        server.tls.reload().unwrap();
        assert_connects(&by_second);
        let fresh = server.client(first.trusted().no_resumption());
        assert_problem(&fresh, &TlsProblem::UnknownIssuer);
        // Open connections do not notice.
        before.send("still there?").unwrap();
        assert_eq!(before.recv().unwrap().unwrap(), "still there?");
    });
}

#[test]
fn each_name_is_shown_its_own_certificate() {
    bounded(|| {
        let authority = Authority::new("authority");
        let [first, second, wild] =
            ["localhost", "b.example", "*.c.example"].map(|name| authority.sign(&[name]));
        let tls = first.server();
        let tls = tls.certificate(second.chain(), second.key()).unwrap();
        let server = Secure::with(tls.certificate(wild.chain(), wild.key()).unwrap());
        for (name, identity) in [("localhost", &first), ("B.example", &second), ("x.c.example", &wild)] {
            let tls = authority.trusted().server_name(name).unwrap().pin(&identity.pin()).unwrap();
            assert_connects(&server.client(tls));
        }
        // Without a name, or with one that nobody has, it is the first.
        let names = vec!["localhost".to_owned()];
        let unknown = authority.trusted().server_name("x.y.c.example").unwrap();
        assert_problem(&server.client(unknown), &TlsProblem::WrongName { names: names.clone() });
        let silent = authority.trusted().server_name("b.example").unwrap().no_sni();
        assert_problem(&server.client(silent), &TlsProblem::WrongName { names });
    });
}

#[test]
fn protocols_are_agreed_on() {
    bounded(|| {
        let authority = Authority::new("authority");
        let server = Secure::with(authority.sign(&["localhost"]).server());
        assert_connects(&server.client(authority.trusted().alpn::<&str>([])));
        assert_connects(&server.client(authority.trusted().alpn(["h2", "http/1.1"])));
        assert_problem(&server.client(authority.trusted().alpn(["h2"])), &TlsProblem::Incompatible);
        let any = server.tls.clone().alpn::<&str>([]).unwrap();
        assert_connects(&server.client(authority.trusted().alpn(["h2"])));
        drop(any);
    });
}

#[test]
fn settings_of_rustls_are_used_as_they_are() {
    bounded(|| {
        use pki_types::pem::PemObject;
        use rustls::{ClientConfig, RootCertStore, ServerConfig, pki_types, version};
        let authority = Authority::new("authority");
        let identity = authority.sign(&["localhost"]);
        let ring = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(pki_types::CertificateDer::from_pem_slice(authority.text().as_bytes()).unwrap()).unwrap();
        for version in [&version::TLS12, &version::TLS13] {
            let client = ClientConfig::builder_with_provider(ring.clone())
                .with_protocol_versions(&[version])
                .unwrap()
                .with_root_certificates(roots.clone())
                .with_no_client_auth();
            let server = ServerConfig::builder_with_provider(ring.clone())
                .with_protocol_versions(&[version])
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(
                    vec![pki_types::CertificateDer::from_pem_slice(identity.chain.as_bytes()).unwrap()],
                    pki_types::PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap(),
                )
                .unwrap();
            let server = Secure::with(ServerTls::from_config(server.into()));
            let client = server.client(ClientTls::from_config(client.into()));
            assert_connects(&client);
            let ws = threadwire::blocking::connect(&client).unwrap();
            assert_eq!(ws.tls().unwrap().version, Some(version.version));
            assert!(matches!(server.tls.reload(), Err(Error::Other(_))));
        }
    });
}

#[test]
fn settings_beside_those_of_rustls_are_refused() {
    bounded(|| {
        use rustls::pki_types::{CertificateDer, pem::PemObject};
        let (server, authority) = Secure::trusted();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.text().as_bytes()).unwrap()).unwrap();
        let ring = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(ring)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let config = Arc::new(config);
        let own = || ClientTls::from_config(Arc::clone(&config));
        let someone = authority.sign(&["someone"]);
        for refused in [
            own().extra_roots(authority.pem()),
            own().only_roots(authority.pem()),
            own().identity(someone.chain(), someone.key()),
            own().pin(&someone.pin()),
        ] {
            assert!(matches!(refused, Err(Error::Other(_))), "{refused:?}");
        }
        for tls in [
            own().only_pins(),
            own().danger_accept_any_certificate(),
            own().no_sni(),
            own().alpn(["http/1.1"]),
            own().no_resumption(),
        ] {
            assert_problem(&server.client(tls), &TlsProblem::Settings);
        }
        assert_connects(&server.client(own().server_name("localhost").unwrap()));
    });
}

#[test]
fn roots_are_refused_where_none_is_asked() {
    let roots = Authority::new("ours").pem();
    for tls in [ClientTls::new().only_pins(), ClientTls::new().danger_accept_any_certificate()] {
        let refused = tls.clone().extra_roots(roots.clone());
        assert!(matches!(refused, Err(Error::Other(_))), "{refused:?}");
        assert!(tls.only_roots(roots.clone()).is_ok(), "they are asked from now on");
    }
}

#[test]
fn nothing_shows_a_key() {
    let authority = Authority::new("authority");
    let identity = authority.sign(&["localhost"]);
    let client = authority.trusted().identity(identity.chain(), identity.key()).unwrap();
    let secret: String = identity.key.lines().nth(1).unwrap().into();
    for shown in [format!("{client:?}"), format!("{:?}", identity.server()), format!("{:?}", identity.key())]
    {
        assert!(!shown.contains(&secret) && !shown.contains("BEGIN"), "{shown}");
    }
    let broken = Pem::bytes(identity.key.replace("-----END", "---END"));
    let error = ServerTls::new(identity.chain(), broken).unwrap_err();
    assert!(!format!("{error:#} {error:?}").contains(&secret), "{error:#}");
}
