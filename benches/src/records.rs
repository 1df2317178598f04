//! Log records of generated pulses, and reading a log back to add it up.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use prost::Message as _;
use pulso_domain::partitioner::partition_of;
use pulso_domain::quantity::Quantity;
use pulso_platform::log::embedded::{EmbeddedLog, EmbeddedLogConfig};
use pulso_platform::log::{AppendReply, Log};
use pulso_platform::service::clock::Clock;
use pulso_proto::v1;

use crate::mix::{Mix, Pulses, Totals};

/// The partitions of a log that is made here, as `pulso dev` makes them.
pub const PARTITIONS: u32 = 4;
/// The pulses of one batch and record.
pub const BATCH: usize = 1000;
/// Records on their way while a log is filled.
const IN_FLIGHT: usize = 32;

/// The start of the hour that a mix lies in: the one before now, so that the door takes it and windows are whole.
#[must_use]
pub fn base_seconds() -> i64 {
    Clock::System.now().seconds().div_euclid(3600) * 3600 - 3600
}

/// A batch as records, one for each partition that it has pulses of.
#[must_use]
pub fn records(batch: Vec<v1::Pulse>, partitions: u32) -> Vec<(u32, Bytes)> {
    let mut shares: Vec<v1::PulseBatch> = vec![v1::PulseBatch::default(); partitions as usize];
    for pulse in batch {
        shares[partition_of(pulse.tenant_id.as_bytes(), partitions) as usize].pulses.push(pulse);
    }
    let whole = |(partition, mut share): (u32, v1::PulseBatch)| {
        share.format_version = 1;
        share.received_at = Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 1 });
        (partition, Bytes::from(share.encode_to_vec()))
    };
    (0..).zip(shares).filter(|(_, share)| !share.pulses.is_empty()).map(whole).collect()
}

/// Opens the log in a folder, making it when it is not there.
///
/// # Errors
/// When it cannot be opened.
pub fn open(folder: &Path) -> anyhow::Result<Arc<EmbeddedLog>> {
    let config = EmbeddedLogConfig::new(folder, PARTITIONS, Clock::System);
    Ok(Arc::new(EmbeddedLog::open(config)?.0))
}

/// Appends so many pulses of a mix. Gives what they add up to, once all are durable.
///
/// # Errors
/// When the log does not take them.
pub fn fill(log: &dyn Log, mix: Mix, pulses: u64, seed: u64) -> anyhow::Result<Totals> {
    let mut made = Pulses::new(mix, pulses, base_seconds(), seed);
    let mut replies: std::collections::VecDeque<AppendReply> = std::collections::VecDeque::new();
    loop {
        let batch = made.batch(BATCH);
        if batch.is_empty() {
            break;
        }
        for (partition, value) in records(batch, PARTITIONS) {
            replies.push_back(log.append(partition, vec![value]));
        }
        while replies.len() > IN_FLIGHT {
            confirm(replies.pop_front())?;
        }
    }
    replies.into_iter().try_for_each(|reply| confirm(Some(reply)))?;
    Ok(made.totals())
}

fn confirm(reply: Option<AppendReply>) -> anyhow::Result<()> {
    if let Some(reply) = reply {
        reply.blocking_recv().context("the log answers")??;
    }
    Ok(())
}

/// Adds up all pulses of a log that nobody holds, with the generated decoder: nothing is shared with what is measured.
///
/// # Errors
/// When the log cannot be read or holds what is no record.
pub fn read_totals(folder: &Path) -> anyhow::Result<Totals> {
    let config = EmbeddedLogConfig::new(folder, PARTITIONS, Clock::System);
    let (log, _) = EmbeddedLog::open_read_only(&config)?;
    let starts: Vec<(u32, u64)> = (0..log.layout().partitions).map(|partition| (partition, 0)).collect();
    let mut reader = log.reader(&starts)?;
    let mut totals = Totals::default();
    loop {
        let records = reader.poll(Duration::ZERO)?;
        if records.is_empty() {
            return Ok(totals);
        }
        for record in records {
            for pulse in v1::PulseBatch::decode(record.value)?.pulses {
                totals.add(Quantity::parse(pulse.used_amount.as_bytes())?);
            }
        }
    }
}
