//! The command as a person uses it.
#![cfg(unix)]

mod commands;
mod terminal;
