//! A pulse as a JSON object with the proto's field names: a line of an NDJSON file, the body of a message.

use std::collections::HashMap;

use pulso_proto::v1;
use serde::Deserialize;

use super::{Unreadable, occurred_at};

/// A pulse as it is written. What is missing is sent as missing, so that the door gives the reason.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Object {
    id: String,
    tenant_id: String,
    product_sku: String,
    used_amount: Amount,
    use_unit: String,
    occurred_at: Option<String>,
    region: Option<String>,
    resource_id: Option<String>,
    tags: Option<HashMap<String, String>>,
}

/// An amount is text; a bare JSON number is taken by its own digits, never through a float.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum Amount {
    /// As it should be.
    Text(String),
    /// As many write it.
    Number(serde_json::Number),
}

impl Default for Amount {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

impl Amount {
    /// Its digits as they were written.
    pub(crate) fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Number(number) => number.to_string(),
        }
    }
}

/// Reads one object.
///
/// # Errors
/// When it is no JSON object of a pulse: not JSON, an unknown field, a field of another type, a time that is none.
pub fn read(text: &[u8]) -> Result<v1::Pulse, Unreadable> {
    let object: Object =
        serde_json::from_slice(text).map_err(|error| Unreadable::whole(format!("is no pulse: {error}")))?;
    Ok(v1::Pulse {
        id: object.id,
        tenant_id: object.tenant_id,
        product_sku: object.product_sku,
        used_amount: object.used_amount.into_text(),
        use_unit: object.use_unit,
        occurred_at: occurred_at(object.occurred_at.as_deref())?,
        region: object.region.unwrap_or_default(),
        resource_id: object.resource_id.unwrap_or_default(),
        tags: object.tags.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_keeps_its_digits_whether_text_or_number() {
        for (written, read_as) in [("\"1.50\"", "1.50"), ("0.10", "0.10"), ("1e3", "1e+3"), ("\"x\"", "x")] {
            let text = format!("{{\"used_amount\":{written}}}");
            assert_eq!(read(text.as_bytes()).expect("a pulse").used_amount, read_as);
        }
        let digits = "12345678901234567890123.123456789012345";
        let text = format!("{{\"used_amount\":{digits}}}");
        assert_eq!(read(text.as_bytes()).expect("a pulse").used_amount, digits);
    }

    #[test]
    fn what_is_no_pulse_says_why() {
        let reason = |text: &str| read(text.as_bytes()).expect_err("no pulse").to_string();
        assert!(reason("nonsense").starts_with("UNDECODABLE: is no pulse"));
        assert!(reason("{\"idd\":\"a\"}").contains("unknown field `idd`"));
        assert!(reason("{\"occurred_at\":\"yesterday\"}").starts_with("INVALID_TIME: occurred_at: "));
        assert!(reason(&"[".repeat(100_000)).starts_with("UNDECODABLE"));
    }
}
