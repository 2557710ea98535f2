//! Which heads find, model by model.
use crate::{SectionId, Store, StreamId};
use longleaf_kernel::{DType, PackedMatrix};
use longleaf_model::Config;

/// One query head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Head {
    /// Its layer, counted from 0.
    pub layer: usize,
    /// Its number among the query heads.
    pub head: usize,
}

/// The keys that finder heads look at: one KV head, which several of them may share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyStream {
    /// Its layer, counted from 0.
    pub layer: usize,
    /// Its number among the KV heads.
    pub kv_head: usize,
}

impl KeyStream {
    /// The name of its stream in a store.
    pub fn name(self) -> String {
        format!("finder.l{}.k{}", self.layer, self.kv_head)
    }
}

/// How a model finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// The heads, ascending.
    pub heads: Vec<Head>,
    /// Tokens that are read together; a multiple of the block.
    pub run: usize,
    /// How far away, in tokens, a question is made to believe that every key is.
    pub distance: usize,
    /// How many passages the model bears at once without mixing them up.
    pub passages: usize,
}

/// A model, known by its shape.
struct Known {
    family: &'static str,
    layers: usize,
    hidden_size: usize,
    /// Layer and head of each finder.
    heads: &'static [(usize, usize)],
    /// [`Profile::distance`].
    distance: usize,
}

/// What was found by measurement (see `docs/experiments.md`).
const KNOWN: [Known; 2] = [
    // SmolLM2-135M, from six layers of 30: 0.84 of the questions of SQuAD among the first 32 of 1,600 blocks.
    Known { family: "llama", layers: 30, hidden_size: 576, heads: &[(5, 6)], distance: 32 },
    // Qwen2.5-Coder-1.5B, from six layers of 28: 0.95 of them.
    Known { family: "qwen2", layers: 28, hidden_size: 1536, heads: &[(5, 10)], distance: 32 },
];

impl Profile {
    /// The profile of a model whose finder heads are known, `None` for any other.
    pub fn known(config: &Config) -> Option<Self> {
        let shape = (config.family, config.layers, config.hidden_size);
        let known = KNOWN.iter().find(|known| (known.family, known.layers, known.hidden_size) == shape)?;
        let heads = known.heads.iter().map(|&(layer, head)| Head { layer, head }).collect();
        Some(Self { heads, run: Self::RUN, distance: known.distance, passages: Self::PASSAGES })
    }

    /// How many of the lowest layers a question must pass through, the last one's attention aside.
    pub fn layers(&self) -> usize {
        self.heads.iter().map(|head| head.layer + 1).max().unwrap_or(0)
    }

    /// The KV head that `head` looks at.
    pub fn keys_of(head: Head, config: &Config) -> KeyStream {
        KeyStream { layer: head.layer, kv_head: head.head / (config.heads / config.kv_heads) }
    }

    /// The streams of keys to be kept, ascending.
    pub fn streams(&self, config: &Config) -> Vec<KeyStream> {
        let mut streams: Vec<_> = self.heads.iter().map(|head| Self::keys_of(*head, config)).collect();
        streams.sort_unstable();
        streams.dedup();
        streams
    }

    /// Numbers in a stored key: a head's, filled up with zeros to whole blocks of `Q8_0`.
    pub fn width(config: &Config) -> usize {
        config.head_dim.next_multiple_of(DType::Q8_0.block_len())
    }

    /// Bytes of one row of a key stream: [`Self::PANEL`] tokens as `Q8_0` panels.
    pub fn panel_bytes(config: &Config) -> usize {
        let panel = PackedMatrix::zeroed(DType::Q8_0, Self::PANEL, Self::width(config));
        panel.expect("whole blocks").bytes()
    }

    /// The streams as a store has them: the name of each, and the bytes of a row.
    pub fn stored(&self, config: &Config) -> Vec<(String, usize)> {
        let bytes = Self::panel_bytes(config);
        self.streams(config).into_iter().map(|stream| (stream.name(), bytes)).collect()
    }

    /// How many of a section's tokens have their keys in all streams, panels that are cut short counted as whole; 0 if the
    /// streams are out of step.
    pub fn tokens(&self, store: &Store, section: SectionId, config: &Config) -> usize {
        let Some(section) = store.section(section) else { return 0 };
        let bytes = |stream: KeyStream| Some(section.bytes(store.find_stream(&stream.name())?));
        let streams: Vec<Option<u64>> = self.streams(config).into_iter().map(bytes).collect();
        match streams[..] {
            [Some(first), ..] if streams.iter().all(|bytes| *bytes == Some(first)) => {
                first as usize / Self::panel_bytes(config) * Self::PANEL
            }
            _ => 0,
        }
    }

    /// Whether every token of a section has its keys.
    pub fn holds(&self, store: &Store, section: SectionId, config: &Config) -> bool {
        let tokens = store.section(section).map_or(0, |found| found.bytes(StreamId::TOKENS) / 4) as usize;
        self.tokens(store, section, config) == tokens.next_multiple_of(Self::PANEL)
    }

    /// What keys depend on: those of another layout cannot be searched with this profile.
    pub fn layout(&self) -> String {
        let Self { heads, run, distance, passages: _ } = self;
        format!("Profile {{ heads: {heads:?}, run: {run}, distance: {distance} }} Q8_0 panels, sections 1")
    }

    /// [`Profile::run`] of every model so far: short runs cost less attention, and finders see better in them.
    pub const RUN: usize = 256;

    /// [`Profile::passages`] of a model of which nothing else is known.
    pub const PASSAGES: usize = 3;

    /// Tokens in one row of a key stream.
    pub const PANEL: usize = 16;
}

/// Whether a memory keeps finder keys, whichever heads'.
pub fn is_in(store: &Store) -> bool {
    store.streams().any(|name| name.starts_with("finder."))
}
