//! What a batch of 100 records of 200 bytes costs to encode, join, parse and decode, in bytes of bodies per second.
//!
//! Log lines compress, so their batch carries an LZ4 block; random bytes do not, so theirs is plain. The two bound what
//! the codec costs: with LZ4 at its busiest, and without it.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use inkstone_storage::format::batch::{Batches, EncodedBatch, join};
use inkstone_storage::types::{Codec, LogId, NewRecord};

const RECORDS: u64 = 100;
const BODY_SIZE: usize = 200;

fn log_line(number: u64) -> Vec<u8> {
    let status = [200, 200, 200, 304, 404, 500][usize::try_from(number % 6).expect("below 6")];
    let mut line = format!(
        "2026-11-21T07:{:02}:{:02}.{:06}Z INFO http request finished method=GET path=/api/v1/users/{} \
         status={status} latency_us={} client=10.1.{}.{} user_agent=\"Mozilla/5.0 (X11; Linux x86_64)\" id={:016x}",
        number / 60 % 60,
        number % 60,
        number * 7_919 % 1_000_000,
        number * 31 % 10_007,
        number * 104_729 % 50_000,
        number % 7,
        number * 13 % 251,
        number.wrapping_mul(0x9e37_79b9_7f4a_7c15),
    )
    .into_bytes();
    line.resize(BODY_SIZE, b' ');
    line
}

fn random_bytes(number: u64) -> Vec<u8> {
    let mut state = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let next = || {
        // xorshift64: noise enough for LZ4, and the same in every run.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    std::iter::repeat_with(next)
        .flat_map(u64::to_le_bytes)
        .take(BODY_SIZE)
        .collect()
}

fn records(body: fn(u64) -> Vec<u8>) -> Vec<NewRecord> {
    (0..RECORDS)
        .map(|number| NewRecord {
            timestamp: 1_795_000_000_000_000_000 + 1_000_003 * number.cast_signed(),
            attributes: Vec::new(),
            body: Bytes::from(body(number)),
        })
        .collect()
}

fn encode(records: &[NewRecord]) -> EncodedBatch {
    EncodedBatch::encode(LogId(1), None, None, records)
}

fn codec(criterion: &mut Criterion) {
    let kinds = [
        ("log lines", records(log_line)),
        ("random", records(random_bytes)),
    ];
    let mut group = criterion.benchmark_group("codec");
    group.throughput(Throughput::Bytes(RECORDS * BODY_SIZE as u64));
    for (name, records) in &kinds {
        let batch = encode(records);
        let compressed = batch.header.codec == Codec::Lz4;
        assert_eq!(
            compressed,
            *name == "log lines",
            "{name} is the wrong kind of data"
        );
        let payload = join(std::slice::from_ref(&batch), 0);
        group.bench_with_input(
            BenchmarkId::new("encode", name),
            records,
            |bencher, records| {
                bencher.iter(|| encode(black_box(records)));
            },
        );
        group.bench_with_input(BenchmarkId::new("join", name), &batch, |bencher, batch| {
            bencher.iter(|| join(std::slice::from_ref(black_box(batch)), 0));
        });
        group.bench_with_input(
            BenchmarkId::new("parse", name),
            &payload,
            |bencher, payload| {
                bencher.iter(|| Batches::parse(black_box(payload.clone())));
            },
        );
        group.bench_with_input(
            BenchmarkId::new("decode", name),
            &payload,
            |bencher, payload| {
                bencher.iter(|| {
                    let batches =
                        Batches::parse(black_box(payload.clone())).expect("it was joined");
                    batches.records(0, 0).expect("it was encoded")
                });
            },
        );
    }
    group.finish();
}

criterion_group!(benches, codec);
criterion_main!(benches);
