//! The exponential function on sixteen lanes.
//!
//! ```text
//! n = round(x),  f = x - n ∈ [-½, ½],  2^x = 2^n · p(f)
//! ```
//!
//! with `p` of degree 5, fitted for the least relative error: 1.9e-7, rounding included. `p(0)` is exactly 1.
use std::f32::consts::LN_2;

/// Coefficients of `p` but the first, which is 1, from the highest down.
pub(crate) const EXP2: [f32; 5] = [0.001_330_060_5, 0.009_669_691, 0.055_505_585, 0.240_222_83, LN_2];

/// Arguments below are 0 for every purpose here; above `-MIN` they would overflow.
const MIN: f32 = -126.0;

/// `2^x` of each lane; 0 below -126, `-∞` and NaN included; no less than 2^126 above 126.
#[inline(always)]
pub(crate) fn exp2<const N: usize>(x: [f32; N]) -> [f32; N] {
    // Adding this rounds to an integer, which is then found in the low bits of the mantissa.
    const ROUND: f32 = 12_582_912.0;
    let mut y = [0.0; N];
    for i in 0..N {
        let within = if x[i] > MIN { x[i] } else { MIN };
        let within = if within < -MIN { within } else { -MIN };
        let shifted = within + ROUND;
        let f = within - (shifted - ROUND);
        let mut p = EXP2[0];
        p = p * f + EXP2[1];
        p = p * f + EXP2[2];
        p = p * f + EXP2[3];
        p = p * f + EXP2[4];
        p = p * f + 1.0;
        let power = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
        y[i] = if x[i] >= MIN { p * power } else { 0.0 };
    }
    y
}
