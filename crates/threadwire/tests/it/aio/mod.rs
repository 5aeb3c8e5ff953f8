//! Tests of the async face.

mod async_guide;
mod attendance;
mod blocked_tasks;
mod cancellation;
mod closing;
mod fairness;
mod flushing;
mod handles;
#[cfg(feature = "axum")]
mod http_servers;
mod messages;
mod partial_messages;
mod reconnecting;
mod runtimes;
mod same_as_on_loops;
mod server;
mod streamed_sends;
#[cfg(feature = "tls")]
mod tls;
