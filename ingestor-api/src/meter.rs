//! Counts a call's bytes as they arrive, before anything is decompressed or parsed, and refuses what the budget does not
//! have (G11).
//!
//! The transport announces a message's length in 5 bytes; only bytes that really came are counted, so nobody fills the
//! budget with promises.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tonic::Status;

use crate::admission::ByteLease;
use crate::ingest::Received;
use crate::refusal::IngestError;

/// The bytes of one call that have arrived and are not yet part of a [`Received`].
#[derive(Debug)]
pub(crate) struct CallMeter {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// For a stream never shrinks: the transport's buffer stays as large as its largest message.
    lease: ByteLease,
    /// Arrived since the last message.
    arrived: usize,
    is_stream: bool,
}

impl CallMeter {
    /// A meter for one call.
    pub(crate) fn new(lease: ByteLease, is_stream: bool) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State { lease, arrived: 0, is_stream }) })
    }

    fn arrived(&self, bytes: usize) -> Result<(), IngestError> {
        let mut state = self.state.lock();
        state.arrived += bytes;
        let missing = state.arrived.saturating_sub(state.lease.bytes());
        if missing > 0 { state.lease.grow(missing) } else { Ok(()) }
    }

    /// A whole message has arrived: it takes its own share of the budget, which it holds until it is answered.
    ///
    /// # Errors
    /// [`IngestError::Overloaded`] when decompression made more of it than the budget has.
    pub(crate) fn message(&self, bytes: Bytes) -> Result<Received, IngestError> {
        let mut state = self.state.lock();
        state.arrived = 0;
        let missing = bytes.len().saturating_sub(state.lease.bytes());
        if missing > 0 {
            state.lease.grow(missing)?;
        }
        if !state.is_stream {
            return Ok(Received { bytes, lease: state.lease.take_all() });
        }
        let mut lease = state.lease.sibling();
        lease.grow(bytes.len())?;
        Ok(Received { bytes, lease })
    }
}

/// A request's body that tells the meter what arrives.
pub(crate) struct MeteredBody {
    pub(crate) body: tonic::body::Body,
    pub(crate) meter: Arc<CallMeter>,
}

impl Body for MeteredBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
            && let Err(error) = self.meter.arrived(data.len())
        {
            return Poll::Ready(Some(Err(Status::from(&error))));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::Admission;

    #[test]
    fn g11_a_unary_message_takes_over_what_arrived_and_what_decompression_added() {
        let admission = Admission::new(1, 1000);
        let meter = CallMeter::new(admission.lease(), false);
        meter.arrived(60).expect("fits");
        meter.arrived(40).expect("fits");
        let received = meter.message(Bytes::from(vec![0; 500])).expect("fits");
        assert_eq!((received.lease.bytes(), admission.bytes()), (500, 500));
        drop(received);
        assert_eq!(admission.bytes(), 0);
        meter.arrived(10).expect("fits");
        assert!(meter.message(Bytes::from(vec![0; 1001])).is_err());
    }

    #[test]
    fn g11_a_stream_goes_on_holding_the_size_of_its_largest_message() {
        let admission = Admission::new(1, 1000);
        let meter = CallMeter::new(admission.lease(), true);
        meter.arrived(105).expect("fits");
        drop(meter.message(Bytes::from(vec![0; 100])).expect("fits"));
        assert_eq!(admission.bytes(), 105);
        meter.arrived(50).expect("within what it holds");
        assert_eq!(admission.bytes(), 105);
        meter.arrived(100).expect("fits");
        assert_eq!(admission.bytes(), 150);
        drop(meter);
        assert_eq!(admission.bytes(), 0);
    }
}
