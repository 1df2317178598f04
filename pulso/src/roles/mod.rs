//! The roles: what each does, the frame they stand in, and the commands that run one of them in a cluster.
//!
//! The cluster is a feature, since Kafka's client takes some minutes to build; without it `built` says how to get it.

#[cfg(feature = "cluster")]
#[path = "cluster/mod.rs"]
pub mod built;
#[cfg(not(feature = "cluster"))]
#[path = "unbuilt.rs"]
pub mod built;
pub mod host;
pub(crate) mod parts;
pub mod place;
pub mod settings;
mod watch;
