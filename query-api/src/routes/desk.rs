//! `POST /v1/dead-letters:fix`, `:preview`, `:replay` and `:drop`: dead letters are mended, sent again or given up (G13).
//! Nothing is edited in place; each leaves who, when and what.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use pulso_domain::position::Position;
use pulso_ingestor_consumer::desk::{
    Accepted, Author, Case, Decision, Done, Judge, LetterState, Refusal, Sent, Verdict, fixed,
};

use super::desk_answers::{DropAnswer, Preview, PreviewParts, Refused, ReplayAnswer, Replayed, WAS_REPLAYED};
use super::desk_requests::{
    DropRequest, FixRequest, NoParams, PreviewRequest, ReplayRequest, Wanted, author,
};
use super::letter_view::{DeadLetterDetails, letter_id};
use crate::api::Api;
use crate::http::format::json;
use crate::http::json::read_json;
use crate::http::params::Strict;
use crate::metrics::acted;
use crate::problem::{Code, Problem};
use crate::read::preview::Additions;
use crate::routes::dead_letters::known_letter;

/// Letters that are read at a time.
const LETTERS_PER_STEP: usize = 128;
/// Letters that one preview looks at: money does not add up over parts, so that a preview is one answer.
const PREVIEW_LETTERS_MAX: usize = 10_000;
/// Reads of one request that may find nothing: with a rare filter the rest is asked for by its token.
const IDLE_READS_MAX: u32 = 10;

/// Fixes a dead letter.
///
/// Sets fields of its pulse, as a new version that a replay will send; the original is kept, and so is every version.
/// The result must be a good pulse. A letter that could not be read at all takes every field.
#[utoipa::path(
    post,
    path = "/v1/dead-letters:fix",
    operation_id = "fixDeadLetter",
    tag = "operations",
    request_body = FixRequest,
    responses((status = 200, description = "The dead letter with its new version.", body = DeadLetterDetails)),
)]
pub(crate) async fn fix_dead_letter(
    State(api): State<Arc<Api>>,
    _asked: Strict<NoParams>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let sent: FixRequest = read_json(&api, &headers, body).await?;
    let author = author(sent.actor, sent.note)?;
    let changes = sent.changes.read()?;
    api.read(move |api| {
        let mut case = known_letter(&api.sources, &sent.id)?;
        if case.state() == LetterState::Replayed {
            return Err(Problem::new(Code::DeadLetterReplayed, WAS_REPLAYED));
        }
        let base = case.pulse();
        let pulse = fixed(base.as_deref(), &changes).map_err(|rejection| Problem::invalid_fix(&rejection))?;
        let decision = [((case.partition, case.position), Decision::Fix(pulse))];
        case.done.extend(decide(api, &decision, &author)?);
        json(&DeadLetterDetails::of(&api.sources, &case)?)
    })
    .await
}

/// Previews a replay.
///
/// Says what replays would add to usage and to the money of each tenant's month, under the catalog in force, and what
/// would be refused and why. Changes nothing. It looks at what is counted now.
#[utoipa::path(
    post,
    path = "/v1/dead-letters:preview",
    operation_id = "previewDeadLetters",
    tag = "operations",
    request_body = PreviewRequest,
    responses((status = 200, description = "What replays would change.", body = Preview)),
)]
pub(crate) async fn preview_dead_letters(
    State(api): State<Arc<Api>>,
    _asked: Strict<NoParams>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let sent: PreviewRequest = read_json(&api, &headers, body).await?;
    let wanted = sent.wanted()?;
    api.read(move |api| {
        api.with_desk(|desk| {
            let mut judge = Judge::new(desk);
            let mut parts = PreviewParts::default();
            let mut additions = Additions::default();
            let mut looking = Looking::new(api, &wanted, PREVIEW_LETTERS_MAX)?;
            while let Some(cases) = looking.next(api)? {
                for case in cases {
                    parts.letters += 1;
                    match judge.judge(&case)? {
                        Verdict::Counts(accepted) => additions.add(&accepted),
                        Verdict::Refused(refusal) => parts.refuse(refused(&case, refusal)),
                    }
                }
            }
            parts.more = looking.more_after.is_some();
            json(&Preview::new(parts, &additions.usage(), additions.money(&api.sources)?))
        })
    })
    .await
}

/// Sends dead letters again.
///
/// Each goes through the log as an ordinary pulse and keeps its origin. What would not count is not sent and is answered
/// with its reason. A letter counts once, however often it is sent. With a filter, `next_page_token` asks for the rest.
#[utoipa::path(
    post,
    path = "/v1/dead-letters:replay",
    operation_id = "replayDeadLetters",
    tag = "operations",
    request_body = ReplayRequest,
    responses((status = 200, description = "What became of each.", body = ReplayAnswer)),
)]
pub(crate) async fn replay_dead_letters(
    State(api): State<Arc<Api>>,
    _asked: Strict<NoParams>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let sent: ReplayRequest = read_json(&api, &headers, body).await?;
    let author = author(sent.actor.clone(), sent.note.clone())?;
    let (wanted, size) = sent.wanted()?;
    api.read(move |api| {
        api.with_desk(|desk| {
            let mut judge = Judge::new(desk);
            let mut answer = ReplayAnswer::default();
            let mut looking = Looking::new(api, &wanted, size)?;
            while let Some(cases) = looking.next(api)? {
                let mut letters: Vec<((u32, Position), Accepted)> = Vec::new();
                for case in cases {
                    match judge.judge(&case)? {
                        Verdict::Counts(accepted) => {
                            letters.push(((case.partition, case.position), *accepted))
                        }
                        Verdict::Refused(refusal) => answer.refused.push(refused(&case, refusal)),
                    }
                }
                let sent = desk.send(&letters, &author);
                letters.iter().zip(sent).for_each(|((letter, accepted), sent)| match sent {
                    Sent::At(place) => answer.replayed.push(Replayed::new(*letter, accepted, place)),
                    Sent::NotStored(detail) => answer.refused.push(Refused::not_stored(*letter, detail)),
                    Sent::Unknown(detail) => answer.refused.push(Refused::unknown(*letter, detail)),
                });
            }
            acted("replayed", answer.replayed.len());
            answer.next_page_token = looking.token(api);
            json(&answer)
        })
    })
    .await
}

/// Gives dead letters up.
///
/// With a note that says why. They stay where they are, marked; a fix takes one up again. With a filter,
/// `next_page_token` asks for the rest.
#[utoipa::path(
    post,
    path = "/v1/dead-letters:drop",
    operation_id = "dropDeadLetters",
    tag = "operations",
    request_body = DropRequest,
    responses((status = 200, description = "Which were given up.", body = DropAnswer)),
)]
pub(crate) async fn drop_dead_letters(
    State(api): State<Arc<Api>>,
    _asked: Strict<NoParams>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let sent: DropRequest = read_json(&api, &headers, body).await?;
    let author = author(sent.actor.clone(), Some(sent.note.clone()))?;
    let (wanted, size) = sent.wanted()?;
    api.read(move |api| {
        let mut answer = DropAnswer::default();
        let mut looking = Looking::new(api, &wanted, size)?;
        while let Some(cases) = looking.next(api)? {
            let mut decisions = Vec::new();
            for case in cases {
                match case.state() {
                    LetterState::Open => decisions.push(((case.partition, case.position), Decision::Drop)),
                    // It is given up already: nothing more to say.
                    LetterState::Dropped => answer.dropped.push(letter_id((case.partition, case.position))),
                    LetterState::Replayed => answer.refused.push(Refused::replayed(&case)),
                }
            }
            decide(api, &decisions, &author)?;
            answer.dropped.extend(decisions.iter().map(|(letter, _)| letter_id(*letter)));
        }
        answer.next_page_token = looking.token(api);
        json(&answer)
    })
    .await
}

fn decide(
    api: &Api,
    decisions: &[((u32, Position), Decision)],
    author: &Author,
) -> Result<Vec<Done>, Problem> {
    let done = api.with_desk(|desk| Ok(desk.decide(decisions, author)?))?;
    for (_, decision) in decisions {
        acted(if *decision == Decision::Drop { "dropped" } else { "fixed" }, 1);
    }
    Ok(done)
}

fn refused(case: &Case, refusal: Refusal) -> Refused {
    Refused::new((case.partition, case.position), refusal)
}

/// Goes through the letters that a request wants, some at a time.
struct Looking<'a> {
    wanted: &'a Wanted,
    left: usize,
    idle_reads_left: u32,
    /// Of ids: how many are done.
    done: usize,
    /// Of a filter: where to go on, once there is more.
    more_after: Option<(u32, Vec<u8>)>,
    at_end: bool,
}

impl<'a> Looking<'a> {
    fn new(api: &Api, wanted: &'a Wanted, most: usize) -> Result<Self, Problem> {
        if let Wanted::Ids(ids) = wanted {
            // Before anything is done, so that an unknown one leaves the others untouched.
            ids.iter().try_for_each(|id| known_letter(&api.sources, id).map(drop))?;
        }
        let more_after = wanted.place(api)?;
        Ok(Self { wanted, left: most, idle_reads_left: IDLE_READS_MAX, done: 0, more_after, at_end: false })
    }

    fn next(&mut self, api: &Api) -> Result<Option<Vec<Case>>, Problem> {
        if self.at_end || self.left == 0 || self.idle_reads_left == 0 {
            return Ok(None);
        }
        let most = self.left.min(LETTERS_PER_STEP);
        let cases = match self.wanted {
            Wanted::Ids(ids) => {
                let some = ids[self.done..].iter().take(most);
                let cases: Vec<_> =
                    some.map(|id| known_letter(&api.sources, id)).collect::<Result<_, _>>()?;
                self.done += cases.len();
                self.at_end = self.done == ids.len();
                cases
            }
            Wanted::Filter(filter, _) => {
                let found = api.sources.letters(filter, self.more_after.as_ref(), most)?;
                self.at_end = found.more_after.is_none();
                self.more_after = found.more_after;
                self.idle_reads_left -= u32::from(found.letters.len() < most);
                found.letters
            }
        };
        self.left -= cases.len();
        Ok(Some(cases))
    }

    /// Asks for the rest; none for ids, which are done all at once.
    fn token(&self, api: &Api) -> Option<String> {
        self.wanted.token(api, self.more_after.as_ref().filter(|_| !self.at_end)?)
    }
}
