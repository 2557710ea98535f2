//! Far blocks brought to a place where they can be attended to.
use super::angles::{Angles, Place, write_rotated};
use super::index::Look;
use super::runs::Runs;
use super::{FarBlock, FarBlocks};
use crate::Error;
use longleaf_kernel::{Attend, Compute, KvBlock, KvFormat, KvView};
use longleaf_model::{Config, Rotation};
use std::sync::Arc;

/// Blocks that are fetched at once: enough for a disk to be busy, few enough to weigh little.
const FETCH: usize = 8;

/// Before every query of a call, however long.
pub(crate) const FAR: i64 = -(1 << 40);

/// A far block, rotated to a place.
#[derive(Debug)]
pub(crate) struct Placed {
    pub(crate) block: usize,
    pub(crate) place: Place,
    pub(crate) tokens: usize,
    pub(crate) kv: KvBlock,
}

impl Placed {
    /// As every query sees it.
    pub(crate) fn view(&self) -> KvView<'_> {
        KvView { block: &self.kv, len: self.tokens, offset: FAR, window: i64::MAX }
    }
}

/// Rotates blocks, with the buffers that this takes.
#[derive(Debug)]
pub(crate) struct Placer {
    pub(crate) compute: Arc<Compute>,
    pub(crate) angles: Angles,
    pub(crate) format: KvFormat,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
    /// `head_dim^-1/2`.
    pub(crate) scale: f32,
    spare: Vec<KvBlock>,
    fetched: Vec<FarBlock>,
    /// What attention writes when only its masses are wanted.
    out: Vec<f32>,
}

impl Placer {
    pub(crate) fn new(config: &Config, compute: Arc<Compute>, format: KvFormat, length: usize) -> Self {
        Self {
            compute,
            angles: Angles::new(Rotation::new(&config.rope, length)),
            format,
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            scale: 1.0 / (config.head_dim as f32).sqrt(),
            spare: Vec::new(),
            fetched: Vec::new(),
            out: Vec::new(),
        }
    }

    /// Rows of the tokens from position `first` on, `row` numbers each, with a bias added if there is one, rotated to
    /// their own positions; in `to`.
    pub(crate) fn rotate(
        &mut self,
        runs: Runs,
        first: usize,
        (rows, bias): (&[f32], Option<&[f32]>),
        row: usize,
        to: &mut Vec<f32>,
    ) {
        /// Tokens in a task.
        const TOKENS: usize = 32;
        to.clear();
        to.extend_from_slice(rows);
        let starts = runs.cut(first..first + rows.len() / row).map(|run| runs.start(run.start) as i64);
        self.angles.prepare(starts.map(Place::From));
        let (compute, angles, dim) = (&self.compute, &self.angles, self.head_dim);
        compute.pool().chunks_mut(to, TOKENS * row, &|piece, to| {
            for (position, row) in (first + piece * TOKENS..).zip(to.chunks_exact_mut(row)) {
                if let Some(bias) = bias {
                    row.iter_mut().zip(bias).for_each(|(x, b)| *x += b);
                }
                let start = runs.start(position);
                let table = angles.get(Place::From(start as i64));
                table.rotate(compute, dim, position - start, row, row.len());
            }
        });
    }

    /// A block to be filled.
    pub(crate) fn block(&mut self) -> KvBlock {
        let new = || KvBlock::new(self.format, self.kv_heads, self.head_dim);
        self.spare.pop().unwrap_or_else(new)
    }

    /// Give a block back.
    pub(crate) fn give_back(&mut self, block: KvBlock) {
        self.spare.push(block);
    }

    /// Make `placed` hold exactly `wanted`, in that order; what is there already stays.
    ///
    /// # Errors
    /// Those of `far`; `placed` is then empty.
    pub(crate) fn place(
        &mut self,
        far: &mut dyn FarBlocks,
        layer: usize,
        key_bias: Option<&[f32]>,
        wanted: &[(usize, Place)],
        placed: &mut Vec<Placed>,
    ) -> Result<(), Error> {
        let mut slots: Vec<Option<Placed>> = wanted.iter().map(|_| None).collect();
        for old in placed.drain(..) {
            match wanted.iter().position(|new| *new == (old.block, old.place)) {
                Some(index) if slots[index].is_none() => slots[index] = Some(old),
                _ => self.spare.push(old.kv),
            }
        }
        self.angles.prepare(wanted.iter().map(|(_, place)| *place));
        let missing: Vec<usize> = (0..wanted.len()).filter(|index| slots[*index].is_none()).collect();
        for indices in missing.chunks(FETCH) {
            let blocks: Vec<usize> = indices.iter().map(|index| wanted[*index].0).collect();
            let mut fetched = std::mem::take(&mut self.fetched);
            fetched.resize_with(FETCH, FarBlock::default);
            far.fetch(layer, &blocks, &mut fetched[..blocks.len()])?;
            let mut new: Vec<(Placed, &mut FarBlock)> = Vec::with_capacity(FETCH);
            for (index, fetched) in indices.iter().zip(&mut fetched) {
                let (block, place) = wanted[*index];
                new.push((Placed { block, place, tokens: far.tokens(block), kv: self.block() }, fetched));
            }
            let (compute, angles) = (&self.compute, &self.angles);
            compute.pool().chunks_mut(&mut new, 1, &|_, new| {
                let (placed, FarBlock { keys, values }) = &mut new[0];
                let table = angles.get(placed.place);
                write_rotated(compute, table, key_bias, (keys, values), &mut placed.kv);
            });
            for (index, (placed, _)) in indices.iter().zip(new) {
                slots[*index] = Some(placed);
            }
            self.fetched = fetched;
        }
        placed.extend(slots.into_iter().flatten());
        Ok(())
    }

    /// The exact log masses of `blocks` under every query and head: `[blocks, queries, heads]`, appended to `masses`.
    pub(crate) fn masses(
        &mut self,
        far: &mut dyn FarBlocks,
        look: &Look<'_>,
        blocks: &[usize],
        masses: &mut Vec<f32>,
    ) -> Result<(), Error> {
        let mut placed = Vec::new();
        for blocks in blocks.chunks(FETCH) {
            let wanted: Vec<_> = blocks.iter().map(|block| (*block, look.places[*block])).collect();
            self.place(far, look.layer, look.key_bias, &wanted, &mut placed)?;
            for placed in &placed {
                self.read_masses(look.queries, &[placed.view()], masses);
            }
        }
        for placed in placed {
            self.give_back(placed.kv);
        }
        Ok(())
    }

    /// The log mass of everything in `views` under each row of `queries`, appended to `masses`.
    pub(crate) fn read_masses(&mut self, queries: &[f32], views: &[KvView<'_>], masses: &mut Vec<f32>) {
        let start = masses.len();
        masses.resize(start + queries.len() / self.head_dim, f32::NEG_INFINITY);
        self.out.resize(queries.len(), 0.0);
        let attend = Attend { queries, heads: self.heads, views, scale: self.scale };
        self.compute.attend(&attend, &mut self.out, Some(&mut masses[start..]));
    }
}
