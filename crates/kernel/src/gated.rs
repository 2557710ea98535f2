//! The first half of a gated feed-forward layer in one loop: two products, the gate, and fixed point again.
//!
//! ```text
//! for each run of columns of gate and up, for each run of tokens:        a task
//!     g, u = gate · x, up · x            in the core's second-level cache
//!     g    = silu(g) · u
//!     out  = g in fixed point            the spans of these columns
//! ```
//! What lies between the products is as wide as a layer gets: written out in f32 it would go through memory twice.
//! Every number is what the operations give one after another.
use crate::activations::{Activations, Intake, SPAN, TOKENS};
use crate::matmul::Matmul;
use crate::packed::PANEL;
use crate::pool::Pieces;
use crate::tile::Tile;
use crate::{Kernels, PackedMatrix, Pool, room};

/// Blocks of tokens in a task, at most: what lies between the products stays in the second-level cache.
const BLOCKS: usize = 32;
/// Tasks that a thread should find where there are few tokens.
const SHARE: usize = 8;

/// [`crate::Compute::gated`].
pub(crate) fn gated(
    kernels: &dyn Kernels,
    pool: &Pool,
    activations: &Activations,
    [gate, up]: [&PackedMatrix; 2],
    intake: Intake,
    out: &mut Activations,
) {
    assert_eq!((gate.rows(), gate.cols()), (up.rows(), up.cols()), "gate and up of one shape");
    assert_eq!(gate.cols(), activations.cols(), "the product's inner sizes");
    let (tokens, blocks, wide) = (activations.tokens(), activations.blocks(), gate.rows());
    out.reshape(intake, kernels.operand(intake.precision), tokens, wide);
    let writer = out.writer();
    // Many tokens: so few columns that their results stay near. Few: so many that weights are read in long runs.
    let most = if blocks > 1 { SPAN } else { wide.div_ceil(SHARE * pool.threads()).next_multiple_of(SPAN) };
    let columns = wide.div_ceil(most);
    pool.run(columns * blocks.div_ceil(BLOCKS), &|task| {
        let first = task % columns * most;
        let width = most.min(wide - first);
        let panels = first / PANEL..(first + width).div_ceil(PANEL);
        let blocks = task / columns * BLOCKS..blocks.min((task / columns + 1) * BLOCKS);
        let rows = tokens.min(blocks.end * TOKENS) - blocks.start * TOKENS;
        room::lend(2 * rows * width, |room| {
            let (gates, ups) = room.split_at_mut(rows * width);
            for (weights, out) in [(gate, &mut *gates), (up, &mut *ups)] {
                let out = Pieces::new(out);
                // SAFETY: the only tile of this room.
                let out = unsafe { Tile::new(&out, width, 0..rows, 0..width) };
                let (panels, blocks) = (panels.clone(), blocks.clone());
                kernels.matmul(Matmul { weights, panels, activations, blocks, out });
            }
            kernels.swiglu(gates, ups);
            for (block, gates) in blocks.clone().zip(gates.chunks(TOKENS * width)) {
                // SAFETY: every task has its own columns or its own blocks.
                unsafe { writer.columns(kernels, block, first..first + width, gates) };
            }
        });
    });
}
