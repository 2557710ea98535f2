//! One file per command.
pub(crate) mod bench;
pub(crate) mod doctor;
pub(crate) mod eval;
pub(crate) mod pull;
pub(crate) mod run;
