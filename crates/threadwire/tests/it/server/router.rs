//! Routing by paths, on all faces.

use crate::common::bounded;
use crate::common::doors::{FACES, Face, Plan, attach, status};
use threadwire::server::Router;
use threadwire::{Error, Reply, Request, Response};

/// Says which route it was, and with which parameters.
fn told(face: Face, name: &'static str) -> impl Fn(&Request) -> Reply + Send + Sync + 'static {
    move |request| {
        let params: Vec<String> = request.params().map(|(name, value)| format!("{name}={value}")).collect();
        attach(request, [&[name.to_owned()], &params[..]].concat().join(" "));
        face.accept()
    }
}

fn router(face: Face) -> Result<Router, Error> {
    let page = Response::new(200)?.with_header("X-Page", "yes")?.with_body("well\n");
    Router::new()
        .route("/", told(face, "root"))?
        .route("/rooms", told(face, "rooms"))?
        .route("/rooms/{id}", told(face, "room"))?
        .route("/rooms/new", told(face, "new"))?
        .route("/rooms/{id}/users/{user}", told(face, "user"))?
        .route("/files/{*path}", told(face, "file"))?
        .route("/v{version}/feed", told(face, "feed"))?
        .route("/café au lait", told(face, "café"))?
        .route("/100%", told(face, "all"))?
        .route("/closed", |_| Reply::status(403).header("X-Why", "late"))?
        .page("/healthz", move |_| page.clone())
}

#[test]
fn paths_lead_to_their_routes_with_their_parameters() {
    for &face in FACES {
        bounded(move || {
            let served = face.serve(Plan::new(router(face).unwrap().hook()));
            for (path, note) in [
                ("/", "root"),
                ("/?id=7", "root"),
                ("/rooms", "rooms"),
                ("/rooms/7", "room id=7"),
                ("/rooms/new", "new"),
                ("/rooms/%6eew", "new"),
                ("/rooms/7/users/ann", "user id=7 user=ann"),
                ("/rooms/a%2Fb/users/c%20d", "user id=a/b user=c d"),
                ("/rooms/100%25?x=1", "room id=100%"),
                ("/rooms/%252F", "room id=%2F"),
                ("/files/a/b.txt", "file path=a/b.txt"),
                ("/files/a%2fb/c", "file path=a/b/c"),
                ("/v2/feed", "feed version=2"),
                ("/caf%C3%A9%20au%20lait", "café"),
                ("/100%25", "all"),
                ("http://elsewhere/rooms/7", "room id=7"),
            ] {
                assert_eq!(served.note(path, ""), note, "{face:?} {path}");
            }
            for (path, status) in [
                ("/nowhere", 404),
                ("/rooms/", 404),
                ("/rooms/7/", 404),
                ("/rooms/7/users", 404),
                ("/files/", 404),
                ("/Rooms", 404),
                ("/closed", 403),
                ("/rooms/%ff", 400),
                ("/rooms/%zz", 400),
                ("/files/../secret", 400),
                ("/files/a/%2e%2e/b", 400),
                ("/files/..%2F..%2Fetc", 400),
                ("/files/%2e%2e%5csecret", 400),
                ("/rooms/..%2f..", 400),
                ("/rooms/7%00", 400),
            ] {
                assert_eq!(served.status(path, ""), status, "{face:?} {path}");
            }
            let refused = served.answer(crate::common::peer::request("/closed"));
            assert!(refused.contains("\r\nX-Why: late\r\n"), "{refused}");
        });
    }
}

#[test]
fn pages_are_plain_http() {
    for &face in FACES {
        bounded(move || {
            let served = face.serve(Plan::new(router(face).unwrap().hook()));
            let ask = |method: &str, path: &str| {
                served.answer(format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"))
            };
            let page = ask("GET", "/healthz");
            assert!(page.starts_with("HTTP/1.1 200 OK\r\nX-Page: yes\r\n"), "{page}");
            assert!(page.ends_with("\r\n\r\nwell\n"), "{page}");
            // The head of a HEAD is the same, without what would follow it.
            assert_eq!(ask("HEAD", "/healthz"), page.strip_suffix("well\n").unwrap(), "{face:?}");
            for method in ["POST", "PUT", "DELETE", "OPTIONS", "get"] {
                let refused = ask(method, "/healthz");
                assert_eq!(status(&refused), 405, "{refused}");
                assert!(refused.contains("\r\nAllow: GET, HEAD\r\n"), "{refused}");
            }
            let old = served.answer("GET /healthz HTTP/1.0\r\n\r\n");
            assert!(old.starts_with("HTTP/1.1 200 ") && old.ends_with("well\n"), "{old}");
            // A path for connections refuses plain requests.
            assert_eq!(status(&ask("GET", "/rooms")), 426);
            let refused = ask("POST", "/rooms");
            assert!(
                refused.starts_with("HTTP/1.1 405 ") && refused.contains("\r\nAllow: GET\r\n"),
                "{refused}"
            );
            assert!(!ask("HEAD", "/nowhere").contains("there is nothing here"));
            assert!(ask("GET", "/nowhere").ends_with("there is nothing here\n"));
        });
    }
}

#[test]
fn a_fallback_takes_what_no_route_is_for() {
    for &face in FACES {
        bounded(move || {
            let refuse = |_: &Request| Err(Response::new(418).unwrap());
            let router = Router::new().check(refuse).route("/a", move |_| face.accept()).unwrap();
            let router = Router::new()
                .route("/b", told(face, "b"))
                .unwrap()
                .fallback(move |request| router.answer(request));
            let served = face.serve(Plan::new(router.hook()));
            assert_eq!(served.note("/b", ""), "b");
            assert_eq!((served.status("/a", ""), served.status("/c", "")), (418, 404));
        });
    }
}

#[test]
fn a_route_that_panics_answers_with_500_and_concerns_nobody_else() {
    for &face in FACES {
        bounded(move || {
            let router = Router::new()
                .route("/boom", |_| -> Reply { panic!("as it was told") })
                .unwrap()
                .route("/fine", told(face, "fine"))
                .unwrap();
            let served = face.serve(Plan::new(router.hook()));
            assert_eq!(served.status("/boom", ""), 500);
            assert_eq!(served.note("/fine", ""), "fine");
        });
    }
}

#[test]
fn patterns_that_can_not_be_used_are_refused_with_a_reason() {
    let add = |patterns: &[&str]| {
        let router = patterns
            .iter()
            .try_fold(Router::new(), |router, pattern| router.route(pattern, |_| Reply::status(404)));
        router.map(drop).map_err(|error| error.to_string())
    };
    for (patterns, problem) in [
        (&["rooms"][..], "can't route \"rooms\": it must begin with \"/\""),
        (&["/{id}", "/{name}"], "can't route \"/{name}\": it can't be told from \"/{id}\""),
        (&["/a", "/a"], "can't route \"/a\": it can't be told from \"/a\""),
        (&["/{a}{b}"], "has more than one parameter between two slashes"),
        (&["/{*all}/b"], "has something behind a parameter that takes all the rest"),
        (&["/{}"], "has a parameter without a name, or a single brace"),
        (&["/{id"], "has a parameter without a name, or a single brace"),
    ] {
        let error = add(patterns).unwrap_err();
        assert!(error.contains(problem), "{error}");
    }
    assert_eq!(add(&["/{id}", "/new", "/{id}/{*rest}", "/a-{b}", "/{{id}}"]), Ok(()));
}

#[cfg(feature = "aio")]
#[test]
fn a_listener_has_no_place_on_the_async_face() {
    bounded(|| {
        let served = Face::Aio.serve(Plan::new(|_: &Request| Reply::with(crate::common::echo)));
        assert_eq!(served.status("/", ""), 500);
    });
}
