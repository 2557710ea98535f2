//! The binary `longleaf`.
#![forbid(unsafe_code)]
fn main() {}
