//! Compression with Threadwire's callback face, with default settings.

use crate::servers::{Outcome, listener};
use threadwire::{Config, Deflate};

/// Serves 127.0.0.1 at `port`.
pub(super) fn run(port: u16, takeover: bool) -> Outcome {
    let deflate = Deflate::new().server_no_context_takeover(!takeover).client_no_context_takeover(!takeover);
    listener::run_with(port, Config::default().deflate(deflate))
}
