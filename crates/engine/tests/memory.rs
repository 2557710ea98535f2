//! Laws of a memory, on a tiny model: whatever the way there, the same memory; citations are the documents' bytes.
use longleaf_engine::adaptive::Budget;
use longleaf_engine::kernel::Compute;
use longleaf_engine::memory::{Asking, Depth, Reply, Stages, framed_prompt};
use longleaf_engine::store::{SectionId, StreamId};
use longleaf_engine::{Document, Error, Memory, Model, Request, Sampling};
use longleaf_memory::finder::{self, Head, Profile};
use longleaf_memory::full;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

/// The tiny model, which has a token for nearly every byte, with a window that holds a passage.
fn model(threads: usize) -> Model {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/models/smollm2");
    let wide = tempfile::tempdir().expect("a folder");
    for file in ["model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(path.join(file), wide.path().join(file)).expect("copied");
    }
    let config = std::fs::read_to_string(path.join("config.json")).expect("a configuration");
    let widened = config.replace("\"max_position_embeddings\": 256", "\"max_position_embeddings\": 4096");
    assert_ne!(config, widened);
    std::fs::write(wide.path().join("config.json"), widened).expect("written");
    // Kept for as long as the test runs: the memory's fingerprint reads it again.
    Model::open(&wide.keep(), &Arc::new(Compute::new(threads))).expect("the tiny model")
}

fn profile() -> Profile {
    Profile {
        heads: vec![Head { layer: 0, head: 1 }, Head { layer: 1, head: 2 }],
        run: 256,
        distance: 100,
        passages: 3,
    }
}

fn text(seed: usize, lines: usize) -> String {
    let words =
        ["bell", "lantern", "harbour", "seven", "Cordelia", "quiet", "rain", "ledger", "oak", "ünder"];
    let line = |i: usize| {
        let word = |j: usize| words[(i * 31 + j * 17 + seed * 7 + i * i % 13) % words.len()];
        format!("{} {} saw the {} {}.\n", word(0), i, word(1), word(2))
    };
    (0..lines).map(line).collect()
}

fn document(name: &str, text: &str) -> Document {
    Document::new(name, text.as_bytes().to_vec()).expect("a text")
}

fn add(memory: &mut Memory<'_>, document: &Document) -> usize {
    let added = memory.add(document, &mut |_| ControlFlow::Continue(())).expect("it is read");
    assert!(!added.interrupted);
    added.tokens
}

/// Everything kept of a document, section by section.
fn kept(memory: &Memory<'_>, name: &str) -> BTreeMap<(usize, String), Vec<u8>> {
    let store = memory.store();
    let rows = store.streams().filter(|name| *name != "catalogue");
    let streams: Vec<(String, StreamId)> =
        rows.map(|name| (name.to_owned(), store.find_stream(name).expect("it is listed"))).collect();
    let least = if memory.depth() == Depth::Words { 4 } else { 6 };
    assert!(streams.len() >= least, "two streams of keys besides text, tokens, ends, words");
    let sections: Vec<SectionId> = store.find(name).expect("the document").sections.clone();
    let mut kept = BTreeMap::new();
    for (index, section) in sections.iter().enumerate() {
        for (name, stream) in &streams {
            kept.insert((index, name.clone()), store.read_all(*section, *stream).expect("readable"));
        }
    }
    kept
}

fn asking(stages: Stages) -> Asking {
    Asking { stages, request: Request { max_tokens: Some(4), ..Request::default() }, ..Asking::default() }
}

#[test]
fn interrupted_readings_go_on_to_the_same_memory() {
    interrupted_readings(Depth::Finder, &model(1), &model(1));
    interrupted_readings(Depth::Words, &model(1), &model(2));
}

/// Also on another number of threads: what was kept before is seen as it would have been.
#[test]
fn so_do_those_at_full_depth() {
    interrupted_readings(Depth::Full, &model(2), &model(1));
}

fn interrupted_readings(depth: Depth, model: &Model, model_of_pieces: &Model) {
    let folder = tempfile::tempdir().expect("a folder");
    let text = text(1, 2500);
    let book = document("book", &text);
    let mut whole = Memory::with_profile(&folder.path().join("whole"), model, profile()).expect("a memory");
    whole.set_depth(depth).expect("nothing was read yet, or so deep");
    let tokens = add(&mut whole, &book);

    let path = folder.path().join("pieces");
    let (mut pieces, mut interruptions) = (0, 0);
    loop {
        // Opened anew each time, as after a restart.
        let mut memory = Memory::with_profile(&path, model_of_pieces, profile()).expect("a memory");
        memory.set_depth(depth).expect("nothing was read yet, or so deep");
        let mut runs = 0;
        let added = memory
            .add(&book, &mut |_| {
                runs += 1;
                if runs == if depth == Depth::Words { 2 } else { 7 } {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            })
            .expect("it is read");
        pieces += added.tokens;
        if !added.interrupted {
            assert_eq!(kept(&memory, "book"), kept(&whole, "book"));
            break;
        }
        interruptions += 1;
    }
    assert!(interruptions > 3, "{interruptions} interruptions");
    assert_eq!(pieces, tokens, "nothing was read twice");
}

#[test]
fn an_edited_document_is_as_if_read_afresh_and_costs_only_the_edit() {
    let folder = tempfile::tempdir().unwrap();
    let model = model(2);
    let before = text(2, 6000);
    let after = before.replacen("saw the", "never saw the", 1);
    let mut edited = Memory::with_profile(&folder.path().join("edited"), &model, profile()).unwrap();
    let all = add(&mut edited, &document("book", &before));
    let again = add(&mut edited, &document("book", &after));
    assert!(again > 0 && again < all / 2, "{again} of {all} tokens read again");
    let mut fresh = Memory::with_profile(&folder.path().join("fresh"), &model, profile()).unwrap();
    add(&mut fresh, &document("book", &after));
    assert_eq!(kept(&edited, "book"), kept(&fresh, "book"));
    assert_eq!(add(&mut edited, &document("book", &after)), 0, "known already");
    assert_eq!(add(&mut edited, &document("copy", &after)), 0, "the same under another name");
}

#[test]
fn neither_threads_nor_the_order_of_documents_change_an_answer() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (model(1), model(3));
    let documents = [document("a", &text(3, 1200)), document("b", &text(4, 1500))];
    let mut forth = Memory::with_profile(&folder.path().join("forth"), &one, profile()).unwrap();
    let mut back = Memory::with_profile(&folder.path().join("back"), &two, profile()).unwrap();
    for document in &documents {
        add(&mut forth, document);
    }
    for document in documents.iter().rev() {
        add(&mut back, document);
    }
    let asking = asking(Stages { finder: true, lexical: true, meaning: true, rerank: true });
    for question in ["Who saw Cordelia 777?", "What did the ledger say of rain 41?"] {
        let ask = |memory: &mut Memory<'_>| {
            memory.ask(question, &asking, &mut |_| (), &mut |_| ControlFlow::Continue(())).unwrap()
        };
        let (forth, back) = (ask(&mut forth), ask(&mut back));
        assert_eq!(forth.citations, back.citations);
        assert_eq!(forth.confidence.to_bits(), back.confidence.to_bits());
        assert_eq!(forth.answer.map(|answer| answer.tokens), back.answer.map(|answer| answer.tokens));
    }
}

#[test]
fn citations_are_the_documents_own_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let model = model(2);
    let text = text(5, 4000).replacen("quiet 2000 saw", "The zeppelin Ümlaut landed. quiet 2000 saw", 1);
    let marked = text.replacen("2001 saw", "2001 greeted the zeppelin and saw", 1);
    let mut memory = Memory::with_profile(&folder.path().join("m"), &model, profile()).unwrap();
    add(&mut memory, &document("other", "Something else.\n"));
    add(&mut memory, &document("book", &marked));
    let asking = asking(Stages { finder: false, lexical: true, meaning: true, rerank: false });
    let reply = memory
        .ask("Who greeted the zeppelin?", &asking, &mut |_| (), &mut |_| ControlFlow::Continue(()))
        .unwrap();
    assert!(reply.found && !reply.citations.is_empty());
    for citation in &reply.citations {
        let source = if citation.document == "book" { marked.as_str() } else { "Something else.\n" };
        assert_eq!(source.get(citation.start as usize..citation.end as usize), Some(citation.quote.as_str()));
    }
    assert!(reply.citations[0].quote.contains("zeppelin"), "{:?}", reply.citations[0]);
    let weights: f64 = reply.citations.iter().map(|citation| citation.weight).sum();
    assert!((weights - 1.0).abs() < 1e-9);
    assert_eq!(reply.coverage.blocks_scored, reply.coverage.blocks_total);
}

#[test]
fn sentences_worded_as_an_example_are_found_among_many_with_the_same_words() {
    let folder = tempfile::tempdir().unwrap();
    let model = model(2);
    let lines = text(5, 3000);
    let mut book: Vec<&str> = lines.lines().collect();
    assert!(book.iter().filter(|line| line.contains("Cordelia")).count() > 500);
    book.insert(700, "Cordelia went to the office.");
    book.insert(1900, "Cordelia travelled to the hallway.");
    book.insert(2500, "Edgar went to the office.");
    book.insert(2700, "Edgar took the lantern.");
    let book = book.join("\n");
    let mut memory = Memory::with_profile(&folder.path().join("m"), &model, profile()).unwrap();
    add(&mut memory, &document("book", &book));
    let like = vec!["John went to the garden.".to_owned(), "Ann moved to the kitchen.".to_owned()];
    let mut found = |like: &[String], rerank: bool, passages: Option<usize>| {
        let stages = Stages { finder: true, lexical: true, meaning: true, rerank };
        let asking = Asking { like: like.to_vec(), passages, ..asking(stages) };
        let finding = memory.find("Where is Cordelia?", &asking, &mut |_| ()).unwrap();
        let excerpts = finding.excerpts.into_iter().take(finding.near);
        excerpts
            .map(|excerpt| (excerpt.text, excerpt.start as usize..excerpt.end as usize))
            .collect::<Vec<_>>()
    };
    let best = found(&like, false, Some(2));
    let texts: Vec<&str> = best.iter().map(|(text, _)| text.as_str()).collect();
    assert_eq!(texts, ["Cordelia went to the office.", "Cordelia travelled to the hallway."]);
    assert!(best.iter().all(|(text, bytes)| book[bytes.clone()] == *text));
    // This model's opinion of sentences is worth nothing, but it cannot make any other sentence alike.
    assert!(found(&like, true, None).iter().all(|(text, _)| text.contains("Cordelia")));
    assert!(found(&["...".to_owned()], false, None).is_empty(), "nothing is like no words");
    // A step further: what is said of who has the lantern.
    let stages = Stages { rerank: false, ..Asking::default().stages };
    let steps = Asking { like: like.clone(), hops: 1, passages: Some(1), ..asking(stages) };
    let finding = memory.find("Where is the lantern?", &steps, &mut |_| ()).unwrap();
    let mut texts: Vec<&str> = finding.excerpts.iter().map(|excerpt| excerpt.text.as_str()).collect();
    texts.sort_unstable();
    assert_eq!(texts, ["Edgar took the lantern.", "Edgar went to the office."]);
    let asking = Asking { like, ..asking(stages) };
    let mut ask =
        |question| memory.ask(question, &asking, &mut |_| (), &mut |_| ControlFlow::Continue(())).unwrap();
    let reply = ask("Where is Cordelia?");
    assert!(reply.found && reply.answer.is_some());
    assert_eq!(reply.citations[0].quote, "Cordelia went to the office.");
    let reply = ask("Where is Zzyzx?");
    assert!(!reply.found && reply.answer.is_none() && reply.citations.is_empty());
}

#[test]
fn what_is_not_found_is_guessed_only_if_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let model = model(2);
    let mut memory = Memory::with_profile(&folder.path().join("m"), &model, profile()).unwrap();
    add(&mut memory, &document("book", &text(5, 1000)));
    let asking = asking(Stages { finder: true, lexical: true, meaning: true, rerank: true });
    let mut ask = |guess: bool, evidence: bool, question: &str| {
        let asking = Asking { guess, evidence, ..asking.clone() };
        memory.ask(question, &asking, &mut |_| (), &mut |_| ControlFlow::Continue(())).unwrap()
    };
    let question = "Which zeppelin did the archbishop buy?";
    let (refused, guessed) = (ask(false, true, question), ask(true, true, question));
    assert!(!refused.found && refused.answer.is_none() && refused.coverage.blocks_read == 0);
    assert!(!refused.citations.is_empty(), "what comes nearest");
    assert!(!guessed.found && guessed.answer.is_some() && guessed.coverage.blocks_read > 0);
    assert_eq!(refused.confidence.to_bits(), guessed.confidence.to_bits());
    // Without the choice of sentences all of a passage is read.
    let tokens = |reply: &Reply| reply.answer.as_ref().unwrap().prompt_tokens;
    let [some, all] = [true, false].map(|evidence| ask(true, evidence, "What did Cordelia 500 see?"));
    assert!(tokens(&all) > tokens(&some), "{} {}", tokens(&all), tokens(&some));
}

/// Tokens end within characters: no place of one is a place to cut the question.
#[test]
fn questions_are_asked_in_any_script() {
    let folder = tempfile::tempdir().unwrap();
    let model = model(2);
    let mut memory = Memory::with_profile(&folder.path().join("m"), &model, profile()).unwrap();
    add(&mut memory, &document("book", "Dvořák saw the \u{1f600} 東京 harbour.\u{a0}Rain. さくら、咲く。\n"));
    let asking = asking(Stages { finder: true, lexical: true, meaning: true, rerank: true });
    for question in ["Kdo je Dvořák?", "\u{1f600}", "東京 は どこ\u{3000}ですか", "\u{a0}", "さくら、咲く"]
    {
        let asking = Asking { guess: true, ..asking.clone() };
        let reply = memory.ask(question, &asking, &mut |_| (), &mut |_| ControlFlow::Continue(())).unwrap();
        assert!(reply.answer.is_some(), "{question}");
    }
}

#[test]
fn codes_in_answers_are_those_of_the_text() {
    let folder = tempfile::tempdir().unwrap();
    let model = model(2);
    let mut memory = Memory::with_profile(&folder.path().join("m"), &model, profile()).unwrap();
    add(&mut memory, &document("book", "Cordelia's ledger has the code c6de00b0-6668.\n"));
    let request = Request {
        max_tokens: Some(300),
        sampling: Sampling { temperature: 2.0, seed: 3, ..Sampling::default() },
        ..Request::default()
    };
    let mut invented = |wording: bool| {
        let asking = Asking { guess: true, wording, request: request.clone(), ..Asking::default() };
        let question = "Which code has Cordelia's ledger?";
        let reply = memory.ask(question, &asking, &mut |_| (), &mut |_| ControlFlow::Continue(())).unwrap();
        let text = reply.answer.expect("an answer").text;
        let words = text.split(|c: char| c.is_ascii() && !c.is_ascii_alphanumeric() && !"-_'".contains(c));
        let numbers = words.map(str::to_owned).filter(|word| word.contains(|c: char| c.is_ascii_digit()));
        numbers.filter(|word| word != "c6de00b0-6668").count()
    };
    assert_eq!(invented(true), 0);
    assert!(invented(false) > 0, "this model says anything");
}

#[test]
fn another_model_or_profile_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let model = model(1);
    let path = folder.path().join("m");
    add(&mut Memory::with_profile(&path, &model, profile()).unwrap(), &document("a", "Text.\n"));
    let other = Profile { heads: vec![Head { layer: 0, head: 0 }], ..profile() };
    let error = Memory::with_profile(&path, &model, other).unwrap_err().to_string();
    assert!(error.contains("made for another model"), "{error}");
    let error = Memory::open_or_create(&path, &model).unwrap_err().to_string();
    assert!(error.contains("not known which"), "{error}");
    let nothing = folder.path().join("nothing");
    assert!(Memory::with_profile(&nothing, &model, profile()).is_ok());
    let mut empty = Memory::with_profile(&nothing, &model, profile()).unwrap();
    let asking = asking(Stages { finder: true, lexical: true, meaning: true, rerank: true });
    let reply = empty.ask("Anything?", &asking, &mut |_| (), &mut |_| ControlFlow::Continue(())).unwrap();
    assert!(!reply.found && reply.citations.is_empty());
}

#[test]
fn what_is_read_from_disk_again_answers_as_what_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let model = model(2);
    let path = folder.path().join("m");
    let mut memory = Memory::with_profile(&path, &model, profile()).unwrap();
    add(&mut memory, &document("a", &text(1, 4000)));
    add(&mut memory, &document("b", &text(2, 3000)));
    let question = "Who saw the lantern after Cordelia?";
    let asking = asking(Stages { finder: true, lexical: true, meaning: true, rerank: true });
    let mut replies = Vec::new();
    // Nothing kept, some of the keys, all of them; twice each, since the first time fills what is kept.
    for ram in [0, 100_000, 300_000, usize::MAX] {
        memory.set_ram(ram);
        for _ in 0..2 {
            let hits = memory.search(question, &asking).unwrap();
            let reply =
                memory.ask(question, &asking, &mut |_| (), &mut |_| ControlFlow::Continue(())).unwrap();
            let coverage = (reply.coverage.blocks_read, reply.coverage.unread_mass.to_bits());
            replies.push((hits, reply.citations, reply.confidence.to_bits(), coverage));
        }
    }
    assert!(replies.windows(2).all(|pair| pair[0] == pair[1]), "{replies:?}");
    assert!(!replies[0].0.is_empty());

    // A byte of the keys that changes on disk is found when it is read, in whichever thread.
    let keys = std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path());
    let keys = keys.filter(|path| path.to_string_lossy().contains("finder.l1")).collect::<Vec<_>>();
    let mut bytes = std::fs::read(&keys[0]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    std::fs::write(&keys[0], bytes).unwrap();
    memory.set_ram(0);
    let error = memory.search(question, &asking).unwrap_err().to_string();
    assert!(error.contains("does not match its checksum"), "{error}");
}

/// A memory knows how deep it was read and goes on so; what is at full depth stays there.
#[test]
fn depths_do_not_mix() {
    let folder = tempfile::tempdir().unwrap();
    let model = model(1);
    let depths = [Depth::Words, Depth::Finder, Depth::Full];
    let pairs = depths.into_iter().flat_map(|depth| depths.map(|other| (depth, other)));
    for (depth, other) in pairs.filter(|(depth, other)| depth != other) {
        let path = folder.path().join(format!("{depth}-{other}"));
        let mut memory = Memory::with_profile(&path, &model, profile()).unwrap();
        memory.set_depth(other).unwrap();
        memory.set_depth(depth).unwrap();
        add(&mut memory, &document("a", &text(6, 900)));
        drop(memory);
        let mut memory = Memory::with_profile(&path, &model, profile()).unwrap();
        assert_eq!(memory.depth(), depth);
        if other < depth {
            let error = memory.set_depth(other).unwrap_err();
            assert!(error.to_string().contains(&format!("read at {depth} depth")), "{error}");
        }
        add(&mut memory, &document("b", &text(7, 300)));
        assert_eq!(Depth::of(memory.store()), depth);
        assert_eq!(full::is_in(memory.store()), depth == Depth::Full);
        assert_eq!(finder::is_in(memory.store()), depth != Depth::Words);
        // Finding works alike.
        let asking = asking(Stages { finder: true, lexical: true, meaning: false, rerank: true });
        assert!(!memory.search("Who saw Cordelia?", &asking).unwrap().is_empty());
    }
}

/// What was read at finder depth comes to full depth, however often that is broken off, with the same finder keys.
#[test]
fn a_memory_at_finder_depth_comes_to_full_depth() {
    let folder = tempfile::tempdir().unwrap();
    let model = model(1);
    let texts = [document("a", &text(6, 1800)), document("b", &text(7, 900)), document("c", &text(8, 200))];
    let mut full = Memory::with_profile(&folder.path().join("full"), &model, profile()).unwrap();
    full.set_depth(Depth::Full).unwrap();
    let total: usize = texts.iter().map(|text| add(&mut full, text)).sum();
    let path = folder.path().join("memory");
    let mut memory = Memory::with_profile(&path, &model, profile()).unwrap();
    add(&mut memory, &texts[0]);
    let before = kept(&memory, "a");
    assert_eq!((memory.shallow_tokens(), memory.plan_deepening().unwrap()), (0, None));
    // One that was broken off goes on at full depth, its section from the beginning.
    let mut runs = 0;
    let broken = memory.add(&texts[1], &mut |_| {
        runs += 1;
        if runs == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(broken.unwrap().interrupted);
    drop(memory);

    let (mut interruptions, mut tokens) = (0, 0);
    loop {
        let mut memory = Memory::with_profile(&path, &model, profile()).unwrap();
        memory.set_depth(Depth::Full).unwrap();
        if interruptions == 2 {
            // New documents are read so deep at once.
            let left = memory.shallow_tokens();
            tokens += add(&mut memory, &texts[1]) + add(&mut memory, &texts[2]);
            assert_eq!(memory.shallow_tokens(), left);
            assert_eq!(memory.plan_deepening().unwrap().map(|plan| plan.tokens), Some(left));
        }
        let mut strides = 0;
        let added = memory
            .deepen(&mut |_| {
                strides += 1;
                if strides == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })
            .unwrap();
        tokens += added.tokens;
        assert_eq!(memory.depth(), Depth::Full);
        if !added.interrupted {
            break;
        }
        interruptions += 1;
    }
    assert!(interruptions > 3, "{interruptions} interruptions");
    assert_eq!(tokens, total, "no stride was read twice");

    let mut memory = Memory::with_profile(&path, &model, profile()).unwrap();
    assert_eq!((memory.depth(), memory.shallow_tokens()), (Depth::Full, 0));
    assert!(memory.set_depth(Depth::Finder).is_err());
    for name in ["a", "b", "c"] {
        let (ours, fresh) = (kept(&memory, name), kept(&full, name));
        let is_finder = |stream: &str| stream.starts_with("finder.");
        for (row, bytes) in &ours {
            let expected = if name == "a" && is_finder(&row.1) { &before[row] } else { &fresh[row] };
            assert!(bytes == expected, "{name}, {row:?}");
        }
        assert_eq!(ours.len(), fresh.len());
    }
    memory.store().verify(&mut |_, _| ()).unwrap();
}

/// What was read for its words alone finds by them, and comes to any depth as if it had been read so deep.
#[test]
fn a_memory_of_words_finds_by_words_and_comes_to_any_depth() {
    let folder = tempfile::tempdir().unwrap();
    let model = model(2);
    let texts = [document("a", &text(6, 1800)), document("b", &text(7, 900))];
    let read = |depth: Depth, name: &str| {
        let mut memory = Memory::with_profile(&folder.path().join(name), &model, profile()).unwrap();
        memory.set_depth(depth).unwrap();
        let tokens = texts.iter().map(|text| add(&mut memory, text)).sum::<usize>();
        (memory, tokens)
    };
    let ((mut keyed, total), (full, _)) = (read(Depth::Finder, "finder"), read(Depth::Full, "full"));
    let (question, all) = ("Who saw the ünder ledger?", Stages { rerank: false, ..Asking::default().stages });
    let words = Stages { finder: false, ..all };
    let by_words = keyed.search(question, &asking(words)).unwrap();
    let by_all = keyed.search(question, &asking(all)).unwrap();
    assert_ne!(by_words, by_all);

    for depth in [Depth::Finder, Depth::Full] {
        let path = format!("words-{depth}");
        let (mut memory, tokens) = read(Depth::Words, &path);
        assert_eq!((tokens, memory.shallow_tokens()), (total, 0));
        assert_eq!(memory.search(question, &asking(all)).unwrap(), by_words);
        drop(memory);
        let (mut interruptions, mut tokens) = (0, 0);
        loop {
            let mut memory = Memory::with_profile(&folder.path().join(&path), &model, profile()).unwrap();
            memory.set_depth(depth).unwrap();
            if memory.shallow_tokens() == 0 {
                break;
            }
            let mut runs = 0;
            let added = memory.deepen(&mut |reading| {
                assert!(reading.bytes <= reading.of, "{reading:?}");
                runs += 1;
                if runs == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            tokens += added.unwrap().tokens;
            interruptions += 1;
            // Where keys are missing words find.
            assert!(!memory.search(question, &asking(all)).unwrap().is_empty());
        }
        assert!(interruptions > 3, "{interruptions} interruptions");
        assert_eq!(tokens, total, "nothing was read twice, and no token counts for two steps");
        let mut memory = Memory::with_profile(&folder.path().join(&path), &model, profile()).unwrap();
        assert_eq!(memory.depth(), depth);
        assert_eq!(memory.search(question, &asking(all)).unwrap(), by_all);
        for name in ["a", "b"] {
            let (ours, keys) = (kept(&memory, name), kept(&keyed, name));
            let others = if depth == Depth::Full { kept(&full, name) } else { BTreeMap::new() };
            assert_eq!(ours.len(), keys.len().max(others.len()));
            for (row, bytes) in &ours {
                assert!(Some(bytes) == keys.get(row).or_else(|| others.get(row)), "{name}, {row:?}");
            }
        }
        memory.store().verify(&mut |_, _| ()).unwrap();
    }
}

#[test]
fn a_memory_at_full_depth_is_attended_to_as_it_is() {
    let model = model(2);
    let folder = tempfile::tempdir().expect("a folder");
    let shallow_path = folder.path().join("shallow");
    let mut shallow = Memory::with_profile(&shallow_path, &model, profile()).expect("a memory");
    let (prompt, frame) = framed_prompt(&model, None, "What did Cordelia see?").expect("a template");
    let request = Request { prompt, max_tokens: Some(8), ignore_end: true, ..Request::default() };
    assert!(frame > 0 && frame < request.prompt.len(), "{frame} of {}", request.prompt.len());
    let budget = Budget::Blocks(6);
    let refused = shallow.attend(&request, frame, budget, &mut |_| ControlFlow::Continue(()));
    assert!(matches!(refused, Err(Error::Depth { asked: Depth::Full, .. })), "{refused:?}");
    add(&mut shallow, &document("a", &text(1, 10)));

    let mut memory = Memory::with_profile(&folder.path().join("full"), &model, profile()).expect("a memory");
    memory.set_depth(Depth::Full).expect("nothing was read");
    add(&mut memory, &document("a", &text(1, 120)));
    add(&mut memory, &document("b", &text(2, 120)));
    let mut attend = |ram: usize, budget: Budget| {
        memory.set_ram(ram);
        memory.attend(&request, frame, budget, &mut |_| ControlFlow::Continue(())).expect("an answer")
    };
    let (all, seen) = attend(1 << 30, budget);
    assert_eq!(all.tokens.len(), 8);
    assert!(seen.choices == model.config().layers && seen.read == 6 * seen.choices, "{seen:?}");
    assert!(seen.blocks > 6 * seen.choices && seen.bound_share() > 0.0, "{seen:?}");
    let (none, same) = attend(0, budget);
    assert_eq!((all.tokens, seen), (none.tokens, same), "whatever stays in RAM");
    let (_, less) = attend(0, Budget::Blocks(1));
    assert!(less.unread_share() > seen.unread_share(), "{less:?} {seen:?}");
}

#[test]
fn a_question_attends_to_what_is_kept_of_its_passages() {
    let model = model(2);
    let folder = tempfile::tempdir().unwrap();
    let stages = Stages { finder: true, lexical: true, meaning: false, rerank: false };
    let asking = Asking { attend: true, passages: Some(2), ..asking(stages) };
    let question = "Who saw the lantern after Cordelia?";
    let mut shallow = Memory::with_profile(&folder.path().join("shallow"), &model, profile()).unwrap();
    add(&mut shallow, &document("a", &text(1, 10)));
    let refused = shallow.ask(question, &asking, &mut |_| (), &mut |_| ControlFlow::Continue(()));
    assert!(matches!(refused, Err(Error::Depth { asked: Depth::Full, .. })), "{refused:?}");
    // On its way to full depth it has nothing yet to attend to of what it read before.
    shallow.set_depth(Depth::Full).unwrap();
    add(&mut shallow, &document("b", &text(2, 10)));
    let refused = shallow.ask(question, &asking, &mut |_| (), &mut |_| ControlFlow::Continue(()));
    assert!(matches!(refused, Err(Error::Depth { asked: Depth::Full, .. })), "{refused:?}");
    shallow.deepen(&mut |_| ControlFlow::Continue(())).unwrap();
    shallow.ask(question, &asking, &mut |_| (), &mut |_| ControlFlow::Continue(())).unwrap();

    let mut memory = Memory::with_profile(&folder.path().join("full"), &model, profile()).unwrap();
    memory.set_depth(Depth::Full).unwrap();
    let texts = [text(1, 300), text(2, 200)];
    add(&mut memory, &document("a", &texts[0]));
    add(&mut memory, &document("b", &texts[1]));
    let mut ask = |ram: usize, asking: &Asking| {
        memory.set_ram(ram);
        memory.ask(question, asking, &mut |_| (), &mut |_| ControlFlow::Continue(())).unwrap()
    };
    let (all, none) = (ask(1 << 30, &asking), ask(0, &asking));
    let tokens = |reply: &Reply| reply.answer.as_ref().unwrap().tokens.clone();
    assert_eq!((tokens(&all), &all.citations), (tokens(&none), &none.citations), "whatever stays in RAM");
    let seen = all.coverage;
    assert!(seen.blocks_read == 0 && (2..=6).contains(&seen.blocks_attended), "{seen:?}");
    assert!(seen.blocks_attended < seen.blocks_total && all.timings.attend_s > 0.0, "{seen:?}");
    for citation in &all.citations {
        let text = &texts[usize::from(citation.document == "b")];
        assert_eq!(text[citation.start as usize..citation.end as usize], citation.quote);
    }
    // Read again, the same passages are cited.
    let again = ask(0, &Asking { attend: false, ..asking.clone() });
    assert_eq!(again.ranked, all.ranked);
    assert!(again.coverage.blocks_read > 0 && again.coverage.blocks_attended == 0);
}
