//! Tests of TLS.

mod broken_streams;
mod certificates;
mod openssl;
mod transfer;
