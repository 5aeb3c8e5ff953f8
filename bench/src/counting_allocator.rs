//! Counting allocator: live heap bytes of the process. The only `unsafe` of this program.
//!
//! It counts only in a server that is asked for its heap (`idle`). Elsewhere it costs one load and a branch, the same
//! for every built-in server.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};

static COUNTING: AtomicBool = AtomicBool::new(false);
static LIVE: AtomicI64 = AtomicI64::new(0);

/// The system's allocator, with a count.
pub(crate) struct CountingAllocator;

/// Counts from now on. What was allocated before and is freed later makes the count too small by as much: only
/// differences of [`live`] mean something.
pub(crate) fn start() {
    COUNTING.store(true, Relaxed);
}

/// Bytes allocated and not freed since [`start`].
pub(crate) fn live() -> i64 {
    LIVE.load(Relaxed)
}

fn count(bytes: i64) {
    if COUNTING.load(Relaxed) {
        LIVE.fetch_add(bytes, Relaxed);
    }
}

// SAFETY: every method hands its arguments to `System`, which is a correct `GlobalAlloc`, and returns what that
// returned; the counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: the caller's promise about `layout` is the one `System` wants.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: as in `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        // SAFETY: `block` came from `System` with this `layout`: this allocator has no other source.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as i64 - layout.size() as i64);
        // SAFETY: as in `dealloc`; the caller's promise about `size` is the one `System` wants.
        unsafe { System.realloc(block, layout, size) }
    }
}
