//! Message that is sent in parts on tokio, each as a stream yields it.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use threadwire_core::session::parts::Kind;
use threadwire_proto::{CloseCode, OpCode, OwnedMessage, SendOptions};
use tokio::task::coop;

use super::core::Core;
use super::sending::Waiting;
use crate::Error;

/// Sends the parts of a message.
pub(super) async fn send_parts<P: Into<OwnedMessage>>(
    core: Arc<Core>,
    parts: impl Stream<Item = Result<P, Error>>,
) -> Result<(), Error> {
    let mut parts = pin!(parts);
    let (mut kind, mut unfinished) = (Kind::default(), None);
    while let Some(part) = poll_fn(|cx| parts.as_mut().poll_next(cx)).await {
        let part = part?.into();
        let opcode = kind.next(&part)?;
        let frame = (opcode, false, part.as_bytes());
        Waiting::new(&core, move |core, cx, number| core.poll_send_part(cx, frame, number)).await?;
        unfinished.get_or_insert_with(|| Unfinished(&core));
    }
    if unfinished.is_some() {
        let frame = (OpCode::Continuation, true, &b""[..]);
        Waiting::new(&core, move |core, cx, number| core.poll_send_part(cx, frame, number)).await?;
    }
    Ok(())
}

/// A message of which some parts were sent. Dropped before its last part, it can't be completed any more.
struct Unfinished<'a>(&'a Core);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        let is_left = self.0.with(|state, _| {
            let is_left = state.is_sending_parts;
            state.end_parts();
            is_left
        });
        if is_left && self.0.is_open() {
            // Code and reason are valid, so this fails only on a closed connection.
            let _ = self.0.close(CloseCode::INTERNAL_ERROR, "a message was not finished");
        }
    }
}

impl Core {
    /// Sends a part of a message, where there is room. The first one waits for other such messages as well.
    fn poll_send_part(
        &self,
        cx: &mut Context<'_>,
        (opcode, fin, payload): (OpCode, bool, &[u8]),
        number: &mut Option<u64>,
    ) -> Poll<Result<(), Error>> {
        let turn = ready!(coop::poll_proceed(cx));
        // Dropped when the lock is not held any more.
        let mut forgotten = None;
        let sent = ready!(self.with(|state, env| {
            let has_turn = match opcode {
                OpCode::Continuation => state.has_turn_in_message(cx, number),
                _ => state.has_turn(cx, number),
            };
            if !has_turn {
                return Poll::Pending;
            }
            if number.is_some() {
                forgotten = state.senders.forget(number);
            }
            let sent = state.send_frame(opcode, fin, payload, SendOptions::default(), env);
            if sent.is_ok() {
                match fin {
                    true => state.end_parts(),
                    false => state.is_sending_parts = true,
                }
            }
            Poll::Ready(sent)
        }));
        drop(forgotten);
        turn.made_progress();
        Poll::Ready(sent)
    }
}
