//! Checks the engine's manifests and the frame of every table file they list, before the engine reads them.
//!
//! A manifest says which table holds the newer value; the engine keeps its checksum and does not compare it, and trusts
//! the length of a table file's directory before it checks it.
//!
//! The formats (fjall 3, numbers little endian): `current` is `version u64, xxh3-128 of the file v<version>`. A manifest
//! and a table file are archives: sections, a directory `"TOC!", count u32, (position u64, length u64, name length u16,
//! name)...`, and at the end `"SFA!", 1, 0, xxh3-128 of the directory, its position u64, its length u64`. The section
//! `tables` of a manifest is `levels u8, (runs u8, (tables u32, (id u64, 0, xxh3-128, sequence u64)...)...)...`.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_128;

use super::REBUILD;
use super::input::Input;
use crate::store::StoreError;

/// Magic, version, checksum type, checksum, position, length.
const TRAILER_BYTES: usize = 4 + 1 + 1 + 16 + 8 + 8;
/// A directory names a handful of sections; a longer one is damage.
const DIRECTORY_BYTES_MAX: usize = 1 << 16;

/// Checks every keyspace in a folder.
pub(super) fn check(folder: &Path) -> Result<(), StoreError> {
    let keyspaces = folder.join("keyspaces");
    if !keyspaces.exists() {
        return Ok(());
    }
    let damaged = first_damaged(&keyspaces)
        .map_err(|error| StoreError::Unavailable(format!("{}: {error}", keyspaces.display())))?;
    damaged.map_or(Ok(()), |path| {
        let detail = format!("the file is not what was written; {REBUILD}");
        Err(StoreError::Damaged { place: path.display().to_string(), detail })
    })
}

fn first_damaged(keyspaces: &Path) -> io::Result<Option<PathBuf>> {
    for entry in fs::read_dir(keyspaces)? {
        let keyspace = entry?.path();
        let current = keyspace.join("current");
        if !current.exists() {
            // It was being made when the process ended; the engine clears it away.
            continue;
        }
        let Some(tables) = tables_of(&keyspace, &fs::read(&current)?)? else { return Ok(Some(current)) };
        for table in tables {
            let table = keyspace.join("tables").join(table.to_string());
            if !table.exists() || directory_of(&mut File::open(&table)?)?.is_none() {
                return Ok(Some(table));
            }
        }
    }
    Ok(None)
}

/// The numbers of the tables in a keyspace's manifest; `None` when it is damaged.
fn tables_of(keyspace: &Path, current: &[u8]) -> io::Result<Option<Vec<u64>>> {
    let mut input = Input::new(current);
    let (Some(version), Some(checksum)) = (input.array(), input.array()) else { return Ok(None) };
    let path = keyspace.join(format!("v{}", u64::from_le_bytes(version)));
    if !path.exists() {
        return Ok(None);
    }
    let manifest = fs::read(path)?;
    if xxh3_128(&manifest) != u128::from_le_bytes(checksum) {
        return Ok(None);
    }
    let directory = directory_of(&mut io::Cursor::new(&manifest))?;
    Ok(directory.and_then(|directory| read_tables(section(&manifest, &directory, b"tables")?)))
}

/// The directory of an archive; `None` when it is not what was written.
fn directory_of(archive: &mut (impl Read + Seek)) -> io::Result<Option<Vec<u8>>> {
    let length = archive.seek(SeekFrom::End(0))?;
    let Some(trailer_at) = length.checked_sub(TRAILER_BYTES as u64) else { return Ok(None) };
    let mut trailer = [0; TRAILER_BYTES];
    archive.seek(SeekFrom::Start(trailer_at))?;
    archive.read_exact(&mut trailer)?;
    let Some((checksum, position, length)) = read_trailer(&trailer) else { return Ok(None) };
    if length > DIRECTORY_BYTES_MAX as u64 || position.checked_add(length).is_none_or(|end| end > trailer_at)
    {
        return Ok(None);
    }
    let mut directory = Vec::new();
    archive.seek(SeekFrom::Start(position))?;
    archive.take(length).read_to_end(&mut directory)?;
    Ok((xxh3_128(&directory) == checksum).then_some(directory))
}

fn read_trailer(trailer: &[u8]) -> Option<(u128, u64, u64)> {
    let mut input = Input::new(trailer);
    if input.take(6)? != b"SFA!\x01\x00" {
        return None;
    }
    let checksum = u128::from_le_bytes(input.array()?);
    Some((checksum, u64::from_le_bytes(input.array()?), u64::from_le_bytes(input.array()?)))
}

fn section<'a>(archive: &'a [u8], directory: &[u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut input = Input::new(directory);
    if input.take(4)? != b"TOC!" {
        return None;
    }
    for _ in 0..u32::from_le_bytes(input.array()?) {
        let position = usize::try_from(u64::from_le_bytes(input.array()?)).ok()?;
        let length = usize::try_from(u64::from_le_bytes(input.array()?)).ok()?;
        let name_length = usize::from(u16::from_le_bytes(input.array()?));
        if input.take(name_length)? == name {
            return archive.get(position..position.checked_add(length)?);
        }
    }
    None
}

fn read_tables(section: &[u8]) -> Option<Vec<u64>> {
    let mut input = Input::new(section);
    let mut tables = Vec::new();
    let [levels] = input.array()?;
    for _ in 0..levels {
        let [runs] = input.array()?;
        for _ in 0..runs {
            for _ in 0..u32::from_le_bytes(input.array()?) {
                tables.push(u64::from_le_bytes(input.array()?));
                input.take(1 + 16 + 8)?;
            }
        }
    }
    Some(tables)
}
