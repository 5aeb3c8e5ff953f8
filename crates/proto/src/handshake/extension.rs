//! Extensions in `Sec-WebSocket-Extensions`, as they are offered and agreed on (RFC 6455, section 9.1).

use std::fmt;

use super::error::HandshakeError;
use super::headers::{Headers, is_token, is_token_byte};
use super::quote::quote;
use super::rules;

/// One extension with its parameters, as offered or agreed on.
///
/// ```
/// use threadwire_proto::handshake::Extension;
///
/// let offer = Extension::new("permessage-deflate")?.with_param("client_max_window_bits", None)?;
/// assert_eq!(offer.to_string(), "permessage-deflate; client_max_window_bits");
/// # Ok::<(), threadwire_proto::handshake::HandshakeError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension {
    name: String,
    params: Vec<(String, Option<String>)>,
}

impl Extension {
    /// An extension without parameters.
    ///
    /// # Errors
    ///
    /// [`HandshakeError::Token`] if the name is not a token.
    pub fn new(name: &str) -> Result<Self, HandshakeError> {
        Ok(Self { name: token(name)?, params: Vec::new() })
    }

    /// Adds a parameter, with or without a value.
    ///
    /// # Errors
    ///
    /// [`HandshakeError::Token`] if the name or the value is not a token.
    pub fn with_param(mut self, name: &str, value: Option<&str>) -> Result<Self, HandshakeError> {
        self.params.push((token(name)?, value.map(token).transpose()?));
        Ok(self)
    }

    /// An extension of which all is known to be tokens.
    pub(crate) fn of(name: &str, params: Vec<(String, Option<String>)>) -> Self {
        Self { name: name.to_owned(), params }
    }

    /// The name, as `permessage-deflate`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The parameters in order; the same name may come twice, which the extension has to judge.
    ///
    /// ```
    /// use threadwire_proto::handshake::Extension;
    ///
    /// let deflate = Extension::new("permessage-deflate")?
    ///     .with_param("server_no_context_takeover", None)?
    ///     .with_param("server_max_window_bits", Some("10"))?;
    /// let expected = [("server_no_context_takeover", None), ("server_max_window_bits", Some("10"))];
    /// assert!(deflate.params().eq(expected));
    /// # Ok::<(), threadwire_proto::handshake::HandshakeError>(())
    /// ```
    pub fn params(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.params.iter().map(|(name, value)| (name.as_str(), value.as_deref()))
    }
}

impl fmt::Display for Extension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        for (name, value) in self.params() {
            match value {
                Some(value) => write!(f, "; {name}={value}")?,
                None => write!(f, "; {name}")?,
            }
        }
        Ok(())
    }
}

/// The extensions that all `Sec-WebSocket-Extensions` fields hold together, in order. White space may stand
/// around every separator; empty elements of the list are passed over.
pub(super) fn parse(headers: &Headers) -> Result<Vec<Extension>, HandshakeError> {
    let mut extensions = Vec::new();
    for value in headers.get_all_bytes(rules::EXTENSIONS.name) {
        let mut cursor = Cursor { rest: value };
        while cursor.skip_to_element() {
            let extension = cursor.extension().ok_or_else(|| rules::EXTENSIONS.broken_by(value))?;
            extensions.push(extension);
        }
    }
    Ok(extensions)
}

/// The list of extensions as one header value.
pub(super) fn list(extensions: &[Extension]) -> String {
    extensions.iter().map(Extension::to_string).collect::<Vec<_>>().join(", ")
}

/// Reads one header value from left to right.
struct Cursor<'v> {
    rest: &'v [u8],
}

impl Cursor<'_> {
    /// Goes past white space and commas; whether anything is left.
    fn skip_to_element(&mut self) -> bool {
        while let [b' ' | b'\t' | b',', rest @ ..] = self.rest {
            self.rest = rest;
        }
        !self.rest.is_empty()
    }

    /// An extension up to its comma, or up to the end.
    fn extension(&mut self) -> Option<Extension> {
        let mut extension = Extension { name: self.token()?, params: Vec::new() };
        while self.separator(b';') {
            let name = self.token()?;
            let value = if self.separator(b'=') { Some(self.token_or_quoted()?) } else { None };
            extension.params.push((name, value));
        }
        (self.rest.is_empty() || self.rest[0] == b',').then_some(extension)
    }

    /// Goes past white space and then past `separator`, if that is next.
    fn separator(&mut self, separator: u8) -> bool {
        self.skip_white_space();
        match self.rest {
            [first, rest @ ..] if *first == separator => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    fn token(&mut self) -> Option<String> {
        self.skip_white_space();
        let end = self.rest.iter().position(|&byte| !is_token_byte(byte)).unwrap_or(self.rest.len());
        let (token, rest) = self.rest.split_at(end);
        self.rest = rest;
        as_token(token)
    }

    /// A value, with the quotes and backslashes taken off; it must be a token then too.
    fn token_or_quoted(&mut self) -> Option<String> {
        self.skip_white_space();
        let Some(mut rest) = self.rest.strip_prefix(b"\"") else { return self.token() };
        let mut value = Vec::new();
        loop {
            let (byte, after) = match rest {
                [b'"', after @ ..] => {
                    self.rest = after;
                    return as_token(&value);
                }
                [b'\\', byte, after @ ..] | [byte, after @ ..] => (*byte, after),
                [] => return None,
            };
            value.push(byte);
            rest = after;
        }
    }

    fn skip_white_space(&mut self) {
        while let [b' ' | b'\t', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }
}

fn as_token(bytes: &[u8]) -> Option<String> {
    if is_token(bytes) { String::from_utf8(bytes.to_vec()).ok() } else { None }
}

fn token(text: &str) -> Result<String, HandshakeError> {
    as_token(text.as_bytes()).ok_or_else(|| HandshakeError::Token { found: quote(text.as_bytes()) })
}
