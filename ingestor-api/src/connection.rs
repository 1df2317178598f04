//! The connections of the listener: a bounded number at a time, each with `TCP_NODELAY` and a task of its own. Further
//! ones wait in the kernel's queue. No address may take all places.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
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
    places: Places,
    (transport, routes): (Transport, Arc<Routes>),
    draining: CancellationToken,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = draining.cancelled() => break,
            Some(ended) = connections.join_next() => report(ended),
            Some((stream, place)) = accept(&listener, &places.all) => {
                let Some(of_address) = places.of_address(&stream) else { continue };
                let driven = drive(stream, transport, Arc::clone(&routes), draining.clone());
                connections.spawn(async move {
                    driven.await;
                    drop((place, of_address));
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

/// How many connections there may be.
pub(crate) struct Places {
    all: Arc<Semaphore>,
    per_address: usize,
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Places {
    pub(crate) fn new(all: usize, per_address: usize) -> Self {
        let all = Arc::new(Semaphore::new(all.min(Semaphore::MAX_PERMITS)));
        Self { all, per_address, taken: Arc::default() }
    }

    /// One of the places of the connection's address; `None` when all of them are taken, or the client is gone already.
    fn of_address(&self, stream: &TcpStream) -> Option<AddressPlace> {
        let address = stream.peer_addr().ok()?.ip().to_canonical();
        let mut taken = self.taken.lock();
        let count = taken.entry(address).or_default();
        if *count >= self.per_address {
            tracing::warn!(%address, connections = *count, "an address has all its connections; another was closed");
            return None;
        }
        *count += 1;
        Some(AddressPlace { address, taken: Arc::clone(&self.taken) })
    }
}

/// Given back when dropped.
struct AddressPlace {
    address: IpAddr,
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Drop for AddressPlace {
    fn drop(&mut self) {
        let mut taken = self.taken.lock();
        if let Some(count) = taken.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.address);
            }
        }
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
