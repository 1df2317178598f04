//! The table of the cluster: real brokers and real nodes, each side of a comparison against the bare client that it stands
//! on. `scripts/bench-cluster` starts the servers; `pulso-benches-cluster table` measures on those that run already, once all
//! binaries are built (`cargo build --release -p pulso-benches --features cluster --bins`): librdkafka alone is one of its own,
//! since ours gives its allocator to the C code too.
//!
//! [`place`] says where they are and makes topics, [`ram_store`] takes totals that no node takes, [`rows`] are the usage rows of the store's figures, [`role`] is what the
//! processes of a run do, [`table`] compares them. Only the CPU time of our process or the client's counts, never the server's.

pub mod held_log;
pub mod place;
pub mod ram_store;
pub mod role;
pub mod rows;
pub mod table;
