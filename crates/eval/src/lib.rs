//! How good answers are, by public task families, and how that changes with the length of what was read.
//!
//! * [`Suite`]: a family of tasks; opened on a folder of data it gives [`Item`]s, the same ones for the same seed.
//! * [`Item`]: a question about a context; [`Scorer`]: what an answer to it is worth, as the family published it.
//! * [`Method`]: what of the context the model reads: all of it, its end, what a memory or BM25 finds.
//! * [`lm`] and [`search`]: suites without a context: short tasks by likelihood and by answers, and ranked documents.
//! * [`positions`]: how probable a model finds a text, by position.
//! * [`run`]: rows, one for each item and method, resumable; [`cells`], [`table`] and [`curves`]: what they come to.
//!
//! A method sees the context, the prompt and how the question is put in plain words ([`Pose`]). It never sees what is
//! expected, and all items of a task are put in the same way.
#![forbid(unsafe_code)]
mod babilong;
mod cells;
mod error;
mod haystack;
mod interval;
mod item;
mod lm;
mod method;
mod plot;
mod position;
mod random;
mod records;
mod ruler;
mod run;
mod score;
pub mod search;
mod suite;
mod words;
mod xquad;

pub use cells::{Cell, cells, table, tokens};
pub use error::Error;
pub use interval::wilson;
pub use item::{Frame, Item, Pose};
pub use lm::{TASKS as LM_TASKS, lm};
pub use method::{Answering, Method, Taken};
pub use plot::curves;
pub use position::positions;
pub use run::{Plan, Row, RowCoverage, RowTimings, run};
pub use score::{Scorer, normalise};
pub use suite::{Event, Source, Suite};

#[cfg(test)]
mod tests;
