//! The answers of one stream: batches are begun in the order they come, a bounded number waits for the log at a time,
//! and answers go out in the same order. Beyond that number the stream is not read, and HTTP/2 holds the client back.
//!
//! The first fault ends the stream after what came before it is answered.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, Stream, StreamExt};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Status;
use tonic::codec::Streaming;

use crate::admission::CallPermit;
use crate::answer;
use crate::door::Caller;
use crate::ingest::{Ingest, Received, Waiting};
use crate::refusal::IngestError;
use crate::service::{arrival_failed, failed};

/// What a batch comes to, with what it holds until its answer has been taken.
type Ending = (Result<Bytes, IngestError>, Waiting);

enum Entry {
    Batch(BoxFuture<'static, Ending>),
    Failed(Status),
}

/// The response side of a `StreamPulses` call.
pub(crate) struct StreamAnswers {
    ingest: Arc<Ingest>,
    caller: Caller,
    /// `None` once nothing more is read.
    requests: Option<Streaming<Received>>,
    entries: VecDeque<Entry>,
    /// The batch whose answer was handed over last: its bytes are the transport's until it asks again.
    handed_over: Option<Waiting>,
    idle: Pin<Box<Sleep>>,
    age: Pin<Box<Sleep>>,
    draining: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    _permit: Option<CallPermit>,
}

impl StreamAnswers {
    /// Answers to the requests of one stream.
    pub(crate) fn new(ingest: Arc<Ingest>, requests: Streaming<Received>, caller: Caller) -> Self {
        let settings = ingest.settings();
        let (idle, age) = (settings.stream_idle_max, settings.connection_age_max);
        Self {
            caller,
            requests: Some(requests),
            entries: VecDeque::new(),
            handed_over: None,
            idle: Box::pin(tokio::time::sleep(idle)),
            age: Box::pin(tokio::time::sleep(age)),
            draining: None,
            _permit: None,
            ingest,
        }
    }

    /// Stops reading once the token is cancelled.
    pub(crate) fn ended_by(self, draining: CancellationToken) -> Self {
        Self { draining: Some(Box::pin(draining.cancelled_owned())), ..self }
    }

    /// Keeps the call's place.
    pub(crate) fn holding(self, permit: Option<CallPermit>) -> Self {
        Self { _permit: permit, ..self }
    }

    /// Begins batches as long as there are requests and room.
    fn read(&mut self, context: &mut Context<'_>) {
        while self.entries.len() < self.ingest.settings().stream_batches_max {
            let Some(requests) = &mut self.requests else { return };
            let drained =
                self.draining.as_mut().is_some_and(|draining| draining.poll_unpin(context).is_ready());
            if drained || self.age.poll_unpin(context).is_ready() {
                return self.fail(&IngestError::StreamEnded);
            }
            match requests.poll_next_unpin(context) {
                Poll::Ready(Some(Ok(received))) => self.begin(received),
                Poll::Ready(Some(Err(status))) => {
                    let status = arrival_failed(&self.ingest, status);
                    return self.end(status);
                }
                Poll::Ready(None) => self.requests = None,
                Poll::Pending => {
                    // A batch that waits for the log is not idleness of the client.
                    if self.entries.is_empty() && self.idle.poll_unpin(context).is_ready() {
                        self.fail(&IngestError::Late);
                    }
                    return;
                }
            }
        }
    }

    fn begin(&mut self, received: Received) {
        self.idle.as_mut().reset(Instant::now() + self.ingest.settings().stream_idle_max);
        match self.ingest.begin(received, self.caller) {
            Ok(waiting) => {
                let ending = async move { (waiting.answer().await, waiting) };
                self.entries.push_back(Entry::Batch(ending.boxed()));
            }
            Err(error) => self.fail(&error),
        }
    }

    fn fail(&mut self, error: &IngestError) {
        let status = failed(&self.ingest, error);
        self.end(status);
    }

    fn end(&mut self, status: Status) {
        self.requests = None;
        self.entries.push_back(Entry::Failed(status));
    }
}

impl Stream for StreamAnswers {
    type Item = Result<Bytes, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        this.handed_over = None;
        this.read(context);
        let ending = match this.entries.front_mut() {
            None if this.requests.is_none() => return Poll::Ready(None),
            None => return Poll::Pending,
            Some(Entry::Batch(batch)) => std::task::ready!(batch.poll_unpin(context)),
            Some(Entry::Failed(_)) => {
                let Some(Entry::Failed(status)) = this.entries.pop_front() else { return Poll::Ready(None) };
                return Poll::Ready(Some(Err(status)));
            }
        };
        this.entries.pop_front();
        match ending {
            (Ok(answer), waiting) => {
                this.handed_over = Some(waiting);
                Poll::Ready(Some(Ok(answer::message(&answer))))
            }
            (Err(error), _) => {
                // What was begun behind it goes on in the log, unanswered: to the client it is unknown.
                this.requests = None;
                this.entries.clear();
                Poll::Ready(Some(Err(failed(&this.ingest, &error))))
            }
        }
    }
}
