//! `pulso.v1.IngestService` over raw bytes, for what does not take the short way of `unary`: streams, and compressed
//! messages. The same paths, framing and statuses as the generated service.
//!
//! A call is admitted before any of its body is read. Its place is kept until the client has taken the answer, so a
//! client that does not read cannot pile answers up.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::codec::{CompressionEncoding, Streaming};
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::{Code, Request, Response, Status};

use crate::admission::CallPermit;
use crate::answer;
use crate::codec::RawCodec;
use crate::door::Caller;
use crate::ingest::{Ingest, Received, Waiting};
use crate::meter::{CallMeter, MeteredBody};
use crate::refusal::IngestError;
use crate::stream::StreamAnswers;

pub(crate) const SEND_PULSES: &str = "/pulso.v1.IngestService/SendPulses";
const STREAM_PULSES: &str = "/pulso.v1.IngestService/StreamPulses";

/// The service.
pub(crate) struct IngestService {
    pub(crate) ingest: Arc<Ingest>,
    /// Cancelled when streams are to end.
    pub(crate) draining: CancellationToken,
}

impl NamedService for IngestService {
    const NAME: &'static str = "pulso.v1.IngestService";
}

impl IngestService {
    /// Answers one call.
    pub(crate) async fn answer(&self, request: http::Request<Body>) -> http::Response<Body> {
        let is_stream = match request.uri().path() {
            SEND_PULSES => false,
            STREAM_PULSES => true,
            _ => return Status::new(Code::Unimplemented, "").into_http(),
        };
        let permit = match self.ingest.admission().enter() {
            Ok(permit) => permit,
            Err(error) => return failed(&self.ingest, &error).into_http(),
        };
        let call = Call { ingest: Arc::clone(&self.ingest), permit: Some(permit) };
        let meter = CallMeter::new(call.ingest.admission().lease(), is_stream);
        let limit = call.ingest.settings().message_bytes_max;
        let mut grpc = Grpc::new(RawCodec { meter: Arc::clone(&meter) })
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Zstd)
            .max_decoding_message_size(limit);
        let request = request.map(|body| MeteredBody { body, meter });
        match is_stream {
            false => grpc.streaming(UnaryCall(call), request).await,
            true => grpc.streaming(StreamCall(call, self.draining.clone()), request).await,
        }
    }
}

struct Call {
    ingest: Arc<Ingest>,
    permit: Option<CallPermit>,
}

/// One request, one answer. It goes through tonic's streaming path, so that the errors of its arrival can be mapped.
struct UnaryCall(Call);

impl StreamingService<Received> for UnaryCall {
    type Response = Bytes;
    type ResponseStream = OneAnswer;
    type Future = BoxFuture<'static, Result<Response<OneAnswer>, Status>>;

    fn call(&mut self, request: Request<Streaming<Received>>) -> Self::Future {
        let ingest = Arc::clone(&self.0.ingest);
        let permit = self.0.permit.take();
        Box::pin(async move {
            let caller = caller_of(&request);
            let mut requests = request.into_inner();
            let wait = tokio::time::timeout(ingest.settings().receive_timeout, only_message(&mut requests));
            let received = match wait.await {
                Ok(received) => received.map_err(|status| arrival_failed(&ingest, status))?,
                Err(_) => return Err(failed(&ingest, &IngestError::Late)),
            };
            drop(requests);
            let waiting = ingest.begin(received, caller).map_err(|error| failed(&ingest, &error))?;
            let answer = waiting.answer().await.map_err(|error| failed(&ingest, &error))?;
            let answer = Some(answer::message(&answer));
            Ok(Response::new(OneAnswer { answer, _held: (waiting, permit) }))
        })
    }
}

async fn only_message(requests: &mut Streaming<Received>) -> Result<Received, Status> {
    let received =
        requests.message().await?.ok_or_else(|| Status::internal("the call has no request message"))?;
    // The end must come before the pulses are stored: what a cancelled call has sent may be only its first part.
    match requests.message().await? {
        None => Ok(received),
        Some(_) => Err(Status::internal("a unary call has one request message")),
    }
}

/// A stream of one answer that holds the call's place and bytes until the transport has taken it.
struct OneAnswer {
    answer: Option<Bytes>,
    _held: (Waiting, Option<CallPermit>),
}

impl Stream for OneAnswer {
    type Item = Result<Bytes, Status>;

    fn poll_next(mut self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.answer.take().map(Ok))
    }
}

struct StreamCall(Call, CancellationToken);

impl StreamingService<Received> for StreamCall {
    type Response = Bytes;
    type ResponseStream = StreamAnswers;
    type Future = std::future::Ready<Result<Response<StreamAnswers>, Status>>;

    fn call(&mut self, request: Request<Streaming<Received>>) -> Self::Future {
        let caller = caller_of(&request);
        let answers = StreamAnswers::new(Arc::clone(&self.0.ingest), request.into_inner(), caller);
        let answers = answers.ended_by(self.1.clone()).holding(self.0.permit.take());
        std::future::ready(Ok(Response::new(answers)))
    }
}

fn caller_of<T>(request: &Request<T>) -> Caller {
    request.extensions().get::<Caller>().copied().unwrap_or_default()
}

/// Counts a failed call and gives its status.
pub(crate) fn failed(ingest: &Ingest, error: &IngestError) -> Status {
    ingest.metrics().count_failed(error);
    Status::from(error)
}

/// Maps what the transport says about a message that did not arrive whole. Decompression beyond the limit is
/// RESOURCE_EXHAUSTED there, which here means only "try again later"; a message that can never pass is OUT_OF_RANGE.
pub(crate) fn arrival_failed(ingest: &Ingest, status: Status) -> Status {
    let limit = ingest.settings().message_bytes_max;
    match status.code() {
        // Only the budget's own refusal has details.
        Code::ResourceExhausted if !status.details().is_empty() => {
            ingest.metrics().count_failed(&IngestError::Overloaded { what: "bytes" });
            status
        }
        Code::OutOfRange | Code::ResourceExhausted => failed(ingest, &IngestError::MessageTooLarge { limit }),
        Code::Internal => failed(ingest, &IngestError::BadFraming(status.message().to_owned())),
        _ => status,
    }
}
