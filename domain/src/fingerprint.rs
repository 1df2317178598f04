//! What the dedup index knows of a pulse: a keyed hash of its identity and a hash of its payload.

use std::hash::Hasher;

use siphasher::sip128::{Hasher128, SipHasher13};

use crate::hasher::TenantHasher;
use crate::pulse::Pulse;
use crate::quantity::Quantity;

/// Names (tenant, id) without storing either: keyed SipHash-1-3 with 128 bits over length-prefixed fields.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct IdHash(pub u128);

/// Tells a retry from a conflict: equal for equal product_sku, amount (by value), unit, region, resource and tags.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct PayloadHash(pub u64);

/// The secret of a store, made once with it, so that nobody outside can craft ids that collide.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HashKey(pub(crate) [u8; 16]);

impl HashKey {
    /// From its 16 stored bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its 16 stored bytes.
    #[must_use]
    pub const fn bytes(&self) -> [u8; 16] {
        self.0
    }

    /// The hash of an identity. For many of one tenant, [`TenantHasher`] is faster.
    #[must_use]
    pub fn id_hash<T: AsRef<[u8]> + ?Sized, I: AsRef<[u8]> + ?Sized>(&self, tenant_id: &T, id: &I) -> IdHash {
        let (tenant_id, id) = (tenant_id.as_ref(), id.as_ref());
        let mut hasher = TenantHasher::new(*self);
        hasher.select(tenant_id);
        hasher.id_hash(id).unwrap_or_else(|| self.long_id_hash(tenant_id, id))
    }

    /// The hash of a tenant, with which the hashes of its series begin.
    #[must_use]
    #[inline]
    pub(crate) fn tenant_hash(&self, tenant_id: &[u8]) -> u64 {
        text_hash(self.seed(), tenant_id)
    }

    /// The hash of what a pulse shares with all of its series: tenant, product_sku, use_unit and region. Stable: payload
    /// hashes are stored, and they begin with it.
    #[must_use]
    #[inline]
    pub fn series_hash(&self, texts: [&[u8]; 4]) -> u64 {
        let [tenant_id, rest @ ..] = texts;
        series_hash_of(self.tenant_hash(tenant_id), rest)
    }

    /// The hash of a payload. `occurred_at` alone is left out, so that a re-stamped retry is a duplicate.
    #[must_use]
    pub fn payload_hash(&self, pulse: &Pulse<'_>) -> PayloadHash {
        let series = [pulse.tenant_id, pulse.product_sku, pulse.use_unit, pulse.region].map(str::as_bytes);
        let amount =
            untagged_payload_hash(self.series_hash(series), pulse.used_amount, pulse.resource_id.as_bytes());
        tagged_payload_hash(amount, pulse.tags.iter().map(|(key, value)| (key.as_bytes(), value.as_bytes())))
    }

    /// Not reached by checked pulses; kept total, so that a look-up of any text is safe.
    #[cold]
    fn long_id_hash(&self, tenant_id: &[u8], id: &[u8]) -> IdHash {
        let mut hasher = SipHasher13::new_with_key(&self.0);
        hasher.write_u64(tenant_id.len() as u64);
        hasher.write(tenant_id);
        hasher.write(id);
        IdHash(hasher.finish128().as_u128())
    }

    const fn seed(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }
}

/// The [hash of a series](HashKey::series_hash) from its tenant's and its `product_sku`, `use_unit` and region.
#[must_use]
#[inline]
pub(crate) fn series_hash_of(tenant: u64, texts: [&[u8]; 3]) -> u64 {
    // Each text is hashed with all before it as the seed, so that none can lend bytes to its neighbour.
    let hash = texts.into_iter().fold(tenant, text_hash);
    mix(hash ^ MULTIPLIERS[2], MULTIPLIERS[1])
}

/// The payload hash of a pulse without tags, from the [hash of its series](HashKey::series_hash), which holds
/// product_sku, unit and region already.
#[must_use]
#[inline(always)]
pub fn untagged_payload_hash(series: u64, used_amount: Quantity, resource_id: &[u8]) -> PayloadHash {
    let steps = used_amount.steps();
    let amount = mix(series ^ steps as u64, MULTIPLIERS[2] ^ (steps >> 64) as u64);
    PayloadHash(if resource_id.is_empty() { amount } else { text_hash(amount, resource_id) })
}

/// The payload hash of a pulse with tags, in the order of their keys, each key once, from [the one without](untagged_payload_hash).
#[must_use]
pub fn tagged_payload_hash<'a>(
    untagged: PayloadHash,
    tags: impl Iterator<Item = (&'a [u8], &'a [u8])>,
) -> PayloadHash {
    PayloadHash(tags.fold(untagged.0, |hash, (key, value)| text_hash(text_hash(hash, key), value)))
}

/// The hash of a text under a secret seed: sixteen bytes at a time are multiplied into 128 bits, and both halves folded
/// into one, as the `wyhash` family does (<https://github.com/wangyi-fudan/wyhash>). Pulses have many short texts, and a
/// general hash spends most of its time on finding out that they are short. Stored: it must never change.
#[inline(always)]
fn text_hash(seed: u64, text: &[u8]) -> u64 {
    let begin = seed ^ text.len() as u64;
    match (text.first_chunk(), text.last_chunk()) {
        (Some(first), Some(last)) if text.len() <= 16 => {
            mix(u64::from_le_bytes(*first) ^ MULTIPLIERS[0], u64::from_le_bytes(*last) ^ begin)
        }
        (Some(_), Some(_)) => long_text_hash(begin, text),
        _ => mix(short_word(text) ^ MULTIPLIERS[0], begin),
    }
}

/// The same for more than sixteen bytes; the last sixteen overlap those before.
fn long_text_hash(begin: u64, text: &[u8]) -> u64 {
    let mut hash = begin;
    let pairs = text[..text.len() - 1].as_chunks::<16>().0;
    for pair in pairs.iter().chain(text.last_chunk()) {
        let pair = u128::from_le_bytes(*pair);
        hash = mix(pair as u64 ^ MULTIPLIERS[0], (pair >> 64) as u64 ^ hash);
    }
    hash
}

/// Fewer than eight bytes as one word.
#[inline(always)]
fn short_word(text: &[u8]) -> u64 {
    match (text.first_chunk::<4>(), text.last_chunk::<4>()) {
        (Some(first), Some(last)) => {
            u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << 32
        }
        _ => text.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    }
}

/// Odd numbers without pattern: the first digits of pi, as in Blowfish.
const MULTIPLIERS: [u64; 3] = [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7345, 0xa409_3822_299f_31d1];

#[inline(always)]
const fn mix(left: u64, right: u64) -> u64 {
    let product = left as u128 * right as u128;
    product as u64 ^ (product >> 64) as u64
}

impl std::fmt::Debug for HashKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("HashKey(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Instant;

    const KEY: HashKey = HashKey::new([7; 16]);

    fn pulse<'a>() -> Pulse<'a> {
        Pulse {
            id: "p-1",
            tenant_id: "acme",
            product_sku: "vm",
            used_amount: Quantity::parse(b"1.5").expect("good"),
            use_unit: "Hours",
            occurred_at: Instant::EPOCH,
            region: "",
            resource_id: "",
            tags: Vec::new(),
        }
    }

    #[test]
    fn the_identity_keeps_tenant_and_id_apart_and_depends_on_the_key() {
        assert_ne!(KEY.id_hash("ab", "c"), KEY.id_hash("a", "bc"));
        assert_ne!(KEY.id_hash("a", "b"), HashKey::new([8; 16]).id_hash("a", "b"));
        assert_eq!(KEY.id_hash("a", "b"), KEY.id_hash("a", "b"));
    }

    #[test]
    fn the_payload_leaves_out_the_time_and_holds_the_amounts_value() {
        let first = KEY.payload_hash(&pulse());
        let later = Pulse { occurred_at: Instant::new(9, 9).expect("good"), ..pulse() };
        assert_eq!(KEY.payload_hash(&later), first);
        let same = Pulse { used_amount: Quantity::parse(b"1.50").expect("good"), ..pulse() };
        assert_eq!(KEY.payload_hash(&same), first);
        for other in [
            Pulse { used_amount: Quantity::parse(b"1.6").expect("good"), ..pulse() },
            Pulse { product_sku: "vmH", use_unit: "ours", ..pulse() },
            Pulse { region: "x", ..pulse() },
            Pulse { resource_id: "x", ..pulse() },
            Pulse { tags: vec![("a", "b")], ..pulse() },
            Pulse { tags: vec![("x", "")], ..pulse() },
        ] {
            assert_ne!(KEY.payload_hash(&other), first, "{other:?}");
        }
    }

    #[test]
    fn texts_of_any_length_are_told_apart_and_spread_evenly() {
        let text = "abcdefgh".repeat(6);
        let mut seen = std::collections::HashSet::new();
        for length in 0..text.len() {
            assert!(seen.insert(text_hash(9, &text.as_bytes()[..length])), "{length}");
            for place in 0..length {
                let mut other = text.as_bytes()[..length].to_vec();
                other[place] ^= 1;
                assert!(seen.insert(text_hash(9, &other)), "{place} of {length}");
            }
        }
        // A table takes the first or the last bits: 65,536 texts make about 41,427 different values of 16 bits by chance.
        for shift in [0, 16, 32, 48] {
            let text = |number: u32| format!("tenant-{number:06}");
            let hash = |number| (KEY.series_hash([text(number).as_bytes(), b"", b"", b""]) >> shift) as u16;
            let different = (0..65_536).map(hash).collect::<std::collections::HashSet<_>>().len();
            assert!(different > 41_000, "{different} at {shift}");
        }
    }

    #[test]
    fn long_payloads_are_told_apart_too() {
        let long = "r".repeat(512);
        let one = KEY.payload_hash(&Pulse { resource_id: &long, ..pulse() });
        let other = KEY.payload_hash(&Pulse { resource_id: &long[1..], ..pulse() });
        assert_ne!(one, other);
    }
}
