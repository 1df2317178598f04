//! The versions of the catalog in the store, and how a new one gets there.
//!
//! Every version is kept in a cell of its own; the head names the newest and changes by compare-and-set. In one process
//! the log is all that must survive, so the document goes there first, and the fold writes the same two cells from it.

use bytes::Bytes;
use prost::Message;
use pulso_platform::log::{Log, LogError};
use pulso_platform::store::{Cell, CompareAndSet, Flush, Flushed, Store, keys};
use pulso_proto::v1;

use super::error::PricingError;
use crate::catalog::Document;
use crate::rate::CompiledCatalog;

/// The partition of the log that catalogs are appended to: the first of the first generation, which every log has. They count
/// behind its seal too.
const CATALOG_PARTITION: u32 = 0;

/// The newest version's number; 0 before the first apply.
pub(super) fn head(store: &dyn Store) -> Result<u64, PricingError> {
    let cell = store.get(&[keys::catalog_head()])?.pop().flatten();
    Ok(cell.map_or(0, |cell| cell.version))
}

/// The newest version that all months are rated under.
pub(super) fn rated(store: &dyn Store) -> Result<u64, PricingError> {
    let cell = store.get(&[keys::rated_catalog()])?.pop().flatten();
    Ok(cell.map_or(0, |cell| cell.version))
}

/// Says that all months are rated under a version.
pub(super) fn set_rated(store: &dyn Store, version: u64) -> Result<(), PricingError> {
    let cell = Cell { version, value: Bytes::new() };
    store.flush(Flush { cells: vec![(keys::rated_catalog(), cell)], ..Flush::default() })?;
    Ok(())
}

/// One version; `None` when it does not exist. Version 0 is the empty catalog.
pub(super) fn load(store: &dyn Store, version: u64) -> Result<Option<CompiledCatalog>, PricingError> {
    if version == 0 {
        return Ok(Some(CompiledCatalog::new(0, Document::default())));
    }
    let Some(cell) = store.get(&[keys::catalog_version(version)])?.pop().flatten() else { return Ok(None) };
    let document = Document::from_json(&cell.value).map_err(|error| PricingError::Damaged {
        place: format!("catalog version {version}"),
        detail: error.to_string(),
    })?;
    Ok(Some(CompiledCatalog::new(version, document)))
}

/// The newest version.
pub(super) fn newest(store: &dyn Store) -> Result<CompiledCatalog, PricingError> {
    let version = head(store)?;
    load(store, version)?.ok_or_else(|| PricingError::Damaged {
        place: format!("catalog version {version}"),
        detail: "the head names it, but it is not there".to_owned(),
    })
}

/// Appends a version to the log, waits until it is durable, and answers its offset. Blocks.
pub(super) fn append(log: &dyn Log, version: u64, document: &Bytes) -> Result<u64, PricingError> {
    let applied = v1::CatalogApplied { version, document: document.clone() };
    let fact = v1::control::Fact::CatalogApplied(applied);
    let batch = v1::PulseBatch {
        format_version: 1,
        received_at: None,
        control: Some(v1::Control { fact: Some(fact) }),
        ..Default::default()
    };
    let reply = log.append(CATALOG_PARTITION, vec![batch.encode_to_vec().into()]);
    let unknown = |_| LogError::Unknown("the log was closed".to_owned());
    Ok(reply.blocking_recv().map_err(unknown)??.offset)
}

/// Stores a version and makes it the head. That the fold has done so already, with the same bytes, is as good.
pub(super) fn store(store: &dyn Store, version: u64, document: &Bytes) -> Result<(), PricingError> {
    let place = keys::catalog_version(version);
    let held = store.get(std::slice::from_ref(&place))?.pop().flatten();
    if held.is_some_and(|cell| cell.value != document) {
        return Err(PricingError::Conflict);
    }
    let head_value = Bytes::copy_from_slice(&version.to_be_bytes());
    let flush = Flush {
        cells: vec![(place, Cell { version, value: document.clone() })],
        sets: vec![CompareAndSet { key: keys::catalog_head(), expected: version - 1, value: head_value }],
        ..Flush::default()
    };
    match store.flush(flush)? {
        Flushed::Done => Ok(()),
        Flushed::Lost(_) => {
            let held = store.get(&[keys::catalog_version(version)])?.pop().flatten();
            let same = held.is_some_and(|cell| cell.value == document);
            if same && head(store)? >= version { Ok(()) } else { Err(PricingError::Conflict) }
        }
    }
}

/// Whether the fold has come past everything that the log held at `end`, so that the head is the newest catalog.
pub(super) fn is_folded_to(store: &dyn Store, end: u64) -> Result<bool, PricingError> {
    let progress = progress(store, CATALOG_PARTITION)?;
    Ok(end == 0 || progress.is_some_and(|progress| progress.offset >= end))
}

/// How far the fold of a partition has come.
pub(super) fn progress(store: &dyn Store, partition: u32) -> Result<Option<v1::Progress>, PricingError> {
    let Some(cell) = store.get(&[keys::progress(partition)])?.pop().flatten() else { return Ok(None) };
    let progress = v1::Progress::decode(cell.value).map_err(|error| PricingError::Damaged {
        place: format!("progress of partition {partition}"),
        detail: error.to_string(),
    })?;
    Ok(Some(progress))
}

/// Where the catalog's partition of the log ends.
pub(super) fn log_end(log: &dyn Log) -> Result<u64, PricingError> {
    Ok(log.watermarks(CATALOG_PARTITION)?.end_offset)
}
