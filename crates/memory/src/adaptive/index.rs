//! How much each far block weighs, without attending to all of them.
use super::angles::Place;
use super::place::Placer;
use super::summary::dot;
use super::{FarBlocks, Summarizer};
use crate::Error;
use longleaf_kernel::BLOCK_TOKENS;
use std::fmt::Debug;

/// What is asked of an index: the queries of some tokens in one layer.
#[derive(Debug)]
pub(crate) struct Look<'a> {
    pub(crate) layer: usize,
    /// `[queries, heads, head_dim]`, rotated to where they stand when blocks are judged.
    pub(crate) queries: &'a [f32],
    pub(crate) key_bias: Option<&'a [f32]>,
    /// Where each block stands then.
    pub(crate) places: &'a [Place],
}

/// Estimates of log masses.
pub(crate) trait Index: Debug {
    /// The log mass of every block of `look.places` under every query and head, `[blocks, queries, heads]`,
    /// appended to `out`.
    fn masses(
        &mut self,
        look: &Look<'_>,
        far: &mut dyn FarBlocks,
        placer: &mut Placer,
        out: &mut Vec<f32>,
    ) -> Result<(), Error>;
}

/// Reads every key: the oracle.
#[derive(Debug)]
pub(crate) struct Exact;

impl Index for Exact {
    fn masses(
        &mut self,
        look: &Look<'_>,
        far: &mut dyn FarBlocks,
        placer: &mut Placer,
        out: &mut Vec<f32>,
    ) -> Result<(), Error> {
        let blocks: Vec<usize> = (0..look.places.len()).collect();
        placer.masses(far, look, &blocks, out)
    }
}

/// Tangents of the log masses, from the blocks' summaries (see [`Summarizer`]).
#[derive(Debug, Default)]
pub(crate) struct Tangents {
    summaries: Vec<f32>,
}

/// Summaries in memory at once.
const PIECE: usize = 512;

impl Index for Tangents {
    fn masses(
        &mut self,
        look: &Look<'_>,
        far: &mut dyn FarBlocks,
        placer: &mut Placer,
        out: &mut Vec<f32>,
    ) -> Result<(), Error> {
        let (heads, kv_heads, dim) = (placer.heads, placer.kv_heads, placer.head_dim);
        let (rows, group) = (look.queries.len() / dim, heads / kv_heads);
        let one = Summarizer::numbers(kv_heads, dim);
        let start = out.len();
        out.resize(start + look.places.len() * rows, 0.0);
        let mut out = &mut out[start..];
        placer.angles.prepare(look.places.iter().copied());
        for first in (0..look.places.len()).step_by(PIECE) {
            let places = &look.places[first..look.places.len().min(first + PIECE)];
            self.summaries.clear();
            far.summaries(look.layer, first..first + places.len(), &mut self.summaries)?;
            let (now, later) = out.split_at_mut(places.len() * rows);
            out = later;
            let (compute, angles, scale) = (&placer.compute, &placer.angles, placer.scale);
            let summaries = &self.summaries;
            compute.pool().chunks_mut(now, 8 * rows, &|index, masses| {
                let mut keys = vec![0.0; kv_heads * dim];
                for (block, masses) in (8 * index..).zip(masses.chunks_exact_mut(rows)) {
                    let summary = &summaries[block * one..(block + 1) * one];
                    for (key, summary) in keys.chunks_exact_mut(dim).zip(summary.chunks_exact(dim + 1)) {
                        key.copy_from_slice(&summary[..dim]);
                    }
                    // A summary's key stands at the middle of its block.
                    let table = angles.get(places[block]);
                    table.rotate(compute, dim, BLOCK_TOKENS / 2, &mut keys, kv_heads * dim);
                    for (row, (mass, query)) in
                        masses.iter_mut().zip(look.queries.chunks_exact(dim)).enumerate()
                    {
                        let head = row % heads / group;
                        let key = &keys[head * dim..][..dim];
                        *mass = scale * dot(query, key) + summary[head * (dim + 1) + dim];
                    }
                }
            });
        }
        Ok(())
    }
}
