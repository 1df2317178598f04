//! A run of many seeds: on all threads given, stopped at the first that is wrong.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::check::difference;
use crate::tally::Tally;
use crate::world::{Way, World};

/// Which seeds are run, and how.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// The first seed.
    pub first: u64,
    /// How many.
    pub seeds: u64,
    /// How each is led.
    pub way: Way,
    /// On how many threads.
    pub threads: usize,
    /// Whether the run ends at the first wrong seed.
    pub stops_at_wrong: bool,
}

/// A seed whose end is not what the log says.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Wrong {
    /// The seed.
    pub seed: u64,
    /// What is wrong: a halt, or the first difference, or else the broken rule.
    pub difference: String,
    /// What came out is right, or would have been: only the rule that equal versions carry equal bytes was broken.
    pub only_rule_broken: bool,
}

/// What came of a run.
#[derive(Clone, Default, Debug)]
pub struct Outcome {
    /// What happened.
    pub tally: Tally,
    /// Every wrong seed, in order.
    pub wrong: Vec<Wrong>,
}

impl Outcome {
    /// How many seeds came out wrong, and in how many more only the rule of equal bytes was broken.
    #[must_use]
    pub fn wrong_and_broken(&self) -> (usize, usize) {
        let broken = self.wrong.iter().filter(|wrong| wrong.only_rule_broken).count();
        (self.wrong.len() - broken, broken)
    }
}

/// Lives one seed, and compares.
#[must_use]
pub fn seed(seed: u64, way: Way) -> (Tally, Option<Wrong>) {
    let world = World::new(seed, way);
    world.live();
    let wrong = |only_rule_broken| move |difference| Wrong { seed, difference, only_rule_broken };
    let result = world.failure().or_else(|| difference(&world)).or_else(|| world.lookup_difference());
    let result = result.map(wrong(false));
    (world.tally(), result.or_else(|| world.violation().map(wrong(true))))
}

/// Lives one seed without any fault but one and two crashes: at every effect, and at every two effects that are less
/// than `apart` from each other. Gives how many lives that were, and the first that is wrong.
#[must_use]
pub fn every_crash(number: u64, records: usize, apart: u64) -> (u64, Option<Wrong>) {
    let way = Way { calm: true, records: Some(records), ..Way::default() };
    let world = World::new(number, way);
    world.live();
    let effects = world.store().effects_sent;
    let mut lives = 0;
    for one in 1..=effects {
        for other in one..(one + apart) {
            lives += 1;
            let (_, wrong) = seed(number, Way { crash_at: Some([one, other]), ..way });
            if wrong.is_some() {
                return (lives, wrong);
            }
        }
    }
    (lives, None)
}

/// Runs seeds.
#[must_use]
pub fn run(run: &Run) -> Outcome {
    let (next, stopped) = (AtomicU64::new(run.first), AtomicBool::new(false));
    let outcome = Mutex::new(Outcome::default());
    let end = run.first.saturating_add(run.seeds);
    let work = || {
        let mut own = Outcome::default();
        while !stopped.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= end {
                break;
            }
            let (tally, wrong) = seed(number, run.way);
            own.tally.add(&tally);
            stopped.fetch_or(wrong.is_some() && run.stops_at_wrong, Ordering::Relaxed);
            own.wrong.extend(wrong);
        }
        let mut outcome = outcome.lock();
        outcome.tally.add(&own.tally);
        outcome.wrong.append(&mut own.wrong);
    };
    std::thread::scope(|scope| {
        for _ in 0..run.threads.max(1) {
            scope.spawn(work);
        }
    });
    let mut outcome = outcome.into_inner();
    outcome.wrong.sort();
    outcome
}
