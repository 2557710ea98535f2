//! The weights of an encoder and where they come from.
use super::{EncoderConfig, Packing};
use crate::error::Error;
use crate::safetensors::Folder;
use crate::weights::{Stored, Weights};
use longleaf_kernel::{Activations, Compute, DType, Matrix, PackedMatrix, Precision, Product, block};

/// Rows that are rounded in one task: one alone is less work than handing it out.
const ROWS: usize = 64;

/// Tensors by name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Loader<'a> {
    pub(super) folder: &'a Folder,
    pub(super) compute: &'a Compute,
    pub(super) packing: Packing,
    pub(super) prefix: &'static str,
}

impl<'a> Loader<'a> {
    fn stored(&self, name: &str, shape: &[usize]) -> Result<Stored<'a>, Error> {
        let (path, name) = (self.folder.path(), format!("{}{name}", self.prefix));
        let stored = self
            .folder
            .tensor(name.clone())?
            .ok_or_else(|| Error::Missing { path: path.to_owned(), name: name.clone() })?;
        stored.of_shape(path, name, shape)
    }

    /// A vector of `len` numbers, or a matrix as one.
    pub(super) fn numbers(&self, name: &str, shape: &[usize]) -> Result<Box<[f32]>, Error> {
        let stored = self.stored(name, shape)?;
        let mut values = vec![0.0; shape.iter().product()];
        block::decode(stored.dtype, stored.bytes, &mut values);
        Ok(values.into())
    }

    /// A matrix `[rows, cols]`, packed.
    pub(super) fn matrix(&self, name: &str, rows: usize, cols: usize) -> Result<PackedMatrix, Error> {
        let stored = self.stored(name, &[rows, cols])?;
        let matrix = Matrix::new(stored.dtype, rows, cols, stored.bytes).expect("of this shape");
        let pool = self.compute.pool();
        let bytes = DType::Q8_0.row_bytes(cols).filter(|_| self.packing == Packing::Bytes);
        let packed = match bytes {
            None => PackedMatrix::pack(pool, matrix),
            Some(row_bytes) => {
                let mut rounded = vec![0; rows * row_bytes];
                pool.chunks_mut(&mut rounded, ROWS * row_bytes, &|index, rounded| {
                    let mut row = vec![0.0; cols];
                    for (at, rounded) in (index * ROWS..).zip(rounded.chunks_exact_mut(row_bytes)) {
                        matrix.decode_row(at, &mut row);
                        block::encode_q8_0(&row, rounded);
                    }
                });
                let rounded = Matrix::new(DType::Q8_0, rows, cols, &rounded).expect("the same rows");
                PackedMatrix::pack(pool, rounded)
            }
        };
        self.folder.release(matrix);
        Ok(packed)
    }

    /// A norm's weight and bias.
    pub(super) fn norm(&self, name: &str, len: usize) -> Result<Norm, Error> {
        Ok(Norm {
            weight: self.numbers(&format!("{name}.weight"), &[len])?,
            bias: self.numbers(&format!("{name}.bias"), &[len])?,
        })
    }
}

/// Weight and bias of a norm over the hidden size.
#[derive(Debug)]
pub(super) struct Norm {
    pub(super) weight: Box<[f32]>,
    pub(super) bias: Box<[f32]>,
}

/// The weights of one layer. There is no bias of the keys, for it adds the same to all scores of a query, which a
/// softmax does not see; and none of the values, for the weights of a softmax add up to 1: it passes through them and
/// is a part of `output_bias`.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) query: PackedMatrix,
    pub(super) query_bias: Box<[f32]>,
    pub(super) key: PackedMatrix,
    pub(super) value: PackedMatrix,
    pub(super) output: PackedMatrix,
    pub(super) output_bias: Box<[f32]>,
    pub(super) attention_norm: Norm,
    pub(super) up: PackedMatrix,
    pub(super) up_bias: Box<[f32]>,
    pub(super) down: PackedMatrix,
    pub(super) down_bias: Box<[f32]>,
    pub(super) feed_forward_norm: Norm,
}

impl Layer {
    pub(super) fn load(loader: Loader<'_>, config: &EncoderConfig, layer: usize) -> Result<Self, Error> {
        let (hidden, wide) = (config.hidden_size, config.intermediate_size);
        let name = |part: &str| format!("encoder.layer.{layer}.{part}");
        let matrix = |part, rows, cols| loader.matrix(&name(&format!("{part}.weight")), rows, cols);
        let bias = |part, len| loader.numbers(&name(&format!("{part}.bias")), &[len]);
        let output = matrix("attention.output.dense", hidden, hidden)?;
        let mut output_bias = bias("attention.output.dense", hidden)?;
        let value_bias = bias("attention.self.value", hidden)?;
        bias("attention.self.key", hidden)?;
        let mut passed = vec![0.0; hidden];
        let mut activations = Activations::new();
        loader.compute.prepare(Precision::Exact, hidden, &value_bias, &mut activations);
        loader.compute.matmul(&activations, &mut [Product { weights: &output, out: &mut passed }]);
        loader.compute.add(&mut output_bias, &passed);
        Ok(Self {
            query: matrix("attention.self.query", hidden, hidden)?,
            query_bias: bias("attention.self.query", hidden)?,
            key: matrix("attention.self.key", hidden, hidden)?,
            value: matrix("attention.self.value", hidden, hidden)?,
            output,
            output_bias,
            attention_norm: loader.norm(&name("attention.output.LayerNorm"), hidden)?,
            up: matrix("intermediate.dense", wide, hidden)?,
            up_bias: bias("intermediate.dense", wide)?,
            down: matrix("output.dense", hidden, wide)?,
            down_bias: bias("output.dense", hidden)?,
            feed_forward_norm: loader.norm(&name("output.LayerNorm"), hidden)?,
        })
    }

    pub(super) fn bytes(&self) -> usize {
        let packed = [&self.query, &self.key, &self.value, &self.output, &self.up, &self.down];
        packed.iter().map(|matrix| matrix.bytes()).sum()
    }
}
