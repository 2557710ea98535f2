//! The lowest layers over text and questions.
use super::keys::Keys;
use super::{KeyStream, Profile};
use longleaf_kernel::KvFormat;
use longleaf_model::{Attention, Decoder, Dense, PREFILL_TOKENS, Qkv, Rotation, Scratch, Visible};
use std::convert::Infallible;
use std::ops::Range;

/// Reads runs of text for their keys, and questions for their queries.
#[derive(Debug)]
pub struct Reader<'m> {
    decoder: &'m Decoder,
    profile: Profile,
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

impl<'m> Reader<'m> {
    /// Reads with `decoder` what `profile` asks for.
    pub fn new(decoder: &'m Decoder, profile: &Profile) -> Self {
        let config = decoder.config();
        let compute = decoder.compute().clone();
        let attention = Watched {
            dense: Dense::new(config, compute, KvFormat::Bf16, Visible::All, profile.run),
            keys: Keys::new(config, profile),
            queries: None,
        };
        Self { decoder, profile: profile.clone(), attention, scratch: Scratch::new(), hidden: Vec::new() }
    }

    /// The streams that [`Reader::read`] fills, in their order.
    pub fn streams(&self) -> &[KeyStream] {
        self.attention.keys.streams()
    }

    /// Read one run of at most [`Profile::run`] tokens and append its keys to `rows`, one buffer for each stream:
    /// whole panels of [`Profile::PANEL`] tokens, the last one filled up with zeros.
    pub fn read(&mut self, tokens: &[u32], rows: &mut [Vec<u8>]) {
        assert!(tokens.len() <= self.profile.run, "{} tokens are more than a run", tokens.len());
        self.pass(tokens);
        self.attention.keys.encode(self.decoder.compute().pool(), rows);
    }

    /// The queries of a question.
    pub fn queries(&mut self, question: &[u32]) -> Queries {
        let decoder = self.decoder;
        let config = decoder.config();
        let (heads, head_dim) = (config.heads, config.head_dim);
        self.attention.queries = Some(vec![Vec::new(); self.profile.layers()]);
        self.pass(question);
        self.attention.keys.clear();
        let mut layers = self.attention.queries.take().unwrap_or_default();
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

    /// Run the lowest layers over one sequence; of the last, only the projections.
    fn pass(&mut self, tokens: &[u32]) {
        let Self { decoder, attention, scratch, hidden, .. } = self;
        attention.dense.reset();
        let last = self.profile.layers() - 1;
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
