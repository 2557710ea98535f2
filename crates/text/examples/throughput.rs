//! Tokenizing speed: `throughput MODEL.gguf FILE...`, in MB/s on one thread, ours and the tokenizers library's,
//! whose ids are compared on the way. Time is the thread's own on the CPU, so that other work on the machine does
//! not count.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a broken test stops at once and says why")]

#[path = "../tests/support/oracle.rs"]
mod oracle;
#[path = "../tests/support/vocabularies.rs"]
#[expect(dead_code, reason = "shared with tests")]
mod vocabularies;

use longleaf_text::{Special, Tokenizer};
use std::path::Path;

/// Seconds that this thread has been running.
fn cpu_seconds() -> f64 {
    let text =
        std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux tells what a thread has used");
    let nanoseconds = text.split(' ').next().and_then(|field| field.parse::<f64>().ok());
    nanoseconds.expect("the first field is a number of nanoseconds") / 1e9
}

#[expect(clippy::print_stdout, reason = "the output of the program")]
fn main() {
    let mut arguments = std::env::args().skip(1);
    let model = arguments.next().expect("a GGUF file is given");
    let texts: Vec<String> = arguments.map(|path| std::fs::read_to_string(path).expect("text")).collect();
    let megabytes = texts.iter().map(String::len).sum::<usize>() as f64 / 1e6;
    let vocabulary = vocabularies::read(Path::new(&model));
    let compared = vocabulary.model == "gpt2";
    let json = compared.then(|| oracle::json(&vocabulary));
    let start = cpu_seconds();
    let tokenizer = Tokenizer::from_gguf(vocabulary).expect("a vocabulary of a known kind");
    println!("load        {:8.3} s", cpu_seconds() - start);

    let start = cpu_seconds();
    let ids: Vec<Vec<u32>> = texts.iter().map(|text| tokenizer.encode(text, Special::Text)).collect();
    let seconds = cpu_seconds() - start;
    let tokens: usize = ids.iter().map(Vec::len).sum();
    println!(
        "longleaf    {:8.1} MB/s  {megabytes:.1} MB, {tokens} tokens, {seconds:.2} s",
        megabytes / seconds
    );

    let Some(json) = json else { return };
    let oracle = oracle::oracle(&json);
    let start = cpu_seconds();
    let mut same = true;
    for (text, ids) in texts.iter().zip(&ids) {
        same &= oracle.encode_fast(text.as_str(), false).expect("no unknown tokens").get_ids() == ids;
    }
    let seconds = cpu_seconds() - start;
    println!("tokenizers  {:8.1} MB/s  ids {}", megabytes / seconds, if same { "equal" } else { "DIFFER" });
}
