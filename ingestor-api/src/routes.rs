//! Which service a path belongs to. Ingest comes first and costs one comparison; health and reflection are rare.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::{Code, Status};
use tower::Service;
use tower::util::BoxCloneSyncService;

use crate::service::IngestService;

type Other = BoxCloneSyncService<http::Request<Body>, http::Response<Body>, Infallible>;

/// All services of the listener. It is cloned for each request, so all but ingest stand behind one pointer.
#[derive(Clone)]
pub(crate) struct Routes {
    ingest: IngestService,
    others: Arc<[(&'static str, Other)]>,
}

impl Routes {
    /// Ingest and others.
    pub(crate) fn new(ingest: IngestService, others: impl Into<Arc<[(&'static str, Other)]>>) -> Self {
        Self { ingest, others: others.into() }
    }

    /// One of the others, by the name of its service.
    pub(crate) fn other<S>(service: S) -> (&'static str, Other)
    where
        S: NamedService + Clone + Send + Sync + 'static,
        S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
        S::Future: Send + 'static,
    {
        (S::NAME, BoxCloneSyncService::new(service))
    }
}

impl Service<http::Request<Body>> for Routes {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Every service here is always ready: what is too much is refused, not queued.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let path = request.uri().path();
        let name = path.strip_prefix('/').and_then(|path| path.split_once('/')).map(|(name, _)| name);
        if name == Some(IngestService::NAME) {
            return self.ingest.call(request);
        }
        match self.others.iter().find(|(other, _)| name == Some(other)) {
            Some((_, service)) => Box::pin(tower::ServiceExt::oneshot(service.clone(), request)),
            None => Box::pin(async { Ok(Status::new(Code::Unimplemented, "").into_http()) }),
        }
    }
}
