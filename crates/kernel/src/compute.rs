//! Kernels and threads together.
use crate::matmul::matmul;
use crate::{Activations, Attend, BLOCK_TOKENS, Kernels, PackedMatrix, Pool, Precision, best};

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
    pub fn prepare(&self, precision: Precision, cols: usize, values: &[f32], activations: &mut Activations) {
        assert!(
            cols > 0 && values.len().is_multiple_of(cols),
            "{} numbers are no rows of {cols}",
            values.len()
        );
        activations.reshape(precision, self.kernels.operand(), values.len() / cols, cols);
        let blocks = activations.blocks();
        let writer = activations.writer();
        self.pool.run(blocks, &|block| {
            // SAFETY: the loop calls every block once.
            unsafe { writer.block(self.kernels, block, values) }
        });
    }

    /// Several products of the same activations in one parallel loop.
    pub fn matmul(&self, activations: &Activations, products: &mut [Product<'_>]) {
        matmul(self.kernels, &self.pool, activations, products);
    }

    /// Attention (see [`Attend`]). `out` is `[tokens, heads, head_dim]`. If `mass` is given it receives
    /// `[tokens, heads]`: the natural logarithm of the softmax's denominator, `ln Σ_j exp(scale · q·k_j)`
    /// (`-∞` where nothing was visible; `out` is then 0).
    pub fn attend(&self, attend: &Attend<'_>, out: &mut [f32], mut mass: Option<&mut [f32]>) {
        let Some(first) = attend.views.first() else {
            out.fill(0.0);
            if let Some(mass) = mass {
                mass.fill(f32::NEG_INFINITY);
            }
            return;
        };
        let (kv_heads, dim) = (first.block.kv_heads(), first.block.head_dim());
        let group = attend.heads / kv_heads;
        let (mut key, mut value) = (vec![0.0; dim], vec![0.0; dim]);
        for (row, (q, o)) in attend.queries.chunks_exact(dim).zip(out.chunks_exact_mut(dim)).enumerate() {
            let (token, head) = ((row / attend.heads) as i64, row % attend.heads / group);
            let mut scores = Vec::new();
            for view in attend.views {
                assert!(view.len <= BLOCK_TOKENS, "a view of {} tokens", view.len);
                for j in 0..view.len {
                    let distance = token - (view.offset + j as i64);
                    if (0..view.window).contains(&distance) {
                        view.block.read_key(j, head, &mut key);
                        let dot: f32 = q.iter().zip(&key).map(|(q, k)| q * k).sum();
                        scores.push((view, j, dot * attend.scale));
                    }
                }
            }
            let max = scores.iter().fold(f32::NEG_INFINITY, |m, s| m.max(s.2));
            let mut sum = 0.0;
            o.fill(0.0);
            for &(view, j, score) in &scores {
                let p = (score - max).exp();
                sum += p;
                view.block.read_value(j, head, &mut value);
                for (o, v) in o.iter_mut().zip(&value) {
                    *o += p * v;
                }
            }
            if sum > 0.0 {
                for o in o.iter_mut() {
                    *o /= sum;
                }
            }
            if let Some(mass) = mass.as_deref_mut() {
                mass[row] = if sum > 0.0 { max + sum.ln() } else { f32::NEG_INFINITY };
            }
        }
    }

    /// `out[t] = x[t] / sqrt(mean(x[t]²) + eps) · weight` for each row of `weight.len()` numbers
    /// (Zhang and Sennrich, 2019).
    pub fn rms_norm(&self, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
        for (x, out) in x.chunks_exact(weight.len()).zip(out.chunks_exact_mut(weight.len())) {
            let mean = x.iter().map(|x| x * x).sum::<f32>() / x.len() as f32;
            let scale = 1.0 / (mean + eps).sqrt();
            for ((out, x), w) in out.iter_mut().zip(x).zip(weight) {
                *out = x * scale * w;
            }
        }
    }

    /// `gate = silu(gate) · up`, element by element, `silu(x) = x / (1 + e^-x)` (Shazeer, 2020).
    pub fn swiglu(&self, gate: &mut [f32], up: &[f32]) {
        for (g, u) in gate.iter_mut().zip(up) {
            *g = *g / (1.0 + (-*g).exp()) * u;
        }
    }

    /// `x += y`.
    pub fn add(&self, x: &mut [f32], y: &[f32]) {
        for (x, y) in x.iter_mut().zip(y) {
            *x += y;
        }
    }

    /// Rotary position embedding in place (Su et al., 2021), halves convention: with `c, s` the cosine and sine
    /// of the token's angles, `(x[i], x[i + d/2]) ← (x[i]·c[i] − x[i + d/2]·s[i], x[i + d/2]·c[i] + x[i]·s[i])`.
    ///
    /// `x` is `[tokens, heads, head_dim]`; `cos` and `sin` are `[tokens, rotary / 2]` with `rotary ≤ head_dim`,
    /// scaled already where the model scales them; numbers beyond `rotary` stay.
    pub fn rope(&self, x: &mut [f32], heads: usize, head_dim: usize, cos: &[f32], sin: &[f32]) {
        let tokens = x.len() / (heads * head_dim);
        let half = cos.len() / tokens.max(1);
        for (t, row) in x.chunks_exact_mut(heads * head_dim).enumerate() {
            let (cos, sin) = (&cos[t * half..(t + 1) * half], &sin[t * half..(t + 1) * half]);
            for head in row.chunks_exact_mut(head_dim) {
                for i in 0..half {
                    let (a, b) = (head[i], head[i + half]);
                    head[i] = a * cos[i] - b * sin[i];
                    head[i + half] = b * cos[i] + a * sin[i];
                }
            }
        }
    }
}
