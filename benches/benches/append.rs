//! Appending records of 1,000 pulses to the embedded log and waiting until they are durable.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pulso_benches::mix::{Mix, Pulses};
use pulso_benches::records::{self, BATCH, PARTITIONS};
use pulso_platform::log::Log as _;

fn append(criterion: &mut Criterion) {
    let folder = tempfile::tempdir_in(std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| ".".to_owned()));
    let folder = folder.expect("a folder on the disk to be measured");
    let log = records::open(folder.path()).expect("a new log");
    let pulses = Pulses::new(Mix::COUNTED, BATCH as u64, records::base_seconds(), 1).collect();
    let (partition, value) = records::records(pulses, PARTITIONS).remove(0);
    let mut group = criterion.benchmark_group("append");
    for in_flight in [1_u64, 16, 64] {
        group.throughput(Throughput::Bytes(value.len() as u64 * in_flight));
        group.bench_function(format!("{in_flight} records on their way"), |bencher| {
            bencher.iter(|| {
                let replies: Vec<_> =
                    (0..in_flight).map(|_| log.append(partition, vec![value.clone()])).collect();
                for reply in replies {
                    reply.blocking_recv().expect("answers").expect("durable");
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, append);
criterion_main!(benches);
