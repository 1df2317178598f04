//! The bytes of a dead letter, decoded as far as they go, with the hex beside: what someone looks at who asks what a
//! sender did.

use pulso_proto::walk::{Fields, Value};
use serde::Serialize;
use utoipa::ToSchema;

/// Bytes that are shown; a record may have half a MiB.
const BYTES_SHOWN_MAX: usize = 64 * 1024;
/// Fields that are shown.
const FIELDS_SHOWN_MAX: usize = 1000;
/// Bytes of one field's value that are shown.
const VALUE_BYTES_MAX: usize = 256;

const PULSE_FIELDS: [&str; 9] = [
    "id",
    "tenant_id",
    "product_sku",
    "used_amount",
    "use_unit",
    "occurred_at",
    "region",
    "resource_id",
    "tags",
];
const RECORD_FIELDS: [&str; 5] = ["format_version", "received_at", "control", "pulses", "replays"];

/// The original bytes of a dead letter.
#[derive(Serialize, ToSchema)]
#[schema(as = DeadLetterBytes)]
pub(crate) struct LetterBytes {
    /// How many there are.
    bytes: u64,
    /// The bytes, the first 65536 of them.
    #[schema(example = "0a0361626322046e6f6e65")]
    hex: String,
    /// The bytes as text, where they are text, such as JSON of a producer who does not know the format.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    text: Option<String>,
    /// The protobuf fields from the beginning on, as far as they can be read; the first 1000.
    fields: Vec<WireField>,
    /// Where the first bytes stand that are no field; absent when all are.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    unreadable_from: Option<u64>,
}

/// One protobuf field.
#[derive(Serialize, ToSchema)]
#[schema(as = DeadLetterField)]
pub(crate) struct WireField {
    /// Where it begins.
    offset: u64,
    /// Its number.
    #[schema(example = 4)]
    number: u32,
    /// Its name in the expected message, when that has the number.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "used_amount", nullable = false)]
    name: Option<&'static str>,
    /// How it was written: `varint`, `bytes`, `fixed64` or `fixed32`.
    #[schema(example = "bytes")]
    wire_type: &'static str,
    /// Its value: a number, text, or `0x` with hex; the first 256 bytes.
    #[schema(example = "1e5")]
    value: String,
}

impl LetterBytes {
    /// The bytes of a pulse, or of a whole record.
    pub(crate) fn of(original: &[u8], is_pulse: bool) -> Self {
        let names: &[&'static str] = if is_pulse { &PULSE_FIELDS } else { &RECORD_FIELDS };
        let shown = &original[..original.len().min(BYTES_SHOWN_MAX)];
        let (fields, unreadable_from) = fields(original, names);
        Self {
            bytes: original.len() as u64,
            hex: hex(shown),
            text: printable(shown).map(str::to_owned),
            fields,
            unreadable_from,
        }
    }
}

fn fields(original: &[u8], names: &[&'static str]) -> (Vec<WireField>, Option<u64>) {
    let mut found = Vec::new();
    let mut left = Fields::new(original);
    loop {
        let offset = original.len() - left.rest().len();
        match left.next_field() {
            Ok(None) => return (found, None),
            Err(_) => return (found, Some(offset as u64)),
            Ok(Some(_)) if found.len() == FIELDS_SHOWN_MAX => {}
            Ok(Some((number, value))) => {
                let bytes = &original[offset..original.len() - left.rest().len()];
                let name = (number as usize).checked_sub(1).and_then(|place| names.get(place)).copied();
                let (wire_type, value) = shown(value, bytes);
                found.push(WireField { offset: offset as u64, number, name, wire_type, value });
            }
        }
    }
}

/// How a field was written, and its value. `bytes` is the whole field: a value of fixed size stands at its end.
fn shown(value: Value<'_>, bytes: &[u8]) -> (&'static str, String) {
    match value {
        Value::Varint(number) => ("varint", number.to_string()),
        Value::Bytes(content) => {
            let short = &content[..content.len().min(VALUE_BYTES_MAX)];
            let text = printable(short).map(str::to_owned);
            ("bytes", text.unwrap_or_else(|| format!("0x{}", hex(short))))
        }
        Value::Fixed => match (bytes.first().map(|key| key & 7), bytes.last_chunk(), bytes.last_chunk()) {
            (Some(1), Some(last), _) => ("fixed64", f64::from_le_bytes(*last).to_string()),
            (_, _, Some(last)) => ("fixed32", f32::from_le_bytes(*last).to_string()),
            _ => ("fixed32", String::new()),
        },
    }
}

/// Text without control characters, other than those of laid out text.
fn printable(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    let is_good = |character: char| !character.is_control() || matches!(character, '\n' | '\r' | '\t');
    text.chars().all(is_good).then_some(text)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(original: &[u8], is_pulse: bool) -> (Vec<String>, Option<u64>) {
        let letter = LetterBytes::of(original, is_pulse);
        let brief = |field: &WireField| {
            format!("{} {} {} {}", field.offset, field.name.unwrap_or("-"), field.wire_type, field.value)
        };
        (letter.fields.iter().map(brief).collect(), letter.unreadable_from)
    }

    #[test]
    fn fields_are_shown_up_to_the_bytes_that_make_no_sense() {
        let pulse = [b"\x0a\x01a".as_slice(), b"\x21\0\0\0\0\0\0\xf8\x3f", b"\x58\x07", b"\x0f\xff"].concat();
        let fields = ["0 id bytes a", "3 used_amount fixed64 1.5", "12 - varint 7"].map(str::to_owned);
        assert_eq!(shown(&pulse, true), (fields.to_vec(), Some(14)));
        assert_eq!(shown(b"\x08\x01", false), (vec!["0 format_version varint 1".to_owned()], None));
        assert_eq!(shown(b"\x25\0\0\0\x3f", true).0, ["0 used_amount fixed32 0.5"]);
        assert_eq!(shown(b"\x0a\x02\xff\x00", true).0, ["0 id bytes 0xff00"]);
    }

    #[test]
    fn text_is_shown_as_text_and_all_else_as_hex_only() {
        let json = LetterBytes::of(b"{\"id\": \"a\"}\n", false);
        assert_eq!((json.text.as_deref(), json.bytes), (Some("{\"id\": \"a\"}\n"), 12));
        let bytes = LetterBytes::of(b"\xff\x00", false);
        assert_eq!((bytes.text, bytes.hex.as_str()), (None, "ff00"));
        let long = LetterBytes::of(&vec![0; BYTES_SHOWN_MAX + 1], false);
        assert_eq!((long.bytes as usize, long.hex.len()), (BYTES_SHOWN_MAX + 1, 2 * BYTES_SHOWN_MAX));
    }
}
