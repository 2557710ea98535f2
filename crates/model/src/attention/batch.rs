//! Several short sequences in one forward pass: products over the rows of all, attention within each.
use super::{Attention, Dense, Qkv, Visible};
use crate::config::Config;
use longleaf_kernel::{Compute, KvFormat};
use std::convert::Infallible;
use std::ops::Range;
use std::sync::Arc;

/// Sequences that lie end to end: row `r` of the pass belongs to the one in whose range `r` is, and stands there at
/// the position that it has within the range. Every sequence gets the numbers that it would get alone.
#[derive(Debug)]
pub struct Batch {
    sequences: Vec<(Range<usize>, Dense)>,
}

impl Batch {
    /// Sequences of so many tokens each.
    pub fn new(config: &Config, compute: &Arc<Compute>, format: KvFormat, lengths: &[usize]) -> Self {
        let mut start = 0;
        let sequence = |length: &usize| {
            let rows = start..start + length;
            start = rows.end;
            (rows, Dense::new(config, Arc::clone(compute), format, Visible::All, *length))
        };
        Self { sequences: lengths.iter().map(sequence).collect() }
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
            dense.attend(layer, start - sequence.start..end - sequence.start, part, &mut out[own(query)])?;
        }
        Ok(())
    }
}
