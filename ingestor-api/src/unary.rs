//! `SendPulses` as nearly all clients send it, uncompressed: the one message is taken from the transport's buffer as it
//! lies there, and the answer goes back with its framing written already. What is compressed takes the way through
//! tonic in `service`; on the wire nothing tells the two apart.
//!
//! Bytes take their share of the budget as they arrive and before they are copied (G11), and the end of the call must
//! come before any of it is stored: what a cancelled call has sent may be only its first part.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame};
use tonic::Status;

use crate::admission::{ByteLease, CallPermit};
use crate::door::Caller;
use crate::ingest::{Ingest, Received, Waiting};
use crate::refusal::IngestError;
use crate::service::failed;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const OK: HeaderValue = HeaderValue::from_static("0");

/// A message's flag and its length in four bytes come before it.
pub(crate) const PREFIX_BYTES: usize = 5;

/// Whether nothing of the call is compressed.
pub(crate) fn is_plain(headers: &HeaderMap) -> bool {
    headers.get(GRPC_ENCODING).is_none_or(|encoding| encoding == "identity")
}

/// Answers one call.
///
/// # Errors
/// What concerns the whole call.
pub(crate) async fn send_pulses<B>(
    ingest: &Arc<Ingest>,
    request: http::Request<B>,
) -> Result<http::Response<OneAnswer>, Status>
where
    B: Body<Data = Bytes, Error: Into<tonic::codegen::StdError>> + Unpin,
{
    let failed = |error| failed(ingest, &error);
    let permit = ingest.admission().enter().map_err(failed)?;
    let caller = request.extensions().get::<Caller>().copied().unwrap_or_default();
    let received = receive(ingest, request.into_body()).await?;
    let waiting = ingest.begin(received, caller).map_err(failed)?;
    let answer = waiting.answer().await.map_err(failed)?;
    let mut response = http::Response::new(OneAnswer { left: Left::All(answer), _held: (waiting, permit) });
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    Ok(response)
}

/// Waits for the whole request, at most as long as the settings say.
async fn receive<B>(ingest: &Ingest, body: B) -> Result<Received, Status>
where
    B: Body<Data = Bytes, Error: Into<tonic::codegen::StdError>> + Unpin,
{
    let mut arrives = std::pin::pin!(arrive(ingest, body));
    // A small request came together with its headers: nearly always there is nothing to wait for.
    if let Poll::Ready(received) = futures::poll!(arrives.as_mut()) {
        return received;
    }
    match tokio::time::timeout(ingest.settings().receive_timeout, arrives).await {
        Ok(received) => received,
        Err(_) => Err(failed(ingest, &IngestError::Late)),
    }
}

async fn arrive<B>(ingest: &Ingest, mut body: B) -> Result<Received, Status>
where
    B: Body<Data = Bytes, Error: Into<tonic::codegen::StdError>> + Unpin,
{
    let limit = ingest.settings().message_bytes_max;
    let mut message =
        Message { first: Bytes::new(), gathered: Vec::new(), lease: ingest.admission().lease() };
    while let Some(frame) = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let frame = frame.map_err(|error| Status::from_error(error.into()))?;
        if let Ok(data) = frame.into_data() {
            message.push(data, limit).map_err(|error| failed(ingest, &error))?;
        }
    }
    message.end().map_err(|error| failed(ingest, &error))
}

/// A message and its prefix, as far as they have arrived.
struct Message {
    /// What came in one piece is not copied.
    first: Bytes,
    /// What came in several pieces.
    gathered: Vec<u8>,
    lease: ByteLease,
}

impl Message {
    fn push(&mut self, data: Bytes, limit: usize) -> Result<(), IngestError> {
        if data.is_empty() {
            return Ok(());
        }
        if self.bytes().is_empty() {
            self.lease.grow(data.len())?;
            self.first = data;
        } else {
            self.gather(&data)?;
        }
        match announced(self.bytes())? {
            Some(length) if length > limit => Err(IngestError::MessageTooLarge { limit }),
            _ => Ok(()),
        }
    }

    /// Copies a further piece. The room for it grows with what came, not with what was announced, and is paid for.
    fn gather(&mut self, data: &[u8]) -> Result<(), IngestError> {
        let needed = self.bytes().len() + data.len();
        let whole = announced(self.bytes())?.map_or(needed, |length| length + PREFIX_BYTES);
        if self.gathered.capacity() < needed {
            let room = (2 * needed).min(whole.max(needed));
            self.lease.grow(room - self.lease.bytes().min(room))?;
            let mut gathered = Vec::with_capacity(room);
            gathered.extend_from_slice(self.bytes());
            (self.first, self.gathered) = (Bytes::new(), gathered);
        }
        self.gathered.extend_from_slice(data);
        Ok(())
    }

    fn bytes(&self) -> &[u8] {
        if self.gathered.is_empty() { &self.first } else { &self.gathered }
    }

    /// The message, now that nothing more comes.
    fn end(self) -> Result<Received, IngestError> {
        let length = announced(self.bytes())?;
        let bytes = self.bytes().len();
        let fault = match length {
            Some(length) if length + PREFIX_BYTES == bytes => None,
            Some(length) if length + PREFIX_BYTES < bytes => Some("a unary call has one request message"),
            _ if bytes == 0 => Some("the call has no request message"),
            _ => Some("the call ends within its message"),
        };
        if let Some(fault) = fault {
            return Err(IngestError::BadFraming(fault.to_owned()));
        }
        let mut bytes = if self.gathered.is_empty() { self.first } else { Bytes::from(self.gathered) };
        bytes.advance(PREFIX_BYTES);
        Ok(Received { bytes, lease: self.lease })
    }
}

/// The length that a message's prefix announces, once it is there.
fn announced(bytes: &[u8]) -> Result<Option<usize>, IngestError> {
    match bytes {
        [0, a, b, c, d, ..] => Ok(Some(u32::from_be_bytes([*a, *b, *c, *d]) as usize)),
        [] | [0, ..] => Ok(None),
        [1, ..] => Err(IngestError::BadFraming("it is compressed and grpc-encoding does not say how".into())),
        [flag, ..] => Err(IngestError::BadFraming(format!("its first byte is {flag}, neither 0 nor 1"))),
    }
}

/// A body of one answer and the status OK. It holds the call's place and bytes until the transport has taken it.
pub(crate) struct OneAnswer {
    left: Left,
    _held: (Waiting, CallPermit),
}

/// What the transport has not taken yet.
enum Left {
    All(Bytes),
    Status,
    Nothing,
}

impl Body for OneAnswer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = match std::mem::replace(&mut self.left, Left::Nothing) {
            Left::All(answer) => {
                self.left = Left::Status;
                Frame::data(answer)
            }
            Left::Status => {
                let mut trailers = HeaderMap::with_capacity(1);
                trailers.insert(GRPC_STATUS, OK);
                Frame::trailers(trailers)
            }
            Left::Nothing => return Poll::Ready(None),
        };
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.left, Left::Nothing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::Admission;

    const LIMIT: usize = 1000;

    fn framed(length: usize) -> Vec<u8> {
        let prefix = u32::try_from(length).expect("short").to_be_bytes();
        [&[0][..], &prefix, &vec![7; length]].concat()
    }

    /// What comes of these pieces, and the bytes that the budget was asked for.
    fn read(pieces: &[&[u8]]) -> (Result<Bytes, IngestError>, usize) {
        let admission = Admission::new(1, 10 * LIMIT);
        let mut message = Message { first: Bytes::new(), gathered: Vec::new(), lease: admission.lease() };
        for piece in pieces {
            if let Err(error) = message.push(Bytes::copy_from_slice(piece), LIMIT) {
                return (Err(error), admission.bytes());
            }
        }
        let bytes = admission.bytes();
        (message.end().map(|received| received.bytes), bytes)
    }

    #[test]
    fn a_message_is_the_same_in_however_many_pieces_it_comes() {
        for length in [0, 1, 2, 100, LIMIT] {
            let whole = framed(length);
            for piece in [1, 2, 3, 5, 6, 64, LIMIT + PREFIX_BYTES] {
                let pieces: Vec<&[u8]> = whole.chunks(piece).collect();
                let (message, leased) = read(&pieces);
                assert_eq!(message.expect("whole"), whole[PREFIX_BYTES..], "{length} in pieces of {piece}");
                assert!((whole.len()..=2 * whole.len()).contains(&leased), "{leased}");
            }
        }
    }

    #[test]
    fn what_is_no_whole_message_is_bad_framing() {
        let whole = framed(10);
        for end in 0..whole.len() {
            assert!(matches!(read(&[&whole[..end]]).0, Err(IngestError::BadFraming(_))), "{end}");
        }
        let two = [whole.clone(), whole].concat();
        assert!(matches!(read(&[&two]).0, Err(IngestError::BadFraming(_))));
        assert!(matches!(read(&[&[1, 0, 0, 0, 1, 7]]).0, Err(IngestError::BadFraming(_))));
        assert!(matches!(read(&[&[9]]).0, Err(IngestError::BadFraming(_))));
    }

    #[test]
    fn g11_a_message_over_the_limit_ends_at_its_prefix_and_what_is_announced_costs_nothing() {
        let large = framed(LIMIT + 1);
        let (refused, _) = read(&[&large[..PREFIX_BYTES]]);
        assert_eq!(refused, Err(IngestError::MessageTooLarge { limit: LIMIT }));
        let (_, leased) = read(&[&framed(LIMIT)[..PREFIX_BYTES]]);
        assert_eq!(leased, PREFIX_BYTES);
    }
}
