//! The log of one seed: what each record says, for the oracle, and its bytes, for the fold. Half of the seeds have a second
//! generation: the first ends with a seal and with what arrived behind it, and both are written by one author, so that
//! retries and conflicts stand on both sides of the border.
//!
//! Small on purpose: few tenants, SKUs and hours, so that rows and ids meet often; with everything that a log can hold.

use std::collections::VecDeque;

use bytes::Bytes;
use prost::Message;
use pulso_domain::partitioner::partition_of;
use pulso_domain::position::{OFFSET_BITS, Rank, partition_number};
use pulso_domain::reason::Reason;
use pulso_platform::log::{LogLayout, LogRecord};
use pulso_proto::v1;
use xxhash_rust::xxh3::xxh3_64;

use crate::dice::Dice;

/// The index of the partition that is folded of each generation.
pub const INDEX: u32 = 0;
/// Both generations. Whoever has partition 0 of the second had it of the first.
pub const LAYOUTS: [LogLayout; 2] = [
    LogLayout { generation: 1, partitions: 2, log_id: [0xa5; 16] },
    LogLayout { generation: 2, partitions: 4, log_id: [0xb6; 16] },
];
/// Seconds of a day.
pub const DAY: i64 = 86_400;

const HOUR: i64 = 3600;
const NANOS: i64 = 1_000_000_000;
/// 2026-03-30T00:00:00Z: two days before a month ends.
const BEGIN: i64 = 1_774_828_800;
const SKUS: [&str; 2] = ["vm", "disk"];
const REGIONS: [&str; 2] = ["", "br-se1"];

/// A pulse as the oracle knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spec {
    /// Its id.
    pub id: String,
    /// Whose.
    pub tenant: String,
    /// Of what.
    pub sku: &'static str,
    /// Where.
    pub region: &'static str,
    /// How much, in steps of 10^-15.
    pub steps: i128,
    /// When, in seconds and nanoseconds.
    pub at: (i64, i32),
    /// Why it is a dead letter whatever was before it.
    pub bad: Option<Reason>,
}

/// What a record says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Entry {
    /// The first record.
    Start {
        /// The horizon it sets, in seconds.
        horizon: u64,
    },
    /// A new horizon.
    Horizon(u64),
    /// The fold's rules, as they are.
    FoldVersion,
    /// Bytes that are no record.
    Garbage,
    /// The end of the generation.
    Seal,
    /// Pulses.
    Pulses(Vec<Spec>),
    /// Pulses that arrived behind the seal of the generation before.
    Moved {
        /// Those of the record that went to this partition.
        specs: Vec<Spec>,
        /// The record, and the first of them in it.
        from: (Rank, u32),
    },
}

/// The log of one generation.
#[derive(Clone, Debug)]
pub struct History {
    /// Its place among [`LAYOUTS`].
    pub place: usize,
    /// What each record says.
    pub entries: Vec<Entry>,
    /// Their bytes.
    pub records: Vec<LogRecord>,
    /// Records that cannot be read until someone mends the log, and that an operator gives up: `[from, to)`.
    pub damage: Option<(u64, u64)>,
    /// What clients will append, in order, with its time.
    pub coming: VecDeque<(Entry, i64)>,
}

/// The unit of every pulse.
pub const UNIT: &str = "Hours";

struct Author<'a> {
    dice: &'a mut Dice,
    tenants: Vec<String>,
    stranger: String,
    /// Pulses so far that a later one may repeat.
    sent: Vec<Spec>,
    now: i64,
    numbers: u64,
    /// How often a pulse is a copy, in permille.
    copies: u32,
    /// Hours that pulses are spread over.
    spread: i64,
    horizon: i64,
}

impl History {
    /// The logs of a seed's generations, of as many records as it says or as are given, if it may grow. The first is there
    /// from the beginning.
    #[must_use]
    pub fn write(dice: &mut Dice, records: Option<usize>, may_grow: bool) -> Vec<Self> {
        let grows = dice.chance(500) && may_grow;
        let horizon = if dice.chance(600) { dice.between(2, 8) * DAY } else { 0 };
        let mut author = Author::new(dice, horizon);
        let length = records.unwrap_or_else(|| author.dice.below(41) + 20);
        // Time stands nearly still in some logs and leaps in others, so that ids expire.
        let step = *[60, HOUR, 6 * HOUR, DAY].get(author.dice.below(4)).unwrap_or(&HOUR);
        let mut coming = author.generation(length, step);
        let mut end = length;
        let mut second = VecDeque::new();
        if grows {
            end = author.dice.between(length as i64 / 2, length as i64).cast_unsigned() as usize;
            let sealed_at = coming[end - 1].1;
            coming.insert(end, (Entry::Seal, sealed_at));
            // Another horizon may begin with the new generation.
            if author.dice.chance(300) {
                author.horizon = if author.dice.chance(600) { author.dice.between(2, 8) * DAY } else { 0 };
            }
            let more = author.dice.below(length) + 1;
            second = author.generation(more, step);
        }
        let damage = (dice.chance(120) && end > 1).then(|| {
            let from = dice.between(1, end as i64 - 1).cast_unsigned();
            (from, (from + 1 + dice.below(7) as u64).min(end as u64))
        });
        let mut first = Self::empty(0, damage, coming);
        while first.append_coming(dice) {}
        let mut histories = vec![first];
        if grows {
            histories.push(Self::empty(1, None, second));
        }
        histories
    }

    const fn empty(place: usize, damage: Option<(u64, u64)>, coming: VecDeque<(Entry, i64)>) -> Self {
        Self { place, entries: Vec::new(), records: Vec::new(), damage, coming }
    }

    /// Its partition, over all generations.
    #[must_use]
    pub const fn partition(&self) -> u32 {
        partition_of_generation(self.place)
    }

    /// A client appends what comes next; false when nothing does.
    pub fn append_coming(&mut self, dice: &mut Dice) -> bool {
        let Some((entry, now)) = self.coming.pop_front() else { return false };
        let value = encode(&entry, self.place);
        self.append(entry, value, now * NANOS + dice.between(0, 1000));
        true
    }

    /// Appends a record. The log's time never falls within a partition.
    pub fn append(&mut self, entry: Entry, value: Bytes, now_nanos: i64) {
        let before = self.records.last().map_or(i64::MIN, |record| record.appended_at_nanos);
        let (partition, offset) = (self.partition(), self.records.len() as u64);
        let appended_at_nanos = before.max(now_nanos);
        let digest = xxh3_64(&value);
        self.entries.push(entry);
        self.records.push(LogRecord { partition, offset, appended_at_nanos, digest, value });
    }

    /// The rank of one of its records.
    #[must_use]
    pub const fn rank(&self, offset: u64) -> Rank {
        rank(self.place, offset)
    }

    /// How many pulses it holds.
    #[must_use]
    pub fn pulses(&self) -> u64 {
        let count = |entry: &Entry| match entry {
            Entry::Pulses(specs) | Entry::Moved { specs, .. } => specs.len() as u64,
            _ => 0,
        };
        self.entries.iter().map(count).sum()
    }
}

/// The partition that is folded of a generation, over all generations.
#[must_use]
pub const fn partition_of_generation(place: usize) -> u32 {
    partition_number(LAYOUTS[place].generation, INDEX)
}

/// The rank of an offset.
#[must_use]
pub const fn rank(place: usize, offset: u64) -> Rank {
    Rank::from_u64(((place as u64 + 1) << OFFSET_BITS) + offset)
}

impl<'a> Author<'a> {
    fn new(dice: &'a mut Dice, horizon: i64) -> Self {
        let mut tenants = Vec::new();
        let mut stranger = String::new();
        let count = 1 + dice.below(3);
        for number in 0.. {
            let name = format!("t{number}");
            // A stranger is one in both generations.
            if partition_of(name.as_bytes(), LAYOUTS[1].partitions) == INDEX {
                tenants.push(name);
            } else if partition_of(name.as_bytes(), LAYOUTS[0].partitions) != INDEX {
                stranger = name;
            }
            if tenants.len() >= count && !stranger.is_empty() {
                break;
            }
        }
        tenants.truncate(count);
        let copies = [100, 300, 600][dice.below(3)];
        let spread = [1, 3, 30, 100][dice.below(4)];
        let now = BEGIN + dice.between(0, DAY);
        Self { dice, tenants, stranger, sent: Vec::new(), now, numbers: 0, copies, spread, horizon }
    }

    /// So many entries of a generation, with their times.
    fn generation(&mut self, length: usize, step: i64) -> VecDeque<(Entry, i64)> {
        let mut coming = VecDeque::new();
        coming.push_back((Entry::Start { horizon: self.horizon.cast_unsigned() }, self.now));
        while coming.len() < length {
            self.now += self.dice.between(0, step + 1);
            if self.dice.chance(30) {
                self.now += self.dice.between(0, 4 * DAY);
            }
            let entry = self.entry();
            coming.push_back((entry, self.now));
        }
        coming
    }

    fn entry(&mut self) -> Entry {
        match self.dice.below(40) {
            0 => {
                let days = self.dice.between(0, 9);
                // Having a horizon at all stays as it was for most of the log's life.
                self.horizon = if self.horizon == 0 && self.dice.chance(700) { 0 } else { days * DAY };
                Entry::Horizon(self.horizon.cast_unsigned())
            }
            1 => Entry::FoldVersion,
            2 => Entry::Garbage,
            _ => {
                let count = [1, 1, 1, 2, 2, 3, 5][self.dice.below(7)];
                Entry::Pulses((0..count).map(|_| self.pulse()).collect())
            }
        }
    }

    fn pulse(&mut self) -> Spec {
        if self.dice.chance(self.copies)
            && let Some(copy) = self.copy()
        {
            return copy;
        }
        let mut spec = self.fresh();
        self.sent.push(spec.clone());
        // What is sent first may be bad, and its good copy comes later.
        match self.dice.below(40) {
            0 => spec.bad = Some(Reason::InvalidAmount),
            1 => spec.bad = Some(Reason::EmptyId),
            2 => (spec.bad, spec.tenant) = (Some(Reason::Misrouted), self.stranger.clone()),
            3 => spec.bad = Some(Reason::Undecodable),
            4 | 5 if self.horizon > 0 => spec.at.0 = self.now - self.horizon - self.dice.between(0, 5 * DAY),
            _ => {}
        }
        spec
    }

    fn copy(&mut self) -> Option<Spec> {
        let count = self.sent.len();
        let near = count.min(4);
        let place = match self.dice.below(3) {
            0 if near > 0 => count - 1 - self.dice.below(near),
            _ if count > 0 => self.dice.below(count),
            _ => return None,
        };
        let mut copy = self.sent[place].clone();
        match self.dice.below(8) {
            0 | 1 => copy.at = self.time(),
            2 => copy.steps += 1_000_000_000_000_000,
            3 => copy.sku = SKUS[self.dice.below(2)],
            _ => {}
        }
        Some(copy)
    }

    fn fresh(&mut self) -> Spec {
        self.numbers += 1;
        let tenant = self.tenants[self.dice.below(self.tenants.len())].clone();
        let tenths =
            if self.dice.chance(100) { self.dice.between(-90, 0) } else { self.dice.between(0, 500) };
        Spec {
            id: self.id(),
            tenant,
            sku: SKUS[self.dice.below(2)],
            region: REGIONS[usize::from(self.dice.chance(200))],
            steps: i128::from(tenths) * 100_000_000_000_000,
            at: self.time(),
            bad: None,
        }
    }

    fn time(&mut self) -> (i64, i32) {
        let hours = if self.dice.chance(100) { 10 * self.spread } else { self.spread };
        let second = self.now - self.dice.between(0, hours) * HOUR;
        // Few distinct times, so that the last amount is often decided by the position.
        (second.div_euclid(HOUR) * HOUR + self.dice.between(0, 3), self.dice.below(2) as i32)
    }

    fn id(&mut self) -> String {
        let number = self.numbers;
        if self.dice.chance(300) {
            return format!("p-{number}");
        }
        let millis = (self.now * 1000 - self.dice.between(0, 2 * HOUR * 1000)).cast_unsigned();
        let (high, low) = (millis >> 16, millis & 0xffff);
        format!("{high:08x}-{low:04x}-7000-8000-{number:012x}")
    }
}

fn decimal(steps: i128) -> String {
    let sign = if steps < 0 { "-" } else { "" };
    let tenths = steps.unsigned_abs() / 100_000_000_000_000;
    format!("{sign}{}.{}", tenths / 10, tenths % 10)
}

fn encode(entry: &Entry, place: usize) -> Bytes {
    use v1::control::Fact;
    let layout = LAYOUTS[place];
    let fact = match entry {
        Entry::Start { horizon } => Fact::GenerationStart(v1::GenerationStart {
            generation: layout.generation,
            partitions: layout.partitions,
            log_id: Bytes::copy_from_slice(&layout.log_id),
            id_horizon_seconds: *horizon,
            fold_version: 1,
        }),
        Entry::Horizon(seconds) => Fact::IdHorizon(v1::IdHorizon { seconds: *seconds }),
        Entry::FoldVersion => Fact::FoldVersion(v1::FoldVersion { version: 1 }),
        Entry::Garbage => return Bytes::from_static(b"\x08\x01\x22\x7fnot a record"),
        Entry::Seal => Fact::Seal(v1::Seal { next_generation: layout.generation + 1 }),
        Entry::Pulses(specs) | Entry::Moved { specs, .. } => return encode_pulses(specs),
    };
    let control = Some(v1::Control { fact: Some(fact) });
    v1::PulseBatch { format_version: 1, control, ..Default::default() }.encode_to_vec().into()
}

fn encode_pulses(specs: &[Spec]) -> Bytes {
    let mut value = v1::PulseBatch { format_version: 1, ..Default::default() }.encode_to_vec();
    for spec in specs {
        let pulse = encode_pulse(spec);
        // Field 4, length-delimited; by hand, since a pulse may be no pulse.
        value.push(0x22);
        prost::encoding::encode_varint(pulse.len() as u64, &mut value);
        value.extend_from_slice(&pulse);
    }
    value.into()
}

fn encode_pulse(spec: &Spec) -> Vec<u8> {
    let mut pulse = v1::Pulse {
        id: spec.id.clone(),
        tenant_id: spec.tenant.clone(),
        product_sku: spec.sku.to_owned(),
        used_amount: decimal(spec.steps),
        use_unit: UNIT.to_owned(),
        region: spec.region.to_owned(),
        ..Default::default()
    };
    let (seconds, nanos) = spec.at;
    pulse.occurred_at = Some(prost_types::Timestamp { seconds, nanos });
    match spec.bad {
        Some(Reason::InvalidAmount) => pulse.used_amount = "1e3".to_owned(),
        Some(Reason::EmptyId) => pulse.id.clear(),
        Some(Reason::Undecodable) => return b"\x0a\x7fshort".to_vec(),
        _ => {}
    }
    pulse.encode_to_vec()
}
