//! All layers over a text.
use super::window::Window;
use super::{Layout, Stride};
use crate::finder::{self, Profile};
use crate::{Error, SectionId, Store, StreamId};
use longleaf_kernel::BLOCK_TOKENS;
use longleaf_model::{Decoder, PREFILL_TOKENS, Scratch};

/// Reads sections, stride by stride, for the keys and values of all layers, the summaries of blocks, and the finder
/// keys. These are of passes of their own, the same as at finder depth: keys that have seen more than a short run find
/// worse, a section is found alike whichever way it came, and layers that see short runs alone cost what follows them
/// more than that pass (`docs/experiments.md`).
#[derive(Debug)]
pub struct Reader<'m> {
    decoder: &'m Decoder,
    /// The same, as closely as what is kept in few bits needs it.
    reading: Decoder,
    layout: Layout,
    stride: Stride,
    finder: finder::Reader<'m>,
    window: Window,
    scratch: Scratch,
    hidden: Vec<f32>,
    /// Tokens of the section that are read.
    read: usize,
}

/// What of a section is needed to go on with it: some of its blocks, `[block][layer]`.
#[derive(Debug, Clone, Default)]
pub struct Kept {
    tokens: usize,
    first: Vec<u8>,
    before: Vec<u8>,
}

impl<'m> Reader<'m> {
    /// Reads with `decoder`: finder keys as `profile` asks for them, all else as `layout` and `stride` say.
    pub fn new(decoder: &'m Decoder, profile: &Profile, layout: Layout, stride: Stride) -> Self {
        let config = decoder.config();
        Self {
            decoder,
            reading: finder::reading(decoder),
            layout,
            stride,
            finder: finder::Reader::new(decoder, profile),
            window: Window::new(config, decoder.compute().clone(), layout, stride),
            scratch: Scratch::new(),
            hidden: Vec::new(),
            read: 0,
        }
    }

    /// The streams that [`Reader::read`] fills, with the bytes of a row of each: finder keys, blocks, summaries.
    pub fn streams(&self) -> Vec<(String, usize)> {
        let panel = Profile::panel_bytes(self.decoder.config());
        let finder = self.finder.streams().iter().map(|stream| (stream.name(), panel));
        finder.chain(self.layout.streams()).collect()
    }

    /// Tokens that are read together.
    pub fn stride(&self) -> usize {
        self.stride.tokens
    }

    /// Bytes kept of a token.
    pub fn token_bytes(&self) -> f64 {
        let panels = self.finder.streams().len() * Profile::panel_bytes(self.decoder.config());
        panels as f64 / Profile::PANEL as f64 + self.layout.token_bytes()
    }

    /// Whether the store has all blocks of a section's first `tokens`, and these are whole strides or all of it, so that
    /// it can be gone on with. (A reader with other strides may have begun it.)
    pub fn goes_on(&self, store: &Store, section: SectionId, tokens: usize) -> bool {
        let all = store.section(section).map_or(0, |section| section.bytes(StreamId::TOKENS) / 4);
        self.layout.tokens(store, section) == tokens.next_multiple_of(BLOCK_TOKENS)
            && (tokens.is_multiple_of(self.stride.tokens) || tokens as u64 == all)
    }

    /// What is needed to go on with a section whose first `tokens` are read and in `store`: whole strides, or all of
    /// it.
    ///
    /// # Errors
    /// Those of the store.
    ///
    /// # Panics
    /// If `store` has not so many of the section.
    pub fn kept(&self, store: &Store, section: SectionId, tokens: usize) -> Result<Kept, Error> {
        let mut kept = Kept { tokens, ..Kept::default() };
        if tokens == 0 || !tokens.is_multiple_of(self.stride.tokens) {
            return Ok(kept);
        }
        let [stream, _] = self.layout.find(store).expect("what is gone on with was begun with these streams");
        let one = self.layout.block_bytes();
        let blocks = self.window.needed(tokens);
        kept.first.resize(one, 0);
        store.read(section, stream, 0, &mut kept.first)?;
        kept.before.resize(blocks.len() * one, 0);
        store.read(section, stream, (blocks.start * one) as u64, &mut kept.before)?;
        Ok(kept)
    }

    /// Go to another section, or on with it. [`Kept::default`] is the beginning of any.
    pub fn begin(&mut self, kept: &Kept) {
        let decoder = self.decoder;
        self.read = kept.tokens;
        self.window.resume(kept.tokens, &kept.first, &kept.before, &|layer| decoder.key_bias(layer));
    }

    /// Read the section's next stride, or what is left of it, and append to `rows`, one buffer for each of
    /// [`Reader::streams`].
    ///
    /// # Panics
    /// If there are more tokens than a stride, or the stride before was cut short.
    pub fn read(&mut self, tokens: &[u32], rows: &mut [Vec<u8>]) {
        let (keys, kept) = rows.split_at_mut(self.finder.streams().len());
        self.finder.read(tokens, keys);
        self.deepen(tokens, kept);
    }

    /// The same without the finder keys: `rows` are those of blocks and of summaries.
    ///
    /// # Panics
    /// As [`Reader::read`].
    pub fn deepen(&mut self, tokens: &[u32], rows: &mut [Vec<u8>]) {
        assert!(tokens.len() <= self.stride.tokens, "{} tokens are more than a stride", tokens.len());
        assert!(self.read.is_multiple_of(self.stride.tokens), "a stride that is cut short is the last one");
        let Self { reading, window, scratch, hidden, .. } = self;
        let last = reading.config().layers - 1;
        window.begin(self.read, tokens.len());
        for piece in tokens.chunks(PIECE) {
            let positions = self.read..self.read + piece.len();
            reading.embed(piece, hidden);
            let Ok(()) = reading.run_layers(0..last, positions.clone(), hidden, window, scratch);
            // Nobody looks at what the last layer makes of its keys and values.
            let qkv = reading.project_qkv(last, hidden, scratch);
            window.keep(last, positions, qkv);
            self.read += piece.len();
        }
        let [blocks, summaries] = rows else { panic!("a buffer for every stream") };
        window.take(blocks, summaries);
    }
}

/// A forward pass takes in no more at once; whole blocks.
const PIECE: usize = PREFILL_TOKENS / BLOCK_TOKENS * BLOCK_TOKENS;
