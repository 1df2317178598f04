//! Checks that every table file of the opened engine is the one that its place says.
//!
//! A table's blocks carry checksums, but they hold wherever the whole file is put: under another number, or in another
//! keyspace.

use fjall::AbstractTree;

use super::REBUILD;
use super::engine::{Engine, keyspace_of};
use crate::store::StoreError;

/// Checks the places of all table files.
pub(super) fn check_places(engine: &Engine) -> Result<(), StoreError> {
    for (number, (_, keyspace)) in engine.keyspaces().enumerate() {
        for table in keyspace.tree.current_version().iter_tables() {
            let named =
                table.path.file_name().is_some_and(|name| name == table.metadata.id.to_string().as_str());
            let range = &table.metadata.key_range;
            if !named || !is_of(number, range.min()) || !is_of(number, range.max()) {
                let detail = format!("another table's file is in its place; {REBUILD}");
                return Err(StoreError::Damaged { place: table.path.display().to_string(), detail });
            }
        }
    }
    Ok(())
}

/// Whether a key can stand in this keyspace.
fn is_of(keyspace: usize, key: &[u8]) -> bool {
    match key {
        [0, of] => usize::from(*of) == keyspace,
        [table, ..] => keyspace_of(*table) == keyspace,
        [] => false,
    }
}
