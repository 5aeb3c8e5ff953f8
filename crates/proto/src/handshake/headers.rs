//! Header fields: an ordered list of names and values, looked up without regard to case.
//!
//! Nothing gets in that could change the shape of a head: a name is a token and a value holds no line end,
//! NUL or other control character, whoever appends it. Header injection therefore cannot happen further out,
//! where the head is written.

use std::fmt;

use super::quote::quote;
use super::redact;

/// Header fields in the order they were received or added; a name may appear more than once.
///
/// Names compare without regard to ASCII case and keep the spelling they came in. Values are bytes: HTTP
/// allows any byte from 0x80 up in them and gives it no meaning. The methods that return `&str` pass over a
/// value that is not UTF-8; their `_bytes` twins see every value.
///
/// `Debug` hides what may be a credential by the rules of [`redact`], so that a head can be logged: whole
/// values, as those of `Authorization`, `Set-Cookie` and `X-Api-Key`, and in URLs user names, passwords,
/// tokens and fragments.
///
/// ```
/// use threadwire_proto::handshake::Headers;
///
/// let mut headers = Headers::new();
/// headers.append("Connection", "keep-alive, Upgrade")?;
/// assert_eq!(headers.get("connection"), Some("keep-alive, Upgrade"));
/// assert!(headers.contains_token("Connection", "upgrade"));
/// assert!(headers.append("X-Note", "one\r\nSet-Cookie: two").is_err());
/// # Ok::<(), threadwire_proto::handshake::HeaderError>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers {
    fields: Vec<(String, Vec<u8>)>,
}

/// Why a header field was refused. Values are never quoted: they may be secret.
///
/// ```
/// use threadwire_proto::handshake::{HeaderError, Headers};
///
/// let error = Headers::new().append("X-Note", "one\r\nX-Other: two").unwrap_err();
/// assert!(matches!(error, HeaderError::Value { byte: b'\r', offset: 3, .. }));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// The name is not a token: letters, digits and ``!#$%&'*+-.^_`|~``, at least one.
    #[error("{} is not a header name, expected a token (RFC 9110, section 5.6.2)", quote(.name.as_bytes()))]
    Name {
        /// The name as given.
        name: String,
    },
    /// The value holds a control character other than a tab; a line end would start another header.
    #[error(
        "the value of {name} has byte 0x{byte:02x} at offset {offset}, \
         control characters are not allowed (RFC 9110, section 5.5)"
    )]
    Value {
        /// The header's name.
        name: String,
        /// The first byte that is not allowed.
        byte: u8,
        /// The place of the byte in the value.
        offset: usize,
    },
    /// The handshake writes this header itself.
    #[error("{name} cannot be set by hand: {instead}")]
    Reserved {
        /// The header's name as given.
        name: String,
        /// The method to call instead.
        instead: &'static str,
    },
}

impl Headers {
    /// No fields.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a field behind all others. Spaces and tabs around the value are dropped, as a receiver would.
    ///
    /// # Errors
    ///
    /// [`HeaderError::Name`] if the name is not a token, [`HeaderError::Value`] if the value holds a control
    /// character.
    pub fn append(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<(), HeaderError> {
        let value = checked(name, value.as_ref())?;
        self.fields.push((name.to_owned(), value.to_vec()));
        Ok(())
    }

    /// Adds a field in place of all fields of that name.
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append); the fields are then as they were.
    pub fn set(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<(), HeaderError> {
        let value = checked(name, value.as_ref())?;
        self.remove(name);
        self.fields.push((name.to_owned(), value.to_vec()));
        Ok(())
    }

    /// Removes all fields of that name and says how many there were.
    pub fn remove(&mut self, name: &str) -> usize {
        let before = self.fields.len();
        self.fields.retain(|(field, _)| !field.eq_ignore_ascii_case(name));
        before - self.fields.len()
    }

    /// The first value of that name that is UTF-8.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.get_all(name).next()
    }

    /// The first value of that name, whatever its bytes.
    pub fn get_bytes(&self, name: &str) -> Option<&[u8]> {
        self.get_all_bytes(name).next()
    }

    /// All values of that name that are UTF-8, in order.
    ///
    /// ```
    /// use threadwire_proto::handshake::Headers;
    ///
    /// let mut headers = Headers::new();
    /// headers.append("Via", "1.1 one")?;
    /// headers.append("via", b"1.1 \xff")?;
    /// assert!(headers.get_all("VIA").eq(["1.1 one"]), "the other one is not UTF-8");
    /// assert_eq!(headers.get_all_bytes("VIA").count(), 2);
    /// headers.set("Via", "1.1 two")?;
    /// assert!(headers.iter().eq([("Via", &b"1.1 two"[..])]));
    /// # Ok::<(), threadwire_proto::handshake::HeaderError>(())
    /// ```
    pub fn get_all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.get_all_bytes(name).filter_map(|value| str::from_utf8(value).ok())
    }

    /// All values of that name, in order, whatever their bytes.
    pub fn get_all_bytes(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.iter().filter(move |(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Whether there is a field of that name.
    pub fn contains(&self, name: &str) -> bool {
        self.get_bytes(name).is_some()
    }

    /// Whether `token` is an element of the comma separated list that the fields of that name hold together,
    /// compared without regard to ASCII case (RFC 9110, section 5.6.1).
    pub fn contains_token(&self, name: &str, token: &str) -> bool {
        self.list(name).any(|element| element.eq_ignore_ascii_case(token.as_bytes()))
    }

    /// The elements of the comma separated list that the fields of that name hold together, without the white
    /// space around them; empty elements are passed over (RFC 9110, section 5.6.1).
    pub(super) fn list(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.get_all_bytes(name)
            .flat_map(|value| value.split(|&byte| byte == b','))
            .map(trim)
            .filter(|element| !element.is_empty())
    }

    /// All fields in order, names as they were spelled.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.fields.iter().map(|(name, value)| (name.as_str(), value.as_slice()))
    }

    /// The number of fields.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there are no fields.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Appends the fields to `out`, each as a line.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        for (name, value) in self.iter() {
            write_field(out, name, value);
        }
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self
            .iter()
            .map(|(name, value)| (name, redact::header(name, &String::from_utf8_lossy(value)).into_owned()));
        f.debug_map().entries(shown).finish()
    }
}

/// Appends one header line. The value must have been checked, or be our own.
pub(super) fn write_field(out: &mut Vec<u8>, name: &str, value: impl AsRef<[u8]>) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_ref());
    out.extend_from_slice(b"\r\n");
}

/// The value without the white space around it, if name and value may be sent.
fn checked<'v>(name: &str, value: &'v [u8]) -> Result<&'v [u8], HeaderError> {
    if !is_token(name.as_bytes()) {
        return Err(HeaderError::Name { name: name.to_owned() });
    }
    match value.iter().position(|&byte| byte.is_ascii_control() && byte != b'\t') {
        Some(offset) => Err(HeaderError::Value { name: name.to_owned(), byte: value[offset], offset }),
        None => Ok(trim(value)),
    }
}

/// Without the spaces and tabs at both ends ("OWS" of RFC 9110, section 5.6.3).
pub(super) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// Whether this is a token of RFC 9110, section 5.6.2.
pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| is_token_byte(byte))
}

pub(super) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
