#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = longleaf_text::fuzzing::gguf_vocabulary(bytes);
});
