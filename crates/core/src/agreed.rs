//! Outcome of an opening handshake: subprotocol, headers, and the server's permit for its client.

use std::sync::Arc;

use threadwire_proto::handshake::Headers;

use crate::server::admission::Guest;

/// The result of the opening handshake.
#[derive(Clone)]
pub struct Agreed {
    pub subprotocol: Option<String>,
    /// The headers of the server's answer.
    pub headers: Headers,
    /// On a server: what its program has attached, and what counts for its limits.
    pub guest: Option<Guest>,
}

impl Agreed {
    /// The headers, if anything was said.
    pub fn response_headers(&self) -> Option<&Headers> {
        let is_something = self.guest.is_none() || self.subprotocol.is_some() || !self.headers.is_empty();
        is_something.then_some(&self.headers)
    }

    pub fn attached<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.guest.as_ref()?.attached.get()
    }

    /// The connection has ended, though what is left of it may live on.
    pub fn give_permit_back(&self) {
        if let Some(permit) = self.guest.as_ref().and_then(|guest| guest.permit.as_ref()) {
            permit.give_back();
        }
    }
}
