//! `?wait_for=`: read your own writes. Waits until a position is folded, and for money also until it is rated.

use std::time::Duration;

use pulso_ingestor_consumer::lookup;
use pulso_platform::store::keys;
use tokio::time::Instant;

use super::position::RecordPlace;
use super::pulse::skipped_by_operator;
use super::sources::{Sources, blocking};
use crate::problem::{Code, Problem};

/// The first pause between two looks; a flush takes about as long.
const PAUSE: Duration = Duration::from_millis(2);
/// The longest pause: a wait costs at most 50 small reads a second.
const PAUSE_MAX: Duration = Duration::from_millis(20);

/// What a position must have reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Until {
    /// Its pulses are in the totals.
    Folded,
    /// Its pulses are in the charges.
    Rated,
}

/// Waits, at most `wait_max`, until the position of `wait_for` is there.
pub(crate) async fn wait_for(
    sources: &Sources,
    text: Option<&str>,
    until: Until,
    wait_max: Duration,
) -> Result<(), Problem> {
    let Some(text) = text else { return Ok(()) };
    let place = sources.record_place(text).ok_or_else(|| {
        let last = sources.log.layout().partitions - 1;
        let mend =
            format!("write a receipt as [generation:]partition:offset, with a partition from 0 to {last}");
        Problem::parameter("wait_for", mend)
    })?;
    let deadline = Instant::now() + wait_max;
    let mut pause = PAUSE;
    loop {
        let looking = sources.clone();
        if blocking(move || is_there(&looking, place, until)).await? {
            return Ok(());
        }
        if Instant::now() + pause > deadline {
            let detail = format!("{text} is not there after {} ms; ask again", wait_max.as_millis());
            return Err(Problem { field: Some("wait_for"), ..Problem::new(Code::WaitTimeout, detail) });
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// A record that arrived behind a seal is there once all of its pulses are where they were moved to.
fn is_there(sources: &Sources, place: RecordPlace, until: Until) -> Result<bool, Problem> {
    match sources.moved_to(place)? {
        None => is_here(sources, place, until),
        Some(moved) if !moved.is_whole => Ok(false),
        Some(moved) => {
            let mut is_there = true;
            for place in moved.places {
                is_there &= self::is_there(sources, place, until)?;
            }
            Ok(is_there)
        }
    }
}

fn is_here(sources: &Sources, place: RecordPlace, until: Until) -> Result<bool, Problem> {
    let state = lookup::load_state(&*sources.store, place.partition)?;
    if state.as_ref().is_some_and(|state| state.is_given_up_at(place.rank.offset())) {
        // It will never come.
        return Err(Problem { field: Some("wait_for"), ..skipped_by_operator() });
    }
    let folded = state.is_some_and(|state| state.rank() > place.rank);
    if !folded {
        // It will not come by waiting.
        sources.refuse_halted(place.partition)?;
        return Ok(false);
    }
    if until == Until::Folded {
        return Ok(true);
    }
    // The version is the first rank that is not rated.
    let rated = sources.store.get(&[keys::rated(place.partition)])?.pop().flatten();
    Ok(rated.is_some_and(|cell| cell.version > place.rank.as_u64()))
}
