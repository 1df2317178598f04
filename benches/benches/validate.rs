//! Reading and checking pulses: the full walk with every check, and the quick yes that nearly all pulses get.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use prost::Message as _;
use pulso_benches::mix::{Mix, Pulses};
use pulso_benches::records;
use pulso_domain::pulse::check;
use pulso_proto::{plain, walk};

fn validate(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("validate");
    for (name, mix) in Mix::ALL {
        let pulses: Vec<Vec<u8>> =
            Pulses::new(mix, 1000, records::base_seconds(), 1).map(|pulse| pulse.encode_to_vec()).collect();
        group.throughput(Throughput::Elements(pulses.len() as u64));
        group.bench_function(format!("walk and check, {name}"), |bencher| {
            bencher.iter(|| {
                for bytes in &pulses {
                    let raw = walk::pulse(black_box(bytes)).expect("made to be good");
                    black_box(check(&raw).expect("made to be good"));
                }
            });
        });
        group.bench_function(format!("quick yes, {name}"), |bencher| {
            bencher.iter(|| {
                for bytes in &pulses {
                    black_box(plain::read(black_box(bytes)).expect("made to be plain"));
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, validate);
criterion_main!(benches);
