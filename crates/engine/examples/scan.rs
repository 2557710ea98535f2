//! What does finding cost in a large memory?
//!
//! ```text
//! cargo run --release -p longleaf-engine --example scan -- MODEL FROM TO TOKENS [QUESTION]
//! ```
//! Unless TO is there, it is made: a memory of TOKENS tokens whose sections are those of the memory FROM, over and over
//! (`longleaf ask` can be asked about it as well). Then the keys of all of it are scanned for a question: with none of them in RAM, with
//! all of them kept as they are read, which begins with a second question, and once more with all of them there.
#![expect(clippy::print_stdout, reason = "a report")]
use longleaf_engine::kernel::Compute;
use longleaf_engine::store::finder::{Finder, Reader};
use longleaf_engine::store::{Begin, ContentHash, Reading, SectionId, Store, StreamId};
use longleaf_engine::{Model, Special};
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, from, to, tokens, rest @ ..] = &arguments[..] else {
        return Err("usage: scan MODEL FROM TO TOKENS [QUESTION]".into());
    };
    let threads = std::thread::available_parallelism()?.get();
    let model = Model::open(Path::new(model), &Arc::new(Compute::new(threads)))?;
    let profile = model.finder().ok_or("it is not known how this model finds")?;
    let (config, compute) = (model.config(), model.decoder().compute());
    let to = Path::new(to);
    if !to.exists() {
        repeat(&Store::inspect(Path::new(from))?, to, tokens.parse()?)?;
    }
    let store = Store::inspect(to)?;
    let sections: Vec<SectionId> = store.sections().map(|section| section.id).collect();
    let question = rest.first().map_or("Who carried the silver compass?", String::as_str);
    let tokens = model.tokenizer().encode(&format!("Question: {question}"), Special::Text);
    let queries = Reader::new(model.decoder(), &profile).queries(&tokens);
    let timed = |finder: &Finder| -> Result<f64, longleaf_engine::store::Error> {
        let start = Instant::now();
        finder.scores(&store, &queries, 1)?;
        Ok(start.elapsed().as_secs_f64())
    };
    for round in 1..=3 {
        let open = |ram| Finder::open(&store, &sections, &profile, config, compute, ram);
        let (none, all) = (open(0), open(usize::MAX));
        let read = timed(&none)?;
        timed(&all)?;
        let kept = timed(&all)?;
        let resident = timed(&all)?;
        println!(
            "round {round}: {} blocks, {} tokens of question; read {read:.3} s, read and kept {kept:.3} s, resident \
             {resident:.3} s",
            all.blocks().len(),
            tokens.len(),
        );
    }
    Ok(())
}

/// Write the sections of a memory again and again until there are `tokens` tokens.
fn repeat(from: &Store, to: &Path, tokens: usize) -> Result<(), Box<dyn Error>> {
    let names: Vec<&str> = from.streams().filter(|name| name.starts_with("finder.")).collect();
    let mut store = Store::create(to, from.fingerprint())?;
    let always = [StreamId::TEXT, StreamId::TOKENS, StreamId::ENDS, StreamId::LEXICAL];
    let mut streams: Vec<(StreamId, StreamId)> = always.map(|id| (id, id)).to_vec();
    for name in names {
        let id = from.find_stream(name).expect("it was listed");
        streams.push((id, store.stream(name, from.row_bytes(id))?));
    }
    store.commit()?;
    let Begin::Read(mut reading) = store.begin("repeated", ContentHash([1; 32]))? else {
        return Err("not new".into());
    };
    let mut done = 0;
    for (index, section) in from.sections().collect::<Vec<_>>().iter().cycle().enumerate() {
        if done >= tokens {
            break;
        }
        let Reading::Partial(_) = reading.section(ContentHash::of(&index.to_le_bytes()))? else { continue };
        for (source, target) in &streams {
            reading.rows(*target, &from.read_all(section.id, *source)?)?;
        }
        reading.end_section();
        done += section.bytes(StreamId::TOKENS) as usize / 4;
        if index % 64 == 0 {
            reading.checkpoint()?;
        }
    }
    reading.finish()?;
    Ok(())
}
