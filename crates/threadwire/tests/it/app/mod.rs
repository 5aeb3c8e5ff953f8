//! Tests of the app face.

mod callbacks;
mod requests;
