//! Writes the `SendPulsesResponse`: one result per pulse, in the order of the request, as the generated type would. The
//! prefix that gRPC wants before a message stands in front, so that nobody needs to copy the answer behind one.

use bytes::Bytes;
use pulso_domain::pulse::Rejection;
use pulso_platform::log::RECORD_PULSES_MAX;
use pulso_proto::v1::pulse_result::Status;

use crate::batch::{Plan, Segment};
use crate::board::{Outcome, Run};
use crate::unary::PREFIX_BYTES;
use crate::wire::{bytes_len, number_len, put_bytes, put_number, put_varint};

/// `SendPulsesResponse.results`, and within a result `status`, `receipt`, `reason`, `field`, `message`.
const RESULTS: u8 = 0x0a;
const STATUS: u8 = 0x08;
const RECEIPT: u8 = 0x12;
const REASON: u8 = 0x1a;
const FIELD: u8 = 0x22;
const MESSAGE: u8 = 0x2a;
/// Within a receipt `generation`, `partition`, `offset`, `index`.
const GENERATION: u8 = 0x08;
const PARTITION: u8 = 0x10;
const OFFSET: u8 = 0x18;
const INDEX: u8 = 0x20;

/// What a client is told about pulses whose fate is not known.
const UNKNOWN_MESSAGE: &str = "the log did not confirm it; send it again with the same id";

/// Most bytes of the result of a pulse that went to the log: an accepted one has 6 bytes around its receipt and at most
/// 26 in it, an unknown one its message.
pub(crate) const ACCEPTED_BYTES_MAX: usize = 4 + bytes_len(UNKNOWN_MESSAGE.len());

/// The bytes of a rejected pulse's result.
pub(crate) fn rejected_bytes(rejection: &Rejection) -> usize {
    bytes_len(rejected_body(rejection))
}

fn rejected_body(rejection: &Rejection) -> usize {
    2 + bytes_len(rejection.reason.code().len())
        + bytes_len(rejection.field.len())
        + bytes_len(rejection.message.len())
}

/// Writes the answer to a batch whose chunks have their outcomes: `runs` are those of the first share, then those of the
/// second, and so on, `first_run` is where each share begins. The answer is framed as gRPC frames a plain message.
pub(crate) fn encode(plan: &Plan, runs: &[Run], first_run: &[u32]) -> Bytes {
    let mut out = Vec::with_capacity(PREFIX_BYTES + plan.answer_bytes);
    out.extend_from_slice(&[0; PREFIX_BYTES]);
    let mut cursors: Vec<Cursor> = first_run.iter().map(|run| Cursor::new(*run as usize)).collect();
    for segment in &plan.segments {
        match *segment {
            Segment::Rejected { rejection, pulses } => {
                put_rejected(&mut out, &plan.rejections[rejection as usize], pulses);
            }
            Segment::Share { share, pulses } => {
                cursors[share as usize].put(&mut out, runs, pulses);
            }
        }
    }
    let length = u32::try_from(out.len() - PREFIX_BYTES).expect("at most 10,000 results of bounded size");
    out[1..PREFIX_BYTES].copy_from_slice(&length.to_be_bytes());
    Bytes::from(out)
}

/// The message of a framed answer.
pub(crate) fn message(framed: &Bytes) -> Bytes {
    framed.slice(PREFIX_BYTES..)
}

/// How far a share's pulses have been answered.
struct Cursor {
    run: usize,
    done: u32,
    /// The result of the run's pulses, once the first of them is written.
    receipt: Option<Receipt>,
}

impl Cursor {
    const fn new(run: usize) -> Self {
        Self { run, done: 0, receipt: None }
    }

    fn put(&mut self, out: &mut Vec<u8>, runs: &[Run], mut pulses: u32) {
        while pulses > 0 {
            let run = &runs[self.run];
            let now = pulses.min(run.pulses - self.done);
            match run.outcome {
                Outcome::Stored { at, first_index } => {
                    let receipt = self
                        .receipt
                        .get_or_insert_with(|| Receipt::new(at.generation, at.partition, at.offset));
                    receipt.put_run(out, first_index + self.done, now);
                }
                Outcome::Pending | Outcome::NotStored | Outcome::Unknown => put_unknown(out, now),
            }
            pulses -= now;
            self.done += now;
            if self.done == run.pulses {
                *self = Self::new(self.run + 1);
            }
        }
    }
}

/// The result of an accepted pulse, ready but for its index: all pulses of a record share the rest.
struct Receipt {
    /// The result's head, then the receipt up to its index, then room for that.
    result: [u8; Self::HEAD + Self::FIXED_MAX + Self::INDEX_MAX],
    /// The bytes of the receipt before its index.
    fixed: usize,
}

impl Receipt {
    const HEAD: usize = 6;
    const FIXED_MAX: usize = 6 + 6 + 11;
    const INDEX_MAX: usize = 1 + 2;

    fn new(generation: u32, partition: u32, offset: u64) -> Self {
        let mut body = Vec::with_capacity(Self::FIXED_MAX);
        put_number(&mut body, GENERATION, generation.into());
        put_number(&mut body, PARTITION, partition.into());
        put_number(&mut body, OFFSET, offset);
        let mut result = [0; Self::HEAD + Self::FIXED_MAX + Self::INDEX_MAX];
        result[..Self::HEAD].copy_from_slice(&[RESULTS, 0, STATUS, Status::Accepted as u8, RECEIPT, 0]);
        result[Self::HEAD..Self::HEAD + body.len()].copy_from_slice(&body);
        Self { result, fixed: body.len() }
    }

    /// Writes the results of `pulses` pulses from this index on.
    fn put_run(&mut self, out: &mut Vec<u8>, first: u32, pulses: u32) {
        let place = Self::HEAD + self.fixed;
        let mut index_bytes = usize::MAX;
        for index in first..first + pulses {
            let needed = number_len(index.into());
            if needed != index_bytes {
                index_bytes = needed;
                // Every length here is below 128, so each is one byte.
                let receipt = (self.fixed + needed) as u8;
                (self.result[1], self.result[5]) = (receipt + 4, receipt);
                self.result[place] = INDEX;
            }
            // An index has one byte or two; the first of two says that the other follows.
            let number = index as u16;
            self.result[place + 1] = if needed == 3 { number as u8 | 0x80 } else { number as u8 };
            self.result[place + 2] = (number >> 7) as u8;
            // A fixed number of bytes is copied in two moves; what is too many goes again.
            let end = out.len() + place + needed;
            out.extend_from_slice(&self.result);
            out.truncate(end);
        }
    }
}

fn put_unknown(out: &mut Vec<u8>, pulses: u32) {
    for _ in 0..pulses {
        out.push(RESULTS);
        put_varint(out, 2 + bytes_len(UNKNOWN_MESSAGE.len()) as u64);
        out.extend_from_slice(&[STATUS, Status::Unknown as u8]);
        put_bytes(out, MESSAGE, UNKNOWN_MESSAGE.as_bytes());
    }
}

fn put_rejected(out: &mut Vec<u8>, rejection: &Rejection, pulses: u32) {
    let body = rejected_body(rejection);
    for _ in 0..pulses {
        out.push(RESULTS);
        put_varint(out, body as u64);
        out.extend_from_slice(&[STATUS, Status::Rejected as u8]);
        put_bytes(out, REASON, rejection.reason.code().as_bytes());
        put_bytes(out, FIELD, rejection.field.as_bytes());
        put_bytes(out, MESSAGE, rejection.message.as_bytes());
    }
}

const _: () = assert!(ACCEPTED_BYTES_MAX >= Receipt::HEAD + Receipt::FIXED_MAX + Receipt::INDEX_MAX);
const _: () = assert!(RECORD_PULSES_MAX <= 1 << 14, "an index is written in at most two bytes");
