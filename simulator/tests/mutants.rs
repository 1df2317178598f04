//! Each shortcut is noticed: a simulator that finds nothing wrong with them would prove nothing.

use pulso_simulator::mutant::Mutant;
use pulso_simulator::run::{Run, run};
use pulso_simulator::world::Way;

/// Seeds for each: enough that the rarest is met several times.
const SEEDS: u64 = 400;

/// The share of seeds that come out wrong. Caught is a result that is wrong, or a halt: that the rule of equal bytes was broken is not enough.
fn caught(mutant: Mutant) -> String {
    let way = Way { mutant: Some(mutant), ..Way::default() };
    let outcome = run(&Run { first: 2_000_000, seeds: SEEDS, way, threads: 2, stops_at_wrong: false });
    let (wrong, _) = outcome.wrong_and_broken();
    assert!(wrong > 0, "{} came out right in all of {SEEDS} seeds", mutant.name());
    format!("{}: {:.1} % wrong", mutant.name(), 100.0 * wrong as f64 / SEEDS as f64)
}

#[test]
fn counters_is_caught() {
    println!("{}", caught(Mutant::Counters));
}

#[test]
fn totals_without_hwm_is_caught() {
    println!("{}", caught(Mutant::TotalsWithoutHwm));
}

#[test]
fn loose_deltas_is_caught() {
    println!("{}", caught(Mutant::LooseDeltas));
}

#[test]
fn checkpoint_before_flush_is_caught() {
    println!("{}", caught(Mutant::CheckpointBeforeFlush));
}

#[test]
fn dedup_without_positions_is_caught() {
    println!("{}", caught(Mutant::DedupWithoutPositions));
}

#[test]
fn wall_clock_timestamps_is_caught() {
    println!("{}", caught(Mutant::WallClockTimestamps));
}

#[test]
fn eviction_before_confirmation_is_caught() {
    println!("{}", caught(Mutant::EvictionBeforeConfirmation));
}

#[test]
fn skipped_rows_not_written_is_caught() {
    println!("{}", caught(Mutant::SkippedRowsNotWritten));
}

#[test]
fn run_without_beginning_is_caught() {
    println!("{}", caught(Mutant::RunWithoutBeginning));
}

#[test]
fn own_entry_not_entered_is_caught() {
    println!("{}", caught(Mutant::OwnEntryNotEntered));
}

#[test]
fn missing_taken_for_not_found_is_caught() {
    println!("{}", caught(Mutant::MissingTakenForNotFound));
}

#[test]
fn list_without_compare_and_set_is_caught() {
    println!("{}", caught(Mutant::ListWithoutCompareAndSet));
}

#[test]
fn run_forgotten_before_listed_is_caught() {
    println!("{}", caught(Mutant::RunForgottenBeforeListed));
}

#[test]
fn dead_letter_claims_id_is_caught() {
    println!("{}", caught(Mutant::DeadLetterClaimsId));
}

#[test]
fn expiry_above_rewind_is_caught() {
    println!("{}", caught(Mutant::ExpiryAboveRewind));
}

#[test]
fn next_before_checkpointed_is_caught() {
    println!("{}", caught(Mutant::NextBeforeCheckpointed));
}
