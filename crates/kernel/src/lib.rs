//! Arithmetic for transformers on a CPU: block formats, matrix products, attention over blocks of keys and
//! values, and the element-wise operations between them.
//!
//! Nothing here knows a file, a model or an error: shapes are the caller's promise, and a broken promise is a
//! panic that names both numbers. Scalar Rust is the meaning of every operation; an instruction set may only be
//! faster, within the bound that the agreement tests state.
//!
//! * [`DType`], [`Matrix`]: weights as they lie in a file. [`block::decode`] defines every format.
//! * [`PackedMatrix`]: the one repacked form in which weights are multiplied.
//! * [`KvBlock`]: keys and values of [`BLOCK_TOKENS`] tokens of one layer, ready to be attended to.
//! * [`KvQuantisation`]: the same in few bits, as it lies on disk.
//! * [`Kernels`]: one object per instruction set; [`best`] and [`supported`] find them at run time.
//! * [`Compute`]: kernels and threads together; what callers use.
//!
//! Results do not depend on the number of threads nor on how rows are batched: threads split outputs, never a
//! sum, and every sum has one order.
#![expect(unsafe_code, reason = "the home of all SIMD")]
mod activations;
mod aligned;
mod arch;
mod attention;
pub mod block;
mod ceilings;
mod compute;
mod dtype;
mod gated;
mod kernels;
mod kv;
mod lines;
mod matmul;
mod matrix;
mod packed;
mod pool;
mod quantised;
mod room;
mod tile;

pub use activations::{Activations, Intake, Precision};
pub use attention::SEGMENT;
pub use ceilings::{Arithmetic, Ceilings, ceilings};
pub use compute::{Compute, Product};
pub use dtype::DType;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[doc(hidden)]
pub use kernels::amx_unchecked;
pub use kernels::{Kernels, best, by_name, supported};
pub use kv::{Attend, BLOCK_TOKENS, KvBlock, KvFormat, KvView};
pub use matrix::Matrix;
pub use packed::PackedMatrix;
pub use pool::Pool;
pub use quantised::{BlockAngles, Dequantise, KvBits, KvQuantisation};
