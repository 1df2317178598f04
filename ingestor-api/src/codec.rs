//! The codec that hands a message's bytes over as they are, both ways. On the wire nothing tells it from the generated
//! one; inside no structs are built, which is most of what a batch costs.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

use crate::ingest::Received;
use crate::meter::CallMeter;

/// The codec of one call.
pub(crate) struct RawCodec {
    pub(crate) meter: Arc<CallMeter>,
}

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Received;
    type Encoder = RawEncoder;
    type Decoder = RawDecoder;

    fn encoder(&mut self) -> RawEncoder {
        RawEncoder
    }

    fn decoder(&mut self) -> RawDecoder {
        RawDecoder { meter: Arc::clone(&self.meter) }
    }
}

/// Writes an answer that is encoded already.
pub(crate) struct RawEncoder;

impl Encoder for RawEncoder {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, answer: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.reserve(answer.len());
        out.put_slice(&answer);
        Ok(())
    }
}

/// Takes a message out of the transport's buffer without copying it.
pub(crate) struct RawDecoder {
    meter: Arc<CallMeter>,
}

impl Decoder for RawDecoder {
    type Item = Received;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<Received>, Status> {
        let bytes = source.copy_to_bytes(source.remaining());
        self.meter.message(bytes).map(Some).map_err(|error| Status::from(&error))
    }
}
