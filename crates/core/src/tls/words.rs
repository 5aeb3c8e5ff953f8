//! Plain words for errors of rustls, which names many things as its code does.

use std::fmt;

use rustls::{CertificateError, Error, OtherError};

use super::verify::CertificateRefused;

/// An error of rustls that reads as a sentence.
#[derive(Debug)]
pub(super) struct InWords(pub(super) Error);

impl std::error::Error for InWords {}

impl fmt::Display for InWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. }) => {
                f.write_str("the certificate is not valid for the name")
            }
            Error::InvalidCertificate(CertificateError::Other(OtherError(other))) => {
                match (other.downcast_ref::<CertificateRefused>(), other.downcast_ref::<webpki::Error>()) {
                    (Some(refused), _) => f.write_str(refused.rule),
                    (None, Some(error)) => {
                        write!(f, "invalid peer certificate: {}", uncamel(&format!("{error:?}")))
                    }
                    (None, None) => write!(f, "invalid peer certificate: {other}"),
                }
            }
            // What others have put into words, names and dates among it, stays as it is.
            Error::General(text) => f.write_str(text),
            Error::Other(error) => write!(f, "{error}"),
            error => f.write_str(&uncamel(&error.to_string())),
        }
    }
}

/// Splits the words that stand together as in `HandshakeFailure`. What is upper case as a whole stays so.
fn uncamel(text: &str) -> String {
    let mut plain = String::with_capacity(text.len() + 8);
    let mut letters = text.chars().peekable();
    let mut before = ' ';
    while let Some(letter) = letters.next() {
        let begins_word = letter.is_uppercase() && before.is_alphanumeric() && !before.is_uppercase();
        if begins_word {
            plain.push(' ');
        }
        let is_of_acronym = letter.is_uppercase()
            && (letters.peek().is_some_and(|next| next.is_uppercase())
                || before.is_uppercase() && letters.peek().is_none_or(|next| !next.is_lowercase()));
        match is_of_acronym {
            true => plain.push(letter),
            false => plain.extend(letter.to_lowercase()),
        }
        before = letter;
    }
    plain
}

#[cfg(test)]
mod tests {
    use rustls::AlertDescription;

    use super::*;

    #[test]
    fn names_of_code_become_words_and_what_is_upper_case_stays() {
        for (alert, words) in [
            (AlertDescription::HandshakeFailure, "received fatal alert: handshake failure"),
            (AlertDescription::UnknownCA, "received fatal alert: unknown CA"),
            (AlertDescription::UnrecognisedName, "received fatal alert: unrecognised name"),
        ] {
            assert_eq!(InWords(Error::AlertReceived(alert)).to_string(), words);
        }
        for (error, words) in [
            (CertificateError::UnknownIssuer, "invalid peer certificate: unknown issuer"),
            (CertificateError::BadEncoding, "invalid peer certificate: bad encoding"),
            (
                CertificateError::Other(OtherError(std::sync::Arc::new(webpki::Error::CaUsedAsEndEntity))),
                "invalid peer certificate: ca used as end entity",
            ),
        ] {
            assert_eq!(InWords(error.into()).to_string(), words);
        }
        assert_eq!(InWords(Error::General("NoWay".to_owned())).to_string(), "NoWay");
    }
}
