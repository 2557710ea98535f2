//! What the machine could do at best, measured: the yardstick of every benchmark.
use crate::Compute;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Kinds of multiply-add.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arithmetic {
    /// f32 times f32 into f32.
    F32,
    /// bf16 times bf16 into f32.
    Bf16,
    /// 8-bit integers into 32-bit integers.
    Int8,
}

/// Peaks of the kernel set's instructions on all threads of a [`Compute`], from registers; a multiply-add is two
/// operations.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ceilings {
    /// f32 operations a second.
    pub f32_ops: f64,
    /// bf16 operations a second, where the set has them.
    pub bf16_ops: Option<f64>,
    /// 8-bit operations a second, where the set has them.
    pub int8_ops: Option<f64>,
    /// Bytes a second read from a buffer larger than the caches.
    pub read_bytes: f64,
}

/// Measure the ceilings; takes about a second, and 256 MiB while it runs.
pub fn ceilings(compute: &Compute) -> Ceilings {
    Ceilings {
        f32_ops: peak(compute, Arithmetic::F32).expect("every set multiplies f32"),
        bf16_ops: peak(compute, Arithmetic::Bf16),
        int8_ops: peak(compute, Arithmetic::Int8),
        read_bytes: read(compute),
    }
}

/// Best of several runs: other load can only slow one down.
fn best_rate(work: f64, mut run: impl FnMut()) -> f64 {
    let begin = Instant::now();
    let mut best = f64::INFINITY;
    let mut runs = 0;
    while runs < 5 || begin.elapsed() < Duration::from_millis(200) {
        let start = Instant::now();
        run();
        best = best.min(start.elapsed().as_secs_f64());
        runs += 1;
    }
    work / best
}

fn peak(compute: &Compute, arithmetic: Arithmetic) -> Option<f64> {
    const ROUNDS: usize = 1 << 18;
    let (kernels, threads) = (compute.kernels(), compute.pool().threads());
    let operations = kernels.burn(arithmetic, 1)?;
    Some(best_rate((operations * ROUNDS * threads) as f64, || {
        compute.pool().run(threads, &|_| {
            black_box(kernels.burn(arithmetic, black_box(ROUNDS)));
        });
    }))
}

fn read(compute: &Compute) -> f64 {
    const WORDS: usize = 32 << 20;
    /// Words of one task.
    const PIECE: usize = 1 << 17;
    let buffer: Vec<u64> = (0..WORDS as u64).collect();
    best_rate((WORDS * size_of::<u64>()) as f64, || {
        compute.pool().run(WORDS / PIECE, &|task| {
            let mut sums = [0_u64; 32];
            for words in buffer[task * PIECE..(task + 1) * PIECE].as_chunks::<32>().0 {
                for (sum, word) in sums.iter_mut().zip(words) {
                    *sum ^= word;
                }
            }
            black_box(sums);
        });
    })
}

/// `rounds` rounds of eight independent sums of eight lanes; how many operations one round is.
#[inline(always)]
pub(crate) fn burn_f32(rounds: usize) -> usize {
    let mut sums = [[black_box(1.0_f32); 8]; 8];
    let factor = [black_box(0.5_f32); 8];
    for _ in 0..rounds {
        for sum in &mut sums {
            for (sum, factor) in sum.iter_mut().zip(&factor) {
                *sum = *sum * factor + factor;
            }
        }
    }
    black_box(sums);
    2 * 64
}
