//! Transience: which ends, answers and alerts may go away by themselves.
//!
//! The table for users is `docs/reconnecting.md` of `threadwire`; a test there walks it row by row.

use threadwire_proto::CloseCode;
use threadwire_proto::handshake::Answer;

use super::TlsProblem;

/// Whether a peer that closes with this code may take the same client again. With the others it says that it can't do with what
/// this side is or sends. 1008 is no such code: peers close with it for a pong that came late, or a token that has expired, and what
/// codes from 3000 on mean only the program knows.
pub(super) fn may_come_back(code: CloseCode) -> bool {
    !matches!(code.get(), 1002 | 1003 | 1007 | 1009 | 1010 | 1015)
}

/// Whether an answer in place of the one that was hoped for, of a server or of a proxy, may be another one later.
pub(super) fn is_passing(answer: &Answer) -> bool {
    match answer.status() {
        // Too slow, banned for a while, too early (RFC 8470), too many requests.
        408 | 418 | 425 | 429 | 500..=599 => true,
        // A network that wants its users to log in first (a captive portal) answers in place of the server.
        302 | 303 | 307 => true,
        200 if is_html(answer) => true,
        // Who says when to come again may be asked again (RFC 9110, section 10.2.3).
        _ => answer.headers().contains("Retry-After"),
    }
}

/// Whether the body is a page, as it says, or as it begins if it does not say.
fn is_html(answer: &Answer) -> bool {
    match answer.header("Content-Type") {
        Some(kind) => kind.to_ascii_lowercase().contains("html"),
        None => answer.body().trim_ascii_start().starts_with(b"<"),
    }
}

/// Whether TLS with the same peer may work later. Certificates are renewed, and clocks are set.
pub(super) fn may_agree_later(problem: &TlsProblem) -> bool {
    matches!(problem, TlsProblem::Refused | TlsProblem::Expired { .. } | TlsProblem::NotYetValid { .. })
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use threadwire_proto::handshake::Limits;

    use super::*;

    #[test]
    fn codes_that_blame_this_side_end_it() {
        for code in [1000, 1001, 1005, 1006, 1008, 1011, 1012, 1013, 1014, 3000, 4000, 4004, 4999] {
            assert!(may_come_back(CloseCode::new(code)), "{code}");
        }
        for code in [1002, 1003, 1007, 1009, 1010, 1015] {
            assert!(!may_come_back(CloseCode::new(code)), "{code}");
        }
    }

    fn answer(status: u16, fields: &str, body: &str) -> Answer {
        let head = format!("HTTP/1.1 {status} x\r\n{fields}\r\n");
        Answer::parse(head.as_bytes(), &Limits::default()).unwrap().unwrap().0.with_body(body)
    }

    #[test]
    fn answers_of_servers_that_are_busy_and_of_captive_portals_pass() {
        for status in [302, 303, 307, 408, 418, 425, 429, 500, 501, 502, 503, 504, 511, 520, 599] {
            assert!(is_passing(&answer(status, "", "")), "{status}");
        }
        for status in [101, 200, 204, 300, 301, 308, 400, 401, 403, 404, 405, 407, 410, 421, 426, 451, 600] {
            assert!(!is_passing(&answer(status, "", "")), "{status}");
            assert!(is_passing(&answer(status, "Retry-After: 1\r\n", "")), "{status}");
        }
        for (fields, body, passes) in [
            ("Content-Type: text/html\r\n", "", true),
            ("content-type: Text/HTML; charset=utf-8\r\n", "x", true),
            ("Content-Type: application/xhtml+xml\r\n", "", true),
            ("", "\r\n<!doctype html>", true),
            ("", "it works", false),
            ("Content-Type: application/json\r\n", "<", false),
        ] {
            assert_eq!(is_passing(&answer(200, fields, body)), passes, "{fields} {body}");
        }
    }

    #[test]
    fn dates_of_certificates_pass_and_what_else_is_wrong_with_one_does_not() {
        let now = SystemTime::UNIX_EPOCH;
        for problem in
            [TlsProblem::Expired { since: now }, TlsProblem::NotYetValid { until: now }, TlsProblem::Refused]
        {
            assert!(may_agree_later(&problem), "{problem:?}");
        }
        for problem in [
            TlsProblem::WrongName { names: Vec::new() },
            TlsProblem::SelfSigned,
            TlsProblem::UnknownIssuer,
            TlsProblem::Revoked,
            TlsProblem::WrongKey { found: String::new() },
            TlsProblem::Certificate,
            TlsProblem::ClientCertificate,
            TlsProblem::UnknownName,
            TlsProblem::NotTls,
            TlsProblem::Incompatible,
            TlsProblem::Name,
            TlsProblem::Settings,
            TlsProblem::Protocol,
            TlsProblem::Misunderstood,
        ] {
            assert!(!may_agree_later(&problem), "{problem:?}");
        }
    }
}
