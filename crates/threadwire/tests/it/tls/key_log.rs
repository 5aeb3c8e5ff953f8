//! Key logs (`SSLKEYLOGFILE`): written by both sides on every face, unless they are told not to.

use std::path::Path;

use crate::common::bounded;
use crate::common::certificates::{Authority, Files};
use crate::common::process::alone_with;
use crate::common::secure::{FACES, Secure};

/// How many lines of this kind there are.
fn count(log: &Path, label: &str) -> usize {
    let log = std::fs::read_to_string(log).unwrap_or_default();
    log.lines().filter(|line| line.starts_with(label)).count()
}

#[test]
fn both_sides_log_their_keys_where_the_environment_says_so_unless_told_not_to() {
    let files = Files::empty();
    let log = files.write("keys", "");
    alone_with(&[("SSLKEYLOGFILE", log.as_os_str())], || {
        bounded(|| {
            let log = std::env::var_os("SSLKEYLOGFILE").unwrap();
            let log = Path::new(&log);
            let authority = Authority::new("authority");
            let identity = authority.sign(&["localhost"]);
            let mut expected = 0;
            for (server_logs, client_logs) in [(true, true), (true, false), (false, true), (false, false)] {
                let tls = identity.server();
                let tls = if server_logs { tls } else { tls.no_key_log().unwrap() };
                let server = Secure::with(tls);
                let trust = authority.trusted().no_resumption();
                let trust = if client_logs { trust } else { trust.no_key_log() };
                for (face, connect) in FACES {
                    connect(&server.client(trust.clone())).unwrap();
                    expected += usize::from(server_logs) + usize::from(client_logs);
                    assert_eq!(count(log, "CLIENT_TRAFFIC_SECRET_0 "), expected, "{face}");
                }
            }
        });
    });
}
