//! The right-hand side of the products.

/// How closely a product follows f32 arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// Activations keep at least 15 bits: the weights' own quality.
    #[default]
    Exact,
    /// Activations are rounded to 8 bits a group of 32: the quality other CPU engines have, twice as fast.
    Fast,
}

/// Rows of activations `[tokens, cols]`, in the forms the kernels want them. A buffer to be reused: it keeps its
/// allocations.
#[derive(Debug, Default)]
pub struct Activations {
    pub(crate) tokens: usize,
    pub(crate) cols: usize,
    pub(crate) precision: Precision,
    pub(crate) values: Vec<f32>,
}

impl Activations {
    /// Empty, with nothing allocated.
    pub fn new() -> Self {
        Self::default()
    }

    /// Rows.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Numbers in a row.
    pub fn cols(&self) -> usize {
        self.cols
    }
}
