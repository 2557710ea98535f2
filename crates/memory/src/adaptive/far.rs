//! Where far keys and values come from.
use crate::Error;
use longleaf_kernel::{BLOCK_TOKENS, KvFormat};
use std::fmt::Debug;
use std::ops::Range;

/// The keys and values of one block of one layer, decoded. A buffer to be reused.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FarBlock {
    /// `[tokens, kv_heads, head_dim]`, not rotated, and without the layer's key bias
    /// ([`longleaf_model::Qkv::key_bias`]).
    pub keys: Vec<f32>,
    /// `[tokens, kv_heads, head_dim]`.
    pub values: Vec<f32>,
}

/// Far text as attention sees it: blocks in the order of the text, the same ones in every layer.
///
/// What a block decodes to must not depend on where it was found (in RAM or on disk), on what else is fetched with
/// it, nor on how often: answers are then the same for every budget of memory. How much stays in RAM is the
/// implementation's affair.
pub trait FarBlocks: Debug {
    /// How many blocks there are.
    fn len(&self) -> usize;

    /// None?
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many tokens block `block` has: at least 1, at most [`BLOCK_TOKENS`]; fewer only where a text ends.
    fn tokens(&self, block: usize) -> usize;

    /// Append the summaries of `blocks` in `layer` to `out`, [`Summarizer::len`](super::Summarizer::len) numbers
    /// each, as the [`Summarizer`](super::Summarizer) gave them.
    ///
    /// # Errors
    /// What the disk says.
    fn summaries(&mut self, layer: usize, blocks: Range<usize>, out: &mut Vec<f32>) -> Result<(), Error>;

    /// Decode `blocks` of `layer`, in whatever order they are named, into `out`, one for each. All are asked for at
    /// once so that the disk can be asked for several at once.
    ///
    /// # Errors
    /// What the disk says; `out` is then unfinished.
    fn fetch(&mut self, layer: usize, blocks: &[usize], out: &mut [FarBlock]) -> Result<(), Error>;
}

impl<F: FarBlocks + ?Sized> FarBlocks for Box<F> {
    fn len(&self) -> usize {
        (**self).len()
    }

    fn tokens(&self, block: usize) -> usize {
        (**self).tokens(block)
    }

    fn summaries(&mut self, layer: usize, blocks: Range<usize>, out: &mut Vec<f32>) -> Result<(), Error> {
        (**self).summaries(layer, blocks, out)
    }

    fn fetch(&mut self, layer: usize, blocks: &[usize], out: &mut [FarBlock]) -> Result<(), Error> {
        (**self).fetch(layer, blocks, out)
    }
}

/// Blocks in RAM: the far text of a sequence that is being read, and the oracle for those on disk.
#[derive(Debug)]
pub struct RamBlocks {
    format: KvFormat,
    /// Numbers in the keys of a token.
    row: usize,
    layers: Box<[Layer]>,
}

#[derive(Debug, Default)]
struct Layer {
    /// Keys, then values, of every block.
    blocks: Vec<Numbers>,
    summaries: Vec<f32>,
}

#[derive(Debug)]
enum Numbers {
    F32(Box<[f32]>),
    Bf16(Box<[u16]>),
}

impl RamBlocks {
    /// None yet, of a model with `layers` layers whose keys have `row` numbers a token
    /// ([`longleaf_model::Config::kv_size`]).
    pub fn new(format: KvFormat, layers: usize, row: usize) -> Self {
        assert!(row > 0, "keys of no numbers");
        Self { format, row, layers: (0..layers).map(|_| Layer::default()).collect() }
    }

    /// Take in the next block of one layer: keys and values as in [`FarBlock`], and its summary.
    pub fn push(&mut self, layer: usize, keys: &[f32], values: &[f32], summary: &[f32]) {
        assert_eq!(keys.len(), values.len(), "as many keys as values");
        let tokens = keys.len() / self.row;
        assert!(
            keys.len() == tokens * self.row && (1..=BLOCK_TOKENS).contains(&tokens),
            "{} numbers are no block of rows of {}",
            keys.len(),
            self.row
        );
        let numbers = keys.iter().chain(values);
        let block = match self.format {
            KvFormat::F32 => Numbers::F32(numbers.copied().collect()),
            // A block is rounded further where it is laid out.
            KvFormat::Bf16 | KvFormat::Int8 => {
                Numbers::Bf16(numbers.map(|number| to_bf16(*number)).collect())
            }
        };
        self.layers[layer].blocks.push(block);
        self.layers[layer].summaries.extend_from_slice(summary);
    }

    /// How many blocks one layer has; [`FarBlocks::len`] is the first layer's number, which is ahead of the others
    /// only within a forward pass.
    pub fn len_in(&self, layer: usize) -> usize {
        self.layers[layer].blocks.len()
    }

    /// Forget everything.
    pub fn clear(&mut self) {
        for layer in &mut self.layers {
            layer.blocks.clear();
            layer.summaries.clear();
        }
    }

    /// Size in memory.
    pub fn bytes(&self) -> usize {
        let layer = |layer: &Layer| {
            layer.blocks.iter().map(Numbers::bytes).sum::<usize>() + 4 * layer.summaries.len()
        };
        self.layers.iter().map(layer).sum()
    }
}

impl FarBlocks for RamBlocks {
    fn len(&self) -> usize {
        self.layers.first().map_or(0, |layer| layer.blocks.len())
    }

    fn tokens(&self, block: usize) -> usize {
        self.layers[0].blocks[block].len() / (2 * self.row)
    }

    fn summaries(&mut self, layer: usize, blocks: Range<usize>, out: &mut Vec<f32>) -> Result<(), Error> {
        let layer = &self.layers[layer];
        let one = layer.summaries.len() / layer.blocks.len().max(1);
        out.extend_from_slice(&layer.summaries[blocks.start * one..blocks.end * one]);
        Ok(())
    }

    fn fetch(&mut self, layer: usize, blocks: &[usize], out: &mut [FarBlock]) -> Result<(), Error> {
        assert_eq!(blocks.len(), out.len(), "a buffer for every block");
        for (block, out) in blocks.iter().zip(out) {
            let numbers = &self.layers[layer].blocks[*block];
            numbers.decode(0..numbers.len() / 2, &mut out.keys);
            numbers.decode(numbers.len() / 2..numbers.len(), &mut out.values);
        }
        Ok(())
    }
}

impl Numbers {
    fn len(&self) -> usize {
        match self {
            Self::F32(numbers) => numbers.len(),
            Self::Bf16(numbers) => numbers.len(),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::F32(numbers) => 4 * numbers.len(),
            Self::Bf16(numbers) => 2 * numbers.len(),
        }
    }

    fn decode(&self, range: Range<usize>, out: &mut Vec<f32>) {
        out.clear();
        match self {
            Self::F32(numbers) => out.extend_from_slice(&numbers[range]),
            Self::Bf16(numbers) => {
                out.extend(numbers[range].iter().map(|bits| f32::from_bits(u32::from(*bits) << 16)));
            }
        }
    }
}

/// The nearest bf16 of a finite number, ties to even.
fn to_bf16(number: f32) -> u16 {
    let bits = number.to_bits();
    (bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_come_back_in_any_order() {
        for format in [KvFormat::F32, KvFormat::Bf16] {
            let mut far = RamBlocks::new(format, 2, 3);
            for block in 0..4 {
                for layer in 0..2 {
                    // Small whole numbers are bf16 numbers.
                    let start = (100 * layer + 10 * block) as f32;
                    let keys: Vec<f32> = (0..6).map(|i| start + i as f32).collect();
                    far.push(layer, &keys, &[start; 6], &[start, 0.5]);
                }
            }
            assert_eq!((far.len(), far.tokens(3)), (4, 2), "two rows of three numbers");
            let mut out = vec![FarBlock::default(); 2];
            far.fetch(1, &[3, 0], &mut out).expect("RAM does not fail");
            assert_eq!(out[0].keys, [130.0, 131.0, 132.0, 133.0, 134.0, 135.0]);
            assert_eq!(out[1].values, [100.0; 6]);
            let mut summaries = Vec::new();
            far.summaries(1, 2..4, &mut summaries).expect("RAM does not fail");
            assert_eq!(summaries, [120.0, 0.5, 130.0, 0.5]);
        }
    }

    #[test]
    fn bf16_is_the_nearest() {
        for (number, expected) in
            [(1.0, 0x3f80), (-2.0, 0xc000), (1.003_906_3, 0x3f80), (1.011_718_8, 0x3f82), (0.0, 0)]
        {
            assert_eq!(to_bf16(number), expected, "{number}");
        }
    }
}
