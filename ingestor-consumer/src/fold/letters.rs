//! What a record leaves beside totals: dead letters, the fates of pulses that were not counted, applied catalogs. Each is
//! named by its position, so a second copy is the same one.

use bytes::Bytes;
use prost::Message;
use pulso_domain::fate::Fate;
use pulso_domain::ids::is_tenant_id;
use pulso_domain::position::{Position, Rank, partition_index};
use pulso_domain::pulse::check;
use pulso_domain::reason::Reason;
use pulso_platform::log::LogRecord;
use pulso_platform::store::{Cell, Key, keys};
use pulso_proto::{foreign, v1, walk};

use super::actions;
use super::partition::FoldConfig;
use super::record::{RecordParts, split};

/// The index under which a whole record is a dead letter.
pub const WHOLE_RECORD: u32 = u32::MAX;

/// Writes cells about one record.
pub(super) struct Letter<'a> {
    pub(super) config: &'a FoldConfig,
    pub(super) record: &'a LogRecord,
    pub(super) rank: Rank,
}

impl Letter<'_> {
    /// The record as one dead letter: it holds no pulses that could be read.
    pub(super) fn whole_record(&self) -> (Key, Cell) {
        let letter = match foreign::decode(&self.record.value) {
            Some(message) => self.foreign(message),
            None => v1::DeadLetter {
                detail: "the record is no pulso.v1.PulseBatch".to_owned(),
                original: self.record.value.clone(),
                ..self.blank(Reason::Undecodable)
            },
        };
        self.cell(WHOLE_RECORD, &letter)
    }

    /// What another source sent and an ingestor refused: the letter holds the message's own bytes.
    fn foreign(&self, message: v1::ForeignMessage) -> v1::DeadLetter {
        let v1::ForeignMessage { source, reason, detail, body, .. } = message;
        let tenant = walk::pulse(&body).map(|raw| raw.tenant_id).unwrap_or_default();
        let tenant_id =
            if is_tenant_id(tenant) { String::from_utf8_lossy(tenant).into_owned() } else { String::new() };
        v1::DeadLetter {
            detail: format!("from {source}: {reason}: {detail}"),
            original: body,
            tenant_id,
            ..self.blank(Reason::Undecodable)
        }
    }

    /// The dead letters among the pulses that were not counted; duplicates are none.
    pub(super) fn pulses(&self, not_counted: &[(u32, Fate)]) -> Vec<(Key, Cell)> {
        let mut parts = RecordParts::default();
        if split(&self.record.value, &mut parts).is_err() {
            return Vec::new();
        }
        let replays = actions::replays(&parts);
        let letters = not_counted.iter().filter_map(|(index, fate)| {
            let bytes = parts.pulses.get(*index as usize)?;
            let replay_of = replays.get(*index as usize).and_then(|replay| replay.letter);
            let letter = self.pulse(*index, bytes, *fate)?;
            Some(self.cell(*index, &v1::DeadLetter { replay_of, ..letter }))
        });
        letters.collect()
    }

    fn pulse(&self, index: u32, bytes: &[u8], fate: Fate) -> Option<v1::DeadLetter> {
        let (reason, first) = match fate {
            Fate::Conflict { first } => (Reason::IdConflict, Some(first)),
            Fate::DeadLettered(reason) => (reason, None),
            Fate::Counted | Fate::Duplicate { .. } => return None,
        };
        let raw = walk::pulse(bytes).unwrap_or_default();
        Some(v1::DeadLetter {
            detail: detail(reason, first, || {
                check(&raw).err().map(|rejection| format!("{}: {}", rejection.field, rejection.message))
            }),
            origin_index: Some(index),
            original: self.record.value.slice_ref(bytes),
            tenant_id: String::from_utf8_lossy(raw.tenant_id).into_owned(),
            first_rank: first.map(|first| first.rank.as_u64()),
            first_index: first.map(|first| first.index),
            ..self.blank(reason)
        })
    }

    fn blank(&self, reason: Reason) -> v1::DeadLetter {
        v1::DeadLetter {
            reason: reason as u32,
            origin_topic: self.config.topic.clone(),
            origin_partition: partition_index(self.config.partition),
            origin_generation: self.rank.generation(),
            origin_offset: self.rank.offset(),
            appended_at_nanos: self.record.appended_at_nanos,
            ..Default::default()
        }
    }

    fn cell(&self, index: u32, letter: &v1::DeadLetter) -> (Key, Cell) {
        let key = keys::dead_letter(self.config.partition, Position::new(self.rank, index));
        (key, Cell { version: self.rank.as_u64(), value: letter.encode_to_vec().into() })
    }

    /// The fates of the record's pulses that were not counted.
    pub(super) fn fates(&self, pulses: u32, not_counted: &[(u32, Fate)]) -> (Key, Cell) {
        let fates = v1::RecordFates {
            pulses,
            not_counted: not_counted.iter().map(|(index, fate)| fate_proto(*index, *fate)).collect(),
        };
        let range = self.config.shape.range_start(self.rank, 0);
        let key = keys::fates(self.config.partition, range, self.rank);
        (key, Cell { version: self.rank.as_u64(), value: fates.encode_to_vec().into() })
    }
}

fn detail(reason: Reason, first: Option<Position>, field: impl Fn() -> Option<String>) -> String {
    match (reason, first) {
        (Reason::IdConflict, Some(first)) => format!("the id was counted at {first} with another payload"),
        (Reason::Undecodable, _) => "the bytes are no pulso.v1.Pulse".to_owned(),
        (Reason::Misrouted, _) => "the pulse stands in a partition that is not its tenant's".to_owned(),
        (Reason::BeyondHorizon, _) => "the pulse is older than ids are remembered".to_owned(),
        _ => field().unwrap_or_default(),
    }
}

fn fate_proto(index: u32, fate: Fate) -> v1::PulseFate {
    let (reason, first) = match fate {
        Fate::Counted => (0, None),
        Fate::Duplicate { first } => (0, Some(first)),
        Fate::Conflict { first } => (Reason::IdConflict as u32, Some(first)),
        Fate::DeadLettered(reason) => (reason as u32, None),
    };
    let first = first.unwrap_or_default();
    v1::PulseFate { index, reason, first_rank: first.rank.as_u64(), first_index: first.index }
}

/// Reads the fate of one pulse that was not counted.
#[must_use]
pub fn read_fate(fate: &v1::PulseFate) -> Option<Fate> {
    let first = Position::new(Rank::from_u64(fate.first_rank), fate.first_index);
    Some(match fate.reason {
        0 => Fate::Duplicate { first },
        reason => match Reason::from_byte(u8::try_from(reason).ok()?)? {
            Reason::IdConflict => Fate::Conflict { first },
            reason => Fate::DeadLettered(reason),
        },
    })
}

/// The cells that an applied catalog stands in: its document under its version, and the head. In one process the log
/// is all that must survive, so the fold writes them as pricing does; the same version is the same bytes.
pub(super) fn catalog_cells(fact: &v1::control::Fact) -> Vec<(Key, Cell)> {
    let v1::control::Fact::CatalogApplied(applied) = fact else { return Vec::new() };
    let version = applied.version;
    let head = Bytes::copy_from_slice(&version.to_be_bytes());
    vec![
        (keys::catalog_version(version), Cell { version, value: applied.document.clone() }),
        (keys::catalog_head(), Cell { version, value: head }),
    ]
}
