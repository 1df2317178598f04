//! What is asked of the desk: which letters, which changes, by whom and why. Read strictly: a field that a request does
//! not have is an error.

use std::collections::{BTreeMap, BTreeSet};

use pulso_domain::pulse::TAGS_MAX;
use pulso_ingestor_consumer::desk::{Author, Changes, LetterState};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::letter_view::{ReasonWord, StateWord};
use crate::api::Api;
use crate::http::params::Parameters;
use crate::problem::{Code, Problem};
use crate::read::letters::LetterFilter;
use crate::routes::dead_letters::{letter_filter, letter_paging, letter_place, letter_token};

/// Letters that one request may name.
const IDS_MAX: usize = 1000;
/// Bytes of an actor's name: it stands in every action.
const ACTOR_BYTES_MAX: usize = 128;
/// Bytes of a note, for the same reason.
const NOTE_BYTES_MAX: usize = 1000;
/// Who acts when nobody says so.
const ACTOR: &str = "api";

/// The desk's requests have no parameters; all is in the body.
#[derive(Deserialize, IntoParams)]
pub(crate) struct NoParams {}

impl Parameters for NoParams {}

/// Which dead letters, when they are not named.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeadLetterFilter {
    /// Only of this tenant.
    #[schema(pattern = r"^[A-Za-z0-9._-]{1,64}$", example = "acme", nullable = false)]
    #[serde(default, deserialize_with = "present")]
    tenant_id: Option<String>,
    /// Only for this reason.
    #[schema(value_type = Option<ReasonWord>, nullable = false)]
    #[serde(default, deserialize_with = "present")]
    reason: Option<String>,
    /// Only in this state, by default `open`.
    #[schema(value_type = Option<StateWord>, nullable = false)]
    #[serde(default, deserialize_with = "present")]
    state: Option<String>,
}

/// A fix of one dead letter.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FixRequest {
    /// Which, as the list has it.
    #[schema(example = "1:0:7:3")]
    pub(crate) id: String,
    /// The fields to set.
    pub(crate) changes: PulseChanges,
    /// Why, for whoever looks at it later.
    #[schema(max_length = 1000, example = "the meter wrote an exponent", nullable = false)]
    #[serde(default, deserialize_with = "present")]
    pub(crate) note: Option<String>,
    /// Who.
    #[schema(min_length = 1, max_length = 128, example = "maria", nullable = false)]
    #[serde(default, deserialize_with = "present")]
    pub(crate) actor: Option<String>,
}

/// Fields of a pulse to set; what is not named stays as it is. An empty text takes an optional field away.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PulseChanges {
    /// The id; a new one where the old one is counted with another payload.
    #[schema(nullable = false)]
    #[serde(default, deserialize_with = "present")]
    id: Option<String>,
    /// Whose use.
    #[schema(example = "acme", nullable = false)]
    #[serde(default, deserialize_with = "present")]
    tenant_id: Option<String>,
    /// Of what.
    #[schema(nullable = false)]
    #[serde(default, deserialize_with = "present")]
    product_sku: Option<String>,
    /// How much, as decimal text.
    #[schema(example = "100000", nullable = false)]
    #[serde(default, deserialize_with = "present")]
    used_amount: Option<String>,
    /// The unit of the amount.
    #[schema(nullable = false)]
    #[serde(default, deserialize_with = "present")]
    use_unit: Option<String>,
    /// When it happened, in RFC 3339.
    #[schema(format = "date-time", nullable = false)]
    #[serde(default, deserialize_with = "present")]
    occurred_at: Option<String>,
    /// Where it happened.
    #[schema(nullable = false)]
    #[serde(default, deserialize_with = "present")]
    region: Option<String>,
    /// What was used.
    #[schema(nullable = false)]
    #[serde(default, deserialize_with = "present")]
    resource_id: Option<String>,
    /// All tags, in place of those that are there.
    #[schema(nullable = false)]
    #[serde(default, deserialize_with = "present")]
    tags: Option<BTreeMap<String, String>>,
}

/// Which replays to preview: exactly one of `ids` and `filter`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PreviewRequest {
    /// These.
    #[schema(min_items = 1, max_items = 1000, nullable = false)]
    #[serde(default, deserialize_with = "present")]
    ids: Option<Vec<String>>,
    /// All that fit, at most 10000.
    #[schema(nullable = false)]
    #[serde(default, deserialize_with = "present")]
    filter: Option<DeadLetterFilter>,
}

/// Which dead letters to send again: exactly one of `ids` and `filter`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReplayRequest {
    /// These.
    #[schema(min_items = 1, max_items = 1000, nullable = false)]
    #[serde(default, deserialize_with = "present")]
    ids: Option<Vec<String>>,
    /// All that fit.
    #[schema(nullable = false)]
    #[serde(default, deserialize_with = "present")]
    filter: Option<DeadLetterFilter>,
    /// With a filter: most letters of one request.
    #[schema(minimum = 1, maximum = 1000, nullable = false)]
    #[serde(default, deserialize_with = "present")]
    page_size: Option<u16>,
    /// With a filter: the `next_page_token` of the answer before.
    #[schema(nullable = false)]
    #[serde(default, deserialize_with = "present")]
    page_token: Option<String>,
    /// Why, for whoever looks at it later.
    #[schema(max_length = 1000, nullable = false)]
    #[serde(default, deserialize_with = "present")]
    pub(crate) note: Option<String>,
    /// Who.
    #[schema(min_length = 1, max_length = 128, example = "maria", nullable = false)]
    #[serde(default, deserialize_with = "present")]
    pub(crate) actor: Option<String>,
}

/// Which dead letters to give up: exactly one of `ids` and `filter`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DropRequest {
    /// These.
    #[schema(min_items = 1, max_items = 1000, nullable = false)]
    #[serde(default, deserialize_with = "present")]
    ids: Option<Vec<String>>,
    /// All that fit.
    #[schema(nullable = false)]
    #[serde(default, deserialize_with = "present")]
    filter: Option<DeadLetterFilter>,
    /// With a filter: most letters of one request.
    #[schema(minimum = 1, maximum = 1000, nullable = false)]
    #[serde(default, deserialize_with = "present")]
    page_size: Option<u16>,
    /// With a filter: the `next_page_token` of the answer before.
    #[schema(nullable = false)]
    #[serde(default, deserialize_with = "present")]
    page_token: Option<String>,
    /// Why: it stays with the letter for good.
    #[schema(min_length = 1, max_length = 1000, example = "a test of the staging meters")]
    pub(crate) note: String,
    /// Who.
    #[schema(min_length = 1, max_length = 128, example = "maria", nullable = false)]
    #[serde(default, deserialize_with = "present")]
    pub(crate) actor: Option<String>,
}

/// A field that is there has a value: null is none.
fn present<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

/// Which letters a request is about.
pub(crate) enum Wanted {
    /// These ids, each once.
    Ids(Vec<String>),
    /// All that fit, from the place of a page token on.
    Filter(LetterFilter, Option<String>),
}

/// Names the lists of the desk for their page tokens: one may be used for the other.
const OPERATION: &str = "desk";

impl Wanted {
    /// Where a filter begins.
    pub(crate) fn place(&self, api: &Api) -> Result<Option<(u32, Vec<u8>)>, Problem> {
        match self {
            Self::Ids(_) => Ok(None),
            Self::Filter(filter, token) => {
                letter_place(&letter_paging(api, OPERATION, filter), token.as_deref())
            }
        }
    }

    /// The token of the place behind; none for ids.
    pub(crate) fn token(&self, api: &Api, place: &(u32, Vec<u8>)) -> Option<String> {
        match self {
            Self::Ids(_) => None,
            Self::Filter(filter, _) => Some(letter_token(&letter_paging(api, OPERATION, filter), place)),
        }
    }
}

impl PreviewRequest {
    /// The letters it is about.
    pub(crate) fn wanted(self) -> Result<Wanted, Problem> {
        wanted(self.ids, self.filter, None)
    }
}

impl ReplayRequest {
    /// The letters it is about, and how many at most.
    pub(crate) fn wanted(self) -> Result<(Wanted, usize), Problem> {
        let size = page_size(self.page_size)?;
        Ok((wanted(self.ids, self.filter, self.page_token)?, size))
    }
}

impl DropRequest {
    /// The letters it is about, and how many at most.
    pub(crate) fn wanted(self) -> Result<(Wanted, usize), Problem> {
        let size = page_size(self.page_size)?;
        Ok((wanted(self.ids, self.filter, self.page_token)?, size))
    }
}

fn wanted(
    ids: Option<Vec<String>>,
    filter: Option<DeadLetterFilter>,
    page_token: Option<String>,
) -> Result<Wanted, Problem> {
    match (ids, filter) {
        (Some(_), _) if page_token.is_some() => Err(bad("give page_token with a filter only")),
        (Some(ids), None) if ids.is_empty() || ids.len() > IDS_MAX => Err(bad("name 1 to 1000 ids")),
        (Some(ids), None) => {
            let mut seen = BTreeSet::new();
            let once = ids.iter().filter(|id| seen.insert(id.as_str())).cloned().collect();
            Ok(Wanted::Ids(once))
        }
        (None, Some(filter)) => {
            let DeadLetterFilter { tenant_id, reason, state } = &filter;
            let read = letter_filter([tenant_id.as_deref(), reason.as_deref(), state.as_deref()])?;
            let state = read.state.or(Some(LetterState::Open));
            Ok(Wanted::Filter(LetterFilter { state, ..read }, page_token))
        }
        _ => Err(bad("give exactly one of ids and filter")),
    }
}

fn page_size(asked: Option<u16>) -> Result<usize, Problem> {
    let size = usize::from(asked.unwrap_or(1000));
    if (1..=1000).contains(&size) { Ok(size) } else { Err(bad("give a page_size from 1 to 1000")) }
}

impl PulseChanges {
    /// The changes, of which there must be one.
    pub(crate) fn read(self) -> Result<Changes, Problem> {
        let changes = Changes {
            id: self.id,
            tenant_id: self.tenant_id,
            product_sku: self.product_sku,
            used_amount: self.used_amount,
            use_unit: self.use_unit,
            occurred_at: self.occurred_at,
            region: self.region,
            resource_id: self.resource_id,
            tags: self.tags,
        };
        if changes == Changes::default() {
            return Err(bad("name a field to set in changes"));
        }
        if changes.tags.as_ref().is_some_and(|tags| tags.len() > TAGS_MAX) {
            return Err(bad("set at most 64 tags"));
        }
        Ok(changes)
    }
}

/// Who acts and why, as it will stand in each action.
pub(crate) fn author(actor: Option<String>, note: Option<String>) -> Result<Author, Problem> {
    let is_plain = |text: &str| !text.chars().any(char::is_control);
    let actor = actor.unwrap_or_else(|| ACTOR.to_owned());
    if actor.trim().is_empty() || actor.len() > ACTOR_BYTES_MAX || !is_plain(&actor) {
        return Err(bad("name an actor of 1 to 128 bytes without control characters"));
    }
    let blank = note.as_ref().is_some_and(|note| note.trim().is_empty());
    let note = note.unwrap_or_default();
    if blank || note.len() > NOTE_BYTES_MAX || !is_plain(&note) {
        return Err(bad("write a note of 1 to 1000 bytes without control characters"));
    }
    Ok(Author { actor, note })
}

fn bad(mend: &'static str) -> Problem {
    Problem::new(Code::InvalidBody, mend)
}
