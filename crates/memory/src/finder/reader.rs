//! The lowest layers over text and questions.
use super::keys::Keys;
use super::{KeyStream, Profile};
use longleaf_kernel::{KvFormat, Precision};
use longleaf_model::{Attention, Decoder, Dense, PREFILL_TOKENS, Qkv, Rotation, Scratch, Visible};
use std::convert::Infallible;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// Tokens that are read at a time, at least and at most: what is read is to be safe soon.
const BATCH: (usize, usize) = (2048, 4096);

/// Reads runs of text for their keys, and questions for their queries.
///
/// Runs see nothing of each other, so that a thread takes a whole one through all layers and never waits.
#[derive(Debug)]
pub struct Reader<'m> {
    decoder: &'m Decoder,
    /// The same, as closely as keys need it.
    reading: Decoder,
    profile: Profile,
    streams: Vec<KeyStream>,
    /// Those that no thread has at the moment.
    passes: Mutex<Vec<Pass>>,
}

/// What one thread needs to read a run.
#[derive(Debug)]
struct Pass {
    attention: Watched,
    scratch: Scratch,
    hidden: Vec<f32>,
}

/// The queries of a question's tokens in the finder heads, rotated to the profile's distance.
#[derive(Debug, Clone)]
pub struct Queries {
    /// For each head of the profile, in its order, `[tokens, width]`, filled up with zeros as keys are.
    pub heads: Vec<Vec<f32>>,
    /// Tokens of the question.
    pub tokens: usize,
}

/// Dense attention that keeps what passes through it.
#[derive(Debug)]
struct Watched {
    dense: Dense,
    keys: Keys,
    /// For each layer, `[tokens, heads, head_dim]`, if questions are watched.
    queries: Option<Vec<Vec<f32>>>,
}

impl Watched {
    fn take_queries(&mut self, layer: usize, queries: &[f32]) {
        if let Some(kept) = &mut self.queries {
            kept[layer].extend_from_slice(queries);
        }
    }
}

impl Attention for Watched {
    type Error = Infallible;

    fn attend(
        &mut self,
        layer: usize,
        positions: Range<usize>,
        qkv: Qkv<'_>,
        out: &mut [f32],
    ) -> Result<(), Infallible> {
        self.keys.take(layer, qkv.keys);
        self.take_queries(layer, qkv.queries);
        self.dense.attend(layer, positions, qkv, out)
    }
}

/// The same decoder for text that is kept in few bits: where it computes with [`Precision::Fast`], with
/// [`Precision::Coarse`] (`docs/experiments.md`).
pub(crate) fn reading(decoder: &Decoder) -> Decoder {
    let precision = match decoder.precision() {
        Precision::Fast => Precision::Coarse,
        other => other,
    };
    decoder.clone().with_precision(precision)
}

impl<'m> Reader<'m> {
    /// Reads with `decoder` what `profile` asks for, text in [`Precision::Coarse`] where that is [`Precision::Fast`].
    pub fn new(decoder: &'m Decoder, profile: &Profile) -> Self {
        let streams = profile.streams(decoder.config());
        let passes = Mutex::default();
        Self { decoder, reading: reading(decoder), profile: profile.clone(), streams, passes }
    }

    /// The streams that [`Reader::read`] fills, in their order.
    pub fn streams(&self) -> &[KeyStream] {
        &self.streams
    }

    /// How many tokens should be read at a time, so that every thread has runs to read: whole runs.
    pub fn batch(&self) -> usize {
        let runs = BATCH.0.div_ceil(self.profile.run);
        let runs = runs.next_multiple_of(self.decoder.compute().pool().threads());
        runs.min(BATCH.1 / self.profile.run).max(1) * self.profile.run
    }

    /// Read runs of [`Profile::run`] tokens, the last of which may be shorter, and append their keys to `rows`, one
    /// buffer for each stream: whole panels of [`Profile::PANEL`] tokens, the last one filled up with zeros.
    pub fn read(&self, tokens: &[u32], rows: &mut [Vec<u8>]) {
        let pool = self.decoder.compute().pool();
        let run = |tokens| (tokens, vec![Vec::new(); rows.len()]);
        let mut runs: Vec<(&[u32], Vec<Vec<u8>>)> = tokens.chunks(self.profile.run).map(run).collect();
        pool.chunks_mut(&mut runs, 1, &|_, run| {
            let (tokens, rows) = &mut run[0];
            self.pass(|pass| {
                pass.read(&self.reading, self.profile.layers(), tokens);
                pass.attention.keys.encode(pool, rows);
            });
        });
        for (_, of_run) in runs {
            for (rows, of_run) in rows.iter_mut().zip(of_run) {
                rows.extend_from_slice(&of_run);
            }
        }
    }

    /// The queries of a question.
    pub fn queries(&self, question: &[u32]) -> Queries {
        let decoder = self.decoder;
        let config = decoder.config();
        let (heads, head_dim) = (config.heads, config.head_dim);
        let mut layers = self.pass(|pass| {
            pass.attention.queries = Some(vec![Vec::new(); self.profile.layers()]);
            // A question longer than a run is read in several.
            for run in question.chunks(self.profile.run) {
                pass.read(decoder, self.profile.layers(), run);
            }
            pass.attention.keys.clear();
            pass.attention.queries.take().unwrap_or_default()
        });
        let mut rotation = Rotation::new(&config.rope, self.profile.run);
        let distance = self.profile.distance as i64;
        let (cos, sin) = rotation.at(distance..distance + 1);
        let (cos, sin) = (cos.repeat(question.len()), sin.repeat(question.len()));
        for queries in layers.iter_mut().filter(|queries| !queries.is_empty()) {
            decoder.compute().rope(queries, heads, head_dim, &cos, &sin);
        }
        let width = Profile::width(config);
        let one = |head: &super::Head| {
            let mut all = Vec::with_capacity(question.len() * width);
            for row in layers[head.layer].chunks_exact(heads * head_dim) {
                all.extend_from_slice(&row[head.head * head_dim..][..head_dim]);
                all.resize(all.len().next_multiple_of(width), 0.0);
            }
            all
        };
        Queries { heads: self.profile.heads.iter().map(one).collect(), tokens: question.len() }
    }

    /// Lend `work` what one thread needs.
    fn pass<R>(&self, work: impl FnOnce(&mut Pass) -> R) -> R {
        let passes = || self.passes.lock().unwrap_or_else(PoisonError::into_inner);
        let spare = passes().pop();
        let mut pass = spare.unwrap_or_else(|| Pass::new(self.decoder, &self.profile));
        let result = work(&mut pass);
        passes().push(pass);
        result
    }
}

impl Pass {
    fn new(decoder: &Decoder, profile: &Profile) -> Self {
        let (config, compute) = (decoder.config(), decoder.compute().clone());
        let attention = Watched {
            dense: Dense::new(config, compute, KvFormat::Bf16, Visible::All, profile.run),
            keys: Keys::new(config, profile),
            queries: None,
        };
        Self { attention, scratch: Scratch::new(), hidden: Vec::new() }
    }

    /// Run the lowest `layers` over one sequence; of the last, only the projections.
    fn read(&mut self, decoder: &Decoder, layers: usize, tokens: &[u32]) {
        let Self { attention, scratch, hidden } = self;
        attention.dense.reset();
        let last = layers - 1;
        for (index, tokens) in tokens.chunks(PREFILL_TOKENS).enumerate() {
            let first = index * PREFILL_TOKENS;
            decoder.embed(tokens, hidden);
            let Ok(()) = decoder.run_layers(0..last, first..first + tokens.len(), hidden, attention, scratch);
            if attention.queries.is_some() {
                let qkv = decoder.project_qkv(last, hidden, scratch);
                attention.take_queries(last, qkv.queries);
            } else {
                let keys = decoder.project_keys(last, hidden, scratch);
                attention.keys.take(last, keys);
            }
        }
    }
}
