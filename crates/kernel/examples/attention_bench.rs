//! How close attention comes to the machine's ceilings.
//!
//! ```text
//! cargo run --release -p longleaf-kernel --example attention_bench -- [threads] [repeats] [words…]
//! ```
//!
//! Only measurements whose line holds all the words are taken. Prefill is held against the rate of products, decode against the rate of reading memory, both measured here.
//! Products of masked pairs are not counted.
#![expect(unsafe_code, reason = "the peak is measured with bare instructions")]
#![expect(clippy::print_stdout, reason = "a report")]
use longleaf_kernel::{Attend, BLOCK_TOKENS, Compute, KvBlock, KvFormat, KvView, Pool, supported};
use std::hint::black_box;
#[cfg(not(target_os = "linux"))]
use std::time::Instant;

struct Model {
    name: &'static str,
    heads: usize,
    kv_heads: usize,
    dim: usize,
}

const MODELS: [Model; 3] = [
    Model { name: "smollm2-135m", heads: 9, kv_heads: 3, dim: 64 },
    Model { name: "qwen2.5-1.5b", heads: 12, kv_heads: 2, dim: 128 },
    Model { name: "gemma3-270m", heads: 4, kv_heads: 1, dim: 256 },
];

/// A clock in seconds. On Linux it is the processor time of the calling thread, which other programs disturb less;
/// with more threads than one it counts their waiting for the others as well.
#[cfg(target_os = "linux")]
fn now() -> f64 {
    unsafe extern "C" {
        fn clock_gettime(clock: i32, time: *mut [i64; 2]) -> i32;
    }
    const CLOCK_THREAD_CPUTIME_ID: i32 = 3;
    let mut time = [0_i64; 2];
    // SAFETY: a `timespec` of a 64-bit system is two 64-bit numbers.
    unsafe { clock_gettime(CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time[0] as f64 + time[1] as f64 * 1e-9
}

#[cfg(not(target_os = "linux"))]
fn now() -> f64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_secs_f64()
}

/// The least time of a few runs, in seconds.
fn least(repeats: usize, mut run: impl FnMut()) -> f64 {
    run();
    let times = (0..repeats).map(|_| {
        let start = now();
        run();
        now() - start
    });
    times.fold(f64::INFINITY, f64::min)
}

/// Bytes a second that the threads read from memory together.
fn read_rate(pool: &Pool, repeats: usize) -> f64 {
    let data = vec![1_u64; 1 << 25];
    let piece = data.len() / 64;
    let time = least(repeats, || {
        pool.run(64, &|task| {
            let sum = data[task * piece..][..piece].iter().fold(0_u64, |sum, word| sum.wrapping_add(*word));
            black_box(sum);
        });
    });
    (data.len() * 8) as f64 / time
}

/// Operations a second of one core with nothing but products in registers, for bf16 and for f32.
#[cfg(target_arch = "x86_64")]
fn peaks(repeats: usize) -> (f64, f64) {
    use std::arch::x86_64::*;
    const ROUNDS: usize = 2_000_000;
    #[target_feature(enable = "avx512f,avx512bf16")]
    fn bf16() -> f32 {
        let mut sums = [_mm512_setzero_ps(); 12];
        let one = black_box(_mm512_cvtne2ps_pbh(_mm512_set1_ps(1.0), _mm512_set1_ps(1.0)));
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = _mm512_dpbf16_ps(*sum, one, one);
            }
        }
        sums.into_iter().map(|sum| _mm512_cvtss_f32(sum)).sum()
    }
    #[target_feature(enable = "avx2,fma")]
    fn f32() -> f32 {
        let mut sums = [_mm256_setzero_ps(); 12];
        let half = black_box(_mm256_set1_ps(0.5));
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(*sum, half, half);
            }
        }
        sums.into_iter().map(|sum| _mm256_cvtss_f32(sum)).sum()
    }
    let rate = |flops: usize, time: f64| (12 * ROUNDS * flops) as f64 / time;
    let mut peaks = (f64::NAN, f64::NAN);
    if is_x86_feature_detected!("avx512bf16") {
        // SAFETY: just found.
        peaks.0 = rate(64, least(repeats, || _ = black_box(unsafe { bf16() })));
    }
    if is_x86_feature_detected!("fma") {
        // SAFETY: just found.
        peaks.1 = rate(16, least(repeats, || _ = black_box(unsafe { f32() })));
    }
    peaks
}

#[cfg(not(target_arch = "x86_64"))]
fn peaks(_: usize) -> (f64, f64) {
    (f64::NAN, f64::NAN)
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number =
        |index: usize, default| arguments.get(index).map_or(default, |a| a.parse().expect("a number"));
    let (threads, repeats) = (number(0, 1), number(1, 5));
    let wanted = |label: &str| arguments.iter().skip(2).all(|word| label.contains(word.as_str()));
    let peaks = peaks(repeats);
    let read = read_rate(&Pool::new(threads), repeats);
    println!(
        "{threads} threads; one core: bf16 {:.0}, f32 (256 bits) {:.0} GFLOP/s; read {:.1} GB/s",
        peaks.0 / 1e9,
        peaks.1 / 1e9,
        read / 1e9
    );
    let pool = Pool::new(threads);
    let time = least(repeats, || (0..1000).for_each(|_| pool.run(threads, &|task| _ = black_box(task))));
    println!("an empty loop: {:.2} µs", time * 1e3);
    for kernels in supported() {
        let compute = Compute::with(kernels, threads);
        for format in [KvFormat::Bf16, KvFormat::Int8, KvFormat::F32] {
            // Pairs of 16-bit integers are multiplied as fast as pairs of bf16.
            let peak = if format == KvFormat::F32 { peaks.1 } else { peaks.0 } * threads as f64;
            for model in &MODELS {
                let label = format!("{:7} {format:?} {:12}", kernels.name(), model.name);
                // Prefill: the last 512 of `depth` tokens.
                for (depth, tokens) in [(512, 512), (8192, 512)] {
                    let label = format!("{label} prefill {tokens} at {depth:6}");
                    if wanted(&label) {
                        let seconds = measure(&compute, format, model, (1, depth, tokens), repeats);
                        let pairs = (0..tokens).map(|i| depth - tokens + i + 1).sum::<usize>();
                        let rate = (4 * pairs * model.heads * model.dim) as f64 / seconds;
                        let (ms, gflops, share) = (seconds * 1e3, rate / 1e9, 100.0 * rate / peak);
                        println!("{label}: {ms:8.3} ms {gflops:6.1} GFLOP/s {share:4.0} % of products");
                    }
                }
                // Decode: one token after another, over as many layers as no cache holds.
                for depth in [1024, 8192, 131_072] {
                    let label = format!("{label} decode at {depth:6}     ");
                    if wanted(&label) {
                        let block = KvBlock::new(format, model.kv_heads, model.dim).bytes();
                        let layer = depth / BLOCK_TOKENS * block;
                        let layers = (256_000_000 / layer).clamp(1, 64);
                        let seconds =
                            measure(&compute, format, model, (layers, depth, 1), repeats) / layers as f64;
                        let rate = layer as f64 / seconds;
                        let (ms, gb, share) = (seconds * 1e3, rate / 1e9, 100.0 * rate / read);
                        println!("{label}: {ms:8.3} ms {gb:6.1} GB/s    {share:4.0} % of reading");
                    }
                }
            }
        }
    }
}

/// Seconds for `tokens` queries at the end of `depth` tokens, in each of `layers` layers.
fn measure(
    compute: &Compute,
    format: KvFormat,
    model: &Model,
    (layers, depth, tokens): (usize, usize, usize),
    repeats: usize,
) -> f64 {
    let numbers = |len: usize| (0..len).map(|i| ((i * 7919) % 1009) as f32 / 504.5 - 1.0).collect::<Vec<_>>();
    let row = numbers(BLOCK_TOKENS * model.kv_heads * model.dim);
    let mut block = KvBlock::new(format, model.kv_heads, model.dim);
    block.write(0, &row, &row);
    let blocks = vec![block; layers * depth / BLOCK_TOKENS];
    let views: Vec<_> = blocks
        .iter()
        .enumerate()
        .map(|(index, block)| {
            let offset = (index % (depth / BLOCK_TOKENS) * BLOCK_TOKENS) as i64 - (depth - tokens) as i64;
            KvView { block, len: BLOCK_TOKENS, offset, window: i64::MAX }
        })
        .collect();
    let queries = numbers(tokens * model.heads * model.dim);
    let mut out = vec![0.0; queries.len()];
    let scale = (model.dim as f32).sqrt().recip();
    least(repeats, || {
        for views in views.chunks(depth / BLOCK_TOKENS) {
            compute.attend(&Attend { queries: &queries, heads: model.heads, views, scale }, &mut out, None);
        }
    })
}
