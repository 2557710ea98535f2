//! All layers over a text.
use super::window::Window;
use super::{Layout, Stride};
use crate::finder::{Keys, Profile};
use crate::{Error, SectionId, Store};
use longleaf_kernel::BLOCK_TOKENS;
use longleaf_model::{Attention, Decoder, PREFILL_TOKENS, Qkv, Scratch};
use std::convert::Infallible;
use std::ops::Range;

/// Reads sections, stride by stride, for the keys and values of all layers; the finder keys and the summaries of
/// blocks come with them.
#[derive(Debug)]
pub struct Reader<'m> {
    decoder: &'m Decoder,
    layout: Layout,
    stride: Stride,
    attention: Watched,
    scratch: Scratch,
    hidden: Vec<f32>,
    /// Tokens of the section that are read.
    read: usize,
}

/// A window that keeps the finder keys that pass through it.
#[derive(Debug)]
struct Watched {
    window: Window,
    finder: Keys,
}

impl Attention for Watched {
    type Error = Infallible;

    fn attend(
        &mut self,
        layer: usize,
        positions: Range<usize>,
        qkv: Qkv<'_>,
        out: &mut [f32],
    ) -> Result<(), Infallible> {
        self.finder.take(layer, qkv.keys);
        self.window.attend(layer, positions, qkv, out)
    }
}

impl<'m> Reader<'m> {
    /// Reads with `decoder`: finder keys as `profile` asks for them, all else as `layout` and `stride` say.
    pub fn new(decoder: &'m Decoder, profile: &Profile, layout: Layout, stride: Stride) -> Self {
        let config = decoder.config();
        let window = Window::new(config, decoder.compute().clone(), layout, stride);
        let attention = Watched { window, finder: Keys::new(config, profile) };
        Self { decoder, layout, stride, attention, scratch: Scratch::new(), hidden: Vec::new(), read: 0 }
    }

    /// The streams that [`Reader::read`] fills, with the bytes of a row of each: finder keys, blocks, summaries.
    pub fn streams(&self) -> Vec<(String, usize)> {
        let panel = Profile::panel_bytes(self.decoder.config());
        let finder = self.attention.finder.streams().iter().map(|stream| (stream.name(), panel));
        finder.chain(self.layout.streams()).collect()
    }

    /// Tokens that are read together.
    pub fn stride(&self) -> usize {
        self.stride.tokens
    }

    /// Go to the beginning of another section.
    pub fn begin(&mut self) {
        self.attention.window.reset();
        self.read = 0;
    }

    /// Go on with a section whose first `tokens` are read and in `store`: whole strides, or all of it.
    ///
    /// # Errors
    /// Those of the store.
    ///
    /// # Panics
    /// If `store` has not so many of the section.
    pub fn resume(&mut self, store: &Store, section: SectionId, tokens: usize) -> Result<(), Error> {
        self.begin();
        self.read = tokens;
        if tokens == 0 || !tokens.is_multiple_of(self.stride.tokens) {
            return Ok(());
        }
        let [stream, _] = self.layout.find(store).expect("what is resumed was begun with these streams");
        let one = self.layout.block_bytes();
        let blocks = self.attention.window.needed(tokens);
        let mut first = vec![0; one];
        store.read(section, stream, 0, &mut first)?;
        let mut before = vec![0; blocks.len() * one];
        store.read(section, stream, (blocks.start * one) as u64, &mut before)?;
        let decoder = self.decoder;
        self.attention.window.resume(tokens, &first, &before, &|layer| decoder.key_bias(layer));
        Ok(())
    }

    /// Read the section's next stride, or what is left of it, and append to `rows`, one buffer for each of
    /// [`Reader::streams`].
    ///
    /// # Panics
    /// If there are more tokens than a stride, or the stride before was cut short.
    pub fn read(&mut self, tokens: &[u32], rows: &mut [Vec<u8>]) {
        assert!(tokens.len() <= self.stride.tokens, "{} tokens are more than a stride", tokens.len());
        assert!(self.read.is_multiple_of(self.stride.tokens), "a stride that is cut short is the last one");
        let Self { decoder, attention, scratch, hidden, .. } = self;
        let last = decoder.config().layers - 1;
        attention.window.begin(self.read);
        for piece in tokens.chunks(PIECE) {
            let positions = self.read..self.read + piece.len();
            decoder.embed(piece, hidden);
            let Ok(()) = decoder.run_layers(0..last, positions.clone(), hidden, attention, scratch);
            // Nobody looks at what the last layer makes of its keys and values.
            let qkv = decoder.project_qkv(last, hidden, scratch);
            attention.finder.take(last, qkv.keys);
            attention.window.keep(last, positions, qkv);
            self.read += piece.len();
        }
        let (finder, kept) = rows.split_at_mut(attention.finder.streams().len());
        attention.finder.encode(decoder.compute().pool(), finder);
        let [blocks, summaries] = kept else { panic!("a buffer for every stream") };
        attention.window.take(blocks, summaries);
    }
}

/// A forward pass takes in no more at once; whole blocks.
const PIECE: usize = PREFILL_TOKENS / BLOCK_TOKENS * BLOCK_TOKENS;
