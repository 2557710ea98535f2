//! Writes `testdata/compat/v<current>`, the store that every later version must be able to read, if it is not there.
//! To be run once when the format changes: `cargo run -p longleaf-memory --example write_compat`.
#[path = "../tests/support/workload.rs"]
mod workload;

use std::fs;
use std::path::Path;

use longleaf_memory::{CURRENT, Store};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../testdata/compat/v{CURRENT}"));
    if !path.exists() {
        workload::compat(&mut Store::create(&path, workload::FINGERPRINT)?);
        fs::remove_file(path.join("LOCK"))?;
    }
    Ok(())
}
