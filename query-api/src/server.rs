//! The HTTP server of the API: the router behind the connections of [`pulso_platform::service::http`].

use std::io;

use pulso_platform::service::http::{self, HttpBounds};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::read::sources::Sources;
use crate::router::router;
use crate::settings::QuerySettings;

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
    let bounds = HttpBounds {
        connections_max: settings.connections_max,
        header_wait_max: settings.header_wait_max,
        drain_max: settings.drain_max,
    };
    Ok(http::serve(bounds, router(settings, sources), listener, shutdown).await?)
}
