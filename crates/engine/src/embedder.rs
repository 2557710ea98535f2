//! Texts to vectors: a sentence encoder with its words.
mod window;

pub use window::{Window, windows};

use crate::Error;
use crate::model::folder_tokenizer;
use longleaf_kernel::{Compute, Precision};
use longleaf_model::{Encoder, EncoderScratch, Packing};
use longleaf_text::{Special, Tokenizer};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Tokens that go through the encoder together: enough for many threads to take slices.
const TOGETHER: usize = 4096;

/// How the vectors of a window's tokens become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pooling {
    /// Their mean.
    Mean,
    /// The first one, that of `[CLS]`.
    First,
}

/// A sentence encoder (Reimers and Gurevych, *Sentence-BERT*, 2019): the cosine of two texts' vectors says how near
/// their meanings are, whatever words they use. Immutable; any number of threads may share it.
#[derive(Debug)]
pub struct Embedder {
    path: PathBuf,
    encoder: Encoder,
    tokenizer: Tokenizer,
    pooling: Pooling,
}

impl Embedder {
    /// Load a folder in Hugging Face's layout, with `1_Pooling/config.json` if it has one. Weights are rounded to 8 bits
    /// and products are fast: that moves the vectors of all-MiniLM-L6-v2 by less than a hundredth of their length.
    ///
    /// # Errors
    /// Whatever is wrong with its files.
    pub fn open(path: &Path, compute: &Arc<Compute>) -> Result<Self, Error> {
        let encoder = Encoder::load(path, Packing::Bytes, compute)?.with_precision(Precision::Fast);
        Self::with_encoder(path, encoder)
    }

    /// As [`Embedder::open`], but with the weights as stored and exact products: several times as slow.
    ///
    /// # Errors
    /// Whatever is wrong with its files.
    pub fn open_exact(path: &Path, compute: &Arc<Compute>) -> Result<Self, Error> {
        Self::with_encoder(path, Encoder::load(path, Packing::Stored, compute)?)
    }

    fn with_encoder(path: &Path, encoder: Encoder) -> Result<Self, Error> {
        let tokenizer = folder_tokenizer(path)?;
        let (tokens, rows) = (tokenizer.len(), encoder.config().vocab_size);
        if tokens > rows {
            return Err(Error::Vocabulary { path: path.to_owned(), tokens, rows });
        }
        Ok(Self { path: path.to_owned(), encoder, tokenizer, pooling: pooling(path)? })
    }

    /// The folder it came from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The weights.
    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// Numbers of a vector.
    pub fn width(&self) -> usize {
        self.encoder.config().hidden_size
    }

    /// Tokens of text that a window may have at most; what frames it comes on top.
    pub fn most(&self) -> usize {
        let frame = self.tokenizer.prefix().len() + self.tokenizer.suffix().len();
        self.encoder.config().window().saturating_sub(frame).max(1)
    }

    /// `text` cut into windows of at most `tokens` tokens that end where sentences do (see [`windows`]).
    pub fn windows(&self, text: &str, tokens: usize) -> Vec<Window> {
        let encoding = self.tokenizer.encode_with_offsets(text, Special::Text);
        windows(text, &encoding, tokens.min(self.most()))
    }

    /// The vectors of some windows, `[windows, width]`, each of length 1. A window without tokens has zeros. `watch` is
    /// told how many windows are done.
    pub fn vectors(&self, windows: &[Window], watch: &mut dyn FnMut(usize)) -> Vec<f32> {
        let mut scratch = EncoderScratch::new();
        let mut vectors = Vec::with_capacity(windows.len() * self.width());
        let mut rest = windows;
        while !rest.is_empty() {
            let (mut tokens, mut count) = (0, 0);
            while count < rest.len() && (count == 0 || tokens + rest[count].tokens.len() <= TOGETHER) {
                tokens += rest[count].tokens.len();
                count += 1;
            }
            let (some, others) = rest.split_at(count);
            rest = others;
            self.some(some, &mut scratch, &mut vectors);
            watch(windows.len() - rest.len());
        }
        vectors
    }

    /// Append the vectors of windows that go through the encoder together.
    fn some(&self, windows: &[Window], scratch: &mut EncoderScratch, vectors: &mut Vec<f32>) {
        let (prefix, suffix) = (self.tokenizer.prefix(), self.tokenizer.suffix());
        let framed = |window: &Window| match window.tokens.as_slice() {
            [] => Vec::new(),
            tokens => [prefix, tokens, suffix].concat(),
        };
        let framed: Vec<Vec<u32>> = windows.iter().map(framed).collect();
        let sequences: Vec<&[u32]> = framed.iter().map(Vec::as_slice).collect();
        let mut rest = self.encoder.forward(&sequences, scratch);
        let width = self.width();
        for sequence in sequences {
            let (rows, others) = rest.split_at(sequence.len() * width);
            rest = others;
            let start = vectors.len();
            vectors.resize(start + width, 0.0);
            let vector = &mut vectors[start..];
            match self.pooling {
                Pooling::First => vector.iter_mut().zip(rows).for_each(|(sum, x)| *sum = *x),
                Pooling::Mean => rows
                    .chunks_exact(width)
                    .for_each(|row| vector.iter_mut().zip(row).for_each(|(sum, x)| *sum += x)),
            }
            normalise(vector);
        }
    }

    /// One vector for a text of any length, `[width]`: the mean of its windows' vectors, of length 1. Zeros for a text
    /// without words.
    pub fn embed(&self, text: &str) -> Vec<f32> {
        let windows = self.windows(text, WHOLE);
        let vectors = self.vectors(&windows, &mut |_| ());
        let mut mean = vec![0.0; self.width()];
        for vector in vectors.chunks_exact(self.width()) {
            mean.iter_mut().zip(vector).for_each(|(sum, x)| *sum += x);
        }
        normalise(&mut mean);
        mean
    }
}

/// Tokens of a window where a text is read for one vector of it all: what sentence encoders are commonly given.
const WHOLE: usize = 254;

/// Make the length of `vector` 1, unless it is 0.
fn normalise(vector: &mut [f32]) {
    let square: f32 = vector.iter().map(|x| x * x).sum();
    if square > 0.0 {
        let scale = 1.0 / square.sqrt();
        for x in vector {
            *x *= scale;
        }
    }
}

/// The cosine of two vectors of length 1.
///
/// # Panics
/// If they are not equally long.
pub fn cosine(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len(), "vectors of one encoder");
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// What `1_Pooling/config.json` says, in which every way of pooling is a switch; the mean if there is none.
pub(crate) fn pooling(folder: &Path) -> Result<Pooling, Error> {
    let path = folder.join("1_Pooling").join("config.json");
    if !path.exists() {
        return Ok(Pooling::Mean);
    }
    let bytes = fs::read(&path).map_err(Error::io(&path))?;
    let config: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&bytes)
        .map_err(|source| longleaf_model::Error::Json { path: path.clone(), source })?;
    let on = |(name, value): (&String, &serde_json::Value)| {
        (value == &serde_json::Value::Bool(true))
            .then(|| name.strip_prefix("pooling_mode_"))
            .flatten()
            .map(str::to_owned)
    };
    let modes: Vec<String> = config.iter().filter_map(on).collect();
    match modes.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] | ["mean_tokens"] => Ok(Pooling::Mean),
        ["cls_token"] => Ok(Pooling::First),
        others => Err(longleaf_model::Error::Unsupported {
            path,
            what: "pooling",
            found: others.join(", "),
            known: "mean_tokens, cls_token".to_owned(),
        }
        .into()),
    }
}
