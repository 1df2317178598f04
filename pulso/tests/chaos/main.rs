//! The real binary under kill -9, a full disk, damage and overload: every total is compared with a record of our own.

mod bill;
mod damage;
mod disk_full;
mod kill;
mod overload;
mod record;
mod senders;
mod server;
