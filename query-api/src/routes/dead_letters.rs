//! `GET /v1/dead-letters` and `/v1/dead-letters/{id}`: what could not be counted, why, and what was done about
//! it (G13).

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use pulso_domain::ids::TenantId;
use pulso_domain::position::Position;
use pulso_domain::reason::Reason;
use pulso_ingestor_consumer::desk::{Case, LetterState};
use pulso_ingestor_consumer::fold::letters::WHOLE_RECORD;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::Api;
use crate::http::format::json;
use crate::http::paging::{Paging, bad_token};
use crate::http::params::{Parameters, Segments, Strict, page_size, shorten};
use crate::problem::{Code, Problem};
use crate::read::letters::LetterFilter;
use crate::read::sources::Sources;
use crate::read::wait::Until;
use crate::routes::letter_view::{DeadLetter, DeadLetterDetails, ReasonWord, StateWord};

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
    /// Only in this state.
    #[param(value_type = Option<StateWord>)]
    state: Option<String>,
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
    let paging = letter_paging(&api, "dead-letters", &filter);
    let after = letter_place(&paging, params.page_token.as_deref())?;
    api.wait_for(params.wait_for.as_deref(), Until::Folded).await?;
    api.read(move |api| {
        let found = api.sources.letters(&filter, after.as_ref(), size)?;
        let next_page_token = found.more_after.map(|place| letter_token(&paging, &place));
        let dead_letters = found.letters.iter().map(DeadLetter::of).collect();
        json(&DeadLetters { dead_letters, next_page_token })
    })
    .await
}

/// Names a list of letters for its page tokens.
pub(crate) fn letter_paging(api: &Api, operation: &str, filter: &LetterFilter) -> Paging {
    let tenant_id = filter.tenant_id.as_deref().unwrap_or_default();
    let reason = filter.reason.map_or("", Reason::code);
    let state = filter.state.map_or("", LetterState::as_str);
    Paging::new(&api.sources.hash_key, &[operation, tenant_id, reason, state])
}

/// Where a page of letters begins.
pub(crate) fn letter_place(paging: &Paging, token: Option<&str>) -> Result<Option<(u32, Vec<u8>)>, Problem> {
    let Some(place) = paging.place(token)? else { return Ok(None) };
    let (partition, clustering) = place.split_first_chunk::<4>().ok_or_else(bad_token)?;
    Ok(Some((u32::from_be_bytes(*partition), clustering.to_vec())))
}

/// The token of the page behind a place.
pub(crate) fn letter_token(paging: &Paging, (partition, clustering): &(u32, Vec<u8>)) -> String {
    paging.token(&[&partition.to_be_bytes(), clustering.as_slice()].concat())
}

fn filter(params: &DeadLettersParams) -> Result<LetterFilter, Problem> {
    letter_filter([params.tenant_id.as_deref(), params.reason.as_deref(), params.state.as_deref()])
}

/// Reads tenant, reason and state.
pub(crate) fn letter_filter([tenant_id, reason, state]: [Option<&str>; 3]) -> Result<LetterFilter, Problem> {
    if tenant_id.is_some_and(|tenant| TenantId::new(tenant).is_none()) {
        return Err(Problem::parameter("tenant_id", "use 1 to 64 characters of A-Z a-z 0-9 . _ -"));
    }
    let reason = reason.map(|code| {
        let known = || Reason::ALL.map(Reason::code).join(", ");
        Reason::from_code(code)
            .ok_or_else(|| Problem::parameter("reason", format!("use one of: {}", known())))
    });
    let state = state.map(|word| {
        let known = || LetterState::ALL.map(LetterState::as_str).join(", ");
        LetterState::parse(word)
            .ok_or_else(|| Problem::parameter("state", format!("use one of: {}", known())))
    });
    Ok(LetterFilter {
        tenant_id: tenant_id.map(str::to_owned),
        reason: reason.transpose()?,
        state: state.transpose()?,
    })
}

/// Shows one dead letter.
///
/// With its origin, its bytes decoded as far as they go, and everything that was done about it.
#[utoipa::path(
    get,
    path = "/v1/dead-letters/{id}",
    operation_id = "getDeadLetter",
    tag = "operations",
    params(DeadLetterPath, DeadLetterParams),
    responses((status = 200, description = "The dead letter.", body = DeadLetterDetails)),
)]
pub(crate) async fn get_dead_letter(
    State(api): State<Arc<Api>>,
    Segments(path): Segments<DeadLetterPath>,
    asked: Strict<DeadLetterParams>,
) -> Result<Response, Problem> {
    api.wait_for(asked.params.wait_for.as_deref(), Until::Folded).await?;
    api.read(move |api| {
        let case = known_letter(&api.sources, &path.id)?;
        json(&DeadLetterDetails::of(&api.sources, &case)?)
    })
    .await
}

/// The letter of an id, or the problem that there is none.
pub(crate) fn known_letter(sources: &Sources, id: &str) -> Result<Case, Problem> {
    let unknown = || {
        let detail = format!("there is no {}; take the id from the list /v1/dead-letters", shorten(id));
        Problem::new(Code::DeadLetterNotFound, detail)
    };
    let (partition, position) = place(sources, id).ok_or_else(unknown)?;
    sources.letter(partition, position)?.ok_or_else(unknown)
}

/// The place that an id names.
fn place(sources: &Sources, id: &str) -> Option<(u32, Position)> {
    match id.matches(':').count() {
        2 => sources.record_place(id).map(|place| (place.partition, Position::new(place.rank, WHOLE_RECORD))),
        3 => sources.pulse_place(id),
        _ => None,
    }
}
