//! Stack and memory of reconnect attempts: none left after twenty thousand.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use crate::common::process::{alone, resident};
use socket2::{Domain, Socket, Type};
use threadwire::reconnect::{Backoff, Change, State};
use threadwire::worker::EventLoop;
use threadwire::{Client, Connection, Message};

const ATTEMPTS: u32 = 20_000;

/// When memory and stack are looked at: first when everything has been used for a while.
const FROM: u32 = 2_000;

#[derive(Clone, Copy, Debug)]
struct Look {
    /// The address of something on the stack.
    stack: usize,
    resident: usize,
    sources: usize,
}

#[test]
fn twenty_thousand_failures_take_neither_stack_nor_memory() {
    alone(|| {
        // Taken, and nobody listens there.
        let place = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        place.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        let addr = place.local_addr().unwrap().as_socket().unwrap();

        let looks = Rc::new(RefCell::new(Vec::new()));
        let notes = Rc::clone(&looks);
        let on_change = move |change: &Change| {
            let marker = 0_u8;
            if matches!(change.state, State::Connecting { attempt: FROM | ATTEMPTS }) {
                let stack = std::ptr::from_ref(&marker).addr();
                let sources = EventLoop::current().source_count();
                notes.borrow_mut().push(Look { stack, resident: resident(), sources });
            }
        };
        let backoff = Backoff::default().first(Duration::ZERO).max_attempts(ATTEMPTS);
        let client = Client::new(&format!("ws://{addr}/")).unwrap();
        let handle =
            client.reconnect(backoff).on_change(on_change).start(|_: &Connection, _: Message<'_>| Ok(()));
        assert_eq!(handle.wait_ended().unwrap().state, State::GaveUp);

        let looks = looks.borrow();
        let [first, last] = looks[..] else { panic!("{looks:?}") };
        assert_eq!(first.stack, last.stack);
        assert_eq!((first.sources, last.sources), (1, 1));
        // Less than 64 bytes an attempt would be more.
        assert!(last.resident < first.resident + (1 << 20), "{first:?} {last:?}");
        assert_eq!(EventLoop::current().source_count(), 0);
    });
}
