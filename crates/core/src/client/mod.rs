//! Clients without I/O: settings, and the route from a URL to an open connection.

mod chunked;
mod cookies;
#[doc(hidden)]
pub mod dns_threads;
#[doc(hidden)]
pub mod exchange;
#[doc(hidden)]
pub mod headers;
mod proxy;
#[doc(hidden)]
pub mod race;
mod redact;
mod redirect;
mod response_reader;
#[doc(hidden)]
pub mod route;
#[doc(hidden)]
pub mod settings;
#[doc(hidden)]
pub mod socket;
mod socks4;
mod socks5;
mod target;
mod timeouts;
mod tunnel;

pub use cookies::CookieJar;
pub use headers::HeaderList;
pub use proxy::Proxy;
pub use socket::Socket;
pub use target::Target;
pub use timeouts::Timeouts;
