//! Serves a router over HTTP: a bounded number of connections, each with the limits that axum leaves open, and an ordered
//! stop. Also reads a request's body within its bounds of size and time.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

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

/// What bounds the connections of one listener.
#[derive(Clone, Copy, Debug)]
pub struct HttpBounds {
    /// Connections at a time; further ones wait in the kernel's queue.
    pub connections_max: usize,
    /// Longest that a client may take for the headers of a request.
    pub header_wait_max: Duration,
    /// Longest that requests in flight are waited for at a stop.
    pub drain_max: Duration,
}

/// Serves until `shutdown` is cancelled and what was in flight is answered, at most `drain_max` longer.
///
/// # Errors
/// When the listener cannot be used.
pub async fn serve(
    bounds: HttpBounds,
    router: Router,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> io::Result<()> {
    listener.local_addr()?;
    let server = Arc::new(connection_builder(&bounds));
    let places = Arc::new(Semaphore::new(bounds.connections_max.min(Semaphore::MAX_PERMITS)));
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
    if tokio::time::timeout(bounds.drain_max, drained).await.is_err() {
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

fn connection_builder(bounds: &HttpBounds) -> Builder<TokioExecutor> {
    let mut server = Builder::new(TokioExecutor::new());
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.header_wait_max)
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

/// The bounds of a body.
#[derive(Clone, Copy, Debug)]
pub struct BodyBounds {
    /// Most bytes.
    pub bytes_max: usize,
    /// Longest time.
    pub wait_max: Duration,
}

/// Why a body could not be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BodyError {
    /// It has more bytes than it may.
    #[error("the body has more than {bytes_max} bytes; send it in parts")]
    TooLarge {
        /// The bound.
        bytes_max: usize,
    },
    /// It did not come in time.
    #[error("the body did not come in time; send the whole body at once")]
    Late,
    /// It ended early.
    #[error("the body ended before it was complete")]
    Cut,
}

impl BodyError {
    /// Whether the same request may succeed later without anyone's help.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Late | Self::Cut)
    }
}

/// All of the body.
///
/// # Errors
/// When it breaks a bound or does not come whole.
pub async fn read_body(headers: &HeaderMap, body: Body, bounds: BodyBounds) -> Result<Bytes, BodyError> {
    let too_large = BodyError::TooLarge { bytes_max: bounds.bytes_max };
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|bytes: u64| bytes > bounds.bytes_max as u64) {
        return Err(too_large);
    }
    let collected = tokio::time::timeout(bounds.wait_max, Limited::new(body, bounds.bytes_max).collect());
    match collected.await {
        Err(_) => Err(BodyError::Late),
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large),
        Ok(Err(_)) => Err(BodyError::Cut),
    }
}
