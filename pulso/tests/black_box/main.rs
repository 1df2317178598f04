//! The real binary from outside, as its users have it: every test starts its own server on port 0 over its own folder.

#[path = "../harness/mod.rs"]
mod harness;

mod again;
mod commands;
mod dead_letters;
mod events;
mod folder;
mod follow;
mod growing;
mod import;
mod reads;
mod stop;
