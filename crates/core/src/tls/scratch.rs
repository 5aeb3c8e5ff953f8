//! Scratch memory of a thread, lent to its TLS sessions for one call each.

use std::cell::RefCell;

/// The size of each piece, in bytes.
pub(super) const SIZE: usize = 68 << 10;

/// The most that are kept. A call needs two, and one more for each layer of TLS under it.
const KEPT: usize = 4;

thread_local! {
    static FREE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Lends at least this many bytes, with whatever is in them.
#[inline]
pub(super) fn lend(size: usize) -> Vec<u8> {
    let free = FREE.try_with(|free| free.borrow_mut().pop()).ok().flatten();
    let mut bytes = free.unwrap_or_else(|| vec![0; SIZE]);
    if bytes.len() < size {
        bytes.resize(size, 0);
    }
    bytes
}

#[inline]
pub(super) fn give_back(bytes: Vec<u8>) {
    // A thread that ends keeps nothing.
    let _ = FREE.try_with(|free| {
        let mut free = free.borrow_mut();
        if free.len() < KEPT && bytes.len() < 2 * SIZE {
            free.push(bytes);
        }
    });
}
