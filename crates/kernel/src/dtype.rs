//! The element types a matrix can be stored in.

/// A number format of weights, with the names GGUF gives them.
///
/// Bit layouts: ggml's `ggml-quants` (the K-quants are super-blocks of 256 numbers); [`crate::block::decode`]
/// is the definition used here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(non_camel_case_types, reason = "the names are the format's own")]
pub enum DType {
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 half precision.
    F16,
    /// The upper half of an `F32`.
    BF16,
    /// 32 numbers: f16 scale, 4-bit quants offset by 8.
    Q4_0,
    /// 32 numbers: f16 scale and minimum, 4-bit quants.
    Q4_1,
    /// 32 numbers: f16 scale, 5-bit quants offset by 16.
    Q5_0,
    /// 32 numbers: f16 scale and minimum, 5-bit quants.
    Q5_1,
    /// 32 numbers: f16 scale, signed bytes.
    Q8_0,
    /// 256 numbers: 2-bit quants, 16 sub-blocks with 4-bit scales and minima.
    Q2_K,
    /// 256 numbers: 3-bit quants, 16 sub-blocks with 6-bit scales.
    Q3_K,
    /// 256 numbers: 4-bit quants, 8 sub-blocks with 6-bit scales and minima.
    Q4_K,
    /// 256 numbers: 5-bit quants, 8 sub-blocks with 6-bit scales and minima.
    Q5_K,
    /// 256 numbers: 6-bit quants, 16 sub-blocks with 8-bit scales.
    Q6_K,
}

impl DType {
    /// Every format, in the order of declaration.
    pub const ALL: [Self; 13] = [
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q2_K,
        Self::Q3_K,
        Self::Q4_K,
        Self::Q5_K,
        Self::Q6_K,
    ];

    /// Name, block length in numbers, block size in bytes.
    const fn facts(self) -> (&'static str, usize, usize) {
        match self {
            Self::F32 => ("F32", 1, 4),
            Self::F16 => ("F16", 1, 2),
            Self::BF16 => ("BF16", 1, 2),
            Self::Q4_0 => ("Q4_0", 32, 18),
            Self::Q4_1 => ("Q4_1", 32, 20),
            Self::Q5_0 => ("Q5_0", 32, 22),
            Self::Q5_1 => ("Q5_1", 32, 24),
            Self::Q8_0 => ("Q8_0", 32, 34),
            Self::Q2_K => ("Q2_K", 256, 84),
            Self::Q3_K => ("Q3_K", 256, 110),
            Self::Q4_K => ("Q4_K", 256, 144),
            Self::Q5_K => ("Q5_K", 256, 176),
            Self::Q6_K => ("Q6_K", 256, 210),
        }
    }

    /// The name as GGUF tools print it.
    pub const fn name(self) -> &'static str {
        self.facts().0
    }

    /// How many numbers one block holds.
    pub const fn block_len(self) -> usize {
        self.facts().1
    }

    /// How many bytes one block takes.
    pub const fn block_bytes(self) -> usize {
        self.facts().2
    }

    /// Bytes of a row of `cols` numbers, or `None` if `cols` is not a whole number of blocks or overflows.
    pub const fn row_bytes(self, cols: usize) -> Option<usize> {
        let (_, len, bytes) = self.facts();
        if cols.is_multiple_of(len) { (cols / len).checked_mul(bytes) } else { None }
    }
}
