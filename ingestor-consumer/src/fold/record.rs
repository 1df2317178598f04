//! A log record, read: its format version, its control fact, its pulses as slices.

use prost::Message;
use pulso_proto::v1;
use pulso_proto::walk::{Fields, Malformed, Value};

/// The newest record format that this binary reads. A record is written in the lowest one that can say what it holds:
/// pulses and older facts in 1; 2 adds what is done about dead letters, which a binary of version 1 must not pass over; 3 adds
/// where moved pulses come from, and is that of a seal.
pub const RECORD_FORMAT: u32 = MOVED_FORMAT;
/// The format of records that say what is done about dead letters.
pub const ACTIONS_FORMAT: u32 = 2;
/// The format of records whose pulses were moved.
pub const MOVED_FORMAT: u32 = 3;

/// What a record's value holds.
#[derive(Debug, Default)]
pub struct RecordParts<'a> {
    /// Its format version.
    pub format_version: u32,
    /// Its fact, if it is a control record.
    pub control: Option<v1::control::Fact>,
    /// The bytes of each pulse.
    pub pulses: Vec<&'a [u8]>,
    /// The bytes of each `DeadLetterAction`, when its pulses are dead letters that are sent again.
    pub replays: Vec<&'a [u8]>,
    /// When the ingestor received it, as bytes.
    pub received_at: Option<&'a [u8]>,
    /// Where its pulses arrived, when they were moved.
    pub moved_from: Option<v1::MovedFrom>,
}

/// Splits a record's value. A version above [`RECORD_FORMAT`] is given back without looking at the rest.
///
/// # Errors
/// [`Malformed`] when it is no `pulso.v1.PulseBatch`.
pub fn split<'a>(value: &'a [u8], parts: &mut RecordParts<'a>) -> Result<(), Malformed> {
    parts.format_version = format_version(value)?;
    if parts.format_version > RECORD_FORMAT {
        return Ok(());
    }
    let mut rest = value;
    loop {
        rest = short_pulses(rest, &mut parts.pulses);
        let mut fields = Fields::new(rest);
        let Some((number, field)) = fields.next_field()? else { break };
        rest = fields.rest();
        match (number, field) {
            (1, Value::Varint(_)) => {}
            (2, Value::Bytes(received_at)) => parts.received_at = Some(received_at),
            (3, Value::Bytes(bytes)) => {
                let control = v1::Control::decode(bytes).map_err(|_| Malformed)?;
                // A fact that this binary does not know would be folded wrongly by leaving it out.
                parts.control = Some(control.fact.ok_or(Malformed)?);
            }
            (4, Value::Bytes(pulse)) => parts.pulses.push(pulse),
            (5, Value::Bytes(replay)) => parts.replays.push(replay),
            (6, Value::Bytes(origin)) => {
                parts.moved_from = Some(v1::MovedFrom::decode(origin).map_err(|_| Malformed)?);
            }
            (1..=4, _) => return Err(Malformed),
            _ => {}
        }
    }
    let empty = parts.control.is_none() && parts.pulses.is_empty();
    if parts.format_version == 0 || empty { Err(Malformed) } else { Ok(()) }
}

/// Takes the pulses of less than 128 bytes that stand in a row: nearly all of a record. Gives what is behind them.
#[inline]
fn short_pulses<'a>(mut rest: &'a [u8], pulses: &mut Vec<&'a [u8]>) -> &'a [u8] {
    // The key of field 4, of bytes, then a length of one byte.
    while let [0x22, length @ ..0x80, behind @ ..] = rest {
        let Some((pulse, after)) = behind.split_at_checked(usize::from(*length)) else { break };
        pulses.push(pulse);
        rest = after;
    }
    rest
}

fn format_version(value: &[u8]) -> Result<u32, Malformed> {
    let mut version = 0;
    let mut fields = Fields::new(value);
    while let Some((number, field)) = fields.next_field()? {
        match (number, field) {
            // The version leads, so that the usual record is not walked twice.
            (1, Value::Varint(found)) => return u32::try_from(found).map_err(|_| Malformed),
            (1, _) => return Err(Malformed),
            _ => version = 0,
        }
    }
    Ok(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_split_into_the_bytes_of_its_pulses() {
        let pulse = v1::Pulse { id: "a".into(), ..Default::default() };
        let batch = v1::PulseBatch {
            format_version: 1,
            pulses: vec![pulse.clone(), pulse.clone()],
            ..Default::default()
        };
        let value = batch.encode_to_vec();
        let mut parts = RecordParts::default();
        split(&value, &mut parts).expect("good");
        assert_eq!(parts.pulses, [pulse.encode_to_vec(), pulse.encode_to_vec()]);
    }

    #[test]
    fn bytes_that_are_no_record_are_malformed_and_a_newer_one_is_told_by_its_version() {
        let split = |value: &[u8]| split(value, &mut RecordParts::default());
        assert!(split(b"").is_err());
        assert!(split(b"garbage").is_err());
        assert!(split(&v1::PulseBatch { format_version: 1, ..Default::default() }.encode_to_vec()).is_err());
        let newer =
            v1::PulseBatch { format_version: RECORD_FORMAT + 1, ..Default::default() }.encode_to_vec();
        let mut parts = RecordParts::default();
        super::split(&newer, &mut parts).expect("only the version is read");
        assert_eq!(parts.format_version, RECORD_FORMAT + 1);
    }
}
