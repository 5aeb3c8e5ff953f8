//! Patterns of a router that can't be used.

/// A pattern of a [`Router`](crate::Router) is malformed, or can't be told from another one.
#[derive(Debug, thiserror::Error)]
#[error("can't route {pattern:?}: it {problem}")]
#[non_exhaustive]
pub struct RouteError {
    /// The pattern.
    pub pattern: String,
    /// The problem.
    pub problem: String,
}
