//! How fast a model reads and writes, and what that is of what the machine can do.
use crate::Model;
use crate::attending::{Attending, Sequence};
use longleaf_kernel::{BLOCK_TOKENS, Ceilings};
use longleaf_model::{Config, Scratch, Visible};
use longleaf_text::TokenId;
use rand_pcg::Pcg64;
use rand_pcg::rand_core::{Rng, SeedableRng};
use std::time::Instant;

/// Why a pass cannot fail here.
const RAM: &str = "nothing lies on disk";

/// One sequence to be timed on, and random tokens to fill it with: their meaning does not matter to the clock.
#[derive(Debug)]
pub struct Bench<'m> {
    model: &'m Model,
    attending: Attending,
    attention: Sequence<'m>,
    scratch: Scratch,
    random: Pcg64,
}

impl<'m> Bench<'m> {
    /// A sequence that will hold up to `length` tokens, drawn from `seed`.
    pub fn new(model: &'m Model, attending: impl Into<Attending>, length: usize, seed: u64) -> Self {
        let attending = attending.into();
        Self {
            model,
            attending,
            attention: Sequence::new(model.decoder(), attending, length),
            scratch: Scratch::new(),
            random: Pcg64::seed_from_u64(seed),
        }
    }

    /// Seconds to read `tokens` tokens from the beginning, logits of the last included. `watch` hears how many are
    /// done.
    pub fn prefill_s(&mut self, tokens: usize, watch: &mut dyn FnMut(usize)) -> f64 {
        /// Tokens between two calls to `watch`: often enough for a bar, too seldom to cost time.
        const PIECE: usize = 4096;
        let tokens = self.draw(tokens);
        self.attention.reset();
        let start = Instant::now();
        let mut done = 0;
        for piece in tokens.chunks(PIECE) {
            let decoder = self.model.decoder();
            if done + piece.len() < tokens.len() {
                decoder.read(piece, done, &mut self.attention, &mut self.scratch).expect(RAM);
            } else {
                decoder.forward(piece, done, &mut self.attention, &mut self.scratch).expect(RAM);
            }
            done += piece.len();
            watch(done);
        }
        start.elapsed().as_secs_f64()
    }

    /// Seconds for `tokens` steps of one token each behind what was read; they are forgotten afterwards where the
    /// attention can forget. `watch` hears how many are done.
    pub fn decode_s(&mut self, tokens: usize, watch: &mut dyn FnMut(usize)) -> f64 {
        let steps = self.draw(tokens);
        let depth = self.attention.len();
        let start = Instant::now();
        for (done, step) in steps.iter().enumerate() {
            let at = depth + done;
            let decoder = self.model.decoder();
            decoder.forward(&[*step], at, &mut self.attention, &mut self.scratch).expect(RAM);
            watch(done + 1);
        }
        let seconds = start.elapsed().as_secs_f64();
        if self.attending == Attending::Dense(Visible::All)
            && let Sequence::Dense(dense) = &mut self.attention
        {
            dense.truncate(depth);
        }
        seconds
    }

    fn draw(&mut self, tokens: usize) -> Vec<TokenId> {
        let vocabulary = self.model.tokenizer().len() as u64;
        (0..tokens).map(|_| (self.random.next_u64() % vocabulary) as TokenId).collect()
    }
}

/// Multiply-adds of the weights and of attention for reading `tokens` tokens from the beginning, a multiply-add
/// being two operations.
pub fn prefill_ops(config: &Config, tokens: usize, visible: Visible) -> f64 {
    let (hidden, dim) = (config.hidden_size as f64, config.head_dim as f64);
    let (queries, keys) = (config.heads as f64 * dim, config.kv_heads as f64 * dim);
    let layer =
        hidden * (queries + 2.0 * keys) + queries * hidden + 3.0 * hidden * config.intermediate_size as f64;
    let weights = config.layers as f64 * layer * tokens as f64 + hidden * config.vocab_size as f64;
    let seen = config.sliding.iter().map(|sliding| {
        let limit = sliding.unwrap_or(usize::MAX).min(match visible {
            Visible::All => usize::MAX,
            Visible::Local { sinks, window } => sinks + window,
        });
        // The sum of min(i, limit) for i in 1..=tokens.
        let ramp = tokens.min(limit) as f64;
        ramp * (ramp + 1.0) / 2.0 + (tokens as f64 - ramp) * limit as f64 * f64::from(tokens > limit)
    });
    2.0 * (weights + 2.0 * queries * seen.sum::<f64>())
}

/// Bytes that one step of decoding must read: the weights, and keys and values of the tokens it sees.
pub fn step_bytes(model: &Model, depth: usize, attending: Attending) -> f64 {
    let config = model.config();
    let visible = attending.visible(config);
    let kept = config.sliding.iter().map(|sliding| {
        let limit = match visible {
            Visible::All => usize::MAX,
            Visible::Local { sinks, window } => sinks + window,
        };
        depth.min(limit).min(sliding.unwrap_or(usize::MAX)) as f64
    });
    let format = attending.kv_format(model.decoder());
    let token = format.block_bytes(config.kv_heads, config.head_dim) as f64 / BLOCK_TOKENS as f64;
    model.decoder().step_bytes() as f64 + token * kept.sum::<f64>()
}

/// The peak that prefill is held against: the fastest multiply-add into 32-bit floats that the kernel set has.
pub fn prefill_ceiling(ceilings: &Ceilings) -> f64 {
    ceilings.bf16_ops.unwrap_or(ceilings.f32_ops)
}
