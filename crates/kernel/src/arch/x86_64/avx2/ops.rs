//! The element-wise operations, compiled for this set.
use super::Avx2;
use crate::arch::scalar::ops::compile;

compile!(Avx2, "avx2");
