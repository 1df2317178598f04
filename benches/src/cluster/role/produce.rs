//! librdkafka alone, one record per pulse: the pulses are encoded and their partitions chosen before the clock starts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use prost::Message as _;
use pulso_domain::partitioner::partition_of;
use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, ProducerContext};

use super::{MIX, Place};
use crate::child::{Used, answer_each};
use crate::cpu;
use crate::mix::{Pulses, Totals};
use crate::records::{PARTITIONS, base_seconds};

/// How often reports are taken, in records.
const POLL_EVERY: usize = 1000;
/// How long the last reports may take.
const DELIVERED_MAX: Duration = Duration::from_secs(120);

/// What to produce.
#[derive(clap::Args, Clone, Debug)]
pub struct ProduceArgs {
    #[command(flatten)]
    place: Place,
    /// The topic.
    #[arg(long)]
    topic: String,
    /// Pulses of one run.
    #[arg(long)]
    pulses: u64,
}

/// Produces once for each `work`.
pub(super) fn serve(args: &ProduceArgs) -> anyhow::Result<()> {
    let (records, _) = encode(args.pulses);
    let (producer, delivered) = producer(&args.place)?;
    answer_each("work", || {
        let before = cpu::used();
        send_all(&producer, &delivered, &args.topic, &records)?;
        Used::since(before)
    })
}

/// Produces so many pulses once, and gives what they add up to.
///
/// # Errors
/// When one is not delivered.
pub fn produce(place: &Place, topic: &str, pulses: u64) -> anyhow::Result<Totals> {
    let (records, totals) = encode(pulses);
    let (producer, delivered) = producer(place)?;
    send_all(&producer, &delivered, topic, &records)?;
    Ok(totals)
}

fn encode(pulses: u64) -> (Vec<(u32, Vec<u8>)>, Totals) {
    let mut made = Pulses::new(MIX, pulses, base_seconds(), 1);
    let one = |pulse: pulso_proto::v1::Pulse| {
        (partition_of(pulse.tenant_id.as_bytes(), PARTITIONS), pulse.encode_to_vec())
    };
    let records = made.by_ref().map(one).collect();
    (records, made.totals())
}

/// With the promises that ours keeps: all replicas confirm, and each record once.
fn producer(place: &Place) -> anyhow::Result<(BaseProducer<Reports>, Arc<AtomicU64>)> {
    let delivered = Arc::new(AtomicU64::new(0));
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &place.brokers)
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("compression.type", place.compression.name())
        .set("linger.ms", "5")
        // As large as ours: the topic takes no larger one.
        .set("batch.size", "524288")
        .set("queue.buffering.max.messages", "1000000");
    Ok((BaseProducer::from_config_and_context(&config, Reports(Arc::clone(&delivered)))?, delivered))
}

fn send_all(
    producer: &BaseProducer<Reports>,
    delivered: &AtomicU64,
    topic: &str,
    records: &[(u32, Vec<u8>)],
) -> anyhow::Result<()> {
    let before = delivered.load(Ordering::Relaxed);
    for (number, (partition, value)) in records.iter().enumerate() {
        let mut record =
            BaseRecord::<'_, (), [u8]>::to(topic).partition(partition.cast_signed()).payload(value);
        loop {
            match producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => {
                    producer.poll(Duration::from_millis(10));
                    record = again;
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
        if number % POLL_EVERY == 0 {
            producer.poll(Duration::ZERO);
        }
    }
    // Not `flush`, which has the client linger no more: a program that runs on does not end its batches early.
    let (begun, wanted) = (Instant::now(), records.len() as u64);
    loop {
        let reports = delivered.load(Ordering::Relaxed) - before;
        if reports == wanted {
            return Ok(());
        }
        ensure!(begun.elapsed() < DELIVERED_MAX, "{reports} of {wanted} records were delivered");
        producer.poll(Duration::from_millis(100));
    }
}

/// Counts what is delivered.
struct Reports(Arc<AtomicU64>);

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if result.is_ok() {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}
