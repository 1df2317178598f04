//! The whole door without socket and log: a request's bytes are judged, sorted by partition, packed and answered.

use std::sync::Arc;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use prost::Message as _;
use pulso_benches::mix::{Mix, Pulses};
use pulso_benches::null_log::NullLog;
use pulso_benches::records::{self, BATCH};
use pulso_ingestor_api::door::{Caller, Floor, UnitBook};
use pulso_ingestor_api::ingest::{Ingest, IngestDeps};
use pulso_ingestor_api::settings::IngestSettings;
use pulso_platform::service::clock::Clock;
use pulso_proto::v1::SendPulsesRequest;

fn pack(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let deps = IngestDeps {
        log: Arc::new(NullLog::default()),
        clock: Clock::System,
        units: UnitBook::default(),
        floor: Floor::default(),
    };
    let (ingest, _tasks) = runtime.block_on(async { Ingest::start(IngestSettings::default(), deps) });
    let mut group = criterion.benchmark_group("pack");
    for (name, mix) in Mix::ALL {
        let pulses = Pulses::new(mix, BATCH as u64, records::base_seconds(), 1).collect();
        let request = SendPulsesRequest { pulses, request_id: String::new() };
        let request = Bytes::from(request.encode_to_vec());
        group.throughput(Throughput::Elements(BATCH as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let answer = ingest.handle(request.clone(), Caller::default());
                runtime.block_on(answer).expect("is taken")
            });
        });
    }
    group.finish();
}

criterion_group!(benches, pack);
criterion_main!(benches);
