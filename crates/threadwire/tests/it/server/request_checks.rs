//! Request checks on all faces: origins, host names, authentication.

use crate::common::bounded;
use crate::common::doors::{FACES, Face, Plan, attach};
use crate::common::peer::request_with;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use threadwire::server::{BasicAuth, BasicUser, Bearer, Check, Hosts, Origins, Router};
use threadwire::{Request, Response};

fn behind(face: Face, check: impl Check) -> Plan {
    let router = Router::new().check(check).route("/", move |_| face.accept()).unwrap();
    Plan::new(router.hook())
}

fn basic(user: &str, password: &str) -> String {
    format!("Authorization: Basic {}\r\n", STANDARD.encode(format!("{user}:{password}")))
}

#[test]
fn only_pages_of_the_origins_that_are_allowed_may_connect() {
    for &face in FACES {
        bounded(move || {
            let origins = Origins::new(["https://example.com", "http://localhost:8000"]).unwrap();
            let some = |origin: &str| origin.ends_with(".example.com");
            for (check, cases) in [
                (
                    origins.clone(),
                    &[
                        ("Origin: https://example.com\r\n", 101),
                        ("Origin: HTTPS://EXAMPLE.com:443\r\n", 101),
                        ("Origin: http://localhost:8000\r\n", 101),
                        ("Origin: http://localhost\r\n", 403),
                        ("Origin: http://example.com\r\n", 403),
                        ("Origin: https://example.com.evil.test\r\n", 403),
                        ("Origin: https://www.example.com\r\n", 403),
                        ("Origin: null\r\n", 403),
                        ("Origin: \r\n", 403),
                        ("Origin: https://example.com/\r\n", 403),
                        ("Origin: https://example.com\r\nOrigin: https://example.com\r\n", 403),
                        ("", 403),
                    ][..],
                ),
                (origins.clone().or_none(), &[("", 101), ("Origin: null\r\n", 403)][..]),
                (
                    origins.or_if(some),
                    &[
                        ("Origin: https://example.com\r\n", 101),
                        ("Origin: https://WWW.example.com:443\r\n", 101),
                        ("Origin: https://evil.test\r\n", 403),
                        ("", 403),
                    ][..],
                ),
                (
                    Origins::new(["file://", "qrc:", "null", "https://*.example.com", "https://*.test:8443"])
                        .unwrap(),
                    &[
                        ("Origin: file://\r\n", 101),
                        ("Origin: qrc:\r\n", 101),
                        ("Origin: null\r\n", 101),
                        ("Origin: https://www.example.com\r\n", 101),
                        ("Origin: https://a.b.EXAMPLE.com:443\r\n", 101),
                        ("Origin: https://a.test:8443\r\n", 101),
                        ("Origin: about:blank\r\n", 403),
                        ("Origin: https://example.com\r\n", 403),
                        ("Origin: https://a.test\r\n", 403),
                        ("Origin: https://www.example.com.evil.test\r\n", 403),
                    ][..],
                ),
                (
                    // Asked for every origin, also for those without a host.
                    Origins::default().or_if(|origin| !origin.starts_with("http")),
                    &[
                        ("Origin: file://\r\n", 101),
                        ("Origin: content://com.example\r\n", 101),
                        ("Origin: qrc:\r\n", 101),
                        ("Origin: about:blank\r\n", 101),
                        ("Origin: null\r\n", 101),
                        ("Origin: https://example.com\r\n", 403),
                    ][..],
                ),
            ] {
                let served = face.serve(behind(face, check.clone()));
                for (headers, status) in cases {
                    assert_eq!(served.status("/", headers), *status, "{face:?} {check:?} {headers}");
                }
            }
        });
    }
}

#[test]
fn a_server_answers_to_its_own_names_only() {
    for &face in FACES {
        bounded(move || {
            let hosts = Hosts::new(["example.com", "localhost:9001", "[::1]", "feed.test:443"]).unwrap();
            let served = face.serve(behind(face, hosts));
            let ask = |host: &str, target: &str| {
                let request = request_with(target, "").replace("Host: 127.0.0.1\r\n", host);
                let mut peer = crate::common::peer::Peer::connect(served.addr());
                peer.bytes(request);
                crate::common::doors::status(&peer.head())
            };
            for (host, status) in [
                ("Host: example.com\r\n", 101),
                ("Host: EXAMPLE.com.:80\r\n", 101),
                ("Host: localhost:9001\r\n", 101),
                ("Host: [::1]:80\r\n", 101),
                ("Host: feed.test\r\n", 101),
                ("Host: feed.test:80\r\n", 421),
                ("Host: localhost\r\n", 421),
                ("Host: evil.test\r\n", 421),
                ("Host: example.com.evil.test\r\n", 421),
                ("Host: evil.test:example.com\r\n", 400),
                ("Host: me@example.com\r\n", 400),
                ("Host: example.com\r\nHost: evil.test\r\n", 400),
                ("", 400),
            ] {
                assert_eq!(ask(host, "/"), status, "{face:?} {host}");
            }
            // The host in the target goes ahead of `Host` (RFC 9112, section 3.2.2).
            assert_eq!(ask("Host: example.com\r\n", "http://evil.test/"), 421);
            assert_eq!(ask("Host: evil.test\r\n", "http://example.com/"), 101);
        });
    }
}

#[test]
fn who_knows_a_password_is_let_in_and_the_connection_knows_who_it_is() {
    for &face in FACES {
        bounded(move || {
            let auth =
                BasicAuth::new("the \"feed\"").user("ann", "secret").unwrap().user("bob", "p:w").unwrap();
            let auth = auth.user("zoë", "пароль").unwrap().user("nobody", "").unwrap();
            let router = Router::new()
                .check(auth.or_if(|user, password| user == "carl" && password == "closure"))
                .route("/", move |request| {
                    attach(request, request.attached::<BasicUser>().unwrap().name());
                    face.accept()
                });
            let served = face.serve(Plan::new(router.unwrap().hook()));
            for (user, password) in
                [("ann", "secret"), ("bob", "p:w"), ("zoë", "пароль"), ("nobody", ""), ("carl", "closure")]
            {
                assert_eq!(served.note("/", &basic(user, password)), user);
            }
            let lower = basic("ann", "secret").replace("Basic", "bAsIc");
            assert_eq!(served.note("/", &lower), "ann");
            for headers in [
                String::new(),
                basic("ann", "p:w"),
                basic("ann", ""),
                basic("ann", "secret "),
                basic("", ""),
                basic("Ann", "secret"),
                basic("carl", "secret"),
                "Authorization: Basic\r\n".to_owned(),
                "Authorization: Basic !!!\r\n".to_owned(),
                format!("Authorization: Basic {}\r\n", STANDARD.encode("ann")),
                format!("Authorization: Bearer {}\r\n", STANDARD.encode("ann:secret")),
                basic("ann", "secret").repeat(2),
            ] {
                let refused = served.answer(request_with("/", &headers));
                assert!(refused.starts_with("HTTP/1.1 401 Unauthorized\r\n"), "{face:?} {headers} {refused}");
                let challenge =
                    "\r\nWWW-Authenticate: Basic realm=\"the \\\"feed\\\"\", charset=\"UTF-8\"\r\n";
                assert!(refused.contains(challenge), "{refused}");
            }
        });
    }
    assert!(BasicAuth::new("").user("a:b", "").is_err());
    let auth = BasicAuth::new("feed").user("ann", "secret").unwrap();
    assert!(!format!("{auth:?}").contains("secret") && !format!("{auth:?}").contains("ann"));
}

#[test]
fn tokens_and_closures_say_who_it_is() {
    for &face in FACES {
        bounded(move || {
            struct Token(&'static str);
            let cookie = |request: &Request| {
                let cookie = request.header("Cookie").and_then(|cookie| cookie.strip_prefix("id="));
                match cookie {
                    Some(id) => {
                        attach(request, id);
                        Ok(())
                    }
                    None => Err(Response::new(403).unwrap().with_header("X-Why", "no cookie").unwrap()),
                }
            };
            let router = Router::new()
                .route("/open", move |_| face.accept())
                .unwrap()
                .check(Bearer::new("feed", |token| (token == "1234").then_some(Token("ann"))))
                .route("/token", move |request| {
                    attach(request, request.attached::<Token>().unwrap().0);
                    face.accept()
                })
                .unwrap()
                .check(cookie)
                .route("/both", move |_| face.accept())
                .unwrap();
            let served = face.serve(Plan::new(router.hook()));
            assert_eq!(served.note("/open", ""), "nothing");
            assert_eq!(served.note("/token", "Authorization: Bearer 1234\r\n"), "ann");
            assert_eq!(served.note("/both", "Authorization: Bearer 1234\r\nCookie: id=7\r\n"), "7");
            let refused = served.answer(request_with("/token", ""));
            assert!(refused.contains("\r\nWWW-Authenticate: Bearer realm=\"feed\"\r\n"), "{refused}");
            let refused = served.answer(request_with("/token", "Authorization: Bearer 5678\r\n"));
            assert!(refused.starts_with("HTTP/1.1 401 ") && refused.contains("error=\"invalid_token\""));
            assert!(!refused.contains("5678"));
            let refused = served.answer(request_with("/both", "Authorization: Bearer 1234\r\n"));
            assert!(refused.starts_with("HTTP/1.1 403 ") && refused.contains("\r\nX-Why: no cookie\r\n"));
            // The checks that were given first are asked first.
            assert_eq!(served.status("/both", "Cookie: id=7\r\n"), 401);
        });
    }
}

#[test]
fn a_subprotocol_in_common_is_chosen_or_the_request_is_refused() {
    for &face in FACES {
        bounded(move || {
            let router = Router::new()
                .route("/may", move |_| face.accept().subprotocols(["v2", "v1"]))
                .unwrap()
                .route("/must", move |_| face.accept().require_subprotocol(["v2", "v1"]))
                .unwrap()
                .route("/asked", move |request| {
                    let best =
                        request.subprotocols().find(|name| name.starts_with("chat.")).map(str::to_owned);
                    match best {
                        Some(name) => face.accept().subprotocol(&name),
                        None => Ok(face.accept()),
                    }
                })
                .unwrap();
            let served = face.serve(Plan::new(router.hook()));
            let ask = |path: &str, offered: &str| {
                let headers = match offered {
                    "" => String::new(),
                    offered => format!("Sec-WebSocket-Protocol: {offered}\r\n"),
                };
                let mut peer = crate::common::peer::Peer::connect(served.addr());
                peer.bytes(request_with(path, &headers));
                let head = peer.head();
                let chosen = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Protocol: "));
                (crate::common::doors::status(&head), chosen.unwrap_or_default().to_owned())
            };
            for (path, offered, status, chosen) in [
                ("/may", "v1, v2", 101, "v2"),
                ("/may", "v0, v1", 101, "v1"),
                ("/may", "v0", 101, ""),
                ("/may", "", 101, ""),
                ("/must", "v1", 101, "v1"),
                ("/must", "v0", 400, ""),
                ("/must", "V1", 400, ""),
                ("/must", "", 400, ""),
                ("/asked", "v1, chat.b, chat.a", 101, "chat.b"),
                ("/asked", "v1", 101, ""),
            ] {
                assert_eq!(ask(path, offered), (status, chosen.to_owned()), "{face:?} {path} {offered}");
            }
            let refused = served.answer(request_with("/must", ""));
            assert!(refused.ends_with("expected one of the subprotocols v2, v1\n"), "{refused}");
        });
    }
}
