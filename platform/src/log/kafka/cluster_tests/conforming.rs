//! The conformance suite on a real broker.

use std::sync::Arc;

use super::{fresh, one_broker, open};
use crate::log::Log;
use crate::log::conformance::{Reopenable, run_all};
use crate::log::kafka::{KafkaLog, KafkaSettings, TopicPlan};

struct Subject {
    settings: KafkaSettings,
    plan: TopicPlan,
    log: Option<Arc<KafkaLog>>,
}

impl Reopenable for Subject {
    fn log(&self) -> Arc<dyn Log> {
        self.log.clone().unwrap()
    }

    fn reopen(&mut self) {
        self.log = None;
        self.log = Some(open(&self.settings, &self.plan));
    }
}

#[test]
fn the_kafka_log_passes_the_conformance_suite() {
    run_all(&|| {
        let settings = one_broker();
        let (plan, log) = fresh(&settings);
        Subject { settings, plan, log: Some(log) }
    });
}
