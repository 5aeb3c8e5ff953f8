//! The memory budget of compression engines, over all threads of the process.

use std::sync::atomic::{AtomicUsize, Ordering};

static BUDGET: AtomicUsize = AtomicUsize::new(32 << 20);
static IN_USE: AtomicUsize = AtomicUsize::new(0);

/// The number of bytes that the engines of all threads of this process may keep between messages: 32 MiB by default, which is room
/// for some 160 busy connections whose messages refer back to earlier ones. (Connections without context takeover share
/// one engine for each thread and direction.)
///
/// An engine that has done its message is given up if there are too many; but each thread that compresses keeps one for each
/// direction. A message that needs one always gets it, so that the budget can be overdrawn by those of messages that are
/// under way. What a thread keeps it keeps until it compresses again or ends.
pub fn memory_budget() -> usize {
    BUDGET.load(Ordering::Relaxed)
}

/// Sets [`memory_budget`], in bytes. With 0 each thread keeps one engine for each direction, and no more.
///
/// ```
/// use threadwire_proto::deflate;
///
/// deflate::set_memory_budget(8 << 20);
/// assert_eq!(deflate::memory_budget(), 8 << 20);
/// assert!(deflate::memory_in_use() <= 8 << 20);
/// ```
pub fn set_memory_budget(bytes: usize) {
    BUDGET.store(bytes, Ordering::Relaxed);
}

/// The number of bytes that the engines of all threads of this process hold now.
pub fn memory_in_use() -> usize {
    IN_USE.load(Ordering::Relaxed)
}

/// Whether that many bytes more would be past the budget.
pub(super) fn is_exceeded_by(more: usize) -> bool {
    memory_in_use().saturating_add(more) > memory_budget()
}

/// Memory that is counted until this is dropped.
#[derive(Debug)]
pub(super) struct Share(usize);

impl Share {
    pub(super) fn of(bytes: usize) -> Share {
        IN_USE.fetch_add(bytes, Ordering::Relaxed);
        Share(bytes)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        IN_USE.fetch_sub(self.0, Ordering::Relaxed);
    }
}
