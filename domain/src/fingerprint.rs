//! What the dedup index knows of a pulse: a keyed hash of its identity and a hash of its payload.

use std::hash::Hasher;

use siphasher::sip128::{Hasher128, SipHasher13};
use xxhash_rust::xxh3::Xxh3;

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
pub struct HashKey([u8; 16]);

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

    /// The hash of an identity.
    #[must_use]
    #[inline]
    pub fn id_hash<T: AsRef<[u8]> + ?Sized, I: AsRef<[u8]> + ?Sized>(&self, tenant_id: &T, id: &I) -> IdHash {
        // One contiguous write is about twice as fast as three: tenant and id together are at most 194 bytes.
        let mut buffer = [0_u8; 2 + 64 + 128];
        let (tenant, id) = (tenant_id.as_ref(), id.as_ref());
        let end = 2 + tenant.len() + id.len();
        if end > buffer.len() {
            return self.id_hash_long(tenant, id);
        }
        buffer[0] = tenant.len() as u8;
        buffer[1] = id.len() as u8;
        buffer[2..2 + tenant.len()].copy_from_slice(tenant);
        buffer[2 + tenant.len()..end].copy_from_slice(id);
        let mut hasher = SipHasher13::new_with_key(&self.0);
        hasher.write(&buffer[..end]);
        IdHash(hasher.finish128().as_u128())
    }

    #[cold]
    fn id_hash_long(&self, tenant: &[u8], id: &[u8]) -> IdHash {
        // Not reached by checked pulses; kept total, so that a look-up of any text is safe.
        let mut hasher = SipHasher13::new_with_key(&self.0);
        hasher.write_u64(tenant.len() as u64);
        hasher.write(tenant);
        hasher.write(id);
        IdHash(hasher.finish128().as_u128())
    }

    /// The hash of a payload. `occurred_at` alone is left out, so that a re-stamped retry is a duplicate.
    #[must_use]
    #[inline]
    pub fn payload_hash(&self, pulse: &Pulse<'_>) -> PayloadHash {
        let texts = [pulse.product_sku, pulse.use_unit, pulse.region, pulse.resource_id].map(str::as_bytes);
        if pulse.tags.is_empty() {
            return self.untagged_payload_hash(pulse.used_amount, texts);
        }
        let tags = pulse.tags.iter().flat_map(|(key, value)| [key.as_bytes(), value.as_bytes()]);
        self.long_payload_hash(pulse.used_amount, texts.into_iter().chain(tags))
    }

    /// The hash of a payload without tags: its amount, product_sku, use_unit, region and resource_id.
    #[must_use]
    #[inline]
    pub fn untagged_payload_hash(&self, used_amount: Quantity, texts: [&[u8]; 4]) -> PayloadHash {
        let mut buffer = [0_u8; 256];
        let mut end = 16;
        buffer[..16].copy_from_slice(&used_amount.steps().to_le_bytes());
        let length: usize = texts.iter().map(|text| text.len() + 2).sum();
        if end + length > buffer.len() {
            return self.long_payload_hash(used_amount, texts.into_iter());
        }
        for text in texts {
            buffer[end..end + 2].copy_from_slice(&(text.len() as u16).to_le_bytes());
            buffer[end + 2..end + 2 + text.len()].copy_from_slice(text);
            end += 2 + text.len();
        }
        PayloadHash(xxhash_rust::xxh3::xxh3_64_with_seed(&buffer[..end], self.seed()))
    }

    fn long_payload_hash<'a>(
        &self,
        used_amount: Quantity,
        texts: impl Iterator<Item = &'a [u8]>,
    ) -> PayloadHash {
        let mut hasher = Xxh3::with_seed(self.seed());
        hasher.update(&used_amount.steps().to_le_bytes());
        for text in texts {
            hasher.update(&(text.len() as u16).to_le_bytes());
            hasher.update(text);
        }
        PayloadHash(hasher.digest())
    }

    const fn seed(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }
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
        ] {
            assert_ne!(KEY.payload_hash(&other), first, "{other:?}");
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
