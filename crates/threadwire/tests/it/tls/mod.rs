//! Tests of TLS.

mod broken_streams;
mod certificates;
mod key_log;
mod openssl;
mod transfer;
