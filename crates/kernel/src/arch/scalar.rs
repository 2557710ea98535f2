//! Plain Rust: the meaning of every kernel.
use crate::Kernels;

/// The set that runs everywhere.
#[derive(Debug)]
pub(crate) struct Scalar;

impl Kernels for Scalar {
    fn name(&self) -> &'static str {
        "scalar"
    }
}
