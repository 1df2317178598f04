//! The HTTP server: a bounded number of connections, each with the limits that axum leaves open, and an ordered stop.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::read::sources::Sources;
use crate::router::router;
use crate::settings::QuerySettings;

/// How long to wait when the machine has no file descriptor or memory for another connection.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);
/// Headers of one request; nothing of ours needs more, a page token included.
const HEADER_BYTES_MAX: usize = 32 * 1024;
/// Requests at a time on one connection of HTTP/2.
const CONNECTION_REQUESTS_MAX: u32 = 64;
/// Streams that a client opened and reset before we saw them: rapid reset ends in GOAWAY.
const PENDING_RESETS_MAX: usize = 20;
/// A connection of HTTP/2 that says nothing is asked whether it lives,
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// and closed when it does not answer.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Why the server ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The listener cannot be used.
    #[error("the API's listener cannot be used: {0}")]
    Listener(#[from] io::Error),
}

impl ServeError {
    /// Whether starting again may help.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        true
    }
}

/// Serves until `shutdown` is cancelled and what was in flight is answered, at most `drain_max` longer.
///
/// # Errors
/// When the listener cannot be used.
pub async fn serve(
    settings: QuerySettings,
    sources: Sources,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    listener.local_addr()?;
    let server = Arc::new(connection_builder(&settings));
    let places = Arc::new(Semaphore::new(settings.connections_max.min(Semaphore::MAX_PERMITS)));
    let drain_max = settings.drain_max;
    let router = router(settings, sources);
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = accept(&listener, &places) => accepted,
        };
        let Some((stream, place)) = accepted else { continue };
        let (server, router, stopping) = (Arc::clone(&server), router.clone(), shutdown.clone());
        connections.spawn(async move {
            converse(&server, stream, router, stopping).await;
            drop(place);
        });
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(drain_max, drained).await.is_err() {
        tracing::warn!("connections are still open after the drain time and are cut");
    }
    Ok(())
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, place)),
        Err(error) => {
            tracing::warn!(%error, "cannot accept a connection now");
            tokio::time::sleep(ACCEPT_RETRY).await;
            None
        }
    }
}

fn connection_builder(settings: &QuerySettings) -> Builder<TokioExecutor> {
    let mut server = Builder::new(TokioExecutor::new());
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(settings.header_wait_max)
        .max_buf_size(HEADER_BYTES_MAX);
    server
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(CONNECTION_REQUESTS_MAX)
        .max_header_list_size(HEADER_BYTES_MAX as u32)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    server
}

/// Answers one connection until it ends; at a stop, until what is in flight is answered.
async fn converse(
    server: &Builder<TokioExecutor>,
    stream: TcpStream,
    router: Router,
    stopping: CancellationToken,
) {
    // Without it small answers wait for acknowledgements; a socket that refuses it works all the same.
    let _ = stream.set_nodelay(true);
    let service = router.map_request(|request: Request<_>| request.map(Body::new));
    let service = TowerToHyperService::new(service.map_err(|never: Infallible| never));
    let mut connection = pin!(server.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}
