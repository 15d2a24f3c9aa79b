//! The rows under criterion: statistics of one contestant at a time, and one change beside another.
//!
//! `cargo bench -p kilburn-bench --bench library [-- FILTER]`

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use kilburn_bench::rows;
use std::time::Duration;

fn library(criterion: &mut Criterion) {
    for row in rows::all() {
        let mut group = criterion.benchmark_group(row.name);
        group.measurement_time(Duration::from_secs(3)).sample_size(30);
        for mut contestant in (row.contestants)() {
            group.bench_function(BenchmarkId::from_parameter(contestant.name), |bencher| {
                bencher.iter_custom(|count| {
                    let (done, took) = (contestant.run)(count);
                    took.mul_f64(count as f64 / done as f64)
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, library);
criterion_main!(benches);
