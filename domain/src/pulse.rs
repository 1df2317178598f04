//! A pulse as raw fields, the checks that make it a good one, and the reasons when it is not.
//!
//! The same [`check`] runs at the door and in the fold, so that what was acknowledged is never refused later. Only the
//! acceptance window, the right to send negative amounts and the SKU's unit are the door's alone: the fold has no clock.

use crate::ids::is_tenant_id;
use crate::quantity::{Quantity, QuantityError};
use crate::reason::Reason;
use crate::time::Instant;

/// Longest id: it is hashed, not stored, but stands in every explanation.
pub const ID_BYTES_MAX: usize = 128;
/// Longest SKU: it stands in every usage row's key.
pub const PRODUCT_SKU_BYTES_MAX: usize = 128;
/// Longest unit.
pub const USE_UNIT_BYTES_MAX: usize = 64;
/// Longest region.
pub const REGION_BYTES_MAX: usize = 64;
/// Longest resource id: cloud resource names run to a few hundred bytes.
pub const RESOURCE_ID_BYTES_MAX: usize = 512;
/// Most tags of one pulse.
pub const TAGS_MAX: usize = 64;
/// Longest tag key.
pub const TAG_KEY_BYTES_MAX: usize = 128;
/// Longest tag value.
pub const TAG_VALUE_BYTES_MAX: usize = 512;

/// The fields of a pulse as they stand on the wire: nothing about them is checked yet.
#[derive(Clone, Debug, Default)]
pub struct RawPulse<'a> {
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
    /// `occurred_at` as seconds and nanoseconds, when it was there.
    pub occurred_at: Option<(i64, i32)>,
    /// `region`.
    pub region: &'a [u8],
    /// `resource_id`.
    pub resource_id: &'a [u8],
    /// `tags` in the order of the wire; a key may repeat, then the last one counts.
    pub tags: Vec<(&'a [u8], &'a [u8])>,
}

/// A good pulse: every bound holds, every text is UTF-8 without control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulse<'a> {
    /// Unique within the tenant; 1..=128 bytes.
    pub id: &'a str,
    /// 1..=64 bytes of `[A-Za-z0-9._-]`.
    pub tenant_id: &'a str,
    /// 1..=128 bytes.
    pub product_sku: &'a str,
    /// The amount, in `use_unit`.
    pub used_amount: Quantity,
    /// 1..=64 bytes.
    pub use_unit: &'a str,
    /// The client's time.
    pub occurred_at: Instant,
    /// At most 64 bytes, empty when not given.
    pub region: &'a str,
    /// At most 512 bytes, empty when not given.
    pub resource_id: &'a str,
    /// Sorted by key, each key once.
    pub tags: Vec<(&'a str, &'a str)>,
}

/// Why a pulse is not good: the reason, the field by its proto name, and how to mend it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rejection {
    /// The stable code.
    pub reason: Reason,
    /// The proto field's name.
    pub field: &'static str,
    /// What is wrong and what to do.
    pub message: &'static str,
}

impl Rejection {
    const fn new(reason: Reason, field: &'static str, message: &'static str) -> Self {
        Self { reason, field, message }
    }
}

/// Checks everything about a pulse that depends on the pulse alone.
///
/// The first reason that fits is given, in the order: UTF-8, each field's own (empty, malformed), sizes, control characters.
///
/// # Errors
/// The first [`Rejection`] in that order.
pub fn check<'a>(raw: &RawPulse<'a>) -> Result<Pulse<'a>, Rejection> {
    let texts = Texts::read(raw)?;
    if raw.id.is_empty() {
        return Err(Rejection::new(Reason::EmptyId, "id", "set an id that is unique within the tenant"));
    }
    if !is_tenant_id(raw.tenant_id) {
        return Err(Rejection::new(
            Reason::InvalidTenant,
            "tenant_id",
            "use 1 to 64 characters of A-Z a-z 0-9 . _ -",
        ));
    }
    if raw.product_sku.is_empty() {
        return Err(Rejection::new(Reason::InvalidSku, "product_sku", "name the product's SKU"));
    }
    let used_amount = Quantity::parse(raw.used_amount).map_err(amount_rejection)?;
    if raw.use_unit.is_empty() {
        return Err(Rejection::new(Reason::InvalidUnit, "use_unit", "name the unit of used_amount"));
    }
    let occurred_at = check_time(raw.occurred_at)?;
    check_sizes(raw)?;
    check_control_characters(raw)?;
    Ok(Pulse {
        id: texts.id,
        tenant_id: texts.tenant_id,
        product_sku: texts.product_sku,
        used_amount,
        use_unit: texts.use_unit,
        occurred_at,
        region: texts.region,
        resource_id: texts.resource_id,
        tags: texts.tags,
    })
}

struct Texts<'a> {
    id: &'a str,
    tenant_id: &'a str,
    product_sku: &'a str,
    use_unit: &'a str,
    region: &'a str,
    resource_id: &'a str,
    tags: Vec<(&'a str, &'a str)>,
}

impl<'a> Texts<'a> {
    fn read(raw: &RawPulse<'a>) -> Result<Self, Rejection> {
        utf8(raw.used_amount, "used_amount")?;
        Ok(Self {
            id: utf8(raw.id, "id")?,
            tenant_id: utf8(raw.tenant_id, "tenant_id")?,
            product_sku: utf8(raw.product_sku, "product_sku")?,
            use_unit: utf8(raw.use_unit, "use_unit")?,
            region: utf8(raw.region, "region")?,
            resource_id: utf8(raw.resource_id, "resource_id")?,
            tags: sorted_tags(&raw.tags)?,
        })
    }
}

#[inline]
fn utf8<'a>(bytes: &'a [u8], field: &'static str) -> Result<&'a str, Rejection> {
    std::str::from_utf8(bytes).map_err(|_| Rejection::new(Reason::InvalidUtf8, field, "send text as UTF-8"))
}

fn sorted_tags<'a>(raw: &[(&'a [u8], &'a [u8])]) -> Result<Vec<(&'a str, &'a str)>, Rejection> {
    if raw.is_empty() {
        return Ok(Vec::new());
    }
    let mut tags = Vec::with_capacity(raw.len());
    for (key, value) in raw {
        tags.push((utf8(key, "tags")?, utf8(value, "tags")?));
    }
    // A repeated key counts as its last value, as for any protobuf map: a stable sort keeps their order.
    tags.sort_by_key(|(key, _)| *key);
    tags.reverse();
    tags.dedup_by_key(|(key, _)| *key);
    tags.reverse();
    Ok(tags)
}

fn amount_rejection(error: QuantityError) -> Rejection {
    let message = match error {
        QuantityError::Malformed => {
            "write a plain decimal such as 12.5: no exponent, sign +, spaces or leading zeros"
        }
        QuantityError::TooPrecise => "round to at most 15 decimals; Pulso never rounds for you",
        QuantityError::TooLarge => "use a larger unit: at most 23 digits before the point",
    };
    Rejection::new(Reason::InvalidAmount, "used_amount", message)
}

fn check_time(occurred_at: Option<(i64, i32)>) -> Result<Instant, Rejection> {
    let Some((seconds, nanos)) = occurred_at else {
        return Err(Rejection::new(
            Reason::MissingTime,
            "occurred_at",
            "set the time of the use; a server-made time would make a retry another pulse",
        ));
    };
    Instant::new(seconds, nanos).ok_or(Rejection::new(
        Reason::InvalidTime,
        "occurred_at",
        "use seconds within the years 1 to 9999 and nanos from 0 to 999999999",
    ))
}

fn check_sizes(raw: &RawPulse<'_>) -> Result<(), Rejection> {
    if raw.id.len() > ID_BYTES_MAX {
        return Err(Rejection::new(Reason::IdTooLong, "id", "use at most 128 bytes"));
    }
    let too_long = |field, message| Err(Rejection::new(Reason::FieldTooLong, field, message));
    if raw.product_sku.len() > PRODUCT_SKU_BYTES_MAX {
        return too_long("product_sku", "use at most 128 bytes");
    }
    if raw.use_unit.len() > USE_UNIT_BYTES_MAX {
        return too_long("use_unit", "use at most 64 bytes");
    }
    if raw.region.len() > REGION_BYTES_MAX {
        return too_long("region", "use at most 64 bytes");
    }
    if raw.resource_id.len() > RESOURCE_ID_BYTES_MAX {
        return too_long("resource_id", "use at most 512 bytes");
    }
    let tag_limit = |message| Err(Rejection::new(Reason::TagLimit, "tags", message));
    if raw.tags.len() > TAGS_MAX {
        return tag_limit("send at most 64 tags");
    }
    for (key, value) in &raw.tags {
        if key.is_empty() || key.len() > TAG_KEY_BYTES_MAX {
            return tag_limit("use tag keys of 1 to 128 bytes");
        }
        if value.len() > TAG_VALUE_BYTES_MAX {
            return tag_limit("use tag values of at most 512 bytes");
        }
    }
    Ok(())
}

fn check_control_characters(raw: &RawPulse<'_>) -> Result<(), Rejection> {
    let fields = [
        (raw.id, "id"),
        (raw.product_sku, "product_sku"),
        (raw.use_unit, "use_unit"),
        (raw.region, "region"),
        (raw.resource_id, "resource_id"),
    ];
    let tags = raw.tags.iter().flat_map(|(key, value)| [(*key, "tags"), (*value, "tags")]);
    for (bytes, field) in fields.into_iter().chain(tags) {
        if has_control_character(bytes) {
            return Err(Rejection::new(Reason::InvalidText, field, "remove the control characters"));
        }
    }
    Ok(())
}

/// C0, DEL and C1: the last are two bytes in UTF-8, `C2 80` to `C2 9F`.
#[inline]
fn has_control_character(bytes: &[u8]) -> bool {
    let c0 = bytes.iter().any(|byte| *byte < 0x20 || *byte == 0x7f);
    c0 || (!bytes.is_ascii()
        && bytes.windows(2).any(|pair| pair[0] == 0xc2 && (0x80..=0x9f).contains(&pair[1])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good<'a>() -> RawPulse<'a> {
        RawPulse {
            id: b"p-1",
            tenant_id: b"acme",
            product_sku: b"vm",
            used_amount: b"1.50",
            use_unit: b"Hours",
            occurred_at: Some((1_700_000_000, 5)),
            region: b"br-se1",
            resource_id: b"",
            tags: vec![(b"b", b"2"), (b"a", b"1"), (b"b", b"3")],
        }
    }

    fn rejected(change: impl FnOnce(&mut RawPulse<'static>)) -> (Reason, &'static str) {
        let mut raw = good();
        change(&mut raw);
        let rejection = check(&raw).expect_err("is bad");
        assert!(!rejection.message.is_empty());
        (rejection.reason, rejection.field)
    }

    #[test]
    fn a_good_pulse_keeps_its_fields_and_the_last_value_of_a_tag() {
        let raw = good();
        let pulse = check(&raw).expect("good");
        assert_eq!(pulse.used_amount.to_string(), "1.5");
        assert_eq!(pulse.tags, [("a", "1"), ("b", "3")]);
    }

    #[test]
    fn each_bad_field_has_its_own_reason() {
        use Reason::*;
        const LONG: &[u8] = &[b'x'; 513];
        assert_eq!(rejected(|raw| raw.id = b""), (EmptyId, "id"));
        assert_eq!(rejected(|raw| raw.id = &LONG[..129]), (IdTooLong, "id"));
        assert_eq!(rejected(|raw| raw.id = b"\xff"), (InvalidUtf8, "id"));
        assert_eq!(rejected(|raw| raw.tenant_id = b"a b"), (InvalidTenant, "tenant_id"));
        assert_eq!(rejected(|raw| raw.tenant_id = &LONG[..65]), (InvalidTenant, "tenant_id"));
        assert_eq!(rejected(|raw| raw.product_sku = b""), (InvalidSku, "product_sku"));
        assert_eq!(rejected(|raw| raw.product_sku = &LONG[..129]), (FieldTooLong, "product_sku"));
        assert_eq!(rejected(|raw| raw.used_amount = b"1e5"), (InvalidAmount, "used_amount"));
        assert_eq!(rejected(|raw| raw.use_unit = b""), (InvalidUnit, "use_unit"));
        assert_eq!(rejected(|raw| raw.use_unit = &LONG[..65]), (FieldTooLong, "use_unit"));
        assert_eq!(rejected(|raw| raw.occurred_at = None), (MissingTime, "occurred_at"));
        assert_eq!(rejected(|raw| raw.occurred_at = Some((i64::MAX, 0))), (InvalidTime, "occurred_at"));
        assert_eq!(rejected(|raw| raw.region = &LONG[..65]), (FieldTooLong, "region"));
        assert_eq!(rejected(|raw| raw.resource_id = LONG), (FieldTooLong, "resource_id"));
        assert_eq!(rejected(|raw| raw.region = b"a\nb"), (InvalidText, "region"));
        assert_eq!(rejected(|raw| raw.region = "a\u{85}b".as_bytes()), (InvalidText, "region"));
        assert_eq!(rejected(|raw| raw.tags = vec![(b"k", b"v"); 65]), (TagLimit, "tags"));
        assert_eq!(rejected(|raw| raw.tags = vec![(b"", b"v")]), (TagLimit, "tags"));
        assert_eq!(rejected(|raw| raw.tags = vec![(b"k", LONG)]), (TagLimit, "tags"));
        assert_eq!(rejected(|raw| raw.tags = vec![(b"k", b"\x07")]), (InvalidText, "tags"));
    }

    #[test]
    fn the_first_reason_goes_utf8_then_own_then_size_then_text() {
        use Reason::*;
        assert_eq!(rejected(|raw| (raw.id, raw.region) = (b"", b"\xff")).0, InvalidUtf8);
        assert_eq!(rejected(|raw| (raw.id, raw.use_unit) = (&[b'x'; 200], b"")).0, InvalidUnit);
        assert_eq!(rejected(|raw| (raw.id, raw.region) = (&[b'x'; 200], b"\n")).0, IdTooLong);
    }
}
