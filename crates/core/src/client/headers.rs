//! Header lists that a program makes for a request.

use std::error::Error as StdError;

use crate::error::Error;

/// Headers for a request: pairs of a name and a value in an array or a vector, or a result with such. Sealed: only these.
/// There is an example at `App::headers`.
pub trait HeaderList: sealed::HeaderList {}

impl<T: sealed::HeaderList> HeaderList for T {}

#[doc(hidden)]
pub mod sealed {
    use super::{Error, StdError};

    pub trait HeaderList {
        fn into_list(self) -> Result<Vec<(String, String)>, Error>;
    }

    impl<N: Into<String>, V: Into<String>> HeaderList for Vec<(N, V)> {
        fn into_list(self) -> Result<Vec<(String, String)>, Error> {
            Ok(self.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
        }
    }

    impl<N: Into<String>, V: Into<String>, const COUNT: usize> HeaderList for [(N, V); COUNT] {
        fn into_list(self) -> Result<Vec<(String, String)>, Error> {
            Ok(self.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
        }
    }

    impl<L: HeaderList, E: Into<Box<dyn StdError + Send + Sync>>> HeaderList for Result<L, E> {
        fn into_list(self) -> Result<Vec<(String, String)>, Error> {
            self.map_err(Error::of_program)?.into_list()
        }
    }
}
