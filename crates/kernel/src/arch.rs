//! One folder per instruction set.
pub(crate) mod scalar;
