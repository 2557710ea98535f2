//! One transformer layer: its weights, and the two halves of its arithmetic.
use crate::config::Config;
use crate::error::Error;
use crate::weights::{RowOrder, Tensor, Weights};
use longleaf_kernel::{Activations, Compute, Intake, Matrix, PackedMatrix, Precision, Product};

/// What turns one sort of weights after another into packed form.
#[derive(Debug)]
pub(crate) struct Packer<'a> {
    pub(crate) compute: &'a Compute,
    pub(crate) config: &'a Config,
    /// The bytes of one reordered matrix.
    pub(crate) reordered: Vec<u8>,
}

impl Packer<'_> {
    pub(crate) fn matrix(
        &mut self,
        weights: &dyn Weights,
        tensor: Tensor,
        rows: usize,
        cols: usize,
    ) -> Result<PackedMatrix, Error> {
        let matrix = weights.matrix(tensor, rows, cols)?;
        let packed = PackedMatrix::pack(self.compute.pool(), matrix);
        weights.release(matrix);
        Ok(packed)
    }

    /// A query or key projection, its rows brought into halves order.
    fn rotary(&mut self, weights: &dyn Weights, tensor: Tensor, rows: usize) -> Result<PackedMatrix, Error> {
        let (cols, dim) = (self.config.hidden_size, self.config.head_dim);
        if weights.row_order() == RowOrder::Halves {
            return self.matrix(weights, tensor, rows, cols);
        }
        let matrix = weights.matrix(tensor, rows, cols)?;
        self.reordered.clear();
        for row in 0..rows {
            self.reordered.extend_from_slice(matrix.row(weights.row_order().source_row(row, dim)));
        }
        let halves = Matrix::new(matrix.dtype(), rows, cols, &self.reordered).expect("the same rows");
        let packed = PackedMatrix::pack(self.compute.pool(), halves);
        weights.release(matrix);
        Ok(packed)
    }

    fn rotary_bias(&self, weights: &dyn Weights, tensor: Tensor, rows: usize) -> Result<Box<[f32]>, Error> {
        let (bias, order) = (weights.vector(tensor, rows)?, weights.row_order());
        Ok((0..rows).map(|row| bias[order.source_row(row, self.config.head_dim)]).collect())
    }
}

/// The weights of one layer.
#[derive(Debug)]
pub(crate) struct Layer {
    attention_norm: Box<[f32]>,
    query: PackedMatrix,
    key: PackedMatrix,
    value: PackedMatrix,
    query_bias: Option<Box<[f32]>>,
    pub(crate) key_bias: Option<Box<[f32]>>,
    value_bias: Option<Box<[f32]>>,
    query_norm: Option<Box<[f32]>>,
    key_norm: Option<Box<[f32]>>,
    output: PackedMatrix,
    output_bias: Option<Box<[f32]>>,
    feed_forward_norm: Box<[f32]>,
    gate: PackedMatrix,
    up: PackedMatrix,
    down: PackedMatrix,
}

/// What arithmetic a layer runs with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arithmetic<'a> {
    pub(crate) compute: &'a Compute,
    pub(crate) precision: Precision,
    pub(crate) eps: f32,
    pub(crate) head_dim: usize,
}

/// Where the projections before attention go.
#[derive(Debug)]
pub(crate) struct Projected<'a> {
    /// `[tokens, heads, head_dim]`
    pub(crate) queries: &'a mut [f32],
    /// `[tokens, kv_heads, head_dim]`
    pub(crate) keys: &'a mut [f32],
    /// `[tokens, kv_heads, head_dim]`
    pub(crate) values: &'a mut [f32],
}

/// What one thread needs besides the rows it works on.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    /// Room for heads.
    normed: Vec<f32>,
    pub(crate) activations: Activations,
    /// `[tokens, intermediate]`
    wide: Activations,
}

impl Layer {
    pub(crate) fn load(weights: &dyn Weights, packer: &mut Packer<'_>, l: usize) -> Result<Self, Error> {
        let config = packer.config;
        let (hidden, queries, kv) = (config.hidden_size, config.query_size(), config.kv_size());
        let wide = config.intermediate_size;
        let vector = |tensor, len| weights.vector(tensor, len).map(Vec::into_boxed_slice);
        let some = |wanted: bool, tensor, len| wanted.then(|| vector(tensor, len)).transpose();
        let rotary_bias =
            |wanted: bool, tensor, len| wanted.then(|| packer.rotary_bias(weights, tensor, len)).transpose();
        Ok(Self {
            attention_norm: vector(Tensor::AttentionNorm(l), hidden)?,
            query_bias: rotary_bias(config.qkv_bias, Tensor::QueryBias(l), queries)?,
            key_bias: rotary_bias(config.qkv_bias, Tensor::KeyBias(l), kv)?,
            value_bias: some(config.qkv_bias, Tensor::ValueBias(l), kv)?,
            query_norm: some(config.qk_norm, Tensor::QueryNorm(l), config.head_dim)?,
            key_norm: some(config.qk_norm, Tensor::KeyNorm(l), config.head_dim)?,
            output_bias: some(config.output_bias, Tensor::OutputBias(l), hidden)?,
            feed_forward_norm: vector(Tensor::FeedForwardNorm(l), hidden)?,
            query: packer.rotary(weights, Tensor::Query(l), queries)?,
            key: packer.rotary(weights, Tensor::Key(l), kv)?,
            value: packer.matrix(weights, Tensor::Value(l), kv, hidden)?,
            output: packer.matrix(weights, Tensor::Output(l), hidden, queries)?,
            gate: packer.matrix(weights, Tensor::Gate(l), wide, hidden)?,
            up: packer.matrix(weights, Tensor::Up(l), wide, hidden)?,
            down: packer.matrix(weights, Tensor::Down(l), hidden, wide)?,
        })
    }

    pub(crate) fn bytes(&self) -> usize {
        let packed = [&self.query, &self.key, &self.value, &self.output, &self.gate, &self.up, &self.down];
        packed.iter().map(|matrix| matrix.bytes()).sum()
    }

    /// The bias that attention has to add to the keys: where keys are normed after it, it is in them already.
    pub(crate) fn separate_key_bias(&self) -> Option<&[f32]> {
        self.key_bias.as_deref().filter(|_| self.key_norm.is_none())
    }

    /// Norm and the projections before attention, of `hidden`, `[tokens, hidden]`.
    pub(crate) fn project_qkv(
        &self,
        on: Arithmetic<'_>,
        hidden: &[f32],
        to: Projected<'_>,
        buffers: &mut Buffers,
    ) {
        let Projected { queries, keys, values } = to;
        on.norm_rows(&self.attention_norm, hidden, &[&self.query, &self.key, &self.value], buffers);
        on.compute.matmul(
            &buffers.activations,
            &mut [
                Product { weights: &self.query, out: queries },
                Product { weights: &self.key, out: keys },
                Product { weights: &self.value, out: values },
            ],
        );
        add_bias(queries, self.query_bias.as_deref());
        add_bias(values, self.value_bias.as_deref());
        self.finish_keys(on, keys, buffers);
        if let Some(norm) = &self.query_norm {
            norm_heads(on, norm, queries, &mut buffers.normed);
        }
    }

    /// The same for the keys alone.
    pub(crate) fn project_keys(
        &self,
        on: Arithmetic<'_>,
        hidden: &[f32],
        keys: &mut [f32],
        buffers: &mut Buffers,
    ) {
        on.norm_rows(&self.attention_norm, hidden, &[&self.key], buffers);
        on.compute.matmul(&buffers.activations, &mut [Product { weights: &self.key, out: keys }]);
        self.finish_keys(on, keys, buffers);
    }

    fn finish_keys(&self, on: Arithmetic<'_>, keys: &mut [f32], buffers: &mut Buffers) {
        if let Some(norm) = &self.key_norm {
            add_bias(keys, self.key_bias.as_deref());
            norm_heads(on, norm, keys, &mut buffers.normed);
        }
    }

    /// The rest of the layer: `hidden`, `[tokens, hidden]`, takes up what attention has made of it, `mixed`,
    /// `[tokens, heads, head_dim]`, then the feed-forward part.
    pub(crate) fn finish(
        &self,
        on: Arithmetic<'_>,
        hidden: &mut [f32],
        mixed: &[f32],
        buffers: &mut Buffers,
    ) {
        let activations = &mut buffers.activations;
        on.compute.prepare(on.meeting(&[&self.output]), self.output.cols(), mixed, activations);
        on.compute.matmul_add(activations, &self.output, hidden);
        add_bias(hidden, self.output_bias.as_deref());

        let gate_and_up = [&self.gate, &self.up];
        on.norm_rows(&self.feed_forward_norm, hidden, &gate_and_up, buffers);
        let Buffers { activations, wide, .. } = buffers;
        on.compute.gated(activations, gate_and_up, on.meeting(&[&self.down]), wide);
        on.compute.matmul_add(wide, &self.down, hidden);
    }
}

impl Arithmetic<'_> {
    /// What is taken in for products with `weights`.
    fn meeting(self, weights: &[&PackedMatrix]) -> Intake {
        Intake::meeting(self.precision, weights)
    }

    /// Norm rows of `norm.len()` numbers and take them in as activations, for products with `weights`.
    pub(crate) fn norm_rows(
        self,
        norm: &[f32],
        rows: &[f32],
        weights: &[&PackedMatrix],
        buffers: &mut Buffers,
    ) {
        let intake = self.meeting(weights);
        self.compute.prepare_normed(intake, rows, norm, self.eps, &mut buffers.activations);
    }
}

/// Exactly `len` numbers, whatever they are; only growing beyond what was ever needed allocates.
pub(crate) fn resize(buffer: &mut Vec<f32>, len: usize) {
    buffer.resize(len, 0.0);
}

fn add_bias(rows: &mut [f32], bias: Option<&[f32]>) {
    let Some(bias) = bias else { return };
    for row in rows.chunks_exact_mut(bias.len()) {
        for (x, b) in row.iter_mut().zip(bias) {
            *x += b;
        }
    }
}

/// Norm every head of `heads`, `[…, head_dim]`; `other` is room for it.
fn norm_heads(on: Arithmetic<'_>, norm: &[f32], heads: &mut [f32], other: &mut Vec<f32>) {
    debug_assert_eq!(norm.len(), on.head_dim, "one weight for each number of a head");
    resize(other, heads.len());
    on.compute.rms_norm(heads, norm, on.eps, other);
    heads.copy_from_slice(other);
}
