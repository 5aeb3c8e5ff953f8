//! A worker as all threads see it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::inbox::{Inbox, Overflow};
use crate::mail::Mail;
use crate::waker::Waker;

/// Tells workers apart, for as long as the process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(pub(crate) u64);

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "worker {}", self.0)
    }
}

/// What a worker, its handles and its relatives share.
pub(crate) struct Node {
    pub(crate) id: WorkerId,
    pub(crate) name: Option<Arc<str>>,
    pub(crate) inbox: Inbox<Box<dyn Mail>, Waker>,
}

impl Node {
    pub(crate) fn new(name: Option<Arc<str>>, limit: Option<(usize, Overflow)>) -> Node {
        static COUNT: AtomicU64 = AtomicU64::new(1);
        Node { id: WorkerId(COUNT.fetch_add(1, Ordering::Relaxed)), name, inbox: Inbox::new(limit) }
    }
}
