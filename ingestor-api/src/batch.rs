//! One pass over a request's bytes: each pulse is found, judged, and its bytes are appended as they are to the share of
//! its partition, behind what a log record begins with: a share that has its record for itself goes to the log as it is.
//! No structs are built; what goes on is a [`Plan`].
//!
//! Nothing is given to the log before the whole request has been read: a call that fails has stored nothing (G5).

use bytes::Bytes;
use pulso_domain::ids::is_tenant_id;
use pulso_domain::partitioner::partition_of;
use pulso_domain::pulse::{self, Rejection, TAGS_MAX};
use pulso_domain::reason::Reason;
use pulso_domain::time::Instant;
use pulso_platform::log::{RECORD_BYTES_MAX, RECORD_PULSES_MAX};
use pulso_proto::plain;
use pulso_proto::walk::{self, Fields, Malformed, Value};

use crate::answer;
use crate::door::{Door, Measured};
use crate::packer::{RECORD_HEADER_BYTES_MAX, put_record_header};
use crate::refusal::IngestError;
use crate::settings::{BATCH_PULSES_MAX, PULSE_BYTES_MAX};
use crate::wire::{bytes_len, put_bytes};

/// The key of `SendPulsesRequest.pulses`: field 1, length-delimited.
const REQUEST_PULSE_TAG: u8 = 0x0a;
/// The key of `PulseBatch.pulses`: field 4, length-delimited.
const RECORD_PULSE_TAG: u8 = 0x22;
/// The first allocation of a share that is not the request's first; it grows as needed.
const SHARE_BYTES_START: usize = 4096;

/// What is to be done with a request.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Runs of pulses with one destiny, in the order of the request.
    pub(crate) segments: Vec<Segment>,
    /// Why pulses were rejected; segments point here.
    pub(crate) rejections: Vec<Rejection>,
    /// The accepted pulses by partition.
    pub(crate) shares: Vec<Share>,
    /// All pulses of the request.
    pub(crate) pulses: u32,
    /// An upper bound of the answer's bytes.
    pub(crate) answer_bytes: usize,
}

/// Consecutive pulses of a request that go the same way.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Segment {
    /// To a partition.
    Share {
        /// Which of [`Plan::shares`].
        share: u32,
        /// How many.
        pulses: u32,
    },
    /// Nowhere.
    Rejected {
        /// Which of [`Plan::rejections`].
        rejection: u32,
        /// How many.
        pulses: u32,
    },
}

/// What goes to one partition, cut so that each chunk fits a record.
#[derive(Debug)]
pub(crate) struct Share {
    /// The partition.
    pub(crate) partition: u32,
    /// In order; none is empty.
    pub(crate) chunks: Vec<Chunk>,
}

/// A `PulseBatch` of pulses: a whole record, or a part of one.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// What a record begins with, then the `pulses` fields, one after the other.
    pub(crate) bytes: Bytes,
    /// How many of the bytes stand before the pulses; left away when the chunk is not the first of its record.
    pub(crate) header_bytes: usize,
    /// How many.
    pub(crate) pulses: u32,
}

/// Reads a `SendPulsesRequest`.
///
/// # Errors
/// What concerns the whole call: the number of pulses, or bytes that are no such message.
pub(crate) fn read(request: &[u8], door: &Door, partitions: u32) -> Result<Plan, IngestError> {
    let mut planner = Planner::new(door, partitions);
    let not_protobuf = |_: Malformed| IngestError::NotProtobuf { field: "request".to_owned() };
    let mut rest = request;
    while !rest.is_empty() {
        if let Some((found, after)) = split_pulse(rest) {
            planner.pulse(found, after.len())?;
            rest = after;
            continue;
        }
        let mut fields = Fields::new(rest);
        match fields.next_field().map_err(not_protobuf)? {
            Some((1, Value::Bytes(pulse))) => {
                planner.pulse(Found { pulse, field: None }, fields.rest().len())?;
            }
            Some((2, Value::Bytes(text))) if std::str::from_utf8(text).is_ok() => {}
            Some((1 | 2, _)) => return Err(not_protobuf(Malformed)),
            Some(_) | None => {}
        }
        rest = fields.rest();
    }
    planner.finish()
}

/// A pulse of the request.
#[derive(Clone, Copy)]
struct Found<'a> {
    pulse: &'a [u8],
    /// With its key and length, when the key has one byte: in a record only that one is another.
    field: Option<&'a [u8]>,
}

/// A pulse of less than 16 KiB in front of the rest, when that is what comes next: nearly always.
#[inline]
fn split_pulse(rest: &[u8]) -> Option<(Found<'_>, &[u8])> {
    let (head, length) = match rest {
        [REQUEST_PULSE_TAG, length @ 0..0x80, ..] => (2, usize::from(*length)),
        [REQUEST_PULSE_TAG, low, high @ 0..0x80, ..] => {
            (3, usize::from(low & 0x7f) | usize::from(*high) << 7)
        }
        _ => return None,
    };
    let (field, after) = rest.split_at_checked(head + length)?;
    Some((Found { pulse: &field[head..], field: Some(field) }, after))
}

struct Planner<'a> {
    door: &'a Door,
    partitions: u32,
    plan: Plan,
    /// The open chunk of each share.
    open: Vec<OpenChunk>,
    /// For each partition its share plus 1; 0 where it has none yet.
    share_of: Vec<u32>,
    /// Pulses of one tenant come in runs: the last good tenant and its share.
    last_tenant: Option<(&'a [u8], u32)>,
    /// So do SKUs: the last one with its unit that the catalog takes.
    last_unit: Option<(&'a [u8], &'a [u8])>,
}

#[derive(Debug)]
struct OpenChunk {
    bytes: Vec<u8>,
    header_bytes: usize,
    pulses: u32,
}

impl OpenChunk {
    /// Room for the header and so many bytes of pulses.
    fn new(capacity: usize, received_at: Instant) -> Self {
        let mut bytes = Vec::with_capacity(RECORD_HEADER_BYTES_MAX + capacity);
        put_record_header(&mut bytes, received_at);
        Self { header_bytes: bytes.len(), bytes, pulses: 0 }
    }

    fn close(self) -> Chunk {
        Chunk { bytes: Bytes::from(self.bytes), header_bytes: self.header_bytes, pulses: self.pulses }
    }
}

impl<'a> Planner<'a> {
    fn new(door: &'a Door, partitions: u32) -> Self {
        Self {
            door,
            partitions,
            plan: Plan::default(),
            open: Vec::new(),
            share_of: vec![0; partitions as usize],
            last_tenant: None,
            last_unit: None,
        }
    }

    /// `rest` is how many bytes of the request follow: the size that the first share may grow to.
    #[inline]
    fn pulse(&mut self, found: Found<'a>, rest: usize) -> Result<(), IngestError> {
        let index = self.plan.pulses;
        if index as usize == BATCH_PULSES_MAX {
            return Err(IngestError::TooManyPulses);
        }
        self.plan.pulses += 1;
        match self.judge(found.pulse, rest) {
            Ok(Ok(share)) => self.accept(share, found),
            Ok(Err(rejection)) => self.reject(rejection),
            Err(Malformed) => return Err(IngestError::NotProtobuf { field: format!("pulses[{index}]") }),
        }
        Ok(())
    }

    /// The share that a good pulse belongs to, or why it is not good.
    #[inline]
    fn judge(&mut self, bytes: &'a [u8], rest: usize) -> Result<Result<u32, Rejection>, Malformed> {
        let (measured, known) = match plain::read(bytes).and_then(|pulse| self.tenant_of(pulse.into())) {
            Some(known) => known,
            None => match judge_in_full(bytes)? {
                Ok(measured) => (measured, None),
                Err(rejection) => return Ok(Err(rejection)),
            },
        };
        let checked = self.door.check(&measured).and_then(|()| self.check_unit(&measured));
        let share = || self.share_of_tenant(measured.tenant_id, bytes.len() + rest);
        Ok(checked.map(|()| known.unwrap_or_else(share)))
    }

    /// A plain pulse with the share of its tenant, when that is the last one; `None` when it is no tenant.
    #[inline]
    fn tenant_of(&self, pulse: Measured<'a>) -> Option<(Measured<'a>, Option<u32>)> {
        match self.last_tenant {
            Some((last, share)) if last == pulse.tenant_id => Some((pulse, Some(share))),
            _ => is_tenant_id(pulse.tenant_id).then_some((pulse, None)),
        }
    }

    #[inline]
    fn check_unit(&mut self, pulse: &Measured<'a>) -> Result<(), Rejection> {
        let pair = (pulse.product_sku, pulse.use_unit);
        if !self.door.knows_units() || self.last_unit == Some(pair) {
            return Ok(());
        }
        self.door.check_unit(pair.0, pair.1)?;
        self.last_unit = Some(pair);
        Ok(())
    }

    fn share_of_tenant(&mut self, tenant_id: &'a [u8], rest: usize) -> u32 {
        let share = self.share(partition_of(tenant_id, self.partitions), rest);
        self.last_tenant = Some((tenant_id, share));
        share
    }

    #[inline]
    fn accept(&mut self, share: u32, found: Found<'_>) {
        self.plan.answer_bytes += answer::ACCEPTED_BYTES_MAX;
        match self.plan.segments.last_mut() {
            Some(Segment::Share { share: last, pulses }) if *last == share => *pulses += 1,
            _ => self.plan.segments.push(Segment::Share { share, pulses: 1 }),
        }
        let open = &mut self.open[share as usize];
        let full = open.pulses as usize == RECORD_PULSES_MAX
            || open.bytes.len() + found.field.map_or(bytes_len(found.pulse.len()), <[u8]>::len)
                > RECORD_BYTES_MAX;
        if full {
            let fresh = OpenChunk::new(SHARE_BYTES_START, self.door.received_at);
            self.plan.shares[share as usize].chunks.push(std::mem::replace(open, fresh).close());
        }
        match found.field {
            Some(field) => {
                let key = open.bytes.len();
                open.bytes.extend_from_slice(field);
                open.bytes[key] = RECORD_PULSE_TAG;
            }
            None => put_bytes(&mut open.bytes, RECORD_PULSE_TAG, found.pulse),
        }
        open.pulses += 1;
    }

    fn share(&mut self, partition: u32, rest: usize) -> u32 {
        let known = self.share_of[partition as usize];
        if known > 0 {
            return known - 1;
        }
        // Most batches are of one tenant: the first share gets room for all that follows.
        let capacity = match self.open.is_empty() {
            true => (rest + rest / 32 + 16).min(RECORD_BYTES_MAX - RECORD_HEADER_BYTES_MAX),
            false => SHARE_BYTES_START.min(rest + 16),
        };
        self.open.push(OpenChunk::new(capacity, self.door.received_at));
        self.plan.shares.push(Share { partition, chunks: Vec::new() });
        let share = self.open.len() as u32;
        self.share_of[partition as usize] = share;
        share - 1
    }

    fn reject(&mut self, rejection: Rejection) {
        self.plan.answer_bytes += answer::rejected_bytes(&rejection);
        let repeated = self.plan.rejections.last() == Some(&rejection);
        match self.plan.segments.last_mut() {
            Some(Segment::Rejected { pulses, .. }) if repeated => *pulses += 1,
            _ => {
                if !repeated {
                    self.plan.rejections.push(rejection);
                }
                let rejection = self.plan.rejections.len() as u32 - 1;
                self.plan.segments.push(Segment::Rejected { rejection, pulses: 1 });
            }
        }
    }

    fn finish(mut self) -> Result<Plan, IngestError> {
        if self.plan.pulses == 0 {
            return Err(IngestError::EmptyBatch);
        }
        for (share, open) in self.plan.shares.iter_mut().zip(self.open) {
            share.chunks.push(open.close());
        }
        Ok(self.plan)
    }
}

/// The full walk and check, for what the quick path does not know.
fn judge_in_full(bytes: &[u8]) -> Result<Result<Measured<'_>, Rejection>, Malformed> {
    let is_giant = bytes.len() > PULSE_BYTES_MAX;
    // Tags are counted before they are collected, since two bytes of wire can become 64 of memory.
    if is_giant && count_tags(bytes)? > 16 * TAGS_MAX {
        return Ok(Err(TAGS_BEYOND_COUNT));
    }
    let raw = walk::pulse(bytes)?;
    Ok(match pulse::check(&raw) {
        // Its own faults are named first, as for any other pulse.
        Ok(_) if is_giant => Err(GIANT_PULSE),
        Ok(good) => Ok(Measured {
            tenant_id: raw.tenant_id,
            product_sku: raw.product_sku,
            use_unit: raw.use_unit,
            used_amount: good.used_amount,
            occurred_at: good.occurred_at,
        }),
        Err(rejection) => Err(rejection),
    })
}

fn count_tags(bytes: &[u8]) -> Result<usize, Malformed> {
    let (mut tags, mut fields) = (0, Fields::new(bytes));
    while let Some((number, _)) = fields.next_field()? {
        tags += usize::from(number == 9);
    }
    Ok(tags)
}

const TAGS_BEYOND_COUNT: Rejection =
    Rejection { reason: Reason::TagLimit, field: "tags", message: "send at most 64 tags" };
const GIANT_PULSE: Rejection = Rejection {
    reason: Reason::FieldTooLong,
    field: "pulses",
    message: "use at most 65536 bytes for one pulse, unknown and repeated fields included",
};
