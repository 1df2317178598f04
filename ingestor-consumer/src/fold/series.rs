//! The series that usage rows share over their windows: (tenant, SKU, unit, region), each text kept once and found by
//! one hash and one comparison.
//!
//! Only what passed every check of the fold becomes a series: whoever finds a pulse's texts here knows them to be good.

use hashbrown::HashTable;
use pulso_domain::fingerprint::{HashKey, IdHash};
use pulso_domain::hasher::TenantHasher;
use pulso_domain::text::is_same;
use pulso_domain::time::Instant;

use super::chunks::Chunks;
use super::rows::SlotId;

/// Number of a series; good until the next eviction.
pub type SeriesId = u32;

/// Tenant, SKU, unit and region as bytes of which nothing is known.
pub type SeriesTexts<'a> = [&'a [u8]; 4];

/// Bytes of texts that lie together: many series, and less than the 2^16 that a place can name.
const PAGE_BYTES: usize = 1 << 16;

/// How many series of late are remembered: those of one tenant, mostly.
const RECENT: usize = 1024;

/// The identity that rows share over their windows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SeriesKey<'a> {
    /// Whose use.
    pub tenant_id: &'a str,
    /// Of what.
    pub product_sku: &'a str,
    /// In which unit.
    pub use_unit: &'a str,
    /// Where.
    pub region: &'a str,
}

impl<'a> SeriesKey<'a> {
    fn texts(self) -> SeriesTexts<'a> {
        [self.tenant_id, self.product_sku, self.use_unit, self.region].map(str::as_bytes)
    }
}

/// One interned series.
#[derive(Debug)]
struct Series {
    /// Where its texts lie, one after the other.
    page: u16,
    from: u16,
    /// The first series of its tenant: the same for all of them.
    tenant: SeriesId,
    /// How long each but the last one is; their bounds are below 256 bytes.
    lengths: [u8; 4],
    /// The hour that was touched last, and its slot: pulses come in the order of time, mostly. Only while the hour, its
    /// day and its month are known or asked for, so that the short-cut never passes by a row that is still to be loaded.
    latest: Option<(i32, SlotId)>,
}

/// All series of a partition's fold.
#[derive(Debug)]
pub(super) struct SeriesTable {
    series: Chunks<Series>,
    index: HashTable<SeriesId>,
    /// The first series of each tenant.
    tenants: HashTable<SeriesId>,
    pages: Vec<String>,
    /// Payload hashes begin with the hash of the series, and ids are hashed with their tenant, so all of it is made once.
    hasher: TenantHasher,
    /// The first series of the tenant that the hasher has selected, once one of its series was found.
    selected: Option<SeriesId>,
    /// Series that were found of late, with their hashes, by a few bytes of their texts. Only short-cuts.
    recent: Box<[(SeriesId, u64); RECENT]>,
}

impl SeriesTable {
    pub(super) fn new(hash_key: HashKey) -> Self {
        Self {
            series: Chunks::new(),
            index: HashTable::new(),
            tenants: HashTable::new(),
            pages: Vec::new(),
            hasher: TenantHasher::new(hash_key),
            selected: None,
            recent: Box::new([(SeriesId::MAX, 0); RECENT]),
        }
    }

    pub(super) const fn hash_key(&self) -> HashKey {
        self.hasher.key()
    }

    /// The series with these texts, if there is one, and their hash.
    #[inline(always)]
    pub(super) fn find(&mut self, texts: SeriesTexts<'_>) -> (Option<SeriesId>, u64) {
        let place = recent_place(texts);
        if self.hasher.select(texts[0]) && self.selected.is_some() {
            let (id, hash) = self.recent[place];
            if self.series.get(id).is_some_and(|series| self.is(series, texts)) {
                return (Some(id), hash);
            }
        } else {
            self.selected = None;
        }
        self.find_in_all(texts, place)
    }

    /// Whether a series is the one with these texts, of the selected tenant.
    #[inline(always)]
    fn is(&self, series: &Series, texts: SeriesTexts<'_>) -> bool {
        self.selected == Some(series.tenant) && has(&self.pages, series, texts)
    }

    fn find_in_all(&mut self, texts: SeriesTexts<'_>, place: usize) -> (Option<SeriesId>, u64) {
        let [tenant_id, rest @ ..] = texts;
        let hash = self.hasher.series_hash(rest);
        let found = self.index.find(hash, |id| {
            let series = &self.series[*id];
            match self.selected {
                Some(_) => self.is(series, texts),
                None => {
                    let own = key_of(&self.pages, series).tenant_id;
                    own.as_bytes() == tenant_id && has(&self.pages, series, texts)
                }
            }
        });
        let found = found.copied();
        if let Some(id) = found {
            self.selected = Some(self.series[id].tenant);
            self.recent[place] = (id, hash);
        }
        (found, hash)
    }

    /// The hash of an id of the tenant whose series was looked for last; `None` when no checked pulse has it.
    #[inline(always)]
    pub(super) fn id_hash(&mut self, id: &[u8]) -> Option<IdHash> {
        self.hasher.id_hash(id)
    }

    /// The series with this key, made when it is not there.
    pub(super) fn intern(&mut self, key: SeriesKey<'_>) -> SeriesId {
        let texts = key.texts();
        let (found, hash) = self.find(texts);
        if let Some(id) = found {
            return id;
        }
        let id = self.series.len() as SeriesId;
        let whole = [key.tenant_id, key.product_sku, key.use_unit, key.region].concat();
        if self.pages.last().is_none_or(|page| page.len() + whole.len() > PAGE_BYTES - 1) {
            self.pages.push(String::with_capacity(PAGE_BYTES));
        }
        let page = self.pages.len() - 1;
        let from = self.pages[page].len() as u16;
        self.pages[page].push_str(&whole);
        let lengths = texts.map(|text| text.len() as u8);
        let tenant = self.first_of(key.tenant_id, id);
        let page = u16::try_from(page).expect("2^32 bytes of texts are far above the ceiling of memory");
        self.series.push(Series { page, from, tenant, lengths, latest: None });
        let (series, pages, hash_key) = (&self.series, &self.pages, self.hasher.key());
        let hash_of = |id: &SeriesId| hash_key.series_hash(key_of(pages, &series[*id]).texts());
        self.index.insert_unique(hash, id, hash_of);
        id
    }

    /// The first series of a tenant: this one, if it has none yet.
    fn first_of(&mut self, tenant_id: &str, id: SeriesId) -> SeriesId {
        let (series, pages, hash_key) = (&self.series, &self.pages, self.hasher.key());
        let hash_of = |text: &str| hash_key.series_hash([text.as_bytes(), b"", b"", b""]);
        let tenant_of = |id: &SeriesId| key_of(pages, &series[*id]).tenant_id;
        let same = |id: &SeriesId| tenant_of(id) == tenant_id;
        if let Some(first) = self.tenants.find(hash_of(tenant_id), same) {
            return *first;
        }
        let rehash = |other: &SeriesId| hash_of(if *other == id { tenant_id } else { tenant_of(other) });
        *self.tenants.insert_unique(hash_of(tenant_id), id, rehash).get()
    }

    /// The key of a series.
    pub(super) fn key(&self, id: SeriesId) -> SeriesKey<'_> {
        key_of(&self.pages, &self.series[id])
    }

    /// The slot of the hour that the instant lies in, when it was the one touched last.
    #[inline(always)]
    pub(super) fn latest(&self, id: SeriesId, at: Instant) -> Option<SlotId> {
        let (hour, slot) = self.series[id].latest?;
        let into_hour = at.seconds().wrapping_sub(i64::from(hour) * 3600);
        (0..3600).contains(&into_hour).then_some(slot)
    }

    /// The first series of the same tenant.
    pub(super) fn tenant_number(&self, id: SeriesId) -> SeriesId {
        self.series[id].tenant
    }

    /// The slot of the hour that was touched last.
    pub(super) fn latest_slot(&self, id: SeriesId) -> Option<SlotId> {
        self.series[id].latest.map(|(_, slot)| slot)
    }

    /// Forgets the hour that was touched last.
    pub(super) fn forget_latest(&mut self, id: SeriesId) {
        self.series[id].latest = None;
    }

    /// Remembers the slot of the hour that was touched last.
    pub(super) fn set_latest(&mut self, id: SeriesId, hour: i32, slot: SlotId) {
        self.series[id].latest = Some((hour, slot));
    }

    /// Bytes of RAM.
    pub(super) fn bytes(&self) -> usize {
        self.series.bytes()
            + self.pages.len() * PAGE_BYTES
            + (self.index.capacity() + self.tenants.capacity()) * 5
    }
}

fn key_of<'a>(pages: &'a [String], series: &Series) -> SeriesKey<'a> {
    let texts = &pages[usize::from(series.page)][usize::from(series.from)..];
    let [tenant, sku, unit, region] = series.lengths.map(usize::from);
    let (tenant_id, texts) = texts.split_at(tenant);
    let (product_sku, texts) = texts.split_at(sku);
    let (use_unit, texts) = texts.split_at(unit);
    SeriesKey { tenant_id, product_sku, use_unit, region: &texts[..region] }
}

/// Where a series of late would stand: the last bytes of SKU and region differ most.
#[inline(always)]
fn recent_place([_, product_sku, _, region]: SeriesTexts<'_>) -> usize {
    let last = |text: &[u8]| text.last_chunk().map_or(0, |four| u64::from(u32::from_le_bytes(*four)));
    let both = last(product_sku) | last(region) << 32;
    // The middle bits of both halves depend on all of the texts' bits, also when only a digit differs.
    let mixed = u128::from(both ^ 0x243f_6a88_85a3_08d3) * 0x9e37_79b9_7f4a_7c15;
    ((mixed ^ mixed >> 64) as u64 >> 20) as usize & (RECENT - 1)
}

/// Whether a series of the same tenant has the other three texts too.
#[inline(always)]
fn has(
    pages: &[String],
    series: &Series,
    [tenant_id, product_sku, use_unit, region]: SeriesTexts<'_>,
) -> bool {
    // The same letters may be other texts.
    let [sku, unit, place] = [product_sku, use_unit, region].map(|text| text.len() as u32);
    if u32::from_le_bytes(series.lengths) != tenant_id.len() as u32 | sku << 8 | unit << 16 | place << 24 {
        return false;
    }
    let from = usize::from(series.from) + tenant_id.len();
    let Some(own) = pages[usize::from(series.page)].as_bytes().get(from..) else { return false };
    let Some((own_sku, own)) = own.split_at_checked(product_sku.len()) else { return false };
    let Some((own_unit, own)) = own.split_at_checked(use_unit.len()) else { return false };
    let Some(own_region) = own.get(..region.len()) else { return false };
    is_same(own_sku, product_sku) && is_same(own_unit, use_unit) && is_same(own_region, region)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_found_by_its_texts_alone_over_many_pages() {
        let mut table = SeriesTable::new(HashKey::new([1; 16]));
        let long = "r".repeat(64);
        let key = |tenant| SeriesKey { tenant_id: tenant, product_sku: "vm", use_unit: "h", region: &long };
        let tenants: Vec<String> = (0..3000).map(|number| format!("tenant-{number}")).collect();
        for (number, tenant) in (0..).zip(&tenants) {
            assert_eq!(table.intern(key(tenant)), number);
        }
        for (number, tenant) in (0..).zip(&tenants) {
            assert_eq!(table.intern(key(tenant)), number);
            assert_eq!(table.key(number), key(tenant));
            assert_eq!(table.find(key(tenant).texts()).0, Some(number));
        }
        assert!(table.pages.len() > 2);
        assert_eq!(table.find([b"tenant-1v", b"m", b"h", long.as_bytes()]).0, None);
        assert_eq!(table.find([b"tenant-1", b"vm", b"h", &long.as_bytes()[1..]]).0, None);
        assert_eq!(table.find([b"tenant-1", b"vm", b"h", long.replace('r', "s").as_bytes()]).0, None);
    }

    #[test]
    fn series_that_differ_in_one_place_only_are_told_apart_in_any_order() {
        let mut table = SeriesTable::new(HashKey::new([1; 16]));
        let texts = ["", "a", "ab", "abc", "compute-vm-01", "compute-vm-02", "a-text-of-more-than-sixteen"];
        let nth = |number: usize| {
            let [tenant_id, product_sku, use_unit, region] =
                [1, 7, 49, 343].map(|step| texts[number / step % texts.len()]);
            SeriesKey { tenant_id, product_sku, use_unit, region }
        };
        let mut known = std::collections::HashMap::new();
        for step in [1, 5, 1009, 343, 7, 49] {
            for number in (0..2401).map(|place| place * step % 2401) {
                let (found, hash) = table.find(nth(number).texts());
                assert_eq!(found, known.get(&number).copied(), "{:?}", nth(number));
                assert_eq!(hash, table.hash_key().series_hash(nth(number).texts()));
                known.entry(number).or_insert_with(|| table.intern(nth(number)));
            }
        }
        assert_eq!(known.len(), 2401);
    }
}
