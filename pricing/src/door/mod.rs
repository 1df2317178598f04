//! The door of pricing in the cluster: usage records by gRPC and by HTTP, on one listener, into the queue of the run loop.
//!
//! A record is taken when it is queued, not when it is rated: what is lost with this process is found in the store by the
//! next marker, by the sweep, or by the next start. When the queue is full the caller hears so and comes again.

mod gather;
mod grpc;
mod http;
mod intake;

use std::io;
use std::time::Duration;

use axum::Router;
use pulso_proto::v1::pricing_service_server::PricingServiceServer;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic_health::ServingStatus;

pub use gather::Gather;
pub use intake::{Intake, Refusal};

/// How long calls in flight may take at a stop: they only queue.
const DRAIN_MAX: Duration = Duration::from_secs(2);

/// Serves until `shutdown` is cancelled and what was in flight is answered.
///
/// # Errors
/// When the listener cannot be used.
pub async fn serve(intake: Intake, listener: TcpListener, shutdown: CancellationToken) -> io::Result<()> {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_service_status("", ServingStatus::Serving).await;
    reporter.set_service_status("pulso.v1.PricingService", ServingStatus::Serving).await;
    let pushes = PricingServiceServer::new(grpc::Pushes { intake: intake.clone() });
    let router = Router::new()
        .route_service("/pulso.v1.PricingService/{*call}", pushes)
        .route_service("/grpc.health.v1.Health/{*call}", health)
        .merge(http::router(intake));
    let stopping = shutdown.clone();
    let serving =
        axum::serve(listener, router).with_graceful_shutdown(async move { stopping.cancelled().await });
    let serving = std::pin::pin!(serving.into_future());
    let too_long = async {
        shutdown.cancelled().await;
        reporter.set_service_status("", ServingStatus::NotServing).await;
        tokio::time::sleep(DRAIN_MAX).await;
    };
    tokio::select! {
        ended = serving => ended,
        () = too_long => Ok(()),
    }
}
