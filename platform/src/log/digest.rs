//! The digest of a record's value: what the chain over a log is made of, and what a reader verifies.

use twox_hash::XxHash3_64;

/// XXH3 with 64 bits and no seed, the same for every log.
#[must_use]
pub fn value_digest(value: &[u8]) -> u64 {
    XxHash3_64::oneshot(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_function_that_short_texts_are_hashed_with_elsewhere() {
        let value: Vec<u8> = (0..5000_u32).map(|number| (number * 7 / 8) as u8).collect();
        for length in (0..600).chain([1023, 1024, 1025, 4096, 5000]) {
            let value = &value[..length];
            assert_eq!(value_digest(value), xxhash_rust::xxh3::xxh3_64(value), "{length}");
        }
    }
}
