//! Shared part of the servers on tokio: a runtime of one thread, and a task for each connection.

use super::Outcome;
use std::net::Ipv4Addr;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime;

/// Serves 127.0.0.1 at `port`: each connection is given to `connection`, whose future is a task of its own.
pub(crate) fn serve<F>(port: u16, connection: impl Fn(TcpStream) -> F) -> Outcome
where
    F: Future<Output: Send> + Send + 'static,
{
    runtime::Builder::new_current_thread().enable_io().build()?.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(connection(stream));
        }
    })
}
