//! How deep text is read, and the readers behind one face.
use super::reading::CHECKPOINT;
use crate::Model;
use longleaf_kernel::KvBits;
use longleaf_memory::finder::{self, Profile};
use longleaf_memory::full::{self, Kept, Layout, Stride};
use longleaf_memory::{Error, SectionId, Store};
use std::fmt;

/// How deep a memory's texts are read, the shallowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Depth {
    /// Words alone, without the model: what a question finds has words in common with it, and is read again.
    Words,
    /// The lowest layers, for the keys that find; what was found is read again.
    #[default]
    Finder,
    /// All layers, whose keys and values are kept, to be attended to.
    Full,
}

impl Depth {
    /// How deep the texts of a memory are read.
    pub fn of(store: &Store) -> Self {
        if full::is_in(store) {
            Self::Full
        } else if finder::is_in(store) || store.is_empty() {
            Self::Finder
        } else {
            Self::Words
        }
    }
}

impl fmt::Display for Depth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Words => "words",
            Self::Finder => "finder",
            Self::Full => "full",
        })
    }
}

/// [`CHECKPOINT`] of words alone, of which as many are read in a twentieth of a second: syncing would take longer.
const WORDS_CHECKPOINT: usize = 16 * CHECKPOINT;

/// What is kept at full depth: the bits that cost a model least of what it knows (see `docs/experiments.md`).
pub(super) fn layout(model: &Model) -> Layout {
    Layout::new(model.config(), KvBits::Eight, KvBits::Four)
}

/// Reads sections at full depth.
pub(super) fn full_reader<'m>(model: &'m Model, profile: &Profile) -> full::Reader<'m> {
    full::Reader::new(model.decoder(), profile, layout(model), Stride::default())
}

/// Reads sections.
#[derive(Debug)]
pub(super) enum Reader<'m> {
    /// Keeps nothing but what is kept at any depth.
    Words,
    Finder {
        reader: Box<finder::Reader<'m>>,
        streams: Vec<(String, usize)>,
    },
    Full(Box<full::Reader<'m>>),
}

impl<'m> Reader<'m> {
    pub(super) fn new(model: &'m Model, profile: &Profile, depth: Depth) -> Self {
        let decoder = model.decoder();
        match depth {
            Depth::Words => Self::Words,
            Depth::Finder => Self::Finder {
                reader: Box::new(finder::Reader::new(decoder, profile)),
                streams: profile.stored(decoder.config()),
            },
            Depth::Full => Self::Full(Box::new(full_reader(model, profile))),
        }
    }

    /// The streams that [`Reader::read`] fills, with the bytes of a row of each. The first, if any, is one of finder keys.
    pub(super) fn streams(&self) -> Vec<(String, usize)> {
        match self {
            Self::Words => Vec::new(),
            Self::Finder { streams, .. } => streams.clone(),
            Self::Full(reader) => reader.streams(),
        }
    }

    /// Tokens that are read together.
    pub(super) fn run(&self) -> usize {
        match self {
            Self::Words => CHECKPOINT,
            Self::Finder { reader, .. } => reader.batch(),
            Self::Full(reader) => reader.stride(),
        }
    }

    /// After so many tokens, at most, what was read is safe from a kill.
    pub(super) fn checkpoint(&self) -> usize {
        match self {
            Self::Words => WORDS_CHECKPOINT,
            Self::Finder { .. } | Self::Full(_) => CHECKPOINT,
        }
    }

    /// Bytes kept of a token.
    pub(super) fn token_bytes(&self) -> f64 {
        let panel = |(_, bytes): (String, usize)| bytes as f64 / Profile::PANEL as f64;
        match self {
            Self::Words => 0.0,
            Self::Finder { .. } => self.streams().into_iter().map(panel).sum(),
            Self::Full(reader) => reader.token_bytes(),
        }
    }

    /// Whether all that is to be kept of a section's first `tokens` is there: what was begun at another depth lacks
    /// some of it.
    pub(super) fn goes_on(&self, store: &Store, section: SectionId, tokens: usize) -> bool {
        match self {
            Self::Words | Self::Finder { .. } => true,
            Self::Full(reader) => reader.goes_on(store, section, tokens),
        }
    }

    /// What a reader needs to go on with a section whose first `tokens` are read.
    pub(super) fn kept(&self, store: &Store, section: SectionId, tokens: usize) -> Result<Kept, Error> {
        match self {
            Self::Words | Self::Finder { .. } => Ok(Kept::default()),
            Self::Full(reader) => reader.kept(store, section, tokens),
        }
    }

    /// Go to another section, or on with it.
    pub(super) fn begin(&mut self, kept: &Kept) {
        match self {
            Self::Words | Self::Finder { .. } => (),
            Self::Full(reader) => reader.begin(kept),
        }
    }

    /// Read what comes next in the section, [`Reader::run`] tokens or the rest, and append to `rows`, one buffer for each of [`Reader::streams`].
    pub(super) fn read(&mut self, tokens: &[u32], rows: &mut [Vec<u8>]) {
        match self {
            Self::Words => (),
            Self::Finder { reader, .. } => reader.read(tokens, rows),
            Self::Full(reader) => reader.read(tokens, rows),
        }
    }
}
