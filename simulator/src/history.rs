//! The log of one seed, made in advance: what each record says, for the oracle, and its bytes, for the fold.
//!
//! Small on purpose: few tenants, SKUs and hours, so that rows and ids meet often; with everything that a log can hold.

use bytes::Bytes;
use prost::Message;
use pulso_domain::partitioner::partition_of;
use pulso_domain::reason::Reason;
use pulso_platform::log::LogRecord;
use pulso_proto::v1;
use xxhash_rust::xxh3::xxh3_64;

use crate::dice::Dice;

/// The partition that is folded, and how many there are.
pub const PARTITION: u32 = 0;
/// See [`PARTITION`].
pub const PARTITIONS: u32 = 2;
/// The log's name.
pub const LOG_ID: [u8; 16] = [0xa5; 16];
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
    /// Pulses.
    Pulses(Vec<Spec>),
}

/// The log of one seed.
#[derive(Debug)]
pub struct History {
    /// What each record says.
    pub entries: Vec<Entry>,
    /// Their bytes.
    pub records: Vec<LogRecord>,
    /// Records that cannot be read until someone mends the log, and that an operator gives up: `[from, to)`.
    pub damage: Option<(u64, u64)>,
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
    /// The log of a seed, of as many records as it says or as are given.
    #[must_use]
    pub fn write(dice: &mut Dice, records: Option<usize>) -> Self {
        let horizon = if dice.chance(600) { dice.between(2, 8) * DAY } else { 0 };
        let mut author = Author::new(dice, horizon);
        let length = records.unwrap_or_else(|| author.dice.below(41) + 20);
        // Time stands nearly still in some logs and leaps in others, so that ids expire.
        let step = *[60, HOUR, 6 * HOUR, DAY].get(author.dice.below(4)).unwrap_or(&HOUR);
        let mut entries = vec![Entry::Start { horizon: horizon.cast_unsigned() }];
        let mut times = vec![author.now];
        while entries.len() < length {
            author.now += author.dice.between(0, step + 1);
            if author.dice.chance(30) {
                author.now += author.dice.between(0, 4 * DAY);
            }
            let entry = author.entry();
            entries.push(entry);
            times.push(author.now);
        }
        let damage = dice.chance(120).then(|| {
            let from = dice.between(1, length as i64 - 1).cast_unsigned();
            (from, (from + 1 + dice.below(7) as u64).min(length as u64))
        });
        let records = entries.iter().zip(times).zip(0..).map(|((entry, now), offset)| {
            let value = encode(entry);
            let appended_at_nanos = now * NANOS + dice.between(0, 1000);
            LogRecord { partition: PARTITION, offset, appended_at_nanos, digest: xxh3_64(&value), value }
        });
        let mut records: Vec<LogRecord> = records.collect();
        // The log's time never falls within a partition.
        for place in 1..records.len() {
            let before = records[place - 1].appended_at_nanos;
            records[place].appended_at_nanos = records[place].appended_at_nanos.max(before);
        }
        Self { entries, records, damage }
    }

    /// How many pulses it holds.
    #[must_use]
    pub fn pulses(&self) -> u64 {
        let count = |entry: &Entry| if let Entry::Pulses(specs) = entry { specs.len() as u64 } else { 0 };
        self.entries.iter().map(count).sum()
    }
}

impl<'a> Author<'a> {
    fn new(dice: &'a mut Dice, horizon: i64) -> Self {
        let mut tenants = Vec::new();
        let mut stranger = String::new();
        let count = 1 + dice.below(3);
        for number in 0.. {
            let name = format!("t{number}");
            if partition_of(name.as_bytes(), PARTITIONS) == PARTITION {
                tenants.push(name);
            } else {
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

fn encode(entry: &Entry) -> Bytes {
    use v1::control::Fact;
    let fact = match entry {
        Entry::Start { horizon } => Fact::GenerationStart(v1::GenerationStart {
            generation: 1,
            partitions: PARTITIONS,
            log_id: Bytes::copy_from_slice(&LOG_ID),
            id_horizon_seconds: *horizon,
            fold_version: 1,
        }),
        Entry::Horizon(seconds) => Fact::IdHorizon(v1::IdHorizon { seconds: *seconds }),
        Entry::FoldVersion => Fact::FoldVersion(v1::FoldVersion { version: 1 }),
        Entry::Garbage => return Bytes::from_static(b"\x08\x01\x22\x7fnot a record"),
        Entry::Pulses(specs) => return encode_pulses(specs),
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
