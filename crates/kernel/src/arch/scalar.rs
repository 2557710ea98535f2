//! Plain Rust: the meaning of every kernel.
pub(crate) mod attention;
pub(crate) mod exp;
pub(crate) mod ops;
pub(crate) mod quantised;

use crate::Kernels;

/// The set that runs everywhere.
#[derive(Debug)]
pub(crate) struct Scalar;

impl Kernels for Scalar {
    fn name(&self) -> &'static str {
        "scalar"
    }
}
