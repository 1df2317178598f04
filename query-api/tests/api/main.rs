//! The API over its real router: every good path, every bad input, on an embedded log and a store in memory.

mod bad_input;
mod catalog;
mod desk;
mod desk_cases;
mod document;
mod explain;
mod fixture;
mod money;
mod operations;
mod paging;
mod serving;
mod usage;
mod waiting;
