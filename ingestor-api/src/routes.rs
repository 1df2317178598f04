//! Which service a path belongs to. Sending pulses comes first and costs one comparison; health and reflection are rare.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::{Code, Status};
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceExt};

use crate::service::{IngestService, SEND_PULSES};
use crate::unary::{self, OneAnswer};

type Other = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// All services of the listener.
pub(crate) struct Routes {
    ingest: IngestService,
    others: Vec<(&'static str, Other)>,
}

impl Routes {
    /// Ingest and others.
    pub(crate) fn new(ingest: IngestService, others: impl Into<Vec<(&'static str, Other)>>) -> Self {
        Self { ingest, others: others.into() }
    }

    /// One of the others, by the name of its service.
    pub(crate) fn other<S>(service: S) -> (&'static str, Other)
    where
        S: NamedService + Clone + Send + Sync + 'static,
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
        S::Future: Send + 'static,
    {
        (S::NAME, BoxCloneSyncService::new(service))
    }

    /// Answers one call, at most as long as its sender waits.
    pub(crate) async fn answer(&self, request: Request<Incoming>) -> Response<Answer> {
        match time_limit(request.headers()) {
            None => self.route(request).await,
            Some(limit) => match tokio::time::timeout(limit, self.route(request)).await {
                Ok(response) => response,
                Err(_) => Status::deadline_exceeded(OUT_OF_TIME).into_http().map(Answer::Other),
            },
        }
    }

    async fn route(&self, request: Request<Incoming>) -> Response<Answer> {
        if request.uri().path() == SEND_PULSES && unary::is_plain(request.headers()) {
            return match unary::send_pulses(&self.ingest.ingest, request).await {
                Ok(response) => response.map(Answer::One),
                Err(status) => status.into_http().map(Answer::Other),
            };
        }
        // Behind a pointer, so that the rare does not make room for the usual larger.
        Box::pin(self.others(request.map(Body::new))).await.map(Answer::Other)
    }

    async fn others(&self, request: Request<Body>) -> Response<Body> {
        let path = request.uri().path();
        let name = path.strip_prefix('/').and_then(|path| path.split_once('/')).map(|(name, _)| name);
        if name == Some(IngestService::NAME) {
            return self.ingest.answer(request).await;
        }
        match self.others.iter().find(|(other, _)| name == Some(other)) {
            Some((_, service)) => {
                service.clone().oneshot(request).await.unwrap_or_else(|never| match never {})
            }
            None => Status::new(Code::Unimplemented, "").into_http(),
        }
    }
}

const OUT_OF_TIME: &str = "the call's own time is up; if it sent pulses, send them again with the same ids";

/// How long the sender waits, when it says so: at most eight digits and a unit.
fn time_limit(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = (digits.len() <= 8).then(|| digits.parse().ok())??;
    match unit {
        "H" => Some(Duration::from_secs(number * 3600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

/// The body of a response.
pub(crate) enum Answer {
    /// To pulses that came in one plain message.
    One(OneAnswer),
    /// To anything else.
    Other(Body),
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match self.get_mut() {
            Self::One(body) => Pin::new(body).poll_frame(context),
            Self::Other(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::One(body) => body.is_end_stream(),
            Self::Other(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            // Unknown on purpose: an answer ends with its status, not with its length.
            Self::One(_) => SizeHint::default(),
            Self::Other(body) => body.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_limit_is_digits_and_a_unit() {
        let limit = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", text.parse().expect("a header"));
            time_limit(&headers)
        };
        assert_eq!(limit("2H"), Some(Duration::from_secs(7200)));
        assert_eq!(limit("3M"), Some(Duration::from_secs(180)));
        assert_eq!(limit("99999999S"), Some(Duration::from_secs(99_999_999)));
        assert_eq!(limit("5m"), Some(Duration::from_millis(5)));
        assert_eq!(limit("6u"), Some(Duration::from_micros(6)));
        assert_eq!(limit("7n"), Some(Duration::from_nanos(7)));
        for none in ["", "S", "1", "1x", "999999999S", "-1S", "\u{e9}"] {
            assert_eq!(limit(none), None, "{none:?}");
        }
        assert_eq!(time_limit(&HeaderMap::new()), None);
    }
}
