//! The real binary on tiny models.
mod cli {
    mod bench;
    mod errors;
    mod eval;
    mod memory;
    mod program;
    mod run;
    mod smollm2;
}
