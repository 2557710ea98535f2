/// What can be wrong with a vocabulary, a template or a document.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The vocabulary is of a kind that is not known here.
    #[error("tokenizer model \"{found}\" is not supported; supported: {known}")]
    UnknownModel {
        /// The name in the file.
        found: String,
        /// The names that would be accepted.
        known: String,
    },
    /// The vocabulary splits text by rules that are not known here.
    #[error("pre-tokenizer \"{found}\" is not supported; supported: {known}")]
    UnknownPreTokenizer {
        /// The name in the file.
        found: String,
        /// The names that would be accepted.
        known: String,
    },
    /// A vocabulary contradicts itself.
    #[error("corrupt vocabulary: {what} {index}")]
    Vocabulary {
        /// What is wrong; the number belongs to its last word.
        what: &'static str,
        /// Which token, merge or id.
        index: usize,
    },
    /// A tokenizer file is not the JSON it should be.
    #[error("{file} cannot be read: {source}; the file is damaged or of another kind")]
    Json {
        /// `tokenizer.json` or `tokenizer_config.json`.
        file: &'static str,
        /// Where and why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A chat template does not compile, or refused its messages.
    #[error("chat template, line {line}: {source}")]
    Template {
        /// Line in the template, from 1; 0 if unknown.
        line: usize,
        /// What the template engine says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A chat template was asked for by a name that is not known.
    #[error("chat template \"{found}\" is not known; known: {known}")]
    UnknownTemplate {
        /// The name asked for.
        found: String,
        /// The names that would be accepted.
        known: &'static str,
    },
    /// A document's bytes are not text.
    #[error("{name}: not a text file (zero byte at offset {offset})")]
    NotText {
        /// The document's name.
        name: String,
        /// Where the first sign of binary data stands.
        offset: usize,
    },
}
