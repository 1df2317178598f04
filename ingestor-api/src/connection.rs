//! The connections of the listener: a bounded number at a time, each with `TCP_NODELAY` and a task of its own. Further
//! ones wait in the kernel's queue.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::driver::{Transport, drive};
use crate::routes::Routes;

/// How long to wait when the machine has no file descriptor or memory for another connection.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// Serves connections until the drain begins, then until the last one has ended. Dropped, it cuts those that are open.
pub(crate) async fn serve(
    listener: TcpListener,
    connections_max: usize,
    (transport, routes): (Transport, Arc<Routes>),
    draining: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(connections_max.min(Semaphore::MAX_PERMITS)));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = draining.cancelled() => break,
            Some(ended) = connections.join_next() => report(ended),
            Some((stream, place)) = accept(&listener, &places) => {
                let driven = drive(stream, transport, Arc::clone(&routes), draining.clone());
                connections.spawn(async move {
                    driven.await;
                    drop(place);
                });
            }
        }
    }
    // Who connects from now on is refused at once, rather than left waiting.
    drop(listener);
    while let Some(ended) = connections.join_next().await {
        report(ended);
    }
}

/// The next connection and its place.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    loop {
        match listener.accept().await.and_then(|(stream, _)| stream.set_nodelay(true).map(|()| stream)) {
            Ok(stream) => return Some((stream, place)),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection now");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "the task of a connection failed, and its calls with it");
    }
}
