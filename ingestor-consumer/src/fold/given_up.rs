//! Giving up the rest of a partition whose log was lost: the fold goes no further, and what it builds on stays as it is.

use pulso_proto::v1;

use super::partition::PartitionFold;

impl PartitionFold {
    /// Gives up everything from where the fold stands on, for good. The partition counts as sealed there, so that the next
    /// generation may build on what was folded. The gap takes one place, however much it stands for.
    pub fn give_up(&mut self, gap: v1::Gap) {
        self.state.sealed_at.get_or_insert(self.state.offset);
        self.declare_gap(gap);
    }
}
