//! Full depth: the keys and values of every layer for every token that was read, in few bits on disk.
//!
//! ```text
//! reading   tokens ─► stride by stride through all layers, each stride over sinks, a window and itself   Reader
//!                     ─► blocks of 128 tokens of one layer, in few bits ─► a stream of rows, [block][layer]
//! asking    a block of one layer ─► its page, from RAM or from disk ─► keys and values               Pages
//! ```
//! A stride of a text sees the tokens just before it as they are kept, in few bits, not as they were: what is read
//! then depends on the text and the form alone, and a reading that was interrupted goes on from the store to the same
//! bits. The first tokens of a section, which heads with nothing to say look at (Xiao et al., *Efficient Streaming
//! Language Models with Attention Sinks*, 2024), are moved along: they stand directly before the window, so that no
//! query ever sees a distance that the model does not know.
mod coder;
mod layout;
mod pages;
mod pool;
mod reader;
mod window;

pub use layout::{Layout, Stride, is_in};
pub use pages::Pages;
pub use pool::PagePool;
pub use reader::{Kept, Reader};
