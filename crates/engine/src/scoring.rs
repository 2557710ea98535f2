//! How probable a model finds a text.
use crate::sampler::{best, log_prob};
use crate::{Error, Model};
use longleaf_kernel::KvFormat;
use longleaf_model::{Dense, Scratch, Visible};
use longleaf_text::TokenId;

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
/// [`Error::Window`] if there are more tokens than the window holds.
pub fn score(model: &Model, tokens: &[TokenId], first: usize, visible: Visible) -> Result<Score, Error> {
    assert!(first > 0, "the first token has nothing before it");
    let window = model.config().window;
    if tokens.len() > window {
        return Err(Error::Window { tokens: tokens.len(), window });
    }
    let decoder = model.decoder();
    let mut dense =
        Dense::new(model.config(), decoder.compute().clone(), KvFormat::default(), visible, tokens.len());
    let mut scratch = Scratch::new();
    let mut score = Score::default();
    if tokens.len() <= first {
        return Ok(score);
    }
    // Up to the first target nobody needs logits, and they are most of the work of a small model.
    let Ok(()) = decoder.read(&tokens[..first - 1], 0, &mut dense, &mut scratch);
    let Ok(()) = decoder.forward_all(
        &tokens[first - 1..tokens.len() - 1],
        first - 1,
        &mut dense,
        &mut scratch,
        &mut |position, logits| {
            let target = tokens[position + 1];
            score.tokens += 1;
            let nll = -log_prob(logits, target);
            score.nll += nll;
            score.nll_squares += nll * nll;
            score.best += usize::from(best(logits) == target);
        },
    );
    Ok(score)
}
