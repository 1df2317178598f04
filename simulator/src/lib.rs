//! Seeded simulation of the fold: the very code of the consumer on a store that fails in every way a store may.
//!
//! One seed is one life: a [`history`] (the log) is written, the [`oracle`] says what must come out of it, and the
//! [`world`] lets owners, zombies, background work and operators act in any order on [`replicas`] under the faults of
//! [`faulty`]. At its end [`check`] compares everything in the store with the oracle. [`mutant`]s are the usual
//! shortcuts; each must come out wrong, else this would prove nothing.

pub mod border;
pub mod check;
pub mod dice;
pub mod faulty;
pub mod history;
mod logs;
pub mod mutant;
mod operator;
pub mod oracle;
pub mod replicas;
pub mod run;
pub mod tally;
mod turns;
pub mod weather;
pub mod world;
