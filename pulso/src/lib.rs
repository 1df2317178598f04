//! The one binary, `pulso`: every role in one process, and the commands that talk to a server.
//!
//! [`cli`] reads the command line. [`send`], [`import`] and [`read`] are clients of the published interface and use
//! nothing else.

pub mod cli;
pub mod client;
pub mod import;
pub mod read;
pub mod send;
