//! The versions of the cells that this process wrote lately, so that a hot row is not read each time it is written.
//!
//! There is one writer, so what it wrote last is what is stored. Keys are told apart by 128 bits of a hash whose seed
//! is this process's own. A key that is not here is read from the engine; after a write that failed nothing is here.

use xxhash_rust::xxh3::xxh3_128_with_seed;

/// Places for keys, 24 bytes each; only those in use take room. More than twice the rows of the largest flush.
const PLACES: usize = 1 << 19;

/// Names a key.
pub(super) type KeyHash = u128;

/// Known versions; a newer key may take an older one's place.
pub(super) struct Versions {
    seed: u64,
    /// The halves of the hash, and the version.
    places: Vec<[u64; 3]>,
}

impl Versions {
    /// Nothing is known.
    pub(super) fn new() -> Self {
        Self { seed: uuid::Uuid::new_v4().as_u64_pair().1, places: Vec::new() }
    }

    /// The hash of an encoded key.
    pub(super) fn hash(&self, key: &[u8]) -> KeyHash {
        xxh3_128_with_seed(key, self.seed)
    }

    /// The version that is stored, when it is known here.
    pub(super) fn get(&self, key: KeyHash) -> Option<u64> {
        let [low, high, version] = *self.places.get(place(key))?;
        ([low, high] == halves(key)).then_some(version)
    }

    /// Says what is stored now.
    pub(super) fn set(&mut self, key: KeyHash, version: u64) {
        if self.places.is_empty() {
            self.places = vec![[0; 3]; PLACES];
        }
        let [low, high] = halves(key);
        self.places[place(key)] = [low, high, version];
    }

    /// Says that a key is not stored any more.
    pub(super) fn forget(&mut self, key: KeyHash) {
        if self.get(key).is_some() {
            self.places[place(key)] = [0; 3];
        }
    }

    /// Says that it is not sure what is stored.
    pub(super) fn clear(&mut self) {
        self.places = Vec::new();
    }
}

const fn halves(key: KeyHash) -> [u64; 2] {
    [key as u64, (key >> 64) as u64]
}

const fn place(key: KeyHash) -> usize {
    key as usize % PLACES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_known_until_it_is_forgotten_or_its_place_taken() {
        let mut versions = Versions::new();
        let (key, other) = (versions.hash(b"a"), versions.hash(b"b"));
        assert_eq!(versions.get(key), None);
        versions.set(key, 7);
        versions.set(other, 0);
        assert_eq!((versions.get(key), versions.get(other)), (Some(7), Some(0)));
        versions.forget(other);
        assert_eq!((versions.get(key), versions.get(other)), (Some(7), None));
        versions.set(key ^ 1 << 100, 9);
        assert_eq!(versions.get(key), None, "another key of its place is not taken for it");
        versions.set(key, 8);
        versions.clear();
        assert_eq!(versions.get(key), None);
    }
}
