//! Answer to an upgrade request: an upgrade with its headers and listener, or a plain response.

use std::fmt;

use threadwire_proto::handshake::{Headers, Response, refuse_reserved};

use crate::error::Error;

/// The answer to a request. `L` is the listener of the connection, on faces that have listeners.
pub enum Answer<L> {
    /// An upgrade to a connection, if the request is a valid one.
    Upgrade { listener: Option<L>, headers: Headers, subprotocol: Subprotocol },
    /// A plain response.
    Respond(Response),
}

/// Which subprotocol is agreed on.
#[derive(Clone, Debug, Default)]
pub enum Subprotocol {
    #[default]
    None,
    /// This one, which the request must offer.
    Exactly(String),
    /// The first of these that the request offers, which may have to be one.
    FirstOf { names: Vec<String>, is_required: bool },
}

impl<L> Answer<L> {
    pub fn upgrade(listener: Option<L>) -> Answer<L> {
        Answer::Upgrade { listener, headers: Headers::new(), subprotocol: Subprotocol::None }
    }

    /// Adds a header, unless it must not be sent.
    pub fn header(self, name: &str, value: &str) -> Result<Answer<L>, Error> {
        refuse_reserved(name)?;
        Ok(match self {
            Answer::Upgrade { listener, mut headers, subprotocol } => {
                headers.append(name, value)?;
                Answer::Upgrade { listener, headers, subprotocol }
            }
            Answer::Respond(response) => Answer::Respond(response.with_header(name, value)?),
        })
    }

    pub fn choose(mut self, chosen: Subprotocol) -> Result<Answer<L>, Error> {
        match &mut self {
            Answer::Upgrade { subprotocol, .. } => *subprotocol = chosen,
            Answer::Respond(_) => return Err(Error::other("only an upgrade has a subprotocol")),
        }
        Ok(self)
    }
}

impl<L> fmt::Debug for Answer<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Upgrade { headers, subprotocol, .. } => {
                f.debug_struct("Upgrade").field("headers", headers).field("subprotocol", subprotocol).finish()
            }
            Answer::Respond(response) => f.debug_tuple("Respond").field(response).finish(),
        }
    }
}
