//! Helpers of the protocol's tests: peers, pairs, chunks.

pub(crate) mod chunks;
pub(crate) mod pair;
pub(crate) mod peer;
