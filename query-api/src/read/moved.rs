//! Where pulses went that arrived behind a seal: a receipt of an ingestor that did not know of the next generation yet is
//! followed to where they are counted.

use std::collections::BTreeSet;

use pulso_domain::position::{Position, Rank, partition_number};
use pulso_ingestor_consumer::fold::ids::RunShape;
use pulso_ingestor_consumer::{generations, lookup};

use super::position::RecordPlace;
use super::sources::Sources;
use crate::problem::Problem;

/// Where the pulses of a record went, as far as that is folded.
pub(crate) struct Moved {
    /// The records of the next generation.
    pub(crate) places: Vec<RecordPlace>,
    /// Which pulses each of them holds, by their indexes in the record behind the seal.
    indexes: Vec<Vec<u32>>,
    /// Whether those are all of its pulses.
    pub(crate) is_whole: bool,
}

impl Moved {
    /// Where the pulse of an index went; `None` while that is not folded.
    pub(crate) fn place_of(&self, index: u32) -> Option<(u32, Position)> {
        self.places.iter().zip(&self.indexes).find_map(|(place, indexes)| {
            let at = indexes.iter().position(|one| *one == index)?;
            Some((place.partition, Position::new(place.rank, at as u32)))
        })
    }
}

impl Sources {
    /// Where the pulses of a record went; `None` for one that does not lie behind a seal, as far as is folded.
    pub(crate) fn moved_to(&self, place: RecordPlace) -> Result<Option<Moved>, Problem> {
        let state = lookup::load_state(&*self.store, place.partition)?;
        // Behind the rest that was given up nothing is moved any more.
        let state = state.filter(|state| !state.is_given_up_at(place.rank.offset()));
        let sealed_at = state.and_then(|state| state.sealed_at);
        if sealed_at.is_none_or(|sealed_at| place.rank.offset() <= sealed_at) {
            return Ok(None);
        }
        let traces = generations::moved_to(&*self.store, &RunShape::FORMAT, (place.partition, place.rank))?;
        // A pulse that a crash had moved twice may be in two generations.
        let moved: BTreeSet<u32> = traces.iter().flat_map(|trace| trace.indexes.iter().copied()).collect();
        let is_whole = traces.first().is_some_and(|trace| trace.pulses as usize == moved.len());
        let places = traces.iter().map(|trace| RecordPlace {
            partition: partition_number(trace.generation, trace.partition),
            rank: Rank::new(trace.generation, trace.offset).unwrap_or(Rank::ZERO),
        });
        let places = places.collect();
        Ok(Some(Moved { places, indexes: traces.into_iter().map(|trace| trace.indexes).collect(), is_whole }))
    }
}
