//! Kernels and threads together.
use crate::gated::gated;
use crate::matmul::{matmul, matmul_add};
use crate::{Activations, Attend, Intake, Kernels, PackedMatrix, Pool, attention, best};
use std::ops::Range;

/// What arithmetic runs on: a kernel set and a pool of threads. Every operation here is deterministic: the same
/// bits for any number of threads and any batching of rows.
#[derive(Debug)]
pub struct Compute {
    kernels: &'static dyn Kernels,
    pool: Pool,
}

/// One product of several that share their activations: `out[token, row] = Σ_col weights[row, col] · x[token, col]`.
#[derive(Debug)]
pub struct Product<'a> {
    /// `[rows, cols]`.
    pub weights: &'a PackedMatrix,
    /// `[tokens, rows]`, overwritten.
    pub out: &'a mut [f32],
}

impl Compute {
    /// The best kernels of this machine on `threads` threads.
    pub fn new(threads: usize) -> Self {
        Self::with(best(), threads)
    }

    /// A chosen kernel set (see [`crate::by_name`]) on `threads` threads.
    pub fn with(kernels: &'static dyn Kernels, threads: usize) -> Self {
        Self { kernels, pool: Pool::new(threads) }
    }

    /// The kernel set.
    pub fn kernels(&self) -> &'static dyn Kernels {
        self.kernels
    }

    /// The threads.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Take in `values`, `[tokens, cols]`, as the right-hand side of products.
    pub fn prepare(
        &self,
        intake: impl Into<Intake>,
        cols: usize,
        values: &[f32],
        activations: &mut Activations,
    ) {
        assert!(
            cols > 0 && values.len().is_multiple_of(cols),
            "{} numbers are no rows of {cols}",
            values.len()
        );
        self.reshape(intake.into(), values.len() / cols, cols, activations);
        let blocks = activations.blocks();
        let writer = activations.writer();
        self.pool.run(blocks, &|block| {
            // SAFETY: the loop calls every block once.
            unsafe { writer.block(self.kernels, block, values) }
        });
    }

    /// Take in rows as [`Compute::rms_norm`] gives them; the same bits, and nothing is written in between.
    pub fn prepare_normed(
        &self,
        intake: Intake,
        x: &[f32],
        weight: &[f32],
        eps: f32,
        activations: &mut Activations,
    ) {
        let cols = weight.len();
        assert!(cols > 0 && x.len().is_multiple_of(cols), "{} numbers are no rows of {cols}", x.len());
        self.reshape(intake, x.len() / cols, cols, activations);
        let blocks = activations.blocks();
        let writer = activations.writer();
        self.pool.run(blocks, &|block| {
            let fill = |token: usize, row: &mut [f32]| {
                self.kernels.rms_norm(&x[token * cols..(token + 1) * cols], weight, eps, row);
            };
            // SAFETY: the loop calls every block once.
            unsafe { writer.filled(self.kernels, block, &fill) }
        });
    }

    fn reshape(&self, intake: Intake, tokens: usize, cols: usize, activations: &mut Activations) {
        activations.reshape(intake, self.kernels.operand(intake.precision), tokens, cols);
    }

    /// Several products of the same activations in one parallel loop.
    pub fn matmul(&self, activations: &Activations, products: &mut [Product<'_>]) {
        matmul(self.kernels, &self.pool, activations, products);
    }

    /// A product that is added to what there is: `out += weights · activations`, `[tokens, rows]`.
    pub fn matmul_add(&self, activations: &Activations, weights: &PackedMatrix, out: &mut [f32]) {
        matmul_add(self.kernels, &self.pool, activations, weights, out);
    }

    /// `out = silu(gate · activations) · (up · activations)`, element by element, taken in for the next product: what
    /// [`Compute::matmul`], [`Compute::swiglu`] and [`Compute::prepare`] give one after another, the same bits, in one
    /// parallel loop.
    pub fn gated(
        &self,
        activations: &Activations,
        gate_and_up: [&PackedMatrix; 2],
        intake: Intake,
        out: &mut Activations,
    ) {
        gated(self.kernels, &self.pool, activations, gate_and_up, intake, out);
    }

    /// Attention (see [`Attend`]). `out` is `[tokens, heads, head_dim]`. If `mass` is given it receives
    /// `[tokens, heads]`: the natural logarithm of the softmax's denominator, `ln Σ_j exp(scale · q·k_j)`
    /// (`-∞` where nothing was visible; `out` is then 0).
    pub fn attend(&self, attend: &Attend<'_>, out: &mut [f32], mass: Option<&mut [f32]>) {
        attention::attend(self.kernels, &self.pool, attend, out, mass);
    }

    /// `out[i, r] = ln Σ_j e^(scale · x[i, j])` over `j` in `ranges[r]`, for rows of `width` numbers; `-∞` where
    /// a range is empty.
    pub fn log_mass(&self, x: &[f32], width: usize, ranges: &[Range<usize>], scale: f32, out: &mut [f32]) {
        assert!(width > 0 && x.len().is_multiple_of(width), "{} numbers are no rows of {width}", x.len());
        assert_eq!(x.len() / width * ranges.len(), out.len(), "a result for every row and range");
        if ranges.is_empty() {
            return;
        }
        let piece = self.rows(x.len(), width.div_ceil(ranges.len()));
        self.pool.chunks_mut(out, piece, &|index, out| {
            for (at, out) in (index * piece..).zip(out) {
                let row = &x[at / ranges.len() * width..][..width];
                *out = self.kernels.log_mass(&row[ranges[at % ranges.len()].clone()], scale);
            }
        });
    }

    /// `out[t] = x[t] / sqrt(mean(x[t]²) + eps) · weight` for each row of `weight.len()` numbers
    /// (Zhang and Sennrich, 2019).
    pub fn rms_norm(&self, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
        let row = weight.len();
        assert_eq!(x.len(), out.len(), "as many results as numbers");
        assert!(x.len().is_multiple_of(row), "{} numbers are no rows of {row}", x.len());
        self.pool.chunks_mut(out, self.rows(x.len(), row) * row, &|piece, out| {
            let first = piece * self.rows(x.len(), row) * row;
            for (out, x) in out.chunks_exact_mut(row).zip(x[first..].chunks_exact(row)) {
                self.kernels.rms_norm(x, weight, eps, out);
            }
        });
    }

    /// `x[t] = (x[t] - mean(x[t])) / sqrt(variance(x[t]) + eps) · weight + bias` for each row of `weight.len()`
    /// numbers (Ba, Kiros and Hinton, 2016).
    pub fn layer_norm(&self, x: &mut [f32], weight: &[f32], bias: &[f32], eps: f32) {
        let row = weight.len();
        assert_eq!(bias.len(), row, "as many biases as weights");
        assert!(x.len().is_multiple_of(row), "{} numbers are no rows of {row}", x.len());
        self.pool.chunks_mut(x, self.rows(x.len(), row) * row, &|_, x| {
            for x in x.chunks_exact_mut(row) {
                self.kernels.layer_norm(x, weight, bias, eps);
            }
        });
    }

    /// `x = x · Φ(x)`, element by element, `Φ` being the normal distribution's (Hendrycks and Gimpel, 2016).
    pub fn gelu(&self, x: &mut [f32]) {
        let piece = self.rows(x.len(), 1);
        self.pool.chunks_mut(x, piece, &|_, x| self.kernels.gelu(x));
    }

    /// `gate = silu(gate) · up`, element by element, `silu(x) = x / (1 + e^-x)` (Shazeer, 2020).
    pub fn swiglu(&self, gate: &mut [f32], up: &[f32]) {
        assert_eq!(gate.len(), up.len(), "as many gates as numbers");
        let piece = self.rows(gate.len(), 1);
        self.pool.chunks_mut(gate, piece, &|index, gate| {
            self.kernels.swiglu(gate, &up[index * piece..][..gate.len()]);
        });
    }

    /// `x += y`.
    pub fn add(&self, x: &mut [f32], y: &[f32]) {
        assert_eq!(x.len(), y.len(), "as many numbers to add as to add to");
        let piece = self.rows(x.len(), 1);
        self.pool.chunks_mut(x, piece, &|index, x| {
            self.kernels.add(x, &y[index * piece..][..x.len()]);
        });
    }

    /// Rotary position embedding in place (Su et al., 2021), halves convention: with `c, s` the cosine and sine
    /// of the token's angles, `(x[i], x[i + r/2]) ← (x[i]·c[i] − x[i + r/2]·s[i], x[i + r/2]·c[i] + x[i]·s[i])`,
    /// `r` being the number of rotated numbers of a head.
    ///
    /// `x` is `[tokens, heads, head_dim]`; `cos` and `sin` are `[tokens, r / 2]` with `r ≤ head_dim`, scaled
    /// already where the model scales them; numbers beyond `r` stay.
    pub fn rope(&self, x: &mut [f32], heads: usize, head_dim: usize, cos: &[f32], sin: &[f32]) {
        let row = heads * head_dim;
        assert!(
            x.len().is_multiple_of(row),
            "{} numbers are no rows of {heads} heads of {head_dim}",
            x.len()
        );
        let tokens = x.len() / row;
        assert_eq!(cos.len(), sin.len(), "as many sines as cosines");
        assert!(cos.len().is_multiple_of(tokens.max(1)), "{} cosines for {tokens} tokens", cos.len());
        let half = cos.len() / tokens.max(1);
        assert!(2 * half <= head_dim, "{half} angles for heads of {head_dim}");
        let rows = self.rows(x.len(), row);
        self.pool.chunks_mut(x, rows * row, &|piece, x| {
            for (token, row) in (piece * rows..).zip(x.chunks_exact_mut(row)) {
                let angles = token * half..(token + 1) * half;
                self.kernels.rope(row, head_dim, &cos[angles.clone()], &sin[angles]);
            }
        });
    }

    /// How many rows of `row` numbers make a task of element-wise work, of `len` numbers in all: few enough that
    /// all threads have work, and enough that handing it out costs little. Numbers that are a row by themselves
    /// come in whole cache lines.
    fn rows(&self, len: usize, row: usize) -> usize {
        const LEAST: usize = 8192;
        let share = len.div_ceil(4 * self.pool.threads()).max(LEAST);
        share.div_ceil(row).next_multiple_of(if row == 1 { 64 } else { 1 })
    }
}
