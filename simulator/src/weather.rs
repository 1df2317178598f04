//! How rough a seed is: how often each fault strikes and each actor acts. Drawn by the seed, so that some lives are calm,
//! some have one kind of trouble only, and some have all of it.

use crate::dice::Dice;
use crate::mutant::Mutant;

/// Chances in permille, and weights.
#[derive(Clone, Debug)]
pub struct Weather {
    /// Of a flush: the owner dies somewhere within it.
    pub crash: u32,
    /// Of a flush: some of its cells reach no quorum.
    pub trouble: u32,
    /// Of a flush: all of it is done, and the answer is lost.
    pub lost_ack: u32,
    /// Of a write that has its quorum: the third replica gets it late or never.
    pub laggard: u32,
    /// Of a write that a replica did not get at once: it lands later.
    pub late: u32,
    /// Of a read: it fails.
    pub read_fails: u32,
    /// Of a call to the store: someone else acts first.
    pub interleave: u32,
    /// Most owners at once.
    pub owners_max: usize,
    /// How often each action is taken.
    pub actions: [u32; Action::ALL.len()],
}

/// What can happen next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// An owner folds a few records.
    Fold,
    /// An owner flushes.
    Flush,
    /// A new owner opens the partition; the old ones go on as zombies.
    Open,
    /// An owner dies between two effects.
    Crash,
    /// An owner forgets rows.
    Evict,
    /// Runs are merged.
    Merge,
    /// Cells of runs that left the list are removed.
    Remove,
    /// Expired runs leave the list.
    Expire,
    /// An operator asks for a rewind.
    Rewind,
    /// The log drops its oldest records.
    Retain,
    /// A replica goes down or comes back.
    Replica,
    /// Late writes land.
    Land,
    /// A client appends to the second generation.
    Append,
}

impl Action {
    /// All of them, in the order of [`Weather::actions`].
    pub const ALL: [Self; 13] = [
        Self::Fold,
        Self::Flush,
        Self::Open,
        Self::Crash,
        Self::Evict,
        Self::Merge,
        Self::Remove,
        Self::Expire,
        Self::Rewind,
        Self::Retain,
        Self::Replica,
        Self::Land,
        Self::Append,
    ];
}

impl Weather {
    /// The weather of a seed.
    #[must_use]
    pub fn of(dice: &mut Dice, mutant: Option<Mutant>) -> Self {
        let rough = dice.below(4) as u32;
        let mut some = |max: u32| if rough == 0 { 0 } else { dice.below(max as usize + 1) as u32 };
        let mut weather = Self {
            crash: some(200),
            trouble: some(200),
            lost_ack: some(60),
            laggard: some(500),
            late: some(1000),
            read_fails: some(15),
            interleave: some(60),
            owners_max: 1 + some(2) as usize,
            actions: [
                30,
                14,
                3 + some(8),
                some(6),
                2 + some(8),
                10,
                5,
                6,
                1 + some(3),
                6,
                some(5),
                some(10),
                10,
            ],
        };
        weather.aim(mutant, dice);
        weather
    }

    /// Nothing fails, nobody dies, one owner.
    #[must_use]
    pub fn calm() -> Self {
        Self {
            crash: 0,
            trouble: 0,
            lost_ack: 0,
            laggard: 0,
            late: 0,
            read_fails: 0,
            interleave: 0,
            owners_max: 1,
            actions: [30, 14, 0, 0, 4, 10, 5, 0, 0, 0, 0, 0, 10],
        }
    }

    /// Some mutants need a rare schedule: it is made likelier for them.
    fn aim(&mut self, mutant: Option<Mutant>, _dice: &mut Dice) {
        if mutant == Some(Mutant::SkippedRowsNotWritten) {
            (self.crash, self.trouble, self.late) = (350, 300, 0);
            self.actions[Action::Open as usize] = 10;
        }
    }
}
