//! The making of a generation: its folder appears in one step, complete, with the first record of each partition.

use std::fs::File;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::folder::{
    META, damaged, generation_folder, io_error, read_sealed, segment_path, sync_parent, write_sealed,
};
use super::format::{FORMAT, PARTITIONS_MAX, SegmentHeader};
use crate::log::{LogError, LogLayout};

/// What the folder says about itself.
#[derive(Debug, Serialize, Deserialize)]
struct Meta {
    format: u32,
    log_id: String,
    generation: u32,
    partitions: u32,
}

/// Reads what a generation is; `None` when it has not been made.
pub(super) fn read_layout(folder: &Path, generation: u32) -> Result<Option<LogLayout>, LogError> {
    let home = generation_folder(folder, generation);
    if !home.exists() {
        return Ok(None);
    }
    let path = home.join(META);
    // The version is read first, by itself: a newer one may have other fields.
    let Some(document) = read_sealed::<serde_json::Value>(&path)? else {
        return Err(damaged(&path, "the file is missing; restore it from a copy of this very folder"));
    };
    let found = document.get("format").and_then(serde_json::Value::as_u64).unwrap_or(0);
    if found > u64::from(FORMAT) {
        let found = u32::try_from(found).unwrap_or(u32::MAX);
        return Err(LogError::NeedsUpgrade { found, supported: FORMAT });
    }
    let meta: Meta = serde_json::from_value(document).map_err(|error| damaged(&path, &error.to_string()))?;
    let log_id =
        parse_log_id(&meta.log_id).ok_or_else(|| damaged(&path, "the log id is not 32 hex digits"))?;
    if meta.generation != generation || meta.partitions == 0 || meta.partitions > PARTITIONS_MAX {
        return Err(damaged(&path, "it describes another generation"));
    }
    Ok(Some(LogLayout { generation, partitions: meta.partitions, log_id }))
}

fn parse_log_id(text: &str) -> Option<[u8; 16]> {
    let number = u128::from_str_radix(text, 16).ok()?;
    (text.len() == 32).then(|| number.to_be_bytes())
}

/// Makes the folder with its meta file and an empty first segment. Everything is durable before the folder gets its
/// name, so an interrupted making leaves nothing that could be taken for a log.
pub(super) fn create_folder(folder: &Path, generation: u32, partitions: u32) -> Result<LogLayout, LogError> {
    let log_id = uuid::Uuid::new_v4().into_bytes();
    let layout = LogLayout { generation, partitions, log_id };
    let home = generation_folder(folder, generation);
    let fresh = home.with_extension("new");
    if fresh.exists() {
        std::fs::remove_dir_all(&fresh).map_err(io_error("remove", &fresh))?;
    }
    std::fs::create_dir_all(&fresh).map_err(io_error("make", &fresh))?;
    let header = SegmentHeader {
        number: 0,
        first_sequence: 1,
        previous_digest: 0,
        previous_bytes: 0,
        previous_appended_at: 0,
        next_offsets: vec![0; partitions as usize],
    };
    let segment = segment_path(&fresh, 0);
    std::fs::write(&segment, header.encode(&layout))
        .and_then(|()| File::open(&segment)?.sync_all())
        .map_err(io_error("write", &segment))?;
    let log_id = format!("{:032x}", u128::from_be_bytes(log_id));
    write_sealed(&fresh.join(META), &Meta { format: FORMAT, log_id, generation, partitions })?;
    std::fs::rename(&fresh, &home).map_err(io_error("rename to", &home))?;
    sync_parent(&home)?;
    Ok(layout)
}
