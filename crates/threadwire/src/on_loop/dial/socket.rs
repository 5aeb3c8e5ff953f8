//! Sockets that the program connects itself: made on a DNS thread, as they may block.

use std::rc::Rc;
use std::sync::Arc;

use super::{Attempt, attach, resolve};
use crate::connection::stream::Stream;
use threadwire_core::client::Target;
use threadwire_core::client::socket::{Open, Own};

pub(super) fn start(attempt: &Rc<Attempt>, open: Arc<Open>, target: Target) {
    let work = move || {
        let socket = open(&target)?.0;
        match &socket {
            Own::Tcp(socket) => socket.set_nonblocking(true)?,
            Own::Unix(socket) => socket.set_nonblocking(true)?,
        }
        Ok(socket)
    };
    resolve::offload(attempt, work, |attempt, socket| {
        let attached = match socket {
            Ok(Own::Tcp(socket)) => {
                let leaves_at_once = attempt.route.borrow().sockets().leaves_at_once();
                let socket = mio::net::TcpStream::from_std(socket);
                attach(attempt, Stream::tcp_with(socket, leaves_at_once))
            }
            Ok(Own::Unix(socket)) => attach(attempt, Stream::Unix(mio::net::UnixStream::from_std(socket))),
            Err(error) => Err(error.into()),
        };
        if let Err(error) = attached {
            attempt.fail(error);
        }
    });
}
