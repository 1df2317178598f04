//! The roles on real servers, which `make test-cluster` starts: the same binary as in one process, one process for each role.
//!
//! All tests share one log and one store and have them to themselves in turn; each works on tenants or months of its own.

#[path = "../harness/mod.rs"]
#[expect(dead_code, reason = "the tests of one process need more of it")]
mod harness;

mod again;
mod bill;
mod desk;
mod doors;
mod fixture;
mod growing;
mod held;
mod kafka;
mod kill;
mod letters;
mod lost;
mod own;
mod quorum;
mod schedule;
mod wrong;
