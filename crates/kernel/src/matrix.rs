//! A view of weights as they lie in a file.
use crate::{DType, block};

/// `[rows, cols]` numbers, row-major, each row a whole number of blocks. A row is one output of a product:
/// `y[row] = Σ w[row, col] · x[col]`.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    dtype: DType,
    rows: usize,
    cols: usize,
    row_bytes: usize,
    bytes: &'a [u8],
}

impl<'a> Matrix<'a> {
    /// A checked view: `None` unless `bytes` is exactly `rows` rows of `cols` numbers.
    pub fn new(dtype: DType, rows: usize, cols: usize, bytes: &'a [u8]) -> Option<Self> {
        let row_bytes = dtype.row_bytes(cols)?;
        (row_bytes.checked_mul(rows)? == bytes.len()).then_some(Self { dtype, rows, cols, row_bytes, bytes })
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Outputs.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Inputs.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The stored bytes of one row.
    pub fn row(&self, row: usize) -> &'a [u8] {
        &self.bytes[row * self.row_bytes..(row + 1) * self.row_bytes]
    }

    /// One row as numbers: `values` is `[cols]`.
    pub fn decode_row(&self, row: usize, values: &mut [f32]) {
        assert_eq!(values.len(), self.cols, "a row has as many numbers as the matrix has columns");
        block::decode(self.dtype, self.row(row), values);
    }
}
