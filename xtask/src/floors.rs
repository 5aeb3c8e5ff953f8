//! The floors of the house: which folder stands on which, and what a crate may not depend on.

/// Folders and files that stand beside one another.
pub(crate) struct Floor {
    pub(crate) number: u8,
    /// Modules, with all that is inside of them: folders or files, without `.rs`, from the workspace's root. The innermost that a file belongs
    /// to says where it stands.
    pub(crate) paths: &'static [&'static str],
    /// Whether none of the paths imports from another of this floor.
    pub(crate) is_apart: bool,
}

const fn floor(number: u8, paths: &'static [&'static str]) -> Floor {
    Floor { number, paths, is_apart: false }
}

/// A file imports from its own floor and from those below it.
pub(crate) const FLOORS: &[Floor] = &[
    // Bytes to frames, threads with loops, the terminal.
    floor(
        0,
        &[
            "crates/proto/src",
            "crates/stopped/src",
            "crates/guard/src",
            "crates/worker/src",
            "crates/printer/src",
        ],
    ),
    // Bytes and words.
    floor(
        1,
        &[
            "crates/core/src/config",
            "crates/core/src/error",
            "crates/core/src/tls",
            "crates/core/src/trace",
            "crates/core/src/transport",
        ],
    ),
    // The engine of a connection.
    floor(2, &["crates/core/src/session"]),
    // Plans without I/O, and the crate's root.
    floor(3, &["crates/core/src"]),
    // Connections on a loop, and all that is not a face.
    floor(4, &["crates/threadwire/src"]),
    // Faces.
    Floor {
        number: 5,
        paths: &[
            "crates/threadwire/src/aio",
            "crates/threadwire/src/app",
            "crates/threadwire/src/blocking",
            "crates/threadwire/src/listener",
        ],
        is_apart: true,
    },
    // Programs.
    floor(
        6,
        &["crates/threadwire/src/lib.rs", "crates/cli/src", "bench/src", "conformance/src", "xtask/src"],
    ),
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
pub(crate) const KNOTS: &[&str] = &[];
