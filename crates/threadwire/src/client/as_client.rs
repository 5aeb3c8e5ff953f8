//! Targets of `connect`: a URL, or a client.

use std::borrow::Cow;

use crate::{Client, Error};

/// A target of `connect`: a URL, or a [`Client`] with its settings. Only these: the trait is sealed.
///
/// ```
/// use threadwire::client::AsClient;
/// use threadwire::Client;
///
/// fn takes(_target: impl AsClient) {}
/// takes("ws://example.com/");
/// takes(format!("ws://{}/", "example.com"));
/// takes(&Client::new("ws://example.com/")?);
/// takes(Client::new("ws://example.com/")?);
/// # Ok::<(), threadwire::Error>(())
/// ```
pub trait AsClient: sealed::Sealed {}

impl<T: sealed::Sealed> AsClient for T {}

pub(crate) mod sealed {
    use super::{Client, Cow, Error};

    pub trait Sealed {
        fn client(&self) -> Result<Cow<'_, Client>, Error>;
    }

    impl Sealed for &str {
        fn client(&self) -> Result<Cow<'_, Client>, Error> {
            Client::new(self).map(Cow::Owned)
        }
    }

    impl Sealed for &String {
        fn client(&self) -> Result<Cow<'_, Client>, Error> {
            Client::new(self).map(Cow::Owned)
        }
    }

    impl Sealed for String {
        fn client(&self) -> Result<Cow<'_, Client>, Error> {
            Client::new(self).map(Cow::Owned)
        }
    }

    impl Sealed for Client {
        fn client(&self) -> Result<Cow<'_, Client>, Error> {
            Ok(Cow::Borrowed(self))
        }
    }

    impl Sealed for &Client {
        fn client(&self) -> Result<Cow<'_, Client>, Error> {
            Ok(Cow::Borrowed(self))
        }
    }
}
