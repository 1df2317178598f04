//! Reading the archive: a tenant's pulses by SKU, region and hour, found through the directories, with their fates.
//!
//! In the one-process shape the log itself is the archive; in the cluster, whose log forgets, the store keeps every folded
//! record. Everything here reads; explain, views by resource and tag, and look-ups by id are built on it.

use std::collections::HashMap;
use std::ops::Range;

use prost::Message;
use pulso_domain::fate::Fate;
use pulso_domain::position::{Position, Rank};
use pulso_domain::window::{Level, Window};
use pulso_platform::log::{Log, LogRecord};
use pulso_platform::store::{Range as CellRange, Store, Table, keys};
use pulso_proto::v1;

use crate::fold::directory::entry_offsets;
use crate::fold::halt::{Halt, Stop};
use crate::fold::ids::RunShape;
use crate::fold::letters::read_fate;
use crate::fold::record::{RecordParts, split};
use crate::{blobs, generations};

/// Directories read at a time.
const DIRECTORIES_PER_READ: usize = 256;
/// Records read at a time: with the largest records about 16 MiB.
const RECORDS_PER_READ: usize = 32;

/// Which pulses of a tenant are wanted.
#[derive(Clone, Debug)]
pub struct PulseFilter<'a> {
    /// Whose.
    pub tenant_id: &'a str,
    /// Of which SKU; all when `None`.
    pub product_sku: Option<&'a str>,
    /// Of which region; all when `None`.
    pub region: Option<&'a str>,
    /// Which hours, half-open.
    pub hours: Range<i32>,
    /// Only pulses at or behind this position: where a page begins.
    pub from: Position,
}

impl<'a> PulseFilter<'a> {
    /// All pulses of a tenant in a window.
    #[must_use]
    pub fn window(tenant_id: &'a str, window: Window) -> Self {
        let hour = |seconds: i64| (seconds / 3600) as i32;
        let hours = match window.level() {
            Level::Hour => window.index()..window.index() + 1,
            _ => hour(window.start_seconds())..hour(window.end_seconds()),
        };
        Self { tenant_id, product_sku: None, region: None, hours, from: Position::default() }
    }
}

/// One archived pulse, as bytes of its record.
#[derive(Clone, Copy, Debug)]
pub struct ArchivedPulse<'a> {
    /// Where it stands.
    pub position: Position,
    /// Its bytes, a `pulso.v1.Pulse`.
    pub bytes: &'a [u8],
    /// What became of it.
    pub fate: Fate,
    /// When the log appended its record, in nanoseconds.
    pub appended_at_nanos: i64,
}

/// Whether a reader wants more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Go on.
    More,
    /// It has what it wants.
    Enough,
}

/// Where the records of an archive are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Kept {
    /// In the log, which keeps all it ever took.
    #[default]
    InLog,
    /// In the store, as blobs that the fold wrote.
    InStore,
}

/// Reads archived pulses.
#[derive(Clone, Copy)]
pub struct Archive<'a> {
    /// Says how many partitions there are; holds the records, when they are kept there.
    pub log: &'a dyn Log,
    /// Where directories and fates are, and the records, when they are kept there.
    pub store: &'a dyn Store,
    /// Where the records are.
    pub kept: Kept,
    /// How ranges are cut.
    pub shape: RunShape,
}

impl Archive<'_> {
    /// The partition of a tenant's pulses in the generation of a rank.
    #[must_use]
    pub fn partition_at(&self, tenant_id: &str, rank: Rank) -> u32 {
        let layouts = self.log.generations();
        let layout = layouts.iter().find(|layout| layout.generation == rank.generation());
        layout.map_or(0, |layout| generations::partition_of_tenant(layout, tenant_id))
    }

    /// Shows each pulse of the records that hold wanted ones, in order of position; the records' other pulses of the
    /// tenant come too, so `visit` looks at the pulse itself.
    ///
    /// # Errors
    /// When the store or the log cannot be read, or a record is damaged.
    pub fn visit(
        &self,
        filter: &PulseFilter<'_>,
        mut visit: impl FnMut(ArchivedPulse<'_>) -> Next,
    ) -> Result<(), Stop> {
        let mut from = self.shape.range_start(filter.from.rank, 0).as_u64().to_be_bytes().to_vec();
        loop {
            let range = CellRange { from, ..CellRange::all() };
            let found = self.store.scan(
                Table::Directory,
                filter.tenant_id.as_bytes(),
                &range,
                DIRECTORIES_PER_READ,
            )?;
            for (clustering, cell) in &found {
                let directory =
                    v1::Directory::decode(cell.value.clone()).map_err(|_| unreadable("directory"))?;
                let start = rank_of(clustering)?;
                let ranks = wanted_ranks(&directory, filter, start);
                let partition = self.partition_at(filter.tenant_id, start);
                if self.visit_records(partition, &ranks, filter.from, &mut visit)? == Next::Enough {
                    return Ok(());
                }
            }
            let Some((last, _)) = found.last().filter(|_| found.len() == DIRECTORIES_PER_READ) else {
                return Ok(());
            };
            from = [last.as_slice(), &[0]].concat();
        }
    }

    /// Shows each pulse of these records.
    ///
    /// # Errors
    /// As [`Archive::visit`].
    pub fn visit_records(
        &self,
        partition: u32,
        ranks: &[Rank],
        from: Position,
        visit: &mut impl FnMut(ArchivedPulse<'_>) -> Next,
    ) -> Result<Next, Stop> {
        for ranks in ranks.chunks(RECORDS_PER_READ) {
            let records = self.fetch(partition, ranks)?;
            let fates = self.fates(partition, ranks)?;
            for (record, rank) in records.iter().zip(ranks) {
                if visit_record(record, *rank, fates.get(rank), from, visit)? == Next::Enough {
                    return Ok(Next::Enough);
                }
            }
        }
        Ok(Next::More)
    }

    /// Reads folded records, in the order asked.
    ///
    /// # Errors
    /// When they cannot be read, or one is not there.
    pub fn fetch(&self, partition: u32, ranks: &[Rank]) -> Result<Vec<LogRecord>, Stop> {
        match self.kept {
            Kept::InStore => blobs::fetch(self.store, &self.shape, partition, ranks),
            Kept::InLog => {
                let offsets: Vec<u64> = ranks.iter().map(|rank| rank.offset()).collect();
                Ok(self.log.fetch(partition, &offsets)?)
            }
        }
    }

    /// The fates of the pulses of these records that were not counted.
    fn fates(&self, partition: u32, ranks: &[Rank]) -> Result<HashMap<Rank, v1::RecordFates>, Stop> {
        let names: Vec<_> = ranks
            .iter()
            .map(|rank| keys::fates(partition, self.shape.range_start(*rank, 0), *rank))
            .collect();
        let mut fates = HashMap::new();
        for (rank, cell) in ranks.iter().zip(self.store.get(&names)?) {
            if let Some(cell) = cell {
                let read =
                    v1::RecordFates::decode(cell.value).map_err(|_| unreadable("fates of a record"))?;
                fates.insert(*rank, read);
            }
        }
        Ok(fates)
    }
}

fn visit_record(
    record: &LogRecord,
    rank: Rank,
    fates: Option<&v1::RecordFates>,
    from: Position,
    visit: &mut impl FnMut(ArchivedPulse<'_>) -> Next,
) -> Result<Next, Stop> {
    let mut parts = RecordParts::default();
    if split(&record.value, &mut parts).is_err() {
        return Ok(Next::More);
    }
    for (index, bytes) in (0..).zip(parts.pulses) {
        let position = Position::new(rank, index);
        if position < from {
            continue;
        }
        let not_counted = fates.and_then(|fates| fates.not_counted.iter().find(|one| one.index == index));
        let fate = match not_counted {
            None => Fate::Counted,
            Some(fate) => read_fate(fate).ok_or_else(|| unreadable("fate"))?,
        };
        let pulse = ArchivedPulse { position, bytes, fate, appended_at_nanos: record.appended_at_nanos };
        if visit(pulse) == Next::Enough {
            return Ok(Next::Enough);
        }
    }
    Ok(Next::More)
}

fn wanted_ranks(directory: &v1::Directory, filter: &PulseFilter<'_>, start: Rank) -> Vec<Rank> {
    let wanted = |entry: &&v1::DirectoryEntry| {
        filter.hours.contains(&entry.hour)
            && filter.product_sku.is_none_or(|sku| sku == entry.product_sku)
            && filter.region.is_none_or(|region| region == entry.region)
    };
    let offsets = directory.entries.iter().filter(wanted).fold(0, |all, entry| all | entry_offsets(entry));
    let ranks =
        (0..128_u64).filter(|bit| offsets >> bit & 1 == 1).map(|bit| Rank::from_u64(start.as_u64() + bit));
    ranks.filter(|rank| *rank >= filter.from.rank).collect()
}

fn rank_of(clustering: &[u8]) -> Result<Rank, Halt> {
    let bytes = clustering.try_into().map_err(|_| unreadable("key of a directory"))?;
    Ok(Rank::from_u64(u64::from_be_bytes(bytes)))
}

fn unreadable(what: &str) -> Halt {
    Halt::StoreIncomplete(format!("a readable {what}"))
}
