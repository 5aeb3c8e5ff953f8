//! Tests of the app face.

mod callbacks;
mod closing;
mod failures;
mod requests;
