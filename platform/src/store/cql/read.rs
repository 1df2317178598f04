//! Reading: single cells, several cells of one bucket at once, and ranges page by page.

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use scylla::client::session::Session;
use scylla::response::{PagingState, PagingStateResponse};
use scylla::serialize::row::SerializeRow;
use scylla::statement::prepared::PreparedStatement;

use super::layout::{self, BUCKET_LIST, Home};
use super::session::unavailable;
use super::statements::Verb;
use super::{Inner, REQUEST_KIB_MIN};
use crate::store::{Cell, Key, Range, StoreError, Table};

/// Keys in one read of several cells of a bucket: ScyllaDB takes at most 100.
const KEYS_PER_READ: usize = 64;
/// Reads of one call under way at once.
const READS: usize = 64;

/// A cell with its clustering key, in the order of the statement's columns.
type CellRow = (Vec<u8>, Option<i64>, Option<Bytes>);
/// A register with its clustering key and the token of its last writer.
type RegisterRow = (Vec<u8>, Option<i64>, Option<Bytes>, Option<Bytes>);

/// Which cells a statement reads.
#[derive(Clone, Copy)]
struct Bucket<'k> {
    home: Home,
    partition: &'k [u8],
    bucket: i64,
}

impl Inner {
    pub(super) async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Cell>>, StoreError> {
        let reads = group(keys);
        let found: Vec<Vec<(usize, Cell)>> = stream::iter(reads)
            .map(|read| self.read(keys, read))
            .buffer_unordered(READS)
            .try_collect()
            .await?;
        let mut cells = vec![None; keys.len()];
        for (number, cell) in found.into_iter().flatten() {
            cells[number] = Some(cell);
        }
        Ok(cells)
    }

    /// Reads some keys of one bucket.
    async fn read(&self, keys: &[Key], numbers: Vec<usize>) -> Result<Vec<(usize, Cell)>, StoreError> {
        let Some(first) = numbers.first().map(|number| &keys[*number]) else { return Ok(Vec::new()) };
        let place = Bucket {
            home: layout::home(first.table, &first.partition),
            partition: &first.partition,
            bucket: layout::bucket(first.table, &first.clustering),
        };
        let _flight = self.take_off(0).await?;
        let mut cells = Vec::with_capacity(numbers.len());
        if let [number] = numbers[..] {
            let statement = self.statement(place.home, Verb::Get).await?;
            let values = (place.partition, place.bucket, first.clustering.as_slice());
            let found = all_pages(&self.session, place.home, statement, &values).await?;
            cells.extend(found.into_iter().map(|(_, cell)| (number, cell)));
            return Ok(cells);
        }
        let statement = self.statement(place.home, Verb::GetMany).await?;
        let wanted: Vec<&[u8]> = numbers.iter().map(|number| keys[*number].clustering.as_slice()).collect();
        let values = (place.partition, place.bucket, &wanted);
        for (clustering, cell) in all_pages(&self.session, place.home, statement, &values).await? {
            // A key may be asked more than once.
            for number in numbers.iter().filter(|number| keys[**number].clustering == clustering) {
                cells.push((*number, cell.clone()));
            }
        }
        Ok(cells)
    }

    pub(super) async fn scan(
        &self,
        table: Table,
        partition: &[u8],
        range: &Range,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Cell)>, StoreError> {
        if !table.is_scanned() {
            return Err(StoreError::Refused(format!("{table:?} is read by exact key only")));
        }
        let mut found = Vec::new();
        if limit == 0 || range.to.as_ref().is_some_and(|to| *to <= range.from) {
            return Ok(found);
        }
        let home = layout::home(table, partition);
        for bucket in self.buckets(table, home, partition, range).await? {
            let place = Bucket { home, partition, bucket };
            self.scan_bucket(place, range, limit, &mut found).await?;
            if found.len() >= limit {
                break;
            }
        }
        Ok(found)
    }

    /// The buckets that a range of a partition may lie in, in the order of the scan.
    async fn buckets(
        &self,
        table: Table,
        home: Home,
        partition: &[u8],
        range: &Range,
    ) -> Result<Vec<i64>, StoreError> {
        if !layout::has_bucket_list(table) {
            return Ok(vec![0]);
        }
        let first = layout::bucket(table, &range.from);
        let last = range.to.as_ref().map_or(i64::MAX, |to| layout::bucket(table, to));
        let listed = Range {
            from: first.to_be_bytes().to_vec(),
            to: last.checked_add(1).map(|end| end.to_be_bytes().to_vec()),
            reverse: range.reverse,
        };
        let list = Bucket { home: Home { page: KEYS_PER_READ, ..home }, partition, bucket: BUCKET_LIST };
        let mut found = Vec::new();
        self.scan_bucket(list, &listed, usize::MAX, &mut found).await?;
        let number = |(clustering, _): &(Vec<u8>, Cell)| <[u8; 8]>::try_from(clustering.as_slice()).ok();
        Ok(found.iter().filter_map(number).map(i64::from_be_bytes).collect())
    }

    /// Appends what a bucket has in a range, up to `limit` in all.
    async fn scan_bucket(
        &self,
        place: Bucket<'_>,
        range: &Range,
        limit: usize,
        found: &mut Vec<(Vec<u8>, Cell)>,
    ) -> Result<(), StoreError> {
        let verb = match (range.reverse, &range.to) {
            (false, None) => Verb::ScanUp,
            (false, Some(_)) => Verb::ScanUpTo,
            (true, None) => Verb::ScanDown,
            (true, Some(_)) => Verb::ScanDownTo,
        };
        let statement = self.statement(place.home, verb).await?;
        let page = place.home.page.min(limit - found.len());
        let mut statement = statement.clone();
        statement.set_page_size(i32::try_from(page).unwrap_or(i32::MAX));
        let mut state = PagingState::start();
        loop {
            let _flight = self.take_off(0).await?;
            let from = range.from.as_slice();
            let (cells, next) = match &range.to {
                None => {
                    let values = (place.partition, place.bucket, from);
                    one_page(&self.session, place.home, &statement, &values, state).await?
                }
                Some(to) => {
                    let values = (place.partition, place.bucket, from, to.as_slice());
                    one_page(&self.session, place.home, &statement, &values, state).await?
                }
            };
            found.extend(cells.into_iter().take(limit - found.len()));
            match next {
                Some(next) if found.len() < limit => state = next,
                _ => return Ok(()),
            }
        }
    }

    async fn statement(&self, home: Home, verb: Verb) -> Result<&PreparedStatement, StoreError> {
        self.statements.get(&self.session, home, verb).await
    }

    /// Waits until a request of this size may begin; it is under way as long as the answer is held.
    pub(super) async fn take_off(
        &self,
        bytes: usize,
    ) -> Result<tokio::sync::SemaphorePermit<'_>, StoreError> {
        let kib = (bytes >> 10).max(REQUEST_KIB_MIN);
        let permits = u32::try_from(kib).unwrap_or(u32::MAX);
        let closed = |_| StoreError::Unavailable("it is closed".to_owned());
        self.flight.acquire_many(permits).await.map_err(closed)
    }
}

/// Cuts keys, by number, into reads: each of one bucket. Registers and large cells are read one by one.
fn group(keys: &[Key]) -> Vec<Vec<usize>> {
    let place = |number: &usize| {
        let key = &keys[*number];
        (key.table, key.partition.as_slice(), layout::bucket(key.table, &key.clustering))
    };
    let mut numbers: Vec<usize> = (0..keys.len()).collect();
    numbers.sort_by(|left, right| place(left).cmp(&place(right)));
    let mut reads = Vec::new();
    for group in numbers.chunk_by(|left, right| place(left) == place(right)) {
        let key = &keys[group[0]];
        let home = layout::home(key.table, &key.partition);
        let most = if home.registers || home.page < KEYS_PER_READ { 1 } else { KEYS_PER_READ };
        reads.extend(group.chunks(most).map(<[usize]>::to_vec));
    }
    reads
}

/// All rows of a statement that reads a bounded number of them.
async fn all_pages(
    session: &Session,
    home: Home,
    statement: &PreparedStatement,
    values: &impl SerializeRow,
) -> Result<Vec<(Vec<u8>, Cell)>, StoreError> {
    let mut cells = Vec::new();
    let mut state = PagingState::start();
    loop {
        let (page, next) = one_page(session, home, statement, values, state).await?;
        cells.extend(page);
        match next {
            Some(next) => state = next,
            None => return Ok(cells),
        }
    }
}

/// A page of rows, and where the next begins.
async fn one_page(
    session: &Session,
    home: Home,
    statement: &PreparedStatement,
    values: &impl SerializeRow,
    state: PagingState,
) -> Result<(Vec<(Vec<u8>, Cell)>, Option<PagingState>), StoreError> {
    let (answer, next) =
        session.execute_single_page(statement, values, state).await.map_err(|error| unavailable(&error))?;
    let rows = answer.into_rows_result().map_err(|error| unavailable(&error))?;
    let mut cells = Vec::with_capacity(rows.rows_num());
    if home.registers {
        for row in rows.rows::<RegisterRow>().map_err(|error| unavailable(&error))? {
            let (clustering, version, value, _) = row.map_err(|error| unavailable(&error))?;
            cells.extend(cell(home, clustering, version, value)?);
        }
    } else {
        for row in rows.rows::<CellRow>().map_err(|error| unavailable(&error))? {
            let (clustering, version, value) = row.map_err(|error| unavailable(&error))?;
            cells.extend(cell(home, clustering, version, value)?);
        }
    }
    let next = match next {
        PagingStateResponse::HasMorePages { state } => Some(state),
        PagingStateResponse::NoMorePages => None,
    };
    Ok((cells, next))
}

/// A row as a cell; `None` for a row that has no value.
fn cell(
    home: Home,
    clustering: Vec<u8>,
    version: Option<i64>,
    value: Option<Bytes>,
) -> Result<Option<(Vec<u8>, Cell)>, StoreError> {
    let (Some(version), Some(value)) = (version, value) else { return Ok(None) };
    let version = u64::try_from(version).map_err(|_| StoreError::Damaged {
        place: format!("table {}", home.name),
        detail: format!("a cell has the version {version}, which Pulso never writes"),
    })?;
    Ok(Some((clustering, Cell { version, value })))
}
