//! Looking an id up in earlier generations: only a fold of a later generation comes here, and only after its own runs.

use std::sync::Arc;

use pulso_domain::fingerprint::{IdHash, PayloadHash};
use pulso_domain::position::Position;

use super::ids::earlier::EarlierPartition;
use super::ids::list::ListedRun;
use super::ids::open::IdTimes;
use super::partition::PartitionFold;
use super::prepare::wanted_cells;

impl PartitionFold {
    /// Says which partitions of earlier generations may hold ids of this one's tenants, as they are stored now.
    pub fn look_back(&mut self, earlier: Vec<Arc<EarlierPartition>>) {
        self.earlier = earlier;
        self.cells.clear();
        self.cell_bytes = 0;
    }

    /// The partitions of earlier generations that it looks ids up in.
    #[must_use]
    pub fn earlier(&self) -> &[Arc<EarlierPartition>] {
        &self.earlier
    }

    /// Notes the cells of earlier runs that may hold an id of the record. A tenant is in one partition of each generation,
    /// but a hash is over the tenant too, so that looking in others finds nothing and harms nothing.
    pub(super) fn note_earlier_candidates(&mut self, times: &IdTimes) {
        let shape = self.config.shape;
        for earlier in &self.earlier {
            let alive = earlier.alive(shape, self.floor_seconds);
            let runs: Vec<&ListedRun> = alive.filter(|run| run.times.may_share(times)).collect();
            self.candidates.extend(wanted_cells(shape, &self.items, (earlier.number, &runs)));
        }
        self.candidates.sort_by_key(|(place, _)| *place);
    }

    /// Whether an id of the record may be among those that were in no complete run when an earlier generation was sealed.
    pub(super) fn looks_back(&self) -> bool {
        let may_share = |earlier: &Arc<EarlierPartition>| {
            earlier.open.as_ref().is_some_and(|open| open.times().may_share(&self.times))
        };
        self.earlier.iter().any(may_share)
    }

    /// An id among those that were in no complete run when an earlier generation was sealed.
    pub(super) fn find_earlier_open(&self, id: IdHash) -> Option<(Position, PayloadHash)> {
        let shape = &self.config.shape;
        self.earlier.iter().find_map(|earlier| earlier.find_open(shape, self.floor_seconds, id))
    }
}
