//! How probable a model finds a text.
mod quantised;

pub use quantised::{Quantised, score_quantised};

use crate::attending::{Attending, Sequence};
use crate::sampler::{best, log_prob};
use crate::{Error, Model};
use longleaf_memory::adaptive::Statistics;
use longleaf_model::{Batch, Decoder, Dense, PREFILL_TOKENS, Scratch, Visible};
use longleaf_text::TokenId;
use std::sync::Arc;

/// What a model makes of some tokens, given those before them.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Score {
    /// How many tokens were scored.
    pub tokens: usize,
    /// Sum of `-ln p(token | tokens before)`.
    pub nll: f64,
    /// Sum of the squares of the same, for intervals.
    pub nll_squares: f64,
    /// How many of them were the model's first choice.
    pub best: usize,
}

impl Score {
    /// `exp(nll / tokens)`.
    pub fn perplexity(&self) -> f64 {
        (self.nll / self.tokens as f64).exp()
    }

    /// The 95 % interval of [`Score::perplexity`], as if tokens were independent.
    pub fn perplexity_interval(&self) -> (f64, f64) {
        let n = self.tokens as f64;
        let mean = self.nll / n;
        let variance = (self.nll_squares / n - mean * mean).max(0.0);
        let half = 1.959_964 * (variance / n).sqrt();
        ((mean - half).exp(), (mean + half).exp())
    }

    /// Score one more token by the logits before it.
    fn take(&mut self, logits: &[f32], target: TokenId) {
        let nll = -log_prob(logits, target);
        self.tokens += 1;
        self.nll += nll;
        self.nll_squares += nll * nll;
        self.best += usize::from(best(logits) == target);
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            tokens: self.tokens + other.tokens,
            nll: self.nll + other.nll,
            nll_squares: self.nll_squares + other.nll_squares,
            best: self.best + other.best,
        }
    }
}

/// Score `tokens[first..]`, each given all before it. `first` is at least 1: nothing precedes the first token.
///
/// # Errors
/// [`Error::Window`] if attention is dense and there are more tokens than the window holds.
pub fn score(
    model: &Model,
    tokens: &[TokenId],
    first: usize,
    attending: impl Into<Attending>,
) -> Result<Score, Error> {
    Ok(score_watched(model, tokens, first, attending.into(), &mut |_, _| {})?.0)
}

/// [`score`], telling `watch` the position and the `-ln p` of every token as it is scored; and what adaptive attention
/// chose meanwhile.
///
/// # Errors
/// As above.
pub fn score_watched(
    model: &Model,
    tokens: &[TokenId],
    first: usize,
    attending: Attending,
    watch: &mut dyn FnMut(usize, f64),
) -> Result<(Score, Option<Statistics>), Error> {
    assert!(first > 0, "the first token has nothing before it");
    let window = model.config().window;
    if tokens.len() > window && matches!(attending, Attending::Dense(_)) {
        return Err(Error::Window { tokens: tokens.len(), window });
    }
    let decoder = model.decoder();
    let mut attention = Sequence::new(decoder, attending, tokens.len());
    let mut scratch = Scratch::new();
    let mut score = Score::default();
    if tokens.len() <= first {
        return Ok((score, None));
    }
    // Up to the first target nobody needs logits, and they are most of the work of a small model.
    decoder.read(&tokens[..first - 1], 0, &mut attention, &mut scratch)?;
    decoder.forward_all(
        &tokens[first - 1..tokens.len() - 1],
        first - 1,
        &mut attention,
        &mut scratch,
        &mut |position, logits| {
            let before = score.nll;
            score.take(logits, tokens[position + 1]);
            watch(position + 1, score.nll - before);
        },
    )?;
    Ok((score, attention.statistics()))
}

/// `ln p` of the tokens of several sequences from some token of each on, `(tokens, first)`, given all before it in
/// the same sequence. All go through the layers together, as many rows at once as make products fast; what comes out
/// for one does not depend on the others. Only for sequences that fit the model's window.
pub fn log_probs(decoder: &Decoder, sequences: &[(Vec<TokenId>, usize)]) -> Vec<Vec<f64>> {
    let lengths = all_but_last(sequences);
    let batch = Batch::new(decoder.config(), decoder.compute(), decoder.kv_format(), &lengths);
    log_probs_of(decoder, batch, sequences)
}

/// What several sequences begin with, read once for all of them.
#[derive(Debug)]
pub struct Beginning<'d> {
    decoder: &'d Decoder,
    /// All of it but its last token.
    read: Dense,
    last: TokenId,
}

impl<'d> Beginning<'d> {
    /// Read `tokens`, of which there is at least one.
    pub fn read(decoder: &'d Decoder, tokens: &[TokenId]) -> Self {
        let (config, compute) = (decoder.config(), Arc::clone(decoder.compute()));
        let (last, tokens) = tokens.split_last().expect("something stands before the first token");
        let mut read = Dense::new(config, compute, decoder.kv_format(), Visible::All, tokens.len());
        let Ok(()) = decoder.read(tokens, 0, &mut read, &mut Scratch::new());
        Self { decoder, read, last: *last }
    }

    /// `ln p` of all tokens of each of `sequences`, given the beginning and those before them in the same sequence. Only
    /// for sequences that fit the model's window with it.
    pub fn log_probs(&self, sequences: &[Vec<TokenId>]) -> Vec<Vec<f64>> {
        let after = |tokens: &Vec<TokenId>| ([&[self.last][..], tokens].concat(), 1);
        let sequences: Vec<_> = sequences.iter().map(after).collect();
        log_probs_of(self.decoder, Batch::after(&self.read, &all_but_last(&sequences)), &sequences)
    }
}

/// The last token of a sequence is a target only.
fn all_but_last(sequences: &[(Vec<TokenId>, usize)]) -> Vec<usize> {
    sequences.iter().map(|(tokens, _)| tokens.len().saturating_sub(1)).collect()
}

fn log_probs_of(decoder: &Decoder, mut batch: Batch, sequences: &[(Vec<TokenId>, usize)]) -> Vec<Vec<f64>> {
    const LOGIT_ROWS: usize = 32;
    let (config, compute) = (decoder.config(), decoder.compute());
    let lengths = all_but_last(sequences);
    let (mut read, mut targets) = (Vec::new(), Vec::new());
    for (index, (tokens, first)) in sequences.iter().enumerate() {
        assert!(*first > 0, "the first token has nothing before it");
        for at in *first..tokens.len() {
            targets.push((read.len() + at - 1, index, tokens[at]));
        }
        read.extend_from_slice(&tokens[..lengths[index]]);
    }
    let width = config.hidden_size;
    let (mut scratch, mut hidden, mut wanted) = (Scratch::new(), Vec::new(), Vec::new());
    let mut left = targets.iter().peekable();
    for (index, piece) in read.chunks(PREFILL_TOKENS).enumerate() {
        let first = index * PREFILL_TOKENS;
        let rows = first..first + piece.len();
        decoder.embed(piece, &mut hidden);
        let Ok(()) =
            decoder.run_layers(0..config.layers, rows.clone(), &mut hidden, &mut batch, &mut scratch);
        while let Some((row, ..)) = left.next_if(|(row, ..)| *row < rows.end) {
            wanted.extend_from_slice(&hidden[(row - first) * width..][..width]);
        }
    }
    let mut found = vec![Vec::new(); sequences.len()];
    let mut masses = Vec::new();
    for (rows, targets) in wanted.chunks(LOGIT_ROWS * width).zip(targets.chunks(LOGIT_ROWS)) {
        let logits = decoder.logits(rows, &mut scratch);
        let vocab = logits.len() / targets.len();
        masses.resize(targets.len(), 0.0);
        compute.log_mass(logits, vocab, std::slice::from_ref(&(0..vocab)), 1.0, &mut masses);
        for ((logits, mass), (_, index, token)) in logits.chunks_exact(vocab).zip(&masses).zip(targets) {
            found[*index].push(f64::from(logits[*token as usize]) - f64::from(*mass));
        }
    }
    found
}
