//! The exact scan: every block under every query.
use super::{KeyStream, Profile, Queries};
use crate::{Error, SectionId, Store, StreamId};
use longleaf_kernel::{Activations, BLOCK_TOKENS, Compute, DType, PackedMatrix, Precision, Product};
use longleaf_model::Config;
use std::ops::Range;
use std::sync::Arc;

/// Tokens that are scored together: the scores of a question's tokens stay in the caches.
const PIECE: usize = 4096;

/// Where a block lies: at most [`BLOCK_TOKENS`] tokens of one section, and at most one run of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// The section.
    pub section: SectionId,
    /// Its first token within the section.
    pub first: u32,
    /// How many.
    pub tokens: u32,
}

/// The finder keys of a memory, ready to be searched.
#[derive(Debug)]
pub struct Finder {
    compute: Arc<Compute>,
    profile: Profile,
    streams: Vec<KeyStream>,
    /// For each head of the profile, its stream.
    stream_of: Vec<usize>,
    /// Numbers in a stored key, see [`Profile::width`].
    width: usize,
    /// `√head_dim`, by which scores are divided.
    root: f32,
    blocks: Vec<Block>,
    pieces: Vec<Piece>,
}

/// Some blocks whose keys lie together.
#[derive(Debug)]
struct Piece {
    /// Which blocks.
    blocks: Range<usize>,
    /// The tokens of each, among the rows of the piece.
    rows: Vec<Range<usize>>,
    /// For each stream, `[tokens, width]`.
    keys: Vec<PackedMatrix>,
}

impl Finder {
    /// Load the finder keys of `sections` from a store. What has none (it was read for another purpose) has no
    /// blocks.
    pub fn load(
        store: &Store,
        sections: &[SectionId],
        profile: &Profile,
        config: &Config,
        compute: &Arc<Compute>,
    ) -> Result<Self, Error> {
        let streams = profile.streams(config);
        let stream_of = |head: &super::Head| {
            let keys = Profile::keys_of(*head, config);
            streams.iter().position(|stream| *stream == keys).expect("every head has its stream")
        };
        let mut finder = Self {
            compute: compute.clone(),
            stream_of: profile.heads.iter().map(stream_of).collect(),
            profile: profile.clone(),
            width: Profile::width(config),
            root: (config.head_dim as f32).sqrt(),
            blocks: Vec::new(),
            pieces: Vec::new(),
            streams,
        };
        let stored: Option<Vec<StreamId>> =
            finder.streams.iter().map(|stream| store.find_stream(&stream.name())).collect();
        let Some(stored) = stored else { return Ok(finder) };
        let mut rows = vec![Vec::new(); stored.len()];
        let mut blocks = Vec::new();
        for section in sections {
            let Some(found) = store.section(*section) else { continue };
            if stored.iter().any(|stream| found.bytes(*stream) == 0) {
                continue;
            }
            let tokens = (found.bytes(StreamId::TOKENS) / 4) as usize;
            for (stream, rows) in stored.iter().zip(&mut rows) {
                rows.extend_from_slice(&store.read_all(*section, *stream)?);
            }
            blocks.push((*section, tokens));
            if blocks.iter().map(|(_, tokens)| tokens).sum::<usize>() >= PIECE {
                finder.push(&std::mem::take(&mut blocks), &mut rows);
            }
        }
        finder.push(&blocks, &mut rows);
        Ok(finder)
    }

    /// Take in the rows of some sections, which are cleared.
    fn push(&mut self, sections: &[(SectionId, usize)], rows: &mut [Vec<u8>]) {
        if sections.is_empty() {
            return;
        }
        let first = self.blocks.len();
        let mut ranges = Vec::new();
        let mut row = 0;
        for &(section, tokens) in sections {
            for run in (0..tokens).step_by(self.profile.run) {
                let run = run..tokens.min(run + self.profile.run);
                for at in run.clone().step_by(BLOCK_TOKENS) {
                    let len = BLOCK_TOKENS.min(run.end - at);
                    self.blocks.push(Block { section, first: at as u32, tokens: len as u32 });
                    ranges.push(row + at - run.start..row + at - run.start + len);
                }
                row += run.len().next_multiple_of(Profile::PANEL);
            }
        }
        let keys = rows.iter_mut().map(|rows| {
            let mut keys = PackedMatrix::zeroed(DType::Q8_0, row, self.width).expect("whole blocks");
            keys.panels_mut().copy_from_slice(rows);
            rows.clear();
            keys
        });
        self.pieces.push(Piece { blocks: first..self.blocks.len(), rows: ranges, keys: keys.collect() });
    }

    /// All blocks, in the order of the sections.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// Size in memory.
    pub fn bytes(&self) -> usize {
        self.pieces.iter().flat_map(|piece| &piece.keys).map(PackedMatrix::bytes).sum()
    }

    /// The log mass of every block under every query of every head: `[head][tokens, blocks]`.
    pub fn masses(&self, queries: &Queries) -> Vec<Vec<f32>> {
        let (tokens, blocks) = (queries.tokens, self.blocks.len());
        let mut masses = vec![vec![0.0; tokens * blocks]; self.profile.heads.len()];
        let prepare = |rows: &Vec<f32>| {
            let mut activations = Activations::new();
            self.compute.prepare(Precision::Exact, self.width, rows, &mut activations);
            activations
        };
        let prepared: Vec<_> = queries.heads.iter().map(prepare).collect();
        let scale = 1.0 / self.root;
        let (mut scores, mut piece_masses) = (Vec::new(), Vec::new());
        for piece in &self.pieces {
            for ((queries, stream), masses) in prepared.iter().zip(&self.stream_of).zip(&mut masses) {
                let keys = &piece.keys[*stream];
                scores.resize(tokens * keys.rows(), 0.0);
                self.compute.matmul(queries, &mut [Product { weights: keys, out: &mut scores }]);
                piece_masses.resize(tokens * piece.rows.len(), 0.0);
                self.compute.log_mass(&scores, keys.rows(), &piece.rows, scale, &mut piece_masses);
                for (token, from) in piece_masses.chunks_exact(piece.rows.len()).enumerate() {
                    let row = &mut masses[token * blocks..(token + 1) * blocks];
                    row[piece.blocks.clone()].copy_from_slice(from);
                }
            }
        }
        masses
    }

    /// The score of every block, `[blocks]`, at most 0: see [`crate::finder`]. Tokens before `skip` do not count
    /// (they are the frame around the question).
    pub fn scores(&self, queries: &Queries, skip: usize) -> Vec<f32> {
        let blocks = self.blocks.len();
        let mut scores = vec![0.0; blocks];
        if blocks == 0 {
            return scores;
        }
        let masses = self.masses(queries);
        let share = 1.0 / masses.len() as f32;
        for masses in &masses {
            let mut best = vec![f32::NEG_INFINITY; blocks];
            for row in masses.chunks_exact(blocks).skip(skip) {
                let mut total = [0.0];
                self.compute.log_mass(row, blocks, std::slice::from_ref(&(0..blocks)), 1.0, &mut total);
                for (best, mass) in best.iter_mut().zip(row) {
                    *best = best.max(mass - total[0]);
                }
            }
            for (score, best) in scores.iter_mut().zip(best) {
                *score += share * best;
            }
        }
        scores
    }
}
