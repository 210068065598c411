//! Every stage of one message as time: `cargo bench -p rookery-stages`. Figures are per round; the throughput that
//! criterion prints beside them is per message (of `fan-out`, per delivery).

#![allow(
    clippy::panic,
    missing_docs,
    reason = "a measurement that fails says why by panicking; main is a macro's"
)]

use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rookery_stages::STAGES;

/// As in the program itself.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn stages(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("stages");
    for stage in STAGES {
        let mut work = stage.work().unwrap_or_else(|fault| panic!("{}: {fault:#}", stage.name));
        group.throughput(Throughput::Elements(stage.messages as u64));
        group.bench_function(stage.name, |bencher| {
            bencher.iter_custom(|rounds| {
                let mut time = Duration::ZERO;
                for _ in 0..rounds {
                    let prepared = work.prepare();
                    let begin = Instant::now();
                    let done = work.round();
                    time += begin.elapsed();
                    if let Err(fault) = prepared.and(done) {
                        panic!("{}: {fault:#}", stage.name);
                    }
                }
                time
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = all;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = stages
}
criterion_main!(all);
