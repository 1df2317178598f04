//! Fixing a pulse: changes to its fields make a new version, which must be a good pulse. The original stays as it is.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use pulso_domain::pulse::{Pulse, RawPulse, Rejection, check};
use pulso_domain::reason::Reason;
use pulso_domain::time::Instant;
use pulso_proto::v1;
use pulso_proto::walk::readable_pulse;

/// Fields to set; what is not named stays as it is. An empty text takes an optional field away.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Changes {
    /// Texts by the proto field's name.
    pub id: Option<String>,
    /// Whose use.
    pub tenant_id: Option<String>,
    /// Of what.
    pub product_sku: Option<String>,
    /// How much.
    pub used_amount: Option<String>,
    /// In which unit.
    pub use_unit: Option<String>,
    /// When, in RFC 3339.
    pub occurred_at: Option<String>,
    /// Where.
    pub region: Option<String>,
    /// What was used.
    pub resource_id: Option<String>,
    /// All tags, in place of those that are there.
    pub tags: Option<BTreeMap<String, String>>,
}

/// A pulse with changes, encoded; `None` starts from nothing.
///
/// # Errors
/// Why the result is no good pulse, with the field at fault.
pub fn fixed(base: Option<&[u8]>, changes: &Changes) -> Result<Bytes, Rejection> {
    let raw = base.map(readable_pulse).unwrap_or_default();
    let was_negative = raw.used_amount.first() == Some(&b'-');
    let occurred_at = match &changes.occurred_at {
        None => raw.occurred_at,
        Some(text) => Some(instant(text)?),
    };
    let changed = RawPulse {
        id: text(&changes.id, raw.id),
        tenant_id: text(&changes.tenant_id, raw.tenant_id),
        product_sku: text(&changes.product_sku, raw.product_sku),
        used_amount: text(&changes.used_amount, raw.used_amount),
        use_unit: text(&changes.use_unit, raw.use_unit),
        occurred_at,
        region: text(&changes.region, raw.region),
        resource_id: text(&changes.resource_id, raw.resource_id),
        tags: match &changes.tags {
            None => raw.tags,
            Some(tags) => tags.iter().map(|(key, value)| (key.as_bytes(), value.as_bytes())).collect(),
        },
    };
    let pulse = check(&changed)?;
    if pulse.used_amount.is_negative() && !was_negative {
        return Err(Rejection {
            reason: Reason::NegativeAmount,
            field: "used_amount",
            message: "set an amount of 0 or more; corrections are sent as pulses with the scope `correct`",
        });
    }
    Ok(encode(&pulse))
}

fn text<'a>(change: &'a Option<String>, was: &'a [u8]) -> &'a [u8] {
    change.as_ref().map_or(was, |text| text.as_bytes())
}

fn instant(text: &str) -> Result<(i64, i32), Rejection> {
    let at = Instant::parse_rfc3339(text).ok_or(Rejection {
        reason: Reason::InvalidTime,
        field: "occurred_at",
        message: "write a time as 2026-01-31T23:59:59Z",
    })?;
    Ok((at.seconds(), at.nanos().cast_signed()))
}

fn encode(pulse: &Pulse<'_>) -> Bytes {
    let at = pulse.occurred_at;
    let text = |text: &str| text.to_owned();
    v1::Pulse {
        id: text(pulse.id),
        tenant_id: text(pulse.tenant_id),
        product_sku: text(pulse.product_sku),
        used_amount: pulse.used_amount.to_string(),
        use_unit: text(pulse.use_unit),
        occurred_at: Some(prost_types::Timestamp { seconds: at.seconds(), nanos: at.nanos().cast_signed() }),
        region: text(pulse.region),
        resource_id: text(pulse.resource_id),
        tags: pulse.tags.iter().map(|(key, value)| (text(key), text(value))).collect(),
    }
    .encode_to_vec()
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> v1::Pulse {
        v1::Pulse {
            id: "p-1".into(),
            tenant_id: "acme".into(),
            product_sku: "vm".into(),
            used_amount: "1e5".into(),
            use_unit: "Hours".into(),
            occurred_at: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 5 }),
            region: "br-se1".into(),
            ..Default::default()
        }
    }

    fn fix(changes: &Changes) -> Result<v1::Pulse, Rejection> {
        let bytes = fixed(Some(&sample().encode_to_vec()), changes)?;
        Ok(v1::Pulse::decode(bytes).expect("a pulse"))
    }

    fn amount(text: &str) -> Changes {
        Changes { used_amount: Some(text.to_owned()), ..Changes::default() }
    }

    #[test]
    fn only_what_is_named_changes() {
        let expected = v1::Pulse { used_amount: "100000".into(), ..sample() };
        assert_eq!(fix(&amount("100000")), Ok(expected.clone()));
        let changes = Changes {
            region: Some(String::new()),
            occurred_at: Some("2026-01-01T00:00:00Z".to_owned()),
            tags: Some([("k".to_owned(), "v".to_owned())].into()),
            ..amount("100000")
        };
        let at = prost_types::Timestamp { seconds: 1_767_225_600, nanos: 0 };
        let tags = [("k".to_owned(), "v".to_owned())].into();
        assert_eq!(
            fix(&changes),
            Ok(v1::Pulse { region: String::new(), occurred_at: Some(at), tags, ..expected })
        );
    }

    #[test]
    fn a_result_that_is_no_good_pulse_names_the_field() {
        let field = |changes| fix(&changes).map_err(|rejection| (rejection.reason, rejection.field));
        assert_eq!(field(Changes::default()), Err((Reason::InvalidAmount, "used_amount")));
        assert_eq!(field(amount("-1")), Err((Reason::NegativeAmount, "used_amount")));
        let at = Changes { occurred_at: Some("yesterday".to_owned()), ..amount("1") };
        assert_eq!(field(at), Err((Reason::InvalidTime, "occurred_at")));
        let sku = Changes { product_sku: Some(String::new()), ..amount("1") };
        assert_eq!(field(sku), Err((Reason::InvalidSku, "product_sku")));
    }
}
