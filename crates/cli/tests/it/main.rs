//! Integration tests of the command, in one program.
#![cfg(unix)]

mod commands;
mod terminal;
