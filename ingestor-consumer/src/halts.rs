//! Which partitions are halted and why: in memory for readiness, in the store for whoever reads from elsewhere.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use pulso_platform::store::{Cell, Flush, Store, StoreError, keys};

use crate::metrics::HALTED;

/// The halted partitions of this process.
#[derive(Debug, Default)]
pub struct Halts {
    halted: Mutex<BTreeMap<u32, String>>,
}

impl Halts {
    /// The halted partitions and why, ordered.
    #[must_use]
    pub fn list(&self) -> Vec<(u32, String)> {
        self.halted.lock().iter().map(|(partition, sentence)| (*partition, sentence.clone())).collect()
    }

    /// Whether a partition is halted.
    #[must_use]
    pub fn is_halted(&self, partition: u32) -> bool {
        self.halted.lock().contains_key(&partition)
    }

    /// Halts a partition: said once, loudly.
    pub fn halt(&self, store: &dyn Store, partition: u32, sentence: &str) {
        let mut halted = self.halted.lock();
        if halted.insert(partition, sentence.to_owned()).is_none() {
            tracing::error!(partition, reason = sentence, "the partition is halted");
            write(store, partition, sentence);
        }
        metrics::gauge!(HALTED).set(halted.len() as f64);
    }

    /// A partition is someone else's now, and so is its halt.
    pub fn forget(&self, partition: u32) {
        let mut halted = self.halted.lock();
        halted.remove(&partition);
        metrics::gauge!(HALTED).set(halted.len() as f64);
    }

    /// Says that a partition goes on again.
    pub fn clear(&self, store: &dyn Store, partition: u32) {
        let mut halted = self.halted.lock();
        halted.remove(&partition);
        metrics::gauge!(HALTED).set(halted.len() as f64);
        if matches!(read(store, partition), Ok(Some(_))) {
            write(store, partition, "");
        }
    }
}

/// Why a partition is halted, as the store has it; `None` when it is not.
///
/// # Errors
/// When the store cannot be read.
pub fn read(store: &dyn Store, partition: u32) -> Result<Option<String>, StoreError> {
    let cell = store.get(&[keys::halt(partition)])?.pop().flatten();
    let sentence = cell.map(|cell| String::from_utf8_lossy(&cell.value).into_owned());
    Ok(sentence.filter(|sentence| !sentence.is_empty()))
}

/// Keeps the sentence for readers elsewhere. Best effort: a store that cannot be written is often why it halts.
fn write(store: &dyn Store, partition: u32, sentence: &str) {
    let key = keys::halt(partition);
    let version = match store.get(std::slice::from_ref(&key)) {
        Ok(mut found) => found.pop().flatten().map_or(0, |cell| cell.version) + 1,
        Err(_) => return,
    };
    let cells = vec![(key, Cell { version, value: sentence.as_bytes().to_vec().into() })];
    if let Err(error) = store.flush(Flush { cells, ..Flush::default() }) {
        tracing::warn!(partition, %error, "the halt could not be written to the store");
    }
}
