//! A dead letter as a message of the topic `resource-consumption.dlq`, for those who watch the log and not the store: the
//! original bytes, and what is known of them in headers that any Kafka tool shows. Pure; whoever writes the topic confirms
//! it before the checkpoint passes. The key is the letter's origin: a second copy is the same letter.

use bytes::Bytes;
use pulso_domain::reason::Reason;
use pulso_proto::v1;

/// How much larger the dead letters' messages may be than those of the log: a whole record, and its headers.
pub const HEADERS_BYTES_MAX: usize = 64 * 1024;

/// One message of the topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LetterMessage {
    /// The partition of the log that it came from.
    pub partition: u32,
    /// The letter's id, `generation:partition:offset:index`; a whole record has no index.
    pub key: String,
    /// The original bytes, never changed.
    pub value: Bytes,
    /// What is known of them, as text.
    pub headers: Vec<(&'static str, String)>,
}

/// Takes letters of one flush, and answers once all of them are durable: only then the checkpoint passes. An error has
/// the same letters written again, which leaves a second copy of what was written.
pub type LetterOutlet = dyn Fn(&[LetterMessage]) -> Result<(), String> + Send + Sync;

impl LetterMessage {
    /// The message of a letter.
    #[must_use]
    pub fn of(letter: &v1::DeadLetter) -> Self {
        let reason = u8::try_from(letter.reason).ok().and_then(Reason::from_byte);
        let mut headers = vec![
            ("reason", reason.map_or_else(|| letter.reason.to_string(), |reason| reason.code().to_owned())),
            ("detail", letter.detail.clone()),
            ("origin_topic", letter.origin_topic.clone()),
            ("origin_partition", letter.origin_partition.to_string()),
            ("origin_generation", letter.origin_generation.to_string()),
            ("origin_offset", letter.origin_offset.to_string()),
        ];
        headers.extend(letter.origin_index.map(|index| ("origin_index", index.to_string())));
        headers.push(("appended_at_nanos", letter.appended_at_nanos.to_string()));
        if !letter.tenant_id.is_empty() {
            // As much of it as a tenant id may have, twice over: a bad one can be as long as a record.
            headers.push(("tenant_id", letter.tenant_id.chars().take(128).collect()));
        }
        Self { partition: letter.origin_partition, key: id(letter), value: letter.original.clone(), headers }
    }
}

/// The letter's id, as the API and the command line have it.
fn id(letter: &v1::DeadLetter) -> String {
    let (generation, partition) = (letter.origin_generation, letter.origin_partition);
    let record = format!("{generation}:{partition}:{}", letter.origin_offset);
    letter.origin_index.map_or_else(|| record.clone(), |index| format!("{record}:{index}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter() -> v1::DeadLetter {
        v1::DeadLetter {
            reason: Reason::IdConflict as u32,
            detail: "the id was counted at 1:5:0 with another payload".into(),
            origin_topic: "resource-consumption".into(),
            origin_partition: 3,
            origin_generation: 1,
            origin_offset: 1024,
            origin_index: Some(17),
            appended_at_nanos: 1_767_225_600_000_000_001,
            original: Bytes::from_static(b"\x0a\x01a"),
            tenant_id: "acme".into(),
            ..Default::default()
        }
    }

    #[test]
    fn a_message_has_the_original_bytes_and_says_the_rest_in_headers() {
        let message = LetterMessage::of(&letter());
        assert_eq!((message.key.as_str(), message.partition), ("1:3:1024:17", 3));
        assert_eq!(&message.value[..], b"\x0a\x01a");
        let expected = [
            ("reason", "ID_CONFLICT"),
            ("detail", "the id was counted at 1:5:0 with another payload"),
            ("origin_topic", "resource-consumption"),
            ("origin_partition", "3"),
            ("origin_generation", "1"),
            ("origin_offset", "1024"),
            ("origin_index", "17"),
            ("appended_at_nanos", "1767225600000000001"),
            ("tenant_id", "acme"),
        ];
        assert_eq!(message.headers, expected.map(|(name, value)| (name, value.to_owned())));
        assert_eq!(LetterMessage::of(&letter()), message, "the same letter is the same message");
    }

    #[test]
    fn a_whole_record_has_no_index_and_the_headers_stay_within_their_bound() {
        let whole = v1::DeadLetter { origin_index: None, tenant_id: "ç".repeat(500_000), ..letter() };
        let message = LetterMessage::of(&whole);
        assert_eq!(message.key, "1:3:1024");
        assert!(message.headers.iter().all(|(name, _)| *name != "origin_index"));
        let bytes: usize = message.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        assert!(bytes < HEADERS_BYTES_MAX, "{bytes}");
    }
}
