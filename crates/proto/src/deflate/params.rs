//! Parameters of permessage-deflate as they are written in an offer or an answer (RFC 7692, section 7.1).

const SERVER_NO_CONTEXT_TAKEOVER: &str = "server_no_context_takeover";
const CLIENT_NO_CONTEXT_TAKEOVER: &str = "client_no_context_takeover";
const SERVER_MAX_WINDOW_BITS: &str = "server_max_window_bits";
const CLIENT_MAX_WINDOW_BITS: &str = "client_max_window_bits";

/// An error in the parameters of `permessage-deflate` (RFC 7692, section 7.1). An offer with such parameters is
/// declined; an answer with them fails the handshake.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParamError {
    /// A name that the RFC does not have.
    #[error("the parameter {0:?} is unknown")]
    Unknown(String),
    /// A name that stands there twice.
    #[error("the parameter {0} is repeated")]
    Repeated(&'static str),
    /// A value where none belongs.
    #[error("{0} takes no value")]
    HasValue(&'static str),
    /// A window size that is none, or is missing.
    #[error("{name} is {found}, expected a number from 8 to 15")]
    WindowBits {
        /// The parameter.
        name: &'static str,
        /// The value in quotes, or "missing".
        found: String,
    },
    /// An answer grants less than was asked for.
    #[error("{name} was offered as {offered}, but the answer has {found}")]
    NotGranted {
        /// The parameter.
        name: &'static str,
        /// The value that was offered.
        offered: String,
        /// The value of the answer.
        found: String,
    },
    /// An answer has a parameter that only the client may bring up.
    #[error("{0} was not offered")]
    NotOffered(&'static str),
    /// The extension is answered more than once.
    #[error("the extension is accepted twice")]
    AcceptedTwice,
}

/// Parameters that are fine each for itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Params {
    pub(super) server_no_context_takeover: bool,
    pub(super) client_no_context_takeover: bool,
    pub(super) server_max_window_bits: Option<u8>,
    /// Without a value, in an offer: the server may choose.
    pub(super) client_max_window_bits: Option<Option<u8>>,
}

impl Params {
    /// Reads names and values as they stand behind the name of the extension.
    pub(crate) fn parse<'a>(
        written: impl Iterator<Item = (&'a str, Option<&'a str>)>,
    ) -> Result<Params, ParamError> {
        let mut params = Params::default();
        for (name, value) in written {
            match name {
                SERVER_NO_CONTEXT_TAKEOVER => {
                    flag(SERVER_NO_CONTEXT_TAKEOVER, value, &mut params.server_no_context_takeover)?;
                }
                CLIENT_NO_CONTEXT_TAKEOVER => {
                    flag(CLIENT_NO_CONTEXT_TAKEOVER, value, &mut params.client_no_context_takeover)?;
                }
                SERVER_MAX_WINDOW_BITS => {
                    let bits = window_bits(SERVER_MAX_WINDOW_BITS, value)?;
                    once(SERVER_MAX_WINDOW_BITS, &mut params.server_max_window_bits, bits)?;
                }
                CLIENT_MAX_WINDOW_BITS => {
                    let bits = value.map(|_| window_bits(CLIENT_MAX_WINDOW_BITS, value)).transpose()?;
                    once(CLIENT_MAX_WINDOW_BITS, &mut params.client_max_window_bits, bits)?;
                }
                _ => return Err(ParamError::Unknown(name.chars().take(64).collect())),
            }
        }
        Ok(params)
    }

    /// Names and values as they are written.
    pub(crate) fn written(self) -> Vec<(String, Option<String>)> {
        let mut params = Vec::new();
        let mut add = |name: &str, value: Option<u8>| {
            params.push((name.to_owned(), value.map(|bits| bits.to_string())));
        };
        if self.server_no_context_takeover {
            add(SERVER_NO_CONTEXT_TAKEOVER, None);
        }
        if self.client_no_context_takeover {
            add(CLIENT_NO_CONTEXT_TAKEOVER, None);
        }
        if let Some(bits) = self.server_max_window_bits {
            add(SERVER_MAX_WINDOW_BITS, Some(bits));
        }
        if let Some(bits) = self.client_max_window_bits {
            add(CLIENT_MAX_WINDOW_BITS, bits);
        }
        params
    }

    /// Whether an answer fits what was offered.
    pub(super) fn check_answer_to(&self, offer: &Params) -> Result<(), ParamError> {
        if offer.server_no_context_takeover && !self.server_no_context_takeover {
            return Err(not_granted(SERVER_NO_CONTEXT_TAKEOVER, "a demand".to_owned(), None));
        }
        if let Some(offered) = offer.server_max_window_bits
            && self.server_max_window_bits.is_none_or(|bits| bits > offered)
        {
            return Err(not_granted(
                SERVER_MAX_WINDOW_BITS,
                offered.to_string(),
                self.server_max_window_bits,
            ));
        }
        match (offer.client_max_window_bits, self.client_max_window_bits) {
            (None, Some(_)) => Err(ParamError::NotOffered(CLIENT_MAX_WINDOW_BITS)),
            (Some(_), Some(None)) => {
                let found = "missing".to_owned();
                Err(ParamError::WindowBits { name: CLIENT_MAX_WINDOW_BITS, found })
            }
            (Some(Some(offered)), Some(Some(bits))) if bits > offered => {
                Err(not_granted(CLIENT_MAX_WINDOW_BITS, offered.to_string(), Some(bits)))
            }
            _ => Ok(()),
        }
    }
}

fn not_granted(name: &'static str, offered: String, found: Option<u8>) -> ParamError {
    let found = found.map_or_else(|| "nothing".to_owned(), |bits| bits.to_string());
    ParamError::NotGranted { name, offered, found }
}

fn flag(name: &'static str, value: Option<&str>, flag: &mut bool) -> Result<(), ParamError> {
    match (value, std::mem::replace(flag, true)) {
        (Some(_), _) => Err(ParamError::HasValue(name)),
        (None, true) => Err(ParamError::Repeated(name)),
        (None, false) => Ok(()),
    }
}

fn once<T>(name: &'static str, place: &mut Option<T>, value: T) -> Result<(), ParamError> {
    match place.replace(value) {
        Some(_) => Err(ParamError::Repeated(name)),
        None => Ok(()),
    }
}

/// 8 to 15, without leading zeros (RFC 7692, section 7.1.2).
fn window_bits(name: &'static str, value: Option<&str>) -> Result<u8, ParamError> {
    let bits = match value {
        Some("8") => 8,
        Some("9") => 9,
        Some("10") => 10,
        Some("11") => 11,
        Some("12") => 12,
        Some("13") => 13,
        Some("14") => 14,
        Some("15") => 15,
        Some(other) => {
            let found = format!("{:?}", other.chars().take(64).collect::<String>());
            return Err(ParamError::WindowBits { name, found });
        }
        None => return Err(ParamError::WindowBits { name, found: "missing".to_owned() }),
    };
    Ok(bits)
}
