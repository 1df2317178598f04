//! Checks the engine's table files for what the engine does not: that its manifests are what was written, and that each
//! table file is the one its name says.
//!
//! A manifest says which table holds the newer value; the engine keeps its checksum (`current`: version u64, xxh3-128,
//! little endian) and does not compare it. A table's blocks carry checksums of their own, which hold wherever the whole
//! file is put.

use std::fs;
use std::path::Path;

use fjall::AbstractTree;
use xxhash_rust::xxh3::xxh3_128;

use super::REBUILD;
use super::engine::{Engine, keyspace_of};
use crate::store::StoreError;

/// Checks the manifest of every keyspace in a folder, before the engine reads it.
pub(super) fn check_manifests(folder: &Path) -> Result<(), StoreError> {
    let keyspaces = folder.join("keyspaces");
    if !keyspaces.exists() {
        return Ok(());
    }
    let unavailable =
        |error: std::io::Error| StoreError::Unavailable(format!("{}: {error}", keyspaces.display()));
    for entry in fs::read_dir(&keyspaces).map_err(unavailable)? {
        let keyspace = entry.map_err(unavailable)?.path();
        let current = keyspace.join("current");
        // One without it was being made when the process ended; the engine clears it away.
        if current.exists() && !is_whole(&keyspace, &current).map_err(unavailable)? {
            return Err(damaged(&current, "the manifest is not what was written"));
        }
    }
    Ok(())
}

fn is_whole(keyspace: &Path, current: &Path) -> std::io::Result<bool> {
    let bytes = fs::read(current)?;
    let Some((version, rest)) = bytes.split_first_chunk() else { return Ok(false) };
    let Some((checksum, _)) = rest.split_first_chunk() else { return Ok(false) };
    let manifest = keyspace.join(format!("v{}", u64::from_le_bytes(*version)));
    Ok(manifest.exists() && xxh3_128(&fs::read(manifest)?) == u128::from_le_bytes(*checksum))
}

/// Checks that every table file of the opened engine is the one that its place says.
pub(super) fn check_places(engine: &Engine) -> Result<(), StoreError> {
    for (number, (_, keyspace)) in engine.keyspaces().enumerate() {
        for table in keyspace.tree.current_version().iter_tables() {
            let named =
                table.path.file_name().is_some_and(|name| name == table.metadata.id.to_string().as_str());
            let range = &table.metadata.key_range;
            if !named || !is_of(number, range.min()) || !is_of(number, range.max()) {
                return Err(damaged(&table.path, "another table's file is in its place"));
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

fn damaged(path: &Path, detail: &str) -> StoreError {
    StoreError::Damaged { place: path.display().to_string(), detail: format!("{detail}; {REBUILD}") }
}
