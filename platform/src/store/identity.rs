//! What a store knows about itself, under whichever engine: the hash key of its ids, and the log it was made from.
//!
//! Each is set once, by compare-and-set, so that two roles that start together agree.

use bytes::Bytes;
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_128;

use super::{CompareAndSet, Flush, Key, Store, StoreError, keys};

/// The key of the hash that dedup entries are kept by: random, made once per store.
///
/// # Errors
/// When the store cannot be read or written, or the key is damaged.
pub fn hash_key(store: &dyn Store) -> Result<[u8; 16], StoreError> {
    let key = keys::meta("hash_key");
    // Two random ids hashed together: every bit of the key is random, though some of an id's are fixed.
    let random = || {
        let ids = [Uuid::new_v4().into_bytes(), Uuid::new_v4().into_bytes()].concat();
        xxh3_128(&ids).to_be_bytes()
    };
    let value = set_once(store, &key, &random)?;
    value.as_ref().try_into().map_err(|_| StoreError::Damaged {
        place: "the store's hash key".to_owned(),
        detail: format!("it has {} bytes", value.len()),
    })
}

/// Remembers the log that this store is made from, and refuses any other.
///
/// # Errors
/// When the store was made from another log, or cannot be read or written.
pub fn bind_log(store: &dyn Store, log_id: [u8; 16]) -> Result<(), StoreError> {
    let bound = set_once(store, &keys::meta("log_id"), &|| log_id)?;
    if *bound == log_id {
        return Ok(());
    }
    let (was, is) = (Uuid::from_slice(&bound).unwrap_or_default(), Uuid::from_bytes(log_id));
    let detail = format!(
        "it was made from log {was}, this is log {is}; put log and store together that belong together"
    );
    Err(StoreError::Damaged { place: "the store's log".to_owned(), detail })
}

/// Reads a cell, or sets it when it is not there; whoever loses the race takes the winner's value.
fn set_once(store: &dyn Store, key: &Key, make: &dyn Fn() -> [u8; 16]) -> Result<Bytes, StoreError> {
    loop {
        if let Some(cell) = store.get(std::slice::from_ref(key))?.pop().flatten() {
            return Ok(cell.value);
        }
        let set = CompareAndSet { key: key.clone(), expected: 0, value: Bytes::copy_from_slice(&make()) };
        store.flush(Flush { sets: vec![set], ..Flush::default() })?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::MemoryStore;

    #[test]
    fn the_hash_key_is_made_once_and_differs_between_stores() {
        let (one, other) = (MemoryStore::new(), MemoryStore::new());
        let key = hash_key(&one).unwrap();
        assert_eq!(hash_key(&one).unwrap(), key);
        assert_ne!(hash_key(&other).unwrap(), key);
    }

    #[test]
    fn a_store_of_another_log_is_refused() {
        let store = MemoryStore::new();
        bind_log(&store, [1; 16]).unwrap();
        bind_log(&store, [1; 16]).unwrap();
        let error = bind_log(&store, [2; 16]).unwrap_err();
        assert!(error.to_string().contains("01010101-0101"), "{error}");
        assert!(!error.is_retryable());
    }
}
