//! The run loop: what the consumer says has changed is rated, what waits in the queue is taken together, and only then is
//! it said how far the rating has come.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::{Receiver, Select};
use metrics::counter;
use pulso_domain::position::Rank;
use pulso_domain::usage::UsageChanged;
use pulso_domain::window::Window;
use pulso_platform::store::{Cell, Flush, keys};
use tokio_util::sync::CancellationToken;

use super::error::PricingError;
use super::publish::publish;
use super::{PricingService, reading, versions};
use crate::metrics as names;

/// How often the loop looks for a stop and for a catalog that another process applied.
const LOOK_AROUND: Duration = Duration::from_millis(250);

/// What one round rates.
#[derive(Default)]
struct Round {
    /// Tenant-months by partition.
    months: BTreeMap<u32, BTreeSet<(String, Window)>>,
    /// How far each partition will then be rated.
    through: BTreeMap<u32, Rank>,
}

impl PricingService {
    /// Rates what changes until the token is cancelled or the sender is gone. Blocks; for a thread of its own.
    ///
    /// # Errors
    /// Only for what time does not mend, such as a damaged store; everything else is tried again.
    pub fn run(
        &self,
        changes: &Receiver<UsageChanged>,
        stop: &CancellationToken,
    ) -> Result<(), PricingError> {
        {
            let mut work = self.inner.work.lock();
            work.changes = Some(changes.clone());
            work.busy = true;
        }
        let ended = self.catch_up(stop).and_then(|()| self.serve(changes, stop));
        let mut work = self.inner.work.lock();
        work.changes = None;
        self.rest(&mut work);
        ended
    }

    /// What was left over from before the start.
    fn catch_up(&self, stop: &CancellationToken) -> Result<(), PricingError> {
        self.insist(stop, || {
            let mut round = Round::default();
            for partition in 0..self.inner.settings.partitions {
                // Progress first: rows are durable before it, so what it covers is among the months read behind it.
                if let Some(progress) = versions::progress(self.store(), partition)? {
                    round.through.extend(
                        Rank::new(progress.generation, progress.offset).map(|rank| (partition, rank)),
                    );
                }
                let rated = self.store().get(&[keys::rated(partition)])?.pop().flatten();
                let from = Rank::from_u64(rated.map_or(0, |cell| cell.version));
                round.months.insert(partition, reading::months(self.store(), partition, from)?);
            }
            self.rate_round(&round)
        })
    }

    fn serve(&self, changes: &Receiver<UsageChanged>, stop: &CancellationToken) -> Result<(), PricingError> {
        loop {
            self.rest(&mut self.inner.work.lock());
            let mut select = Select::new();
            select.recv(changes);
            select.recv(&self.inner.wake.1);
            // Only looks: what is ready stays in its queue until `busy` is set, so that nobody sees a rest in between.
            let _ = select.ready_timeout(LOOK_AROUND);
            if stop.is_cancelled() {
                return Ok(());
            }
            self.insist(stop, || self.refresh())?;
            let (mut round, all, gone) = self.take_round(changes);
            self.insist(stop, || {
                if all {
                    self.add_all(&mut round)?;
                }
                self.rate_round(&round)
            })?;
            if gone {
                return Ok(());
            }
        }
    }

    /// Everything that waits, whether all months are to be rated again, and whether the sender is gone.
    fn take_round(&self, changes: &Receiver<UsageChanged>) -> (Round, bool, bool) {
        let all = {
            let mut work = self.inner.work.lock();
            work.busy = true;
            std::mem::take(&mut work.all)
        };
        while self.inner.wake.1.try_recv().is_ok() {}
        let mut round = Round::default();
        loop {
            match changes.try_recv() {
                Ok(change) => round.add(change),
                Err(error) => return (round, all, error.is_disconnected()),
            }
        }
    }

    fn add_all(&self, round: &mut Round) -> Result<(), PricingError> {
        for partition in 0..self.inner.settings.partitions {
            let months = reading::months(self.store(), partition, Rank::ZERO)?;
            round.months.entry(partition).or_default().extend(months);
        }
        Ok(())
    }

    fn rate_round(&self, round: &Round) -> Result<(), PricingError> {
        let catalog = || {
            self.refresh()?;
            Ok(Arc::clone(&self.catalog()))
        };
        for (partition, months) in &round.months {
            let as_of = round.through.get(partition).copied().unwrap_or(Rank::ZERO);
            for (tenant_id, month) in months {
                publish(self.store(), &catalog, (tenant_id, *month), as_of)?;
            }
        }
        let marker = |(partition, through): (&u32, &Rank)| {
            (keys::rated(*partition), Cell { version: through.as_u64(), value: Bytes::new() })
        };
        let cells: Vec<_> = round.through.iter().map(marker).collect();
        if !cells.is_empty() {
            self.store().flush(Flush { cells, ..Flush::default() })?;
        }
        Ok(())
    }

    /// Tries again until it works, cannot work, or is stopped.
    fn insist(
        &self,
        stop: &CancellationToken,
        mut attempt: impl FnMut() -> Result<(), PricingError>,
    ) -> Result<(), PricingError> {
        loop {
            match attempt() {
                Err(error) if error.is_retryable() && !stop.is_cancelled() => {
                    counter!(names::RETRIES).increment(1);
                    tracing::warn!(%error, "rating waits and tries again");
                    // A wake-up by an apply may cut the pause short; its flag stands in `work`.
                    let _ = self.inner.wake.1.recv_timeout(LOOK_AROUND);
                }
                Err(error) if error.is_retryable() => return Ok(()),
                ended => return ended,
            }
        }
    }

    fn rest(&self, work: &mut super::Work) {
        work.busy = false;
        self.inner.rested.notify_all();
    }
}

impl Round {
    fn add(&mut self, change: UsageChanged) {
        let months = self.months.entry(change.partition).or_default();
        months.extend(change.months.into_iter().map(|(tenant, month)| (tenant.as_str().to_owned(), month)));
        let through = self.through.entry(change.partition).or_default();
        *through = (*through).max(change.through);
    }
}
