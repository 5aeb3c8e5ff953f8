//! The floors of the house: which folder stands on which, and what a crate may not depend on.

/// Folders and files that stand beside one another.
pub(crate) struct Floor {
    pub(crate) number: u8,
    /// Paths from the workspace's root. Of those that a file's path begins with, the longest holds.
    pub(crate) paths: &'static [&'static str],
}

/// A file imports from its own floor and from those below it.
pub(crate) const FLOORS: &[Floor] = &[
    // Bytes to frames, threads with loops, the terminal.
    Floor {
        number: 0,
        paths: &["crates/proto/src", "crates/stopped/src", "crates/worker/src", "crates/printer/src"],
    },
    // Bytes and words.
    Floor {
        number: 1,
        paths: &[
            "crates/core/src/config",
            "crates/core/src/error",
            "crates/core/src/tls",
            "crates/core/src/trace",
            "crates/core/src/transport",
        ],
    },
    // The engine of a connection.
    Floor { number: 2, paths: &["crates/core/src/session"] },
    // Plans without I/O, and the crate's root.
    Floor { number: 3, paths: &["crates/core/src"] },
    // Faces, and connections on a loop.
    Floor { number: 5, paths: &["crates/threadwire/src"] },
    // Programs.
    Floor { number: 6, paths: &["crates/cli/src", "bench/src", "conformance/src", "xtask/src"] },
];

/// Crates that another must not depend on, directly or through others.
pub(crate) const FORBIDDEN: &[(&str, &[&str])] = &[
    ("threadwire-proto", &["mio", "tokio", "threadwire-worker"]),
    ("threadwire-worker", &["tokio", "threadwire-proto"]),
    ("threadwire-core", &["mio", "tokio", "threadwire-worker"]),
];

/// Imports that break a rule and are still there: a file, and the file it imports from. Meant to be empty.
pub(crate) const EXCEPTIONS: &[(&str, &str)] = &[];

/// Folders whose children may still import one another in circles. Meant to be empty.
pub(crate) const KNOTS: &[&str] = &["crates/threadwire/src"];
