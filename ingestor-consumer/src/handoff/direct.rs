//! What gRPC and HTTP have in common: records in parts that fit a message, retries with growing pauses, and a circuit breaker
//! that leaves a pricing alone which cannot take them.

use std::time::{Duration, Instant};

use backon::{BlockingRetryable, ExponentialBuilder};
use metrics::counter;
use prost::Message;
use pulso_proto::{usage, v1};
use recloser::Recloser;

use super::{Handoff, Handover};
use crate::fold::halt::Stop;
use crate::metrics::HANDOFF_RETRIES;

/// Records of one message: half of gRPC's limit of 4 MiB, since JSON is about twice as long.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// The first pause before a retry; each next one is twice as long,
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// up to this.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// No try begins later than this after the first one: then the step is given back, so that a stop and a rebalance are seen.
const DELIVERY_MAX: Duration = Duration::from_secs(5);
/// A pricing that is there accepts a connection within this,
pub(super) const CONNECT_MAX: Duration = Duration::from_secs(3);
/// and answers within this: it only queues what it is sent. A pricing that hangs holds a step up for this behind the last try.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(3);
/// Of this many calls
const CALLS_WATCHED: usize = 10;
/// this share must fail before no more are made,
const FAILING_SHARE: f32 = 0.5;
/// for this long, then one is tried.
const OPEN_WAIT: Duration = Duration::from_secs(1);

/// A way to push one message. Blocks.
pub trait Push: Send + Sync + 'static {
    /// Pushes, and returns once the other side has answered that it has it.
    ///
    /// # Errors
    /// Why it is not sure that it has.
    fn push(&self, update: v1::UsageUpdate) -> Result<(), String>;
}

/// A hand-off by pushes.
pub struct Direct<P> {
    push: P,
    breaker: Recloser,
}

impl<P: Push> Direct<P> {
    /// Hands over by these pushes.
    #[must_use]
    pub fn new(push: P) -> Self {
        let breaker = Recloser::custom()
            .error_rate(FAILING_SHARE)
            .closed_len(CALLS_WATCHED)
            .half_open_len(1)
            .open_wait(OPEN_WAIT)
            .build();
        Self { push, breaker }
    }

    fn insist(&self, update: &v1::UsageUpdate) -> Result<(), Stop> {
        let attempt = || {
            self.breaker.call(|| self.push.push(update.clone())).map_err(|error| match error {
                recloser::Error::Inner(reason) => reason,
                recloser::Error::Rejected => "it failed often; the circuit breaker is open".to_owned(),
            })
        };
        let pauses = ExponentialBuilder::default()
            .with_min_delay(PAUSE_MIN)
            .with_max_delay(PAUSE_MAX)
            .without_max_times();
        let began = Instant::now();
        let retried = attempt
            .retry(pauses)
            // Not by the sum of the pauses: a call that hangs takes longer than they do.
            .when(|_| began.elapsed() < DELIVERY_MAX)
            .notify(|_, _| counter!(HANDOFF_RETRIES).increment(1))
            .call();
        retried.map_err(|reason| Stop::Retry(format!("pricing has not taken the usage: {reason}")))
    }
}

impl<P: Push> Handoff for Direct<P> {
    fn deliver(&self, handover: &Handover) -> Result<(), Stop> {
        messages(handover).iter().try_for_each(|update| self.insist(update))
    }
}

/// The messages of a handover, in order. The marker of one that did not fit a single message claims none of its records,
/// since its parts may be taken by different receivers: they are then looked up in the store.
fn messages(handover: &Handover) -> Vec<v1::UsageUpdate> {
    let mut messages = vec![v1::UsageUpdate { format_version: usage::FORMAT, ..Default::default() }];
    let mut bytes = 0;
    for record in &handover.records {
        let length = record.encoded_len();
        if bytes + length > MESSAGE_BYTES_MAX {
            messages.push(v1::UsageUpdate { format_version: usage::FORMAT, ..Default::default() });
            bytes = 0;
        }
        bytes += length;
        if let Some(message) = messages.last_mut() {
            message.records.push(record.clone());
        }
    }
    let mut progress = handover.progress();
    if messages.len() > 1 {
        progress.from = progress.through;
    }
    if let Some(message) = messages.last_mut() {
        message.progress = Some(progress);
    }
    messages
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use parking_lot::Mutex;
    use pulso_domain::position::Rank;

    use super::*;

    /// Fails the first calls, then takes everything.
    struct Flaky {
        failures: usize,
        calls: AtomicUsize,
        taken: Mutex<Vec<v1::UsageUpdate>>,
    }

    impl Push for Flaky {
        fn push(&self, update: v1::UsageUpdate) -> Result<(), String> {
            if self.calls.fetch_add(1, Ordering::Relaxed) < self.failures {
                return Err("not now".to_owned());
            }
            self.taken.lock().push(update);
            Ok(())
        }
    }

    fn flaky(failures: usize) -> Direct<Flaky> {
        Direct::new(Flaky { failures, calls: AtomicUsize::new(0), taken: Mutex::default() })
    }

    fn handover(records: usize) -> Handover {
        let record =
            v1::UsageRecord { tenant_id: "t".repeat(64), quantity: "1".repeat(60), ..Default::default() };
        let (from, through) = (Rank::from_u64(5), Rank::from_u64(9));
        Handover { partition: 3, from, through, records: vec![record; records] }
    }

    #[test]
    fn a_push_that_fails_comes_again_until_it_is_taken() {
        let direct = flaky(3);
        direct.deliver(&handover(2)).expect("delivers");
        let taken = direct.push.taken.lock();
        assert_eq!(taken.len(), 1);
        assert_eq!(taken[0].progress, Some(v1::UsageProgress { partition: 3, from: 5, through: 9 }));
    }

    #[test]
    fn a_pricing_that_takes_nothing_is_left_alone_and_the_step_given_back() {
        let direct = flaky(usize::MAX);
        let stopped = direct.deliver(&handover(1)).expect_err("gives up for now");
        assert!(matches!(stopped, Stop::Retry(_)), "{stopped}");
        let calls = direct.push.calls.load(Ordering::Relaxed);
        assert!(calls <= 2 * CALLS_WATCHED, "{calls} calls although all failed");
    }

    /// Never answers in time.
    struct Asleep;

    impl Push for Asleep {
        fn push(&self, _update: v1::UsageUpdate) -> Result<(), String> {
            std::thread::sleep(ANSWER_MAX);
            Err("no answer in time".to_owned())
        }
    }

    #[test]
    fn g16_a_pricing_that_hangs_holds_a_step_up_for_a_few_seconds_only() {
        let began = Instant::now();
        Direct::new(Asleep).deliver(&handover(1)).expect_err("gives up for now");
        assert!(began.elapsed() < DELIVERY_MAX + 2 * ANSWER_MAX, "{:?}", began.elapsed());
    }

    #[test]
    fn many_records_go_in_parts_and_the_marker_then_claims_none_of_them() {
        let all = handover(20_000);
        let parts = messages(&all);
        assert!(parts.len() > 1);
        assert_eq!(parts.iter().map(|part| part.records.len()).sum::<usize>(), 20_000);
        assert!(parts.iter().all(|part| part.encoded_len() < 2 * MESSAGE_BYTES_MAX));
        let (last, before) = parts.split_last().expect("some");
        assert!(before.iter().all(|part| part.progress.is_none()));
        assert_eq!(last.progress, Some(v1::UsageProgress { partition: 3, from: 9, through: 9 }));
    }
}
