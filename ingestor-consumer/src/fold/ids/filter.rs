//! A filter in RAM over the ids of a complete run: "surely not here", or "look". 18 bits an id; of ids that are not in
//! the run about 1 in 65,000 is looked up for nothing. A hit is always checked exactly, so a filter can only cost time.

use bytes::Bytes;
use pulso_domain::fingerprint::IdHash;
use xorf::{BinaryFuse16, Descriptor, Filter as _};

const FORMAT: u8 = 1;
const HEADER_BYTES: usize = 1 + 8 + 4 * 3;

/// A set of ids that may say yes for an id it does not hold, never no for one it does.
#[derive(Clone)]
pub struct Filter {
    /// `None` for no ids: the construction wants at least one.
    fuse: Option<BinaryFuse16>,
}

impl Filter {
    /// A filter over these ids, each of which comes once; `None` in the (never seen) case that the construction does not
    /// converge. The order decides the bytes, so it must be that of the run.
    #[must_use]
    pub fn build(ids: impl Iterator<Item = IdHash>) -> Option<Self> {
        let mut keys: Vec<u64> = ids.map(key).collect();
        if keys.is_empty() {
            return Some(Self { fuse: None });
        }
        let fuse = BinaryFuse16::try_from(&keys).or_else(|_| {
            // Two ids may share the 64 bits that are the filter's key; the construction needs each key once.
            keys.sort_unstable();
            keys.dedup();
            BinaryFuse16::try_from(&keys)
        });
        fuse.ok().map(|fuse| Self { fuse: Some(fuse) })
    }

    /// Whether the id may be in the run.
    #[must_use]
    #[inline]
    pub fn may_hold(&self, id: IdHash) -> bool {
        self.fuse.as_ref().is_some_and(|fuse| fuse.contains(&key(id)))
    }

    /// Bytes it takes in RAM.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.fuse.as_ref().map_or(0, |fuse| fuse.fingerprints.len() * 2)
    }

    /// The stored form.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let Some(fuse) = &self.fuse else { return Bytes::from_static(&[FORMAT]) };
        let mut bytes = Vec::with_capacity(HEADER_BYTES + self.bytes());
        bytes.push(FORMAT);
        let shape = &fuse.descriptor;
        bytes.extend_from_slice(&shape.seed.to_le_bytes());
        for number in [shape.segment_length, shape.segment_length_mask, shape.segment_count_length] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for fingerprint in &fuse.fingerprints {
            bytes.extend_from_slice(&fingerprint.to_le_bytes());
        }
        bytes.into()
    }

    /// Reads the stored form; `None` when it is none of this version.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes == [FORMAT] {
            return Some(Self { fuse: None });
        }
        let (header, fingerprints) = bytes.split_first_chunk::<HEADER_BYTES>()?;
        let (pairs, []) = fingerprints.as_chunks::<2>() else { return None };
        let word =
            |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let descriptor = Descriptor {
            seed: u64::from(word(1)) | u64::from(word(5)) << 32,
            segment_length: word(9),
            segment_length_mask: word(13),
            segment_count_length: word(17),
        };
        let fingerprints = pairs.iter().map(|pair| u16::from_le_bytes(*pair)).collect();
        let fuse = BinaryFuse16 { descriptor, fingerprints };
        let shape = &fuse.descriptor;
        // A look-up touches three segments from any start below `segment_count_length`.
        let reach = u64::from(shape.segment_count_length) + 2 * u64::from(shape.segment_length);
        let whole = header[0] == FORMAT
            && shape.segment_length.is_power_of_two()
            && shape.segment_length_mask == shape.segment_length - 1
            && reach <= fuse.fingerprints.len() as u64;
        whole.then_some(Self { fuse: Some(fuse) })
    }
}

impl std::fmt::Debug for Filter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Filter({} bytes)", self.bytes())
    }
}

/// The lower half of the hash: the upper bits choose the cell and the filter, and are alike within one.
#[inline]
const fn key(id: IdHash) -> u64 {
    id.0 as u64
}

#[cfg(test)]
mod tests {
    use pulso_domain::fingerprint::HashKey;

    use super::*;

    fn ids(range: std::ops::Range<u32>) -> impl Iterator<Item = IdHash> {
        range.map(|number| HashKey::new([1; 16]).id_hash("acme", &number.to_string()))
    }

    #[test]
    fn every_id_is_found_also_after_storing_and_few_others_are() {
        for count in [0, 1, 2, 3, 10, 1000, 50_000] {
            let filter = Filter::build(ids(0..count)).expect("converges");
            let back = Filter::decode(&filter.encode()).expect("own encoding");
            assert!(ids(0..count).all(|id| filter.may_hold(id) && back.may_hold(id)), "{count}");
            let false_hits = ids(1_000_000..1_100_000).filter(|id| back.may_hold(*id)).count();
            assert!(false_hits < 20, "{false_hits} of 100,000 at {count}");
        }
        let per_id = Filter::build(ids(0..50_000)).expect("converges").bytes() as f64 / 50_000.0;
        assert!(per_id < 3.0, "{per_id} bytes an id");
    }

    #[test]
    fn damaged_bytes_are_no_filter_or_a_harmless_one() {
        let good = Filter::build(ids(0..100)).expect("converges").encode();
        for end in 0..good.len().min(60) {
            if let Some(filter) = Filter::decode(&good[..end]) {
                assert!(ids(0..100).all(|id| {
                    let _ = filter.may_hold(id);
                    true
                }));
            }
        }
    }
}
