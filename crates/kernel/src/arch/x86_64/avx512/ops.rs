//! The element-wise operations, compiled for this set.
use super::Avx512;
use crate::arch::scalar::ops::compile;

compile!(Avx512, "avx512f,avx512bw,avx512dq,avx512vl");
