//! A block of keys in one key and one number.
//!
//! Let `k̃_j` be the keys of a block, their bias added, rotated to their places around the *middle* of the block. A
//! query at a distance of `D` tokens from that middle scores them `R(D)q · k̃_j`, wherever in a text the block
//! stands. The log mass of the block, `ln Σ_j e^(q·k̃_j / √d)`, is a convex function of `q`; its tangent at a prior
//! query `q₀` is
//!
//! ```text
//! q·k' / √d + b'      k' = Σ_j p_j k̃_j,   b' = entropy(p),   p = softmax_j(q₀·k̃_j / √d)
//! ```
//!
//! a lower bound of the mass for every query and equal to it at `q₀`: the mean of the block's own queries,
//! [`PRIOR_DISTANCE`] tokens away.
use longleaf_kernel::{BLOCK_TOKENS, Compute};
use longleaf_model::{Config, Rotation};
use std::sync::Arc;

/// Where far blocks are taken to stand when they are judged, in tokens before the query.
pub const PRIOR_DISTANCE: usize = 1024;

/// Makes the summaries of blocks.
#[derive(Debug, Clone)]
pub struct Summarizer {
    compute: Arc<Compute>,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    /// Of every place in a block, counted from its middle; `[BLOCK_TOKENS, rotated / 2]`.
    around: (Vec<f32>, Vec<f32>),
    /// Of the prior distance; `[rotated / 2]`.
    prior: (Vec<f32>, Vec<f32>),
    keys: Vec<f32>,
    query: Vec<f32>,
    weights: Vec<f32>,
}

impl Summarizer {
    /// For blocks of a model. `length` is as in [`Rotation::new`].
    pub fn new(config: &Config, compute: Arc<Compute>, length: usize) -> Self {
        let mut rotation = Rotation::new(&config.rope, length);
        let middle = BLOCK_TOKENS as i64 / 2;
        let (cos, sin) = rotation.at(-middle..BLOCK_TOKENS as i64 - middle);
        let around = (cos.to_vec(), sin.to_vec());
        let (cos, sin) = rotation.at(PRIOR_DISTANCE as i64..PRIOR_DISTANCE as i64 + 1);
        let prior = (cos.to_vec(), sin.to_vec());
        Self {
            compute,
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            around,
            prior,
            keys: Vec::new(),
            query: Vec::new(),
            weights: Vec::new(),
        }
    }

    /// Numbers in the summary of a block: `[kv_heads, head_dim + 1]`, each KV head's `k'` and then its `b'`.
    pub fn len(config: &Config) -> usize {
        Self::numbers(config.kv_heads, config.head_dim)
    }

    pub(crate) fn numbers(kv_heads: usize, head_dim: usize) -> usize {
        kv_heads * (head_dim + 1)
    }

    /// Append the summary of one block of one layer to `out`. `queries` are `[tokens, heads, head_dim]`, `keys`
    /// `[tokens, kv_heads, head_dim]`, both not rotated and all as in [`longleaf_model::Qkv`]; at most
    /// [`BLOCK_TOKENS`] tokens.
    pub fn summarize(&mut self, queries: &[f32], keys: &[f32], key_bias: Option<&[f32]>, out: &mut Vec<f32>) {
        let (heads, kv_heads, dim) = (self.heads, self.kv_heads, self.head_dim);
        let tokens = keys.len() / (kv_heads * dim);
        assert!(
            (1..=BLOCK_TOKENS).contains(&tokens) && keys.len() == tokens * kv_heads * dim,
            "{} numbers are no block of {kv_heads} heads of {dim}",
            keys.len()
        );
        assert_eq!(queries.len(), tokens * heads * dim, "queries for every token");
        self.rotate_keys(keys, key_bias);

        // The mean query of each KV head's group.
        let group = heads / kv_heads;
        self.query.clear();
        self.query.resize(kv_heads * dim, 0.0);
        for row in queries.chunks_exact(heads * dim) {
            for (head, query) in row.chunks_exact(dim).enumerate() {
                let sum = &mut self.query[head / group * dim..][..dim];
                sum.iter_mut().zip(query).for_each(|(sum, x)| *sum += x);
            }
        }
        let share = 1.0 / (tokens * group) as f32;
        self.query.iter_mut().for_each(|sum| *sum *= share);
        self.compute.kernels().rope(&mut self.query, dim, &self.prior.0, &self.prior.1);

        let scale = 1.0 / (dim as f32).sqrt();
        for head in 0..kv_heads {
            let rows = || self.keys.chunks_exact(dim).skip(head).step_by(kv_heads);
            let query = &self.query[head * dim..][..dim];
            self.weights.clear();
            self.weights.extend(rows().map(|key| scale * dot(query, key)));
            let entropy = softmax(&mut self.weights);
            let start = out.len();
            out.resize(start + dim, 0.0);
            for (weight, key) in self.weights.iter().zip(rows()) {
                out[start..].iter_mut().zip(key).for_each(|(sum, x)| *sum += weight * x);
            }
            out.push(entropy);
        }
    }

    /// `keys` with their bias, rotated around the middle of the block, in `self.keys`.
    fn rotate_keys(&mut self, keys: &[f32], key_bias: Option<&[f32]>) {
        let row = self.kv_heads * self.head_dim;
        self.keys.clear();
        self.keys.extend_from_slice(keys);
        let half = self.around.0.len() / BLOCK_TOKENS;
        for (token, keys) in self.keys.chunks_exact_mut(row).enumerate() {
            if let Some(bias) = key_bias {
                keys.iter_mut().zip(bias).for_each(|(x, b)| *x += b);
            }
            let angles = token * half..(token + 1) * half;
            let (cos, sin) = (&self.around.0[angles.clone()], &self.around.1[angles]);
            self.compute.kernels().rope(keys, self.head_dim, cos, sin);
        }
    }
}

pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    // Eight sums side by side, which the compiler can keep in one register.
    let (a, b) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut lanes = [0.0_f32; 8];
    for (a, b) in a.0.iter().zip(b.0) {
        for lane in 0..8 {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    let rest: f32 = a.1.iter().zip(b.1).map(|(a, b)| a * b).sum();
    lanes.iter().sum::<f32>() + rest
}

/// Logarithms to weights that add up to 1; returns their entropy in nats.
fn softmax(logs: &mut [f32]) -> f32 {
    let max = logs.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let (mut sum, mut mean) = (0.0, 0.0);
    for log in logs.iter_mut() {
        let above = *log - max;
        *log = above.exp();
        sum += *log;
        mean += *log * above;
    }
    for weight in logs.iter_mut() {
        *weight /= sum;
    }
    // entropy = ln Σ e^x - Σ p x, whatever is subtracted from all x.
    sum.ln() - mean / sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use longleaf_model::Checkpoint;
    use std::path::Path;

    /// Numbers from -1 to 1, always the same ones.
    fn noise(len: usize, seed: u64) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..len).map(|_| next()).collect()
    }

    #[test]
    fn a_tangent_of_the_log_mass() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/models/qwen2");
        let config = Checkpoint::open(&path).expect("a model").config().expect("a configuration");
        let (heads, kv_heads, dim) = (config.heads, config.kv_heads, config.head_dim);
        let mut summarizer = Summarizer::new(&config, Arc::new(Compute::new(1)), 0);
        let tokens = 100;
        let keys: Vec<f32> = noise(tokens * kv_heads * dim, 1).iter().map(|x| 3.0 * x).collect();
        let bias: Vec<f32> = noise(kv_heads * dim, 2).iter().map(|x| 20.0 * x).collect();
        let mut queries = noise(tokens * heads * dim, 3);
        // A mean that is no zero.
        queries.iter_mut().enumerate().for_each(|(i, x)| *x += (i % dim) as f32 / dim as f32);
        let mut summary = Vec::new();
        summarizer.summarize(&queries, &keys, Some(&bias), &mut summary);
        assert_eq!(summary.len(), Summarizer::len(&config));

        // The masses by the formula of attention itself: rotate queries and keys to their places in a text.
        let mut rotation = Rotation::new(&config.rope, 0);
        let scale = 1.0 / (dim as f32).sqrt();
        let mut rotate = |x: &[f32], position: i64| {
            let (cos, sin) = rotation.at(position..position + 1);
            let mut x = x.to_vec();
            Compute::new(1).kernels().rope(&mut x, dim, cos, sin);
            x
        };
        let start = 5000;
        for head in 0..kv_heads {
            let rows: Vec<Vec<f32>> = (0..tokens)
                .map(|token| {
                    let at = (token * kv_heads + head) * dim..(token * kv_heads + head + 1) * dim;
                    let bias = &bias[head * dim..];
                    let key: Vec<f32> = keys[at].iter().zip(bias).map(|(k, b)| k + b).collect();
                    rotate(&key, start + token as i64)
                })
                .collect();
            let mut mean = vec![0.0; dim];
            let group = heads / kv_heads;
            for (index, query) in queries.chunks_exact(dim).enumerate() {
                if index % heads / group == head {
                    mean.iter_mut().zip(query).for_each(|(m, q)| *m += q / (tokens * group) as f32);
                }
            }
            let (key, entropy) = summary[head * (dim + 1)..][..=dim].split_at(dim);
            for (number, query) in [mean].into_iter().chain((0..20).map(|i| noise(dim, 100 + i))).enumerate()
            {
                let distance = PRIOR_DISTANCE as i64;
                let there = rotate(&query, start + BLOCK_TOKENS as i64 / 2 + distance);
                let logs: Vec<f32> = rows.iter().map(|key| scale * dot(&there, key)).collect();
                let max = logs.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let mass = max + logs.iter().map(|x| (x - max).exp()).sum::<f32>().ln();
                let estimate = scale * dot(&rotate(&query, distance), key) + entropy[0];
                assert!(estimate <= mass + 2e-3, "query {number}: {estimate} above {mass}");
                assert!(number > 0 || (estimate - mass).abs() < 2e-3, "at the prior: {estimate}, {mass}");
            }
        }
    }
}
