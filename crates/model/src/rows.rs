//! The rows of a forward pass, cut into slices that threads work on by themselves.
use crate::config::Config;
use crate::layer::{Arithmetic, Buffers, Projected, resize};
use longleaf_kernel::Precision;
use std::sync::{Mutex, PoisonError};

/// Tokens in a slice, at most: what a layer makes of them on the way stays in a core's second-level cache.
const SLICE: usize = 256;
/// The same in Coarse, where every slice rounds all of the weights for itself.
const COARSE_SLICE: usize = 512;
/// Tokens in a slice, at least: every slice reads all of the weights.
const LEAST: usize = 64;

/// What layers and attention hand to each other, and what threads need meanwhile. Buffers to be reused.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    /// `[tokens, heads, head_dim]`
    pub(crate) queries: Vec<f32>,
    /// `[tokens, kv_heads, head_dim]`
    pub(crate) keys: Vec<f32>,
    /// `[tokens, kv_heads, head_dim]`
    pub(crate) values: Vec<f32>,
    /// `[tokens, heads, head_dim]`, what attention returns.
    pub(crate) mixed: Vec<f32>,
    /// Those that no thread has at the moment.
    buffers: Mutex<Vec<Buffers>>,
}

/// The part of [`Rows`] that belongs to some tokens.
pub(crate) struct Slice<'a> {
    pub(crate) projected: Projected<'a>,
    /// `[tokens, heads, head_dim]`; nothing before the first attention.
    pub(crate) mixed: &'a [f32],
}

impl Rows {
    /// Room for the projections of `tokens` tokens.
    pub(crate) fn resize(&mut self, config: &Config, tokens: usize) {
        resize(&mut self.queries, tokens * config.query_size());
        resize(&mut self.keys, tokens * config.kv_size());
        resize(&mut self.values, tokens * config.kv_size());
    }

    /// The buffers of one thread.
    pub(crate) fn buffers(&mut self) -> &mut Buffers {
        let all = self.buffers.get_mut().unwrap_or_else(PoisonError::into_inner);
        if all.is_empty() {
            all.push(Buffers::default());
        }
        let last = all.len() - 1;
        &mut all[last]
    }

    /// Call `work` for every slice of `tokens` tokens, several at once. `cut` cuts the residual streams into
    /// pieces of so many tokens.
    ///
    /// Many tokens make slices, and a thread takes one slice through all that can be done without the others. Few
    /// tokens are one slice, and threads share every operation inside it.
    pub(crate) fn slices<H: Send, I: Iterator<Item = H>>(
        &mut self,
        config: &Config,
        on: Arithmetic<'_>,
        tokens: usize,
        cut: impl FnOnce(usize) -> I,
        work: impl Fn(H, Slice<'_>, &mut Buffers) + Sync,
    ) {
        let most = if on.precision == Precision::Coarse { COARSE_SLICE } else { SLICE };
        let len = slice_len(tokens, most, on.compute.pool().threads());
        let (queries, kv) = (config.query_size(), config.kv_size());
        let Self { queries: q, keys: k, values: v, mixed, buffers } = self;
        let buffers = &*buffers;
        let projected = (q.chunks_mut(len * queries)).zip(k.chunks_mut(len * kv)).zip(v.chunks_mut(len * kv));
        // Before the first attention there is nothing mixed.
        let mixed = mixed.chunks(len * queries).map(Some).chain(std::iter::repeat(None));
        let mut slices =
            cut(len).zip(projected).zip(mixed).map(|((hidden, ((queries, keys), values)), mixed)| {
                (
                    hidden,
                    Slice {
                        projected: Projected { queries, keys, values },
                        mixed: mixed.unwrap_or_default(),
                    },
                )
            });
        if len >= tokens {
            // A step of decoding comes here and allocates nothing.
            if let Some((hidden, slice)) = slices.next() {
                lend(buffers, |buffers| work(hidden, slice, buffers));
            }
            return;
        }
        let mut slices: Vec<_> = slices.map(Some).collect();
        on.compute.pool().chunks_mut(&mut slices, 1, &|_, slice| {
            if let Some((hidden, slice)) = slice[0].take() {
                lend(buffers, |buffers| work(hidden, slice, buffers));
            }
        });
    }
}

/// Lend `work` what one thread needs, out of what no thread has at the moment.
fn lend<R>(all: &Mutex<Vec<Buffers>>, work: impl FnOnce(&mut Buffers) -> R) -> R {
    let all = || all.lock().unwrap_or_else(PoisonError::into_inner);
    let mut buffers = all().pop().unwrap_or_default();
    let result = work(&mut buffers);
    all().push(buffers);
    result
}

/// Tokens in a slice of a pass of `tokens` tokens, `most` at most.
fn slice_len(tokens: usize, most: usize, threads: usize) -> usize {
    if tokens < LEAST * threads {
        return tokens.max(1);
    }
    // Every thread gets as much as the others, in whole blocks of sixteen rows of activations.
    let rounds = tokens.div_ceil(most * threads);
    tokens.div_ceil(rounds * threads).next_multiple_of(16)
}
