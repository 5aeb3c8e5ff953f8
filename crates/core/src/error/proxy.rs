//! Proxy failures.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use threadwire_proto::handshake::{Answer, HandshakeError};

use super::Error;
use super::io_kind::is_forbidden;
use super::refusal::Refusal;
use super::transience::is_passing;

/// The way through a proxy failed.
#[derive(Debug)]
#[non_exhaustive]
pub struct ProxyError {
    /// The proxy's URL, without user name and password.
    pub proxy: String,
    /// Why.
    pub problem: ProxyProblem,
}

impl StdError for ProxyError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.problem.source()
    }
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the proxy {} {}", self.proxy, self.problem)
    }
}

/// Why the way through a proxy failed: see [`Error::Proxy`].
///
/// ```
/// use threadwire::client::Proxy;
/// use threadwire::error::{HandshakeError, ProxyProblem};
/// use threadwire::{Client, Error};
/// # use std::io::{Read, Write};
/// # let proxy = std::net::TcpListener::bind("127.0.0.1:0")?;
/// # let address = proxy.local_addr()?;
/// # let proxy = std::thread::spawn(move || {
/// #     let (mut stream, _) = proxy.accept().unwrap();
/// #     let _ = stream.read(&mut [0; 1024]);
/// #     stream.write_all(b"HTTP/1.1 407 Who are you?\r\nContent-Length: 0\r\n\r\n").unwrap();
/// # });
///
/// let client = Client::new("ws://example.com/")?.proxy(Proxy::new(&format!("http://{address}"))?);
/// match client.connect(|_ws: &threadwire::Connection, _message: threadwire::Message<'_>| Ok(())) {
///     Err(Error::Proxy(error)) => {
///         let ProxyProblem::Refused(answer) = &error.problem else { panic!("{error}") };
///         assert_eq!(answer.status(), 407);
///     }
///     other => panic!("{other:?}"),
/// }
/// # proxy.join().unwrap();
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum ProxyProblem {
    /// The proxy could not be reached: its name has no address, nobody listens, or its certificate is not accepted.
    Unreachable(Error),
    /// An HTTP proxy answered with another status than 200 to 299: its answer, with up to 4 KiB of the body. 407 asks for a
    /// user name and a password.
    Refused(Box<Answer>),
    /// A SOCKS4 proxy refused, with this code: 91 to 93.
    Socks4(u8),
    /// A SOCKS5 proxy refused, with this code (RFC 1928, section 6).
    Socks5(u8),
    /// A SOCKS5 proxy accepts no way to log in that was offered: none, and with a user name and a password if there are such.
    NoLogin,
    /// A SOCKS5 proxy does not accept the user name and the password.
    LoginRefused,
    /// The answer of an HTTP proxy is no HTTP response.
    BadAnswer(HandshakeError),
    /// The answer of a SOCKS proxy is not valid: what it is, and what was expected.
    BadReply(String),
    /// The proxy sent so many bytes behind its answer, where the server's would begin, which says nothing before it is asked.
    TooMuch {
        /// How many bytes.
        count: usize,
    },
    /// The proxy ended the connection before it had answered.
    Ended,
    /// Writing to it, or reading from it, failed.
    Io(io::Error),
    /// The proxy can't be asked for this host: why.
    Host(String),
}

impl ProxyProblem {
    /// Whether it may go away by itself, as [`Error::is_transient`] means it. A proxy that is busy or can't reach the server
    /// counts as such, one that forbids it does not. Its answers count as those of a server do.
    pub fn is_transient(&self) -> bool {
        match self {
            ProxyProblem::Unreachable(error) => error.is_transient(),
            ProxyProblem::Refused(answer) => is_passing(answer),
            // Refused or failed: it does not say which.
            ProxyProblem::Socks4(code) => *code == 91,
            // A general failure, a network or a host that can't be reached, a connection refused, a time to live that has expired.
            ProxyProblem::Socks5(code) => matches!(code, 1 | 3..=6),
            ProxyProblem::Ended => true,
            ProxyProblem::Io(error) => !is_forbidden(error),
            ProxyProblem::NoLogin
            | ProxyProblem::LoginRefused
            | ProxyProblem::BadAnswer(_)
            | ProxyProblem::BadReply(_)
            | ProxyProblem::TooMuch { .. }
            | ProxyProblem::Host(_) => false,
        }
    }

    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            ProxyProblem::Unreachable(error) => Some(error),
            ProxyProblem::BadAnswer(error) => Some(error),
            ProxyProblem::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl fmt::Display for ProxyProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProxyProblem::Unreachable(_) => f.write_str("can't be reached"),
            ProxyProblem::Refused(answer) => {
                let refusal = Refusal { answer, challenge: (407, "Proxy-Authenticate") };
                write!(f, "refused with {refusal}")
            }
            ProxyProblem::Socks4(code) => {
                let why = match code {
                    91 => "refused, or failed",
                    92 => "no identd on the client",
                    93 => "the client's identd names another user",
                    _ => "unknown to SOCKS4",
                };
                write!(f, "refused with code {code} ({why})")
            }
            ProxyProblem::Socks5(code) => {
                let why = match code {
                    1 => "a general failure",
                    2 => "its rules do not allow it",
                    3 => "the network can't be reached",
                    4 => "the host can't be reached",
                    5 => "the connection was refused",
                    6 => "the time to live has expired",
                    7 => "it can't connect",
                    8 => "it does not know such addresses",
                    _ => "unknown to RFC 1928",
                };
                write!(f, "refused with code {code} ({why})")
            }
            ProxyProblem::NoLogin => f.write_str("accepts no way to log in that was offered"),
            ProxyProblem::LoginRefused => f.write_str("does not accept the user name and the password"),
            ProxyProblem::BadAnswer(_) => f.write_str("gave no answer of HTTP"),
            ProxyProblem::BadReply(what) => write!(f, "gave no answer of SOCKS: {what}"),
            ProxyProblem::TooMuch { count } => {
                write!(f, "sent {count} bytes behind its answer, where the server's begin, expected none")
            }
            ProxyProblem::Ended => f.write_str("ended the connection before it had answered"),
            ProxyProblem::Io(_) => f.write_str("can't be talked to"),
            ProxyProblem::Host(why) => write!(f, "can't be asked: {why}"),
        }
    }
}
