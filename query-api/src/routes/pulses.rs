//! `GET /v1/tenants/{tenant}/pulses/{id}`: what became of a pulse.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::api::Api;
use crate::http::format::json;
use crate::http::params::{Parameters, Segments, Strict};
use crate::problem::{Code, Problem};
use crate::read::pulse::{PulseFate, PulseName};
use crate::read::wait::Until;

/// The pulse in the path.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct PulsePath {
    /// Whose.
    #[param(pattern = r"^[A-Za-z0-9._-]{1,64}$", example = "acme")]
    tenant: String,
    /// The pulse's id.
    #[param(min_length = 1, max_length = 128, example = "01890a5d-ac96-774b-bcce-b302099a8057")]
    id: String,
}

/// Parameters of the look-up.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct PulseParams {
    /// The copy at this position, `[generation:]partition:offset:index`, rather than the counted one.
    #[param(pattern = r"^([0-9]{1,7}:)?[0-9]{1,5}:[0-9]{1,12}:[0-9]{1,9}$", example = "1:0:0:0")]
    position: Option<String>,
    /// Waits until this position, a receipt as `[generation:]partition:offset`, is folded.
    #[param(pattern = r"^([0-9]{1,7}:)?[0-9]{1,5}:[0-9]{1,12}$", example = "0:0")]
    wait_for: Option<String>,
}

impl Parameters for PulseParams {}

/// Says what became of a pulse.
///
/// Answers the counted one, or its dead letter where nothing else exists. With `position` it answers that very copy, also
/// one that is not folded yet.
#[utoipa::path(
    get,
    path = "/v1/tenants/{tenant}/pulses/{id}",
    operation_id = "getPulse",
    tag = "pulses",
    params(PulsePath, PulseParams),
    responses((status = 200, description = "The pulse and its fate.", body = PulseFate)),
)]
pub(crate) async fn get_pulse(
    State(api): State<Arc<Api>>,
    Segments(path): Segments<PulsePath>,
    asked: Strict<PulseParams>,
) -> Result<Response, Problem> {
    let params = asked.params;
    let place = match params.position.as_deref() {
        None => None,
        Some(text) => Some(api.sources.pulse_place(text).ok_or_else(|| {
            Problem::parameter("position", "write [generation:]partition:offset:index, as answers do")
        })?),
    };
    api.wait_for(params.wait_for.as_deref(), Until::Folded).await?;
    api.read(move |api| {
        let name = PulseName { tenant_id: &path.tenant, id: &path.id };
        api.sources.refuse_halted_tenant(&path.tenant)?;
        let found = match place {
            Some((partition, position)) => api.sources.pulse_at(name, partition, position),
            None => api.sources.pulse_by_id(name),
        };
        match found {
            // A tenant that is not known is the better answer; its dead letters are found all the same.
            Err(problem) if problem.code == Code::PulseNotFound => {
                api.known_tenant(&path.tenant)?;
                Err(problem)
            }
            found => json(&found?),
        }
    })
    .await
}
