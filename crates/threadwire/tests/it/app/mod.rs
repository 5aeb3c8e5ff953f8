//! Apps.

mod callbacks;
mod requests;
