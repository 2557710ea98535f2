//! The one form in which weights are multiplied.
use crate::{DType, Matrix, Pool};

/// A weight matrix `[rows, cols]` repacked for the products. Made once when a model is loaded; the file's own
/// bytes are not needed afterwards. Packing loses nothing: [`PackedMatrix::decode_row`] gives exactly the numbers
/// that [`Matrix::decode_row`] gave.
#[derive(Debug)]
pub struct PackedMatrix {
    dtype: DType,
    rows: usize,
    cols: usize,
    bytes: Vec<u8>,
}

impl PackedMatrix {
    /// Repack `matrix`, the rows split over `pool`.
    pub fn pack(_pool: &Pool, matrix: Matrix<'_>) -> Self {
        let (rows, cols) = (matrix.rows(), matrix.cols());
        let bytes = (0..rows).flat_map(|r| matrix.row(r).iter().copied()).collect();
        Self { dtype: matrix.dtype(), rows, cols, bytes }
    }

    /// Outputs.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Inputs.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Size in memory.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// One row as numbers (an embedding look-up): `values` is `[cols]`.
    pub fn decode_row(&self, row: usize, values: &mut [f32]) {
        Matrix::new(self.dtype, self.rows, self.cols, &self.bytes)
            .expect("shape kept")
            .decode_row(row, values);
    }
}
