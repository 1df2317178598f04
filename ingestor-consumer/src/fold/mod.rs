//! The fold: pulses become usage, exactly once. Pure: it takes records and returns what to write.
//!
//! [`partition`] is the state machine, [`prepare`] its first half and `apply` its second, [`checkpoint`] what it makes durable and in which order. Its parts, in the order a
//! pulse meets them: [`record`] reads, [`ids`] tells duplicates, [`rows`] count, [`directory`] remembers where, [`letters`]
//! keep what could not be counted, [`actions`] what was done about it, [`moved`] what goes to the next generation, `given_up` what was lost, [`state`] knows where the partition stands, [`halt`] is every way to stop.

pub mod actions;
mod apply;
pub mod checkpoint;
mod chunks;
pub mod directory;
mod earlier;
mod given_up;
pub mod halt;
pub mod ids;
pub mod letter_message;
pub mod letters;
pub mod moved;
mod narrow;
pub mod partition;
pub mod prepare;
pub mod record;
pub mod rows;
mod series;
pub mod state;
