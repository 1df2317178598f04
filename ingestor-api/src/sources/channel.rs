//! The one channel from a broker into the log. [`Channel::deliver`] takes messages and comes back when each of them is
//! durable, its good pulses as pulses and the rest as dead letters; what the log did not confirm is offered again with the
//! same ids, here, so that the broker need not deliver it once more and no redelivery limit of a queue is ever used up.
//!
//! A source waits where gRPC is refused: it holds at most one batch beyond what its broker is allowed to hand out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use pulso_platform::service::health::Part;
use pulso_proto::v1;
use pulso_proto::v1::pulse_result::Status;
use tokio_util::sync::CancellationToken;

use super::poison::Poison;
use crate::door::Caller;
use crate::formats::Unreadable;
use crate::formats::message::{self, BadItem, Message, Pulses};
use crate::ingest::Ingest;
use crate::metrics::SourceMetrics;
use crate::refusal::IngestError;
use crate::settings::BATCH_PULSES_MAX;

/// Dead letters on their way to the log at a time: they share its groups, and each holds a record's bytes.
const POISON_IN_FLIGHT_MAX: usize = 32;
/// How long to wait for room before asking again: about what a group of appends takes under load.
const ROOM_WAIT: Duration = Duration::from_millis(20);
/// The first wait after the log confirmed nothing, and the longest.
const AGAIN_WAIT: Duration = Duration::from_millis(100);
const AGAIN_WAIT_MAX: Duration = Duration::from_secs(5);

/// The way of one source into the log.
pub struct Channel {
    ingest: Arc<Ingest>,
    /// Where its messages come from, for dead letters: `rabbitmq:pulses`.
    origin: String,
    metrics: SourceMetrics,
    part: Part,
    /// Whether the broker ever answered.
    reached: AtomicBool,
}

/// What is not durable yet, with the place of its message.
#[derive(Default)]
struct Pending {
    pulses: Vec<(usize, Bytes)>,
    poison: Vec<(usize, Poison)>,
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.pulses.is_empty() && self.poison.is_empty()
    }

    fn messages(&self) -> impl Iterator<Item = usize> {
        let pulses = self.pulses.iter().map(|(place, _)| *place);
        pulses.chain(self.poison.iter().map(|(place, _)| *place))
    }
}

impl Channel {
    /// A channel for the source of this kind that reads this queue or stream.
    pub(crate) fn new(ingest: &Arc<Ingest>, kind: &'static str, place: &str, part: Part) -> Self {
        let origin = format!("{kind}:{place}");
        Self {
            ingest: Arc::clone(ingest),
            origin,
            metrics: SourceMetrics::new(kind),
            part,
            reached: AtomicBool::new(false),
        }
    }

    /// The broker answers.
    pub fn connected(&self) {
        self.reached.store(true, Ordering::Relaxed);
        self.metrics.connected.set(1.0);
        self.part.ready();
    }

    /// The broker does not answer. Readiness falls only while it has never been reached, as with a wrong address or
    /// password: when a broker that worked is down, gRPC and HTTP need not go down with it.
    pub fn disconnected(&self, sentence: &str) {
        self.metrics.connected.set(0.0);
        if !self.reached.load(Ordering::Relaxed) {
            self.part.not_ready(sentence);
        }
        tracing::warn!(source = %self.origin, cause = sentence, "the source cannot be read now and is tried again");
    }

    /// Most bytes of one message: what is larger becomes a dead letter.
    #[must_use]
    pub fn message_bytes_max(&self) -> usize {
        // A batch and its answer must always find room, also when calls by gRPC hold most of it.
        self.ingest.settings().message_bytes_max.min(self.ingest.admission().bytes_max() / 4)
    }

    /// Makes messages durable. Gives for each whether it is: all of them, unless it was told to stop meanwhile.
    pub async fn deliver(&self, messages: &[Message], stop: &CancellationToken) -> Vec<bool> {
        self.metrics.received.increment(messages.len() as u64);
        let mut done = vec![true; messages.len()];
        let mut pending = self.read(messages);
        let mut poisoned = vec![false; messages.len()];
        let mut wait = AGAIN_WAIT;
        loop {
            let before = pending.pulses.len() + pending.poison.len();
            pending = self.try_all(pending, &mut poisoned, stop).await;
            if pending.is_empty() {
                break;
            }
            let progressed = pending.pulses.len() + pending.poison.len() < before;
            wait = if progressed { AGAIN_WAIT } else { (wait * 2).min(AGAIN_WAIT_MAX) };
            tracing::warn!(source = %self.origin, pending = pending.pulses.len(), "the log did not confirm; trying again");
            if tokio::time::timeout(wait, stop.cancelled()).await.is_ok() {
                break;
            }
        }
        for place in pending.messages() {
            done[place] = false;
        }
        self.metrics.count(&done, &poisoned);
        done
    }

    fn read(&self, messages: &[Message]) -> Pending {
        let mut pending = Pending::default();
        for (place, message) in messages.iter().enumerate() {
            let whole = |why: Unreadable| {
                self.bad(BadItem { why, original: message.body.clone() }, &message.content_type)
            };
            if message.body.len() > self.message_bytes_max() {
                let detail = format!("the message has more than {} bytes", self.message_bytes_max());
                pending.poison.push((place, whole(Unreadable::whole(detail))));
                continue;
            }
            let items = match message::read(message) {
                Ok(Pulses::One(item)) => vec![item],
                Ok(Pulses::Many(items)) => items,
                Err(error) => {
                    pending.poison.push((place, whole(error.unreadable())));
                    continue;
                }
            };
            for item in items {
                match item {
                    Ok(pulse) => pending.pulses.push((place, pulse)),
                    Err(bad) => pending.poison.push((place, self.bad(bad, &message.content_type))),
                }
            }
        }
        pending
    }

    fn bad(&self, bad: BadItem, content_type: &str) -> Poison {
        let detail = match bad.why.field {
            "" => bad.why.detail,
            field => format!("{field}: {}", bad.why.detail),
        };
        Poison {
            reason: bad.why.reason.code().to_owned(),
            detail,
            content_type: content_type.to_owned(),
            original: bad.original,
        }
    }

    /// Offers everything once, in order, and gives what is still to be done.
    async fn try_all(&self, pending: Pending, poisoned: &mut [bool], stop: &CancellationToken) -> Pending {
        let mut left = Pending { pulses: Vec::new(), poison: pending.poison };
        let mut offered = pending.pulses.into_iter().peekable();
        while offered.peek().is_some() {
            let batch = self.next_batch(&mut offered);
            let results = self.take(&batch, stop).await;
            for (index, (place, pulse)) in batch.into_iter().enumerate() {
                match results.get(index) {
                    Some(result) if result.status() == Status::Accepted => {}
                    Some(result) if result.status() == Status::Rejected => {
                        left.poison.push((place, Poison::refused(pulse, result)));
                    }
                    _ => left.pulses.push((place, pulse)),
                }
            }
        }
        let poison = self.bury_all(left.poison, poisoned).await;
        Pending { poison, ..left }
    }

    /// Puts poison into the log as dead letters, and gives what the log did not confirm.
    async fn bury_all(&self, poison: Vec<(usize, Poison)>, poisoned: &mut [bool]) -> Vec<(usize, Poison)> {
        let offers = poison.into_iter().map(async |(place, poison)| {
            let error = self.ingest.bury(&poison, &self.origin).await.err();
            (error, place, poison)
        });
        let mut answers = futures::stream::iter(offers).buffered(POISON_IN_FLIGHT_MAX);
        let (mut letters, mut left) = (0, Vec::new());
        while let Some((error, place, poison)) = answers.next().await {
            poisoned[place] = true;
            match error {
                None => {
                    letters += 1;
                    tracing::debug!(source = %self.origin, reason = poison.reason, "a message became a dead letter");
                }
                Some(error) => {
                    tracing::debug!(source = %self.origin, %error, "a dead letter was not taken");
                    left.push((place, poison));
                }
            }
        }
        if letters > 0 {
            tracing::warn!(source = %self.origin, letters, "messages became dead letters; see pulso dlq");
        }
        left
    }

    /// The next pulses that fit one request.
    fn next_batch(
        &self,
        offered: &mut std::iter::Peekable<impl Iterator<Item = (usize, Bytes)>>,
    ) -> Vec<(usize, Bytes)> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while let Some((_, pulse)) = offered.peek() {
            bytes += pulse.len();
            let full = batch.len() == BATCH_PULSES_MAX || bytes > self.message_bytes_max();
            if full && !batch.is_empty() {
                break;
            }
            batch.extend(offered.next());
        }
        batch
    }

    /// One result per pulse; none when the log took nothing.
    async fn take(&self, batch: &[(usize, Bytes)], stop: &CancellationToken) -> Vec<v1::PulseResult> {
        let pulses: Vec<&Bytes> = batch.iter().map(|(_, pulse)| pulse).collect();
        loop {
            match self.ingest.take(&pulses, Caller::default()).await {
                Ok(results) => return results,
                Err(IngestError::Overloaded { .. }) if !stop.is_cancelled() => {
                    tokio::time::sleep(ROOM_WAIT).await
                }
                Err(error) => {
                    tracing::warn!(source = %self.origin, %error, "a batch was not taken");
                    return Vec::new();
                }
            }
        }
    }
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Channel").field("origin", &self.origin).finish_non_exhaustive()
    }
}
