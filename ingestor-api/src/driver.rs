//! Drives one connection: its transport and all of its calls, in one task.
//!
//! With a task for each call, as is usual, each answer wakes the transport by itself, and nearly each answer is one
//! system call: more than half of what a single pulse costs. Here all calls that a confirmation of the log has made
//! ready go on first, and then the transport writes their answers together. The price: one connection keeps at most one
//! core busy, so heavy senders use several, as HTTP/2 asks them to anyway.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::outbox::Socket;
use crate::routes::Routes;
use crate::settings::IngestSettings;

// tonic leaves several limits open and thereby removes the defaults beneath it; each one here says what it bounds.

/// Unread bytes of one call: a batch of a thousand pulses arrives without waiting for the window.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
/// Unread bytes of one connection; fixed rather than adaptive, so that the memory of a connection has a bound.
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// Larger frames than HTTP/2's least: a batch of a thousand pulses may come in one, and then need not be put together.
const FRAME_BYTES_MAX: u32 = 256 * 1024;
/// Request headers of one call; nothing of ours needs more, and continuation floods end here.
const HEADER_LIST_BYTES_MAX: u32 = 16 * 1024;
/// Streams that a client opened and reset before we saw them: rapid reset ends in GOAWAY.
const PENDING_RESETS_MAX: usize = 20;
/// Streams that we had to reset for a client's faults: the same from the other side.
const LOCAL_RESETS_MAX: usize = 1024;
/// A connection that says nothing is asked whether it lives,
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// and closed when it does not answer.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

type Fault = Box<dyn std::error::Error + Send + Sync>;

/// What the settings say about every connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transport {
    calls_max: u32,
    age_max: Duration,
}

impl Transport {
    /// The limits that can be set.
    pub(crate) const fn new(settings: &IngestSettings) -> Self {
        Self { calls_max: settings.connection_calls_max, age_max: settings.connection_age_max }
    }

    /// Every limit of HTTP/2, set by hand.
    fn builder(self, calls: Calls) -> http2::Builder<Calls> {
        let mut builder = http2::Builder::new(calls);
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(self.calls_max)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES_MAX)
            .max_header_list_size(HEADER_LIST_BYTES_MAX)
            .max_pending_accept_reset_streams(Some(PENDING_RESETS_MAX))
            .max_local_error_reset_streams(Some(LOCAL_RESETS_MAX))
            .keep_alive_interval(Some(KEEPALIVE_INTERVAL))
            .keep_alive_timeout(KEEPALIVE_TIMEOUT);
        builder
    }
}

/// Serves one connection to its end. When it has its age, or the drain begins, the client is asked to go, and what it
/// has begun is answered.
pub(crate) async fn drive(
    stream: TcpStream,
    transport: Transport,
    routes: Arc<Routes>,
    draining: CancellationToken,
) {
    let calls = Calls::default();
    let service = service_fn(move |request| {
        let routes = Arc::clone(&routes);
        async move { Ok::<_, Infallible>(routes.answer(request).await) }
    });
    let (socket, outbox) = Socket::new(stream);
    let connection = transport.builder(calls.clone()).serve_connection(socket, service);
    let mut connection = std::pin::pin!(connection);
    let is_to_end = Arc::new(AtomicBool::new(false));
    let mut running = Running::new(until_the_end(transport.age_max, draining, Arc::clone(&is_to_end)));
    let ended = std::future::poll_fn(|context| {
        running.go_on(context);
        if is_to_end.swap(false, Ordering::Relaxed) {
            connection.as_mut().graceful_shutdown();
        }
        if let Poll::Ready(ended) = connection.as_mut().poll(context) {
            // Whoever broke the protocol may still hear why.
            let _late = outbox.send(context);
            return Poll::Ready(ended.map_err(Fault::from));
        }
        if let Poll::Ready(Err(broken)) = outbox.send(context) {
            return Poll::Ready(Err(broken.into()));
        }
        if running.take(&calls) {
            running.go_on(context);
        }
        Poll::Pending
    });
    if let Err(error) = ended.await {
        tracing::debug!(error, "a connection ended with a fault");
    }
}

async fn until_the_end(age_max: Duration, draining: CancellationToken, is_to_end: Arc<AtomicBool>) {
    tokio::select! {
        () = draining.cancelled() => {}
        () = tokio::time::sleep(age_max) => {}
    }
    is_to_end.store(true, Ordering::Relaxed);
}

/// Takes the calls that the transport begins; the task of the connection fetches them. Bounded by the limit on streams.
#[derive(Clone, Default)]
struct Calls {
    begun: Arc<Mutex<Vec<BoxFuture<'static, ()>>>>,
}

impl<Call: Future<Output = ()> + Send + 'static> Executor<Call> for Calls {
    fn execute(&self, call: Call) {
        self.begun.lock().push(Box::pin(call));
    }
}

/// The calls of a connection that have not ended.
struct Running {
    calls: FuturesUnordered<BoxFuture<'static, ()>>,
}

impl Running {
    /// No calls yet; what waits for the connection's end runs beside them.
    fn new(end: impl Future<Output = ()> + Send + 'static) -> Self {
        let calls = FuturesUnordered::new();
        calls.push(Box::pin(end) as BoxFuture<'static, ()>);
        Self { calls }
    }

    /// Lets every call that was woken go on.
    fn go_on(&mut self, context: &mut Context<'_>) {
        while let Poll::Ready(Some(())) = self.calls.poll_next_unpin(context) {}
    }

    /// Takes what has begun; false when nothing has.
    fn take(&mut self, calls: &Calls) -> bool {
        let mut begun = calls.begun.lock();
        let any = !begun.is_empty();
        self.calls.extend(begun.drain(..));
        any
    }
}
