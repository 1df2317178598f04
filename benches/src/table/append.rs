//! The embedded log against `write` and `fdatasync` of the same bytes in as many equal groups, on the same disk.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use pulso_platform::log::embedded::{EmbeddedLog, EmbeddedLogConfig};
use pulso_platform::log::{AppendReply, Log};
use pulso_platform::service::clock::Clock;
use std::collections::VecDeque;

use super::Session;
use super::figure::{Bounds, Figure};
use super::turns::Turns;
use crate::mix::{Mix, Pulses, Totals};
use crate::records::{self, BATCH, PARTITIONS};

/// Records on their way: enough that one group gathers while another is synced.
const IN_FLIGHT: usize = 64;

/// What is appended in each run.
struct Load {
    records: Vec<(u32, Bytes)>,
    /// All of their values, one after the other: what the other side writes.
    values: Vec<u8>,
    totals: Totals,
}

pub(super) fn measure(session: &Session, show: &mut dyn FnMut(Figure)) -> anyhow::Result<()> {
    let scratch = session.scratch()?;
    let load = load(session.pick(1_000_000, 100_000));
    let mut groups = 0;
    let mut run = 0;
    let mut log_run = |groups: &mut u64| {
        run += 1;
        append(&scratch.path().join(run.to_string()), &load, groups)
    };
    log_run(&mut groups)?;
    let groups = std::cell::Cell::new(groups);
    let turns = Turns::take(
        session.rounds(),
        || {
            let mut now = 0;
            let cost = log_run(&mut now)?;
            groups.set(now);
            Ok(cost)
        },
        || write_and_sync(scratch.path(), &load, groups.get()),
    )?;
    let ((ours, other), (value, worst)) = (turns.costs(), turns.times_cheaper());
    let rate = |nanos_a_byte: f64| 1e3 / nanos_a_byte;
    show(Figure {
        what: "embedded append, acked bytes/s, against write+fdatasync of equal groups".to_owned(),
        value,
        unit: "x",
        detail: format!(
            "{:.0} MB/s against {:.0}, groups of {:.1} MB; worst round {worst:.2} x",
            rate(ours),
            rate(other),
            load.values.len() as f64 / groups.get() as f64 / 1e6
        ),
        bounds: Bounds::AtLeast { floor: 0.7, goal: 0.9 },
    });
    Ok(())
}

fn load(pulses: u64) -> Load {
    let mut made = Pulses::new(Mix::COUNTED, pulses, records::base_seconds(), 1);
    let mut all = Vec::new();
    loop {
        let batch = made.batch(BATCH);
        if batch.is_empty() {
            break;
        }
        all.extend(records::records(batch, PARTITIONS));
    }
    let values = all.iter().flat_map(|(_, value)| value).copied().collect();
    Load { records: all, values, totals: made.totals() }
}

/// Appends everything to a new log and waits for each ack: nanoseconds a byte. Reads it back before it is let go.
fn append(folder: &Path, load: &Load, groups: &mut u64) -> anyhow::Result<f64> {
    let log = records::open(folder)?;
    let begun = Instant::now();
    let mut replies: VecDeque<AppendReply> = VecDeque::with_capacity(IN_FLIGHT);
    for (partition, value) in &load.records {
        if replies.len() == IN_FLIGHT {
            confirm(replies.pop_front())?;
        }
        replies.push_back(log.append(*partition, vec![value.clone()]));
    }
    replies.into_iter().try_for_each(|reply| confirm(Some(reply)))?;
    let nanos = begun.elapsed().as_nanos() as f64 / load.values.len() as f64;
    close(log)?;
    let config = EmbeddedLogConfig::new(folder, PARTITIONS, Clock::System);
    *groups = EmbeddedLog::open_read_only(&config)?.1.groups;
    ensure!(records::read_totals(folder)? == load.totals, "the log does not hold what was acknowledged");
    std::fs::remove_dir_all(folder)?;
    Ok(nanos)
}

fn close(log: Arc<EmbeddedLog>) -> anyhow::Result<()> {
    log.close();
    Arc::into_inner(log).context("nobody else holds the log").map(drop)
}

fn confirm(reply: Option<AppendReply>) -> anyhow::Result<()> {
    if let Some(reply) = reply {
        reply.blocking_recv().context("the log answers")??;
    }
    Ok(())
}

/// Writes the same bytes in as many groups to a new file, each group synced: nanoseconds a byte. One group's bytes written
/// again and again would be read from the processor's cache, as no log's are.
fn write_and_sync(folder: &Path, load: &Load, groups: u64) -> anyhow::Result<f64> {
    let path = folder.join("baseline");
    let group_bytes = load.values.len().div_ceil(usize::try_from(groups)?.max(1));
    let mut file = File::create(&path)?;
    let begun = Instant::now();
    for group in load.values.chunks(group_bytes) {
        file.write_all(group)?;
        file.sync_data()?;
    }
    let nanos = begun.elapsed().as_nanos() as f64 / load.values.len() as f64;
    std::fs::remove_file(&path)?;
    Ok(nanos)
}
