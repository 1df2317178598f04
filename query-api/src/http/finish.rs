//! The last word on every answer: problems are written out, security headers set, the request counted.

use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;

use crate::metrics;
use crate::problem::{Code, Problem, ProblemBody};

/// For what is no page: nothing of it may be loaded or framed.
const POLICY_API: &str = "default-src 'none'; frame-ancestors 'none'";
/// For pages: what this server serves, and styles within the page.
const POLICY_PAGE: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
     frame-ancestors 'none'; base-uri 'none'; form-action 'self'";

/// Passes a request on while there is room, and finishes its answer.
pub(crate) async fn finish(State(room): State<Arc<Semaphore>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let path = request.uri().path().to_owned();
    let route = request.extensions().get::<MatchedPath>().map(|route| route.as_str().to_owned());
    let mut response = match room.try_acquire() {
        Ok(_place) => next.run(request).await,
        Err(_) => {
            let mut refused = Problem::new(Code::Overloaded, "send again in a second").into_response();
            refused.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            refused
        }
    };
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        response = written_out(&problem, &path, response);
    }
    secure(&path, &mut response);
    metrics::answered(route.as_deref(), response.status(), started.elapsed());
    response
}

/// The problem as a body; headers such as `Allow` and `Retry-After` stay.
fn written_out(problem: &Problem, path: &str, empty: Response) -> Response {
    let bytes = serde_json::to_vec(&ProblemBody::new(problem, path)).unwrap_or_default();
    let mut response = (problem.code.status(), bytes).into_response();
    for (name, value) in empty.headers() {
        if name != header::CONTENT_LENGTH && name != header::CONTENT_TYPE {
            response.headers_mut().insert(name.clone(), value.clone());
        }
    }
    let problem_json = HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(header::CONTENT_TYPE, problem_json);
    response
}

fn secure(path: &str, response: &mut Response) {
    let page = path == "/" || path == "/errors" || path.starts_with("/docs");
    let policy = if page { POLICY_PAGE } else { POLICY_API };
    let set = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in set {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    if path.starts_with("/v1") {
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}

/// A path that does not exist.
pub(crate) async fn no_path() -> Problem {
    Problem::new(Code::NotFound, "see /openapi.json or /docs for what there is")
}

/// A method that the path does not have.
pub(crate) async fn no_method() -> Problem {
    Problem::new(Code::MethodNotAllowed, "use one of the methods that the header Allow names")
}

/// A panic of a handler: told in the log, answered without internals.
pub(crate) fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response {
    let what = panic.downcast_ref::<String>().map(String::as_str);
    let what = what.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message");
    debug_assert_eq!(Code::Internal.status(), StatusCode::INTERNAL_SERVER_ERROR);
    Problem::internal(&what).into_response()
}
