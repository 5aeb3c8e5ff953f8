//! Listening sockets: by address, by path, or given by the program.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use crate::error::Error;

/// How many connections may wait to be accepted.
#[doc(hidden)]
pub const BACKLOG: i32 = 4096;

/// A socket that listens, for a server of whatever face: at an address, or at a path; or one that was given, as by the manager of
/// services that has started the program.
///
/// ```
/// use threadwire::server::ListenSocket;
/// use threadwire::{Connection, Message, Reply, Server};
///
/// # let dir = std::env::temp_dir().join(format!("threadwire-listening-{}", std::process::id()));
/// # std::fs::create_dir_all(&dir)?;
/// # let path = dir.join("feed.sock");
/// let given = std::net::TcpListener::bind("127.0.0.1:0")?; // or by a crate such as `listenfd`
/// let server = Server::from_socket(ListenSocket::given_tcp(given)?)
///     .add_socket(ListenSocket::tcp("[::1]:0").or_else(|_| ListenSocket::tcp("127.0.0.1:0"))?)
///     .add_socket(ListenSocket::unix_with_mode(&path, 0o660)?)
///     .serve(|_| Reply::with(|ws: &Connection, message: Message<'_>| ws.send(message)))?;
/// for addr in server.local_addrs() {
///     println!("listening on {addr}");
/// }
/// # server.stop();
/// # server.join()?;
/// # assert!(!path.exists());
/// # std::fs::remove_dir(&dir)?;
/// # Ok::<(), threadwire::Error>(())
/// ```
#[derive(Debug)]
pub struct ListenSocket {
    #[doc(hidden)]
    pub socket: RawSocket,
    addr: ListenAddr,
}

#[derive(Debug)]
#[doc(hidden)]
pub enum RawSocket {
    Tcp(TcpListener),
    Unix {
        /// Before the socket, so that it is gone before others could find that nobody listens.
        file: Option<SocketFile>,
        socket: UnixListener,
    },
}

/// Where a server listens.
///
/// ```
/// let server = threadwire::Server::bind("127.0.0.1:0")?;
/// let addr = &server.local_addrs()[0];
/// assert!(addr.tcp().is_some() && addr.to_string().starts_with("127.0.0.1:"));
/// # Ok::<(), threadwire::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ListenAddr {
    /// An address of TCP.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
    /// A Unix socket that was given and has no path.
    Unnamed,
}

impl ListenAddr {
    /// The address of TCP, if it is one.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            ListenAddr::Tcp(addr) => Some(*addr),
            _ => None,
        }
    }

    /// The first address of TCP among these. Fails with [`AddrNotAvailable`](io::ErrorKind::AddrNotAvailable) if there is none.
    #[doc(hidden)]
    pub fn first_tcp(addrs: &[ListenAddr]) -> io::Result<SocketAddr> {
        addrs.iter().find_map(ListenAddr::tcp).ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
    }
}

/// `127.0.0.1:9001`, or `unix:/run/feed.sock`.
impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddr::Tcp(addr) => addr.fmt(f),
            ListenAddr::Unix(path) => write!(f, "unix:{}", path.display()),
            ListenAddr::Unnamed => f.write_str("unix:"),
        }
    }
}

impl ListenSocket {
    /// Listens on one address; of several that a name has, on the first that works. See [`tcp_all`](ListenSocket::tcp_all) for all of
    /// them, as `Server::bind` does it, and for `0.0.0.0` and `[::]` together.
    ///
    /// Fails with [`Error::Listen`].
    pub fn tcp(addr: impl ToSocketAddrs + fmt::Debug) -> Result<ListenSocket, Error> {
        let fail = |source| Error::listen(name(&addr), source);
        let mut result = no_address();
        for addr in addr.to_socket_addrs().map_err(fail)? {
            result = listen(addr, false, false).and_then(ListenSocket::of_tcp);
            if result.is_ok() {
                break;
            }
        }
        result.map_err(fail)
    }

    /// Listens on all of these addresses, and on each address of those that are names, as `localhost` has two on most machines. Addresses that this machine does not
    /// have are passed over, as long as the same name has others. With port 0, all of one name get the same port. Of
    /// addresses with several ports, given together in place of one, those with the first port that works are listened on.
    ///
    /// Where `0.0.0.0` and `[::]` are both among them, with the same port, the second is for IPv6 alone; otherwise it is for both, as the system has it.
    ///
    /// Fails with [`Error::Listen`].
    ///
    /// ```
    /// use threadwire::Server;
    /// use threadwire::server::ListenSocket;
    ///
    /// let sockets = ListenSocket::tcp_all(["127.0.0.1:0", "localhost:0"])?;
    /// assert!(sockets.len() >= 2);
    /// let mut sockets = sockets.into_iter();
    /// let first = sockets.next().expect("one at least");
    /// let server = sockets.fold(Server::from_socket(first), Server::add_socket);
    /// # let _ = server;
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn tcp_all<A: ToSocketAddrs + fmt::Debug>(
        addrs: impl IntoIterator<Item = A>,
    ) -> Result<Vec<ListenSocket>, Error> {
        let resolve = |addr: A| match addr.to_socket_addrs() {
            Ok(found) => Ok((name(&addr), found.collect())),
            Err(source) => Err(Error::listen(name(&addr), source)),
        };
        ListenSocket::resolved(&addrs.into_iter().map(resolve).collect::<Result<Vec<_>, Error>>()?)
    }

    /// The same with addresses that were found, each list with the name it belongs to.
    #[doc(hidden)]
    pub fn resolved(names: &[(String, Vec<SocketAddr>)]) -> Result<Vec<ListenSocket>, Error> {
        let all: Vec<SocketAddr> = names.iter().flat_map(|(_, addrs)| addrs).copied().collect();
        let mut sockets = Vec::new();
        for (name, addrs) in names {
            let mut result = no_address();
            for same_port in addrs.chunk_by(|one, next| one.port() == next.port()) {
                result = listen_on_each(same_port, &all);
                if result.is_ok() {
                    break;
                }
            }
            sockets.append(&mut result.map_err(|source| Error::listen(name.clone(), source))?);
        }
        Ok(sockets)
    }

    /// Listens on a Unix socket at a path. A socket that was left there by a server that has ended is removed, if nobody listens on it
    /// any more; anything else that is there stays. Of servers that start at the same time, one gets the path: the directory is locked
    /// (`flock`) for that moment. Where it can't be, as it may not be read, or is locked by others for half a second, nothing is removed. The file is removed when the server listens no more. Who may connect is
    /// for the permissions of its directory to say, and for those of the process's umask, or see
    /// [`unix_with_mode`](ListenSocket::unix_with_mode).
    ///
    /// Fails with [`Error::Listen`].
    pub fn unix(path: impl AsRef<Path>) -> Result<ListenSocket, Error> {
        ListenSocket::at_path(path.as_ref(), None)
    }

    /// The same, with permissions for the file: 0o600 for the user alone, 0o660 for the group too. It has them before anybody can connect.
    pub fn unix_with_mode(path: impl AsRef<Path>, mode: u32) -> Result<ListenSocket, Error> {
        ListenSocket::at_path(path.as_ref(), Some(mode))
    }

    fn at_path(path: &Path, mode: Option<u32>) -> Result<ListenSocket, Error> {
        let listen = || -> io::Result<ListenSocket> {
            // A socket of which others could find that nobody listens, and remove it, is there from here on until it listens.
            let locked = lock_directory(path);
            let socket = match bind_unix(path) {
                Err(error)
                    if error.kind() == io::ErrorKind::AddrInUse && locked.is_some() && is_left_over(path) =>
                {
                    fs::remove_file(path)?;
                    bind_unix(path)?
                }
                bound => bound?,
            };
            // From here on the file is ours, to be removed.
            let file = SocketFile::at(path)?;
            if let Some(mode) = mode {
                fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
            }
            socket.listen(BACKLOG)?;
            drop(locked);
            let socket = RawSocket::Unix { file: Some(file), socket: socket.into() };
            Ok(ListenSocket { socket, addr: ListenAddr::Unix(path.to_owned()) })
        };
        listen().map_err(|source| Error::listen(format!("unix:{}", path.display()), source))
    }

    /// A socket that listens already. Fails with [`Error::Io`] if it can't be used.
    pub fn given_tcp(socket: TcpListener) -> Result<ListenSocket, Error> {
        socket.set_nonblocking(true)?;
        Ok(ListenSocket::of_tcp(socket)?)
    }

    /// The same for a Unix socket, whose file stays when the server ends.
    pub fn given_unix(socket: UnixListener) -> Result<ListenSocket, Error> {
        socket.set_nonblocking(true)?;
        let addr = socket.local_addr()?;
        let addr = addr.as_pathname().map_or(ListenAddr::Unnamed, |path| ListenAddr::Unix(path.to_owned()));
        Ok(ListenSocket { socket: RawSocket::Unix { file: None, socket }, addr })
    }

    fn of_tcp(socket: TcpListener) -> io::Result<ListenSocket> {
        let addr = ListenAddr::Tcp(socket.local_addr()?);
        if INHERITS_NODELAY {
            SockRef::from(&socket).set_tcp_nodelay(true)?;
        }
        Ok(ListenSocket { socket: RawSocket::Tcp(socket), addr })
    }

    /// Where it listens, with the port that the system chose if port 0 was asked for.
    pub fn local_addr(&self) -> &ListenAddr {
        &self.addr
    }

    /// Makes `count` more sockets that listen where this one does; the system chooses one of them all for each connection. `None` for a
    /// socket that can't be shared like that.
    #[doc(hidden)]
    pub fn share(&self, count: usize) -> io::Result<Option<Vec<ListenSocket>>> {
        let RawSocket::Tcp(socket) = &self.socket else { return Ok(None) };
        let addr = socket.local_addr()?;
        let only_v6 = addr.is_ipv6() && SockRef::from(socket).only_v6()?;
        // A socket may agree to share its address also when it listens already: connections that wait there are not lost.
        SockRef::from(socket).set_reuse_port(count > 0)?;
        let others = (0..count).map(|_| listen(addr, true, only_v6).and_then(ListenSocket::of_tcp));
        others.collect::<io::Result<_>>().map(Some)
    }
}

/// Whether sockets that are accepted have TCP_NODELAY as the one that listens has: a system call less for each of them.
#[doc(hidden)]
pub const INHERITS_NODELAY: bool =
    cfg!(any(target_os = "linux", target_os = "android", target_os = "freebsd"));

/// An address as errors name it.
#[doc(hidden)]
pub fn name(addr: &impl fmt::Debug) -> String {
    format!("{addr:?}").trim_matches('"').to_owned()
}

fn no_address<T>() -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"))
}

/// Listens on addresses that have the same port, of `all` that are asked for.
fn listen_on_each(addrs: &[SocketAddr], all: &[SocketAddr]) -> io::Result<Vec<ListenSocket>> {
    /// A port that the system has chosen for one address may be taken at another.
    const TRIES: u32 = 8;
    let port = addrs.first().map_or(0, SocketAddr::port);
    let is_wild = |addr: &SocketAddr| addr.port() == port && addr.ip() == Ipv4Addr::UNSPECIFIED;
    let is_for_v4_too = !all.iter().any(is_wild);
    let mut tries = 1..TRIES;
    loop {
        match try_each(addrs, !is_for_v4_too) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && port == 0 && tries.next().is_some() => {
            }
            result => return result,
        }
    }
}

fn try_each(addrs: &[SocketAddr], wild_is_only_v6: bool) -> io::Result<Vec<ListenSocket>> {
    let mut sockets: Vec<ListenSocket> = Vec::new();
    let mut result = no_address();
    for addr in addrs {
        // The port that the system has chosen for the first one.
        let port = sockets.first().and_then(|first| first.addr.tcp()).map_or(addr.port(), |addr| addr.port());
        let addr = SocketAddr::new(addr.ip(), port);
        if sockets.iter().any(|socket| socket.addr == ListenAddr::Tcp(addr)) {
            continue;
        }
        let only_v6 = wild_is_only_v6 && addr.ip() == Ipv6Addr::UNSPECIFIED;
        match listen(addr, false, only_v6).and_then(ListenSocket::of_tcp) {
            Ok(socket) => sockets.push(socket),
            Err(error) if is_not_here(&error) => {
                tracing::debug!(%addr, %error, "does not listen on an address that is not there");
                result = Err(error);
            }
            Err(error) => return Err(error),
        }
    }
    if sockets.is_empty() { result } else { Ok(sockets) }
}

/// Whether this machine does not have an address, or nothing of its kind.
fn is_not_here(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    errno.is_some_and(|errno| matches!(errno, Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT))
}

/// Listens on an address. With `shared`, others of this process may do so too.
fn listen(addr: SocketAddr, shared: bool, only_v6: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if only_v6 {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn bind_unix(path: &Path) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    Ok(socket)
}

/// Keeps other servers from making a socket in the same directory, as long as what this returns is there. `None` if they can't be.
fn lock_directory(path: &Path) -> Option<File> {
    const TRIES: u32 = 50;
    const APART: Duration = Duration::from_millis(10);
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let lock = || -> io::Result<File> {
        let directory = File::open(parent.unwrap_or(Path::new(".")))?;
        // Every process that may read the directory can lock it; such a lock must not block this one for ever.
        for _ in 1..TRIES {
            match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK | Errno::INTR) => thread::sleep(APART),
                locked => return Ok(locked.map(|()| directory)?),
            }
        }
        flock(&directory, FlockOperation::NonBlockingLockExclusive)?;
        Ok(directory)
    };
    lock()
        .inspect_err(|error| {
            tracing::debug!(path = %path.display(), %error, "can't lock the directory of a socket");
        })
        .ok()
}

/// Whether there is a socket that nobody listens on.
fn is_left_over(path: &Path) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    // Connecting must not block: a server whose queue is full would hold this thread.
    let connect = || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.connect(&SockAddr::unix(path)?)
    };
    is_socket && connect().is_err_and(|error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// The file of a Unix socket that this process has made: it is removed when nobody listens any more, unless another one has taken its
/// place.
#[derive(Debug)]
#[doc(hidden)]
pub struct SocketFile {
    path: PathBuf,
    /// Which file it is.
    identity: (u64, u64),
}

impl SocketFile {
    fn at(path: &Path) -> io::Result<SocketFile> {
        // The working directory may change.
        let path = std::path::absolute(path)?;
        let identity = identity(&path)?;
        Ok(SocketFile { path, identity })
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::debug!(path = %self.path.display(), %error, "can't remove a socket");
        }
    }
}
