//! `POST /v1/usage-records`: the same for those that speak no gRPC.

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use pulso_proto::usage::JsonUpdate;
use serde_json::json;

use super::intake::{Intake, Refusal};

/// Bytes of one body: what fits a gRPC message is about twice as long as JSON.
const BODY_BYTES_MAX: usize = 8 << 20;

/// The route.
pub(super) fn router(intake: Intake) -> Router {
    Router::new()
        .route("/v1/usage-records", post(take))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(intake)
}

async fn take(State(intake): State<Intake>, body: Result<Json<JsonUpdate>, JsonRejection>) -> Response {
    let update = match body {
        Ok(Json(update)) => update.into_update(),
        Err(rejection) => return problem(rejection.status(), "INVALID_BODY", &rejection.body_text()),
    };
    let taken = update.map_err(Refusal::Invalid).and_then(|update| intake.take(&update));
    match taken {
        Ok(taken) => Json(json!({ "taken": taken })).into_response(),
        Err(refusal) => refused(&refusal),
    }
}

fn refused(refusal: &Refusal) -> Response {
    let (status, code) = match refusal {
        Refusal::NeedsUpgrade(_) => (StatusCode::UNPROCESSABLE_ENTITY, "NEEDS_UPGRADE"),
        Refusal::Invalid(_) => (StatusCode::UNPROCESSABLE_ENTITY, "INVALID_USAGE"),
        Refusal::Full => (StatusCode::TOO_MANY_REQUESTS, "OVERLOADED"),
    };
    problem(status, code, &refusal.to_string())
}

/// Problem details (RFC 9457), as the REST API answers them.
fn problem(status: StatusCode, code: &str, detail: &str) -> Response {
    let body = json!({ "status": status.as_u16(), "code": code, "detail": detail });
    let kind = [(header::CONTENT_TYPE, "application/problem+json")];
    (status, kind, body.to_string()).into_response()
}
