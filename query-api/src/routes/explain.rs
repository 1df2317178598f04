//! `GET .../invoices/{invoice}/lines/{line}/explain`: the arithmetic of a line, down to its pulses (G19).

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use pulso_domain::position::{Position, Rank};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::Api;
use crate::http::format::json;
use crate::http::paging::{Paging, bad_token};
use crate::http::params::{Parameters, Segments, Strict, page_size};
use crate::problem::Problem;
use crate::read::explain::{LineOf, LinePulse};
use crate::read::position::written;
use crate::read::pulse::PulseView;
use crate::read::wait::Until;
use crate::routes::charges::ChargeRow;
use crate::routes::invoices::Line;

/// The line in the path.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct LinePath {
    /// Whose.
    #[param(pattern = r"^[A-Za-z0-9._-]{1,64}$", example = "acme")]
    tenant: String,
    /// The invoice's id.
    #[param(pattern = r"^[A-Za-z0-9._-]{1,80}$", example = "acme-2026-01")]
    invoice: String,
    /// The line's id.
    #[param(pattern = r"^[0-9a-f]{16}$", example = "85944171f73967e8")]
    line: String,
}

/// Parameters of the explanation.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ExplainParams {
    /// Most pulses of a page.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 1000, example = 100)]
    page_size: Option<String>,
    /// The `next_page_token` of the page before.
    page_token: Option<String>,
    /// Waits until this position, a receipt as `[generation:]partition:offset`, is folded and rated.
    #[param(pattern = r"^([0-9]{1,7}:)?[0-9]{1,5}:[0-9]{1,12}$", example = "0:0")]
    wait_for: Option<String>,
}

impl Parameters for ExplainParams {}

/// How a line came about.
#[derive(Serialize, ToSchema)]
pub(crate) struct Explanation {
    /// The invoice.
    #[schema(example = "acme-2026-01")]
    invoice_id: String,
    /// The currency of all amounts.
    #[schema(example = "BRL")]
    currency: String,
    /// The line.
    line: Line,
    /// Unit price x quantity, price by price. Their billed costs add up to the line's.
    charges: Vec<ChargeRow>,
    /// How the sum becomes the amount.
    rounding: Rounding,
    /// The catalog version that all of it was rated under.
    catalog_version: u64,
    /// The pulses behind the line, by position. Their quantities and costs add up to the line's.
    pulses: Vec<ExplainedPulse>,
    /// Asks for the next page of pulses; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    next_page_token: Option<String>,
}

/// How the sum becomes the amount.
#[derive(Serialize, ToSchema)]
pub(crate) struct Rounding {
    /// How, as the contract says.
    #[schema(example = "half_even")]
    mode: &'static str,
    /// The decimals of the currency's minor unit.
    #[schema(example = 2)]
    decimals: u32,
}

/// A pulse and its share of the line.
#[derive(Serialize, ToSchema)]
pub(crate) struct ExplainedPulse {
    /// Where it stands, as `generation:partition:offset:index`.
    #[schema(example = "1:3:1024:17")]
    position: String,
    /// The pulse.
    #[serde(flatten)]
    pulse: PulseView,
    /// How much of it is in the line, in the line's unit; absent where the quantity is no sum or count.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "1.5", nullable = false)]
    quantity: Option<String>,
    /// What that costs, unrounded; absent where the quantity is no sum or count.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "0.4725", nullable = false)]
    billed_cost: Option<String>,
}

/// Explains an invoice line.
///
/// Shows the arithmetic, price by price, and the pulses behind it, paged by position. Re-adding the pulses gives the line.
#[utoipa::path(
    get,
    path = "/v1/tenants/{tenant}/invoices/{invoice}/lines/{line}/explain",
    operation_id = "explainInvoiceLine",
    tag = "money",
    params(LinePath, ExplainParams),
    responses((status = 200, description = "The arithmetic and a page of the pulses.", body = Explanation)),
)]
pub(crate) async fn explain_line(
    State(api): State<Arc<Api>>,
    Segments(path): Segments<LinePath>,
    asked: Strict<ExplainParams>,
) -> Result<Response, Problem> {
    let params = asked.params;
    let size = page_size(params.page_size.as_deref())?;
    let request = ["explain", &path.tenant, &path.invoice, &path.line];
    let paging = Paging::new(&api.sources.hash_key, &request);
    let from = match paging.place(params.page_token.as_deref())? {
        None => Position::default(),
        Some(place) => read_place(&place).ok_or_else(bad_token)?,
    };
    api.wait_for(params.wait_for.as_deref(), Until::Rated).await?;
    api.read(move |api| {
        api.known_tenant(&path.tenant)?;
        let drafted = api.sources.invoice(&path.tenant, &path.invoice)?;
        let line = drafted.line(&path.line)?;
        let catalog = api.sources.catalog_version(drafted.set.catalog_version)?;
        let currency = &drafted.invoice.currency;
        let line = LineOf { set: &drafted.set, currency, line, catalog: &catalog };
        let mut pulses = api.sources.pulses_of_line(&line, from, size + 1)?;
        // The page ends before the first pulse that it does not show: there the next one begins.
        let beyond = pulses.split_off(size.min(pulses.len()));
        let next_page_token = beyond.first().map(|next| paging.token(&place(next.position)));
        let shown =
            |pulse: LinePulse| shown(api.sources.partition_at(&path.tenant, pulse.position.rank), pulse);
        json(&Explanation {
            invoice_id: drafted.invoice.invoice_id.clone(),
            currency: currency.clone(),
            line: Line::of(line.line),
            charges: line.charges().cloned().map(ChargeRow::of).collect(),
            rounding: Rounding { mode: drafted.set.rounding.as_str(), decimals: drafted.invoice.decimals },
            catalog_version: drafted.set.catalog_version,
            pulses: pulses.into_iter().map(shown).collect(),
            next_page_token,
        })
    })
    .await
}

fn shown(partition: u32, pulse: LinePulse) -> ExplainedPulse {
    ExplainedPulse {
        position: written(partition, pulse.position),
        pulse: pulse.pulse,
        quantity: pulse.share.map(|share| share.quantity.to_string()),
        billed_cost: pulse.share.map(|share| share.billed_cost.to_string()),
    }
}

fn place(position: Position) -> Vec<u8> {
    [position.rank.as_u64().to_be_bytes().as_slice(), &position.index.to_be_bytes()].concat()
}

fn read_place(place: &[u8]) -> Option<Position> {
    let (rank, index) = place.split_first_chunk::<8>()?;
    let index = u32::from_be_bytes(index.try_into().ok()?);
    Some(Position::new(Rank::from_u64(u64::from_be_bytes(*rank)), index))
}
