//! The protocol holds, under faults that are proved to be there.

use pulso_simulator::mutant::Mutant;
use pulso_simulator::run::{Outcome, Run, every_crash, run};
use pulso_simulator::world::Way;

fn outcome(seeds: u64, way: Way) -> Outcome {
    run(&Run { first: 1_000_000, seeds, way, threads: 2, stops_at_wrong: true })
}

#[test]
fn g03_g04_g09_nothing_is_lost_or_doubled_under_any_schedule_of_faults() {
    let outcome = outcome(3000, Way::default());
    assert_eq!(outcome.wrong, [], "run: cargo run -p pulso-simulator -- run --first SEED --seeds 1");
    assert_eq!(outcome.tally.too_few(), Vec::<&str>::new(), "{}", outcome.tally);
    assert_eq!(outcome.tally.seeds, 3000);
    assert!(outcome.tally.crashes > 3000 && outcome.tally.expiries > 100, "{}", outcome.tally);
}

#[test]
fn without_faults_the_mutants_that_only_faults_reveal_are_right_too() {
    // So it is not the harness that fails them. The others break under merging, evictions or a change of owners alone.
    for mutant in [
        Mutant::LooseDeltas,
        Mutant::TotalsWithoutHwm,
        Mutant::CheckpointBeforeFlush,
        Mutant::WallClockTimestamps,
        Mutant::SkippedRowsNotWritten,
        Mutant::ExpiryAboveRewind,
    ] {
        let outcome = outcome(100, Way { mutant: Some(mutant), calm: true, ..Way::default() });
        assert_eq!(outcome.wrong, [], "{}", mutant.name());
    }
}

#[test]
fn a_seed_is_the_same_life_each_time() {
    for seed in 0..20 {
        let way = Way::default();
        assert_eq!(pulso_simulator::run::seed(seed, way), pulso_simulator::run::seed(seed, way));
    }
}

#[test]
fn g09_a_crash_at_every_effect_and_at_every_two_near_effects_changes_nothing() {
    let mut lives = 0;
    for seed in 0..4 {
        let (lived, wrong) = every_crash(seed, 12, 24);
        assert_eq!(wrong, None);
        lives += lived;
    }
    assert!(lives > 5000, "{lives} lives");
}
