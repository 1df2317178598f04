//! Positions as they stand in requests and answers: `[generation:]partition:offset[:index]`.

use pulso_domain::position::{PARTITION_BITS, Position, Rank, partition_index, partition_number};

use super::sources::Sources;

/// A record of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RecordPlace {
    /// The partition, over all generations.
    pub(crate) partition: u32,
    /// The record.
    pub(crate) rank: Rank,
}

/// The whole numbers of a text that are parted by colons, without signs, spaces or more digits than fit.
fn numbers(text: &str) -> Option<Vec<u64>> {
    let number = |part: &str| {
        let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| part.parse().ok()).flatten()
    };
    text.split(':').map(number).collect()
}

impl Sources {
    /// Reads `[generation:]partition:offset`; `None` for another text, or a partition that does not exist. Without a
    /// generation the present one is meant.
    pub(crate) fn record_place(&self, text: &str) -> Option<RecordPlace> {
        match numbers(text)?[..] {
            [partition, offset] => self.place(self.log.layout().generation.into(), partition, offset),
            [generation, partition, offset] => self.place(generation, partition, offset),
            _ => None,
        }
    }

    /// Reads `[generation:]partition:offset:index`.
    pub(crate) fn pulse_place(&self, text: &str) -> Option<(u32, Position)> {
        let numbers = numbers(text)?;
        let (index, record) = numbers.split_last()?;
        let index = u32::try_from(*index).ok()?;
        let place = match *record {
            [partition, offset] => self.place(self.log.layout().generation.into(), partition, offset),
            [generation, partition, offset] => self.place(generation, partition, offset),
            _ => None,
        }?;
        Some((place.partition, Position::new(place.rank, index)))
    }

    fn place(&self, generation: u64, partition: u64, offset: u64) -> Option<RecordPlace> {
        let generation = u32::try_from(generation).ok().filter(|generation| *generation > 0)?;
        let layouts = self.log.generations();
        let partitions = match layouts.iter().find(|layout| layout.generation == generation) {
            Some(layout) => layout.partitions,
            // The receipt of a generation that is not known here yet.
            None if generation > self.log.layout().generation => 1 << PARTITION_BITS,
            None => return None,
        };
        let index = u32::try_from(partition).ok().filter(|index| *index < partitions)?;
        let partition = partition_number(generation, index);
        Some(RecordPlace { partition, rank: Rank::new(generation, offset)? })
    }
}

/// `generation:partition:offset:index`, of a position in this partition.
pub(crate) fn written(partition: u32, position: Position) -> String {
    let (rank, partition) = (position.rank, partition_index(partition));
    format!("{}:{partition}:{}:{}", rank.generation(), rank.offset(), position.index)
}
