//! What the API counts: requests by route, as the router knows it, and by class of status; never a tenant.

use std::time::Duration;

use axum::http::StatusCode;
use metrics::{counter, describe_counter, describe_histogram, histogram};

/// Requests by `route` and `status` class.
pub const REQUESTS: &str = "pulso_query_requests_total";
/// From a request being read to its answer, in seconds, by `route`.
pub const REQUEST_SECONDS: &str = "pulso_query_request_seconds";

/// Dead letters that were acted on, by `action`: `fixed`, `replayed`, `dropped`.
pub const DEAD_LETTER_ACTIONS: &str = "pulso_query_dead_letter_actions_total";

/// Tells the recorder what each metric means.
pub fn describe() {
    describe_counter!(REQUESTS, "requests by route template and class of status");
    describe_counter!(DEAD_LETTER_ACTIONS, "dead letters that were fixed, replayed or dropped, by action");
    describe_histogram!(
        REQUEST_SECONDS,
        "seconds from a request being read to its answer, by route template"
    );
}

/// Counts what was done about dead letters.
pub(crate) fn acted(action: &'static str, letters: usize) {
    counter!(DEAD_LETTER_ACTIONS, "action" => action).increment(letters as u64);
}

/// Counts an answer. A path outside the router is `other`, so that labels stay a closed set.
pub(crate) fn answered(route: Option<&str>, status: StatusCode, took: Duration) {
    let route = route.unwrap_or("other").to_owned();
    let class = match status.as_u16() {
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        _ => "5xx",
    };
    counter!(REQUESTS, "route" => route.clone(), "status" => class).increment(1);
    histogram!(REQUEST_SECONDS, "route" => route).record(took.as_secs_f64());
}
