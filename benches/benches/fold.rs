//! Folding one partition's records into a store in memory: prepare, apply, and one flush at the end.

use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use pulso_benches::mix::{Mix, Pulses};
use pulso_benches::records;
use pulso_benches::role::fold::worker;
use pulso_platform::log::{LogLayout, LogRecord};
use pulso_platform::store::Store;
use pulso_platform::store::memory::MemoryStore;
use xxhash_rust::xxh3::xxh3_64;

const RECORDS: usize = 64;
const PULSES: usize = RECORDS * records::BATCH;

fn fold(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fold");
    for (name, mix) in Mix::ALL {
        let records = log_records(mix);
        group.throughput(Throughput::Elements(PULSES as u64));
        group.bench_function(name, |bencher| {
            let fresh = || {
                let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
                let layout = LogLayout { generation: 1, partitions: 1, log_id: [1; 16] };
                worker(&store, &layout, 0).expect("an empty store")
            };
            bencher.iter_batched(
                fresh,
                |mut worker| {
                    records.iter().for_each(|record| worker.fold_record(record).expect("folds"));
                    worker.flush().expect("memory takes it");
                    worker
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

fn log_records(mix: Mix) -> Vec<LogRecord> {
    let mut pulses = Pulses::new(mix, PULSES as u64, records::base_seconds(), 1);
    let record = |offset| {
        let (partition, value) = records::records(pulses.batch(records::BATCH), 1).remove(0);
        LogRecord { partition, offset, appended_at_nanos: 0, digest: xxh3_64(&value), value }
    };
    (0..RECORDS as u64).map(record).collect()
}

criterion_group!(benches, fold);
criterion_main!(benches);
