//! Dead letters as messages of the topic `resource-consumption.dlq`, where the log is Kafka. Each flush writes its own there and
//! waits for them before the progress passes the records that they came from; while the topic takes none, the partition waits.

use std::sync::Arc;

use pulso_platform::log::LogError;
use pulso_platform::log::kafka::KafkaSettings;
use pulso_platform::log::kafka::letters::{LetterProducer, LetterRecord};

use crate::fold::letter_message::{LetterMessage, LetterOutlet};

/// Connects to the dead letters' topic of a log's topic. Blocks.
///
/// # Errors
/// One sentence with the mend: the topic is not there, or takes less than the log's with 64 KiB more.
pub fn open(settings: &KafkaSettings, log_topic: &str) -> Result<Arc<LetterOutlet>, LogError> {
    let producer = LetterProducer::open(settings, log_topic)?;
    Ok(Arc::new(move |letters: &[LetterMessage]| {
        let records: Vec<LetterRecord> = letters.iter().map(record).collect();
        producer.write(&records).map_err(|error| format!("dead letters cannot be written: {error}"))
    }))
}

fn record(letter: &LetterMessage) -> LetterRecord {
    let LetterMessage { partition, key, value, headers } = letter.clone();
    LetterRecord { partition, key, value, headers }
}
