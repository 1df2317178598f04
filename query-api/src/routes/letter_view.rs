//! A dead letter as it is shown, in the list and alone.

use pulso_domain::position::{Position, Rank, partition_generation};
use pulso_domain::reason::Reason;
use pulso_domain::time::Instant;
use pulso_ingestor_consumer::desk::{Case, Done, LetterState};
use pulso_ingestor_consumer::fold::actions::letter_of;
use pulso_ingestor_consumer::fold::letters::WHOLE_RECORD;
use pulso_proto::v1::dead_letter_action::Kind;
use pulso_proto::walk::readable_pulse;
use serde::Serialize;
use utoipa::ToSchema;

use super::letter_bytes::LetterBytes;
use crate::problem::Problem;
use crate::read::position::written;
use crate::read::pulse::{FateWord, PulseView};
use crate::read::sources::Sources;

/// The reasons, as the schema has them.
pub(crate) struct ReasonWord;

impl utoipa::PartialSchema for ReasonWord {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .description(Some("Why a pulse could not be counted."))
            .enum_values(Some(Reason::ALL.map(Reason::code)))
            .into()
    }
}

impl ToSchema for ReasonWord {
    fn name() -> std::borrow::Cow<'static, str> {
        "Reason".into()
    }
}

/// What stands about a dead letter.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = DeadLetterState)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) enum StateWord {
    /// Nobody has sent it again or given it up.
    Open,
    /// It was sent again.
    Replayed,
    /// It was given up.
    Dropped,
}

/// What was done about a dead letter.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = DeadLetterActionKind)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) enum ActionWord {
    /// A version was written that is to be sent instead of the original.
    Fixed,
    /// It was given up.
    Dropped,
    /// It was sent again.
    Replayed,
}

/// A pulse or record that could not be counted.
#[derive(Serialize, ToSchema)]
pub(crate) struct DeadLetter {
    /// Its origin as `generation:partition:offset:index`; a whole record has no index.
    #[schema(example = "1:3:1024:17")]
    id: String,
    /// Why.
    #[schema(value_type = ReasonWord, example = "ID_CONFLICT")]
    reason: &'static str,
    /// What exactly is wrong.
    detail: String,
    /// Where it came from.
    origin: Origin,
    /// When the log took it.
    #[schema(format = "date-time")]
    appended_at: String,
    /// The tenant, when it could be read.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schema(required = false, example = "acme")]
    tenant_id: String,
    /// Of a conflict: where the counted one stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "1:3:980:2", nullable = false)]
    first_position: Option<String>,
    /// The original pulse, when any of it can be read: the fields up to the first bytes that make no sense.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pulse: Option<PulseView>,
    /// What stands about it.
    #[schema(value_type = StateWord, example = "open")]
    state: &'static str,
    /// Whether it was sent again.
    replayed: bool,
    /// Where it stands again, once it was sent again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "1:3:2048:0", nullable = false)]
    replay_position: Option<String>,
    /// The pulse that a replay sends, or sent, instead of the original: the newest fix.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    fixed_pulse: Option<PulseView>,
    /// The dead letter that this one was before it was sent again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "1:3:512:4", nullable = false)]
    replay_of: Option<String>,
}

/// Where a dead letter came from.
#[derive(Serialize, ToSchema)]
pub(crate) struct Origin {
    /// The topic.
    #[schema(example = "resource-consumption")]
    topic: String,
    /// The generation.
    generation: u32,
    /// The partition.
    partition: u32,
    /// The record's offset.
    offset: u64,
    /// The pulse's index in the record; absent when the whole record is the dead letter.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    index: Option<u32>,
}

/// A dead letter with its bytes and everything that was done about it.
#[derive(Serialize, ToSchema)]
pub(crate) struct DeadLetterDetails {
    /// As the list has it.
    #[serde(flatten)]
    letter: DeadLetter,
    /// Its bytes, never changed.
    original: LetterBytes,
    /// What was done about it, the oldest first.
    actions: Vec<DeadLetterAction>,
    /// What became of it after it was sent again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<FateWord>, nullable = false)]
    replay_fate: Option<&'static str>,
}

/// Something that was done about a dead letter.
#[derive(Serialize, ToSchema)]
pub(crate) struct DeadLetterAction {
    /// What.
    #[schema(value_type = ActionWord)]
    action: &'static str,
    /// Who, as they named themselves.
    #[schema(example = "maria")]
    actor: String,
    /// When.
    #[schema(format = "date-time")]
    at: String,
    /// Why, in their words.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schema(required = false, example = "the meter wrote an exponent")]
    note: String,
    /// Where the action stands in the log; of a replay, the new position of the pulse.
    #[schema(example = "1:3:2048:0")]
    position: String,
    /// Of a fix: the pulse.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pulse: Option<PulseView>,
}

/// The id of a dead letter.
pub(crate) fn letter_id((partition, position): (u32, Position)) -> String {
    if position.index == WHOLE_RECORD {
        let rank = position.rank;
        return format!("{}:{partition}:{}", rank.generation(), rank.offset());
    }
    written(partition, position)
}

impl DeadLetter {
    /// A letter with what was done about it.
    pub(crate) fn of(case: &Case) -> Self {
        let letter = &case.letter;
        let generation = partition_generation(case.partition);
        let first = first_of(letter).filter(|first| first.rank.generation() == generation);
        let reason = u8::try_from(letter.reason).ok().and_then(Reason::from_byte);
        let fixed = case.done.iter().rev().find(|done| done.action.kind() == Kind::Fixed);
        let state = case.state();
        Self {
            id: letter_id((case.partition, case.position)),
            // A reason of a newer version cannot stand here: its fold would have halted the partition.
            reason: reason.unwrap_or(Reason::Undecodable).code(),
            detail: letter.detail.clone(),
            origin: Origin {
                topic: letter.origin_topic.clone(),
                generation: letter.origin_generation,
                partition: letter.origin_partition,
                offset: letter.origin_offset,
                index: letter.origin_index,
            },
            appended_at: instant(letter.appended_at_nanos),
            tenant_id: letter.tenant_id.clone(),
            first_position: first.map(|first| written(case.partition, first)),
            pulse: case.original_pulse().and_then(|bytes| readable(&bytes)),
            state: state.as_str(),
            replayed: state == LetterState::Replayed,
            replay_position: case.replay().map(|place| written(place.partition, place.position)),
            fixed_pulse: fixed.map(|done| PulseView::of(&readable_pulse(&done.action.pulse))),
            replay_of: letter.replay_of.as_ref().and_then(letter_of).map(letter_id),
        }
    }
}

/// Where the counted one stands, of a conflict.
fn first_of(letter: &pulso_proto::v1::DeadLetter) -> Option<Position> {
    let rank = letter.first_rank.map(Rank::from_u64)?;
    Some(Position::new(rank, letter.first_index.unwrap_or_default()))
}

impl DeadLetterDetails {
    /// A letter with everything.
    pub(crate) fn of(sources: &Sources, case: &Case) -> Result<Self, Problem> {
        let replay_fate = match case.replay() {
            None => None,
            Some(place) => sources.fate_at(place.partition, place.position)?,
        };
        let mut letter = DeadLetter::of(case);
        if let Some(first) = first_of(&case.letter) {
            // It may stand in an earlier generation, where its tenant had another partition.
            let partition = sources.partition_at(&case.letter.tenant_id, first.rank);
            letter.first_position = Some(written(partition, first));
        }
        Ok(Self {
            letter,
            original: LetterBytes::of(&case.letter.original, case.letter.origin_index.is_some()),
            actions: case.done.iter().map(DeadLetterAction::of).collect(),
            replay_fate,
        })
    }
}

impl DeadLetterAction {
    fn of(done: &Done) -> Self {
        let action = &done.action;
        let kind = match action.kind() {
            Kind::Fixed => "fixed",
            Kind::Dropped => "dropped",
            Kind::Replayed | Kind::Unspecified => "replayed",
        };
        let is_fix = action.kind() == Kind::Fixed;
        Self {
            action: kind,
            actor: action.actor.clone(),
            at: instant(action.at_nanos),
            note: action.note.clone(),
            position: written(done.place.partition, done.place.position),
            pulse: is_fix.then(|| PulseView::of(&readable_pulse(&action.pulse))),
        }
    }
}

/// What can be read of a pulse, when that says whose it is.
fn readable(bytes: &[u8]) -> Option<PulseView> {
    let raw = readable_pulse(bytes);
    (!raw.id.is_empty() || !raw.tenant_id.is_empty()).then(|| PulseView::of(&raw))
}

fn instant(nanos: i64) -> String {
    let rest = i32::try_from(nanos.rem_euclid(1_000_000_000)).unwrap_or_default();
    Instant::new(nanos.div_euclid(1_000_000_000), rest).unwrap_or(Instant::EPOCH).to_string()
}
