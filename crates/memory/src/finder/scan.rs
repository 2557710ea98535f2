//! The exact scan: every block under every query.
use super::{KeyStream, Profile, Queries};
use crate::{Error, SectionId, Store, StreamId};
use longleaf_kernel::{Activations, BLOCK_TOKENS, Compute, DType, PackedMatrix, Precision, Product};
use longleaf_model::Config;
use std::ops::Range;
use std::sync::mpsc::{channel, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread;

/// Tokens that are read from the store and scored together: the scores of a question's tokens stay in the caches,
/// and a read is long enough for any disk.
const PIECE: usize = 4096;
/// Pieces that are read ahead of the scoring.
const AHEAD: usize = 4;

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
///
/// Keys are read from the store when they are first scanned, and stay in RAM as far as the budget goes; the others
/// are read again for each question, a few pieces ahead of the scoring. The scores are the same, bit for bit.
#[derive(Debug)]
pub struct Finder {
    compute: Arc<Compute>,
    profile: Profile,
    /// Where the store keeps each stream of keys.
    streams: Vec<StreamId>,
    /// For each head of the profile, its stream.
    stream_of: Vec<usize>,
    /// Numbers in a stored key, see [`Profile::width`].
    width: usize,
    /// Bytes of a row of a stream: the keys of [`Profile::PANEL`] tokens.
    panel_bytes: usize,
    /// `√head_dim`, by which scores are divided.
    root: f32,
    blocks: Vec<Block>,
    pieces: Vec<Piece>,
}

/// Some blocks whose keys are read together.
#[derive(Debug, Default)]
struct Piece {
    /// Which blocks.
    blocks: Range<usize>,
    /// The tokens of each, among the rows of the piece.
    rows: Vec<Range<usize>>,
    /// Where the panels lie: a section, and which of its panels.
    parts: Vec<(SectionId, Range<usize>)>,
    /// Panels in all parts.
    panels: usize,
    /// For each stream, `[tokens, width]`, if they are to stay and were read before.
    kept: OnceLock<Vec<PackedMatrix>>,
    /// Whether the budget has room for them.
    keep: bool,
}

impl Finder {
    /// The finder keys of `sections` in a store, of which at most `ram` bytes will be kept in memory. What has none
    /// (it was read for another purpose) has no blocks. Nothing is read yet.
    pub fn open(
        store: &Store,
        sections: &[SectionId],
        profile: &Profile,
        config: &Config,
        compute: &Arc<Compute>,
        ram: usize,
    ) -> Self {
        let streams = profile.streams(config);
        let stream_of = |head: &super::Head| {
            let keys = Profile::keys_of(*head, config);
            streams.iter().position(|stream| *stream == keys).expect("every head has its stream")
        };
        let stored = |stream: &KeyStream| store.find_stream(&stream.name());
        let mut finder = Self {
            compute: compute.clone(),
            stream_of: profile.heads.iter().map(stream_of).collect(),
            profile: profile.clone(),
            width: Profile::width(config),
            panel_bytes: Profile::panel_bytes(config),
            root: (config.head_dim as f32).sqrt(),
            blocks: Vec::new(),
            pieces: Vec::new(),
            streams: streams.iter().map_while(stored).collect(),
        };
        if finder.streams.len() < streams.len() {
            return finder;
        }
        let mut piece = Piece::default();
        for section in sections {
            let Some(found) = store.section(*section) else { continue };
            let tokens = (found.bytes(StreamId::TOKENS) / 4) as usize;
            let runs = (0..tokens).step_by(profile.run).map(|at| at..tokens.min(at + profile.run));
            let panels: usize = runs.clone().map(|run| run.len().div_ceil(Profile::PANEL)).sum();
            let bytes = (panels * finder.panel_bytes) as u64;
            if finder.streams.iter().any(|stream| found.bytes(*stream) != bytes) {
                continue;
            }
            let mut first = 0;
            for run in runs {
                finder.push(&mut piece, *section, run.clone(), first);
                first += run.len().div_ceil(Profile::PANEL);
                if piece.panels * Profile::PANEL >= PIECE {
                    finder.pieces.push(std::mem::take(&mut piece));
                }
            }
        }
        if piece.panels > 0 {
            finder.pieces.push(piece);
        }
        let mut left = ram;
        for piece in &mut finder.pieces {
            let bytes = piece.panels * finder.panel_bytes * finder.streams.len();
            piece.keep = bytes <= left;
            if !piece.keep {
                break;
            }
            left -= bytes;
        }
        finder
    }

    /// Add a run, whose panels begin with `first` among its section's, to a piece.
    fn push(&mut self, piece: &mut Piece, section: SectionId, run: Range<usize>, first: usize) {
        if piece.panels == 0 {
            piece.blocks = self.blocks.len()..self.blocks.len();
        }
        let row = piece.panels * Profile::PANEL;
        for at in run.clone().step_by(BLOCK_TOKENS) {
            let len = BLOCK_TOKENS.min(run.end - at);
            self.blocks.push(Block { section, first: at as u32, tokens: len as u32 });
            piece.rows.push(row + at - run.start..row + at - run.start + len);
        }
        piece.blocks.end = self.blocks.len();
        let panels = run.len().div_ceil(Profile::PANEL);
        piece.panels += panels;
        match piece.parts.last_mut() {
            Some((last, range)) if *last == section => range.end += panels,
            _ => piece.parts.push((section, first..first + panels)),
        }
    }

    /// All blocks, in the order of the sections.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// Size in memory of the keys that are there now.
    pub fn bytes(&self) -> usize {
        let kept = self.pieces.iter().filter_map(|piece| piece.kept.get());
        kept.flatten().map(PackedMatrix::bytes).sum()
    }

    /// Read the keys of a piece, one matrix for each stream.
    fn read(&self, store: &Store, piece: &Piece, keys: &mut Vec<PackedMatrix>) -> Result<(), Error> {
        let rows = piece.panels * Profile::PANEL;
        keys.truncate(self.streams.len());
        while keys.len() < self.streams.len() {
            keys.push(PackedMatrix::zeroed(DType::Q8_0, rows, self.width).expect("whole blocks"));
        }
        for (stream, keys) in self.streams.iter().zip(keys) {
            keys.set_rows(rows);
            let mut out = keys.panels_mut();
            for (section, panels) in &piece.parts {
                let (part, rest) = out.split_at_mut(panels.len() * self.panel_bytes);
                store.read(*section, *stream, (panels.start * self.panel_bytes) as u64, part)?;
                out = rest;
            }
        }
        Ok(())
    }

    /// Go through all pieces in order. What is not in memory is read in a second thread while the pieces before it
    /// are visited.
    fn scan(&self, store: &Store, visit: &mut dyn FnMut(&Piece, &[PackedMatrix])) -> Result<(), Error> {
        // Another scan may be filling what is missing at the same time: what was there at the beginning counts.
        let kept: Vec<Option<&Vec<PackedMatrix>>> =
            self.pieces.iter().map(|piece| piece.kept.get()).collect();
        if kept.iter().all(Option::is_some) {
            for (piece, keys) in self.pieces.iter().zip(kept.into_iter().flatten()) {
                visit(piece, keys);
            }
            return Ok(());
        }
        thread::scope(|scope| {
            let (full, read) = sync_channel(AHEAD);
            let (used, spare) = channel::<Vec<PackedMatrix>>();
            let missing: Vec<&Piece> = self
                .pieces
                .iter()
                .zip(&kept)
                .filter_map(|(piece, keys)| keys.is_none().then_some(piece))
                .collect();
            scope.spawn(move || {
                for piece in missing {
                    let mut keys = spare.try_recv().unwrap_or_default();
                    let result = self.read(store, piece, &mut keys).map(|()| keys);
                    let failed = result.is_err();
                    if full.send(result).is_err() || failed {
                        return;
                    }
                }
            });
            for (piece, keys) in self.pieces.iter().zip(&kept) {
                if let Some(keys) = keys {
                    visit(piece, keys);
                    continue;
                }
                let keys = read.recv().expect("every missing piece is sent, or an error")?;
                visit(piece, &keys);
                let left = if piece.keep { piece.kept.set(keys).err() } else { Some(keys) };
                if let Some(keys) = left {
                    // The reader is gone when it has read everything.
                    let _ = used.send(keys);
                }
            }
            Ok(())
        })
    }

    /// The log mass of every block under every query of every head: `[head][tokens, blocks]`.
    ///
    /// # Errors
    /// Those of the store.
    pub fn masses(&self, store: &Store, queries: &Queries) -> Result<Vec<Vec<f32>>, Error> {
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
        self.scan(store, &mut |piece, keys| {
            for ((queries, stream), masses) in prepared.iter().zip(&self.stream_of).zip(&mut masses) {
                let keys = &keys[*stream];
                scores.resize(tokens * keys.rows(), 0.0);
                self.compute.matmul(queries, &mut [Product { weights: keys, out: &mut scores }]);
                piece_masses.resize(tokens * piece.rows.len(), 0.0);
                self.compute.log_mass(&scores, keys.rows(), &piece.rows, scale, &mut piece_masses);
                for (token, from) in piece_masses.chunks_exact(piece.rows.len()).enumerate() {
                    let row = &mut masses[token * blocks..(token + 1) * blocks];
                    row[piece.blocks.clone()].copy_from_slice(from);
                }
            }
        })?;
        Ok(masses)
    }

    /// The score of every block, `[blocks]`, at most 0: see [`crate::finder`]. Tokens before `skip` do not count
    /// (they are the frame around the question).
    ///
    /// # Errors
    /// Those of the store.
    pub fn scores(&self, store: &Store, queries: &Queries, skip: usize) -> Result<Vec<f32>, Error> {
        let heads = self.head_scores(store, queries, skip)?;
        let share = 1.0 / heads.len() as f32;
        let mut scores = vec![0.0; self.blocks.len()];
        for head in &heads {
            for (score, best) in scores.iter_mut().zip(head) {
                *score += share * best;
            }
        }
        Ok(scores)
    }

    /// The same for each head of the profile alone, `[head][blocks]`.
    ///
    /// # Errors
    /// Those of the store.
    pub fn head_scores(&self, store: &Store, queries: &Queries, skip: usize) -> Result<Vec<Vec<f32>>, Error> {
        let blocks = self.blocks.len();
        if blocks == 0 {
            return Ok(vec![Vec::new(); self.profile.heads.len()]);
        }
        let of_head = |masses: Vec<f32>| {
            let mut best = vec![f32::NEG_INFINITY; blocks];
            for row in masses.chunks_exact(blocks).skip(skip) {
                let mut total = [0.0];
                self.compute.log_mass(row, blocks, std::slice::from_ref(&(0..blocks)), 1.0, &mut total);
                for (best, mass) in best.iter_mut().zip(row) {
                    *best = best.max(mass - total[0]);
                }
            }
            best
        };
        Ok(self.masses(store, queries)?.into_iter().map(of_head).collect())
    }
}
