//! Makes log records of the chunks of many calls: one lane per partition, with a linger that follows the load.
//!
//! While nothing of a partition is on its way to the log, a chunk goes at once; while something is, chunks gather and go
//! together when it is confirmed, or as soon as they fill a record. So a lone pulse never waits, and the busier the log,
//! the larger the records. When many small calls keep a lane busy, the record after a confirmed one waits a moment more:
//! their senders have just been answered and most of them come again, and one fsync for all of them costs the machine a
//! fraction of many for a few each. Behind a record that the log does not confirm nothing gathers: who would wait there is
//! refused at once, which says that nothing was stored. A record never exceeds the log's bounds. What gathers is bounded
//! by the admission budget.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use pulso_domain::position::partition_number;
use pulso_domain::time::Instant;
use pulso_platform::log::{
    AppendReply, Appended, Log, LogError, LogLayout, RECORD_BYTES_MAX, RECORD_PULSES_MAX,
};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::batch::Chunk;
use crate::board::{Outcome, Ticket};
use crate::wire::{number_len, put_number, put_varint};

/// The version of the record format that this packer writes.
const FORMAT_VERSION: u64 = 1;
/// Most bytes of a record before its pulses: the version, and `received_at` with its two numbers.
pub(crate) const RECORD_HEADER_BYTES_MAX: usize = 2 + 2 + 11 + 6;
/// Calls in and behind a confirmed record from which on the next one waits for company: with fewer, an fsync for each few
/// of them is what they came for.
const LINGER_CALLS_MIN: usize = 16;
/// A record of so many bytes pays for its fsync and waits for nobody.
const LINGER_BYTES_MAX: usize = 64 * 1024;
/// The longest wait for company: a few times what an fsync takes, and little beside what a call takes on a busy machine.
const LINGER_MAX: Duration = Duration::from_millis(2);
/// How often a stopping lane looks whether its last record is confirmed.
const STOP_CHECK: Duration = Duration::from_millis(20);

/// The lanes of all partitions of one generation.
pub(crate) struct Packer {
    layout: LogLayout,
    lanes: Vec<Arc<Lane>>,
}

impl Packer {
    /// Lanes for each partition of the log's newest generation; each is driven by a task in `tasks` until `stop` is cancelled and its
    /// last record has its outcome.
    pub(crate) fn start(log: &Arc<dyn Log>, tasks: &mut JoinSet<()>, stop: &CancellationToken) -> Self {
        let layout = log.layout();
        let lanes = (0..layout.partitions).map(|index| {
            let partition = partition_number(layout.generation, index);
            let (confirm, confirmations) = mpsc::unbounded_channel();
            let gather = Mutex::new(Gather::default());
            let lane = Arc::new(Lane { partition, log: Arc::clone(log), gather, confirm });
            tasks.spawn(drive(Arc::clone(&lane), confirmations, stop.clone()));
            lane
        });
        Self { lanes: lanes.collect(), layout }
    }

    /// The generation that the lanes lead into.
    pub(crate) const fn layout(&self) -> LogLayout {
        self.layout
    }

    /// Hands a chunk to the lane of its partition, named by its index. The ticket gets the outcome.
    pub(crate) fn offer(&self, partition: u32, parcel: (Chunk, Ticket)) {
        if let Some(lane) = self.lanes.get(partition as usize) {
            lane.offer(parcel);
        }
    }
}

struct Lane {
    partition: u32,
    log: Arc<dyn Log>,
    gather: Mutex<Gather>,
    /// Bounded by the admission budget: each entry holds the bytes of its calls.
    confirm: mpsc::UnboundedSender<InFlight>,
}

/// The record that is being gathered.
#[derive(Default)]
struct Gather {
    /// Records of this lane that the log has not answered yet.
    in_flight: u32,
    parts: Vec<Bytes>,
    tickets: Vec<Ticket>,
    bytes: usize,
    pulses: usize,
    /// The record waits until it has so many calls; 0 when it does not wait for company.
    calls_wanted: usize,
}

struct InFlight {
    reply: AppendReply,
    tickets: Vec<Ticket>,
}

impl Lane {
    fn offer(&self, (mut chunk, ticket): (Chunk, Ticket)) {
        let mut gather = self.gather.lock();
        if gather.in_flight > 0 && !self.log.takes(self.partition) {
            drop(gather);
            return ticket.settle(Outcome::NotStored);
        }
        let pulses = gather.pulses + chunk.pulses as usize;
        let bytes = gather.bytes + chunk.bytes.len();
        if gather.pulses > 0 && (pulses > RECORD_PULSES_MAX || bytes > RECORD_BYTES_MAX) {
            self.send(&mut gather);
        }
        if gather.pulses > 0 {
            // The record has its header, and with it the time of its first pulses.
            chunk.bytes.advance(chunk.header_bytes);
        }
        gather.bytes += chunk.bytes.len();
        gather.pulses += chunk.pulses as usize;
        gather.parts.push(chunk.bytes);
        gather.tickets.push(ticket);
        let is_free = gather.in_flight == 0 && gather.has_company();
        if is_free || gather.pulses == RECORD_PULSES_MAX {
            self.send(&mut gather);
        }
    }

    /// Under the lock, so that records reach the log in the order of their pulses.
    fn send(&self, gather: &mut Gather) {
        let parts = std::mem::take(&mut gather.parts);
        let tickets = std::mem::take(&mut gather.tickets);
        (gather.bytes, gather.pulses, gather.calls_wanted) = (0, 0, 0);
        gather.in_flight += 1;
        let reply = self.log.append(self.partition, parts);
        // When the lane has ended the tickets fall and note UNKNOWN, which is the truth.
        let _ended = self.confirm.send(InFlight { reply, tickets });
    }

    /// A record of so many calls was answered: what gathered meanwhile goes when nothing else is on its way. True when it
    /// waits for company first.
    fn advance(&self, answered_calls: usize) -> bool {
        let mut gather = self.gather.lock();
        gather.in_flight -= 1;
        if gather.in_flight > 0 {
            return false;
        }
        gather.calls_wanted = calls_wanted(answered_calls + gather.tickets.len());
        if gather.has_company() {
            gather.calls_wanted = 0;
            self.send_any(&mut gather);
        }
        gather.calls_wanted > 0
    }

    /// The wait for company is over.
    fn go_now(&self) {
        let mut gather = self.gather.lock();
        gather.calls_wanted = 0;
        if gather.in_flight == 0 {
            self.send_any(&mut gather);
        }
    }

    fn send_any(&self, gather: &mut Gather) {
        if gather.pulses > 0 {
            self.send(gather);
        }
    }

    fn is_idle(&self) -> bool {
        let gather = self.gather.lock();
        gather.in_flight == 0 && gather.pulses == 0
    }
}

impl Gather {
    /// Whether the record need not wait for more calls.
    const fn has_company(&self) -> bool {
        self.tickets.len() >= self.calls_wanted || self.bytes >= LINGER_BYTES_MAX
    }
}

/// How many calls the next record waits for when so many stood in and behind the last one. Not for all of them: some
/// senders are done.
const fn calls_wanted(load: usize) -> usize {
    if load < LINGER_CALLS_MIN { 0 } else { load - load / 8 }
}

async fn drive(
    lane: Arc<Lane>,
    mut confirmations: mpsc::UnboundedReceiver<InFlight>,
    stop: CancellationToken,
) {
    let mut lingers = false;
    loop {
        let in_flight = tokio::select! {
            biased;
            in_flight = confirmations.recv() => in_flight,
            () = tokio::time::sleep(LINGER_MAX), if lingers => {
                lane.go_now();
                lingers = false;
                continue;
            }
            () = stop.cancelled() => {
                lane.go_now();
                if lane.is_idle() {
                    return;
                }
                tokio::time::timeout(STOP_CHECK, confirmations.recv()).await.ok().flatten()
            }
        };
        if let Some(InFlight { reply, tickets }) = in_flight {
            let result = reply.await;
            lingers = lane.advance(tickets.len());
            settle(tickets, result.unwrap_or_else(|_| Err(LogError::Unknown("the log went away".into()))));
        }
    }
}

fn settle(tickets: Vec<Ticket>, result: Result<Appended, LogError>) {
    let mut first_index = 0;
    for ticket in tickets {
        let pulses = ticket.pulses();
        ticket.settle(match &result {
            Ok(at) => Outcome::Stored { at: *at, first_index },
            Err(error) => outcome_of(error),
        });
        first_index += pulses;
    }
}

/// Only errors that say that nothing was stored are taken as that; every other one is unknown (G5).
const fn outcome_of(error: &LogError) -> Outcome {
    match error {
        LogError::Unavailable(_) | LogError::TooLarge { .. } | LogError::NoPartition(_) => Outcome::NotStored,
        _ => Outcome::Unknown,
    }
}

/// Writes `format_version` and `received_at` of a `PulseBatch`; the pulses follow as they are.
pub(crate) fn put_record_header(out: &mut Vec<u8>, received_at: Instant) {
    let (seconds, nanos) = (received_at.seconds().cast_unsigned(), u64::from(received_at.nanos()));
    put_number(out, 0x08, FORMAT_VERSION);
    out.push(0x12);
    put_varint(out, (number_len(seconds) + number_len(nanos)) as u64);
    put_number(out, 0x08, seconds);
    put_number(out, 0x10, nanos);
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use pulso_proto::v1::PulseBatch;

    use super::*;

    #[test]
    fn the_record_header_is_that_of_the_generated_type() {
        for (seconds, nanos) in [(0, 0), (1_700_000_000, 7), (-5, 999_999_999), (253_402_300_799, 1)] {
            let mut header = Vec::new();
            put_record_header(&mut header, Instant::new(seconds, nanos).expect("good"));
            let batch = PulseBatch {
                format_version: 1,
                received_at: Some(prost_types::Timestamp { seconds, nanos }),
                ..PulseBatch::default()
            };
            assert_eq!(header, batch.encode_to_vec());
            assert!(header.len() <= RECORD_HEADER_BYTES_MAX);
        }
    }

    #[test]
    fn a_record_waits_for_most_of_a_crowd_and_never_for_a_few() {
        assert!((0..LINGER_CALLS_MIN).all(|load| calls_wanted(load) == 0));
        assert_eq!([16, 40, 256].map(calls_wanted), [14, 35, 224]);
        let mut gather = Gather { calls_wanted: 14, ..Gather::default() };
        assert!(!gather.has_company());
        gather.bytes = LINGER_BYTES_MAX;
        assert!(gather.has_company(), "a large record pays for its fsync alone");
    }

    #[test]
    fn g05_only_a_sure_refusal_counts_as_not_stored() {
        assert_eq!(outcome_of(&LogError::Unavailable("full".into())), Outcome::NotStored);
        assert_eq!(outcome_of(&LogError::Unknown("late".into())), Outcome::Unknown);
        let damaged = LogError::Damaged { place: "x".into(), partition: None, detail: "y".into() };
        assert_eq!(outcome_of(&damaged), Outcome::Unknown);
    }
}
