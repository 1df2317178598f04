//! The fate of one pulse, by its id or by its position.

use std::collections::BTreeMap;

use pulso_domain::fate::Fate;
use pulso_domain::position::Position;
use pulso_domain::pulse::{Pulse, RawPulse, check};
use pulso_domain::time::Instant;
use pulso_ingestor_consumer::archive::Next;
use pulso_ingestor_consumer::fold::ids::RunShape;
use pulso_ingestor_consumer::fold::record::{RecordParts, split};
use pulso_ingestor_consumer::fold::state::FoldState;
use pulso_ingestor_consumer::lookup;
use pulso_proto::walk;
use serde::Serialize;
use utoipa::ToSchema;

use super::position::{RecordPlace, written};
use super::sources::Sources;
use crate::problem::{Code, Problem};

/// A pulse as it was sent. Of a dead letter, every field that could be read.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[schema(as = Pulse)]
pub(crate) struct PulseView {
    /// The id that its client gave it.
    #[schema(example = "01890a5d-ac96-774b-bcce-b302099a8057")]
    pub(crate) id: String,
    /// Whose use.
    #[schema(example = "acme")]
    pub(crate) tenant_id: String,
    /// Of what.
    #[schema(example = "block-storage")]
    pub(crate) product_sku: String,
    /// How much, as decimal text.
    #[schema(example = "1.5")]
    pub(crate) used_amount: String,
    /// The unit of the amount.
    #[schema(example = "GiB-Hours")]
    pub(crate) use_unit: String,
    /// When it happened, by its client's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = "date-time", example = "2026-01-31T23:59:59Z", nullable = false)]
    pub(crate) occurred_at: Option<String>,
    /// Where it happened.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schema(required = false, example = "br-se1")]
    pub(crate) region: String,
    /// What was used.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schema(required = false, example = "volume-17")]
    pub(crate) resource_id: String,
    /// Free attributes.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(required = false)]
    pub(crate) tags: BTreeMap<String, String>,
}

impl PulseView {
    /// A good pulse.
    pub(crate) fn of_good(pulse: &Pulse<'_>) -> Self {
        Self {
            id: pulse.id.to_owned(),
            tenant_id: pulse.tenant_id.to_owned(),
            product_sku: pulse.product_sku.to_owned(),
            used_amount: pulse.used_amount.to_string(),
            use_unit: pulse.use_unit.to_owned(),
            occurred_at: Some(pulse.occurred_at.to_string()),
            region: pulse.region.to_owned(),
            resource_id: pulse.resource_id.to_owned(),
            tags: pulse.tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        }
    }

    /// What can be shown of a pulse's fields, good or not.
    pub(crate) fn of(raw: &RawPulse<'_>) -> Self {
        if let Ok(pulse) = check(raw) {
            return Self::of_good(&pulse);
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let at = raw.occurred_at.and_then(|(seconds, nanos)| Instant::new(seconds, nanos));
        Self {
            id: text(raw.id),
            tenant_id: text(raw.tenant_id),
            product_sku: text(raw.product_sku),
            used_amount: text(raw.used_amount),
            use_unit: text(raw.use_unit),
            occurred_at: at.map(|at| at.to_string()),
            region: text(raw.region),
            resource_id: text(raw.resource_id),
            tags: raw.tags.iter().map(|(key, value)| (text(key), text(value))).collect(),
        }
    }
}

/// What became of a pulse.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[schema(as = PulseFate)]
pub(crate) struct PulseFate {
    /// `pending` is in the log and not folded yet.
    #[schema(value_type = FateWord)]
    pub(crate) fate: &'static str,
    /// Where it stands, as `generation:partition:offset:index`.
    #[schema(example = "1:3:1024:17")]
    pub(crate) position: String,
    /// Of a duplicate and a conflict: where the counted one stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "1:3:980:2", nullable = false)]
    pub(crate) first_position: Option<String>,
    /// Of a dead letter: why.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "INVALID_AMOUNT", nullable = false)]
    pub(crate) reason: Option<&'static str>,
    /// The pulse.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) pulse: Option<PulseView>,
}

/// The words for what became of a pulse.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = Fate)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) enum FateWord {
    /// Part of its tenant's totals.
    Counted,
    /// The same id and payload stand at an earlier position.
    Duplicate,
    /// The same id stands at an earlier position with another payload.
    Conflict,
    /// Kept as a dead letter.
    DeadLettered,
    /// In the log and not folded yet.
    Pending,
}

/// Which pulse is asked for.
#[derive(Clone, Copy)]
pub(crate) struct PulseName<'a> {
    /// Whose.
    pub(crate) tenant_id: &'a str,
    /// Its id.
    pub(crate) id: &'a str,
}

impl PulseName<'_> {
    fn is(&self, raw: &RawPulse<'_>) -> bool {
        raw.tenant_id == self.tenant_id.as_bytes() && raw.id == self.id.as_bytes()
    }
}

/// What is said of a record that nobody will fold.
pub(super) fn skipped_by_operator() -> Problem {
    Problem::new(Code::PulseNotFound, "its record was skipped by an operator; see /v1/ledger")
}

fn unknown() -> Problem {
    Problem::new(
        Code::PulseNotFound,
        "it is not folded yet, has expired, or was never held; ?wait_for= waits",
    )
}

impl Sources {
    /// The counted pulse of an id, or its dead letter where nothing else exists.
    pub(crate) fn pulse_by_id(&self, name: PulseName<'_>) -> Result<PulseFate, Problem> {
        let partitions = self.partitions_of(name.tenant_id);
        let hash = self.hash_key.id_hash(name.tenant_id, name.id);
        let found = lookup::find_id_in(&*self.store, &RunShape::FORMAT, &partitions, (name.id, hash))?;
        if let Some((partition, entry)) = found {
            return self.folded(name, partition, entry.first)?.ok_or_else(unknown);
        }
        match self.letter_of(name)? {
            Some((partition, position)) => self.folded(name, partition, position)?.ok_or_else(unknown),
            None => Err(unknown()),
        }
    }

    /// The fate of the copy at a position.
    pub(crate) fn pulse_at(
        &self,
        name: PulseName<'_>,
        partition: u32,
        position: Position,
    ) -> Result<PulseFate, Problem> {
        if position.rank.generation() > self.log.layout().generation {
            return Err(unknown());
        }
        if let Some(moved) = self.moved_to(RecordPlace { partition, rank: position.rank })? {
            return match moved.place_of(position.index) {
                Some((partition, position)) => self.pulse_at(name, partition, position),
                None => self.pending(name, partition, position)?.ok_or_else(unknown),
            };
        }
        let state = lookup::load_state(&*self.store, partition)?;
        let offset = position.rank.offset();
        let skipped = |gap: &pulso_proto::v1::Gap| (gap.from..gap.to).contains(&offset);
        let is_skipped = |state: &FoldState| state.is_given_up_at(offset) || state.gaps.iter().any(skipped);
        if state.as_ref().is_some_and(is_skipped) {
            return Err(skipped_by_operator());
        }
        if state.is_some_and(|state| position.rank < state.rank()) {
            return self.folded(name, partition, position)?.ok_or_else(unknown);
        }
        self.pending(name, partition, position)?.ok_or_else(unknown)
    }

    /// What became of whatever pulse stands at a position; `None` when none does, or its record is not held any more.
    pub(crate) fn fate_at(
        &self,
        partition: u32,
        position: Position,
    ) -> Result<Option<&'static str>, Problem> {
        if let Some(moved) = self.moved_to(RecordPlace { partition, rank: position.rank })? {
            return match moved.place_of(position.index) {
                Some((partition, position)) => self.fate_at(partition, position),
                None => Ok(Some("pending")),
            };
        }
        let state = lookup::load_state(&*self.store, partition)?;
        if state.as_ref().is_some_and(|state| state.is_given_up_at(position.rank.offset())) {
            return Ok(None);
        }
        let Some(state) = state.filter(|state| position.rank < state.rank()) else {
            return Ok(Some("pending"));
        };
        if state.gaps.iter().any(|gap| (gap.from..gap.to).contains(&position.rank.offset())) {
            return Ok(None);
        }
        let mut fate = None;
        self.archive().visit_records(partition, &[position.rank], position, &mut |archived| {
            fate = (archived.position == position).then(|| archived.fate.as_str());
            Next::Enough
        })?;
        Ok(fate)
    }

    /// The fate of a folded pulse, if it is the one asked for.
    fn folded(
        &self,
        name: PulseName<'_>,
        partition: u32,
        position: Position,
    ) -> Result<Option<PulseFate>, Problem> {
        let mut found = None;
        self.archive().visit_records(partition, &[position.rank], position, &mut |archived| {
            if archived.position == position {
                let raw = walk::pulse(archived.bytes).unwrap_or_default();
                found = name.is(&raw).then(|| self.answer((partition, position), archived.fate, &raw));
            }
            Next::Enough
        })?;
        Ok(found)
    }

    /// A pulse that is in the log and not folded yet, if it is the one asked for.
    fn pending(
        &self,
        name: PulseName<'_>,
        partition: u32,
        position: Position,
    ) -> Result<Option<PulseFate>, Problem> {
        let marks = self.log.watermarks(partition)?;
        let offset = position.rank.offset();
        if !(marks.start_offset..marks.end_offset).contains(&offset) {
            return Ok(None);
        }
        let records = self.log.fetch(partition, &[offset])?;
        let mut parts = RecordParts::default();
        let Some(record) = records.first().filter(|record| split(&record.value, &mut parts).is_ok()) else {
            return Ok(None);
        };
        debug_assert_eq!(record.offset, offset);
        let bytes = parts.pulses.get(position.index as usize);
        let raw = bytes.and_then(|bytes| walk::pulse(bytes).ok()).filter(|raw| name.is(raw));
        Ok(raw.map(|raw| PulseFate {
            fate: "pending",
            position: written(partition, position),
            first_position: None,
            reason: None,
            pulse: Some(PulseView::of(&raw)),
        }))
    }
}

impl Sources {
    fn answer(&self, (partition, position): (u32, Position), fate: Fate, raw: &RawPulse<'_>) -> PulseFate {
        let first = match fate {
            Fate::Duplicate { first } | Fate::Conflict { first } => {
                let tenant_id = String::from_utf8_lossy(raw.tenant_id);
                Some(written(self.partition_at(&tenant_id, first.rank), first))
            }
            Fate::Counted | Fate::DeadLettered(_) => None,
        };
        let reason = match fate {
            Fate::DeadLettered(reason) => Some(reason.code()),
            Fate::Conflict { .. } => Some(pulso_domain::reason::Reason::IdConflict.code()),
            Fate::Counted | Fate::Duplicate { .. } => None,
        };
        PulseFate {
            fate: fate.as_str(),
            position: written(partition, position),
            first_position: first,
            reason,
            pulse: Some(PulseView::of(raw)),
        }
    }
}
