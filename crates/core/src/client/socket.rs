//! Client sockets: made here and prepared by the program, or made by the program.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use socket2::{Domain, Protocol, SockAddr, Type};

use super::target::Target;
use crate::error::Error;

pub type Prepare = dyn Fn(BorrowedFd<'_>, SocketAddr) -> io::Result<()> + Send + Sync;
pub type Open = dyn Fn(&Target) -> io::Result<Socket> + Send + Sync;

/// A socket of the program's own, connected: over TCP, or a unix socket. Made from a stream of the standard library; whether
/// that blocks does not matter.
///
/// ```
/// use threadwire::client::Socket;
/// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// # let addr = listener.local_addr()?;
/// let socket = Socket::from(std::net::TcpStream::connect(addr)?);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Socket(pub Own);

#[derive(Debug)]
#[doc(hidden)]
pub enum Own {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl From<TcpStream> for Socket {
    fn from(stream: TcpStream) -> Socket {
        Socket(Own::Tcp(stream))
    }
}

impl From<UnixStream> for Socket {
    fn from(stream: UnixStream) -> Socket {
        Socket(Own::Unix(stream))
    }
}

/// How sockets are made and prepared.
#[derive(Clone, Default)]
#[doc(hidden)]
pub struct Sockets {
    /// The address of this side.
    pub local: Option<SocketAddr>,
    pub prepare: Option<Arc<Prepare>>,
    /// Whether small writes may wait for others.
    pub delays: bool,
}

impl Sockets {
    /// A socket that is not connected yet, and does not block.
    #[doc(hidden)]
    pub fn make(&self, to: SocketAddr) -> io::Result<socket2::Socket> {
        let socket = socket2::Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        if let Some(prepare) = &self.prepare {
            let prepared = threadwire_guard::run(|| prepare(socket.as_fd(), to));
            prepared.unwrap_or_else(|panicked| Err(io::Error::other(Error::panicked(panicked))))?;
        }
        if let Some(local) = self.local {
            if local.is_ipv4() != to.is_ipv4() {
                let what = format!("{} is of another family than the local address", to.ip());
                return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, what));
            }
            socket.bind(&SockAddr::from(local))?;
        }
        Ok(socket)
    }

    /// Whether small writes are to leave at once (TCP_NODELAY).
    #[doc(hidden)]
    pub fn leaves_at_once(&self) -> bool {
        !self.delays
    }
}

impl fmt::Debug for Sockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sockets")
            .field("local", &self.local)
            .field("is_prepared", &self.prepare.is_some())
            .finish()
    }
}
