//! What it costs a model to see keys and values in few bits.
use super::Score;
use crate::sampler::{best, log_prob};
use crate::{Error, Model};
use longleaf_kernel::{BLOCK_TOKENS, Compute, KvFormat, KvQuantisation};
use longleaf_model::{Attention, Dense, Qkv, Scratch, Visible};
use longleaf_text::TokenId;
use std::convert::Infallible;
use std::ops::Range;
use std::sync::Arc;

/// What a model makes of some tokens when it sees keys and values in few bits.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Quantised {
    /// Of the tokens themselves.
    pub score: Score,
    /// Sum over the tokens of `Σ p ln (p / q)`, `p` being what the model expects with keys and values in bf16, `q`
    /// with them in few bits (Kullback and Leibler, 1951).
    pub divergence: f64,
    /// How often both have the same first choice.
    pub agreed: usize,
}

impl Quantised {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            score: self.score.plus(other.score),
            divergence: self.divergence + other.divergence,
            agreed: self.agreed + other.agreed,
        }
    }
}

/// Plain attention to keys and values that went through few bits, all of them, block by block.
#[derive(Debug)]
struct Rounded {
    compute: Arc<Compute>,
    form: KvQuantisation,
    dense: Dense,
    bytes: Vec<u8>,
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl Attention for Rounded {
    type Error = Infallible;

    fn attend(
        &mut self,
        layer: usize,
        positions: Range<usize>,
        qkv: Qkv<'_>,
        out: &mut [f32],
    ) -> Result<(), Infallible> {
        let numbers = BLOCK_TOKENS * self.form.kv_heads * self.form.head_dim;
        self.bytes.resize(positions.len().div_ceil(BLOCK_TOKENS) * self.form.bytes(), 0);
        self.compute.quantise_kv(&self.form, qkv.keys, qkv.values, &mut self.bytes);
        self.keys.resize(qkv.keys.len(), 0.0);
        self.values.resize(qkv.values.len(), 0.0);
        let blocks = self.bytes.chunks_exact(self.form.bytes());
        let rows = self.keys.chunks_mut(numbers).zip(self.values.chunks_mut(numbers));
        for (bytes, (keys, values)) in blocks.zip(rows) {
            self.form.decode(bytes, keys, values);
        }
        self.dense.attend(layer, positions, Qkv { keys: &self.keys, values: &self.values, ..qkv }, out)
    }
}

/// [`super::score`] from the second token on with keys and values in bf16, and with all of them in each of `forms`.
///
/// # Errors
/// [`Error::Window`] if there are more tokens than the window holds.
pub fn score_quantised(
    model: &Model,
    tokens: &[TokenId],
    forms: &[KvQuantisation],
) -> Result<(Score, Vec<Quantised>), Error> {
    let window = model.config().window;
    if tokens.len() > window {
        return Err(Error::Window { tokens: tokens.len(), window });
    }
    let (decoder, compute) = (model.decoder(), model.decoder().compute());
    let dense = || Dense::new(model.config(), compute.clone(), KvFormat::Bf16, Visible::All, tokens.len());
    let rounded = |form: &KvQuantisation| Rounded {
        compute: compute.clone(),
        form: *form,
        dense: dense(),
        bytes: Vec::new(),
        keys: Vec::new(),
        values: Vec::new(),
    };
    let (mut plain, mut few): (Dense, Vec<Rounded>) = (dense(), forms.iter().map(rounded).collect());
    let (mut score, mut quantised) = (Score::default(), vec![Quantised::default(); forms.len()]);
    let mut scratch = Scratch::new();
    let mut expected: Vec<f32> = Vec::new();
    let read = &tokens[..tokens.len().saturating_sub(1)];
    // Whole blocks: what is quantised together does not depend on how the text is cut.
    for (block, piece) in read.chunks(BLOCK_TOKENS).enumerate() {
        let first = block * BLOCK_TOKENS;
        expected.clear();
        let Ok(()) = decoder.forward_all(piece, first, &mut plain, &mut scratch, &mut |position, logits| {
            score.take(logits, tokens[position + 1]);
            expected.extend_from_slice(logits);
        });
        let vocab = expected.len() / piece.len();
        for (rounded, quantised) in few.iter_mut().zip(&mut quantised) {
            let Ok(()) = decoder.forward_all(piece, first, rounded, &mut scratch, &mut |position, logits| {
                let expected = &expected[(position - first) * vocab..][..vocab];
                quantised.score.take(logits, tokens[position + 1]);
                quantised.agreed += usize::from(best(expected) == best(logits));
                quantised.divergence += divergence(expected, logits);
            });
        }
    }
    Ok((score, quantised))
}

/// `Σ p ln (p / q)` of what two rows of logits say.
fn divergence(p: &[f32], q: &[f32]) -> f64 {
    // ln p of token 0, less its logit: what is to be added to every logit.
    let (from_p, from_q) = (log_prob(p, 0) - f64::from(p[0]), log_prob(q, 0) - f64::from(q[0]));
    let terms = p.iter().zip(q).map(|(p, q)| {
        let (p, q) = (f64::from(*p) + from_p, f64::from(*q) + from_q);
        p.exp() * (p - q)
    });
    terms.sum()
}

#[cfg(test)]
mod tests {
    use super::divergence;

    #[test]
    fn divergence_by_hand() {
        assert!(divergence(&[1.0, 2.0, -3.0], &[1.0, 2.0, -3.0]).abs() < 1e-12);
        assert!(divergence(&[1.0, 2.0, -3.0], &[11.0, 12.0, 7.0]).abs() < 1e-6, "a shift is nothing");
        // p = (1/2, 1/2), q = (1/4, 3/4): ln 2 / 2 + ln (2/3) / 2.
        let want = 0.5 * 2.0_f64.ln() + 0.5 * (2.0_f64 / 3.0).ln();
        assert!((divergence(&[0.0, 0.0], &[0.0, 3.0_f32.ln()]) - want).abs() < 1e-6);
    }
}
