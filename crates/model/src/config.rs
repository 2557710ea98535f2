//! What a model is, in numbers.
use crate::error::Error;
use std::path::Path;

/// The shape and constants of a decoder, as its file gives them. Every number has been checked.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about a layer, not states")]
pub struct Config {
    /// The family's name in our table (see [`crate::families()`]).
    pub family: &'static str,
    /// Transformer layers.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Numbers in one head; a multiple of 16.
    pub head_dim: usize,
    /// Width of the feed-forward part.
    pub intermediate_size: usize,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Positions the model was trained for, scaling included.
    pub window: usize,
    /// The ε of its norms.
    pub rms_eps: f32,
    /// Its rotary embedding.
    pub rope: Rope,
    /// Queries, keys and values have a bias (Qwen2).
    pub qkv_bias: bool,
    /// The projection after attention has a bias.
    pub output_bias: bool,
    /// Queries and keys are normed head by head before rotation (Qwen3).
    pub qk_norm: bool,
    /// The head is the embedding.
    pub tied_head: bool,
    /// How many positions back each layer sees, itself included; `None` is all of them. `[layers]`.
    pub sliding: Box<[Option<usize>]>,
}

/// A rotary embedding (Su et al., 2021): frequencies `base^(-2i / dim)` for `i < dim / 2`, then scaled.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// The base of the frequencies, θ.
    pub base: f64,
    /// How many numbers of a head are rotated; even.
    pub dim: usize,
    /// How it is stretched beyond the window it was first trained with.
    pub scaling: RopeScaling,
}

/// How frequencies are changed to reach further. The formulas stand in `rope.rs`.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// All frequencies divided by `factor` (Chen et al., 2023).
    Linear {
        /// How many times further.
        factor: f64,
    },
    /// The base grows with the length of the sequence once that exceeds `trained`.
    DynamicNtk {
        /// How steeply.
        factor: f64,
        /// The window of training.
        trained: usize,
    },
    /// Frequencies divided by parts, and attention sharpened (Peng et al., 2023).
    Yarn {
        /// How many times further.
        factor: f64,
        /// The window of training.
        trained: usize,
        /// Factor on cosine and sine.
        attention: f64,
        /// Rotations in the window above which a frequency stays.
        fast: f64,
        /// Rotations in the window below which a frequency is divided by `factor`.
        slow: f64,
        /// The bounds of the ramp are rounded outwards to whole dimensions.
        truncate: bool,
    },
    /// Low frequencies divided, high ones kept, a ramp between them (Llama 3.1).
    Llama3 {
        /// How many times further.
        factor: f64,
        /// Wavelengths longer than `trained / low` are divided.
        low: f64,
        /// Wavelengths shorter than `trained / high` stay.
        high: f64,
        /// The window of training.
        trained: usize,
    },
    /// Each frequency divided by its own factor (`rope_freqs.weight` in GGUF). `[dim / 2]`.
    Factors(Box<[f32]>),
}

/// Nothing trained comes near these; they keep products of two such numbers far from overflow.
pub(crate) const MAX_LAYERS: usize = 1 << 12;
pub(crate) const MAX_SIZE: usize = 1 << 24;
const MAX_WINDOW: usize = 1 << 40;

impl Config {
    /// Numbers in all query heads of a token.
    pub fn query_size(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Numbers in all keys (or values) of a token.
    pub fn kv_size(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Refuse what no decoder can have.
    pub(crate) fn check(self, path: &Path) -> Result<Self, Error> {
        let refuse = |what, found: String, expected| {
            Err(Error::Config { path: path.to_owned(), what, found, expected })
        };
        for (what, size) in [
            ("hidden size", self.hidden_size),
            ("number of heads", self.heads),
            ("number of kv heads", self.kv_heads),
            ("head dimension", self.head_dim),
            ("intermediate size", self.intermediate_size),
            ("vocabulary size", self.vocab_size),
        ] {
            if !(1..=MAX_SIZE).contains(&size) {
                return refuse(what, size.to_string(), "between 1 and 2^24");
            }
        }
        if !(1..=MAX_LAYERS).contains(&self.layers) || self.sliding.len() != self.layers {
            return refuse("number of layers", self.layers.to_string(), "between 1 and 4096");
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return refuse(
                "number of kv heads",
                self.kv_heads.to_string(),
                "a divisor of the number of heads",
            );
        }
        if !self.head_dim.is_multiple_of(16) {
            return refuse("head dimension", self.head_dim.to_string(), "a multiple of 16");
        }
        if self.rope.dim == 0 || !self.rope.dim.is_multiple_of(2) || self.rope.dim > self.head_dim {
            return refuse(
                "rope dimension",
                self.rope.dim.to_string(),
                "even and at most the head dimension",
            );
        }
        let windows = self.sliding.iter().flatten().chain([&self.window]);
        if let Some(window) = windows.into_iter().find(|window| !(1..=MAX_WINDOW).contains(window)) {
            return refuse("context window", window.to_string(), "between 1 and 2^40");
        }
        if !(self.rms_eps.is_finite() && self.rms_eps >= 0.0) {
            return refuse("norm epsilon", self.rms_eps.to_string(), "a small positive number");
        }
        if !(self.rope.base.is_finite() && self.rope.base > 1.0) {
            return refuse("rope base", self.rope.base.to_string(), "a number above 1");
        }
        let positive = |numbers: &[f64]| numbers.iter().all(|x| x.is_finite() && *x > 0.0);
        let (fine, factor) = match &self.rope.scaling {
            RopeScaling::None => (true, 1.0),
            RopeScaling::Linear { factor } => (positive(&[*factor]), *factor),
            RopeScaling::DynamicNtk { factor, trained } => {
                (positive(&[*factor, *trained as f64]) && *factor >= 1.0 && self.rope.dim > 2, *factor)
            }
            RopeScaling::Yarn { factor, trained, attention, fast, slow, .. } => {
                (positive(&[*factor, *trained as f64, *attention, *fast, *slow]), *factor)
            }
            RopeScaling::Llama3 { factor, low, high, trained } => {
                (positive(&[*factor, *low, *high, *trained as f64]) && low < high, *factor)
            }
            RopeScaling::Factors(factors) => (
                factors.len() == self.rope.dim / 2 && factors.iter().all(|f| f.is_finite() && *f > 0.0),
                factors.len() as f64,
            ),
        };
        if !fine {
            return refuse("rope scaling", factor.to_string(), "positive factors over a known window");
        }
        Ok(self)
    }
}
