//! Which rule finds the blocks that matter.
use crate::{Done, Watched, dot, log_sum, rotated};
use longleaf_engine::adaptive::PRIOR_DISTANCE;
use longleaf_engine::kernel::{BLOCK_TOKENS, KvFormat};
use longleaf_engine::{Model, TokenId, Visible};
use longleaf_model::{Dense, Scratch};
use std::io::{self, Write};
use std::sync::Arc;

/// What a rule keeps of one block and KV head.
struct Kept {
    keys: Vec<Vec<f32>>,
    mean: Vec<f32>,
    variance: Vec<f32>,
    low: Vec<f32>,
    high: Vec<f32>,
    /// Tangents of the block, of its two halves, and of the block for each query head of the group.
    tangent: Vec<f32>,
    halves: [Vec<f32>; 2],
    heads: Vec<Vec<f32>>,
}

const RULES: [&str; 8] =
    ["exact", "mean", "min/max", "log-mass", "2 a block", "a query head", "gauss", "random"];

impl Kept {
    fn estimate(&self, rule: usize, query: &[f32], member: usize, scale: f32) -> f32 {
        let tangent = |key: &[f32]| scale * dot(query, key) + key[query.len()];
        match rule {
            0 => log_sum(self.keys.iter().map(|key| scale * dot(query, key))),
            1 => scale * dot(query, &self.mean),
            2 => {
                let bounds = self.low.iter().zip(&self.high);
                scale * query.iter().zip(bounds).map(|(q, (low, high))| (q * low).max(q * high)).sum::<f32>()
            }
            3 => tangent(&self.tangent),
            4 => log_sum(self.halves.iter().map(|half| tangent(half))),
            5 => tangent(&self.heads[member]),
            6 => {
                let spread: f32 = query.iter().zip(&self.variance).map(|(q, v)| q * q * v).sum();
                scale * dot(query, &self.mean) + scale * scale / 2.0 * spread
            }
            // A number that only the block decides.
            _ => self.mean.iter().map(|x| (x * 1e4).fract()).sum::<f32>().fract(),
        }
    }
}

/// The tangent of the log mass of `keys` at `query`: a key, and a number.
fn tangent(keys: &[Vec<f32>], query: &[f32], scale: f32) -> Vec<f32> {
    let logs: Vec<f32> = keys.iter().map(|key| scale * dot(query, key)).collect();
    let mass = log_sum(logs.iter().copied());
    let mut sum = vec![0.0; query.len()];
    let mut entropy = 0.0;
    for (key, log) in keys.iter().zip(&logs) {
        let share = (log - mass).exp();
        sum.iter_mut().zip(key).for_each(|(sum, key)| *sum += share * key);
        entropy -= share * (log - mass);
    }
    sum.push(entropy);
    sum
}

/// R1: the share of the far attention that the blocks chosen by each rule hold, and of the truly best blocks among
/// them; by what is chosen together. Far blocks are judged at the prior distance, the last 1,024 tokens are near.
#[expect(clippy::too_many_lines, reason = "one table, from the keys to its rows")]
pub(crate) fn recall(model: &Model, tokens: &[TokenId]) -> Done {
    const EVERY: usize = 3;
    const QUERIES: usize = 16;
    const GRANULARITIES: [&str; 3] = ["query head", "KV head", "layer"];
    let out = &mut io::stdout();
    let (config, decoder) = (model.config(), model.decoder());
    let visible =
        if tokens.len() > config.window { Visible::Local { sinks: 64, window: 1024 } } else { Visible::All };
    let dense = Dense::new(config, Arc::clone(decoder.compute()), KvFormat::Bf16, visible, tokens.len());
    let mut watched = Watched::new(dense, config.layers, EVERY);
    let Ok(()) = decoder.read(tokens, 0, &mut watched, &mut Scratch::new());

    let (heads, kv_heads, dim) = (config.heads, config.kv_heads, config.head_dim);
    let (group, scale) = (heads / kv_heads, 1.0 / (dim as f32).sqrt());
    let blocks = (tokens.len() - 1024) / BLOCK_TOKENS;
    let middle = BLOCK_TOKENS as i64 / 2;
    writeln!(
        out,
        "{blocks} blocks, {QUERIES} queries, every {EVERY}rd layer; share of far mass @8 / @32, recall@32"
    )?;
    // For each rule and granularity: mass at 8, mass at 32, recall at 32, and how many were counted.
    let mut sums = vec![[[0.0_f64; 4]; 3]; RULES.len()];
    let mut everything = vec![vec![0.0_f64; blocks]; RULES.len()];
    let mut everything_true = vec![0.0_f64; blocks];
    for layer in 0..watched.keys.len() {
        let mut kept: Vec<Vec<Kept>> = Vec::new();
        for block in 0..blocks {
            let rows = block * BLOCK_TOKENS * kv_heads * dim..(block + 1) * BLOCK_TOKENS * kv_heads * dim;
            let keys = rotated(model, &watched.keys[layer][rows], kv_heads * dim, -middle, 1);
            let rows = block * BLOCK_TOKENS * heads * dim..(block + 1) * BLOCK_TOKENS * heads * dim;
            let mut means = vec![0.0; heads * dim];
            for row in watched.queries[layer][rows].chunks_exact(heads * dim) {
                means.iter_mut().zip(row).for_each(|(mean, x)| *mean += x / BLOCK_TOKENS as f32);
            }
            let means = rotated(model, &means, heads * dim, PRIOR_DISTANCE as i64, 0);
            let one = |head: usize| {
                let keys: Vec<Vec<f32>> = keys
                    .chunks_exact(kv_heads * dim)
                    .map(|row| row[head * dim..(head + 1) * dim].to_vec())
                    .collect();
                let over = |f: &dyn Fn(f32, f32) -> f32, start: f32| -> Vec<f32> {
                    (0..dim).map(|i| keys.iter().fold(start, |sum, key| f(sum, key[i]))).collect()
                };
                let n = keys.len() as f32;
                let mean: Vec<f32> = over(&|a, b| a + b, 0.0).iter().map(|x| x / n).collect();
                let squares = over(&|a, b| a + b * b, 0.0);
                let variance = squares.iter().zip(&mean).map(|(s, m)| (s / n - m * m).max(0.0)).collect();
                let priors: Vec<&[f32]> = means.chunks_exact(dim).skip(head * group).take(group).collect();
                let prior: Vec<f32> =
                    (0..dim).map(|i| priors.iter().map(|p| p[i]).sum::<f32>() / group as f32).collect();
                let (first, second) = keys.split_at(keys.len() / 2);
                Kept {
                    low: over(&f32::min, f32::INFINITY),
                    high: over(&f32::max, f32::NEG_INFINITY),
                    tangent: tangent(&keys, &prior, scale),
                    halves: [tangent(first, &prior, scale), tangent(second, &prior, scale)],
                    heads: priors.iter().map(|prior| tangent(&keys, prior, scale)).collect(),
                    mean,
                    variance,
                    keys,
                }
            };
            kept.push((0..kv_heads).map(one).collect());
        }
        for index in 0..QUERIES {
            let token = tokens.len() - 1 - index * 512 / QUERIES;
            let row = &watched.queries[layer][token * heads * dim..(token + 1) * heads * dim];
            let query = rotated(model, row, heads * dim, PRIOR_DISTANCE as i64, 0);
            // `[rule][head][block]`, shares of the far attention.
            let shares: Vec<Vec<Vec<f64>>> = (0..RULES.len())
                .map(|rule| {
                    (0..heads)
                        .map(|head| {
                            let query = &query[head * dim..(head + 1) * dim];
                            let logs: Vec<f32> = kept
                                .iter()
                                .map(|kept| kept[head / group].estimate(rule, query, head % group, scale))
                                .collect();
                            let total = log_sum(logs.iter().copied());
                            logs.iter().map(|log| f64::from(log - total).exp()).collect()
                        })
                        .collect()
                })
                .collect();
            for (granularity, together) in [1, group, heads].into_iter().enumerate() {
                for first in (0..heads).step_by(together) {
                    let mean = |rule: usize| -> Vec<f64> {
                        let of = &shares[rule][first..first + together];
                        (0..blocks).map(|b| of.iter().map(|s| s[b]).sum::<f64>() / together as f64).collect()
                    };
                    let truth = mean(0);
                    for (rule, sums) in sums.iter_mut().enumerate() {
                        count(&mean(rule), &truth, &mut sums[granularity]);
                    }
                }
            }
            for (rule, shares) in shares.iter().enumerate() {
                for share in shares {
                    everything[rule].iter_mut().zip(share).for_each(|(sum, s)| *sum += s);
                    if rule == 0 {
                        everything_true.iter_mut().zip(share).for_each(|(sum, s)| *sum += s);
                    }
                }
            }
        }
    }
    for (rule, name) in RULES.iter().enumerate() {
        write!(out, "{name:>14}")?;
        for (granularity, sums) in GRANULARITIES.iter().zip(&sums[rule]) {
            let [eight, more, recall, n] = sums;
            write!(out, "   {granularity}: {:.3} {:.3} {:.3}", eight / n, more / n, recall / n)?;
        }
        let mut all = [0.0; 4];
        count(&everything[rule], &everything_true, &mut all);
        let total: f64 = everything_true.iter().sum();
        writeln!(out, "   all: {:.3} {:.3} {:.3}", all[0] / total, all[1] / total, all[2])?;
    }
    Ok(())
}

/// Add what the best blocks by `estimate` hold of `truth`.
fn count(estimate: &[f64], truth: &[f64], sums: &mut [f64; 4]) {
    let best = |of: &[f64], count: usize| {
        let mut order: Vec<usize> = (0..of.len()).collect();
        order.sort_by(|a, b| of[*b].total_cmp(&of[*a]));
        order.truncate(count);
        order
    };
    let chosen = best(estimate, 32);
    sums[0] += chosen.iter().take(8).map(|block| truth[*block]).sum::<f64>();
    sums[1] += chosen.iter().map(|block| truth[*block]).sum::<f64>();
    let right = best(truth, 32);
    sums[2] += right.iter().filter(|block| chosen.contains(block)).count() as f64 / right.len() as f64;
    sums[3] += 1.0;
}
