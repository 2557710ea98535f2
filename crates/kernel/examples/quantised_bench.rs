//! How fast keys and values come into few bits and back, beside copying as many bytes.
//!
//! `cargo run --release -p longleaf-kernel --example quantised_bench -- [set] [threads]`
use longleaf_kernel::{
    BLOCK_TOKENS, BlockAngles, Compute, Dequantise, KvBits, KvBlock, KvFormat, KvQuantisation, best, by_name,
};
use std::hint::black_box;
use std::time::Instant;

/// The best of several runs, in seconds.
fn best_of(mut work: impl FnMut()) -> f64 {
    let one = |()| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64()
    };
    std::iter::repeat_n((), 15).map(one).fold(f64::INFINITY, f64::min)
}

#[expect(clippy::print_stdout, reason = "what it is for")]
fn main() {
    let mut arguments = std::env::args().skip(1);
    let set = arguments.next().and_then(|name| by_name(&name)).unwrap_or_else(best);
    let threads = arguments.next().and_then(|n| n.parse().ok()).unwrap_or(1);
    let compute = Compute::with(set, threads);
    println!("{} on {threads} threads; millions of numbers a second", set.name());
    for (kv_heads, head_dim) in [(3, 64), (2, 128)] {
        for (keys, values) in
            [(KvBits::Eight, KvBits::Eight), (KvBits::Eight, KvBits::Four), (KvBits::Four, KvBits::Four)]
        {
            let form = KvQuantisation { keys, values, kv_heads, head_dim };
            let blocks = 64;
            let len = blocks * BLOCK_TOKENS * kv_heads * head_dim;
            let numbers: Vec<f32> = (0..len).map(|i| (i * 7919 % 10_007) as f32 / 5003.0 - 1.0).collect();
            let mut bytes = vec![0; blocks * form.bytes()];
            let encode = best_of(|| compute.quantise_kv(&form, &numbers, &numbers, black_box(&mut bytes)));
            let (cos, sin) = (vec![0.6; BLOCK_TOKENS * head_dim / 2], vec![0.8; BLOCK_TOKENS * head_dim / 2]);
            let angles = BlockAngles::new(head_dim / 2, &cos, &sin);
            let from: Vec<Dequantise<'_>> = bytes
                .chunks_exact(form.bytes())
                .map(|bytes| Dequantise { bytes, key_bias: None, angles: Some(&angles) })
                .collect();
            let mut to = vec![KvBlock::new(KvFormat::Bf16, kv_heads, head_dim); blocks];
            let decode = best_of(|| compute.dequantise_kv(&form, &from, black_box(&mut to)));
            let mut copy = vec![0.0; len];
            let plain = best_of(|| black_box(&mut copy).copy_from_slice(black_box(&numbers)));
            let speed = |seconds: f64| 2.0 * len as f64 / seconds / 1e6;
            println!(
                "{kv_heads} × {head_dim}, keys {} bits, values {}: in {:.0}, out (rotated, bf16) {:.0}, copy {:.0}; {} bytes a block",
                keys.count(),
                values.count(),
                speed(encode),
                speed(decode),
                speed(plain) / 2.0,
                form.bytes(),
            );
        }
    }
}
