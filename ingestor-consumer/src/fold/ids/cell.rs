//! The stored form of a run's cell: entries of 32 bytes sorted by id, searched where they lie.
//!
//! Layout: a version byte, three zero bytes, the entry count (u32 LE), eight zero bytes; then per entry the id (16 bytes
//! big endian, so that they sort as bytes), the first offset relative to the run's start (u32 LE), the index (u32 LE), the
//! payload hash (u64 LE).

use bytes::Bytes;
use pulso_domain::fingerprint::{IdHash, PayloadHash};
use pulso_domain::position::{Position, Rank};

use super::IdEntry;

const FORMAT: u8 = 1;
const HEADER_BYTES: usize = 16;
/// Bytes of one entry.
pub const ENTRY_BYTES: usize = 32;

/// Writes a cell of about so many entries, which are sorted by id and begin at or behind the run's start.
#[must_use]
pub fn encode(start: Rank, about: usize, entries: impl Iterator<Item = IdEntry>) -> Bytes {
    // Cells are chosen by hash: hardly any holds an eighth more than another.
    let mut bytes = Vec::with_capacity(HEADER_BYTES + (about + about / 8) * ENTRY_BYTES);
    bytes.extend_from_slice(&[FORMAT, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let mut count = 0_u32;
    for entry in entries {
        let relative = (entry.first.rank.as_u64() - start.as_u64()) as u32;
        let mut encoded = [0; ENTRY_BYTES];
        encoded[..16].copy_from_slice(&entry.id.0.to_be_bytes());
        encoded[16..20].copy_from_slice(&relative.to_le_bytes());
        encoded[20..24].copy_from_slice(&entry.first.index.to_le_bytes());
        encoded[24..].copy_from_slice(&entry.payload.0.to_le_bytes());
        bytes.extend_from_slice(&encoded);
        count += 1;
    }
    bytes[4..8].copy_from_slice(&count.to_le_bytes());
    debug_assert!(is_sorted(&bytes[HEADER_BYTES..]));
    bytes.into()
}

/// Ids are big endian, so that they sort as bytes.
fn is_sorted(entries: &[u8]) -> bool {
    entries.as_chunks::<ENTRY_BYTES>().0.is_sorted_by(|left, right| left[..16] < right[..16])
}

/// A cell as read, checked once for its shape.
#[derive(Clone, Debug)]
pub struct Cell {
    start: Rank,
    bytes: Bytes,
}

impl Cell {
    /// Takes a stored cell of the run that starts at `start`; `None` when it is none of this version.
    #[must_use]
    pub fn decode(start: Rank, bytes: Bytes) -> Option<Self> {
        let header = bytes.first_chunk::<HEADER_BYTES>()?;
        let count = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
        let whole = bytes.len() == HEADER_BYTES + count * ENTRY_BYTES;
        (header[0] == FORMAT && whole).then_some(Self { start, bytes })
    }

    /// How many entries it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entry_bytes().len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The entry of an id.
    #[must_use]
    pub fn find(&self, id: IdHash) -> Option<IdEntry> {
        let entries = self.entry_bytes();
        let wanted = id.0.to_be_bytes();
        let place = entries.binary_search_by(|entry| entry[..16].cmp(&wanted[..])).ok()?;
        Some(self.read(&entries[place]))
    }

    /// All entries, sorted by id.
    pub fn entries(&self) -> impl Iterator<Item = IdEntry> + '_ {
        self.entry_bytes().iter().map(|entry| self.read(entry))
    }

    fn entry_bytes(&self) -> &[[u8; ENTRY_BYTES]] {
        self.bytes[HEADER_BYTES..].as_chunks().0
    }

    fn read(&self, entry: &[u8; ENTRY_BYTES]) -> IdEntry {
        let word = |at: usize| u32::from_le_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]]);
        let mut id = [0; 16];
        id.copy_from_slice(&entry[..16]);
        let rank = Rank::from_u64(self.start.as_u64() + u64::from(word(16)));
        IdEntry {
            id: IdHash(u128::from_be_bytes(id)),
            first: Position::new(rank, word(20)),
            payload: PayloadHash(u64::from(word(24)) | u64::from(word(28)) << 32),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_found_where_they_were_put_and_nowhere_else() {
        let start = Rank::new(1, 128).expect("small");
        let entry = |id: u128| IdEntry {
            id: IdHash(id << 100),
            first: Position::new(Rank::from_u64(start.as_u64() + id as u64 % 128), id as u32),
            payload: PayloadHash(id as u64 | 1 << 63),
        };
        let entries: Vec<_> = (0..1000).map(|id| entry(id * 2)).collect();
        let cell =
            Cell::decode(start, encode(start, entries.len(), entries.iter().copied())).expect("own encoding");
        assert_eq!(cell.entries().collect::<Vec<_>>(), entries);
        for id in 0..1000 {
            assert_eq!(cell.find(entry(id * 2).id), Some(entry(id * 2)));
            assert_eq!(cell.find(entry(id * 2 + 1).id), None);
        }
    }

    #[test]
    fn bytes_of_another_shape_are_no_cell() {
        let good = encode(Rank::ZERO, 0, std::iter::empty());
        assert!(Cell::decode(Rank::ZERO, good.clone()).expect("empty").is_empty());
        assert!(Cell::decode(Rank::ZERO, good.slice(1..)).is_none());
        let mut newer = good.to_vec();
        newer[0] = 2;
        assert!(Cell::decode(Rank::ZERO, newer.into()).is_none());
        let mut longer = good.to_vec();
        longer.push(0);
        assert!(Cell::decode(Rank::ZERO, longer.into()).is_none());
    }
}
