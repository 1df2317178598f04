//! Where each cell stands: the only place that builds keys, shared by whoever writes a table and whoever reads it.
//!
//! Numbers in keys are big endian, so that they sort as bytes. `partition` is a partition of the log. Usage rows have
//! their keys in [`pulso_domain::usage`].

use pulso_domain::position::{Position, Rank};
use pulso_domain::window::{Level, Window};

use super::{Key, Table};

/// The partition of the newest catalog's number.
const CATALOG_HEAD: &[u8] = b"head";
/// Makes a signed month index sort as bytes.
const SIGN: u32 = 1 << 31;

/// Whether the cells of a partition change by compare-and-set only; all others are written at a version of their own. A cell
/// is never written both ways.
#[must_use]
pub fn changes_by_set(table: Table, partition: &[u8]) -> bool {
    match table {
        Table::Meta | Table::RunLists | Table::Charges | Table::Invoices => true,
        Table::Catalog => partition == CATALOG_HEAD,
        Table::Usage
        | Table::Progress
        | Table::Borders
        | Table::Runs
        | Table::RunFilters
        | Table::Directory
        | Table::Fates
        | Table::DeadLetters
        | Table::Tenants
        | Table::Rewinds
        | Table::Rated
        | Table::TenantSources
        | Table::Archive
        | Table::LetterActions => false,
    }
}

/// A setting of the store itself, such as `hash_key`.
#[must_use]
pub fn meta(name: &str) -> Key {
    Key::new(Table::Meta, "meta", name)
}

/// Progress of a partition.
#[must_use]
pub fn progress(partition: u32) -> Key {
    Key::new(Table::Progress, partition.to_be_bytes(), "progress")
}

/// Why a partition is halted; the cell's value is the sentence, empty when it goes on again.
#[must_use]
pub fn halt(partition: u32) -> Key {
    Key::new(Table::Progress, partition.to_be_bytes(), "halt")
}

/// The partition's state at a range border: what stood right before the record of this rank.
#[must_use]
pub fn border(partition: u32, rank: Rank) -> Key {
    Key::new(Table::Borders, partition.to_be_bytes(), rank.as_u64().to_be_bytes())
}

/// The store's partition of one id run: the log's partition, the level and the first rank of the run's range.
#[must_use]
pub fn run_partition(partition: u32, level: u32, start: Rank) -> Vec<u8> {
    let mut key = partition.to_be_bytes().to_vec();
    key.push(level as u8);
    key.extend_from_slice(&start.as_u64().to_be_bytes());
    key
}

/// One cell of an id run, by hash prefix.
#[must_use]
pub fn run_cell(run: &[u8], prefix: u32) -> Key {
    Key::new(Table::Runs, run, prefix.to_be_bytes())
}

/// One filter of an id run, by hash prefix.
#[must_use]
pub fn run_filter(run: &[u8], prefix: u32) -> Key {
    Key::new(Table::RunFilters, run, prefix.to_be_bytes())
}

/// The list of a partition's complete id runs.
#[must_use]
pub fn run_list(partition: u32) -> Key {
    Key::new(Table::RunLists, partition.to_be_bytes(), "list")
}

/// The directory of one tenant in one range.
#[must_use]
pub fn directory(tenant_id: &str, range_start: Rank) -> Key {
    Key::new(Table::Directory, tenant_id, range_start.as_u64().to_be_bytes())
}

/// The store's partition of the fates of one range, and of its archived records.
#[must_use]
pub fn fates_partition(partition: u32, range_start: Rank) -> Vec<u8> {
    let mut key = partition.to_be_bytes().to_vec();
    key.extend_from_slice(&range_start.as_u64().to_be_bytes());
    key
}

/// The pulses of one record that were not counted.
#[must_use]
pub fn fates(partition: u32, range_start: Rank, rank: Rank) -> Key {
    Key::new(Table::Fates, fates_partition(partition, range_start), rank.as_u64().to_be_bytes())
}

/// The store's partition of where the pulses of one range behind a seal went. It lies beside the fates of the range, whose
/// names are shorter.
#[must_use]
pub fn moved_partition(partition: u32, range_start: Rank) -> Vec<u8> {
    [b"moved".as_slice(), &fates_partition(partition, range_start)].concat()
}

/// Where pulses of one record behind a seal went: `to` is the partition they went to, and the index of the first of them.
#[must_use]
pub fn moved((partition, range_start): (u32, Rank), rank: Rank, to: (u32, u32)) -> Key {
    let mut clustering = rank.as_u64().to_be_bytes().to_vec();
    clustering.extend_from_slice(&to.0.to_be_bytes());
    clustering.extend_from_slice(&to.1.to_be_bytes());
    Key::new(Table::Fates, moved_partition(partition, range_start), clustering)
}

/// One archived record. Records of a range lie together, like their fates.
#[must_use]
pub fn archived(partition: u32, range_start: Rank, rank: Rank) -> Key {
    Key::new(Table::Archive, fates_partition(partition, range_start), rank.as_u64().to_be_bytes())
}

/// One dead letter. A whole record that is a dead letter has the index `u32::MAX`.
#[must_use]
pub fn dead_letter(partition: u32, position: Position) -> Key {
    Key::new(Table::DeadLetters, partition.to_be_bytes(), position_clustering(position))
}

/// Where an action about a dead letter stands in the log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ActionPlace {
    /// The partition.
    pub partition: u32,
    /// The record, and the place in it: of a replay the pulse's index.
    pub position: Position,
}

/// One action about a dead letter: behind the letter's own key, by time, then by where it stands in the log.
#[must_use]
pub fn letter_action(letter: (u32, Position), at_nanos: i64, place: ActionPlace) -> Key {
    let (partition, position) = letter;
    let mut clustering = position_clustering(position);
    clustering.extend_from_slice(&(at_nanos.cast_unsigned() ^ (1 << 63)).to_be_bytes());
    clustering.extend_from_slice(&place.partition.to_be_bytes());
    clustering.extend_from_slice(&position_clustering(place.position));
    Key::new(Table::LetterActions, partition.to_be_bytes(), clustering)
}

/// Reads the clustering of [`letter_action`] back: the letter's position, and where the action stands.
#[must_use]
pub fn decode_letter_action(clustering: &[u8]) -> Option<(Position, ActionPlace)> {
    let (letter, rest) = clustering.split_at_checked(POSITION_BYTES)?;
    let (partition, position) = rest.get(8..)?.split_at_checked(4)?;
    let partition = u32::from_be_bytes(partition.try_into().ok()?);
    let place = ActionPlace { partition, position: decode_position(position)? };
    Some((decode_position(letter)?, place))
}

/// Bytes of a position in a key.
const POSITION_BYTES: usize = 12;

/// A position as it stands in keys: ordered as the log is.
#[must_use]
pub fn position_clustering(position: Position) -> Vec<u8> {
    let mut clustering = position.rank.as_u64().to_be_bytes().to_vec();
    clustering.extend_from_slice(&position.index.to_be_bytes());
    clustering
}

/// Reads [`position_clustering`] back.
#[must_use]
pub fn decode_position(bytes: &[u8]) -> Option<Position> {
    let (rank, index) = bytes.split_first_chunk::<8>()?;
    let rank = Rank::from_u64(u64::from_be_bytes(*rank));
    Some(Position::new(rank, u32::from_be_bytes(index.try_into().ok()?)))
}

/// The store's partition of the tenant-months whose pulses stand in one partition of the log.
#[must_use]
pub fn months_partition(partition: u32) -> Vec<u8> {
    let mut key = b"months".to_vec();
    key.extend_from_slice(&partition.to_be_bytes());
    key
}

/// One tenant-month that has usage. The cell's version is the rank of the last record that touched it.
#[must_use]
pub fn month(partition: u32, tenant_id: &str, month: Window) -> Key {
    Key::new(Table::Tenants, months_partition(partition), month_clustering(tenant_id, month))
}

/// Tenant and month as a clustering key: ordered by tenant, then month.
#[must_use]
pub fn month_clustering(tenant_id: &str, month: Window) -> Vec<u8> {
    let mut key = tenant_id.as_bytes().to_vec();
    key.push(0);
    key.extend_from_slice(&(month.index().cast_unsigned() ^ SIGN).to_be_bytes());
    key
}

/// Reads [`month_clustering`] back.
#[must_use]
pub fn decode_month_clustering(key: &[u8]) -> Option<(&str, Window)> {
    let (tenant, month) = key.split_at_checked(key.len().checked_sub(5)?)?;
    let index = u32::from_be_bytes(month[1..].try_into().ok()?) ^ SIGN;
    Some((std::str::from_utf8(tenant).ok()?, Window::from_index(Level::Month, index.cast_signed())))
}

/// A request to read a partition again.
#[must_use]
pub fn rewind(partition: u32) -> Key {
    Key::new(Table::Rewinds, partition.to_be_bytes(), "rewind")
}

/// The newest catalog's version number; changed by compare-and-set only.
#[must_use]
pub fn catalog_head() -> Key {
    Key::new(Table::Catalog, CATALOG_HEAD, "")
}

/// One version of the catalog, as JSON.
#[must_use]
pub fn catalog_version(version: u64) -> Key {
    Key::new(Table::Catalog, "versions", version.to_be_bytes())
}

/// The published charge set of a tenant-month.
#[must_use]
pub fn charges(tenant_id: &str, month: Window) -> Key {
    Key::new(Table::Charges, tenant_id, (month.index().cast_unsigned() ^ SIGN).to_be_bytes())
}

/// The final invoice of a tenant's period.
#[must_use]
pub fn invoice(tenant_id: &str, month: Window) -> Key {
    Key::new(Table::Invoices, tenant_id, (month.index().cast_unsigned() ^ SIGN).to_be_bytes())
}

/// How far pricing has come in a partition: the cell's version is the rank that everything is rated through.
#[must_use]
pub fn rated(partition: u32) -> Key {
    Key::new(Table::Rated, partition.to_be_bytes(), "")
}

/// The newest catalog version that all months are rated under: the cell's version.
#[must_use]
pub fn rated_catalog() -> Key {
    Key::new(Table::Rated, "catalog", "")
}

/// The original name of a tenant id that an importer made.
#[must_use]
pub fn tenant_source(tenant_id: &str) -> Key {
    Key::new(Table::TenantSources, "sources", tenant_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenant_months_sort_by_tenant_then_month_and_are_read_back() {
        let month = |text| Window::parse_month(text).expect("good");
        let keys = [("a", "2025-12"), ("a", "2026-01"), ("a-b", "2025-01"), ("ab", "2025-01")]
            .map(|(tenant, text)| month_clustering(tenant, month(text)));
        assert!(keys.is_sorted());
        assert_eq!(decode_month_clustering(&keys[2]), Some(("a-b", month("2025-01"))));
    }

    #[test]
    fn actions_lie_behind_their_letter_by_time_and_are_read_back() {
        let position = |offset, index| Position::new(Rank::new(1, offset).expect("fits"), index);
        let place = |offset| ActionPlace { partition: 7, position: position(offset, 3) };
        let key = |letter, at, offset| letter_action((2, letter), at, place(offset)).clustering;
        let letter = position(5, 1);
        let keys = [key(letter, -1, 9), key(letter, 4, 8), key(letter, 4, 9), key(position(5, 2), 0, 0)];
        assert!(keys.is_sorted());
        assert!(keys[..3].iter().all(|key| key.starts_with(&dead_letter(2, letter).clustering)));
        assert_eq!(decode_letter_action(&keys[2]), Some((letter, place(9))));
        assert_eq!(decode_letter_action(&keys[2][1..]), None);
    }
}
