//! The handshakes under way on a thread, in the order in which they began: where there are too many, the oldest is dropped.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use super::upgrade::Upgrading;
use threadwire_core::server::admission::{Gate, UnderWay};

thread_local! {
    static UNDER_WAY: RefCell<BTreeMap<Key, Weak<Upgrading>>> = const { RefCell::new(BTreeMap::new()) };
    static BEGUN: Cell<u64> = const { Cell::new(0) };
}

/// A server, and a number that grows.
type Key = (usize, u64);

/// A handshake's place, until it is over.
pub(super) struct Place {
    key: Key,
    _counted: UnderWay,
}

/// A handshake begins. If there are too many now, the oldest that this thread has of that server is dropped.
pub(super) fn enter(gate: &Arc<Gate>, upgrading: &Rc<Upgrading>) -> Place {
    let counted = gate.begin_handshake();
    if gate.has_too_many_handshakes() {
        drop_oldest(gate);
    }
    let key = (server(gate), BEGUN.replace(BEGUN.get() + 1));
    UNDER_WAY.with_borrow_mut(|under_way| under_way.insert(key, Rc::downgrade(upgrading)));
    Place { key, _counted: counted }
}

/// Drops the handshake of a server that has been under way for longest on this thread.
pub(super) fn drop_oldest(gate: &Arc<Gate>) {
    let server = server(gate);
    let oldest = UNDER_WAY.with_borrow_mut(|under_way| {
        let key = *under_way.range((server, 0)..=(server, u64::MAX)).next()?.0;
        under_way.remove(&key)
    });
    if let Some(oldest) = oldest.and_then(|oldest| oldest.upgrade()) {
        oldest.condemn("there are too many handshakes, and it was the oldest");
    }
}

fn server(gate: &Arc<Gate>) -> usize {
    Arc::as_ptr(gate).addr()
}

impl Drop for Place {
    fn drop(&mut self) {
        // At the end of the thread the list may be gone.
        let _ = UNDER_WAY.try_with(|under_way| under_way.borrow_mut().remove(&self.key));
    }
}
