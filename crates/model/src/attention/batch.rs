//! Several short sequences in one forward pass: products over the rows of all, attention within each.
use super::{Attention, Dense, Qkv, Visible};
use crate::config::Config;
use longleaf_kernel::{Compute, KvFormat};
use std::convert::Infallible;
use std::ops::Range;
use std::sync::Arc;

/// Sequences that lie end to end: row `r` of the pass belongs to the one in whose range `r` is, and stands there at
/// the position that it has within the range, behind what all of them begin with. Every sequence gets the numbers that
/// it would get alone.
#[derive(Debug)]
pub struct Batch {
    /// Tokens that all of them begin with.
    before: usize,
    sequences: Vec<(Range<usize>, Dense)>,
}

impl Batch {
    /// Sequences of so many tokens each.
    pub fn new(config: &Config, compute: &Arc<Compute>, format: KvFormat, lengths: &[usize]) -> Self {
        let dense = |length| Dense::new(config, Arc::clone(compute), format, Visible::All, length);
        Self::of(0, lengths, dense)
    }

    /// Sequences that each go on from `beginning`, by so many tokens.
    pub fn after(beginning: &Dense, lengths: &[usize]) -> Self {
        Self::of(beginning.len(), lengths, |_| beginning.clone())
    }

    fn of(before: usize, lengths: &[usize], mut dense: impl FnMut(usize) -> Dense) -> Self {
        let mut start = 0;
        let sequence = |length: &usize| {
            let rows = start..start + length;
            start = rows.end;
            (rows, dense(*length))
        };
        Self { before, sequences: lengths.iter().map(sequence).collect() }
    }
}

impl Attention for Batch {
    type Error = Infallible;

    /// `positions` are rows of the pass.
    fn attend(
        &mut self,
        layer: usize,
        positions: Range<usize>,
        qkv: Qkv<'_>,
        out: &mut [f32],
    ) -> Result<(), Infallible> {
        let rows = positions.len().max(1);
        let (query, key) = (qkv.queries.len() / rows, qkv.keys.len() / rows);
        for (sequence, dense) in &mut self.sequences {
            let (start, end) = (sequence.start.max(positions.start), sequence.end.min(positions.end));
            if start >= end {
                continue;
            }
            let own = |width: usize| (start - positions.start) * width..(end - positions.start) * width;
            let part = Qkv {
                queries: &qkv.queries[own(query)],
                keys: &qkv.keys[own(key)],
                values: &qkv.values[own(key)],
                key_bias: qkv.key_bias,
            };
            let places = self.before + start - sequence.start..self.before + end - sequence.start;
            dense.attend(layer, places, part, &mut out[own(query)])?;
        }
        Ok(())
    }
}
