//! The admin listener: `/metrics` for Prometheus, `/livez` and `/readyz` for whoever runs the process.
//!
//! It is the last thing to stop, so that a shutdown can be watched.

use std::io;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::health::Health;

/// The recorder of metrics wants its old samples swept at about this pace; else they pile up when nobody reads them.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);
/// The text format of Prometheus.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What the admin listener serves.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Renders the metrics.
    pub metrics: PrometheusHandle,
    /// What is ready.
    pub health: Health,
}

/// Serves until `stop`, then finishes what is in flight.
///
/// # Errors
/// When the listener fails.
pub async fn serve(listener: TcpListener, admin: Admin, stop: CancellationToken) -> io::Result<()> {
    let metrics = admin.metrics.clone();
    let stopped = stop.clone();
    let server = axum::serve(listener, router(admin)).with_graceful_shutdown(stopped.cancelled_owned());
    let upkeep = async move {
        let mut every = tokio::time::interval(UPKEEP_EVERY);
        loop {
            every.tick().await;
            metrics.run_upkeep();
        }
    };
    tokio::select! {
        served = server => served,
        () = upkeep => Ok(()),
    }
}

fn router(admin: Admin) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .with_state(admin)
}

async fn metrics(State(admin): State<Admin>) -> Response {
    ([(header::CONTENT_TYPE, METRICS_TYPE)], admin.metrics.render()).into_response()
}

async fn readyz(State(admin): State<Admin>) -> Response {
    let readiness = admin.health.readiness();
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness)).into_response()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use crate::service::telemetry;

    async fn request(addr: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn health_and_metrics_are_served_until_the_stop() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let health = Health::new();
        let part = health.part("partition-3");
        let admin = Admin { metrics: telemetry::install_metrics().unwrap(), health: health.clone() };
        let stop = CancellationToken::new();
        let asked = async {
            assert!(request(addr, "/livez").await.starts_with("HTTP/1.1 200"));
            part.not_ready("halted: a checksum does not hold");
            let answer = request(addr, "/readyz").await;
            assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
            let body = r#"{"ready":false,"not_ready":[{"name":"partition-3","reason":"halted: a checksum does not hold"}]}"#;
            assert!(answer.ends_with(body), "{answer}");
            part.ready();
            let answer = request(addr, "/readyz").await;
            assert!(
                answer.starts_with("HTTP/1.1 200") && answer.ends_with(r#"{"ready":true,"not_ready":[]}"#)
            );
            let answer = request(addr, "/metrics").await;
            assert!(
                answer.contains("text/plain; version=0.0.4") && answer.contains("pulso_build_info"),
                "{answer}"
            );
            assert!(request(addr, "/else").await.starts_with("HTTP/1.1 404"));
            stop.cancel();
        };
        let (served, ()) = tokio::join!(serve(listener, admin, stop.clone()), asked);
        served.unwrap();
    }
}
