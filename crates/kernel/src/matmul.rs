//! Products: what is split over threads, and what one task is.
use crate::activations::{Activations, TOKENS};
use crate::packed::PANEL;
use crate::pool::Pieces;
use crate::tile::Tile;
use crate::{Kernels, PackedMatrix, Pool, Product, room};
use std::ops::Range;

/// Products computed in one parallel loop; more are computed in several.
const TOGETHER: usize = 8;

/// One task: some panels of one matrix times some tokens.
#[derive(Debug)]
pub struct Matmul<'a> {
    pub(crate) weights: &'a PackedMatrix,
    pub(crate) panels: Range<usize>,
    pub(crate) activations: &'a Activations,
    /// Whole blocks of activations, see [`TOKENS`].
    pub(crate) blocks: Range<usize>,
    /// `[tokens, rows]` of these blocks and these panels.
    pub(crate) out: Tile<'a>,
}

impl Matmul<'_> {
    /// The rows of panel `panel`, counted from the first of the task.
    #[inline]
    pub(crate) fn columns(&self, panel: usize) -> Range<usize> {
        let first = (panel - self.panels.start) * PANEL;
        first..first + PANEL.min(self.weights.rows() - panel * PANEL)
    }

    /// Plain f32: the meaning of every product.
    pub(crate) fn scalar(mut self) {
        let (cols, first) = (self.weights.cols(), self.panels.start * PANEL);
        let mut row = vec![0.0; cols];
        let tokens = self.blocks.start * TOKENS..self.activations.tokens().min(self.blocks.end * TOKENS);
        for r in first..self.weights.rows().min(self.panels.end * PANEL) {
            self.weights.decode_row(r, &mut row);
            for t in tokens.clone() {
                let x = &self.activations.values()[t * cols..(t + 1) * cols];
                self.out.row(t - tokens.start)[r - first] = row.iter().zip(x).map(|(w, x)| w * x).sum();
            }
        }
    }
}

/// How one product is cut: outputs by panels, tokens by blocks, never a sum.
struct Plan {
    panels: usize,
    blocks: usize,
    panel_tasks: usize,
    block_tasks: usize,
}

impl Plan {
    fn new(weights: &PackedMatrix, blocks: usize, threads: usize) -> Self {
        /// Packed weights that stay in the second-level cache beside the activations they meet.
        const CACHED: usize = 512 << 10;
        /// Tasks a thread should find, so that none waits long for the last.
        const SHARE: usize = 8;
        let (panels, wanted) = (weights.panels(), SHARE * threads);
        let cached = (CACHED / weights.panel_bytes().max(1)).clamp(1, 8);
        let per_task = if blocks > 1 { cached } else { panels.div_ceil(wanted).max(1) };
        let panel_tasks = panels.div_ceil(per_task);
        let block_tasks = if panel_tasks == 0 { 0 } else { wanted.div_ceil(panel_tasks).clamp(1, blocks) };
        // Tokens in few large pieces: a piece reads all of its panels.
        let per_piece = blocks.div_ceil(block_tasks.max(1)).max(blocks.min(4));
        Self {
            panels: per_task,
            blocks: per_piece,
            panel_tasks,
            block_tasks: blocks.div_ceil(per_piece.max(1)),
        }
    }

    fn tasks(&self) -> usize {
        self.panel_tasks * self.block_tasks
    }
}

/// Several products of the same activations in one parallel loop.
pub(crate) fn matmul(
    kernels: &dyn Kernels,
    pool: &Pool,
    activations: &Activations,
    products: &mut [Product<'_>],
) {
    for products in products.chunks_mut(TOGETHER) {
        each_task(pool, activations, products, &|task| kernels.matmul(task));
    }
}

/// `out += weights · activations`.
pub(crate) fn matmul_add(
    kernels: &dyn Kernels,
    pool: &Pool,
    activations: &Activations,
    weights: &PackedMatrix,
    out: &mut [f32],
) {
    each_task(pool, activations, &mut [Product { weights, out }], &|task| {
        let Matmul { weights, panels, activations, blocks, mut out } = task;
        let (rows, width) = (out.rows(), out.columns());
        room::lend(rows * width, |room| {
            let whole = Pieces::new(&mut *room);
            // SAFETY: the only tile of this room.
            let sums = unsafe { Tile::new(&whole, width, 0..rows, 0..width) };
            kernels.matmul(Matmul { weights, panels, activations, blocks, out: sums });
            for (row, sums) in room.chunks_exact(width).enumerate() {
                kernels.add(out.row(row), sums);
            }
        });
    });
}

/// Cut at most [`TOGETHER`] products into tasks and call `work` for each.
fn each_task(
    pool: &Pool,
    activations: &Activations,
    products: &mut [Product<'_>],
    work: &(dyn Fn(Matmul<'_>) + Sync),
) {
    let (tokens, blocks) = (activations.tokens(), activations.blocks());
    let mut cuts = [const { None }; TOGETHER];
    let mut tasks = 0;
    for (cut, product) in cuts.iter_mut().zip(products) {
        let weights = product.weights;
        assert_eq!(weights.cols(), activations.cols(), "the product's inner sizes");
        assert_eq!(product.out.len(), tokens * weights.rows(), "the product's output");
        if product.out.is_empty() {
            continue;
        }
        let plan = Plan::new(weights, blocks, pool.threads());
        let first = tasks;
        tasks += plan.tasks();
        *cut = Some((first..tasks, plan, weights, Pieces::new(&mut *product.out)));
    }
    pool.run(tasks, &|task| {
        let cut = cuts.iter().flatten().find(|cut| cut.0.contains(&task));
        let (range, plan, weights, out) = cut.expect("every task belongs to a product");
        let task = task - range.start;
        // Neighbouring tasks share panels: weights are the larger side where there are few tokens.
        let (panel, block) = (task / plan.block_tasks * plan.panels, task % plan.block_tasks * plan.blocks);
        let panels = panel..weights.panels().min(panel + plan.panels);
        let blocks = block..blocks.min(block + plan.blocks);
        let rows = panels.start * PANEL..weights.rows().min(panels.end * PANEL);
        let span = blocks.start * TOKENS..tokens.min(blocks.end * TOKENS);
        // SAFETY: every task has its own panels or its own blocks, hence its own rectangle of the output.
        let out = unsafe { Tile::new(out, weights.rows(), span, rows) };
        work(Matmul { weights, panels, activations, blocks, out });
    });
}
