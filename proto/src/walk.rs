//! The walk over raw protobuf bytes: finds a message's pulses and a pulse's fields without building structs.
//!
//! It reads what any protobuf encoder may write: fields in any order, a field twice (the last counts), unknown fields
//! (passed over, and kept by whoever forwards the slice). Text is handed over as bytes; checking it is `domain::pulse`'s.

use pulso_domain::pulse::RawPulse;

/// The bytes are no protobuf message of the expected shape.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed;

impl std::fmt::Display for Malformed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("the bytes are no protobuf message of the expected shape")
    }
}

impl std::error::Error for Malformed {}

const VARINT: u8 = 0;
const FIXED_64: u8 = 1;
const LENGTH_DELIMITED: u8 = 2;
const FIXED_32: u8 = 5;

/// One field of a message.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// A varint, bool, enum or signed number.
    Varint(u64),
    /// A string, bytes or an embedded message.
    Bytes(&'a [u8]),
    /// A fixed-size number; no message of `pulso.v1` has one, so its value does not matter.
    Fixed,
}

/// Iterates the fields of one message as (number, value).
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// The fields of a message's bytes.
    #[must_use]
    #[inline]
    pub const fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// The bytes not read yet.
    #[must_use]
    #[inline]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next field, `None` at the end.
    ///
    /// # Errors
    /// [`Malformed`] for a truncated field, a bad varint, a group, or the field number 0.
    #[inline]
    pub fn next_field(&mut self) -> Result<Option<(u32, Value<'a>)>, Malformed> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).map_err(|_| Malformed)?;
        if number == 0 || number > 0x1fff_ffff {
            return Err(Malformed);
        }
        let value = match (key & 7) as u8 {
            VARINT => Value::Varint(self.varint()?),
            LENGTH_DELIMITED => {
                let length = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
                Value::Bytes(self.take(length)?)
            }
            FIXED_64 => self.take(8).map(|_| Value::Fixed)?,
            FIXED_32 => self.take(4).map(|_| Value::Fixed)?,
            _ => return Err(Malformed),
        };
        Ok(Some((number, value)))
    }

    #[inline]
    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (part, rest) = self.rest.split_at_checked(length).ok_or(Malformed)?;
        self.rest = rest;
        Ok(part)
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, Malformed> {
        match self.rest.split_first() {
            Some((byte, rest)) if *byte < 0x80 => {
                self.rest = rest;
                Ok(u64::from(*byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0_u64;
        for (place, byte) in self.rest.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                if place == 9 && *byte > 1 {
                    return Err(Malformed);
                }
                self.rest = &self.rest[place + 1..];
                return Ok(value);
            }
        }
        Err(Malformed)
    }
}

/// Reads the fields of one `pulso.v1.Pulse`.
///
/// # Errors
/// [`Malformed`] when the bytes are no such message.
#[inline]
pub fn pulse(bytes: &[u8]) -> Result<RawPulse<'_>, Malformed> {
    let mut raw = RawPulse::default();
    let mut fields = Fields::new(bytes);
    while let Some((number, value)) = fields.next_field()? {
        put(&mut raw, number, value)?;
    }
    Ok(raw)
}

/// What can be read of a `pulso.v1.Pulse`: every field up to the first bytes that make no sense.
#[must_use]
pub fn readable_pulse(bytes: &[u8]) -> RawPulse<'_> {
    let mut raw = RawPulse::default();
    let mut fields = Fields::new(bytes);
    while let Ok(Some((number, value))) = fields.next_field() {
        if put(&mut raw, number, value).is_err() {
            break;
        }
    }
    raw
}

#[inline]
fn put<'a>(raw: &mut RawPulse<'a>, number: u32, value: Value<'a>) -> Result<(), Malformed> {
    match (number, value) {
        (1, Value::Bytes(text)) => raw.id = text,
        (2, Value::Bytes(text)) => raw.tenant_id = text,
        (3, Value::Bytes(text)) => raw.product_sku = text,
        (4, Value::Bytes(text)) => raw.used_amount = text,
        (5, Value::Bytes(text)) => raw.use_unit = text,
        (6, Value::Bytes(message)) => {
            // An embedded message that comes twice is merged, field by field.
            raw.occurred_at = Some(timestamp(message, raw.occurred_at.unwrap_or_default())?);
        }
        (7, Value::Bytes(text)) => raw.region = text,
        (8, Value::Bytes(text)) => raw.resource_id = text,
        (9, Value::Bytes(entry)) => raw.tags.push(tag(entry)?),
        (1..=9, _) => return Err(Malformed),
        _ => {}
    }
    Ok(())
}

#[inline]
fn timestamp(bytes: &[u8], start: (i64, i32)) -> Result<(i64, i32), Malformed> {
    let (mut seconds, mut nanos) = start;
    let mut fields = Fields::new(bytes);
    while let Some((number, value)) = fields.next_field()? {
        match (number, value) {
            (1, Value::Varint(number)) => seconds = number.cast_signed(),
            // An int32 is sent as a sign-extended varint; the upper half is dropped, as protobuf says.
            (2, Value::Varint(number)) => nanos = (number as u32).cast_signed(),
            (1 | 2, _) => return Err(Malformed),
            _ => {}
        }
    }
    Ok((seconds, nanos))
}

fn tag(bytes: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let (mut key, mut value): (&[u8], &[u8]) = (&[], &[]);
    let mut fields = Fields::new(bytes);
    while let Some((number, field)) = fields.next_field()? {
        match (number, field) {
            (1, Value::Bytes(text)) => key = text,
            (2, Value::Bytes(text)) => value = text,
            (1 | 2, _) => return Err(Malformed),
            _ => {}
        }
    }
    Ok((key, value))
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::v1;

    fn sample() -> v1::Pulse {
        v1::Pulse {
            id: "p-1".into(),
            tenant_id: "acme".into(),
            product_sku: "vm".into(),
            used_amount: "1.5".into(),
            use_unit: "Hours".into(),
            occurred_at: Some(prost_types::Timestamp { seconds: -5, nanos: 7 }),
            region: "br-se1".into(),
            resource_id: "r".into(),
            tags: [("k".to_owned(), "v".to_owned())].into(),
        }
    }

    #[test]
    fn the_fields_are_those_of_the_generated_type() {
        let bytes = sample().encode_to_vec();
        let raw = pulse(&bytes).expect("good");
        assert_eq!((raw.id, raw.tenant_id, raw.product_sku), (&b"p-1"[..], &b"acme"[..], &b"vm"[..]));
        assert_eq!((raw.used_amount, raw.use_unit), (&b"1.5"[..], &b"Hours"[..]));
        assert_eq!(raw.occurred_at, Some((-5, 7)));
        assert_eq!((raw.region, raw.resource_id), (&b"br-se1"[..], &b"r"[..]));
        assert_eq!(raw.tags, [(&b"k"[..], &b"v"[..])]);
    }

    #[test]
    fn a_truncated_pulse_is_malformed_or_ends_at_a_field() {
        let bytes = sample().encode_to_vec();
        for end in 0..bytes.len() {
            // The generated decoder is the oracle for which prefixes are messages.
            assert_eq!(pulse(&bytes[..end]).is_ok(), v1::Pulse::decode(&bytes[..end]).is_ok(), "{end}");
        }
    }

    #[test]
    fn a_pulse_is_read_as_far_as_it_goes() {
        let good = sample().encode_to_vec();
        assert_eq!(readable_pulse(&good).region, b"br-se1");
        for end in 0..good.len() {
            let raw = readable_pulse(&good[..end]);
            assert!(raw.id.is_empty() || raw.id == b"p-1", "{end}");
        }
        // The amount as a double: nothing behind it is trusted.
        let mut float = v1::Pulse { id: "p".into(), ..Default::default() }.encode_to_vec();
        float.extend_from_slice(&[0x21, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0x2a, 1, b'h']);
        let raw = readable_pulse(&float);
        assert_eq!((raw.id, raw.used_amount, raw.use_unit), (&b"p"[..], &b""[..], &b""[..]));
        assert_eq!(readable_pulse(b"garbage").id, b"");
    }

    #[test]
    fn unknown_fields_are_passed_over_and_repeated_ones_count_last() {
        let mut bytes = sample().encode_to_vec();
        bytes.extend_from_slice(&[0xf8, 0x06, 0x01]); // field 111, varint 1
        bytes.extend_from_slice(&[0x0a, 0x01, b'z']); // id again
        assert_eq!(pulse(&bytes).expect("good").id, b"z");
    }
}
