//! Which partitions of a log this process folds. In one process all of them, for ever; in a cluster the log's consumers share
//! them, and what each one has changes as others come and go.
//!
//! Nothing depends on exactly one member having a partition: whoever has lost one and does not know it yet can only write
//! what the store holds already, or an older truth. Membership spares work; it does not guard.

/// What changed about this member's partitions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// These are this member's from now on.
    Assigned(Vec<u32>),
    /// These go to others: flush what was folded, then say that they are [let go](Membership::let_go).
    Revoked(Vec<u32>),
    /// These are others' already: drop what was folded, without writing.
    Lost(Vec<u32>),
}

/// A place among those who fold a log. Dropping it leaves.
pub trait Membership: Send {
    /// What has changed, oldest first; does not wait. A member must ask again and again, else it is taken for dead.
    fn changes(&mut self) -> Vec<Change>;

    /// Says that revoked partitions are folded here no more.
    fn let_go(&mut self, partitions: &[u32]);

    /// Tells whoever watches the lag how far partitions are folded. Nothing is ever read from there: a start goes by the
    /// progress in the store.
    fn folded(&mut self, through: &[(u32, u64)]);
}

/// The only member of its log.
#[derive(Debug)]
pub struct EveryPartition {
    partitions: Option<Vec<u32>>,
}

impl EveryPartition {
    /// Of a log with these partitions.
    #[must_use]
    pub const fn of(partitions: Vec<u32>) -> Self {
        Self { partitions: Some(partitions) }
    }
}

impl Membership for EveryPartition {
    fn changes(&mut self) -> Vec<Change> {
        self.partitions.take().map(Change::Assigned).into_iter().collect()
    }

    fn let_go(&mut self, _partitions: &[u32]) {}

    fn folded(&mut self, _through: &[(u32, u64)]) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_only_member_has_every_partition_at_once_and_for_ever() {
        let mut membership = EveryPartition::of(vec![0, 1, 2]);
        assert_eq!(membership.changes(), [Change::Assigned(vec![0, 1, 2])]);
        assert_eq!(membership.changes(), []);
    }
}
