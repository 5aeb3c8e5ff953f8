//! Tests of the negotiation of permessage-deflate (RFC 7692, sections 5 and 7.1): parameters as they are written, and the table
//! of agreements, for every row of the RFC and for the wrong answers that others give.

use crate::common::fixed_cases;
use proptest::prelude::*;
use threadwire_proto::Deflate;
use threadwire_proto::deflate::{Agreement, ParamError};
use threadwire_proto::handshake::{Answer, Extension, HandshakeError, Limits, Request, RequestBuilder};

/// What a server makes of these offers, as it writes it. The header goes through the request's parser.
fn answer_to(deflate: &Deflate, offers: &str) -> Option<String> {
    let head = format!(
        "GET / HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Extensions: {offers}\r\n\r\n"
    );
    let (request, _) = Request::parse(head.as_bytes(), &Limits::default()).unwrap().expect("a whole head");
    let upgrade = request.upgrade().unwrap_or_else(|error| panic!("{offers}: {error}"));
    let agreement = deflate.answer(upgrade.offered_extensions().expect("they can be read"))?;
    Some(agreement.to_extension().to_string())
}

/// What a client makes of this answer. The header goes through the answer's parser.
fn accept(deflate: &Deflate, answer: &str) -> Result<Option<Agreement>, HandshakeError> {
    let mut request = RequestBuilder::new("example.com", "/")?;
    request.extension(deflate.offer());
    let request = request.build_with_nonce(*b"the sample nonce");
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Extensions: {answer}\r\n\r\n"
    );
    let (answer, _) = Answer::parse(head.as_bytes(), &Limits::default())?.expect("a whole head");
    deflate.accept(&request.verify(answer)?.extensions)
}

const PLAIN: Deflate = Deflate::new().server_max_window_bits(15).client_max_window_bits(15);

#[test]
fn a_server_answers_every_offer_of_the_rfc_as_it_must() {
    // (what the server wants, what is offered, what is answered)
    let table: &[(&Deflate, &str, Option<&str>)] = &[
        // Section 7.1, its examples first.
        (&PLAIN, "permessage-deflate", Some("permessage-deflate")),
        (&PLAIN, "permessage-deflate; client_max_window_bits", Some("permessage-deflate")),
        (
            &PLAIN,
            "permessage-deflate; client_max_window_bits; server_max_window_bits=10",
            Some("permessage-deflate; server_max_window_bits=10"),
        ),
        (
            &PLAIN,
            "permessage-deflate; client_max_window_bits; server_max_window_bits=10, \
             permessage-deflate; client_max_window_bits",
            Some("permessage-deflate; server_max_window_bits=10"),
        ),
        (
            &PLAIN,
            "permessage-deflate; server_max_window_bits=8, permessage-deflate; client_max_window_bits",
            Some("permessage-deflate"),
        ),
        // 7.1.1.1
        (
            &PLAIN,
            "permessage-deflate; server_no_context_takeover",
            Some("permessage-deflate; server_no_context_takeover"),
        ),
        (
            &PLAIN.server_no_context_takeover(true),
            "permessage-deflate",
            Some("permessage-deflate; server_no_context_takeover"),
        ),
        // 7.1.1.2
        (
            &PLAIN,
            "permessage-deflate; client_no_context_takeover",
            Some("permessage-deflate; client_no_context_takeover"),
        ),
        (
            &PLAIN.client_no_context_takeover(true),
            "permessage-deflate",
            Some("permessage-deflate; client_no_context_takeover"),
        ),
        // 7.1.2.1: at most what is asked for, and at most what is ours.
        // Even the largest window is answered if it was asked for: others take the absence of it for a refusal.
        (
            &PLAIN,
            "permessage-deflate; server_max_window_bits=15",
            Some("permessage-deflate; server_max_window_bits=15"),
        ),
        (
            &PLAIN,
            "permessage-deflate; server_max_window_bits=9",
            Some("permessage-deflate; server_max_window_bits=9"),
        ),
        (
            &PLAIN.server_max_window_bits(11),
            "permessage-deflate; server_max_window_bits=13",
            Some("permessage-deflate; server_max_window_bits=11"),
        ),
        (
            &PLAIN.server_max_window_bits(11),
            "permessage-deflate",
            Some("permessage-deflate; server_max_window_bits=11"),
        ),
        (&PLAIN, "permessage-deflate; server_max_window_bits=8", None),
        (&PLAIN, "permessage-deflate; server_max_window_bits", None),
        (&PLAIN, "permessage-deflate; server_max_window_bits=7", None),
        (&PLAIN, "permessage-deflate; server_max_window_bits=16", None),
        (&PLAIN, "permessage-deflate; server_max_window_bits=010", None),
        (&PLAIN, "permessage-deflate; server_max_window_bits=+10", None),
        // 7.1.2.2: only of a client that has brought it up.
        (&PLAIN.client_max_window_bits(10), "permessage-deflate", Some("permessage-deflate")),
        (
            &PLAIN.client_max_window_bits(10),
            "permessage-deflate; client_max_window_bits",
            Some("permessage-deflate; client_max_window_bits=10"),
        ),
        (
            &PLAIN.client_max_window_bits(10),
            "permessage-deflate; client_max_window_bits=12",
            Some("permessage-deflate; client_max_window_bits=10"),
        ),
        (
            &PLAIN,
            "permessage-deflate; client_max_window_bits=12",
            Some("permessage-deflate; client_max_window_bits=12"),
        ),
        (
            &PLAIN,
            "permessage-deflate; client_max_window_bits=8",
            Some("permessage-deflate; client_max_window_bits=8"),
        ),
        (&PLAIN, "permessage-deflate; client_max_window_bits=16", None),
        (&PLAIN, "permessage-deflate; client_max_window_bits=x", None),
        // Quoted values, white space, names in any order.
        (
            &PLAIN,
            "permessage-deflate; server_max_window_bits=\"10\"",
            Some("permessage-deflate; server_max_window_bits=10"),
        ),
        (
            &PLAIN,
            " permessage-deflate ;  client_max_window_bits ; server_max_window_bits = 10 ",
            Some("permessage-deflate; server_max_window_bits=10"),
        ),
        // Unknown, repeated, with a value that does not belong there.
        (&PLAIN, "permessage-deflate; bogus=1", None),
        (&PLAIN, "permessage-deflate; bogus", None),
        (&PLAIN, "permessage-deflate; Server_no_context_takeover", None),
        (&PLAIN, "permessage-deflate; server_no_context_takeover; server_no_context_takeover", None),
        (&PLAIN, "permessage-deflate; server_max_window_bits=10; server_max_window_bits=10", None),
        (&PLAIN, "permessage-deflate; client_max_window_bits; client_max_window_bits=10", None),
        (&PLAIN, "permessage-deflate; server_no_context_takeover=true", None),
        (&PLAIN, "permessage-deflate; client_no_context_takeover=1", None),
        // An offer that can't be met does not spoil the one behind it.
        (&PLAIN, "permessage-deflate; bogus=1, permessage-deflate", Some("permessage-deflate")),
        (
            &PLAIN,
            "permessage-deflate; server_max_window_bits=8, permessage-deflate; server_max_window_bits=9",
            Some("permessage-deflate; server_max_window_bits=9"),
        ),
        // Other extensions, also those whose name has this one's in it.
        (&PLAIN, "x-permessage-deflate-frame", None),
        (&PLAIN, "x-webkit-deflate-frame, permessage-bzip2; level=9", None),
        (&PLAIN, "permessage-bzip2, permessage-deflate", Some("permessage-deflate")),
    ];
    for (deflate, offers, expected) in table {
        assert_eq!(answer_to(deflate, offers).as_deref(), *expected, "{offers}\n{deflate:?}");
    }
}

#[test]
fn a_servers_own_default_is_a_window_of_twelve_bits_each_way() {
    for (offers, expected) in [
        ("permessage-deflate", "permessage-deflate; server_max_window_bits=12"),
        (
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate; server_max_window_bits=12; client_max_window_bits=12",
        ),
        (
            "permessage-deflate; client_max_window_bits=9; server_max_window_bits=15",
            "permessage-deflate; server_max_window_bits=12; client_max_window_bits=9",
        ),
    ] {
        assert_eq!(answer_to(&Deflate::new(), offers).as_deref(), Some(expected), "{offers}");
    }
}

#[test]
fn a_client_offers_what_it_is_set_to() {
    for (deflate, expected) in [
        (Deflate::new(), "permessage-deflate; client_max_window_bits"),
        (PLAIN, "permessage-deflate; client_max_window_bits"),
        (Deflate::new().client_max_window_bits(10), "permessage-deflate; client_max_window_bits=10"),
        (
            Deflate::new().server_max_window_bits(9).server_no_context_takeover(true),
            "permessage-deflate; server_no_context_takeover; server_max_window_bits=9; client_max_window_bits",
        ),
        (
            Deflate::new().client_no_context_takeover(true),
            "permessage-deflate; client_no_context_takeover; client_max_window_bits",
        ),
    ] {
        assert_eq!(deflate.offer().to_string(), expected);
    }
}

#[test]
fn a_client_takes_the_answers_that_its_offer_allows() {
    // (what is offered, what is answered: no takeover for server and client, window bits for both)
    let table = [
        (Deflate::new(), "permessage-deflate", (false, false, 15, 15)),
        (Deflate::new(), "permessage-deflate; server_no_context_takeover", (true, false, 15, 15)),
        (Deflate::new(), "permessage-deflate; client_no_context_takeover", (false, true, 15, 15)),
        // The server may restrict itself unasked (7.1.2.1), and us if we let it (7.1.2.2).
        (Deflate::new(), "permessage-deflate; server_max_window_bits=10", (false, false, 10, 15)),
        (Deflate::new(), "permessage-deflate; server_max_window_bits=8", (false, false, 8, 15)),
        (Deflate::new(), "permessage-deflate; client_max_window_bits=9", (false, false, 15, 9)),
        (Deflate::new(), "permessage-deflate; client_max_window_bits=8", (false, false, 15, 8)),
        (Deflate::new().client_max_window_bits(12), "permessage-deflate", (false, false, 15, 12)),
        (
            Deflate::new().client_max_window_bits(12),
            "permessage-deflate; client_max_window_bits=\"10\"",
            (false, false, 15, 10),
        ),
        (
            Deflate::new().server_max_window_bits(12),
            "permessage-deflate; server_max_window_bits=11",
            (false, false, 11, 15),
        ),
        (Deflate::new().client_no_context_takeover(true), "permessage-deflate", (false, true, 15, 15)),
    ];
    for (deflate, answer, expected) in table {
        let agreement = accept(&deflate, answer).unwrap_or_else(|error| panic!("{answer}: {error}"));
        let agreement = agreement.expect("it was accepted");
        let found = (
            agreement.server_no_context_takeover,
            agreement.client_no_context_takeover,
            agreement.server_max_window_bits,
            agreement.client_max_window_bits,
        );
        assert_eq!(found, expected, "{answer}\n{deflate:?}");
    }
}

#[test]
fn a_client_refuses_the_answers_that_its_offer_does_not_allow() {
    let frugal = Deflate::new().server_no_context_takeover(true).server_max_window_bits(10);
    let small = Deflate::new().client_max_window_bits(10);
    let table: &[(&Deflate, &str, &str)] = &[
        // A bare answer to an offer that asked for more, as some servers give to whatever they are offered.
        (&frugal, "permessage-deflate", "server_no_context_takeover"),
        (&frugal, "permessage-deflate; server_no_context_takeover", "server_max_window_bits"),
        (
            &frugal,
            "permessage-deflate; server_no_context_takeover; server_max_window_bits=11",
            "server_max_window_bits",
        ),
        (&small, "permessage-deflate; client_max_window_bits=11", "client_max_window_bits"),
        (&small, "permessage-deflate; client_max_window_bits", "client_max_window_bits is missing"),
        (&small, "permessage-deflate; server_max_window_bits", "server_max_window_bits is missing"),
        (&small, "permessage-deflate; server_max_window_bits=16", "\"16\""),
        (&small, "permessage-deflate; server_max_window_bits=7", "\"7\""),
        (&small, "permessage-deflate; server_max_window_bits=012", "\"012\""),
        (&small, "permessage-deflate; bogus=1", "\"bogus\""),
        (&small, "permessage-deflate; server_no_context_takeover=1", "takes no value"),
        (
            &small,
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
            "server_no_context_takeover is repeated",
        ),
        (&small, "permessage-deflate, permessage-deflate", "twice"),
    ];
    for (deflate, answer, expected) in table {
        match accept(deflate, answer) {
            Err(error @ HandshakeError::Deflate { .. }) => {
                assert!(error.to_string().contains(expected), "{answer}: {error}");
            }
            other => panic!("{answer}: {other:?}"),
        }
    }
    let never_offered = accept(&small, "x-permessage-deflate-frame");
    assert!(matches!(never_offered, Err(HandshakeError::ExtensionNotOffered { .. })), "{never_offered:?}");
}

#[test]
fn an_answer_without_the_extension_means_no_compression() {
    assert_eq!(Deflate::new().accept(&[]), Ok(None));
}

#[test]
fn what_was_never_brought_up_can_not_be_asked_for() {
    // It can't be offered by this client at all, so the answer is checked alone.
    let offer = Extension::new("permessage-deflate").unwrap();
    let answer = Deflate::new().client_max_window_bits(9).answer(&[offer]).unwrap();
    assert_eq!(
        answer.client_max_window_bits, 15,
        "the client was not told, and refers back as far as it likes"
    );
    assert!(!answer.to_extension().to_string().contains("client"));
    assert_eq!(
        ParamError::NotOffered("client_max_window_bits").to_string(),
        "client_max_window_bits was not offered"
    );
}

fn settings() -> impl Strategy<Value = Deflate> {
    let bits = || proptest::option::of(9..=15u8);
    (any::<bool>(), any::<bool>(), bits(), bits()).prop_map(|(server, client, server_bits, client_bits)| {
        let mut deflate =
            Deflate::new().server_no_context_takeover(server).client_no_context_takeover(client);
        if let Some(bits) = server_bits {
            deflate = deflate.server_max_window_bits(bits);
        }
        if let Some(bits) = client_bits {
            deflate = deflate.client_max_window_bits(bits);
        }
        deflate
    })
}

proptest! {
    #![proptest_config(fixed_cases(256))]

    #[test]
    fn any_client_and_any_server_agree_and_on_the_same(client in settings(), server in settings()) {
        let ours = server.answer(&[client.offer()]).expect("every offer of ours can be met");
        let theirs = client.accept(&[ours.to_extension()]).expect("it is allowed").expect("it was accepted");
        prop_assert_eq!(ours, theirs);
    }

    #[test]
    fn no_parameters_whatever_make_negotiation_panic(
        names in proptest::collection::vec((0..6usize, proptest::option::of("[!-~]{0,20}")), 0..6),
        server in settings(),
    ) {
        let known = [
            "server_no_context_takeover", "client_no_context_takeover", "server_max_window_bits",
            "client_max_window_bits", "bogus", "x",
        ];
        let mut extension = Extension::new("permessage-deflate").unwrap();
        for (name, value) in &names {
            if let Ok(more) = extension.clone().with_param(known[*name], value.as_deref()) {
                extension = more;
            }
        }
        if let Some(agreement) = server.answer(std::slice::from_ref(&extension)) {
            prop_assert!((9..=15).contains(&agreement.server_max_window_bits));
            prop_assert!((8..=15).contains(&agreement.client_max_window_bits));
            prop_assert!(!extension.params().any(|(name, _)| name == "bogus" || name == "x"));
        }
        let _ = server.accept(&[extension]);
    }
}
