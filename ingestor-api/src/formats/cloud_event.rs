//! A pulse as a CloudEvent 1.0: one JSON document, or attributes beside a JSON body.
//!
//! `id` is the pulse's id and `time` its `occurred_at`; the tenant is `data.tenant_id`, else `subject`; the SKU is
//! `data.product_sku`, else `type`; everything else stands in `data` under the pulse's own names. Attributes that the
//! pulse has no place for, extensions among them, are passed over; an unknown name in `data` is refused, since it may
//! be a misspelled one that changes a bill.

use std::collections::HashMap;

use pulso_proto::v1;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::pulse_json::Amount;
use super::{Unreadable, occurred_at};

/// The one version of the specification.
const SPEC_VERSION: &str = "1.0";

/// The attributes that a pulse is made of.
#[derive(Clone, Deserialize, Default, Debug)]
#[serde(default)]
pub struct Attributes {
    /// `specversion`.
    pub specversion: Option<String>,
    /// `id`.
    pub id: Option<String>,
    /// `source`.
    pub source: Option<String>,
    /// `type`.
    pub r#type: Option<String>,
    /// `subject`.
    pub subject: Option<String>,
    /// `time`.
    pub time: Option<String>,
    /// `datacontenttype`.
    pub datacontenttype: Option<String>,
}

/// A whole event in one document.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Event {
    specversion: Option<String>,
    id: Option<String>,
    source: Option<String>,
    r#type: Option<String>,
    subject: Option<String>,
    time: Option<String>,
    datacontenttype: Option<String>,
    data: Option<Data>,
    data_base64: Option<IgnoredAny>,
}

/// The payload: what a pulse has and an event has no attribute for.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Data {
    tenant_id: Option<String>,
    product_sku: Option<String>,
    used_amount: Amount,
    use_unit: String,
    region: Option<String>,
    resource_id: Option<String>,
    tags: Option<HashMap<String, String>>,
}

/// Reads an event that is one JSON document (structured mode, or one of a batch).
///
/// # Errors
/// When it is no CloudEvent 1.0 with a pulse in its data.
pub fn read(text: &[u8]) -> Result<v1::Pulse, Unreadable> {
    let event: Event = serde_json::from_slice(text)
        .map_err(|error| Unreadable::whole(format!("is no CloudEvent of a pulse: {error}")))?;
    if event.data_base64.is_some() {
        return Err(Unreadable::whole("write the pulse as JSON in `data`; `data_base64` is not read"));
    }
    let Event { specversion, id, source, r#type, subject, time, datacontenttype, data, .. } = event;
    let attributes = Attributes { specversion, id, source, r#type, subject, time, datacontenttype };
    pulse(attributes, data.unwrap_or_default())
}

/// Reads an event whose attributes stand beside its data (binary mode).
///
/// # Errors
/// As [`read`].
pub fn read_binary(attributes: Attributes, data: &[u8]) -> Result<v1::Pulse, Unreadable> {
    let data = serde_json::from_slice(data)
        .map_err(|error| Unreadable::whole(format!("is no data of a pulse: {error}")))?;
    pulse(attributes, data)
}

fn pulse(attributes: Attributes, data: Data) -> Result<v1::Pulse, Unreadable> {
    let missing = |name: &str| Unreadable::whole(format!("is no CloudEvent: it has no `{name}`"));
    if attributes.specversion.as_deref() != Some(SPEC_VERSION) {
        return Err(Unreadable::whole(format!("is no CloudEvent: `specversion` must be \"{SPEC_VERSION}\"")));
    }
    if attributes.source.is_none_or(|source| source.is_empty()) {
        return Err(missing("source"));
    }
    let r#type = attributes.r#type.filter(|text| !text.is_empty()).ok_or_else(|| missing("type"))?;
    if !attributes.datacontenttype.is_none_or(|content_type| is_json(&content_type)) {
        return Err(Unreadable::whole("write the data as JSON, and `datacontenttype` as application/json"));
    }
    Ok(v1::Pulse {
        id: attributes.id.unwrap_or_default(),
        tenant_id: data.tenant_id.or(attributes.subject).unwrap_or_default(),
        product_sku: data.product_sku.unwrap_or(r#type),
        used_amount: data.used_amount.into_text(),
        use_unit: data.use_unit,
        occurred_at: occurred_at(attributes.time.as_deref())
            .map_err(|bad| Unreadable { detail: format!("{} (the event's `time`)", bad.detail), ..bad })?,
        region: data.region.unwrap_or_default(),
        resource_id: data.resource_id.unwrap_or_default(),
        tags: data.tags.unwrap_or_default(),
    })
}

fn is_json(content_type: &str) -> bool {
    let media = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media.ends_with("/json") || media.ends_with("+json")
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str = r#"{"specversion":"1.0","id":"e-1","source":"/meters/7","type":"egress","subject":"acme",
        "time":"2026-01-01T00:00:00Z","traceparent":"00-1","data":{"used_amount":0.10,"use_unit":"GB","tags":{"team":"blue"}}}"#;

    fn with(from: &str, to: &str) -> Result<v1::Pulse, Unreadable> {
        let text = EVENT.replace(from, to);
        assert_ne!(text, EVENT, "{from} is not there");
        read(text.as_bytes())
    }

    #[test]
    fn attributes_and_data_become_a_pulse_and_extensions_are_passed_over() {
        let pulse = read(EVENT.as_bytes()).expect("an event");
        let texts = [&pulse.id, &pulse.tenant_id, &pulse.product_sku, &pulse.used_amount, &pulse.use_unit];
        assert_eq!(texts, ["e-1", "acme", "egress", "0.10", "GB"]);
        assert_eq!(pulse.occurred_at.map(|at| at.seconds), Some(1_767_225_600));
        assert_eq!(pulse.tags["team"], "blue");
    }

    #[test]
    fn tenant_and_sku_of_the_data_go_before_the_attributes() {
        let data = r#""data":{"tenant_id":"globex","product_sku":"vm","#;
        let pulse = with(r#""data":{"#, data).expect("an event");
        assert_eq!((pulse.tenant_id.as_str(), pulse.product_sku.as_str()), ("globex", "vm"));
    }

    #[test]
    fn binary_mode_is_the_same_event() {
        let attributes = Attributes {
            specversion: Some("1.0".into()),
            id: Some("e-1".into()),
            source: Some("/meters/7".into()),
            r#type: Some("egress".into()),
            subject: Some("acme".into()),
            time: Some("2026-01-01T00:00:00Z".into()),
            datacontenttype: Some("application/json; charset=utf-8".into()),
        };
        let data = br#"{"used_amount":"0.10","use_unit":"GB","tags":{"team":"blue"}}"#;
        assert_eq!(read_binary(attributes, data), read(EVENT.as_bytes()));
    }

    #[test]
    fn what_is_no_event_says_why_and_what_only_lacks_a_field_is_left_to_the_door() {
        for (from, to) in [
            (r#""1.0""#, r#""0.3""#),
            (r#""source":"/meters/7""#, r#""source":"""#),
            (r#""type":"egress","#, ""),
            (r#""use_unit""#, r#""use_unti""#),
            (r#""data":{"#, r#""data_base64":"e30=","data":{"#),
            (r#""time":"2026-01-01T00:00:00Z""#, r#""time":"yesterday""#),
            (r#""subject":"acme""#, r#""datacontenttype":"text/xml""#),
            (r#""id":"e-1""#, r#""id":7"#),
        ] {
            assert!(with(from, to).is_err(), "{from} -> {to}");
        }
        for (from, to) in [(r#""id":"e-1","#, ""), (r#""subject":"acme","#, ""), (r#""use_unit":"GB","#, "")]
        {
            assert!(with(from, to).is_ok(), "{from} -> {to}");
        }
    }
}
