//! The quick yes: reads and checks a pulse as nearly all clients write it, in one pass. The door and the fold both try
//! it first.
//!
//! It only ever says yes, or that it does not know: short fields, printable ASCII, within every bound. For anything
//! else the full walk and `domain::pulse::check` decide, so a pulse's judgement never depends on which path it took.

use pulso_domain::pulse::{
    PRODUCT_SKU_BYTES_MAX, REGION_BYTES_MAX, TAG_KEY_BYTES_MAX, TAGS_MAX, USE_UNIT_BYTES_MAX,
};
use pulso_domain::quantity::Quantity;
use pulso_domain::time::Instant;

/// A pulse whose text is plain: every field is good but the tenant, which is not checked.
#[derive(Clone, Copy, Debug)]
pub struct PlainPulse<'a> {
    /// `id`.
    pub id: &'a [u8],
    /// `tenant_id`, unchecked: tenants come in runs, so callers remember the last good one.
    pub tenant_id: &'a [u8],
    /// `product_sku`.
    pub product_sku: &'a [u8],
    /// `used_amount`.
    pub used_amount: Quantity,
    /// `use_unit`.
    pub use_unit: &'a [u8],
    /// `occurred_at`.
    pub occurred_at: Instant,
    /// `region`, empty when not given.
    pub region: &'a [u8],
    /// `resource_id`, empty when not given.
    pub resource_id: &'a [u8],
    /// How many `tags` it has.
    pub tags: usize,
}

/// The fields of a pulse where they lie. Only their shape is known: each is shorter than 128 bytes, the time is one, and
/// the tags are plain.
#[derive(Clone, Copy, Debug)]
pub struct PlainFields<'a> {
    /// `id`.
    pub id: &'a [u8],
    /// `tenant_id`.
    pub tenant_id: &'a [u8],
    /// `product_sku`.
    pub product_sku: &'a [u8],
    /// `used_amount`.
    pub used_amount: &'a [u8],
    /// `use_unit`.
    pub use_unit: &'a [u8],
    /// `occurred_at`.
    pub occurred_at: Instant,
    /// `region`, empty when not given.
    pub region: &'a [u8],
    /// `resource_id`, empty when not given.
    pub resource_id: &'a [u8],
    /// How many `tags` it has.
    pub tags: usize,
}

/// A length or varint byte that says that more follow.
const MORE: u8 = 0x80;

// Lengths of one byte are below 128, which is within these bounds already.
const _: () = assert!(PRODUCT_SKU_BYTES_MAX >= 127 && TAG_KEY_BYTES_MAX >= 127);

/// Reads a pulse whose text is plain; `None` means that it is not known here whether the pulse is good.
#[must_use]
#[inline]
pub fn read(bytes: &[u8]) -> Option<PlainPulse<'_>> {
    let fields = split(bytes)?;
    let PlainFields { id, tenant_id, product_sku, use_unit, occurred_at, region, resource_id, tags, .. } =
        fields;
    let is_good = !product_sku.is_empty()
        && !use_unit.is_empty()
        && use_unit.len() <= USE_UNIT_BYTES_MAX
        && region.len() <= REGION_BYTES_MAX
        && tags <= TAGS_MAX
        && fields.names_are_plain()
        && is_plain(product_sku)
        && is_plain(use_unit)
        && is_plain(region);
    if !is_good {
        return None;
    }
    let used_amount = Quantity::parse(fields.used_amount).ok()?;
    Some(PlainPulse {
        id,
        tenant_id,
        product_sku,
        used_amount,
        use_unit,
        occurred_at,
        region,
        resource_id,
        tags,
    })
}

impl PlainFields<'_> {
    /// Whether what is the pulse's own, its id and its resource, is good.
    #[must_use]
    #[inline]
    pub fn names_are_plain(&self) -> bool {
        !self.id.is_empty() && is_plain(self.id) && is_plain(self.resource_id)
    }
}

/// Splits a pulse into its fields; `None` when it is not written as nearly all clients do: each field once, in the order
/// of the numbers.
#[must_use]
#[inline]
pub fn split(bytes: &[u8]) -> Option<PlainFields<'_>> {
    let mut rest = bytes;
    let id = field(&mut rest, 0x0a)?;
    let tenant_id = field(&mut rest, 0x12)?;
    let product_sku = field(&mut rest, 0x1a)?;
    let used_amount = field(&mut rest, 0x22)?;
    let use_unit = field(&mut rest, 0x2a)?;
    let occurred_at = instant(field(&mut rest, 0x32)?)?;
    let region = field(&mut rest, 0x3a).unwrap_or_default();
    let resource_id = field(&mut rest, 0x42).unwrap_or_default();
    let mut tags = 0;
    while let Some(entry) = field(&mut rest, 0x4a) {
        if !is_plain_tag(entry) {
            return None;
        }
        tags += 1;
    }
    rest.is_empty().then_some(PlainFields {
        id,
        tenant_id,
        product_sku,
        used_amount,
        use_unit,
        occurred_at,
        region,
        resource_id,
        tags,
    })
}

/// The field that comes next, if it is this one and shorter than 128 bytes.
#[inline(always)]
fn field<'a>(rest: &mut &'a [u8], key: u8) -> Option<&'a [u8]> {
    let [found, length @ ..MORE, after @ ..] = *rest else { return None };
    if *found != key {
        return None;
    }
    let (text, behind) = after.split_at_checked(usize::from(*length))?;
    *rest = behind;
    Some(text)
}

/// The tags of a pulse that [`split`] could split, in the order of the wire: keys and values.
pub fn tags(bytes: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = bytes;
    for key in [0x0a, 0x12, 0x1a, 0x22, 0x2a, 0x32, 0x3a, 0x42] {
        field(&mut rest, key);
    }
    std::iter::from_fn(move || tag(field(&mut rest, 0x4a)?))
}

fn is_plain_tag(entry: &[u8]) -> bool {
    tag(entry).is_some_and(|(key, value)| !key.is_empty() && is_plain(key) && is_plain(value))
}

/// A tag of a short key and a short value, in their order.
#[inline]
fn tag(entry: &[u8]) -> Option<(&[u8], &[u8])> {
    let [0x0a, key_length, after @ ..] = entry else { return None };
    let (key, value) = after.split_at_checked(usize::from(*key_length))?;
    match value {
        [] => Some((key, value)),
        [0x12, length, value @ ..] if usize::from(*length) == value.len() => Some((key, value)),
        _ => None,
    }
}

/// A timestamp of seconds and nanos in their order, each at most once.
#[inline]
fn instant(bytes: &[u8]) -> Option<Instant> {
    let Some((first, behind)) = bytes.split_first_chunk::<8>() else { return any_instant(bytes) };
    let word = u64::from_le_bytes(*first);
    // The key of seconds, a varint of five bytes (all times from 2004 to 3058), the key of nanos.
    if word & 0x00ff_8080_8080_80ff != 0x0010_0080_8080_8008 {
        return any_instant(bytes);
    }
    let seconds = (word >> 8 & 0x7f)
        | (word >> 9 & 0x3f80)
        | (word >> 10 & 0x1f_c000)
        | (word >> 11 & 0xfe0_0000)
        | (word >> 12 & 0x7_f000_0000);
    let (more, nanos) = (word >> 63 == 1, word >> 56 & 0x7f);
    // The nanos of most times that are no whole second are varints of four or five bytes.
    let (behind, marks) = match behind {
        [] if !more => (0, 0),
        [a, b, c] => (u32::from_le_bytes([*a, *b, *c, 0]), 0x0000_8080),
        [a, b, c, d] => (u32::from_le_bytes([*a, *b, *c, *d]), 0x0080_8080),
        _ => return any_instant(bytes),
    };
    if behind & 0x8080_8080 != marks || more != (marks != 0) {
        return any_instant(bytes);
    }
    let behind = u64::from(behind);
    let nanos = nanos
        | (behind & 0x7f) << 7
        | (behind & 0x7f00) << 6
        | (behind & 0x7f_0000) << 5
        | (behind & 0x7f00_0000) << 4;
    Instant::since_epoch(seconds, nanos)
}

/// A timestamp of any other shape.
#[cold]
fn any_instant(mut bytes: &[u8]) -> Option<Instant> {
    let (mut seconds, mut nanos) = (0, 0);
    if let [0x08, rest @ ..] = bytes {
        bytes = rest;
        seconds = i64::try_from(varint(&mut bytes)?).ok()?;
    }
    if let [0x10, rest @ ..] = bytes {
        bytes = rest;
        nanos = i32::try_from(varint(&mut bytes)?).ok()?;
    }
    bytes.is_empty().then(|| Instant::new(seconds, nanos))?
}

/// A varint of at most 8 bytes: all instants from 1970 on are.
#[inline]
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let Some(word) = bytes.first_chunk::<8>() else { return short_varint(bytes) };
    let word = u64::from_le_bytes(*word);
    let ends = !word & HIGHS;
    if ends == 0 {
        return None;
    }
    let length = ends.trailing_zeros() / 8 + 1;
    // Drop what follows and the marks, then close the gaps: 7 bits of 8, 14 of 16, 28 of 32.
    let sevens = word & (u64::MAX >> (64 - 8 * length)) & !HIGHS;
    let fourteens = (sevens & 0x007f_007f_007f_007f) | ((sevens & 0x7f00_7f00_7f00_7f00) >> 1);
    let halves = (fourteens & 0x0000_3fff_0000_3fff) | ((fourteens & 0x3fff_0000_3fff_0000) >> 2);
    *bytes = &bytes[length as usize..];
    Some((halves & 0x0fff_ffff) | (halves >> 32 << 28))
}

/// The same for the last bytes of a message.
#[inline]
fn short_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for (place, byte) in bytes.iter().enumerate().take(8) {
        value |= u64::from(byte & !MORE) << (7 * place);
        if *byte < MORE {
            *bytes = &bytes[place + 1..];
            return Some(value);
        }
    }
    None
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = ONES << 7;

/// Whether all bytes are printable ASCII, from space to tilde: valid UTF-8, and no control character.
#[inline(always)]
fn is_plain(text: &[u8]) -> bool {
    // Nearly every id is a UUID; what has a known length needs no loop.
    if let Ok(uuid) = <&[u8; 36]>::try_from(text)
        && let ([first, second], [a, b, c, d]) = uuid.as_chunks()
    {
        let rest = bad_bytes(u64::from(u32::from_le_bytes([*a, *b, *c, *d])) | ONES << 37);
        return (bad_pair(first) | bad_pair(second) | rest) & HIGHS == 0;
    }
    // Sixteen bytes at a time; the last sixteen overlap what was seen.
    let Some(last) = text.last_chunk() else { return is_plain_short(text) };
    let mut bad = bad_pair(last);
    for pair in text.as_chunks().0 {
        bad |= bad_pair(pair);
    }
    bad & HIGHS == 0
}

/// The marks of two words.
#[inline(always)]
fn bad_pair(bytes: &[u8; 16]) -> u64 {
    let pair = u128::from_le_bytes(*bytes);
    bad_bytes(pair as u64) | bad_bytes((pair >> 64) as u64)
}

/// Fewer than sixteen bytes: two words or two halves, which may overlap.
#[inline(always)]
fn is_plain_short(text: &[u8]) -> bool {
    if let (Some(first), Some(last)) = (text.first_chunk(), text.last_chunk()) {
        return (bad_bytes(u64::from_le_bytes(*first)) | bad_bytes(u64::from_le_bytes(*last))) & HIGHS == 0;
    }
    if let (Some(first), Some(last)) = (text.first_chunk(), text.last_chunk()) {
        let (first, last) = (u32::from_le_bytes(*first), u32::from_le_bytes(*last));
        return bad_bytes(u64::from(first) | u64::from(last) << 32) & HIGHS == 0;
    }
    text.iter().all(|byte| (0x20..0x7f).contains(byte))
}

/// Has a high bit when a byte of the word has its own set, is below a space, or is DEL. Carries and borrows between bytes
/// only come from a byte that is bad itself.
#[inline(always)]
const fn bad_bytes(word: u64) -> u64 {
    word | word.wrapping_sub(ONES * 0x20) | word.wrapping_add(ONES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{v1, walk};
    use proptest::prelude::*;
    use prost::Message;
    use pulso_domain::pulse;

    #[test]
    fn plain_is_from_space_to_tilde_at_every_place_and_length() {
        for length in 0..40 {
            assert!(is_plain(&vec![b'a'; length]));
            for place in 0..length {
                for byte in 0..=255 {
                    let mut text = vec![b'a'; length];
                    text[place] = byte;
                    assert_eq!(
                        is_plain(&text),
                        (0x20..0x7f).contains(&byte),
                        "{byte} at {place} of {length}"
                    );
                }
            }
        }
    }

    #[test]
    fn varints_of_up_to_8_bytes_are_read_wherever_they_stand() {
        for bit in 0..64 {
            for value in [(1_u64 << bit) - 1, 1 << bit, (1 << bit) | 0x55] {
                let mut bytes = Vec::new();
                prost::encoding::encode_varint(value, &mut bytes);
                let fits = bytes.len() <= 8;
                let alone = varint(&mut &bytes[..]);
                bytes.extend_from_slice(&[0xff; 9]);
                let mut rest = &bytes[..];
                assert_eq!((alone, varint(&mut rest)), (fits.then_some(value), fits.then_some(value)));
                assert_eq!(rest.len(), if fits { 9 } else { bytes.len() });
            }
        }
    }

    fn text() -> impl Strategy<Value = String> {
        prop_oneof![8 => "[ -~]{1,40}", 1 => "[ -~]{120,140}", 1 => Just(String::new()), 1 => "\\PC{0,9}", 1 => ".{0,9}"]
    }

    prop_compose! {
        fn any_pulse()(
            (id, tenant_id, product_sku) in (text(), text(), text()),
            (use_unit, region, resource_id) in (text(), text(), text()),
            used_amount in prop_oneof![9 => "-?[0-9]{1,3}(\\.[0-9]{1,4})?", 1 => text()],
            time in prop::option::weighted(0.9, (any::<i32>(), -1..1_000_000_001)),
            tags in prop::collection::hash_map(text(), text(), 0..3),
        ) -> v1::Pulse {
            let occurred_at =
                time.map(|(seconds, nanos)| prost_types::Timestamp { seconds: seconds.into(), nanos });
            v1::Pulse { id, tenant_id, product_sku, used_amount, use_unit, occurred_at, region, resource_id, tags }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_quick_yes_is_a_yes_of_the_full_check(pulse in any_pulse(), flip in any::<Option<(u8, u16)>>()) {
            let mut bytes = pulse.encode_to_vec();
            if let Some((byte, place)) = flip {
                let place = usize::from(place) % bytes.len().max(1);
                if let Some(flipped) = bytes.get_mut(place) {
                    *flipped = byte;
                }
            }
            if let Some(quick) = read(&bytes) {
                let mut raw = walk::pulse(&bytes).expect("the quick path reads only good messages");
                prop_assert_eq!(quick.tenant_id, raw.tenant_id);
                // The quick path leaves the tenant to its caller.
                raw.tenant_id = b"acme";
                let full = pulse::check(&raw).expect("the quick path takes only good pulses");
                prop_assert_eq!(quick.used_amount, full.used_amount);
                prop_assert_eq!(quick.occurred_at, full.occurred_at);
                prop_assert_eq!(quick.product_sku, raw.product_sku);
                prop_assert_eq!(quick.use_unit, raw.use_unit);
                prop_assert_eq!((quick.id, quick.region, quick.resource_id), (raw.id, raw.region, raw.resource_id));
                prop_assert_eq!(quick.tags, raw.tags.len());
                prop_assert!(tags(&bytes).eq(raw.tags.iter().copied()));
            }
        }
    }

    #[test]
    fn times_of_every_shape_are_read_alike() {
        let nanos = [0, 1, 127, 128, 300, 123_000_000, 999_999_999, 1_000_000_000, -1];
        for seconds in [0, 1, 127, 1 << 20, (1 << 28) - 1, 1 << 28, 1_800_000_000, (1 << 35) - 1, 1 << 35, -1]
        {
            for nanos in nanos {
                let time = prost_types::Timestamp { seconds, nanos };
                let bytes = time.encode_to_vec();
                assert_eq!(instant(&bytes), any_instant(&bytes), "{time:?}");
                for place in 0..bytes.len() {
                    let mut damaged = bytes.clone();
                    damaged[place] ^= 0x80;
                    assert_eq!(instant(&damaged), any_instant(&damaged), "{time:?} at {place}");
                    assert_eq!(instant(&bytes[..place]), any_instant(&bytes[..place]), "{time:?} to {place}");
                }
            }
        }
    }

    #[test]
    fn a_usual_pulse_gets_the_quick_yes() {
        let pulse = v1::Pulse {
            id: "01932f7c-4b2a-7000-8f3e-000000000001".into(),
            tenant_id: "acme".into(),
            product_sku: "vm.small".into(),
            used_amount: "1.25".into(),
            use_unit: "Hours".into(),
            occurred_at: Some(prost_types::Timestamp { seconds: 1_800_000_000, nanos: 123_000_000 }),
            region: "br-se1".into(),
            resource_id: "vm-1".into(),
            tags: [("team".to_owned(), "red".to_owned()), ("empty".to_owned(), String::new())].into(),
        };
        assert!(read(&pulse.encode_to_vec()).is_some());
    }
}
