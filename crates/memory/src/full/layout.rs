//! What of a token is kept, and where.
use crate::adaptive::Summarizer;
use crate::{SectionId, Store, StreamId};
use longleaf_kernel::{BLOCK_TOKENS, KvBits, KvQuantisation};
use longleaf_model::Config;

/// How a text is read at full depth. All three are counted in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stride {
    /// Tokens that are read together, a multiple of [`BLOCK_TOKENS`].
    pub tokens: usize,
    /// How many tokens each of them sees, itself included, a multiple of [`BLOCK_TOKENS`]; a section's first strides,
    /// whose window has not left the sinks, see all that is before them. 0 makes every stride a text of its own.
    pub window: usize,
    /// How many of the section's first they see once these have left the window, at most [`BLOCK_TOKENS`].
    pub sinks: usize,
}

impl Stride {
    /// Whether the window of a stride that begins at token `start` has left the section's beginning, so that it moves with
    /// every token; before that it would lose the sinks.
    pub(super) fn moved(self, start: usize) -> bool {
        self.window > 0 && start >= self.window + self.sinks
    }
}

impl Default for Stride {
    fn default() -> Self {
        Self { tokens: 1024, window: 512, sinks: 64 }
    }
}

/// The rows of one memory at full depth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// A block of one layer.
    pub form: KvQuantisation,
    /// Layers of the model.
    pub layers: usize,
    /// Numbers in the summary of a block of one layer.
    pub summary: usize,
}

impl Layout {
    /// For a model, with so many bits of its keys and its values.
    pub fn new(config: &Config, keys: KvBits, values: KvBits) -> Self {
        let form = KvQuantisation { keys, values, kv_heads: config.kv_heads, head_dim: config.head_dim };
        Self { form, layers: config.layers, summary: Summarizer::len(config) }
    }

    /// The streams, with the bytes of a row of each: a block of one layer in few bits, and its summary, in the order
    /// `[block][layer]` within a section.
    pub fn streams(&self) -> [(String, usize); 2] {
        let bits = format!("k{}v{}", self.form.keys.count(), self.form.values.count());
        [(format!("kv.{bits}"), self.form.bytes()), (format!("kv.{bits}.summary"), 4 * self.summary)]
    }

    /// The streams in a store; `None` if it has none of this layout.
    pub fn find(&self, store: &Store) -> Option<[StreamId; 2]> {
        let [blocks, summaries] = self.streams();
        let found = |(name, bytes): (String, usize)| {
            store.find_stream(&name).filter(|id| store.row_bytes(*id) as usize == bytes)
        };
        Some([found(blocks)?, found(summaries)?])
    }

    /// Bytes of one block in all layers.
    pub fn block_bytes(&self) -> usize {
        self.layers * self.form.bytes()
    }

    /// Bytes kept of a token, summaries included.
    pub fn token_bytes(&self) -> f64 {
        (self.block_bytes() + 4 * self.layers * self.summary) as f64 / BLOCK_TOKENS as f64
    }

    /// How many of a section's tokens are there at full depth, blocks that are cut short counted as whole; 0 if its
    /// blocks and summaries are out of step.
    pub fn tokens(&self, store: &Store, section: SectionId) -> usize {
        let (Some([blocks, summaries]), Some(section)) = (self.find(store), store.section(section)) else {
            return 0;
        };
        let count = section.bytes(blocks) / self.block_bytes() as u64;
        let summarised = section.bytes(summaries) / (4 * self.layers * self.summary) as u64;
        if count == summarised { count as usize * BLOCK_TOKENS } else { 0 }
    }

    /// Whether every token of a section is there at full depth.
    pub fn holds(&self, store: &Store, section: SectionId) -> bool {
        let (Some(_), Some(found)) = (self.find(store), store.section(section)) else {
            return false;
        };
        let tokens = (found.bytes(StreamId::TOKENS) / 4) as usize;
        self.tokens(store, section) == tokens.next_multiple_of(BLOCK_TOKENS)
    }
}

/// Whether a memory keeps keys and values, in however many bits.
pub fn is_in(store: &Store) -> bool {
    store.streams().any(|name| name.starts_with("kv."))
}
