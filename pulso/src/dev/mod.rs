//! `pulso dev`: every role in one process.

pub mod folder;
pub mod settings;

pub use settings::DevArgs;
