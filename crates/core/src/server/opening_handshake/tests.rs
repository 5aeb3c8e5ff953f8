//! Opening handshakes on a server without a socket: requests in pieces, refusals, deadlines, the PROXY protocol.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use threadwire_proto::handshake::Response;

use super::*;
use crate::config::Budget;
use crate::config::budget::Account;
use crate::error::LimitKind;
use crate::server::{Admission, ProxyProtocol};
use threadwire_proto::Deflate;

const REQUEST: &str = "GET /feed?a=1 HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: v2, v1\r\n\
    Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n";

const LINE: &str = "PROXY TCP4 192.0.2.1 192.0.2.2 12345 443\r\n";

fn peer() -> Option<SocketAddr> {
    Some("10.0.0.1:4711".parse().unwrap())
}

fn opening(config: Config, admission: Admission) -> OpeningHandshake {
    let mut settings = ServerSettings::default();
    settings.set_config(config);
    settings.set_admission(admission);
    OpeningHandshake::new(Arc::new(settings), peer(), Instant::now())
}

fn plain_opening() -> OpeningHandshake {
    opening(Config::default(), Admission::default())
}

fn behind_proxy() -> OpeningHandshake {
    let protocol = ProxyProtocol::from_peers(["10.0.0.0/8"]).unwrap();
    opening(Config::default(), Admission { proxy_protocol: Some(protocol), ..Admission::default() })
}

/// A driver without a socket: passes these pieces on, and does all but ask the program.
fn drive(opening: &mut OpeningHandshake, pieces: &[&[u8]]) -> (Step, Vec<u8>, Vec<u8>) {
    let (mut step, mut written, mut last) = (opening.begin(), Vec::new(), Vec::new());
    let mut pieces = pieces.iter();
    loop {
        step = match step {
            Step::Read => match pieces.next() {
                Some(piece) => {
                    last = piece.to_vec();
                    opening.advance(piece)
                }
                None => return (Step::Read, written, last),
            },
            Step::Wrap => opening.wrapped(),
            Step::Answer(bytes) => {
                written.extend(bytes);
                opening.answered()
            }
            Step::Linger => Step::Read,
            Step::Ask(..) | Step::Over(_) => return (step, written, last),
        }
    }
}

fn asked(opening: &mut OpeningHandshake, pieces: &[&[u8]]) -> (Box<Request>, Vec<u8>) {
    match drive(opening, pieces) {
        (Step::Ask(request, early), written, last) => {
            assert!(written.is_empty());
            (request, early.into_vec(&last))
        }
        (step, ..) => panic!("it is not asked for anything: {step:?}"),
    }
}

#[test]
fn a_request_is_the_same_wherever_it_is_cut_and_what_is_behind_it_is_kept() {
    let bytes = [REQUEST.as_bytes(), b"\x81\x80frames"].concat();
    let (length, behind) = (REQUEST.len(), &b"\x81\x80frames"[..]);
    for cut in 1..bytes.len() {
        let (request, early) = asked(&mut plain_opening(), &[&bytes[..cut], &bytes[cut..]]);
        assert_eq!((request.path(), request.client_ip()), ("/feed", peer().map(|peer| peer.ip())));
        // A request that is whole is not read on from.
        let end = if cut >= length { cut } else { bytes.len() };
        assert_eq!(early, behind[..end - length], "cut at {cut}");
    }
    let single: Vec<&[u8]> = REQUEST.as_bytes().chunks(1).collect();
    let (request, early) = asked(&mut plain_opening(), &single);
    assert_eq!((request.path(), early.len()), ("/feed", 0));
}

#[test]
fn a_proxy_header_is_taken_off_wherever_it_is_cut_and_only_one() {
    let bytes = [LINE.as_bytes(), REQUEST.as_bytes(), b"behind"].concat();
    for cut in 1..bytes.len() {
        let (request, early) = asked(&mut behind_proxy(), &[&bytes[..cut], &bytes[cut..]]);
        assert_eq!(request.client_ip(), Some("192.0.2.1".parse().unwrap()), "cut at {cut}");
        assert_eq!(request.proxied().unwrap().destination, "192.0.2.2:443".parse().unwrap());
        let end = if cut >= bytes.len() - 6 { cut } else { bytes.len() };
        assert_eq!(early, bytes[bytes.len() - 6..end], "cut at {cut}");
    }
    let twice = [LINE.as_bytes(), LINE.as_bytes(), REQUEST.as_bytes()].concat();
    let (step, written, _) = drive(&mut behind_proxy(), &[&twice, b""]);
    assert!(matches!(step, Step::Over(Err(Error::Handshake(_)))), "{step:?}");
    assert!(written.starts_with(b"HTTP/1.1 400 "));
}

#[test]
fn the_stream_is_wrapped_once_behind_the_proxy_header_and_what_came_with_it_is_shown() {
    let mut opening = behind_proxy();
    assert!(matches!(opening.begin(), Step::Read));
    assert!(matches!(opening.advance(&LINE.as_bytes()[..20]), Step::Read));
    let rest = [&LINE.as_bytes()[20..], b"GET /"].concat();
    assert!(matches!(opening.advance(&rest), Step::Wrap));
    assert_eq!(opening.early(), b"GET /");
    assert!(matches!(opening.wrapped(), Step::Read));
    assert!(matches!(opening.advance(&REQUEST.as_bytes()[5..]), Step::Ask(..)));
}

#[test]
fn who_is_no_trusted_proxy_is_dropped_without_an_answer() {
    for begin in ["GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01", "PROXY nonsense\r\n"] {
        let (step, written, _) = drive(&mut behind_proxy(), &[begin.as_bytes()]);
        assert!(matches!(step, Step::Over(Err(Error::Other(_)))), "{step:?}");
        assert!(written.is_empty());
    }
    let protocol = ProxyProtocol::from_peers(["192.0.2.0/24"]).unwrap();
    let admission = Admission { proxy_protocol: Some(protocol), ..Admission::default() };
    assert!(matches!(opening(Config::default(), admission).begin(), Step::Over(Err(_))));
}

#[test]
fn what_is_no_request_is_answered_and_the_peer_is_read_to_its_end() {
    for (bytes, status) in [
        ("GET / HTTP/1.1\r\nHost: a\r\nBroken header\r\n\r\n", "400"),
        ("\x16\x03\x01\x02\x00\r\n\r\n", "400"),
        ("GET / HTTP/9.9\r\nHost: a\r\n\r\n", "505"),
    ] {
        let mut opening = plain_opening();
        let (step, written, _) = drive(&mut opening, &[bytes.as_bytes(), b"and on", b"and on"]);
        assert!(matches!(step, Step::Read), "it goes on to read: {step:?}");
        let written = String::from_utf8(written).unwrap();
        assert!(written.starts_with(&format!("HTTP/1.1 {status} ")), "{written}");
        assert!(matches!(opening.advance(b""), Step::Over(Err(Error::Handshake(_)))));
    }
    let config = Config { max_head: 256, ..Config::default() };
    let long = format!("GET /{} HTTP/1.1\r\n", "a".repeat(300));
    let (_, written, _) = drive(&mut opening(config, Admission::default()), &[long.as_bytes()]);
    assert!(written.starts_with(b"HTTP/1.1 431 ") || written.starts_with(b"HTTP/1.1 414 "));
}

#[test]
fn a_peer_that_leaves_anywhere_before_its_request_is_whole_is_lost() {
    let bytes = [LINE.as_bytes(), REQUEST.as_bytes()].concat();
    for end in 0..bytes.len() {
        let pieces: &[&[u8]] = if end == 0 { &[b""] } else { &[&bytes[..end], b""] };
        let (step, written, _) = drive(&mut behind_proxy(), pieces);
        assert!(matches!(step, Step::Over(Err(Error::Lost))), "{step:?}");
        assert!(written.is_empty());
    }
}

#[test]
fn what_is_granted_has_headers_a_subprotocol_and_compression() {
    let config = Config { deflate: Some(Deflate::default()), ..Config::default() };
    let mut opening = opening(config, Admission::default());
    let (request, _) = asked(&mut opening, &[REQUEST.as_bytes()]);
    let mut headers = Headers::new();
    headers.append("X-Room", "lobby").unwrap();
    let names = vec!["v0".to_owned(), "v1".to_owned()];
    let wanted = Subprotocol::FirstOf { names, is_required: true };
    let granted = opening.grant(&request, headers, &wanted).unwrap_or_else(|refusal| panic!("{refusal:?}"));
    let mut output = Vec::new();
    granted.encode(&mut output);
    let output = String::from_utf8(output).unwrap();
    assert!(output.starts_with("HTTP/1.1 101 "), "{output}");
    for line in ["X-Room: lobby\r\n", "Sec-WebSocket-Protocol: v1\r\n", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="] {
        assert!(output.contains(line), "{line} in {output}");
    }
    assert!(granted.deflate.is_some() && output.contains("permessage-deflate"));
    let agreed = granted.agreed.unwrap();
    assert_eq!(agreed.subprotocol.as_deref(), Some("v1"));
    // A handshake that leaves nothing to keep allocates nothing.
    let mut plain = plain_opening();
    let (request, _) = asked(&mut plain, &[REQUEST.as_bytes()]);
    let granted = plain.grant(&request, Headers::new(), &Subprotocol::None);
    assert!(granted.is_ok_and(|granted| granted.agreed.is_none() && granted.deflate.is_none()));
}

#[test]
fn a_bad_upgrade_and_one_too_many_are_refused_with_their_reasons() {
    let plain_request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let names = vec!["v9".to_owned()];
    let required = Subprotocol::FirstOf { names, is_required: true };
    for (request, subprotocol, status) in [
        (plain_request, Subprotocol::None, 426),
        (REQUEST, required, 400),
        (REQUEST, Subprotocol::Exactly("v9".to_owned()), 500),
    ] {
        let mut opening = plain_opening();
        let (asked, _) = asked(&mut opening, &[request.as_bytes()]);
        let refusal = opening.grant(&asked, Headers::new(), &subprotocol).err().unwrap();
        assert_eq!(refusal.response.status(), status);
        let step = opening.refuse(&refusal.response, Err(refusal.error));
        assert!(matches!(step, Step::Answer(_)));
        assert!(matches!(opening.answered(), Step::Linger));
        assert!(matches!(opening.advance(b"more"), Step::Read));
        assert!(matches!(opening.advance(b""), Step::Over(Err(_))));
    }
    let mut full = opening(Config::default(), Admission { max_connections: Some(0), ..Admission::default() });
    let (request, _) = asked(&mut full, &[REQUEST.as_bytes()]);
    let refusal = full.grant(&request, Headers::new(), &Subprotocol::None).err().unwrap();
    assert_eq!(refusal.response.status(), 503);
    assert!(matches!(refusal.error, Error::Limit(error) if error.kind == LimitKind::Connections));
}

#[test]
fn nobody_new_comes_while_connections_hold_more_than_their_budget() {
    let budget = Budget::new(1000);
    let mut account = Account::new(Budgets::of(Some(&budget)));
    let upgrade = || {
        let mut opening = opening(Config::default().budget(budget.clone()), Admission::default());
        let (request, _) = asked(&mut opening, &[REQUEST.as_bytes()]);
        opening.grant(&request, Headers::new(), &Subprotocol::None).map(drop)
    };
    account.tell(1000);
    assert!(upgrade().is_ok());
    account.tell(1001);
    let refusal = upgrade().err().unwrap();
    assert_eq!((refusal.response.status(), budget.refused()), (503, 1));
    assert!(matches!(refusal.error, Error::Limit(error) if error.kind == LimitKind::Memory));
    drop(account);
    assert!(upgrade().is_ok());
}

#[test]
fn a_head_request_is_answered_without_a_body() {
    let body = |request: &str| {
        let mut opening = plain_opening();
        drop(asked(&mut opening, &[request.as_bytes()]));
        let response = Response::new(200).unwrap().with_body("well\n");
        match opening.refuse(&response, Ok(())) {
            Step::Answer(bytes) => bytes.ends_with(b"well\n"),
            step => panic!("{step:?}"),
        }
    };
    assert!(body("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert!(!body("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"));
}

#[test]
fn a_shutdown_refuses_whoever_is_not_being_answered() {
    let refusal = Response::new(503).unwrap();
    let mut mute = plain_opening();
    mute.begin();
    assert!(
        matches!(mute.shut_down(&refusal), Some(Step::Answer(bytes)) if bytes.starts_with(b"HTTP/1.1 503 "))
    );
    assert!(mute.shut_down(&refusal).is_none(), "it is being answered");
    mute.answered();
    assert!(mute.shut_down(&refusal).is_none());
    assert!(matches!(mute.advance(b""), Step::Over(Ok(()))));

    let mut asked_for = plain_opening();
    drop(asked(&mut asked_for, &[REQUEST.as_bytes()]));
    assert!(matches!(asked_for.shut_down(&refusal), Some(Step::Answer(_))));

    let mut proxy = behind_proxy();
    proxy.begin();
    assert!(
        matches!(proxy.shut_down(&refusal), Some(Step::Over(Err(Error::Closed)))),
        "it speaks no HTTP yet"
    );
}

#[test]
fn broken_tls_is_lingered_for_and_other_errors_end_it() {
    let garbled = || io::Error::new(io::ErrorKind::InvalidData, "no TLS");
    let mut opening = plain_opening();
    opening.begin();
    assert!(matches!(opening.failed(garbled()), Step::Linger));
    assert!(matches!(opening.advance(b"whatever"), Step::Read));
    assert!(matches!(opening.advance(b""), Step::Over(Err(_))));

    let mut opening = plain_opening();
    opening.begin();
    let reset = || io::Error::from(io::ErrorKind::ConnectionReset);
    assert!(matches!(opening.failed(reset()), Step::Over(Err(_))));

    // A client that has its answer may break off; before that, breaking off is an error.
    let mut opening = plain_opening();
    drop(asked(&mut opening, &[REQUEST.as_bytes()]));
    opening.refuse(&Response::new(404).unwrap(), Ok(()));
    assert!(matches!(opening.failed(reset()), Step::Over(Err(_))));
    let mut opening = plain_opening();
    drop(asked(&mut opening, &[REQUEST.as_bytes()]));
    opening.refuse(&Response::new(404).unwrap(), Ok(()));
    opening.answered();
    assert!(matches!(opening.failed(reset()), Step::Over(Ok(()))));
}

#[test]
fn the_deadline_counts_from_accepting_and_anew_from_a_late_answer() {
    let accepted = Instant::now();
    let config = Config { open_timeout: Duration::from_secs(3), ..Config::default() };
    let mut settings = ServerSettings::default();
    settings.set_config(config);
    let mut opening = OpeningHandshake::new(Arc::new(settings), None, accepted);
    assert_eq!(opening.deadline(), Some(accepted + Duration::from_secs(3)));
    drop(asked(&mut opening, &[REQUEST.as_bytes()]));
    assert_eq!(opening.deadline(), Some(accepted + Duration::from_secs(3)));
    opening.restart(accepted + Duration::from_secs(60));
    assert_eq!(opening.deadline(), Some(accepted + Duration::from_secs(63)));
    let endless = Config { open_timeout: Duration::MAX, ..Config::default() };
    assert_eq!(self::opening(endless, Admission::default()).deadline(), None);
    assert!(OpeningHandshake::too_late().is_transient());
}
