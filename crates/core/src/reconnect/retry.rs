//! Retry decisions: which ends are worth another attempt, and how long a server wants to be left alone (`Retry-After`).

use std::time::{Duration, SystemTime};

use threadwire_proto::handshake::Answer;

use super::Cause;
use crate::error::{Error, ProxyProblem};
use threadwire_guard::contain;

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

/// How long a server, or a proxy, wants to be left alone by its answer: its `Retry-After`, in seconds or a date (RFC 9110, section
/// 10.2.3), whatever its status. Where there are several, the longest.
pub fn retry_after(cause: Option<&Cause>, now: SystemTime) -> Duration {
    let Some(answer) = cause.and_then(Cause::error).and_then(answer) else { return Duration::ZERO };
    // A date is one of the server's clock; this machine's may be wrong.
    let its_now = answer.header("Date").and_then(|date| httpdate::parse_http_date(date.trim()).ok());
    let now = its_now.unwrap_or(now);
    answer.headers().get_all("Retry-After").map(|wish| asked(wish.trim(), now)).max().unwrap_or_default()
}

/// The answer that an error is about.
fn answer(error: &Error) -> Option<&Answer> {
    match error {
        Error::Status(answer) => Some(answer),
        Error::Proxy(error) => match &error.problem {
            ProxyProblem::Refused(answer) => Some(answer),
            _ => None,
        },
        _ => None,
    }
}

/// A wait as it was written. Seconds with a fraction are against the grammar, but there are servers that write them.
fn asked(wish: &str, now: SystemTime) -> Duration {
    if wish.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
        && let Ok(seconds) = wish.parse::<f64>()
    {
        return Duration::try_from_secs_f64(seconds.ceil()).unwrap_or(Duration::MAX);
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
    use threadwire_proto::handshake::Limits;

    use super::*;
    use crate::error::ProxyError;

    #[test]
    fn whoever_refuses_says_for_how_long_with_any_status() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        for (wish, seconds) in [
            ("Retry-After: 120\r\n", 120),
            ("retry-after:  7 \r\n", 7),
            ("Retry-After: 0.3\r\n", 1),
            ("Retry-After: Sun, 06 Nov 1994 08:50:37 GMT\r\n", 60),
            ("Retry-After: Sunday, 06-Nov-94 08:50:37 GMT\r\n", 60),
            ("Retry-After: Sun Nov  6 08:50:37 1994\r\n", 60),
            ("Retry-After: Sun, 06 Nov 1994 08:49:00 GMT\r\n", 0),
            ("Date: Sun, 06 Nov 1994 08:48:57 GMT\r\nRetry-After: Sun, 06 Nov 1994 08:49:00 GMT\r\n", 3),
            ("Date: today\r\nRetry-After: Sun, 06 Nov 1994 08:49:40 GMT\r\n", 3),
            ("Retry-After: 3\r\nRetry-After: 8\r\nRetry-After: soon\r\n", 8),
            ("Retry-After: soon\r\n", 0),
            ("Retry-After: -5\r\n", 0),
            ("Retry-After: .\r\n", 0),
            ("Retry-After: \r\n", 0),
            ("Retry-After: 99999999999999999999999\r\n", u64::MAX),
            ("", 0),
        ] {
            for status in [301, 302, 403, 404, 408, 418, 425, 429, 500, 503, 599] {
                let head = format!("HTTP/1.1 {status} x\r\n{wish}\r\n");
                let answer = || {
                    let (answer, _) = Answer::parse(head.as_bytes(), &Limits::default()).unwrap().unwrap();
                    Box::new(answer)
                };
                let direct = Error::Status(answer());
                let problem = ProxyProblem::Refused(answer());
                let by_proxy = Error::from(ProxyError { proxy: "http://proxy:8080".to_owned(), problem });
                for error in [direct, by_proxy] {
                    let asked = retry_after(Some(&Cause::Error(error)), now);
                    assert_eq!(asked.as_secs(), seconds, "{status} {wish:?}");
                }
            }
        }
        assert_eq!(retry_after(Some(&Cause::Requested), now), Duration::ZERO);
        assert_eq!(retry_after(Some(&Cause::Error(Error::Lost)), now), Duration::ZERO);
        assert_eq!(retry_after(None, now), Duration::ZERO);
    }
}
