//! Why a model cannot be loaded.
use std::path::PathBuf;

/// Why a file of weights was refused. After loading nothing here can happen any more.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The system could not read the file.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The bytes contradict the format or themselves.
    #[error("{path}: corrupt at byte {offset}: {what}", path = path.display())]
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// A JSON file that is none, or lacks its shape.
    #[error("{path}: {source}", path = path.display())]
    Json {
        /// Which file.
        path: PathBuf,
        /// Where and what, as the parser puts it.
        source: serde_json::Error,
    },
    /// Something well formed that this version does not know.
    #[error("{path}: {what} {found:?} is not supported, only: {known}", path = path.display())]
    Unsupported {
        /// Which file.
        path: PathBuf,
        /// The kind of thing: `architecture`, `quantisation`, `rope scaling`.
        what: &'static str,
        /// Its name in the file.
        found: String,
        /// What would be known, comma separated.
        known: String,
    },
    /// A tensor or a key that the family needs is not there.
    #[error("{path}: {name} is missing", path = path.display())]
    Missing {
        /// Which file.
        path: PathBuf,
        /// The name it should have.
        name: String,
    },
    /// A tensor of another shape than the configuration says.
    #[error("{path}: {name} is {found:?}, expected {expected:?}", path = path.display())]
    Shape {
        /// Which file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its shape in the file, rows first.
        found: Vec<usize>,
        /// The shape the configuration asks for, rows first.
        expected: Vec<usize>,
    },
    /// A number in the configuration that no model can have, or that contradicts another one.
    #[error("{path}: {what} is {found}, expected {expected}", path = path.display())]
    Config {
        /// Which file.
        path: PathBuf,
        /// Which number.
        what: &'static str,
        /// What the file says.
        found: String,
        /// What would be possible.
        expected: &'static str,
    },
}
