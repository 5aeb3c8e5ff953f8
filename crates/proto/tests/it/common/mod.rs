//! Helpers of the protocol's tests: peers, pairs, chunks.

pub(crate) mod chunks;
pub(crate) mod pair;
pub(crate) mod peer;

use std::time::Duration;

use proptest::test_runner::{Config, RngSeed};
use threadwire_proto::{Level, Role};

/// Both roles.
pub(crate) const ROLES: [Role; 2] = [Role::Client, Role::Server];
/// Both levels at which a user can read.
pub(crate) const LEVELS: [Level; 2] = [Level::Messages, Level::Frames];

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MS: Duration = Duration::from_millis(1);
pub(crate) const NANOSECOND: Duration = Duration::from_nanos(1);

/// This many random cases, the same in every run, so that a failure stays until it is mended.
pub(crate) fn fixed_cases(cases: u32) -> Config {
    Config { cases, rng_seed: RngSeed::Fixed(6455), failure_persistence: None, ..Config::default() }
}
