//! The exact scan: every block under every query.
use super::{KeyStream, Profile, Queries};
use crate::{Error, SectionId, Store, StreamId};
use longleaf_kernel::{Activations, BLOCK_TOKENS, Compute, DType, PackedMatrix, Precision, Product};
use longleaf_model::Config;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread;

/// Tokens that are read from the store and scored together: the scores of a question's tokens stay in the caches,
/// and a read is long enough for any disk.
const PIECE: usize = 4096;
/// Threads beyond those that compute, while there is something to read: they wait for the disk, not for a core.
const READERS: usize = 2;

/// So many blocks can stand out for one token of a question; of a small memory, a quarter.
const STAND_OUT: usize = 64;

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
/// Keys are read from the store when they are scanned. From the second question on they stay in RAM as far as the
/// budget goes (for a single one, finding room for them costs more than it brings); the others are read again for each
/// question. The scores are the same, bit for bit.
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
    /// How many of them have keys.
    keyed: usize,
    pieces: Vec<Piece>,
    /// Questions so far.
    asked: AtomicUsize,
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
    /// The blocks of `sections` in a store and their finder keys, of which at most `ram` bytes will be kept in memory.
    /// Blocks that have no keys (their section was read for its words alone) score 0. Nothing is read yet.
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
            keyed: 0,
            pieces: Vec::new(),
            asked: AtomicUsize::new(0),
            streams: streams.iter().map_while(stored).collect(),
        };
        let mut piece = Piece::default();
        for section in sections {
            let Some(found) = store.section(*section) else { continue };
            let tokens = (found.bytes(StreamId::TOKENS) / 4) as usize;
            let runs = (0..tokens).step_by(profile.run).map(|at| at..tokens.min(at + profile.run));
            if !profile.holds(store, *section, config) {
                // A piece's blocks stand one after another.
                if piece.panels > 0 {
                    finder.pieces.push(std::mem::take(&mut piece));
                }
                runs.for_each(|run| finder.blocks.extend(blocks(*section, run)));
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
        for block in blocks(section, run.clone()) {
            let start = row + block.first as usize - run.start;
            piece.rows.push(start..start + block.tokens as usize);
            self.blocks.push(block);
        }
        self.keyed += self.blocks.len() - piece.blocks.end;
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

    /// How many of them have keys: the others score 0.
    pub fn keyed(&self) -> usize {
        self.keyed
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

    /// Go through the pieces that `turns` gives, each a piece's number: read its keys unless they are there, and send
    /// its log masses under every query of every head, `[head][tokens, blocks]`. Ends early if nobody wants more.
    fn work(
        &self,
        store: &Store,
        queries: &[Activations],
        turns: impl Iterator<Item = usize>,
        done: &Sender<(usize, Result<Vec<f32>, Error>)>,
    ) {
        // A piece is one thread's: nobody waits for another one until all are done.
        let alone = Compute::with(self.compute.kernels(), 1);
        let (mut buffer, mut scores) = (Vec::new(), Vec::new());
        let scale = 1.0 / self.root;
        for index in turns {
            let piece = &self.pieces[index];
            let keys = if let Some(keys) = piece.kept.get() {
                keys
            } else {
                if let Err(error) = self.read(store, piece, &mut buffer) {
                    let _ = done.send((index, Err(error)));
                    return;
                }
                &buffer
            };
            let mut masses = Vec::new();
            for (queries, stream) in queries.iter().zip(&self.stream_of) {
                let (keys, tokens) = (&keys[*stream], queries.tokens());
                scores.resize(tokens * keys.rows(), 0.0);
                alone.matmul(queries, &mut [Product { weights: keys, out: &mut scores }]);
                let from = masses.len();
                masses.resize(from + tokens * piece.rows.len(), 0.0);
                alone.log_mass(&scores, keys.rows(), &piece.rows, scale, &mut masses[from..]);
            }
            if piece.keep && piece.kept.get().is_none() && self.asked.load(Ordering::Relaxed) > 1 {
                // Another scan may have been faster.
                let _ = piece.kept.set(std::mem::take(&mut buffer));
            }
            if done.send((index, Ok(masses))).is_err() {
                return;
            }
        }
    }

    /// The log mass of every block under every query of every head: `[head][tokens, blocks]`; that of nothing, `-∞`,
    /// where a block has no keys.
    ///
    /// # Errors
    /// Those of the store.
    pub fn masses(&self, store: &Store, queries: &Queries) -> Result<Vec<Vec<f32>>, Error> {
        let (tokens, blocks) = (queries.tokens, self.blocks.len());
        let mut masses = vec![vec![f32::NEG_INFINITY; tokens * blocks]; self.profile.heads.len()];
        let prepare = |rows: &Vec<f32>| {
            let mut activations = Activations::new();
            self.compute.prepare(Precision::Exact, self.width, rows, &mut activations);
            activations
        };
        let prepared: Vec<_> = queries.heads.iter().map(prepare).collect();
        self.asked.fetch_add(1, Ordering::Relaxed);
        let threads = self.compute.pool().threads();
        let resident = self.pieces.iter().all(|piece| piece.kept.get().is_some());
        let workers = if resident { threads } else { threads + READERS };
        let next = AtomicUsize::new(0);
        thread::scope(|scope| {
            let (done, results) = channel();
            for _ in 0..workers.min(self.pieces.len()) {
                let (done, prepared) = (done.clone(), &prepared);
                let turn = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|at| *at < self.pieces.len());
                scope.spawn(move || self.work(store, prepared, std::iter::from_fn(turn), &done));
            }
            drop(done);
            for (index, result) in results {
                let piece = &self.pieces[index];
                let rows = result?;
                let of_head = rows.chunks_exact(tokens * piece.rows.len());
                for (masses, rows) in masses.iter_mut().zip(of_head) {
                    for (token, from) in rows.chunks_exact(piece.rows.len()).enumerate() {
                        let row = &mut masses[token * blocks..(token + 1) * blocks];
                        row[piece.blocks.clone()].copy_from_slice(from);
                    }
                }
            }
            Ok(masses)
        })
    }

    /// The score of every block, `[blocks]`, at least 0: see [`crate::finder`]. Tokens before `skip` do not count
    /// (they are the frame around the question).
    ///
    /// # Errors
    /// Those of the store.
    pub fn scores(&self, store: &Store, queries: &Queries, skip: usize) -> Result<Vec<f32>, Error> {
        let heads = self.head_scores(store, queries, skip)?;
        let share = 1.0 / heads.len() as f32;
        let mut scores = vec![0.0; self.blocks.len()];
        for head in &heads {
            for (score, of_head) in scores.iter_mut().zip(head) {
                *score += share * of_head;
            }
        }
        Ok(scores)
    }

    /// The same for each head of the profile alone, `[head][blocks]`.
    ///
    /// # Errors
    /// Those of the store.
    pub fn head_scores(&self, store: &Store, queries: &Queries, skip: usize) -> Result<Vec<Vec<f32>>, Error> {
        let (blocks, tokens) = (self.blocks.len(), queries.tokens.saturating_sub(skip));
        if self.keyed == 0 || tokens == 0 {
            return Ok(vec![vec![0.0; blocks]; self.profile.heads.len()]);
        }
        let counting = |rows: &Vec<f32>| rows[skip * self.width..].to_vec();
        let queries = Queries { heads: queries.heads.iter().map(counting).collect(), tokens };
        let rank = STAND_OUT.min(self.keyed.div_ceil(4)).min(self.keyed - 1);
        let mut order = Vec::new();
        let of_head = |masses: Vec<f32>| {
            let mut scores = vec![0.0; blocks];
            for row in masses.chunks_exact(blocks) {
                order.clear();
                order.extend_from_slice(row);
                let (_, ordinary, _) = order.select_nth_unstable_by(rank, |a, b| b.total_cmp(a));
                for (score, mass) in scores.iter_mut().zip(row) {
                    *score += (mass - *ordinary).max(0.0);
                }
            }
            scores
        };
        Ok(self.masses(store, &queries)?.into_iter().map(of_head).collect())
    }
}

/// The blocks of a run of a section's tokens.
fn blocks(section: SectionId, run: Range<usize>) -> impl Iterator<Item = Block> {
    let end = run.end;
    run.step_by(BLOCK_TOKENS).map(move |first| {
        let tokens = BLOCK_TOKENS.min(end - first) as u32;
        Block { section, first: first as u32, tokens }
    })
}
