//! The run loop: what the consumer says has changed is rated, what waits in the queue is taken together, and only then is
//! it said how far the rating has come.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::{Receiver, Select};
use metrics::counter;
use pulso_domain::position::Rank;
use pulso_domain::usage::{RowSeen, UsageChanged};
use pulso_domain::window::Window;
use pulso_platform::store::{Cell, Flush, keys};
use tokio_util::sync::CancellationToken;

use super::error::PricingError;
use super::publish::{Rating, Seen, publish};
use super::{PricingService, reading, versions};
use crate::metrics as names;

/// How often the loop looks for a stop and for a catalog that another process applied.
const LOOK_AROUND: Duration = Duration::from_millis(250);

/// What one round rates.
#[derive(Default)]
struct Round {
    /// Tenant-months by partition, with the rows that were handed over; none of them where all of a month is asked for.
    months: BTreeMap<u32, BTreeMap<(String, Window), Seen>>,
    /// How far each partition will then be rated.
    through: BTreeMap<u32, Rank>,
    /// From where on the changes of each partition are known.
    from: BTreeMap<u32, Rank>,
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
            for partition in self.inner.settings.layouts.partitions() {
                self.add_left_over(partition, &mut round)?;
            }
            // A catalog that was applied, and not all of whose months were rated before the process ended.
            let version = self.catalog().version();
            let is_new = versions::rated(self.store())? < version;
            if is_new {
                self.add_all(&mut round)?;
            }
            self.rate_round(&round)?;
            if is_new { versions::set_rated(self.store(), version) } else { Ok(()) }
        })
    }

    /// What of a partition is folded and not rated.
    fn add_left_over(&self, partition: u32, round: &mut Round) -> Result<(), PricingError> {
        // Progress first: rows are durable before it, so what it covers is among the months read behind it.
        if let Some(progress) = versions::progress(self.store(), partition)? {
            let folded = Rank::new(progress.generation, progress.offset);
            let through = round.through.entry(partition).or_default();
            *through = (*through).max(folded.unwrap_or(Rank::ZERO));
        }
        let from = self.rated_through(partition)?;
        let all = reading::months(self.store(), partition, from)?;
        // Nothing of these was handed over, so all of them is looked at.
        round.months.entry(partition).or_default().extend(all.into_iter().map(|month| (month, Seen::new())));
        Ok(())
    }

    fn rated_through(&self, partition: u32) -> Result<Rank, PricingError> {
        let rated = self.store().get(&[keys::rated(partition)])?.pop().flatten();
        Ok(Rank::from_u64(rated.map_or(0, |cell| cell.version)))
    }

    /// Changes that were handed over to someone who did not rate them, or that got lost on the way, are found in the
    /// store: the marker never passes what is not rated.
    fn add_lost(&self, round: &mut Round) -> Result<(), PricingError> {
        for (partition, from) in std::mem::take(&mut round.from) {
            if self.rated_through(partition)? < from {
                self.add_left_over(partition, round)?;
            }
        }
        Ok(())
    }

    /// Looks whether folded usage waits that nobody handed over, or that was handed over to someone who is gone.
    fn sweep(&self, swept: &mut Sweep) -> Result<(), PricingError> {
        if !swept.is_due(self.inner.settings.sweep_every) {
            return Ok(());
        }
        let mut round = Round::default();
        for partition in self.inner.settings.layouts.partitions() {
            let progress = versions::progress(self.store(), partition)?;
            let folded = progress.and_then(|progress| Rank::new(progress.generation, progress.offset));
            let folded = folded.unwrap_or(Rank::ZERO);
            let rated = self.rated_through(partition)?;
            // What was folded since the last look is on its way.
            let before = swept.folded.insert(partition, folded).unwrap_or(folded);
            if rated < before.min(folded) {
                self.add_left_over(partition, &mut round)?;
            }
        }
        self.rate_round(&round)
    }

    fn serve(&self, changes: &Receiver<UsageChanged>, stop: &CancellationToken) -> Result<(), PricingError> {
        let mut swept = Sweep::default();
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
            let version = self.catalog().version();
            self.insist(stop, || {
                if all {
                    self.add_all(&mut round)?;
                }
                self.add_lost(&mut round)?;
                self.rate_round(&round)?;
                if all {
                    versions::set_rated(self.store(), version)?;
                }
                self.sweep(&mut swept)
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
        for partition in self.inner.settings.layouts.partitions() {
            let all = reading::months(self.store(), partition, Rank::ZERO)?;
            let months = round.months.entry(partition).or_default();
            months.extend(all.into_iter().map(|month| (month, Seen::new())));
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
            for ((tenant_id, month), seen) in months {
                publish(self.store(), &catalog, &Rating { tenant_id, month: *month, as_of, seen })?;
            }
        }
        let marker = |(partition, through): (&u32, &Rank)| {
            (keys::rated(*partition), Cell { version: through.as_u64(), value: Bytes::new() })
        };
        let moved = round.through.iter().filter(|(_, through)| **through > Rank::ZERO);
        let cells: Vec<_> = moved.map(marker).collect();
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

/// When folded usage was looked for last, and what was folded then.
#[derive(Default)]
struct Sweep {
    at: Option<Instant>,
    folded: BTreeMap<u32, Rank>,
}

impl Sweep {
    fn is_due(&mut self, every: Option<Duration>) -> bool {
        let Some(every) = every else { return false };
        let due = self.at.is_none_or(|at| at.elapsed() >= every);
        if due {
            self.at = Some(Instant::now());
        }
        due
    }
}

impl Round {
    fn add(&mut self, change: UsageChanged) {
        let months = self.months.entry(change.partition).or_default();
        for (tenant, month) in change.months {
            months.entry((tenant.as_str().to_owned(), month)).or_default();
        }
        for RowSeen { tenant_id, month, row, hwm } in change.rows {
            let seen = months.entry((tenant_id.as_str().to_owned(), month)).or_default();
            let newest = seen.entry(row).or_default();
            *newest = hwm.max(*newest);
        }
        // One that does not follow on those before it in the round says that there must be others, rated or lost.
        if self.through.get(&change.partition).is_none_or(|reached| change.from > *reached) {
            let from = self.from.entry(change.partition).or_default();
            *from = change.from.max(*from);
        }
        let through = self.through.entry(change.partition).or_default();
        *through = (*through).max(change.through);
    }
}
