//! The load generator: sends batches over several connections, keeps a bounded number on their way, and verifies every
//! answer: each pulse accepted, each receipt there once.
//!
//! Requests are encoded before the clock starts, so that the maker costs little beside what it measures.

mod codec;
pub mod rest;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use hdrhistogram::Histogram;
use prost::Message as _;
use pulso_proto::v1::pulse_result::Status;
use pulso_proto::v1::{SendPulsesRequest, SendPulsesResponse};
use tokio::task::JoinSet;
use tonic::Request;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};

use self::codec::RawCodec;
use crate::mix::Pulses;

const SEND_PULSES: &str = "/pulso.v1.IngestService/SendPulses";
/// Most bytes of an answer: 10,000 receipts have far less.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// One request, encoded.
#[derive(Clone, Debug)]
pub struct Batch {
    bytes: Bytes,
    pulses: usize,
}

/// Encodes the rest of a mix as requests of so many pulses.
#[must_use]
pub fn encode(pulses: &mut Pulses, batch: usize) -> Vec<Batch> {
    let mut batches = Vec::new();
    loop {
        let pulses = pulses.batch(batch);
        if pulses.is_empty() {
            return batches;
        }
        let count = pulses.len();
        let request = SendPulsesRequest { pulses, request_id: String::new() };
        batches.push(Batch { bytes: request.encode_to_vec().into(), pulses: count });
    }
}

/// How requests are sent.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Shape {
    /// Connections; one alone is bound by its lock.
    #[arg(long, default_value_t = 4)]
    pub connections: usize,
    /// Requests on their way on each connection.
    #[arg(long, default_value_t = 2)]
    pub in_flight: usize,
}

/// What was sent and verified.
#[derive(Debug)]
pub struct Sent {
    /// Pulses, each acknowledged.
    pub pulses: u64,
    /// From the first request to the last answer.
    pub elapsed: Duration,
    /// Microseconds from request to answer.
    pub latency: Histogram<u64>,
}

/// A receipt's place: partition, offset, index.
type Place = (u32, u64, u32);

/// Sends all batches and verifies all answers.
///
/// # Errors
/// When a call fails, a pulse is not accepted, or a receipt is missing or given twice.
pub async fn send(address: &str, batches: Arc<Vec<Batch>>, shape: Shape) -> anyhow::Result<Sent> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut channels = Vec::new();
    for _ in 0..shape.connections {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true);
        channels.push(endpoint.connect().await.with_context(|| format!("connect to {address}"))?);
    }
    let begun = Instant::now();
    let mut lanes = JoinSet::new();
    for channel in channels {
        for _ in 0..shape.in_flight {
            lanes.spawn(lane(channel.clone(), Arc::clone(&batches), Arc::clone(&next)));
        }
    }
    let mut latency = Histogram::new(3)?;
    let mut places: HashSet<Place> = HashSet::new();
    let mut pulses = 0;
    while let Some(done) = lanes.join_next().await {
        let done = done??;
        latency.add(done.latency)?;
        pulses += done.places.len() as u64;
        places.extend(done.places);
    }
    let elapsed = begun.elapsed();
    ensure!(places.len() as u64 == pulses, "a receipt was given twice");
    let wanted: usize = batches.iter().map(|batch| batch.pulses).sum();
    ensure!(pulses == wanted as u64, "{pulses} of {wanted} pulses were acknowledged");
    Ok(Sent { pulses, elapsed, latency })
}

struct Lane {
    places: Vec<Place>,
    latency: Histogram<u64>,
}

/// One request after the other, taken from what all lanes share.
async fn lane(channel: Channel, batches: Arc<Vec<Batch>>, next: Arc<AtomicUsize>) -> anyhow::Result<Lane> {
    let mut client = Grpc::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
    let mut lane = Lane { places: Vec::new(), latency: Histogram::new(3)? };
    while let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
        let begun = Instant::now();
        client.ready().await?;
        let path = PathAndQuery::from_static(SEND_PULSES);
        let answer = client.unary(Request::new(batch.bytes.clone()), path, RawCodec).await?.into_inner();
        lane.latency.record(u64::try_from(begun.elapsed().as_micros())?)?;
        verify(answer, batch.pulses, &mut lane.places)?;
    }
    Ok(lane)
}

fn verify(answer: Bytes, pulses: usize, places: &mut Vec<Place>) -> anyhow::Result<()> {
    let answer = SendPulsesResponse::decode(answer)?;
    ensure!(answer.results.len() == pulses, "{} results for {pulses} pulses", answer.results.len());
    for result in answer.results {
        let status = result.status();
        let Some(receipt) = result.receipt.filter(|_| status == Status::Accepted) else {
            bail!("a pulse was {}: {} {}", status.as_str_name(), result.reason, result.message);
        };
        ensure!(receipt.generation >= 1, "a receipt without generation");
        places.push((receipt.partition, receipt.offset, receipt.index));
    }
    Ok(())
}
