//! Where a cell stands in CQL: its table, and the bucket of its partition. The only place that knows names of tables.
//!
//! Every table has the key `((p, b), c)`: the cell's partition and a bucket of it, then the cell's clustering key. The bucket
//! keeps partitions bounded where the cell's own partition grows for ever. It never falls while the clustering key rises,
//! so that a scan over buckets in order is a scan in order. There are two kinds of tables, and none is of both:
//!
//! - *cells* `(v)`: the last write wins, by `USING TIMESTAMP <version>`; the version is read back as `WRITETIME(v)`.
//!   No other timestamp ever gets in: a write or a removal with the server's clock would hide all of them for good;
//! - *registers* `(version, w, v)`: change by compare-and-set only, whose timestamps the servers choose.

use crate::store::{Key, Table, keys};

/// Where the buckets of a partition are listed, in tables that are scanned.
pub(super) const BUCKET_LIST: i64 = -1;
/// Records of a bucket of the directory and of borders: 32,768 ranges.
const RANGE_BUCKET_BITS: u32 = 22;
/// Records of a bucket of dead letters.
const LETTER_BUCKET_BITS: u32 = 16;
/// Cells of a bucket of a merged run: 64 cells of half a MiB.
const RUN_BUCKET_BITS: u32 = 6;

/// How many tables there can be; the numbers of [`Table`] lie below it, and 0 is the catalog's head.
pub(super) const HOMES_MAX: usize = 32;

/// The table of CQL that a cell stands in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Home {
    /// Its name.
    pub name: &'static str,
    /// A number below [`HOMES_MAX`].
    pub slot: usize,
    /// Whether it holds registers, not cells.
    pub registers: bool,
    /// How many cells one page of a scan, and one read of several cells of a partition, may hold: cells of some tables are large.
    pub page: usize,
}

/// The home of a partition.
pub(super) fn home(table: Table, partition: &[u8]) -> Home {
    let registers = keys::changes_by_set(table, partition);
    if table == Table::Catalog && registers {
        return Home { name: "catalog_head", slot: 0, registers, page: 16 };
    }
    let page = match table {
        Table::Usage | Table::Tenants | Table::TenantSources | Table::Borders | Table::Progress => 1024,
        _ => 16,
    };
    Home { name: name(table), slot: table as usize, registers, page }
}

/// The homes of all cells, for the schema.
pub(super) fn homes() -> impl Iterator<Item = Home> {
    let head = home(Table::Catalog, &keys::catalog_head().partition);
    // The empty partition is nobody's, so it is in the table's usual home.
    std::iter::once(head).chain(Table::ALL.into_iter().map(|table| home(table, b"")))
}

const fn name(table: Table) -> &'static str {
    match table {
        Table::Meta => "meta",
        Table::Usage => "usage",
        Table::Progress => "progress",
        Table::Borders => "borders",
        Table::Runs => "id_runs",
        Table::RunFilters => "id_run_filters",
        Table::RunLists => "id_run_lists",
        Table::Directory => "directory",
        Table::Fates => "fates",
        Table::DeadLetters => "dead_letters",
        Table::Tenants => "tenants",
        Table::Rewinds => "rewinds",
        Table::Catalog => "catalog",
        Table::Charges => "charges",
        Table::Invoices => "invoices",
        Table::Rated => "rated",
        Table::TenantSources => "tenant_sources",
        Table::Archive => "archive",
        Table::LetterActions => "letter_actions",
    }
}

/// The bucket of a cell within its partition.
pub(super) fn bucket(table: Table, clustering: &[u8]) -> i64 {
    match table {
        Table::Directory | Table::Borders => (leading(clustering) >> RANGE_BUCKET_BITS).cast_signed(),
        Table::DeadLetters | Table::LetterActions => {
            (leading(clustering) >> LETTER_BUCKET_BITS).cast_signed()
        }
        Table::Runs | Table::RunFilters => (leading(clustering) >> (32 + RUN_BUCKET_BITS)).cast_signed(),
        _ => 0,
    }
}

/// Whether the buckets of a partition are listed, since a scan must find them.
pub(super) fn has_bucket_list(table: Table) -> bool {
    table.is_scanned() && matches!(table, Table::Directory | Table::DeadLetters | Table::LetterActions)
}

/// The first eight bytes as a number; what is missing counts as zeros, so that the order is the one of the bytes.
fn leading(clustering: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    let length = clustering.len().min(8);
    bytes[..length].copy_from_slice(&clustering[..length]);
    u64::from_be_bytes(bytes)
}

/// A cell's name, for an error.
pub(super) fn place(key: &Key) -> String {
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
    format!("{:?} {} / {}", key.table, text(&key.partition), text(&key.clustering))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_table_has_a_home_of_its_own() {
        let homes: Vec<Home> = homes().collect();
        for (n, one) in homes.iter().enumerate() {
            assert!(one.slot < HOMES_MAX);
            for other in &homes[..n] {
                assert!(one.slot != other.slot && one.name != other.name, "{}", one.name);
            }
        }
        assert_eq!(homes.len(), Table::ALL.len() + 1);
    }

    #[test]
    fn a_large_run_is_cut_into_buckets_of_32_mib() {
        let run = keys::run_partition(3, 2, pulso_domain::position::Rank::from_u64(1 << 40));
        let bucket_of = |prefix| bucket(Table::Runs, &keys::run_cell(&run, prefix).clustering);
        assert_eq!((bucket_of(0), bucket_of(63), bucket_of(64), bucket_of(4095)), (0, 0, 1, 63));
    }

    proptest! {
        #[test]
        fn buckets_follow_the_order_of_the_cells(mut pair in [prop::collection::vec(any::<u8>(), 0..12), prop::collection::vec(any::<u8>(), 0..12)]) {
            pair.sort();
            for table in Table::ALL {
                // The greatest rank lies below 2^63, so that no bucket is negative.
                let [low, high] = pair.each_ref().map(|key| bucket(table, key));
                prop_assert!(low <= high && low >= 0, "{table:?} {low} {high}");
            }
        }
    }
}
