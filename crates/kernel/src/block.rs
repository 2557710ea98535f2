//! What the stored bytes mean.
use crate::DType;
use half::{bf16, f16};

/// Read `bytes`, a whole number of blocks, as `values`. This function *defines* the formats.
pub fn decode(dtype: DType, bytes: &[u8], values: &mut [f32]) {
    assert_eq!(Some(bytes.len()), dtype.row_bytes(values.len()), "{}: bytes of the row", dtype.name());
    match dtype {
        DType::F32 => {
            for (v, b) in values.iter_mut().zip(bytes.as_chunks::<4>().0) {
                *v = f32::from_le_bytes(*b);
            }
        }
        DType::F16 => {
            for (v, b) in values.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *v = f16::from_le_bytes(*b).to_f32();
            }
        }
        DType::BF16 => {
            for (v, b) in values.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *v = bf16::from_le_bytes(*b).to_f32();
            }
        }
        _ => unreachable!("{}", dtype.name()),
    }
}
