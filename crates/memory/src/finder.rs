//! Finding by attention: a few heads in the lower part of a model look straight at the place that a question asks
//! for, however much text lies around it.
//!
//! ```text
//! reading   tokens ─► the lowest layers, run by run ─► keys of the finder heads, 8 bits a number ─► a stream each
//! asking    question ─► the same layers ─► queries, rotated to one fixed distance
//!           every block of every document:  mass = ln Σ over its tokens e^(q·k / √d)      exactly, none is skipped
//!           score(block) = mean over heads, of the sum over the question's tokens, of max(0, mass − 64th best mass)
//! ```
//! So each token speaks only for the few blocks that stand out for it, by as much as they do: a token to which all
//! blocks look alike says nothing, and several tokens that mean the same block add up. (The largest share of a single
//! token, which was used first, finds much less: `docs/experiments.md`.)
//!
//! Only the layers up to the last finder head are run, and of that one only the projection of its keys: reading so
//! deep costs a fifth to a third of a forward pass. Keys are stored unrotated, so that a block scores alike wherever it
//! stands; text is read in independent *runs* that start at position 0, so that what a run's keys are depends on
//! its own text alone, and a changed document shares all its other runs with what it was.
mod keys;
mod profile;
mod reader;
mod scan;

pub use profile::{Head, KeyStream, Profile, is_in};
pub(crate) use reader::reading;
pub use reader::{Queries, Reader};
pub use scan::{Block, Finder};
