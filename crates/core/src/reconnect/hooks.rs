//! Retry decisions: which ends are worth another attempt, and how long a server wants to be left alone (`Retry-After`).

use std::time::{Duration, SystemTime};

use threadwire_guard::contain;

use super::Cause;
use crate::error::Error;

/// Asks whether an end is worth another attempt; without a hook, the cause itself knows. One that panics says no.
pub fn is_worth_it<H>(hook: Option<&mut H>, cause: &Cause) -> bool
where
    H: FnMut(&Cause) -> bool + ?Sized,
{
    match hook {
        None => cause.is_transient(),
        Some(hook) => contain("retry_if", || hook(cause)).unwrap_or(false),
    }
}

/// How long a server wants to be left alone that has answered with 429 or 503: its `Retry-After`, in seconds or a date (RFC 9110,
/// section 10.2.3).
pub fn retry_after(cause: Option<&Cause>, now: SystemTime) -> Duration {
    let Some(Cause::Error(Error::Status(answer))) = cause else {
        return Duration::ZERO;
    };
    let wish = answer.header("Retry-After").filter(|_| matches!(answer.status(), 429 | 503));
    let wish = wish.map(str::trim).unwrap_or_default();
    if !wish.is_empty() && wish.bytes().all(|byte| byte.is_ascii_digit()) {
        return Duration::from_secs(wish.parse().unwrap_or(u64::MAX));
    }
    let date = httpdate::parse_http_date(wish).ok();
    date.and_then(|date| date.duration_since(now).ok()).unwrap_or_default()
}

/// A random number from 0 to 1, for the jitter.
pub fn random() -> f64 {
    // Without randomness in the system, all clients wait as long.
    getrandom::u32().map_or(0.5, |number| f64::from(number) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use threadwire_proto::handshake::{Answer, Limits};

    use super::*;

    #[test]
    fn a_server_that_is_busy_says_for_how_long() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        for (status, wish, seconds) in [
            (503, "Retry-After: 120\r\n", 120),
            (429, "retry-after:  7 \r\n", 7),
            (503, "Retry-After: Sun, 06 Nov 1994 08:50:37 GMT\r\n", 60),
            (503, "Retry-After: Sun, 06 Nov 1994 08:49:00 GMT\r\n", 0),
            (503, "Retry-After: soon\r\n", 0),
            (503, "Retry-After: -5\r\n", 0),
            (503, "Retry-After: \r\n", 0),
            (503, "Retry-After: 99999999999999999999999\r\n", u64::MAX),
            (503, "", 0),
            (500, "Retry-After: 120\r\n", 0),
            (404, "Retry-After: 120\r\n", 0),
        ] {
            let head = format!("HTTP/1.1 {status} x\r\n{wish}\r\n");
            let (answer, _) = Answer::parse(head.as_bytes(), &Limits::default()).unwrap().unwrap();
            let cause = Cause::Error(Error::Status(Box::new(answer)));
            assert_eq!(retry_after(Some(&cause), now).as_secs(), seconds, "{status} {wish:?}");
        }
        assert_eq!(retry_after(Some(&Cause::Requested), now), Duration::ZERO);
        assert_eq!(retry_after(None, now), Duration::ZERO);
    }
}
