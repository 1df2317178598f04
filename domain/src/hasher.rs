//! Hashes what pulses name, tenant by tenant: the ids and the series of one tenant in a row, its own part only once.

use crate::fingerprint::{HashKey, IdHash, series_hash_of};
use crate::sip::{BUFFER_BYTES, State, Tail};
use crate::text::is_same;

/// Tenant and id of a checked pulse are at most so long.
const TENANT_BYTES_MAX: usize = 64;
const ID_BYTES_MAX: usize = 128;

/// Hashes the ids and series of the tenant that was selected last.
#[derive(Clone, Debug)]
pub struct TenantHasher {
    key: HashKey,
    /// The lengths of tenant and id, one byte each, then both texts, tenant and id together at most 192 bytes. Zeros
    /// follow the text, up to the next word at least.
    buffer: [u8; BUFFER_BYTES],
    /// The id hash's state after the whole words of lengths and tenant.
    begun: State,
    /// What follows them of the tenant.
    tail: Tail,
    /// The tenant's part of the hashes of its series.
    tenant: u64,
    /// Whether the tenant is too long for the buffer: no checked pulse has it.
    too_long: bool,
}

impl TenantHasher {
    /// A hasher with the store's secret. It begins with the empty tenant.
    #[must_use]
    pub fn new(key: HashKey) -> Self {
        let mut hasher = Self {
            key,
            buffer: [0; BUFFER_BYTES],
            begun: State::new(key.0),
            tail: Tail::default(),
            tenant: 0,
            too_long: true,
        };
        hasher.select_other(&[]);
        hasher
    }

    /// The store's secret.
    #[must_use]
    pub const fn key(&self) -> HashKey {
        self.key
    }

    /// Selects a tenant; says whether it is the one that was selected already.
    #[inline(always)]
    pub fn select(&mut self, tenant_id: &[u8]) -> bool {
        let [held, _, texts @ ..] = &self.buffer;
        let is_held = texts.get(..usize::from(*held)).is_some_and(|own| is_same(own, tenant_id));
        if !is_held || self.too_long {
            self.select_other(tenant_id);
            return false;
        }
        true
    }

    #[cold]
    fn select_other(&mut self, tenant_id: &[u8]) {
        self.tenant = self.key.tenant_hash(tenant_id);
        self.too_long = tenant_id.len() > TENANT_BYTES_MAX;
        if !self.too_long {
            self.buffer[0] = tenant_id.len() as u8;
            self.buffer[2..2 + tenant_id.len()].copy_from_slice(tenant_id);
            self.begin();
        }
    }

    /// The state depends on the lengths too, which lead.
    fn begin(&mut self) {
        let length = 2 + usize::from(self.buffer[0]);
        self.begun = State::new(self.key.0).after(&self.buffer.as_chunks::<8>().0[..length / 8]);
        self.tail = Tail::of(&self.buffer, length);
    }

    /// The hash of one of the tenant's ids; `None` when tenant or id are longer than a checked pulse's.
    #[must_use]
    #[inline(always)]
    pub fn id_hash(&mut self, id: &[u8]) -> Option<IdHash> {
        if self.too_long || id.len() > ID_BYTES_MAX {
            return None;
        }
        if usize::from(self.buffer[1]) != id.len() {
            self.buffer[1] = id.len() as u8;
            self.begin();
        }
        let begin = 2 + usize::from(self.buffer[0]);
        let end = begin + id.len();
        // Nearly every id is a UUID.
        if let Ok(uuid) = <&[u8; 36]>::try_from(id) {
            return Some(IdHash(self.begun.finish_uuid(self.tail, uuid, end)));
        }
        self.buffer[begin..end].copy_from_slice(id);
        self.buffer[end..end + 8].fill(0);
        let words = &self.buffer.as_chunks::<8>().0[begin / 8..end / 8 + 1];
        Some(IdHash(self.begun.finish(words, end)))
    }

    /// The [hash of a series](HashKey::series_hash) of the tenant, from its `product_sku`, `use_unit` and region.
    #[must_use]
    #[inline]
    pub fn series_hash(&self, texts: [&[u8]; 3]) -> u64 {
        series_hash_of(self.tenant, texts)
    }
}

#[cfg(test)]
mod tests {
    use std::hash::Hasher;

    use siphasher::sip128::{Hasher128, SipHasher13};

    use super::*;

    const KEY: HashKey = HashKey::new([7; 16]);

    #[test]
    fn identities_in_a_row_hash_as_each_alone() {
        let mut hasher = TenantHasher::new(KEY);
        let (long, longer) = ("i".repeat(128), "t".repeat(64));
        for (tenant, id) in [
            ("", "x"),
            ("acme", "1"),
            ("acme", "22"),
            ("acme", ""),
            ("acme", "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"),
            ("acm", "e1"),
            ("", "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"),
            ("a", "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"),
            ("ac", "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"),
            ("acm", "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"),
            ("acme-", "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"),
            ("acme-b", "3"),
            ("acme-b", "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"),
            ("acme-br", "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"),
            ("acme-bra", "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"),
            (&longer, "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"),
            (&longer, &long),
            (&longer, "1"),
            ("", &long),
            ("acme", "1"),
        ] {
            let mut reference = SipHasher13::new_with_key(&KEY.bytes());
            let text = [&[tenant.len() as u8, id.len() as u8], tenant.as_bytes(), id.as_bytes()].concat();
            reference.write(&text);
            let expected = IdHash(reference.finish128().as_u128());
            hasher.select(tenant.as_bytes());
            assert_eq!(hasher.id_hash(id.as_bytes()), Some(expected), "{tenant} {id}");
            assert!(hasher.select(tenant.as_bytes()));
            assert_eq!(KEY.id_hash(tenant, id), expected);
            let series = [&b"vm"[..], b"h", b"br"];
            let [sku, unit, region] = series;
            assert_eq!(hasher.series_hash(series), KEY.series_hash([tenant.as_bytes(), sku, unit, region]));
        }
    }

    #[test]
    fn what_no_checked_pulse_has_is_hashed_another_way_and_never_taken_for_what_was_held() {
        let (longer, long) = ("t".repeat(65), "i".repeat(129));
        let mut hasher = TenantHasher::new(KEY);
        hasher.select(b"acme");
        assert_eq!(hasher.id_hash(long.as_bytes()), None);
        assert!(!hasher.select(longer.as_bytes()));
        assert_eq!(hasher.id_hash(b"1"), None);
        assert!(!hasher.select(b"acme"), "the long one came between");
        assert_eq!(hasher.id_hash(b"1"), Some(KEY.id_hash("acme", "1")));
        assert_ne!(KEY.id_hash(&longer, "1"), KEY.id_hash(&longer, "2"));
        assert_ne!(KEY.id_hash("acme", &long), KEY.id_hash("acme", &long[1..]));
    }
}
