//! The server: gRPC ingest, health and reflection on one listener, and beside it the other ways in.
//!
//! A stop goes in order: not ready, no new connections, streams end, sources take no more messages, what is in flight is
//! answered, return.

use std::sync::Arc;
use std::time::Duration;

use pulso_platform::log::Log;
use pulso_platform::service::health::Health;
use pulso_platform::service::http as platform_http;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::server::NamedService;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::connection::{self, Places};
use crate::driver::Transport;
use crate::ingest::{Ingest, IngestDeps};
use crate::routes::Routes;
use crate::service::IngestService;
use crate::settings::IngestSettings;
use crate::sources::{Channel, Doors, Source, http};

/// How often health follows the log.
const HEALTH_INTERVAL: Duration = Duration::from_millis(100);

/// Why the server ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The descriptors that this binary carries are damaged.
    #[error("the descriptors for reflection cannot be read: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// A task that must run as long as the server has ended.
    #[error("a lane to the log ended unexpectedly; restart the process")]
    LaneEnded,
    /// Another way in ended although nobody asked it to.
    #[error("a source of pulses ended unexpectedly; restart the process")]
    SourceEnded,
}

impl ServeError {
    /// Whether starting again may help.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        !matches!(self, Self::Reflection(_))
    }
}

/// Serves until `shutdown` is cancelled and what was in flight is answered, at most `drain_max` longer.
///
/// # Errors
/// When the server cannot go on.
pub async fn serve(
    settings: IngestSettings,
    deps: IngestDeps,
    doors: impl Into<Doors>,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let doors = doors.into();
    let log = Arc::clone(&deps.log);
    let drain_max = settings.drain_max;
    let places = Places::new(settings.connections_max, settings.connections_per_address_max);
    let (ingest, mut tasks) = Ingest::start(settings, deps);
    let draining = CancellationToken::new();
    let service = IngestService { ingest: Arc::clone(&ingest), draining: draining.clone() };

    let (reporter, health) = tonic_health::server::health_reporter();
    report(&reporter, log.is_appendable()).await;
    let routes = Routes::new(
        service,
        [
            Routes::other(health),
            Routes::other(reflection().build_v1()?),
            Routes::other(reflection().build_v1alpha()?),
        ],
    );
    let how = (Transport::new(ingest.settings()), Arc::new(routes));
    let server = connection::serve(doors.grpc, places, how, draining.clone());
    let stop_others = shutdown.child_token();
    let mut others = open_others((doors.events, doors.sources, doors.health), &ingest, &stop_others);

    let drain = async {
        follow_log(&reporter, &log, &ingest, &shutdown).await;
        report(&reporter, false).await;
        draining.cancel();
        tokio::time::timeout(drain_max, end_watches(&reporter, &ingest)).await.is_ok()
    };
    let served = tokio::select! {
        () = server => Ok(()),
        () = overdue(drain, drain_max) => Ok(()),
        () = tasks.unexpected_end() => Err(ServeError::LaneEnded),
        () = unexpected_end(&mut others, &stop_others) => Err(ServeError::SourceEnded),
    };
    stop_others.cancel();
    let settled = async { while others.join_next().await.is_some() {} };
    if tokio::time::timeout(drain_max, settled).await.is_err() {
        tracing::warn!("a source did not settle what it held in time; its broker delivers that again");
    }
    if tokio::time::timeout(drain_max, tasks.stop()).await.is_err() {
        tracing::warn!("the log did not answer in time; what it was given last is unknown to its senders");
    }
    served
}

/// Starts the ways in beside gRPC.
fn open_others(
    (events, sources, health): (Option<TcpListener>, Vec<Box<dyn Source>>, Health),
    ingest: &Arc<Ingest>,
    shutdown: &CancellationToken,
) -> JoinSet<()> {
    let mut others = JoinSet::new();
    if let Some(listener) = events {
        let (bounds, router) = (http::bounds(ingest), http::router(Arc::clone(ingest)));
        let serving = platform_http::serve(bounds, router, listener, shutdown.clone());
        others.spawn(async {
            if let Err(error) = serving.await {
                tracing::error!(%error, "the listener for events cannot be used");
            }
        });
    }
    for source in sources {
        let part = health.part(source.kind());
        let channel = Channel::new(ingest, source.kind(), &source.place(), part);
        others.spawn(source.run(channel, shutdown.clone()));
    }
    others
}

/// Resolves when one of the others ends before the stop.
async fn unexpected_end(others: &mut JoinSet<()>, shutdown: &CancellationToken) {
    while others.join_next().await.is_none() || shutdown.is_cancelled() {
        std::future::pending::<()>().await;
    }
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(pulso_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

async fn report(reporter: &HealthReporter, is_ready: bool) {
    let status = if is_ready { ServingStatus::Serving } else { ServingStatus::NotServing };
    for service in ["", IngestService::NAME] {
        reporter.set_service_status(service, status).await;
    }
}

/// Health is what the log says, until the stop.
async fn follow_log(
    reporter: &HealthReporter,
    log: &Arc<dyn Log>,
    ingest: &Ingest,
    shutdown: &CancellationToken,
) {
    let mut was_ready = log.is_appendable();
    report(reporter, was_ready).await;
    while tokio::time::timeout(HEALTH_INTERVAL, shutdown.cancelled()).await.is_err() {
        ingest.metrics().show_in_flight(ingest.admission());
        let is_ready = log.is_appendable();
        if is_ready != was_ready {
            tracing::info!(is_ready, "health follows the log");
            report(reporter, is_ready).await;
            was_ready = is_ready;
        }
    }
}

/// Health watches never end by themselves and would keep their connections open: they end when the last call has.
async fn end_watches(reporter: &HealthReporter, ingest: &Ingest) {
    while ingest.admission().calls() > 0 {
        tokio::time::sleep(HEALTH_INTERVAL).await;
    }
    let mut reporter = reporter.clone();
    for service in ["", IngestService::NAME] {
        reporter.clear_service_status(service).await;
    }
}

/// Resolves when a stop has taken longer than it may.
async fn overdue(drain: impl Future<Output = bool>, drain_max: Duration) {
    if drain.await {
        tokio::time::sleep(drain_max).await;
    }
    tracing::warn!("connections are still open after the drain time and are cut");
}
