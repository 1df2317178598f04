//! The desk where dead letters are mended: what was done about one, how its pulse is fixed, what a replay would become,
//! and how it is sent again.
//!
//! Nothing is edited in place. Every decision is an action in the log, and a cell beside the letter that the fold writes
//! from there and the desk at once. What is sent again is an ordinary pulse: its id decides, so that a second replay, a
//! replay after a crash, and two at a time count once.

mod case;
mod decide;
mod fix;
mod judge;
mod send;

use std::time::Duration;

use pulso_domain::fingerprint::HashKey;
use pulso_domain::time::Instant;
use pulso_platform::log::Log;
use pulso_platform::store::Store;

pub use case::{Case, Done, LetterState, actions_between, case};
pub use decide::Decision;
pub use fix::{Changes, fixed};
pub use judge::{Accepted, Judge, Refusal, Verdict};
pub use send::Sent;

/// Says whether the catalog takes a SKU's pulses in a unit; `None` for a SKU that it does not know.
pub type Units<'a> = &'a dyn Fn(&str, &str) -> Option<bool>;

/// What the desk works on, as of one request.
#[derive(Clone, Copy)]
pub struct Desk<'a> {
    /// Where pulses and actions are appended.
    pub log: &'a dyn Log,
    /// Where letters, actions and ids stand.
    pub store: &'a dyn Store,
    /// The store's secret for id hashes.
    pub hash_key: HashKey,
    /// What the catalog says about units.
    pub units: Units<'a>,
    /// Now, in nanoseconds since the Unix epoch.
    pub now_nanos: i64,
    /// How far ahead a pulse may lie, as at the door. Back it may lie as far as the horizon's floor: who sends a dead
    /// letter again means to.
    pub accept_future: Duration,
}

impl Desk<'_> {
    /// Now.
    #[must_use]
    pub fn now(&self) -> Instant {
        let rest = i32::try_from(self.now_nanos.rem_euclid(1_000_000_000)).unwrap_or_default();
        Instant::new(self.now_nanos.div_euclid(1_000_000_000), rest).unwrap_or(Instant::EPOCH)
    }
}

/// Who does something, and why.
#[derive(Clone, Debug)]
pub struct Author {
    /// Who.
    pub actor: String,
    /// Why, in their words; may be empty.
    pub note: String,
}
