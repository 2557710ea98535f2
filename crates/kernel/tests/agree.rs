//! Every instruction set against plain f32, for every format, at odd shapes.
//!
//! The meaning of a product is `Σ w · x` over the file's own numbers. With `S = Σ |w| · |x|`, fixed-point
//! activations may err by
//! ```text
//! Exact:  half a step of max|x| / 32639 per group, in total at most Σ_g (max_g|x| / 65278) · Σ_g |w|
//! Fast:   the same with 127 for 32639
//! Coarse: the same with groups of 64, and half a step of (max_row|w|) / 127 for every weight
//! ```
//! where the largest weight is what a row's scales allow, a little more than what it has,
//! and f32 arithmetic by a few units in the last place of the largest partial sums: quantised products subtract
//! offsets and minima only after adding up, hence `Σ (|d·u| + |m|) · |x|` in that part, not `S`.
use longleaf_kernel::{
    Activations, Compute, DType, Intake, Matrix, PackedMatrix, Pool, Precision, Product, block, supported,
};

/// A small deterministic generator (`SplitMix64`).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// In (-1, 1).
    fn number(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    /// Rows of random blocks with ordinary scales.
    fn matrix(&mut self, dtype: DType, rows: usize, cols: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> =
            (0..rows * dtype.row_bytes(cols).expect("whole blocks")).map(|_| self.next() as u8).collect();
        let halves: &[usize] = match dtype {
            DType::F32 | DType::BF16 | DType::F16 => &[],
            DType::Q4_0 | DType::Q5_0 | DType::Q8_0 => &[0],
            DType::Q4_1 | DType::Q5_1 | DType::Q4_K | DType::Q5_K => &[0, 2],
            DType::Q2_K => &[80, 82],
            DType::Q3_K => &[108],
            DType::Q6_K => &[208],
        };
        for block in bytes.chunks_exact_mut(dtype.block_bytes()) {
            for &at in halves {
                let scale = half::f16::from_f32(self.number() * 0.1);
                block[at..at + 2].copy_from_slice(&scale.to_le_bytes());
            }
            let number = self.number();
            match dtype {
                DType::F32 => block.copy_from_slice(&number.to_le_bytes()),
                DType::F16 => block.copy_from_slice(&half::f16::from_f32(number).to_le_bytes()),
                DType::BF16 => block.copy_from_slice(&half::bf16::from_f32(number).to_le_bytes()),
                _ => {}
            }
        }
        bytes
    }

    /// Activations with outliers, as models have them: a few numbers a hundred times the rest, and rows of zeros.
    fn activations(&mut self, tokens: usize, cols: usize) -> Vec<f32> {
        let mut x: Vec<f32> = (0..tokens * cols)
            .map(|_| self.number() * if self.below(100) == 0 { 100.0 } else { 1.0 })
            .collect();
        if tokens > 2 {
            x[cols..2 * cols].fill(0.0);
        }
        x
    }
}

fn product(compute: &Compute, precision: Precision, weights: &PackedMatrix, x: &[f32]) -> Vec<f32> {
    let mut activations = Activations::new();
    compute.prepare(precision, weights.cols(), x, &mut activations);
    let mut out = vec![f32::NAN; activations.tokens() * weights.rows()];
    compute.matmul(&activations, &mut [Product { weights, out: &mut out }]);
    out
}

/// What each output may differ by; see the head of this file.
fn bound(dtype: DType, precision: Precision, w: &[f32], x: &[f32]) -> f32 {
    let largest = w.iter().fold(0.0_f32, |m, w| m.max(w.abs()));
    let rounding = x.len() as f32 * f32::EPSILON / 2.0 + 4.0 * f32::EPSILON;
    let sums: f32 = w.iter().zip(x).map(|(w, x)| (w * x).abs()).sum();
    if matches!(dtype, DType::F32 | DType::F16 | DType::BF16) {
        return 2.0 * rounding * sums;
    }
    let steps = match precision {
        Precision::Exact => 65278.0,
        Precision::Fast | Precision::Coarse => 254.0,
    };
    let group = if precision == Precision::Coarse { 64 } else { 32 };
    let mut step: f32 = (w.chunks(group).zip(x.chunks(group)))
        .map(|(w, x)| {
            let max = x.iter().fold(0.0_f32, |m, x| m.max(x.abs()));
            max / steps * 1.01 * w.iter().map(|w| w.abs()).sum::<f32>()
        })
        .sum();
    if precision == Precision::Coarse {
        // A weight is off by 0.53 steps at most, and the activation that meets it by 1 in 127 itself; scales allow
        // weights twice as large as any that these random rows have.
        let x: f32 = x.iter().map(|x| x.abs()).sum();
        step += 2.0 * largest / 127.0 * 0.54 * x;
    }
    // Offsets and minima make partial sums up to four times the largest weight.
    let all: f32 = x.iter().map(|x| x.abs() * 4.0 * largest).sum();
    step + rounding * sums + 8.0 * f32::EPSILON * all
}

#[test]
fn blocks_decode_as_the_reference_reads_them() {
    let mut rest: &[u8] = include_bytes!("../testdata/blocks.bin");
    let mut seen = 0;
    while !rest.is_empty() {
        let name = std::str::from_utf8(&rest[..8]).unwrap().trim_end_matches('\0');
        let word = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().unwrap()) as usize;
        let (bytes, numbers) = (word(8), word(12));
        let dtype = DType::ALL.into_iter().find(|dtype| dtype.name() == name).unwrap();
        let expected: Vec<f32> = rest[16 + bytes..16 + bytes + 4 * numbers]
            .as_chunks::<4>()
            .0
            .iter()
            .map(|b| f32::from_le_bytes(*b))
            .collect();
        let mut values = vec![0.0; numbers];
        block::decode(dtype, &rest[16..16 + bytes], &mut values);
        assert_eq!(values, expected, "{name}");
        rest = &rest[16 + bytes + 4 * numbers..];
        seen += 1;
    }
    assert_eq!(seen, 10, "every quantised type");
}

#[test]
fn packing_keeps_every_bit() {
    let mut random = Random(1);
    let pool = Pool::new(2);
    for dtype in DType::ALL {
        for (rows, blocks) in [(1, 1), (16, 2), (35, 3)] {
            let cols = blocks * dtype.block_len().max(8);
            let bytes = random.matrix(dtype, rows, cols);
            let matrix = Matrix::new(dtype, rows, cols, &bytes).unwrap();
            let packed = PackedMatrix::pack_rows(&pool, matrix, &|row| rows - 1 - row);
            let (mut kept, mut given) = (vec![0.0; cols], vec![0.0; cols]);
            for row in 0..rows {
                packed.decode_row(row, &mut kept);
                matrix.decode_row(rows - 1 - row, &mut given);
                let bits = |row: &[f32]| row.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&kept), bits(&given), "{} row {row} of {rows}", dtype.name());
            }
        }
    }
}

#[test]
fn every_set_agrees_with_plain_f32() {
    let mut random = Random(2);
    for kernels in supported() {
        let compute = Compute::with(kernels, 2);
        for dtype in DType::ALL {
            for _ in 0..12 {
                let rows = 1 + random.below(50);
                let cols = match dtype.block_len() {
                    1 => 1 + random.below(300),
                    len => len * (1 + random.below(512 / len)),
                };
                let tokens = 1 + random.below(40);
                let bytes = random.matrix(dtype, rows, cols);
                let matrix = Matrix::new(dtype, rows, cols, &bytes).unwrap();
                let packed = PackedMatrix::pack(compute.pool(), matrix);
                let x = random.activations(tokens, cols);
                for precision in [Precision::Exact, Precision::Fast, Precision::Coarse] {
                    let out = product(&compute, precision, &packed, &x);
                    let mut w = vec![0.0; cols];
                    for r in 0..rows {
                        matrix.decode_row(r, &mut w);
                        for t in 0..tokens {
                            let x = &x[t * cols..(t + 1) * cols];
                            let exact: f64 =
                                w.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
                            let bound = bound(dtype, precision, &w, x);
                            let error = (f64::from(out[t * rows + r]) - exact).abs() as f32;
                            assert!(
                                error <= bound,
                                "{} {} {precision:?} [{tokens}×{cols}×{rows}] token {t} row {r}: {} for {exact}, \
                                 off by {error:e}, allowed {bound:e}",
                                kernels.name(),
                                dtype.name(),
                                out[t * rows + r],
                            );
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn neither_batching_nor_threads_change_a_bit() {
    let mut random = Random(3);
    for kernels in supported() {
        let (one, three) = (Compute::with(kernels, 1), Compute::with(kernels, 3));
        for dtype in DType::ALL {
            let (rows, cols, tokens) = (16 * 9 + 5, 256, 101);
            let bytes = random.matrix(dtype, rows, cols);
            let matrix = Matrix::new(dtype, rows, cols, &bytes).unwrap();
            let packed = PackedMatrix::pack(one.pool(), matrix);
            let x = random.activations(tokens, cols);
            for precision in [Precision::Exact, Precision::Fast, Precision::Coarse] {
                let bits = |out: Vec<f32>| out.into_iter().map(f32::to_bits).collect::<Vec<_>>();
                let together = bits(product(&one, precision, &packed, &x));
                let name = format!("{} {} {precision:?}", kernels.name(), dtype.name());
                assert_eq!(bits(product(&three, precision, &packed, &x)), together, "{name}: threads");
                for batch in [1, 7, 16, 40] {
                    let apart: Vec<u32> = x
                        .chunks(batch * cols)
                        .flat_map(|x| bits(product(&three, precision, &packed, x)))
                        .collect();
                    assert_eq!(apart, together, "{name}: batches of {batch}");
                }
            }
        }
    }
}

#[test]
fn products_together_are_products_apart() {
    let mut random = Random(4);
    for kernels in supported() {
        let compute = Compute::with(kernels, 2);
        let (cols, tokens) = (256, 21);
        let x = random.activations(tokens, cols);
        let matrices: Vec<PackedMatrix> = DType::ALL
            .into_iter()
            .enumerate()
            .map(|(i, dtype)| {
                let bytes = random.matrix(dtype, 7 * i, cols);
                PackedMatrix::pack(compute.pool(), Matrix::new(dtype, 7 * i, cols, &bytes).unwrap())
            })
            .collect();
        let mut activations = Activations::new();
        compute.prepare(Precision::Exact, cols, &x, &mut activations);
        let mut outs: Vec<Vec<f32>> = matrices.iter().map(|m| vec![f32::NAN; tokens * m.rows()]).collect();
        let mut products: Vec<Product<'_>> =
            matrices.iter().zip(&mut outs).map(|(weights, out)| Product { weights, out }).collect();
        compute.matmul(&activations, &mut products);
        for (weights, out) in matrices.iter().zip(outs) {
            assert_eq!(out, product(&compute, Precision::Exact, weights, &x), "{}", weights.dtype().name());
        }
    }
}

/// What is stored of finder keys: quantised rows as panels, read back into another matrix.
#[test]
fn panels_survive_storage() {
    let mut random = Random(3);
    let (rows, cols) = (37, 64);
    let values: Vec<f32> = (0..rows * cols).map(|_| random.number() * 3.0).collect();
    let mut bytes = vec![0; DType::Q8_0.row_bytes(rows * cols).unwrap()];
    block::encode_q8_0(&values, &mut bytes);
    let pool = Pool::new(1);
    let packed = PackedMatrix::pack(&pool, Matrix::new(DType::Q8_0, rows, cols, &bytes).unwrap());
    let mut again = PackedMatrix::zeroed(DType::Q8_0, rows, cols).unwrap();
    again.panels_mut().copy_from_slice(packed.panels_bytes());
    let mut row = vec![0.0; cols];
    for r in 0..rows {
        again.decode_row(r, &mut row);
        for (got, want) in row.chunks_exact(32).zip(values[r * cols..][..cols].chunks_exact(32)) {
            let max = want.iter().fold(0.0f32, |max, v| max.max(v.abs()));
            for (got, want) in got.iter().zip(want) {
                assert!(
                    (got - want).abs() <= max / 127.0 * 0.51,
                    "{got} for {want}, the largest being {max}"
                );
            }
        }
    }
}

/// What is fused gives the bits that its parts give one after another.
#[test]
fn fused_operations_are_their_parts() {
    let mut random = Random(7);
    for kernels in supported() {
        for (threads, tokens) in [(1, 1), (2, 5), (2, 40), (3, 530)] {
            let compute = Compute::with(kernels, threads);
            for (cols, wide, dtype, down) in [
                (64, 96, DType::Q4_1, DType::Q8_0),
                (256, 320, DType::Q6_K, DType::Q4_0),
                (96, 160, DType::Q8_0, DType::F16),
                (20, 36, DType::F32, DType::F32),
            ] {
                let mut matrix = |dtype: DType, rows: usize, cols: usize| {
                    let bytes = random.matrix(dtype, rows, cols);
                    PackedMatrix::pack(compute.pool(), Matrix::new(dtype, rows, cols, &bytes).unwrap())
                };
                let gate_and_up = [matrix(dtype, wide, cols), matrix(dtype, wide, cols)];
                let down = matrix(down, cols, wide);
                let gate_and_up = gate_and_up.each_ref();
                let x = random.activations(tokens, cols);
                let norm: Vec<f32> = (0..cols).map(|_| random.number()).collect();
                for precision in [Precision::Exact, Precision::Fast, Precision::Coarse] {
                    let name = format!("{} {precision:?} {tokens} × {cols}", kernels.name());
                    let mut normed = vec![0.0; x.len()];
                    compute.rms_norm(&x, &norm, 1e-5, &mut normed);
                    let gate = product(&compute, precision, gate_and_up[0], &normed);
                    let up = product(&compute, precision, gate_and_up[1], &normed);
                    let mut wide = gate;
                    compute.swiglu(&mut wide, &up);
                    let mut want = x.clone();
                    compute.add(&mut want, &product(&compute, precision, &down, &wide));

                    let (mut activations, mut wide) = (Activations::new(), Activations::new());
                    let intake = Intake::meeting(precision, &gate_and_up);
                    compute.prepare_normed(intake, &x, &norm, 1e-5, &mut activations);
                    compute.gated(&activations, gate_and_up, Intake::meeting(precision, &[&down]), &mut wide);
                    let mut got = x.clone();
                    compute.matmul_add(&wide, &down, &mut got);
                    assert_eq!(got, want, "{name}");
                }
            }
        }
    }
}
