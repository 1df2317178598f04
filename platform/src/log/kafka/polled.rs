//! A producing client and the thread that takes its delivery reports.
//!
//! The client's own threaded producer waits a tenth of a second at a time, and its last millisecond of each wait is a busy
//! loop, since a rest below one millisecond is asked for as none: one core's hundredth for every client that has nothing to
//! do. This one waits ten times as long. Nobody waits for its thread: it ends by itself once the client is let go.

use std::ops::Deref;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, ProducerContext};

use crate::log::LogError;

/// How long the thread waits for a report at a time; also how long it may outlive the client.
const WAIT: Duration = Duration::from_secs(1);

/// A client whose reports are taken as they come.
pub(super) struct PolledProducer<C: ProducerContext + 'static>(Arc<BaseProducer<C>>);

impl<C: ProducerContext + 'static> PolledProducer<C> {
    /// Connects nothing yet: the client does that when it is used.
    ///
    /// # Errors
    /// When a setting is wrong, or the machine has no thread left.
    pub(super) fn create(config: &ClientConfig, context: C) -> Result<Self, LogError> {
        let producer: BaseProducer<C> = config
            .create_with_context(context)
            .map_err(|error| LogError::Misconfigured(error.to_string()))?;
        let producer = Arc::new(producer);
        let polled = Arc::downgrade(&producer);
        let polling = move || {
            while let Some(producer) = polled.upgrade() {
                producer.poll(WAIT);
            }
        };
        thread::Builder::new()
            .name("pulso-kafka-reports".to_owned())
            .spawn(polling)
            .map_err(|error| LogError::Unavailable(format!("no thread for the brokers' reports: {error}")))?;
        Ok(Self(producer))
    }
}

impl<C: ProducerContext + 'static> Deref for PolledProducer<C> {
    type Target = BaseProducer<C>;

    fn deref(&self) -> &BaseProducer<C> {
        &self.0
    }
}
