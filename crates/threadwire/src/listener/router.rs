//! Router of the callback face's answers.

use threadwire_core::server::Router as AnyRouter;

use crate::Reply;

/// A request hook that goes by the path: it accepts with listeners, answers plain HTTP, and refuses the rest with 404. For every
/// server: give its [`hook`](Router::hook) to [`Server::serve`](crate::Server::serve) or to the `on_request` of the other faces, or
/// call [`answer`](Router::answer) in a hook of your own.
///
/// ```
/// use threadwire::server::{BasicAuth, Origins, Router};
/// use threadwire::{Connection, Message, Reply, Request, Response, Server};
///
/// fn room(request: &Request) -> Reply {
///     let room = request.param("id").unwrap_or_default().to_owned();
///     Reply::with(move |ws: &Connection, message: Message<'_>| {
///         ws.send(&format!("in {room}: {message}"))
///     })
/// }
///
/// let well = Response::new(200)?.with_body("well\n");
/// let router = Router::new()
///     .page("/healthz", move |_| well.clone())?
///     .check(Origins::new(["https://example.com"])?.or_none())
///     .route("/rooms/{id}", room)?
///     .check(BasicAuth::new("admin").user("ann", "secret")?)
///     .route("/admin/{*what}", |_| Reply::with(|ws: &Connection, _: Message<'_>| ws.close()))?;
///
/// let server = Server::bind("127.0.0.1:0")?.serve(router.hook())?;
/// # let mut ws = threadwire::blocking::connect(&format!("ws://{}/rooms/caf%C3%A9", server.local_addr()?))?;
/// # ws.send("hello")?;
/// # assert_eq!(ws.recv()?.unwrap(), "in café: hello");
/// # Ok::<(), threadwire::Error>(())
/// ```
///
/// # Patterns
///
/// | pattern | matches | parameter |
/// | --- | --- | --- |
/// | `/rooms` | `/rooms` | |
/// | `/rooms/{id}` | `/rooms/1`, not `/rooms`, `/rooms/` or `/rooms/1/2` | `id` is `1` |
/// | `/rooms/v{id}` | `/rooms/v1` | `id` is `1` |
/// | `/files/{*path}` | `/files/a/b.txt`, not `/files/` | `path` is `a/b.txt` |
/// | `/{{id}}` | `/{id}` | |
///
/// A pattern is written as people read it, decoded; a path is percent-decoded before it is compared, so that `/caf%C3%A9` and
/// `/%63afé` are the same. An encoded slash (`%2F`) separates nothing: it can be in a parameter only. What is fixed goes before what is a
/// parameter, in whatever order they were added. The query has no part in it ([`Request::query`]).
///
/// A path that can't be decoded (to UTF-8), that has a NUL in it, or that has a segment `.` or `..`, which clients resolve before they
/// send it (RFC 3986, section 5.2.4), is answered with 400. What is no path is as well. An encoded slash and a backslash end a segment
/// here, so that no parameter can lead out of a directory: `/files/..%2Fsecret` is refused.
///
/// [`Request::query`]: threadwire_proto::handshake::Request::query
pub type Router = AnyRouter<Reply>;
