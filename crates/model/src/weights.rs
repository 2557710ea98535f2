//! What a file of weights offers a decoder.
use crate::config::Config;
use crate::error::Error;
use longleaf_kernel::{DType, Matrix, block};
use std::path::Path;

/// The tensors of a decoder, whatever a file calls them. The number is the layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tensor {
    /// `[vocab, hidden]`
    Embedding,
    /// `[hidden]`
    FinalNorm,
    /// `[vocab, hidden]`
    Head,
    /// `[hidden]`
    AttentionNorm(usize),
    /// `[heads · head_dim, hidden]`
    Query(usize),
    /// `[heads · head_dim]`
    QueryBias(usize),
    /// `[kv_heads · head_dim, hidden]`
    Key(usize),
    /// `[kv_heads · head_dim]`
    KeyBias(usize),
    /// `[kv_heads · head_dim, hidden]`
    Value(usize),
    /// `[kv_heads · head_dim]`
    ValueBias(usize),
    /// `[head_dim]`
    QueryNorm(usize),
    /// `[head_dim]`
    KeyNorm(usize),
    /// `[hidden, heads · head_dim]`
    Output(usize),
    /// `[hidden]`
    OutputBias(usize),
    /// `[hidden]`
    FeedForwardNorm(usize),
    /// `[intermediate, hidden]`
    Gate(usize),
    /// `[intermediate, hidden]`
    Up(usize),
    /// `[hidden, intermediate]`
    Down(usize),
}

impl Tensor {
    /// The names GGUF uses.
    pub fn gguf_name(self) -> String {
        let (layer, part) = match self {
            Self::Embedding => return "token_embd.weight".to_owned(),
            Self::FinalNorm => return "output_norm.weight".to_owned(),
            Self::Head => return "output.weight".to_owned(),
            Self::AttentionNorm(l) => (l, "attn_norm.weight"),
            Self::Query(l) => (l, "attn_q.weight"),
            Self::QueryBias(l) => (l, "attn_q.bias"),
            Self::Key(l) => (l, "attn_k.weight"),
            Self::KeyBias(l) => (l, "attn_k.bias"),
            Self::Value(l) => (l, "attn_v.weight"),
            Self::ValueBias(l) => (l, "attn_v.bias"),
            Self::QueryNorm(l) => (l, "attn_q_norm.weight"),
            Self::KeyNorm(l) => (l, "attn_k_norm.weight"),
            Self::Output(l) => (l, "attn_output.weight"),
            Self::OutputBias(l) => (l, "attn_output.bias"),
            Self::FeedForwardNorm(l) => (l, "ffn_norm.weight"),
            Self::Gate(l) => (l, "ffn_gate.weight"),
            Self::Up(l) => (l, "ffn_up.weight"),
            Self::Down(l) => (l, "ffn_down.weight"),
        };
        format!("blk.{layer}.{part}")
    }

    /// The names Hugging Face's checkpoints use.
    pub fn hugging_face_name(self) -> String {
        let (layer, part) = match self {
            Self::Embedding => return "model.embed_tokens.weight".to_owned(),
            Self::FinalNorm => return "model.norm.weight".to_owned(),
            Self::Head => return "lm_head.weight".to_owned(),
            Self::AttentionNorm(l) => (l, "input_layernorm.weight"),
            Self::Query(l) => (l, "self_attn.q_proj.weight"),
            Self::QueryBias(l) => (l, "self_attn.q_proj.bias"),
            Self::Key(l) => (l, "self_attn.k_proj.weight"),
            Self::KeyBias(l) => (l, "self_attn.k_proj.bias"),
            Self::Value(l) => (l, "self_attn.v_proj.weight"),
            Self::ValueBias(l) => (l, "self_attn.v_proj.bias"),
            Self::QueryNorm(l) => (l, "self_attn.q_norm.weight"),
            Self::KeyNorm(l) => (l, "self_attn.k_norm.weight"),
            Self::Output(l) => (l, "self_attn.o_proj.weight"),
            Self::OutputBias(l) => (l, "self_attn.o_proj.bias"),
            Self::FeedForwardNorm(l) => (l, "post_attention_layernorm.weight"),
            Self::Gate(l) => (l, "mlp.gate_proj.weight"),
            Self::Up(l) => (l, "mlp.up_proj.weight"),
            Self::Down(l) => (l, "mlp.down_proj.weight"),
        };
        format!("model.layers.{layer}.{part}")
    }
}

/// Every tensor that a decoder of this configuration has, with its shape.
pub(crate) fn expected(config: &Config) -> impl Iterator<Item = (Tensor, Vec<usize>)> {
    let (hidden, wide) = (config.hidden_size, config.intermediate_size);
    let (queries, kv, dim) = (config.query_size(), config.kv_size(), config.head_dim);
    let whole = [
        (true, Tensor::Embedding, vec![config.vocab_size, hidden]),
        (true, Tensor::FinalNorm, vec![hidden]),
        (!config.tied_head, Tensor::Head, vec![config.vocab_size, hidden]),
    ];
    let (qkv_bias, output_bias, qk_norm) = (config.qkv_bias, config.output_bias, config.qk_norm);
    let layer = move |l| {
        [
            (true, Tensor::AttentionNorm(l), vec![hidden]),
            (true, Tensor::Query(l), vec![queries, hidden]),
            (true, Tensor::Key(l), vec![kv, hidden]),
            (true, Tensor::Value(l), vec![kv, hidden]),
            (qkv_bias, Tensor::QueryBias(l), vec![queries]),
            (qkv_bias, Tensor::KeyBias(l), vec![kv]),
            (qkv_bias, Tensor::ValueBias(l), vec![kv]),
            (qk_norm, Tensor::QueryNorm(l), vec![dim]),
            (qk_norm, Tensor::KeyNorm(l), vec![dim]),
            (true, Tensor::Output(l), vec![hidden, queries]),
            (output_bias, Tensor::OutputBias(l), vec![hidden]),
            (true, Tensor::FeedForwardNorm(l), vec![hidden]),
            (true, Tensor::Gate(l), vec![wide, hidden]),
            (true, Tensor::Up(l), vec![wide, hidden]),
            (true, Tensor::Down(l), vec![hidden, wide]),
        ]
    };
    let all = whole.into_iter().chain((0..config.layers).flat_map(layer));
    all.filter(|(present, ..)| *present).map(|(_, tensor, shape)| (tensor, shape))
}

/// How the rows of the query and key projections lie within a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowOrder {
    /// The two numbers that are rotated together are half a head apart: the order used here.
    Halves,
    /// They are neighbours, as Meta's Llama had them and GGUF's `llama` keeps them.
    Pairs,
}

impl RowOrder {
    /// The row of the file where row `row` of the halves order lies.
    pub fn source_row(self, row: usize, head_dim: usize) -> usize {
        match self {
            Self::Halves => row,
            Self::Pairs => {
                let (head, i, half) = (row / head_dim, row % head_dim, head_dim / 2);
                head * head_dim + if i < half { 2 * i } else { 2 * (i - half) + 1 }
            }
        }
    }
}

/// A tensor as a file stores it.
#[derive(Debug, Clone, Copy)]
pub struct Stored<'a> {
    /// Its format.
    pub dtype: DType,
    /// Its shape, rows first.
    pub shape: [usize; 4],
    /// How many numbers of `shape` count.
    pub dims: usize,
    /// Its numbers.
    pub bytes: &'a [u8],
}

impl Stored<'_> {
    /// Itself if it is of exactly this shape; `name` is what the file at `path` calls it.
    pub(crate) fn of_shape(self, path: &Path, name: String, expected: &[usize]) -> Result<Self, Error> {
        if self.shape[..self.dims] == *expected {
            return Ok(self);
        }
        Err(Error::Shape {
            path: path.to_owned(),
            name,
            found: self.shape[..self.dims].to_vec(),
            expected: expected.to_vec(),
        })
    }
}

/// A file of weights: a name and a shape in, a checked view out.
pub trait Weights {
    /// The file, for messages.
    fn path(&self) -> &Path;

    /// How the query and key rows lie.
    fn row_order(&self) -> RowOrder;

    /// What the file calls a tensor, for messages.
    fn name(&self, tensor: Tensor) -> String;

    /// The tensor, of whatever shape, if it is there.
    fn find(&self, tensor: Tensor) -> Result<Option<Stored<'_>>, Error>;

    /// The pages behind `used` are no longer needed.
    fn release(&self, used: Matrix<'_>);

    /// A tensor of exactly this shape, or why not.
    fn stored(&self, tensor: Tensor, expected: &[usize]) -> Result<Stored<'_>, Error> {
        let stored = self
            .find(tensor)?
            .ok_or_else(|| Error::Missing { path: self.path().to_owned(), name: self.name(tensor) })?;
        stored.of_shape(self.path(), self.name(tensor), expected)
    }

    /// A matrix `[rows, cols]`.
    fn matrix(&self, tensor: Tensor, rows: usize, cols: usize) -> Result<Matrix<'_>, Error> {
        let stored = self.stored(tensor, &[rows, cols])?;
        Matrix::new(stored.dtype, rows, cols, stored.bytes).ok_or_else(|| Error::Shape {
            path: self.path().to_owned(),
            name: self.name(tensor),
            found: vec![stored.bytes.len()],
            expected: vec![rows, cols],
        })
    }

    /// A vector of `len` numbers, decoded.
    fn vector(&self, tensor: Tensor, len: usize) -> Result<Vec<f32>, Error> {
        let stored = self.stored(tensor, &[len])?;
        let mut values = vec![0.0; len];
        block::decode(stored.dtype, stored.bytes, &mut values);
        Ok(values)
    }
}
