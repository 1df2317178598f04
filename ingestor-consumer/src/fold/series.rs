//! The series that usage rows share over their windows: (tenant, SKU, unit, region), each text kept once and found by
//! one hash and one comparison.
//!
//! Only what passed every check of the fold becomes a series: whoever finds a pulse's texts here knows them to be good.

use hashbrown::HashTable;
use pulso_domain::fingerprint::HashKey;
use pulso_domain::text::is_same;

use super::chunks::Chunks;
use super::rows::SlotId;

/// Number of a series; good until the next eviction.
pub type SeriesId = u32;

/// Tenant, SKU, unit and region as bytes of which nothing is known.
pub type SeriesTexts<'a> = [&'a [u8]; 4];

/// Bytes of texts that lie together: many series, and less than the 2^16 that a place can name.
const PAGE_BYTES: usize = 1 << 16;

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
    page: u32,
    from: u16,
    /// How long each but the last one is; their bounds are below 256 bytes.
    lengths: [u8; 4],
    /// The hour that was touched last, and its slot: pulses come in the order of time, mostly. Only once the hour, its
    /// day and its month are known, so that the short-cut never passes by a row that is still to be loaded.
    latest: Option<(i32, SlotId)>,
}

/// All series of a partition's fold.
#[derive(Debug)]
pub(super) struct SeriesTable {
    series: Chunks<Series>,
    index: HashTable<SeriesId>,
    pages: Vec<String>,
    /// Payload hashes begin with the hash of the series, so it is made once for both.
    hash_key: HashKey,
}

impl SeriesTable {
    pub(super) fn new(hash_key: HashKey) -> Self {
        Self { series: Chunks::new(), index: HashTable::new(), pages: Vec::new(), hash_key }
    }

    pub(super) const fn hash_key(&self) -> HashKey {
        self.hash_key
    }

    /// The series with these texts, if there is one, and their hash.
    #[inline]
    pub(super) fn find(&self, texts: SeriesTexts<'_>) -> (Option<SeriesId>, u64) {
        let same = |id: &SeriesId| has(&self.pages, &self.series[*id], texts);
        let hash = self.hash_key.series_hash(texts);
        (self.index.find(hash, same).copied(), hash)
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
        self.series.push(Series { page: page as u32, from, lengths, latest: None });
        let (series, pages, hash_key) = (&self.series, &self.pages, self.hash_key);
        let hash_of = |id: &SeriesId| hash_key.series_hash(key_of(pages, &series[*id]).texts());
        self.index.insert_unique(hash, id, hash_of);
        id
    }

    /// The key of a series.
    pub(super) fn key(&self, id: SeriesId) -> SeriesKey<'_> {
        key_of(&self.pages, &self.series[id])
    }

    /// The slot of the hour, when it was the one touched last.
    #[inline]
    pub(super) fn latest(&self, id: SeriesId, hour: i32) -> Option<SlotId> {
        self.series[id].latest.filter(|(latest, _)| *latest == hour).map(|(_, slot)| slot)
    }

    /// Remembers the slot of the hour that was touched last.
    pub(super) fn set_latest(&mut self, id: SeriesId, hour: i32, slot: SlotId) {
        self.series[id].latest = Some((hour, slot));
    }

    /// Bytes of RAM.
    pub(super) fn bytes(&self) -> usize {
        self.series.bytes() + self.pages.len() * PAGE_BYTES + self.index.capacity() * 5
    }
}

fn key_of<'a>(pages: &'a [String], series: &Series) -> SeriesKey<'a> {
    let texts = &pages[series.page as usize][usize::from(series.from)..];
    let [tenant, sku, unit, region] = series.lengths.map(usize::from);
    let (tenant_id, texts) = texts.split_at(tenant);
    let (product_sku, texts) = texts.split_at(sku);
    let (use_unit, texts) = texts.split_at(unit);
    SeriesKey { tenant_id, product_sku, use_unit, region: &texts[..region] }
}

#[inline]
fn has(pages: &[String], series: &Series, texts: SeriesTexts<'_>) -> bool {
    let mut rest = &pages[series.page as usize].as_bytes()[usize::from(series.from)..];
    for text in texts {
        let Some((own, behind)) = rest.split_at_checked(text.len()) else { return false };
        if !is_same(own, text) {
            return false;
        }
        rest = behind;
    }
    // The same letters may be other texts.
    let [tenant, sku, unit, region] = texts.map(|text| text.len() as u32);
    u32::from_le_bytes(series.lengths) == tenant | sku << 8 | unit << 16 | region << 24
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
}
