//! `GET /v1/dead-letters` and `/v1/dead-letters/{id}`: what could not be counted, and why (G13).

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use pulso_domain::ids::TenantId;
use pulso_domain::position::Position;
use pulso_domain::reason::Reason;
use pulso_domain::time::Instant;
use pulso_ingestor_consumer::fold::letters::WHOLE_RECORD;
use pulso_proto::walk;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::Api;
use crate::http::format::json;
use crate::http::paging::{Paging, bad_token};
use crate::http::params::{Parameters, Segments, Strict, page_size};
use crate::problem::{Code, Problem};
use crate::read::letters::{Letter, LetterFilter};
use crate::read::pulse::PulseView;
use crate::read::sources::Sources;
use crate::read::wait::Until;

/// Parameters of the list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeadLettersParams {
    /// Only of this tenant.
    #[param(pattern = r"^[A-Za-z0-9._-]{1,64}$", example = "acme")]
    tenant_id: Option<String>,
    /// Only for this reason.
    #[param(value_type = Option<ReasonWord>)]
    reason: Option<String>,
    /// Most dead letters of a page. With a rare filter a page may be shorter, also empty, and have a next one.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 1000, example = 100)]
    page_size: Option<String>,
    /// The `next_page_token` of the page before.
    page_token: Option<String>,
    /// Waits until this position, a receipt as `[generation:]partition:offset`, is folded.
    #[param(pattern = r"^([0-9]{1,7}:)?[0-9]{1,5}:[0-9]{1,12}$", example = "0:0")]
    wait_for: Option<String>,
}

impl Parameters for DeadLettersParams {}

/// Parameters of a look-up.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeadLetterParams {
    /// Waits until this position, a receipt as `[generation:]partition:offset`, is folded.
    #[param(pattern = r"^([0-9]{1,7}:)?[0-9]{1,5}:[0-9]{1,12}$", example = "0:0")]
    wait_for: Option<String>,
}

impl Parameters for DeadLetterParams {}

/// The dead letter in the path.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct DeadLetterPath {
    /// Its id, as the list has it.
    #[param(pattern = r"^[0-9]{1,7}:[0-9]{1,5}:[0-9]{1,12}(:[0-9]{1,9})?$", example = "1:0:0:0")]
    id: String,
}

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

/// A page of dead letters.
#[derive(Serialize, ToSchema)]
pub(crate) struct DeadLetters {
    /// The dead letters, by partition and position.
    dead_letters: Vec<DeadLetter>,
    /// Asks for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    next_page_token: Option<String>,
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
    /// The pulse, when it can be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pulse: Option<PulseView>,
    /// Whether it was sent again.
    replayed: bool,
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

/// Lists dead letters.
///
/// By partition and position, optionally of one tenant or for one reason.
#[utoipa::path(
    get,
    path = "/v1/dead-letters",
    operation_id = "listDeadLetters",
    tag = "operations",
    params(DeadLettersParams),
    responses((status = 200, description = "The dead letters, by partition and position.", body = DeadLetters)),
)]
pub(crate) async fn list_dead_letters(
    State(api): State<Arc<Api>>,
    asked: Strict<DeadLettersParams>,
) -> Result<Response, Problem> {
    let params = asked.params;
    let filter = filter(&params)?;
    let size = page_size(params.page_size.as_deref())?;
    let names = [params.tenant_id.as_deref(), params.reason.as_deref()].map(Option::unwrap_or_default);
    let paging = Paging::new(&api.sources.hash_key, &["dead-letters", names[0], names[1]]);
    let after = match paging.place(params.page_token.as_deref())? {
        None => None,
        Some(place) => {
            let (partition, clustering) = place.split_first_chunk::<4>().ok_or_else(bad_token)?;
            Some((u32::from_be_bytes(*partition), clustering.to_vec()))
        }
    };
    api.wait_for(params.wait_for.as_deref(), Until::Folded).await?;
    api.read(move |api| {
        let found = api.sources.letters(&filter, after.as_ref(), size)?;
        let next_page_token = found.more_after.map(|(partition, clustering)| {
            paging.token(&[&partition.to_be_bytes(), clustering.as_slice()].concat())
        });
        let dead_letters = found.letters.into_iter().map(shown).collect();
        json(&DeadLetters { dead_letters, next_page_token })
    })
    .await
}

fn filter(params: &DeadLettersParams) -> Result<LetterFilter, Problem> {
    let tenant_id = params.tenant_id.clone();
    if tenant_id.as_ref().is_some_and(|tenant| TenantId::new(tenant).is_none()) {
        return Err(Problem::parameter("tenant_id", "use 1 to 64 characters of A-Z a-z 0-9 . _ -"));
    }
    let reason = match params.reason.as_deref() {
        None => None,
        Some(code) => Some(Reason::from_code(code).ok_or_else(|| {
            let known = Reason::ALL.map(Reason::code).join(", ");
            Problem::parameter("reason", format!("use one of: {known}"))
        })?),
    };
    Ok(LetterFilter { tenant_id, reason })
}

/// Shows one dead letter.
///
/// With its origin, and the pulse when it can be read.
#[utoipa::path(
    get,
    path = "/v1/dead-letters/{id}",
    operation_id = "getDeadLetter",
    tag = "operations",
    params(DeadLetterPath, DeadLetterParams),
    responses((status = 200, description = "The dead letter.", body = DeadLetter)),
)]
pub(crate) async fn get_dead_letter(
    State(api): State<Arc<Api>>,
    Segments(path): Segments<DeadLetterPath>,
    asked: Strict<DeadLetterParams>,
) -> Result<Response, Problem> {
    api.wait_for(asked.params.wait_for.as_deref(), Until::Folded).await?;
    api.read(move |api| {
        let unknown = || Problem::new(Code::DeadLetterNotFound, "take the id from the list /v1/dead-letters");
        let (partition, position) = place(&api.sources, &path.id).ok_or_else(unknown)?;
        let letter = api.sources.letter(partition, position)?.ok_or_else(unknown)?;
        json(&shown(letter))
    })
    .await
}

/// The place that an id names.
fn place(sources: &Sources, id: &str) -> Option<(u32, Position)> {
    match id.matches(':').count() {
        2 => sources.record_place(id).map(|place| (place.partition, Position::new(place.rank, WHOLE_RECORD))),
        3 => sources.pulse_place(id),
        _ => None,
    }
}

fn shown(letter: Letter) -> DeadLetter {
    let (position, content) = (letter.position, letter.content);
    let written = |position: Position| {
        let (rank, partition) = (position.rank, letter.partition);
        let record = format!("{}:{partition}:{}", rank.generation(), rank.offset());
        if position.index == WHOLE_RECORD { record } else { format!("{record}:{}", position.index) }
    };
    let first = content.first_rank.map(pulso_domain::position::Rank::from_u64);
    let first = first.map(|rank| written(Position::new(rank, content.first_index.unwrap_or_default())));
    let reason = u8::try_from(content.reason).ok().and_then(Reason::from_byte);
    let raw = content.origin_index.and_then(|_| walk::pulse(&content.original).ok());
    let seconds = content.appended_at_nanos.div_euclid(1_000_000_000);
    let nanos = i32::try_from(content.appended_at_nanos.rem_euclid(1_000_000_000)).unwrap_or_default();
    DeadLetter {
        id: written(position),
        // A reason of a newer version cannot stand here: its fold would have halted the partition.
        reason: reason.unwrap_or(Reason::Undecodable).code(),
        detail: content.detail,
        origin: Origin {
            topic: content.origin_topic,
            generation: content.origin_generation,
            partition: content.origin_partition,
            offset: content.origin_offset,
            index: content.origin_index,
        },
        appended_at: Instant::new(seconds, nanos).unwrap_or(Instant::EPOCH).to_string(),
        tenant_id: content.tenant_id,
        first_position: first,
        pulse: raw.as_ref().map(PulseView::of),
        replayed: false,
    }
}
