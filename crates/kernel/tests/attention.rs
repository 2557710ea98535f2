//! Attention of every kernel set against sums in f64, and the laws: no thread, batch or neighbour changes a bit.
#![cfg_attr(
    all(target_arch = "x86_64", target_os = "linux"),
    expect(unsafe_code, reason = "says that AMX is emulated")
)]
#[path = "emulator/sets.rs"]
mod sets;

use longleaf_kernel::{Attend, BLOCK_TOKENS, Compute, KvBlock, KvFormat, KvView};
use sets::{is_emulated, sets};

/// Numbers from -1 to 1, the same every time (a linear congruential generator, Knuth's constants).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    fn numbers(&mut self, len: usize, scale: f32) -> Vec<f32> {
        (0..len).map(|_| self.next() * scale).collect()
    }
}

#[derive(Debug, Clone, Copy)]
struct Shape {
    format: KvFormat,
    heads: usize,
    kv_heads: usize,
    dim: usize,
}

impl Shape {
    fn blocks(self, noise: &mut Noise, count: usize) -> Vec<KvBlock> {
        (0..count)
            .map(|_| {
                let mut block = KvBlock::new(self.format, self.kv_heads, self.dim);
                let row = BLOCK_TOKENS * self.kv_heads * self.dim;
                block.write(0, &noise.numbers(row, 1.0), &noise.numbers(row, 1.0));
                block
            })
            .collect()
    }

    fn scale(self) -> f32 {
        (self.dim as f32).sqrt().recip()
    }
}

/// The definition, in f64 over the stored keys and values, and for every output the error that the set's
/// arithmetic may make.
struct Oracle {
    out: Vec<f64>,
    mass: Vec<f64>,
    /// `[tokens, heads]`: of `out` and of `mass`.
    bounds: Vec<(f64, f64)>,
}

fn oracle(shape: Shape, queries: &[f32], views: &[KvView<'_>]) -> Oracle {
    let Shape { format, heads, kv_heads, dim } = shape;
    // Half a unit in the last place of what is multiplied, and of what is added up.
    let (input, add) = match format {
        KvFormat::F32 => (2_f64.powi(-24), 2_f64.powi(-24)),
        KvFormat::Bf16 => (2_f64.powi(-8), 2_f64.powi(-24)),
        // Queries and weights are rounded as below, keys and values not again.
        KvFormat::Int8 => (0.0, 2_f64.powi(-24)),
    };
    let int8 = f64::from(u8::from(format == KvFormat::Int8));
    let mut oracle = Oracle { out: Vec::new(), mass: Vec::new(), bounds: Vec::new() };
    for (row, query) in queries.chunks_exact(dim).enumerate() {
        let (token, head) = ((row / heads) as i64, row % heads / (heads / kv_heads));
        let (mut scores, mut most, mut greatest) = (Vec::new(), 0.0_f64, 0.0_f64);
        // Int8: half a unit of the row's queries times all of a key: of 127 units, or of 256 times as many where few
        // numbers are great.
        let (most_of, total) = query
            .iter()
            .map(|q| f64::from(q.abs()))
            .fold((0.0_f64, 0.0), |(most, total), q| (most.max(q), total + q));
        let uneven = most_of * dim as f64 > 16.0 * total;
        let half = most_of / 254.0 / if uneven { 127.0 } else { 1.0 };
        let mut rounded = 0.0_f64;
        for view in views {
            for j in 0..view.len {
                let distance = i128::from(token) - (i128::from(view.offset) + j as i128);
                if distance < 0 || (view.window != i64::MAX && distance >= i128::from(view.window)) {
                    continue;
                }
                let (mut key, mut value) = (vec![0.0; dim], vec![0.0; dim]);
                view.block.read_key(j, head, &mut key);
                view.block.read_value(j, head, &mut value);
                let terms = || query.iter().zip(&key).map(|(q, k)| f64::from(*q) * f64::from(*k));
                let scale = f64::from(shape.scale());
                rounded = rounded.max(key.iter().map(|k| f64::from(k.abs())).sum::<f64>() * half * scale);
                scores.push((terms().sum::<f64>() * scale, value));
                most = most.max(terms().map(f64::abs).sum::<f64>() * scale);
            }
        }
        let max = scores.iter().fold(f64::NEG_INFINITY, |max, score| max.max(score.0));
        let sum: f64 = scores.iter().map(|score| (score.0 - max).exp()).sum();
        let mut out = vec![0.0; dim];
        for (score, value) in &scores {
            for (out, v) in out.iter_mut().zip(value) {
                *out += (score - max).exp() / sum * f64::from(*v);
                greatest = greatest.max(f64::from(v.abs()));
            }
        }
        oracle.out.extend(out);
        oracle.mass.push(if scores.is_empty() { f64::NEG_INFINITY } else { max + sum.ln() });
        // Rounded queries and sums of `dim` terms move a score by `shift`; that and the exponential move a weight
        // and the denominator; the last product rounds the weights again and sums over the tokens.
        let shift = most * (2.0 * input + (dim + 4) as f64 * add) + int8 * 1.01 * rounded;
        // Int8: half a unit of the weights for each token of a block, a unit being a 32,767th of its greatest.
        let units = int8 * BLOCK_TOKENS as f64 * 1.01 / 65_534.0;
        let weight = (2.0 * shift).exp_m1() + 1e-6 + 2.0 * input + units;
        let sums = (scores.len() + 16) as f64 * add;
        oracle.bounds.push(((weight + 2.0 * sums) * greatest, shift + 1e-6 + 2.0 * input + sums));
    }
    oracle
}

fn attend(compute: &Compute, shape: Shape, queries: &[f32], views: &[KvView<'_>]) -> (Vec<f32>, Vec<f32>) {
    let (mut out, mut mass) = (vec![f32::NAN; queries.len()], vec![f32::NAN; queries.len() / shape.dim]);
    let call = Attend { queries, heads: shape.heads, views, scale: shape.scale() };
    compute.attend(&call, &mut out, Some(&mut mass));
    (out, mass)
}

fn check(shape: Shape, queries: &[f32], views: &[KvView<'_>]) {
    let oracle = oracle(shape, queries, views);
    for kernels in sets() {
        for threads in [1, 3] {
            let (out, mass) = attend(&Compute::with(kernels, threads), shape, queries, views);
            let name = kernels.name();
            for (index, (got, want)) in out.iter().zip(&oracle.out).enumerate() {
                let bound = oracle.bounds[index / shape.dim].0;
                let error = (f64::from(*got) - want).abs();
                assert!(error <= bound, "{name} {shape:?} out {index}: {got} for {want}, bound {bound}");
            }
            for (index, (got, want)) in mass.iter().zip(&oracle.mass).enumerate() {
                let close = (f64::from(*got) - want).abs() <= oracle.bounds[index].1;
                let nothing = *got == f32::NEG_INFINITY && *want == f64::NEG_INFINITY;
                assert!(close || nothing, "{name} {shape:?} mass {index}: {got} for {want}");
            }
        }
    }
}

/// Views of a sequence of `len` tokens whose last `queries` tokens ask.
fn causal(blocks: &[KvBlock], len: usize, queries: usize, window: i64) -> Vec<KvView<'_>> {
    let past = (len - queries) as i64;
    let views = blocks.iter().enumerate().map(|(index, block)| {
        let first = index * BLOCK_TOKENS;
        let len = len.saturating_sub(first).min(BLOCK_TOKENS);
        KvView { block, len, offset: first as i64 - past, window }
    });
    views.filter(|view| view.len > 0).collect()
}

const FORMATS: [KvFormat; 3] = [KvFormat::F32, KvFormat::Bf16, KvFormat::Int8];

#[test]
fn agrees_with_the_definition() {
    let mut noise = Noise(1);
    for format in FORMATS {
        for (heads, kv_heads, dim) in [
            (9, 3, 64),
            (12, 2, 128),
            (4, 1, 256),
            (2, 2, 80),
            (14, 2, 96),
            (4, 2, 32),
            (3, 1, 16),
            (4, 4, 8),
            (2, 1, 23),
            (60, 1, 64),
        ] {
            let shape = Shape { format, heads, kv_heads, dim };
            let blocks = shape.blocks(&mut noise, 6);
            for (len, tokens) in [(1, 1), (17, 17), (130, 1), (300, 13), (530, 2)] {
                let mut queries = noise.numbers(tokens * heads * dim, 3.0);
                check(shape, &queries, &causal(&blocks, len, tokens, i64::MAX));
                // A few rows with one great number.
                queries.iter_mut().skip(3).step_by(2 * dim).for_each(|q| *q *= 40.0);
                queries
                    .iter_mut()
                    .enumerate()
                    .filter(|(i, _)| i % (2 * dim) != 3)
                    .for_each(|(_, q)| *q *= 0.02);
                check(shape, &queries, &causal(&blocks, len, tokens, i64::MAX));
            }
        }
    }
}

#[test]
fn masks_are_as_documented() {
    let mut noise = Noise(2);
    for format in FORMATS {
        let shape = Shape { format, heads: 6, kv_heads: 2, dim: 64 };
        let blocks = shape.blocks(&mut noise, 5);
        let queries = noise.numbers(20 * 6 * 64, 2.0);
        for window in [0, 1, 16, 17, 129, 10_000] {
            check(shape, &queries, &causal(&blocks, 300, 20, window));
        }
        let view = |block, len, offset, window| KvView { block, len, offset, window };
        let far = i64::MIN / 2;
        let mixed = [
            view(&blocks[0], 128, far, i64::MAX),
            view(&blocks[1], 0, -500, i64::MAX),
            view(&blocks[2], 77, i64::MIN, i64::MAX),
            view(&blocks[3], 128, -100, 64),
            view(&blocks[4], 40, 0, 10),
        ];
        check(shape, &queries, &mixed);
        // Nothing to see: before the queries, too far back, or no views at all.
        check(shape, &queries, &[view(&blocks[0], 128, 20, i64::MAX)]);
        check(shape, &queries, &[view(&blocks[0], 128, far, 1 << 40)]);
        check(shape, &queries, &[view(&blocks[0], 128, i64::MAX, 1)]);
        check(shape, &queries, &[]);
        // Some queries see nothing.
        check(shape, &queries, &[view(&blocks[0], 9, 12, i64::MAX)]);
        check(shape, &queries, &[view(&blocks[0], 5, -5, 12)]);
    }
}

/// What lies beyond a view's length changes nothing.
#[test]
fn old_tokens_are_not_seen() {
    let mut noise = Noise(3);
    for format in FORMATS {
        let shape = Shape { format, heads: 2, kv_heads: 1, dim: 48 };
        let mut used = shape.blocks(&mut noise, 1);
        let mut fresh = used.clone();
        fresh[0].clear();
        let (keys, values) = (noise.numbers(37 * 48, 1.0), noise.numbers(37 * 48, 1.0));
        for block in [&mut used[0], &mut fresh[0]] {
            block.write(0, &keys, &values);
        }
        let queries = noise.numbers(5 * 2 * 48, 1.0);
        for kernels in sets() {
            let compute = Compute::with(kernels, 1);
            let results = [&used, &fresh].map(|blocks| {
                let views = [KvView { block: &blocks[0], len: 37, offset: -35, window: i64::MAX }];
                attend(&compute, shape, &queries, &views)
            });
            assert_eq!(results[0], results[1]);
        }
    }
}

/// The law: bit for bit the same for any number of threads, any split of the queries into calls, and token by
/// token with blocks that are still being filled.
#[test]
fn one_query_has_one_result() {
    let mut noise = Noise(4);
    for format in FORMATS {
        for (heads, kv_heads, dim) in [(9, 3, 64), (12, 2, 128), (5, 1, 80), (2, 2, 16)] {
            let shape = Shape { format, heads, kv_heads, dim };
            let row = heads * dim;
            let blocks = shape.blocks(&mut noise, 9);
            let (len, tokens) = (8 * BLOCK_TOKENS + 5, 13);
            let mut queries = noise.numbers(tokens * row, 4.0);
            // Some rows of a strip with one great number: 8 bits are not enough for them.
            queries.iter_mut().skip(3).step_by(5 * dim).for_each(|q| *q *= 50.0);
            for kernels in sets() {
                for window in [i64::MAX, 200] {
                    let (whole, mass) = attend(
                        &Compute::with(kernels, 1),
                        shape,
                        &queries,
                        &causal(&blocks, len, tokens, window),
                    );
                    let cuts = [(3, 5), (1, 1), (2, tokens), (4, 1)];
                    for &(threads, step) in if is_emulated(kernels) { &cuts[..1] } else { &cuts } {
                        let compute = Compute::with(kernels, threads);
                        for (index, part) in queries.chunks(step * row).enumerate() {
                            let first = index * step;
                            let now = part.len() / row;
                            let views = causal(&blocks, len - tokens + first + now, now, window);
                            let (out, part_mass) = attend(&compute, shape, part, &views);
                            let what = format!("{} {shape:?} {threads} threads, {step}", kernels.name());
                            assert!(out == whole[first * row..][..out.len()], "{what} from {first}: out");
                            let same = part_mass == mass[first * heads..][..part_mass.len()];
                            assert!(same, "{what} from {first}: mass");
                        }
                    }
                }
            }
        }
    }
}

/// Partial attentions merge by their masses into the whole.
#[test]
fn masses_merge() {
    let mut noise = Noise(5);
    let shape = Shape { format: KvFormat::F32, heads: 2, kv_heads: 1, dim: 32 };
    let blocks = shape.blocks(&mut noise, 4);
    let queries = noise.numbers(3 * 64, 3.0);
    let views = causal(&blocks, 512, 3, i64::MAX);
    let compute = Compute::new(1);
    let (whole, whole_mass) = attend(&compute, shape, &queries, &views);
    let (near, near_mass) = attend(&compute, shape, &queries, &views[3..]);
    let (far, far_mass) = attend(&compute, shape, &queries, &views[..3]);
    for row in 0..6 {
        let mass = (far_mass[row].exp() + near_mass[row].exp()).ln();
        assert!((mass - whole_mass[row]).abs() < 1e-5);
        for i in row * 32..(row + 1) * 32 {
            let merged = far[i] * (far_mass[row] - mass).exp() + near[i] * (near_mass[row] - mass).exp();
            assert!((merged - whole[i]).abs() < 1e-5);
        }
    }
}

#[test]
fn blocks_give_back_what_they_took() {
    let mut noise = Noise(6);
    for (kv_heads, dim) in [(1, 16), (3, 64), (2, 80), (2, 23), (1, 200)] {
        for format in FORMATS {
            let row = kv_heads * dim;
            let (keys, values) = (noise.numbers(128 * row, 5.0), noise.numbers(128 * row, 5.0));
            let mut block = KvBlock::new(format, kv_heads, dim);
            let width = dim.next_multiple_of(16);
            let bytes = match format {
                KvFormat::F32 => 8 * width,
                KvFormat::Bf16 => 4 * width,
                // Scales of two bytes, for the value and for each 32 numbers of the key.
                KvFormat::Int8 => 2 * width + (2 + 2 * width.div_ceil(32)).next_multiple_of(4),
            };
            assert_eq!(block.bytes(), 128 * kv_heads * bytes);
            let mut first = 0;
            for step in [1, 1, 3, 16, 7, 100] {
                let range = first * row..(first + step) * row;
                block.write(first, &keys[range.clone()], &values[range]);
                first += step;
            }
            // Half a unit: of a number's own last place, or of a 127th of the greatest, rounded up to bf16.
            let bound = |alike: &[f32], number: f32| match format {
                KvFormat::F32 => 0.0,
                KvFormat::Bf16 => 2_f32.powi(-8) * number.abs(),
                KvFormat::Int8 => {
                    alike.iter().fold(0.0_f32, |most, x| most.max(x.abs())) / 254.0 * (1.0 + 2_f32.powi(-7))
                }
            };
            let (mut key, mut value) = (vec![0.0; dim], vec![0.0; dim]);
            for token in 0..128 {
                for head in 0..kv_heads {
                    block.read_key(token, head, &mut key);
                    block.read_value(token, head, &mut value);
                    let at = (token * kv_heads + head) * dim;
                    let groups = keys[at..at + dim].chunks(32).zip(key.chunks(32));
                    for (want, got) in groups.chain([(&values[at..at + dim], &value[..])]) {
                        for (&number, got) in want.iter().zip(got) {
                            let error = (got - number).abs();
                            assert!(error <= bound(want, number), "{format:?} {got} for {number}");
                        }
                    }
                }
            }
        }
    }
}

/// Whatever is written leaves nothing undefined behind: zeros, numbers that are nearly nothing, one that is everything.
#[test]
fn blocks_of_8_bits_take_extremes() {
    let shape = Shape { format: KvFormat::Int8, heads: 2, kv_heads: 1, dim: 40 };
    let mut noise = Noise(7);
    for (key, value) in [(0.0, 0.0), (1e-38, 1e-38), (1e-34, 1e-20), (1e3, 1e-36), (300.0, 1e30)] {
        let mut block = KvBlock::new(KvFormat::Int8, 1, 40);
        let mut keys = noise.numbers(128 * 40, 1.0);
        keys.iter_mut().step_by(7).for_each(|number| *number *= key);
        block.write(0, &keys, &noise.numbers(128 * 40, value));
        let views = [KvView { block: &block, len: 128, offset: -127, window: i64::MAX }];
        for scale in [0.0, 1e-36, 1.0, 50.0] {
            let queries = noise.numbers(3 * 80, scale);
            for kernels in sets() {
                let (out, mass) = attend(&Compute::with(kernels, 1), shape, &queries, &views);
                let fine = out.iter().all(|x| x.abs() <= value * 1.01) && mass.iter().all(|x| x.is_finite());
                assert!(fine, "{} keys {key}, values {value}, queries {scale}", kernels.name());
            }
        }
    }
}
