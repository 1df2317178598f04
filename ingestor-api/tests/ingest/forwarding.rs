//! What reaches the log is what was sent, byte for byte and in order, whatever the mix; and what is answered is what
//! became of it. In process, with many random batches.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;
use pulso_domain::partitioner::partition_of;
use pulso_ingestor_api::door::{Caller, UnitBook};
use pulso_ingestor_api::ingest::Ingest;
use pulso_ingestor_api::refusal::IngestError;
use pulso_ingestor_api::settings::IngestSettings;
use pulso_proto::v1::pulse_result::Status as Answer;
use pulso_proto::v1::{Pulse, SendPulsesRequest, SendPulsesResponse};

use crate::fixture::log::Does;
use crate::fixture::{TestLog, clock, deps, pulse, request};

const PARTITIONS: u32 = 4;

/// Runs one request against a fresh door, within a runtime of its own.
fn handle(message: Bytes, does: &[Does]) -> (Result<SendPulsesResponse, IngestError>, Arc<TestLog>) {
    let log = Arc::new(TestLog::new(PARTITIONS));
    for (partition, does) in (0..).zip(does) {
        log.do_in(partition, *does);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let answer = runtime.block_on(async {
        let (ingest, tasks) =
            Ingest::start(IngestSettings::default(), deps(Arc::clone(&log), clock(), UnitBook::default()));
        let answer = ingest.handle(message, Caller::default()).await;
        tasks.stop().await;
        assert_eq!((ingest.admission().bytes(), ingest.admission().calls()), (0, 0));
        answer
    });
    (answer.map(|bytes| SendPulsesResponse::decode(bytes).unwrap()), log)
}

prop_compose! {
    fn any_pulse()(
        tenant in 0..9_u32,
        resource_bytes in prop_oneof![4 => 0..40_usize, 1 => 400..600_usize],
        amount in prop_oneof![9 => Just("2.5"), 1 => Just("-1"), 1 => Just("1e5")],
        tags in prop::collection::hash_map("[a-z]{1,3}", "[a-z]{0,9}", 0..3),
        has_id in prop::bool::weighted(0.95),
    ) -> Pulse {
        Pulse {
            id: if has_id { "some-id".into() } else { String::new() },
            tenant_id: format!("tenant-{tenant}"),
            resource_id: "r".repeat(resource_bytes),
            used_amount: amount.into(),
            tags,
            ..pulse("")
        }
    }
}

fn any_does() -> impl Strategy<Value = Does> {
    prop_oneof![4 => Just(Does::Store), 1 => Just(Does::Refuse), 1 => Just(Does::Doubt)]
}

fn is_good(pulse: &Pulse) -> bool {
    !pulse.id.is_empty() && pulse.used_amount == "2.5" && pulse.resource_id.len() <= 512
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn g05_the_log_holds_exactly_the_good_pulses_in_order_and_each_answer_is_true(
        mut sent in prop::collection::vec(any_pulse(), 1..400),
        does in prop::collection::vec(any_does(), PARTITIONS as usize),
    ) {
        for (index, pulse) in sent.iter_mut().enumerate().filter(|(_, pulse)| !pulse.id.is_empty()) {
            pulse.id = format!("p-{index}");
        }
        let (answer, log) = handle(Bytes::from(request(sent.clone()).encode_to_vec()), &does);
        let partition = |pulse: &Pulse| partition_of(pulse.tenant_id.as_bytes(), PARTITIONS);
        let does_of = |pulse: &Pulse| does[partition(pulse) as usize];
        for (index, does) in does.iter().enumerate() {
            let index = u32::try_from(index).unwrap();
            let stored: Vec<Pulse> = log.records(index).into_iter().flat_map(|batch| batch.pulses).collect();
            let here = sent.iter().filter(|pulse| is_good(pulse) && partition(pulse) == index);
            let expected: Vec<Pulse> = here.filter(|_| *does != Does::Refuse).cloned().collect();
            prop_assert_eq!(stored, expected);
        }
        let good: Vec<&Pulse> = sent.iter().filter(|pulse| is_good(pulse)).collect();
        if !good.is_empty() && good.iter().all(|pulse| does_of(pulse) == Does::Refuse) {
            prop_assert_eq!(answer.unwrap_err(), IngestError::LogUnavailable);
            return Ok(());
        }
        let results = answer.unwrap().results;
        prop_assert_eq!(results.len(), sent.len());
        for (pulse, result) in sent.iter().zip(&results) {
            if !is_good(pulse) {
                prop_assert_eq!(result.status(), Answer::Rejected);
                prop_assert!(!result.reason.is_empty() && !result.field.is_empty() && result.receipt.is_none());
            } else if does_of(pulse) == Does::Store {
                prop_assert_eq!(result.status(), Answer::Accepted);
                prop_assert_eq!(&log.at(result.receipt.as_ref().unwrap()), pulse);
                prop_assert!(result.reason.is_empty() && result.message.is_empty());
            } else {
                prop_assert_eq!(result.status(), Answer::Unknown);
                prop_assert!(result.receipt.is_none());
            }
        }
    }

    #[test]
    fn any_bytes_are_answered_or_refused_as_the_generated_decoder_would(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        at in 0..400_usize,
    ) {
        // Random bytes, and random bytes in the middle of a good request.
        let mut spliced = request(vec![pulse("a"), pulse("b"), pulse("c")]).encode_to_vec();
        let at = at % spliced.len();
        spliced.splice(at..at, bytes.iter().take(3).copied());
        for message in [bytes, spliced] {
            let oracle = SendPulsesRequest::decode(&message[..]);
            let (answer, log) = handle(Bytes::from(message), &[]);
            match (&oracle, &answer) {
                (Ok(request), Ok(answer)) => prop_assert_eq!(request.pulses.len(), answer.results.len()),
                (Ok(request), Err(error)) => {
                    prop_assert_eq!(error, &IngestError::EmptyBatch);
                    prop_assert!(request.pulses.is_empty());
                }
                // Text that is not UTF-8 fails the generated decoder and rejects one pulse here.
                (Err(_), Ok(answer)) => {
                    prop_assert!(answer.results.iter().any(|result| result.reason == "INVALID_UTF8"));
                }
                (Err(_), Err(_)) => prop_assert_eq!(log.stored(), 0),
            }
        }
    }
}
