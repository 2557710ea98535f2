//! Far text read before and a sequence's own past as one.
use super::{FarBlock, FarBlocks, RamBlocks};
use crate::Error;
use longleaf_kernel::BLOCK_TOKENS;
use std::ops::Range;

/// Far text read before, and then what has left the local window.
#[derive(Debug)]
pub(crate) struct Both<'a, F> {
    pub(crate) far: &'a mut F,
    pub(crate) own: &'a mut RamBlocks,
    /// Own blocks that count.
    pub(crate) len: usize,
}

impl<F: FarBlocks> FarBlocks for Both<'_, F> {
    fn len(&self) -> usize {
        self.far.len() + self.len
    }

    fn tokens(&self, block: usize) -> usize {
        if block < self.far.len() { self.far.tokens(block) } else { BLOCK_TOKENS }
    }

    fn summaries(&mut self, layer: usize, blocks: Range<usize>, out: &mut Vec<f32>) -> Result<(), Error> {
        let split = self.far.len();
        if blocks.start < split {
            self.far.summaries(layer, blocks.start..blocks.end.min(split), out)?;
        }
        if blocks.end > split {
            self.own.summaries(layer, blocks.start.max(split) - split..blocks.end - split, out)?;
        }
        Ok(())
    }

    fn fetch(&mut self, layer: usize, blocks: &[usize], out: &mut [FarBlock]) -> Result<(), Error> {
        let split = self.far.len();
        // Runs of one source, each asked for at once.
        let mut at = 0;
        for blocks in blocks.chunk_by(|a, b| (*a < split) == (*b < split)) {
            let out = &mut out[at..at + blocks.len()];
            at += blocks.len();
            if blocks[0] < split {
                self.far.fetch(layer, blocks, out)?;
            } else {
                let own: Vec<usize> = blocks.iter().map(|block| block - split).collect();
                self.own.fetch(layer, &own, out)?;
            }
        }
        Ok(())
    }
}
