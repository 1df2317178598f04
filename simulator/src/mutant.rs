//! The usual shortcuts: each breaks one rule of the protocol, and each must be noticed.

use clap::ValueEnum;
use pulso_ingestor_consumer::fold::partition::FoldRules;

/// One shortcut.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, ValueEnum)]
pub enum Mutant {
    /// Rows are counters that are added to: `n = n + x`.
    Counters,
    /// Rows are absolute, and do not say up to which record.
    TotalsWithoutHwm,
    /// Rows are deltas under the offset that their batch began at, added up on read.
    LooseDeltas,
    /// The progress is written before what it passes.
    CheckpointBeforeFlush,
    /// The index says that an id was seen, not where.
    DedupWithoutPositions,
    /// Rows are written at the writer's time instead of their rank.
    WallClockTimestamps,
    /// Rows are evicted before the store has them.
    EvictionBeforeConfirmation,
    /// A row that was touched and not changed is not written again.
    SkippedRowsNotWritten,
    /// An owner that starts inside a range does not load what the range's run holds.
    RunWithoutBeginning,
    /// An own entry that stands in a listed run is not entered in the run that is still open here.
    OwnEntryNotEntered,
    /// A cell of a listed run that is missing is taken for an empty one.
    MissingTakenForNotFound,
    /// The list of runs is overwritten.
    ListWithoutCompareAndSet,
    /// A complete run is forgotten before it is listed.
    RunForgottenBeforeListed,
    /// A dead letter claims its id.
    DeadLetterClaimsId,
    /// Runs are removed once they have expired at the newest record, though a rewind can reach below it.
    ExpiryAboveRewind,
    /// The next generation is begun before the last one is checkpointed past its seal.
    NextBeforeCheckpointed,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::Counters,
        Self::TotalsWithoutHwm,
        Self::LooseDeltas,
        Self::CheckpointBeforeFlush,
        Self::DedupWithoutPositions,
        Self::WallClockTimestamps,
        Self::EvictionBeforeConfirmation,
        Self::SkippedRowsNotWritten,
        Self::RunWithoutBeginning,
        Self::OwnEntryNotEntered,
        Self::MissingTakenForNotFound,
        Self::ListWithoutCompareAndSet,
        Self::RunForgottenBeforeListed,
        Self::DeadLetterClaimsId,
        Self::ExpiryAboveRewind,
        Self::NextBeforeCheckpointed,
    ];

    /// The rules of the fold under this mutant.
    #[must_use]
    pub fn rules(mutant: Option<Self>) -> FoldRules {
        let mut rules = FoldRules::ALL;
        match mutant {
            Some(Self::EvictionBeforeConfirmation) => rules.only_confirmed_is_evicted = false,
            Some(Self::NextBeforeCheckpointed) => rules.next_waits_for_the_seal = false,
            // Alone it does no harm here, since a range that the list covers is closed; so that is broken too. With own
            // entries entered the other owner's bytes would be the same.
            Some(Self::OwnEntryNotEntered) => {
                (rules.own_entry_is_entered, rules.covered_range_is_closed) = (false, false);
            }
            Some(Self::RunForgottenBeforeListed) => rules.run_is_kept_until_listed = false,
            Some(Self::DeadLetterClaimsId) => rules.dead_letter_claims_nothing = false,
            _ => {}
        }
        rules
    }

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}
