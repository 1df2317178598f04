//! Received pulses are the sum of their outcomes, also of calls that nobody waited for.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use parking_lot::Mutex;
use prost::Message;
use pulso_ingestor_api::door::{Caller, UnitBook};
use pulso_ingestor_api::ingest::Ingest;
use pulso_ingestor_api::metrics::{CALLS_FAILED, PULSES, PULSES_RECEIVED, PULSES_REJECTED, REQUEST_BYTES};
use pulso_ingestor_api::settings::IngestSettings;
use pulso_proto::v1::Pulse;

use crate::fixture::log::Does;
use crate::fixture::{TestLog, clock, deps, pulse, pulses, request};

/// Keeps the counters, by name and first label.
#[derive(Default)]
struct Counters(Mutex<HashMap<String, Arc<AtomicU64>>>);

impl Counters {
    fn of(&self, name: &str) -> u64 {
        let counters = self.0.lock();
        let of_name = counters.iter().filter(|(key, _)| key.split('|').next() == Some(name));
        of_name.map(|(_, counter)| counter.load(Ordering::Relaxed)).sum()
    }

    fn labelled(&self, name: &str, label: &str) -> u64 {
        self.0.lock()[&format!("{name}|{label}")].load(Ordering::Relaxed)
    }
}

impl Recorder for Counters {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let label = key.labels().next().map_or("", metrics::Label::value);
        let mut counters = self.0.lock();
        Counter::from_arc(Arc::clone(counters.entry(format!("{}|{label}", key.name())).or_default()))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

fn mixed() -> Bytes {
    let mut sent = pulses(90);
    sent.extend((0..7).map(|_| Pulse { id: String::new(), ..pulse("") }));
    sent.extend((0..3).map(|_| Pulse { used_amount: "-1".into(), ..pulse("n") }));
    Bytes::from(request(sent).encode_to_vec())
}

#[tokio::test]
async fn received_pulses_are_the_sum_of_their_outcomes() {
    let counters = Counters::default();
    let log = Arc::new(TestLog::new(4));
    let start =
        || Ingest::start(IngestSettings::default(), deps(Arc::clone(&log), clock(), UnitBook::default()));
    let (ingest, tasks) = metrics::with_local_recorder(&counters, start);

    ingest.handle(mixed(), Caller::default()).await.unwrap();
    log.do_from_now(Does::Doubt);
    ingest.handle(mixed(), Caller::default()).await.unwrap();
    log.do_from_now(Does::Refuse);
    ingest.handle(mixed(), Caller::default()).await.unwrap_err();
    ingest.handle(Bytes::from_static(b"\xff"), Caller::default()).await.unwrap_err();
    log.do_from_now(Does::Hold);
    {
        let cancelled = ingest.handle(mixed(), Caller::default());
        tokio::pin!(cancelled);
        assert!(futures::poll!(&mut cancelled).is_pending());
    }
    assert_eq!(counters.of(PULSES_RECEIVED), 400);
    assert_eq!(counters.of(PULSES), 300, "the cancelled call is still in flight");
    log.release();
    tasks.stop().await;

    assert_eq!(counters.of(PULSES), counters.of(PULSES_RECEIVED));
    assert_eq!(counters.labelled(PULSES, "accepted"), 180);
    assert_eq!(counters.labelled(PULSES, "rejected"), 30);
    assert_eq!(counters.labelled(PULSES, "unknown"), 90);
    assert_eq!(counters.labelled(PULSES, "refused"), 100);
    assert_eq!(counters.labelled(PULSES_REJECTED, "EMPTY_ID"), 21);
    assert_eq!(counters.labelled(PULSES_REJECTED, "NEGATIVE_AMOUNT"), 9);
    assert_eq!(counters.of(PULSES_REJECTED), 30);
    assert_eq!(counters.of(REQUEST_BYTES), 4 * mixed().len() as u64);
    assert_eq!(counters.labelled(CALLS_FAILED, "LOG_UNAVAILABLE"), 1);
    assert_eq!(counters.labelled(CALLS_FAILED, "NOT_PROTOBUF"), 1);
}
