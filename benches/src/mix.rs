//! Pulses from a seed: the same mix and seed always give the same pulses, and what they add up to is known beside.

use pulso_domain::quantity::Quantity;
use pulso_proto::v1;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use uuid::Builder;

/// Series of one tenant: SKU x region, each in the one hour of the mix.
const SERIES_PER_TENANT: u64 = 100;
const REGIONS: [&str; 4] = ["br-ne1", "br-se1", "br-mgl1", "us-east1"];
/// The pulses of a mix lie within this time behind its base: less than an hour, so that a series is one key.
const SPAN_MILLIS: u64 = 50 * 60 * 1000;
/// Coprime to the series of a tenant, so that steps of it meet every series once.
const SERIES_STEP: u64 = 37;
const TAGS: [(&str, &str); 5] = [
    ("environment", "production"),
    ("team", "platform-services"),
    ("cost-centre", "4711-0815"),
    ("cluster", "k8s-br-se1-a"),
    ("project", "checkout-and-payments"),
];

/// How the ids of a mix are made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
pub enum Ids {
    /// Ordered by time.
    V7,
    /// Random.
    V4,
}

/// What pulses are like.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::Args, serde::Serialize, serde::Deserialize)]
pub struct Mix {
    /// How ids are made.
    #[arg(long, value_enum, default_value_t = Ids::V7)]
    pub ids: Ids,
    /// Tags of each pulse, at most 5.
    #[arg(long, default_value_t = 0)]
    pub tags: usize,
    /// Pulses of each key (tenant, SKU, unit, region and hour).
    #[arg(long, default_value_t = 100)]
    pub pulses_per_key: u64,
    /// How many pulses of one tenant stand in a row.
    #[arg(long, default_value_t = 1000)]
    pub tenant_run: u64,
}

impl Mix {
    /// The mix that counts.
    pub const COUNTED: Self = Self { ids: Ids::V7, tags: 0, pulses_per_key: 100, tenant_run: 1000 };

    /// The mix that counts and those that are printed beside, with their names.
    pub const ALL: [(&str, Self); 5] = [
        ("UUIDv7, no tags, 100 pulses a key", Self::COUNTED),
        ("UUIDv4 ids", Self { ids: Ids::V4, ..Self::COUNTED }),
        ("5 tags", Self { tags: 5, ..Self::COUNTED }),
        ("1 pulse a key", Self { pulses_per_key: 1, ..Self::COUNTED }),
        ("tenants mixed within a batch", Self { tenant_run: 1, ..Self::COUNTED }),
    ];

    /// The flags that make this mix, for a process of its own.
    #[must_use]
    pub fn flags(&self) -> Vec<String> {
        let ids = if self.ids == Ids::V7 { "v7" } else { "v4" };
        let numbers = [
            ("--tags", self.tags as u64),
            ("--pulses-per-key", self.pulses_per_key),
            ("--tenant-run", self.tenant_run),
        ];
        let mut flags = vec!["--ids".to_owned(), ids.to_owned()];
        flags.extend(numbers.iter().flat_map(|(name, number)| [(*name).to_owned(), number.to_string()]));
        flags
    }
}

/// What pulses add up to.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, serde::Serialize, serde::Deserialize)]
pub struct Totals {
    /// How many.
    pub pulses: u64,
    /// The sum of their amounts, in steps of a [`Quantity`].
    pub steps: i128,
}

impl Totals {
    /// Takes in one amount.
    pub fn add(&mut self, amount: Quantity) {
        self.pulses += 1;
        self.steps += amount.steps();
    }

    /// Takes in other totals.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self { pulses: self.pulses + other.pulses, steps: self.steps + other.steps }
    }
}

/// Makes the pulses of one mix, in order.
pub struct Pulses {
    mix: Mix,
    total: u64,
    next: u64,
    base_seconds: i64,
    random: ChaCha8Rng,
    totals: Totals,
}

impl Pulses {
    /// `total` pulses that occurred in the 50 minutes from `base_seconds` on, which is the start of an hour.
    #[must_use]
    pub fn new(mix: Mix, total: u64, base_seconds: i64, seed: u64) -> Self {
        let random = ChaCha8Rng::seed_from_u64(seed);
        Self { mix, total, next: 0, base_seconds, random, totals: Totals::default() }
    }

    /// What was made so far adds up to.
    #[must_use]
    pub const fn totals(&self) -> Totals {
        self.totals
    }

    /// The next batch, shorter or empty at the end.
    pub fn batch(&mut self, pulses: usize) -> Vec<v1::Pulse> {
        self.by_ref().take(pulses).collect()
    }

    /// Tenant and series of a pulse: each tenant's pulses are spread over all its series, tenants take turns.
    fn key(&self, number: u64) -> (u64, u64) {
        let per_tenant = SERIES_PER_TENANT * self.mix.pulses_per_key;
        let tenants = (self.total / per_tenant).max(1);
        let run = self.mix.tenant_run.clamp(1, per_tenant);
        let (turn, place) = (number / run, number % run);
        let (tenant, round) = (turn % tenants, turn / tenants);
        let nth = if run == 1 { round } else { place + round * (run % SERIES_PER_TENANT) };
        (tenant, nth * SERIES_STEP % SERIES_PER_TENANT)
    }

    fn id(&mut self, millis: u64) -> String {
        let mut bytes = [0; 16];
        self.random.fill_bytes(&mut bytes);
        let id = match self.mix.ids {
            Ids::V4 => Builder::from_random_bytes(bytes).into_uuid(),
            Ids::V7 => {
                let mut random = [0; 10];
                random.copy_from_slice(&bytes[..10]);
                Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
            }
        };
        id.to_string()
    }
}

impl Iterator for Pulses {
    type Item = v1::Pulse;

    fn next(&mut self) -> Option<v1::Pulse> {
        if self.next == self.total {
            return None;
        }
        let (tenant, series) = self.key(self.next);
        let millis = u64::try_from(self.base_seconds).ok()? * 1000 + self.next * SPAN_MILLIS / self.total;
        self.next += 1;
        let thousandths: u32 = self.random.random_range(1..1_000_000);
        let amount = format!("{}.{:03}", thousandths / 1000, thousandths % 1000);
        self.totals.add(Quantity::parse(amount.as_bytes()).expect("made to be good"));
        let tags = TAGS[..self.mix.tags.min(TAGS.len())].iter();
        Some(v1::Pulse {
            id: self.id(millis),
            tenant_id: format!("tenant-{tenant:06}"),
            product_sku: format!("compute-vm-{:02}", series / 4),
            used_amount: amount,
            use_unit: "GiB-Hours".to_owned(),
            occurred_at: Some(prost_types::Timestamp {
                seconds: (millis / 1000).cast_signed(),
                nanos: i32::try_from(millis % 1000 * 1_000_000).expect("below a second"),
            }),
            region: REGIONS[(series % 4) as usize].to_owned(),
            resource_id: String::new(),
            tags: tags.map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn each_key_has_as_many_pulses_as_the_mix_says() {
        for (name, mix) in Mix::ALL {
            let total = 4 * SERIES_PER_TENANT * mix.pulses_per_key;
            let mut keys: HashMap<(String, String, String), u64> = HashMap::new();
            for pulse in Pulses::new(mix, total, 1_700_000_000, 1) {
                *keys.entry((pulse.tenant_id, pulse.product_sku, pulse.region)).or_default() += 1;
            }
            assert_eq!(keys.len() as u64, 4 * SERIES_PER_TENANT, "{name}");
            assert!(keys.values().all(|pulses| *pulses == mix.pulses_per_key), "{name}");
        }
    }

    #[test]
    fn a_seed_gives_the_same_pulses_again_and_their_sum() {
        let pulses = |seed| Pulses::new(Mix::COUNTED, 500, 1_700_000_000, seed).collect::<Vec<_>>();
        assert_eq!(pulses(1), pulses(1));
        assert_ne!(pulses(1), pulses(2));
        let mut made = Pulses::new(Mix::COUNTED, 500, 1_700_000_000, 1);
        let mut totals = Totals::default();
        for pulse in made.batch(1000) {
            totals.add(Quantity::parse(pulse.used_amount.as_bytes()).expect("good"));
        }
        assert_eq!((totals, totals.pulses), (made.totals(), 500));
    }
}
