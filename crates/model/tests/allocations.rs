//! A decode step allocates nothing. (Alone in this file: the counter counts the whole process.)
use longleaf_kernel::{Compute, KvFormat};
use longleaf_model::{Decoder, Dense, Scratch, Visible};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::path::Path;
use std::sync::Arc;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

#[test]
fn a_decode_step_allocates_nothing() {
    for name in ["smollm2", "qwen2", "qwen3", "mistral", "gguf/wide-q4_k.gguf"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/models").join(name);
        let decoder = Decoder::load(&path, &Arc::new(Compute::new(1))).expect("a good model");
        let compute = Arc::clone(decoder.compute());
        let mut dense = Dense::new(decoder.config(), compute, KvFormat::Bf16, Visible::All, 1000);
        let mut scratch = Scratch::new();
        decoder.forward(&[1; 100], 0, &mut dense, &mut scratch).expect("cannot fail");
        decoder.forward(&[1], 100, &mut dense, &mut scratch).expect("cannot fail");
        dense.reserve(301);
        let region = Region::new(ALLOCATOR);
        for position in 101..400 {
            decoder.forward(&[1], position, &mut dense, &mut scratch).expect("cannot fail");
        }
        let change = region.change();
        assert_eq!((change.allocations, change.reallocations), (0, 0), "{name}: {change:?}");
    }
}
