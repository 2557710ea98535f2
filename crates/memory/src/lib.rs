//! What was read, kept: a store on disk that survives a kill at any instant, and the indexes that find in it.
//!
//! * [`Store`]: one folder is one memory. Documents are lists of sections, known by their content; a section has
//!   rows in any number of streams (text, tokens, finder keys, pages of keys and values). See `docs/FORMAT.md`.
//! * [`Appender`]: reads a document, with checkpoints.
//! * [`finder`]: the keys of a few attention heads over everything that was read, searched exactly.
//! * [`adaptive`]: attention to far keys and values, as much of them as matters.
//! * [`full`]: the keys and values of all layers, in few bits.
//! * [`lexical`]: BM25 over the same blocks, its parts kept in the store.
//! * [`meaning`]: vectors of windows of text, scanned exactly.
//! * [`Storage`]: where the files lie; [`Directory`], and [`Ram`] for tests and faults.
//!
//! ```
//! use longleaf_memory::{Begin, ContentHash, Fingerprint, Reading, Store, StreamId};
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("letters");
//! let mut store = Store::create(&path, Fingerprint::of(&[("weights", b"..."), ("tokenizer", b"...")]))?;
//! let keys = store.stream("finder", 64)?;
//! let text = b"Call me Ishmael.";
//! if let Begin::Read(mut reading) = store.begin("moby.txt", ContentHash::of(text))? {
//!     if let Reading::Partial(_) = reading.section(ContentHash::of(text))? {
//!         reading.text(text)?;
//!         reading.tokens(&[7, 8, 9], &[4, 7, 16])?;
//!         reading.rows(keys, &[0; 3 * 64])?;
//!         reading.end_section();
//!     }
//!     reading.finish()?;
//! }
//! let document = store.find("moby.txt").expect("it was just finished");
//! assert_eq!(store.read_all(document.sections[0], StreamId::TEXT)?, text);
//! store.verify(&mut |_done, _total| ())?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A byte that MANIFEST covers is never written again, every page is checked when it is read, and nothing is mapped:
//! the memory used is the memory asked for.
#![forbid(unsafe_code)]
pub mod adaptive;
mod catalogue;
mod codec;
mod error;
pub mod finder;
pub mod full;
#[doc(hidden)]
pub mod fuzzing;
mod identity;
pub mod lexical;
mod manifest;
pub mod meaning;
mod segment;
pub mod storage;
mod store;

pub use catalogue::{Document, DocumentId, Extent, Section, SectionId};
pub use error::Error;
pub use identity::{ContentHash, Fingerprint};
pub use segment::{CURRENT, OLDEST, PAGE};
pub use storage::{Directory, Ram, Storage};
pub use store::{Appender, Begin, Reading, Store, StreamId, Usage};
