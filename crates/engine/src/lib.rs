//! The library people use: models by name, sampling, answers.
//!
//! * [`Library`]: a model's name to files on this machine ([`registry`] lists the known ones).
//! * [`Error`], whose [`kind`](Error::kind) says what a caller can do about it.
#![forbid(unsafe_code)]
mod error;
pub mod pull;
pub mod registry;

pub use error::{Error, ErrorKind};
pub use longleaf_kernel as kernel;
pub use pull::{Library, Location, PullEvent, Sources};
