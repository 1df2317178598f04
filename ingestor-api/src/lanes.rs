//! The way into the newest generation of the log: when the log goes on in a next one, so does whatever comes from then on.
//!
//! What is on its way into the one before goes there. It is acknowledged like any other, and whoever folds the log moves it on
//! from behind the seal.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use pulso_platform::log::Log;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::packer::Packer;

/// How late it may be with a next generation. Being late costs only the work of moving what came behind the seal.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The lanes of the newest generation, those of earlier ones until the end.
pub(crate) struct Lanes {
    log: Arc<dyn Log>,
    newest: RwLock<Arc<Packer>>,
}

impl Lanes {
    /// Starts the lanes of the generation that is the newest now. A task in `tasks` drives them and follows the log until `stop`
    /// is cancelled and each last record has its outcome.
    pub(crate) fn start(log: Arc<dyn Log>, tasks: &mut JoinSet<()>, stop: &CancellationToken) -> Arc<Self> {
        let mut driven = JoinSet::new();
        let packer = Packer::start(&log, &mut driven, stop);
        let lanes = Arc::new(Self { log, newest: RwLock::new(Arc::new(packer)) });
        tasks.spawn(follow(Arc::clone(&lanes), driven, stop.clone()));
        lanes
    }

    /// The lanes of the newest generation known here: for all of one request, so that its shares belong together.
    pub(crate) fn newest(&self) -> Arc<Packer> {
        Arc::clone(&self.newest.read())
    }
}

async fn follow(lanes: Arc<Lanes>, mut driven: JoinSet<()>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            // A lane that ends although nobody asked it to ends all.
            Some(_) = driven.join_next() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let layout = lanes.log.layout();
        if layout.generation > lanes.newest.read().layout().generation {
            let packer = Packer::start(&lanes.log, &mut driven, &stop);
            *lanes.newest.write() = Arc::new(packer);
            let (generation, partitions) = (layout.generation, layout.partitions);
            tracing::info!(generation, partitions, "pulses go into the log's next generation from now on");
        }
    }
    while driven.join_next().await.is_some() {}
}
