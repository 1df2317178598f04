//! The fold over a real Apache Cassandra, in fair and in bad weather. `make test-cluster` starts the server; without it
//! these tests fail.

mod faults;
mod folding;
mod history;
mod proxy;
