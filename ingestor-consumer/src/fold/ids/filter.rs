//! A filter in RAM over the ids of a complete run: "surely not here", or "look". About 18 bits an id; of ids that are not
//! in the run about 1 in 40,000 is looked up for nothing. A hit is always checked exactly, so a filter can only cost time.
//!
//! Ids are keyed hashes, and a run has them sorted. Behind the bits that all of them share, the next ones name a bucket,
//! the 16 after those are kept. Buckets are told apart by a string of bits: a one for each id, a zero behind each bucket.
//! Building it is one pass over the ids, which matters: every id comes by here once, and is hardly ever looked up.

use bytes::Bytes;
use pulso_domain::fingerprint::IdHash;

/// 1 was a binary fuse filter, before any release.
const FORMAT: u8 = 2;
const HEADER_BYTES: usize = 1 + 1 + 1 + 4 + 16;
/// Buckets for which one place is kept whole, and those for which one relative to it is.
const LARGE: usize = 1024;
const SMALL: usize = 8;

/// A set of ids that may say yes for an id it does not hold, never no for one it does.
#[derive(Clone, PartialEq, Eq)]
pub struct Filter {
    /// One of the ids: the bits that all share are its own.
    any: u128,
    /// How many first bits all ids share.
    shared_bits: u32,
    /// How many bits name the bucket.
    bucket_bits: u32,
    /// 16 bits of each id, in order.
    rests: Vec<u16>,
    /// A one for each id of a bucket, then a zero; bucket after bucket.
    borders: Vec<u64>,
    /// How many ids stand before each [`LARGE`] buckets.
    large: Vec<u32>,
    /// How many ids stand before each [`SMALL`] buckets since then.
    small: Vec<u16>,
}

impl Filter {
    /// A filter over these ids, which are sorted and come once each.
    #[must_use]
    pub fn build(ids: impl Iterator<Item = IdHash>) -> Self {
        let ids: Vec<u128> = ids.map(|id| id.0).collect();
        debug_assert!(ids.is_sorted());
        // Hashes never crowd so much that a place does not fit; anything else is found in one bucket too.
        let drawn = Self::draw(&ids, ids.len().max(1).ilog2()).or_else(|| Self::draw(&ids, 0));
        drawn.expect("one bucket begins at its first id")
    }

    fn draw(ids: &[u128], bucket_bits: u32) -> Option<Self> {
        let (first, last) = (ids.first().copied().unwrap_or(0), ids.last().copied().unwrap_or(0));
        let mut filter = Self {
            any: first,
            shared_bits: (first ^ last).leading_zeros().min(64),
            bucket_bits,
            rests: Vec::with_capacity(ids.len()),
            borders: vec![0; border_words(ids.len(), bucket_bits)],
            large: Vec::new(),
            small: Vec::new(),
        };
        let (mut end, mut bucket) = (0, 0);
        for id in ids {
            let (of, rest) = filter.split(*id);
            // Each bucket passed by is a zero.
            end += of - bucket;
            bucket = of;
            filter.borders[end / 64] |= 1 << (end % 64);
            filter.rests.push(rest);
            end += 1;
        }
        filter.with_places()
    }

    /// The bucket of an id, and what is kept of it.
    #[inline]
    const fn split(&self, id: u128) -> (usize, u16) {
        // What is shared does not matter here; 64 bits are more than bucket and rest need.
        let bits = ((id << self.shared_bits) >> 64) as u64;
        let bucket = if self.bucket_bits == 0 { 0 } else { bits >> (64 - self.bucket_bits) };
        (bucket as usize, ((bits << self.bucket_bits) >> 48) as u16)
    }

    /// Counts what stands before the buckets; `None` when the borders do not fit the ids.
    fn with_places(mut self) -> Option<Self> {
        let (mut ids, mut end, mut base) = (0, 0, 0);
        for bucket in 0..1_usize << self.bucket_bits {
            if bucket % LARGE == 0 {
                base = ids;
                self.large.push(u32::try_from(base).ok()?);
            }
            if bucket % SMALL == 0 {
                self.small.push(u16::try_from(ids - base).ok()?);
            }
            while self.borders.get(end / 64)? >> (end % 64) & 1 == 1 {
                (ids, end) = (ids + 1, end + 1);
            }
            end += 1;
        }
        (ids == self.rests.len()).then_some(self)
    }

    /// Whether the id may be in the run.
    #[must_use]
    #[inline]
    pub fn may_hold(&self, id: IdHash) -> bool {
        if self.rests.is_empty() || (id.0 ^ self.any).leading_zeros() < self.shared_bits {
            return false;
        }
        let (bucket, rest) = self.split(id.0);
        let mut place = self.large[bucket / LARGE] as usize + usize::from(self.small[bucket / SMALL]);
        // Before these few buckets lie as many ones as ids, and as many zeros as buckets.
        let mut border = place + bucket / SMALL * SMALL;
        for _ in 0..bucket % SMALL {
            let ids = self.ids_from(border);
            place += ids;
            border += ids + 1;
        }
        self.rests[place..place + self.ids_from(border)].contains(&rest)
    }

    /// How many ones follow in the borders: ids of one bucket.
    #[inline]
    fn ids_from(&self, border: usize) -> usize {
        let (mut word, shift) = (border / 64, border % 64);
        let mut ones = (self.borders[word] >> shift).trailing_ones() as usize;
        let mut rest = 64 - shift;
        while ones >= rest {
            word += 1;
            let Some(next) = self.borders.get(word) else { break };
            ones = rest + next.trailing_ones() as usize;
            rest += 64;
        }
        ones
    }

    /// Bytes it takes in RAM.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.rests.len() * 2 + self.borders.len() * 8 + self.large.len() * 4 + self.small.len() * 2
    }

    /// The stored form: a version byte, the shared and the bucket's bits, the count of ids (u32 LE), one id (big endian), 16 bits of each id,
    /// the borders (both LE).
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + self.rests.len() * 2 + self.borders.len() * 8);
        bytes.extend_from_slice(&[FORMAT, self.shared_bits as u8, self.bucket_bits as u8]);
        bytes.extend_from_slice(&(self.rests.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&self.any.to_be_bytes());
        self.rests.iter().for_each(|rest| bytes.extend_from_slice(&rest.to_le_bytes()));
        self.borders.iter().for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
        bytes.into()
    }

    /// Reads the stored form; `None` when it is none of this version.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (header, body) = bytes.split_first_chunk::<HEADER_BYTES>()?;
        let &[FORMAT, shared_bits @ 0..=64, bucket_bits @ 0..=31, ref numbers @ ..] = header else {
            return None;
        };
        let (ids, any) = numbers.split_first_chunk::<4>()?;
        let (rests, borders) = body.split_at_checked(u32::from_le_bytes(*ids) as usize * 2)?;
        let (rests, words) = (rests.as_chunks::<2>().0, borders.as_chunks::<8>().0);
        let bucket_bits = u32::from(bucket_bits);
        if borders.len() != border_words(rests.len(), bucket_bits) * 8 {
            return None;
        }
        let filter = Self {
            any: u128::from_be_bytes(any.try_into().ok()?),
            shared_bits: shared_bits.into(),
            bucket_bits,
            rests: rests.iter().map(|rest| u16::from_le_bytes(*rest)).collect(),
            borders: words.iter().map(|word| u64::from_le_bytes(*word)).collect(),
            large: Vec::new(),
            small: Vec::new(),
        };
        filter.with_places()
    }
}

/// Words for a bit for each id and one behind each bucket.
const fn border_words(ids: usize, bucket_bits: u32) -> usize {
    (ids + (1 << bucket_bits)).div_ceil(64)
}

impl std::fmt::Debug for Filter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Filter({} bytes)", self.bytes())
    }
}

#[cfg(test)]
mod tests {
    use pulso_domain::fingerprint::HashKey;

    use super::*;

    fn ids(range: std::ops::Range<u32>) -> Vec<IdHash> {
        let id = |number: u32| HashKey::new([1; 16]).id_hash("acme", &number.to_string());
        let mut ids: Vec<_> = range.map(id).collect();
        ids.sort_unstable();
        ids
    }

    #[test]
    fn every_id_is_found_also_after_storing_and_few_others_are() {
        for count in [0, 1, 2, 3, 10, 1000, 50_000, 65_536] {
            let held = ids(0..count);
            let filter = Filter::build(held.iter().copied());
            let back = Filter::decode(&filter.encode()).expect("own encoding");
            assert_eq!(back, filter);
            assert!(held.iter().all(|id| filter.may_hold(*id)), "{count}");
            let false_hits = ids(1_000_000..1_100_000).iter().filter(|id| back.may_hold(**id)).count();
            assert!(false_hits < 20, "{false_hits} of 100,000 at {count}");
        }
        let per_id = Filter::build(ids(0..50_000).into_iter()).bytes() as f64 / 50_000.0;
        assert!(per_id < 2.7, "{per_id} bytes an id");
    }

    #[test]
    fn ids_of_one_filter_of_many_share_their_first_bits() {
        for (bits, from) in [(4, 0x7_u128), (8, 0xff), (8, 0)] {
            let within = |id: &IdHash| id.0 >> (128 - bits) == from;
            let held: Vec<_> = ids(0..100_000).into_iter().filter(within).collect();
            let filter = Filter::build(held.iter().copied());
            assert!(held.iter().all(|id| filter.may_hold(*id)));
            let others = ids(1_000_000..1_100_000);
            let false_hits = others.iter().filter(|id| filter.may_hold(**id)).count();
            assert!(false_hits < 20, "{false_hits} of 100,000");
        }
    }

    #[test]
    fn ids_that_are_no_hashes_are_found_too() {
        let held: Vec<_> = (0..3000).map(|id| IdHash(id * id)).chain([IdHash(u128::MAX)]).collect();
        let filter = Filter::build(held.iter().copied());
        let back = Filter::decode(&filter.encode()).expect("own encoding");
        assert!(held.iter().all(|id| back.may_hold(*id)));
    }

    #[test]
    fn damaged_bytes_are_no_filter_or_a_harmless_one() {
        let (held, good) = (ids(0..100), Filter::build(ids(0..100).into_iter()).encode().to_vec());
        for place in 0..good.len() {
            assert!(Filter::decode(&good[..place]).is_none(), "{place}");
            let mut damaged = good.clone();
            damaged[place] ^= 0x41;
            if let Some(filter) = Filter::decode(&damaged) {
                assert!(held.iter().filter(|id| filter.may_hold(**id)).count() <= held.len());
            }
        }
    }
}
