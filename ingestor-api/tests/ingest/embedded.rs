//! The same door over the embedded log: receipts hold after a restart and over a border of generations, and a full disk costs
//! nothing that was accepted.

use std::path::Path;
use std::sync::Arc;

use prost::Message;
use pulso_ingestor_api::settings::IngestSettings;
use pulso_platform::log::Log;
use pulso_platform::log::embedded::{Disk, DiskOperation, EmbeddedLog, EmbeddedLogConfig, Fault, Faults};
use pulso_platform::log::generations::Generations;
use pulso_proto::v1::pulse_result::Status as Answer;
use pulso_proto::v1::{Pulse, PulseBatch, PulseResult};
use tokio::task::JoinSet;
use tonic::Code;

use crate::fixture::{PATIENCE, Server, TestLog, clock, is_accepted, pulses, request};

fn open(folder: &Path, disk: Disk) -> Arc<EmbeddedLog> {
    let config = EmbeddedLogConfig { disk, ..EmbeddedLogConfig::new(folder, 4, clock()) };
    Arc::new(EmbeddedLog::open(config).unwrap().0)
}

async fn serve(log: &Arc<EmbeddedLog>) -> Server {
    let log = Arc::clone(log) as Arc<dyn Log>;
    Server::over(IngestSettings::default(), log, Arc::new(TestLog::new(1))).await
}

/// The receipts name the pulses.
fn assert_held(log: &EmbeddedLog, sent: &[Pulse], results: &[PulseResult]) {
    for (pulse, result) in sent.iter().zip(results).filter(|(_, result)| is_accepted(result)) {
        let receipt = result.receipt.unwrap();
        let record = log.fetch(receipt.partition, &[receipt.offset]).unwrap().remove(0);
        let batch = PulseBatch::decode(&record.value[..]).unwrap();
        assert_eq!(batch.pulses[receipt.index as usize], *pulse);
    }
}

#[tokio::test]
async fn g01_receipts_hold_after_the_log_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), Disk::default());
    let server = serve(&log).await;
    let sent = pulses(300);
    let mut calls = JoinSet::new();
    // Many small calls at a time share records.
    for part in sent.chunks(10) {
        let (mut client, part) = (server.client().await, part.to_vec());
        calls.spawn(async move {
            let results = client.send_pulses(request(part.clone())).await.unwrap().into_inner().results;
            (part, results)
        });
    }
    let answered = calls.join_all().await;
    server.shutdown.cancel();
    server.ended().await.unwrap();
    log.close();
    drop(log);

    let log = open(folder.path(), Disk::default());
    assert_eq!(answered.len(), 30);
    for (sent, results) in &answered {
        assert_eq!(sent.len(), results.len());
        assert!(results.iter().all(is_accepted));
        assert_held(&log, sent, results);
    }
}

#[tokio::test]
async fn g12_a_full_disk_stops_the_acks_and_service_resumes_by_itself() {
    const NO_SPACE: i32 = 28;
    let folder = tempfile::tempdir().unwrap();
    let faults = Arc::new(Faults::default());
    let log = open(folder.path(), Disk::failing(&faults));
    let server = serve(&log).await;
    let before = pulses(50);
    let kept = server.send(before.clone()).await.unwrap();
    assert!(kept.iter().all(is_accepted));

    faults.plan(Fault { operation: DiskOperation::Write, skip: 0, times: u64::MAX, errno: NO_SPACE });
    for _ in 0..3 {
        match server.send(pulses(50)).await {
            Ok(results) => assert!(results.iter().all(|result| result.status() == Answer::Unknown)),
            Err(status) => assert_eq!(status.code(), Code::Unavailable),
        }
    }
    faults.clear();
    let resumed = async {
        loop {
            if let Ok(results) = server.send(pulses(50)).await
                && results.iter().all(is_accepted)
            {
                return results;
            }
            tokio::task::yield_now().await;
        }
    };
    let after = tokio::time::timeout(PATIENCE, resumed).await.unwrap();
    assert_held(&log, &before, &kept);
    assert_held(&log, &pulses(50), &after);
}

#[tokio::test]
async fn g01_a_running_door_goes_on_in_the_next_generation_and_every_receipt_holds() {
    let folder = tempfile::tempdir().unwrap();
    let of = |generation: u32, partitions: u32| {
        let folder = folder.path().join(generation.to_string());
        let config = EmbeddedLogConfig { generation, ..EmbeddedLogConfig::new(folder, partitions, clock()) };
        Arc::new(EmbeddedLog::open(config).unwrap().0)
    };
    let (first, second) = (of(1, 4), of(2, 7));
    let log = Arc::new(Generations::new(vec![Arc::clone(&first)]));
    let server =
        Server::over(IngestSettings::default(), Arc::clone(&log) as Arc<dyn Log>, Arc::new(TestLog::new(1)))
            .await;
    let before = pulses(300);
    let answered = server.send(before.clone()).await.unwrap();
    assert!(answered.iter().all(|result| is_accepted(result) && result.receipt.unwrap().generation == 1));
    assert_held(&first, &before, &answered);

    log.follow(Arc::clone(&second));
    let after = async {
        loop {
            let answered = server.send(pulses(300)).await.unwrap();
            assert!(answered.iter().all(is_accepted));
            if answered.iter().all(|result| result.receipt.unwrap().generation == 2) {
                return answered;
            }
        }
    };
    let after = tokio::time::timeout(PATIENCE, after).await.unwrap();
    assert_held(&second, &before, &after);
    server.shutdown.cancel();
    server.ended().await.unwrap();
}
