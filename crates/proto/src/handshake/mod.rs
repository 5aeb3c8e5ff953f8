//! The opening handshake: an HTTP request and its answer, without I/O (RFC 6455, section 4).
//!
//! A server gives the bytes it receives to a [`HeadReader`] until it has a [`Request`]. It may answer it with
//! a plain [`Response`]; or it [checks](Request::upgrade) it and gets an [`Upgrade`], which writes the 101,
//! or a [`HandshakeError`], which knows the [response](HandshakeError::response) that says so. A client
//! describes its request with a [`RequestBuilder`], sends what the [`ClientRequest`] encodes, reads an
//! [`Answer`], and lets the request [verify](ClientRequest::verify) it.
//!
//! What a peer can do to make the two ends, or a proxy between them, see different messages in the same bytes
//! is refused: repeated headers that may come once, bodies, and in requests folded lines and line ends other
//! than CR LF. What only looks unusual is accepted: any case, lists over several headers, reason phrases that
//! make no sense, and whatever else the RFCs let a recipient take, as it can't be read in two ways. Strict is
//! what is sent.
//!
//! ```
//! use threadwire_proto::handshake::{Answer, Limits, Request, RequestBuilder};
//!
//! let limits = Limits::default();
//! let (mut sent, mut answered) = (Vec::new(), Vec::new());
//! let client = RequestBuilder::new("example.com", "/")?.build()?;
//! client.encode(&mut sent);
//!
//! let (request, _) = Request::parse(&sent, &limits)?.expect("it is all there");
//! request.upgrade()?.encode(&mut answered);
//!
//! let (answer, _) = Answer::parse(&answered, &limits)?.expect("it is all there");
//! let accepted = client.verify(answer)?;
//! assert_eq!(accepted.subprotocol, None);
//! # Ok::<(), threadwire_proto::handshake::HandshakeError>(())
//! ```

mod client;
mod deflate;
mod error;
mod extension;
mod head;
mod headers;
mod quote;
pub mod redact;
mod response;
mod rules;
mod server;

pub use client::{Accepted, Answer, ClientRequest, RequestBuilder};
pub use error::HandshakeError;
pub use extension::Extension;
pub use head::{HeadReader, Limits};
pub use headers::{HeaderError, Headers};
pub use response::Response;
pub use rules::refuse_reserved;
pub use server::{Request, Upgrade};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

/// The value of `Sec-WebSocket-Accept` that belongs to a `Sec-WebSocket-Key`: the SHA-1 of the key and a
/// fixed GUID, in base64 (RFC 6455, section 4.2.2, point 5.4). It proves that the server understood the
/// request, nothing more.
///
/// ```
/// use threadwire_proto::handshake::accept_key;
///
/// assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
/// ```
pub fn accept_key(key: &str) -> String {
    let hash = Sha1::new().chain_update(key).chain_update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11").finalize();
    STANDARD.encode(hash)
}
