//! Laws of full depth, on tiny models: whatever the way there, the same bytes; from disk as from RAM.
use longleaf_kernel::{BLOCK_TOKENS, Compute, KvBits};
use longleaf_memory::adaptive::{FarBlock, FarBlocks};
use longleaf_memory::finder::{Head, Profile};
use longleaf_memory::full::{Layout, Pages, Reader, Stride};
use longleaf_memory::{Begin, ContentHash, Fingerprint, Ram, Reading, SectionId, Store, StreamId};
use longleaf_model::{Attention, Decoder, Dense, Qkv, Scratch, Visible};
use std::convert::Infallible;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

const STRIDE: Stride = Stride { tokens: 256, window: 256, sinks: 64 };

fn decoder(model: &str, threads: usize) -> Decoder {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/models").join(model);
    Decoder::load(&path, &Arc::new(Compute::new(threads))).expect("a tiny model")
}

fn profile() -> Profile {
    Profile { heads: vec![Head { layer: 0, head: 1 }], run: 256, distance: 100, passages: 3 }
}

/// What all layers of a decoder are given in one pass.
fn seen(decoder: &Decoder, tokens: &[u32], visible: Visible) -> Seen {
    let (config, format) = (decoder.config(), longleaf_kernel::KvFormat::Bf16);
    let dense = Dense::new(config, decoder.compute().clone(), format, visible, tokens.len());
    let empty = vec![Vec::new(); config.layers];
    let mut seen = Seen { dense, keys: empty.clone(), values: empty };
    let Ok(()) = decoder.read(tokens, 0, &mut seen, &mut Scratch::new());
    seen
}

/// The length of a difference as a share of what it should be.
fn error(got: &[f32], want: &[f32]) -> f32 {
    let (mut off, mut all) = (0.0, 0.0);
    for (got, want) in got.iter().zip(want) {
        off += (got - want).powi(2);
        all += want.powi(2);
    }
    (off / all).sqrt()
}

fn layout(decoder: &Decoder) -> Layout {
    Layout::new(decoder.config(), KvBits::Eight, KvBits::Four)
}

fn text(len: usize) -> Vec<u32> {
    (0..len as u32).map(|i| (i * i / 3 + 7 * i) % 97).collect()
}

fn store() -> Store {
    Store::create_in(Arc::new(Ram::new()), Fingerprint([7; 32])).expect("a store")
}

/// Read `tokens` into a store as one section, breaking off after each of `stops` tokens, and go on with a new reader.
fn read(store: &mut Store, decoder: &Decoder, tokens: &[u32], stops: &[usize]) -> SectionId {
    let hash = ContentHash::of(&tokens.iter().flat_map(|token| token.to_le_bytes()).collect::<Vec<u8>>());
    let mut reader = Reader::new(decoder, &profile(), layout(decoder), STRIDE);
    let streams: Vec<StreamId> = reader
        .streams()
        .iter()
        .map(|(name, bytes)| store.stream(name, *bytes as u32).expect("RAM does not fail"))
        .collect();
    store.commit().expect("RAM does not fail");
    for stop in stops.iter().copied().chain([tokens.len()]) {
        let Begin::Read(mut appender) = store.begin("text", hash).expect("RAM does not fail") else {
            panic!("not read yet")
        };
        let Reading::Partial(section) = appender.section(hash).expect("RAM does not fail") else {
            panic!("not whole yet")
        };
        if appender.bytes(StreamId::TOKENS) == 0 {
            appender.tokens(tokens, &vec![0; tokens.len()]).expect("RAM does not fail");
        }
        let panel = reader.streams()[0].1;
        let done = appender.bytes(streams[0]) as usize / panel * Profile::PANEL;
        reader = Reader::new(decoder, &profile(), layout(decoder), STRIDE);
        let kept = reader.kept(appender.store(), section, done).expect("RAM does not fail");
        reader.begin(&kept);
        let mut rows = vec![Vec::new(); streams.len()];
        for run in tokens[done..stop].chunks(reader.stride()) {
            reader.read(run, &mut rows);
            for (stream, rows) in streams.iter().zip(&mut rows) {
                appender.rows(*stream, rows).expect("RAM does not fail");
                rows.clear();
            }
        }
        if stop < tokens.len() {
            appender.checkpoint().expect("RAM does not fail");
        } else {
            appender.end_section();
            appender.finish().expect("RAM does not fail");
        }
    }
    store.find("text").expect("it is finished").sections[0]
}

fn rows(store: &Store, decoder: &Decoder, section: SectionId) -> Vec<Vec<u8>> {
    let streams = Reader::new(decoder, &profile(), layout(decoder), STRIDE).streams();
    let stream = |name: &str| store.find_stream(name).expect("it was made");
    streams
        .iter()
        .map(|(name, _)| store.read_all(section, stream(name)).expect("RAM does not fail"))
        .collect()
}

#[test]
fn an_interrupted_reading_goes_on_to_the_same_bytes() {
    for model in ["smollm2", "qwen2", "mistral"] {
        let tokens = text(1500);
        let (mut whole, one) = (store(), decoder(model, 1));
        let section = read(&mut whole, &one, &tokens, &[]);
        let want = rows(&whole, &one, section);
        assert!(layout(&one).holds(&whole, section));
        for (threads, stops) in [(1, &[256, 1024][..]), (3, &[512]), (2, &[256, 512, 768, 1024, 1280])] {
            let (mut pieces, other) = (store(), decoder(model, threads));
            let section = read(&mut pieces, &other, &tokens, stops);
            assert!(rows(&pieces, &other, section) == want, "{model}, {threads} threads, stops {stops:?}");
        }
    }
}

/// What attention is given, layer by layer.
#[derive(Debug)]
struct Seen {
    dense: Dense,
    keys: Vec<Vec<f32>>,
    values: Vec<Vec<f32>>,
}

impl Attention for Seen {
    type Error = Infallible;

    fn attend(
        &mut self,
        layer: usize,
        at: Range<usize>,
        qkv: Qkv<'_>,
        out: &mut [f32],
    ) -> Result<(), Infallible> {
        self.keys[layer].extend_from_slice(qkv.keys);
        self.values[layer].extend_from_slice(qkv.values);
        self.dense.attend(layer, at, qkv, out)
    }
}

/// A text of one stride is read as plain attention reads it, and kept to within its few bits.
#[test]
fn a_stride_is_what_dense_attention_gives() {
    for model in ["smollm2", "qwen2"] {
        let decoder = decoder(model, 1);
        let config = decoder.config();
        let tokens = text(256);
        let mut store = store();
        let section = read(&mut store, &decoder, &tokens, &[]);
        let seen = seen(&decoder, &tokens, Visible::All);
        let mut pages =
            Pages::open(&store, &[section], layout(&decoder), decoder.compute(), 1 << 20).unwrap();
        assert_eq!(pages.len(), 2);
        let numbers = BLOCK_TOKENS * config.kv_size();
        for layer in 0..config.layers {
            let mut blocks = vec![FarBlock::default(); 2];
            pages.fetch(layer, &[0, 1], &mut blocks).unwrap();
            for (index, block) in blocks.iter().enumerate() {
                let range = index * numbers..(index + 1) * numbers;
                let keys = error(&block.keys, &seen.keys[layer][range.clone()]);
                let values = error(&block.values, &seen.values[layer][range]);
                assert!(keys < 0.01 && values < 0.1, "{model}, layer {layer}: {keys}, {values}");
            }
        }
    }
}

/// Many strides are read as by a window that moves with every token, to within the few bits of what has been read.
#[test]
fn a_window_moves_with_every_token() {
    for model in ["smollm2", "qwen2"] {
        let decoder = decoder(model, 2);
        let config = decoder.config();
        let layout = Layout::new(config, KvBits::Eight, KvBits::Eight);
        let stride = Stride { tokens: 512, window: 256, sinks: 0 };
        let tokens = text(1280);
        let mut reader = Reader::new(&decoder, &profile(), layout, stride);
        let mut rows = vec![Vec::new(); reader.streams().len()];
        for tokens in tokens.chunks(stride.tokens) {
            reader.read(tokens, &mut rows);
        }
        let window = seen(&decoder, &tokens, Visible::Local { sinks: 0, window: 256 });
        let other = seen(&decoder, &tokens, Visible::Local { sinks: 0, window: 250 });
        // The first stride sees everything, and so does what passes on through the layers for a window more.
        let first = 1024 / BLOCK_TOKENS;
        let numbers = BLOCK_TOKENS * config.kv_size();
        let (mut near, mut far) = (0.0_f32, 0.0_f32);
        for layer in 1..config.layers {
            for block in first..tokens.len() / BLOCK_TOKENS {
                let row = layout.form.bytes();
                let bytes = &rows[1][(block * config.layers + layer) * row..][..row];
                let mut got = FarBlock { keys: vec![0.0; numbers], values: vec![0.0; numbers] };
                layout.form.decode(bytes, &mut got.keys, &mut got.values);
                let range = block * numbers..(block + 1) * numbers;
                near = near.max(error(&got.keys, &window.keys[layer][range.clone()]));
                far = far.max(error(&other.keys[layer][range.clone()], &window.keys[layer][range]));
            }
        }
        assert!(near < 0.02 && near < far, "{model}: {near} from the same window, {far} between two");
    }
}

/// A section that a reader with other strides began is not gone on with, unless that reader finished it.
#[test]
fn strides_of_another_length_are_not_gone_on_with() {
    let decoder = decoder("smollm2", 1);
    let (mut store, tokens) = (store(), text(900));
    let section = read(&mut store, &decoder, &tokens, &[]);
    let goes_on = |stride, tokens| {
        let stride = Stride { tokens: stride, ..STRIDE };
        let layout = layout(&decoder);
        Reader::new(&decoder, &profile(), layout, stride).goes_on(&store, section, tokens)
    };
    assert!(goes_on(256, 900) && goes_on(512, 900), "it is whole");
    assert!(!goes_on(512, 800), "neither whole strides nor whole");
}

/// Evicted and read again is as never evicted, in any order and company.
#[test]
fn a_page_is_the_same_from_disk_and_from_ram() {
    let decoder = decoder("qwen2", 2);
    let (mut store, tokens) = (store(), text(1333));
    let section = read(&mut store, &decoder, &tokens, &[]);
    let layout = layout(&decoder);
    let open = |ram| Pages::open(&store, &[section], layout, decoder.compute(), ram).unwrap();
    let all_but = open(0).summary_bytes();
    let (mut all, mut few, mut none) = (open(1 << 30), open(all_but + 3 * layout.block_bytes()), open(0));
    assert_eq!(all.len(), 11);
    assert_eq!((all.tokens(0), all.tokens(10)), (128, 53));
    for round in 0..60_usize {
        let layer = round * 7 % layout.layers;
        let blocks: Vec<usize> = (0..=round % 4).map(|i| (round * 5 + i * 3) % 11).collect();
        let mut fetched = [&mut all, &mut few, &mut none].map(|pages| {
            let mut out = vec![FarBlock::default(); blocks.len()];
            pages.fetch(layer, &blocks, &mut out).unwrap();
            out
        });
        assert!(fetched[0] == fetched[1] && fetched[0] == fetched[2], "round {round}");
        // A buffer that held another block does not matter either.
        none.fetch(layer, &blocks, &mut fetched[1]).unwrap();
        assert!(fetched[0] == fetched[1], "round {round}");
    }
    assert!(few.pool().bytes() <= 3 * layout.block_bytes() && few.pool().misses() > all.pool().misses());
    let (mut first, mut second) = (Vec::new(), Vec::new());
    all.summaries(0, 2..5, &mut first).unwrap();
    none.summaries(0, 2..5, &mut second).unwrap();
    assert_eq!(first, second);
    assert_eq!(first.len(), 3 * layout.summary);

    // Of some blocks alone, each is as it was among all.
    let mut some = open(0);
    some.select(&mut |of, tokens| of == section && tokens.contains(&400) || tokens.end == 1333);
    assert_eq!((some.len(), some.tokens(0), some.tokens(1)), (2, 128, 53));
    assert_eq!((some.place(0).1, some.place(1).1), (384, 1280));
    let mut out = [vec![FarBlock::default(); 2], vec![FarBlock::default(); 2]];
    all.fetch(1, &[3, 10], &mut out[0]).unwrap();
    some.fetch(1, &[0, 1], &mut out[1]).unwrap();
    assert_eq!(out[0], out[1]);
    let (mut first, mut second) = (Vec::new(), Vec::new());
    all.summaries(1, 3..4, &mut first).unwrap();
    all.summaries(1, 10..11, &mut first).unwrap();
    some.summaries(1, 0..2, &mut second).unwrap();
    assert_eq!(first, second);
}
