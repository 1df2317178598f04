//! The gRPC client: delivers pulses in batches, several in flight on one stream, and retries with the same ids what was
//! not surely answered.
//!
//! Batches go out in the order of the input on one stream, so that of two pulses with one id the first of the file stands.

use std::collections::VecDeque;
use std::time::Duration;

use pulso_proto::v1;
use pulso_proto::v1::ingest_service_client::IngestServiceClient;
use pulso_proto::v1::pulse_result::Status as PulseStatus;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

use crate::cli::exit::Failure;

/// Pulses of one request: enough that the request's own cost is small, few enough that a retry is cheap.
pub const BATCH_PULSES_MAX: usize = 1000;
/// Bytes of one request: well under the server's default of 4 MiB.
pub const BATCH_BYTES_MAX: usize = 1024 * 1024;
/// Batches in flight: enough to cover the wait for durability.
const BATCHES_IN_FLIGHT_MAX: usize = 8;
/// Tries without any progress before the rest is given up: with the waits below about half a minute.
const TRIES_MAX: u32 = 10;
const FIRST_WAIT: Duration = Duration::from_millis(100);
const WAIT_MAX: Duration = Duration::from_secs(5);
const CONNECT_WAIT_MAX: Duration = Duration::from_secs(5);

/// A pulse on its way, with the line it came from.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The line of the input, from 1.
    pub line: u64,
    /// The pulse.
    pub pulse: v1::Pulse,
}

/// A final answer to one pulse.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Durable, at this place of the log.
    Accepted(v1::Receipt),
    /// Refused: reason, field and message of the server.
    Rejected(v1::PulseResult),
}

/// Takes the answers as they come.
pub trait AnswerSink {
    /// One pulse has its final answer.
    fn settled(&mut self, outgoing: &Outgoing, answer: Answer);
}

/// Gives the pulses to send.
pub trait PulseSource {
    /// The next pulse, `None` at the end.
    ///
    /// # Errors
    /// When the input cannot be read.
    fn next_pulse(&mut self) -> Result<Option<Outgoing>, Failure>;
}

/// How a delivery ended: what has no answer, and why it was given up when it was.
#[derive(Debug, Default)]
pub struct Delivered {
    /// Pulses that were sent and may or may not be stored.
    pub unknown: u64,
    /// Why not everything was delivered.
    pub failure: Option<Failure>,
}

/// A connection to the ingest listener.
#[derive(Clone, Debug)]
pub struct Ingest {
    client: IngestServiceClient<Channel>,
    address: String,
}

impl Ingest {
    /// Connects at once, so that a server that is not there is known before anything is read.
    ///
    /// # Errors
    /// [`crate::cli::exit::Exit::Unavailable`] when nothing answers there.
    pub async fn connect(address: &str) -> Result<Self, Failure> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|error| Failure::usage(format!("--ingest {address} is no HOST:PORT: {error}")))?
            .connect_timeout(CONNECT_WAIT_MAX)
            .tcp_nodelay(true);
        let channel = endpoint.connect().await.map_err(|error| {
            let cause =
                std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            Failure::unavailable(format!(
                "no server answers at {address} ({cause}); start one or set --ingest"
            ))
        })?;
        Ok(Self { client: IngestServiceClient::new(channel), address: address.to_owned() })
    }

    /// Delivers every pulse of the source and hands each final answer to the sink.
    pub async fn deliver(&self, source: &mut impl PulseSource, sink: &mut impl AnswerSink) -> Delivered {
        let mut delivery = Delivery::default();
        let mut tries = 0;
        loop {
            match self.one_stream(&mut delivery, source, sink).await {
                Ok(()) => return Delivered::default(),
                Err(Interrupted::ForGood(failure)) => return delivery.given_up(failure),
                Err(Interrupted::ForNow { status, progressed }) => {
                    tries = if progressed { 1 } else { tries + 1 };
                    if tries >= TRIES_MAX {
                        let sentence =
                            format!("{} stopped taking pulses ({status}); send the file again", self.address);
                        return delivery.given_up(Failure::unavailable(sentence));
                    }
                    tokio::time::sleep(wait_before(tries)).await;
                }
            }
        }
    }

    /// Sends over one stream until everything is answered or the stream breaks.
    async fn one_stream(
        &self,
        delivery: &mut Delivery,
        source: &mut impl PulseSource,
        sink: &mut impl AnswerSink,
    ) -> Result<(), Interrupted> {
        delivery.take_back_unanswered();
        let mut progressed = false;
        let interrupted = |status: Status, progressed| Interrupted::of(status, progressed, &self.address);
        // The first batch is queued before the call, since a server may answer the call only with its first message.
        let (requests, queue) = mpsc::channel(BATCHES_IN_FLIGHT_MAX);
        delivery.fill(&requests, source)?;
        if delivery.is_done() {
            return Ok(());
        }
        let call = self.client.clone().stream_pulses(ReceiverStream::new(queue)).await;
        let mut responses: Streaming<v1::SendPulsesResponse> =
            call.map_err(|status| interrupted(status, progressed))?.into_inner();
        while !delivery.is_done() {
            let response = match responses.message().await {
                Ok(Some(response)) => response,
                Ok(None) => return Err(interrupted(Status::unavailable("the stream ended"), progressed)),
                Err(status) => return Err(interrupted(status, progressed)),
            };
            let settled = delivery.settle(&response, sink);
            progressed |= settled > 0;
            if settled == 0 {
                // Everything in it was unknown: sending on at once would only turn in circles.
                return Err(interrupted(Status::unavailable("the log does not take pulses"), progressed));
            }
            delivery.fill(&requests, source)?;
        }
        Ok(())
    }
}

/// Why a stream ended early.
enum Interrupted {
    ForNow { status: String, progressed: bool },
    ForGood(Failure),
}

impl From<Failure> for Interrupted {
    fn from(failure: Failure) -> Self {
        Self::ForGood(failure)
    }
}

impl Interrupted {
    fn of(status: Status, progressed: bool, address: &str) -> Self {
        let sentence = format!("{}: {}", status.code().description(), status.message());
        match status.code() {
            Code::InvalidArgument | Code::OutOfRange | Code::Unimplemented => {
                Self::ForGood(Failure::failed(format!("{address} refused the call: {sentence}")))
            }
            Code::Unauthenticated | Code::PermissionDenied => {
                Self::ForGood(Failure::usage(format!("{address} refused the credentials: {sentence}")))
            }
            _ => Self::ForNow { status: sentence, progressed },
        }
    }
}

fn wait_before(tries: u32) -> Duration {
    FIRST_WAIT.saturating_mul(1 << tries.min(10)).min(WAIT_MAX)
}

/// What is still to be sent and what is sent but not answered, oldest first.
#[derive(Default)]
struct Delivery {
    again: VecDeque<Outgoing>,
    in_flight: VecDeque<Vec<Outgoing>>,
    source_ended: bool,
}

impl Delivery {
    fn is_done(&self) -> bool {
        self.source_ended && self.again.is_empty() && self.in_flight.is_empty()
    }

    /// After a broken stream, what was not answered goes first again, in its order.
    fn take_back_unanswered(&mut self) {
        self.again.extend(std::mem::take(&mut self.in_flight).into_iter().flatten());
        self.again.make_contiguous().sort_by_key(|outgoing| outgoing.line);
    }

    fn fill(
        &mut self,
        requests: &mpsc::Sender<v1::SendPulsesRequest>,
        source: &mut impl PulseSource,
    ) -> Result<(), Failure> {
        while self.in_flight.len() < BATCHES_IN_FLIGHT_MAX {
            let batch = self.next_batch(source)?;
            if batch.is_empty() {
                break;
            }
            let pulses = batch.iter().map(|outgoing| outgoing.pulse.clone()).collect();
            self.in_flight.push_back(batch);
            // A full or closed queue means that the stream is broken: the next answer says why.
            if requests.try_send(v1::SendPulsesRequest { pulses, request_id: String::new() }).is_err() {
                break;
            }
        }
        Ok(())
    }

    fn next_batch(&mut self, source: &mut impl PulseSource) -> Result<Vec<Outgoing>, Failure> {
        let mut batch: Vec<Outgoing> = Vec::new();
        let mut bytes = 0;
        while batch.len() < BATCH_PULSES_MAX && bytes < BATCH_BYTES_MAX {
            let Some(outgoing) = self.next_outgoing(source)? else { break };
            bytes += prost::Message::encoded_len(&outgoing.pulse);
            batch.push(outgoing);
        }
        Ok(batch)
    }

    fn next_outgoing(&mut self, source: &mut impl PulseSource) -> Result<Option<Outgoing>, Failure> {
        if let Some(outgoing) = self.again.pop_front() {
            return Ok(Some(outgoing));
        }
        if self.source_ended {
            return Ok(None);
        }
        let next = source.next_pulse()?;
        self.source_ended = next.is_none();
        Ok(next)
    }

    /// Hands over the final answers of the oldest batch; what is unknown is sent again. Gives the number of final ones.
    fn settle(&mut self, response: &v1::SendPulsesResponse, sink: &mut impl AnswerSink) -> usize {
        let mut settled = 0;
        for (place, outgoing) in self.in_flight.pop_front().unwrap_or_default().into_iter().enumerate() {
            match response.results.get(place).and_then(final_answer) {
                Some(answer) => {
                    sink.settled(&outgoing, answer);
                    settled += 1;
                }
                None => self.again.push_back(outgoing),
            }
        }
        settled
    }

    fn given_up(mut self, failure: Failure) -> Delivered {
        self.take_back_unanswered();
        Delivered { unknown: self.again.len() as u64, failure: Some(failure) }
    }
}

fn final_answer(result: &v1::PulseResult) -> Option<Answer> {
    match (result.status(), &result.receipt) {
        (PulseStatus::Accepted, Some(receipt)) => Some(Answer::Accepted(*receipt)),
        (PulseStatus::Rejected, _) => Some(Answer::Rejected(result.clone())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Lines(u64);

    impl PulseSource for Lines {
        fn next_pulse(&mut self) -> Result<Option<Outgoing>, Failure> {
            if self.0 == 2500 {
                return Ok(None);
            }
            self.0 += 1;
            let pulse = v1::Pulse { id: self.0.to_string(), ..Default::default() };
            Ok(Some(Outgoing { line: self.0, pulse }))
        }
    }

    #[derive(Default)]
    struct Settled(Vec<u64>);

    impl AnswerSink for Settled {
        fn settled(&mut self, outgoing: &Outgoing, _: Answer) {
            self.0.push(outgoing.line);
        }
    }

    fn result(status: PulseStatus) -> v1::PulseResult {
        let receipt = (status == PulseStatus::Accepted).then(v1::Receipt::default);
        v1::PulseResult { status: status.into(), receipt, ..Default::default() }
    }

    #[test]
    fn what_is_unknown_or_unanswered_is_sent_again_in_its_order() {
        let (requests, _queue) = mpsc::channel(BATCHES_IN_FLIGHT_MAX);
        let (mut delivery, mut source, mut sink) = (Delivery::default(), Lines(0), Settled::default());
        delivery.fill(&requests, &mut source).expect("reads");
        assert_eq!(delivery.in_flight.iter().map(Vec::len).collect::<Vec<_>>(), [1000, 1000, 500]);

        let mut results = vec![result(PulseStatus::Accepted); 1000];
        results[3] = result(PulseStatus::Unknown);
        results[4] = result(PulseStatus::Rejected);
        let settled = delivery.settle(&v1::SendPulsesResponse { results }, &mut sink);
        assert_eq!((settled, delivery.again.len()), (999, 1));

        delivery.take_back_unanswered();
        assert_eq!(delivery.again.len(), 1501);
        assert_eq!(delivery.again.front().map(|outgoing| outgoing.line), Some(4));
        assert_eq!(delivery.given_up(Failure::unavailable("gone")).unknown, 1501);
    }

    #[test]
    fn waits_grow_and_are_bounded() {
        assert!(wait_before(1) < wait_before(2));
        assert_eq!(wait_before(40), WAIT_MAX);
    }
}
