//! One folder per instruction set. A set is a token that only its CPU check can create, so holding the token is
//! the proof that its instructions may run.
#[cfg(target_arch = "aarch64")]
pub(crate) mod aarch64;
pub(crate) mod scalar;
#[cfg(target_arch = "x86_64")]
pub(crate) mod x86_64;
