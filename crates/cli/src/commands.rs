//! One file per command.
pub(crate) mod doctor;
pub(crate) mod pull;
