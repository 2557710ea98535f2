//! What can go wrong, and whose turn it is then.
use crate::memory::Depth;
use crate::pull::Failure;
use std::io;
use std::path::PathBuf;

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No model of that name, file or folder.
    #[error(
        "{name}: no such file, and no model of that name; known are {known}; \
         org/repo[:file] takes any other from the hub"
    )]
    UnknownModel {
        /// What was asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// A model that no source gave.
    #[error("{name} could not be fetched{}; try again later, or pass the path of a file you have", attempts(.failures))]
    Unavailable {
        /// The model.
        name: String,
        /// Each source's reason, in the order they were tried.
        failures: Vec<Failure>,
    },
    /// The model's weights were refused.
    #[error(transparent)]
    Model(#[from] longleaf_model::Error),
    /// The model's tokenizer or chat template was refused.
    #[error("{}: {source}", path.display())]
    Text {
        /// The model's file.
        path: PathBuf,
        /// What is wrong with it.
        source: longleaf_text::Error,
    },
    /// The memory's files were refused.
    #[error(transparent)]
    Memory(#[from] longleaf_memory::Error),
    /// A model that nobody has taught us to find with.
    #[error(
        "{}: it is not known which of this model's attention heads find; `longleaf add` and `ask` find out",
        path.display()
    )]
    NoFinder {
        /// The model's file.
        path: PathBuf,
    },
    /// A memory whose tokens and words do not belong together.
    #[error(
        "{}: tokens for {blocks} blocks, words for {words}; read its documents again",
        path.display()
    )]
    Halves {
        /// The memory.
        path: PathBuf,
        /// Blocks of its tokens.
        blocks: usize,
        /// Blocks with words.
        words: usize,
    },
    /// A memory whose texts were read less or more deeply.
    #[error(
        "{}: its texts were read at {found} depth; {}",
        path.display(),
        if asked > found {
            format!("bring them to {asked} depth with `longleaf add MEMORY --depth {asked}`")
        } else {
            "leave --depth out to add to them, or read them into another memory".to_owned()
        }
    )]
    Depth {
        /// The memory.
        path: PathBuf,
        /// How deep its texts are read.
        found: Depth,
        /// How deep they should be.
        asked: Depth,
    },
    /// More tokens than the model has rows for.
    #[error("{}: the tokenizer has {tokens} tokens, the embedding only {rows} rows", path.display())]
    Vocabulary {
        /// The model's file.
        path: PathBuf,
        /// Tokens of the tokenizer.
        tokens: usize,
        /// Rows of the embedding.
        rows: usize,
    },
    /// A prompt that the model cannot hold.
    #[error("the prompt has {tokens} tokens, the model's window holds {window}; shorten it")]
    Window {
        /// Tokens of the prompt.
        tokens: usize,
        /// Positions the model was trained for.
        window: usize,
    },
    /// Nothing to begin with.
    #[error("the prompt is empty; the model needs a token to begin with")]
    EmptyPrompt,
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// The broad kind of an [`Error`]: what a caller can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request cannot be met as it was made.
    User,
    /// The model's files are missing, damaged or of an unknown kind.
    Model,
    /// Reading or writing failed.
    Storage,
    /// A fault of this program.
    Internal,
}

impl Error {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownModel { .. }
            | Self::NoFinder { .. }
            | Self::Depth { .. }
            | Self::Window { .. }
            | Self::EmptyPrompt => ErrorKind::User,
            Self::Unavailable { .. } | Self::Model(_) | Self::Text { .. } | Self::Vocabulary { .. } => {
                ErrorKind::Model
            }
            Self::Io { .. } | Self::Memory(_) | Self::Halves { .. } => ErrorKind::Storage,
        }
    }

    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}

fn attempts(failures: &[Failure]) -> String {
    failures.iter().fold(String::new(), |list, failure| list + "; " + &failure.to_string())
}
