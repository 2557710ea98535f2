//! Angles of the rotary embedding.
//!
//! Frequencies and angles are f64: at a million tokens an f32 angle is wrong by a twentieth of a radian.
use crate::config::{Rope, RopeScaling};
use std::f64::consts::TAU;
use std::ops::Range;

/// The frequencies of a model, scaled, and the cosines and sines of one run of positions, which all layers share.
#[derive(Debug, Clone)]
pub struct Rotation {
    /// Radians a position. `[dim / 2]`.
    frequencies: Box<[f64]>,
    /// Factor on cosine and sine.
    attention: f64,
    positions: Range<i64>,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Rotation {
    /// Frequencies for sequences of up to `length` tokens. Only dynamic NTK scaling looks at `length`; it then
    /// rotates every position as a single pass over that many tokens would (transformers does the same), so that
    /// the result does not depend on how the sequence is cut.
    pub fn new(rope: &Rope, length: usize) -> Self {
        let plain = |base: f64| (0..rope.dim / 2).map(move |i| base.powf(-2.0 * i as f64 / rope.dim as f64));
        let mut attention = 1.0;
        let frequencies: Box<[f64]> = match &rope.scaling {
            RopeScaling::None => plain(rope.base).collect(),
            RopeScaling::Linear { factor } => plain(rope.base).map(|f| f / factor).collect(),
            RopeScaling::DynamicNtk { factor, trained } => {
                let (dim, length) = (rope.dim as f64, length.max(*trained) as f64);
                let stretch = factor * length / *trained as f64 - (factor - 1.0);
                plain(rope.base * stretch.powf(dim / (dim - 2.0))).collect()
            }
            RopeScaling::Yarn { factor, trained, attention: given, fast, slow, truncate } => {
                attention = *given;
                // The dimension whose frequency makes `rotations` turns in the window of training.
                let dimension = |rotations: f64| {
                    rope.dim as f64 * (*trained as f64 / (rotations * TAU)).ln() / (2.0 * rope.base.ln())
                };
                let (mut low, mut high) = (dimension(*fast), dimension(*slow));
                if *truncate {
                    (low, high) = (low.floor(), high.ceil());
                }
                (low, high) = (low.max(0.0), high.min(rope.dim as f64 - 1.0));
                if (high - low).abs() < f64::EPSILON {
                    high = low + 0.001;
                }
                let ramp = move |i: usize| ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
                plain(rope.base)
                    .enumerate()
                    .map(|(i, f)| f / factor * ramp(i) + f * (1.0 - ramp(i)))
                    .collect()
            }
            RopeScaling::Llama3 { factor, low, high, trained } => plain(rope.base)
                .map(|f| {
                    let turns = *trained as f64 * f / TAU;
                    if turns > *high {
                        f
                    } else if turns < *low {
                        f / factor
                    } else {
                        let smooth = (turns - low) / (high - low);
                        (1.0 - smooth) * f / factor + smooth * f
                    }
                })
                .collect(),
            RopeScaling::Factors(factors) => {
                plain(rope.base).zip(factors).map(|(f, factor)| f / f64::from(*factor)).collect()
            }
        };
        Self { frequencies, attention, positions: 0..0, cos: Vec::new(), sin: Vec::new() }
    }

    /// Radians a position, `[dim / 2]`.
    pub fn frequencies(&self) -> &[f64] {
        &self.frequencies
    }

    /// Cosines and sines of consecutive positions, `[tokens, dim / 2]` each, as [`longleaf_kernel::Compute::rope`]
    /// takes them. Positions may be negative: only differences matter. The last run asked for is kept.
    pub fn at(&mut self, positions: Range<i64>) -> (&[f32], &[f32]) {
        if self.positions != positions {
            self.cos.clear();
            self.sin.clear();
            for position in positions.clone() {
                for frequency in &self.frequencies {
                    let (sin, cos) = (position as f64 * frequency).sin_cos();
                    self.cos.push((cos * self.attention) as f32);
                    self.sin.push((sin * self.attention) as f32);
                }
            }
            self.positions = positions;
        }
        (&self.cos, &self.sin)
    }
}
