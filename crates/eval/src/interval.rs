//! How far a score may be off.

/// The 95 % interval of a mean score (Wilson, 1927), for `n` scores from 0 to 1.
///
/// For shares it is the usual one. Scores between 0 and 1 vary less about their mean than zeros and ones do, so for
/// them it is on the safe side. `n` is at least 1.
pub fn wilson(mean: f64, n: usize) -> (f64, f64) {
    const Z: f64 = 1.959_964;
    let n = n as f64;
    let centre = mean + Z * Z / (2.0 * n);
    let half = Z * (mean * (1.0 - mean) / n + Z * Z / (4.0 * n * n)).max(0.0).sqrt();
    let scale = 1.0 + Z * Z / n;
    (((centre - half) / scale).max(0.0), ((centre + half) / scale).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::wilson;

    #[test]
    fn values_worked_out_by_hand() {
        for (mean, n, low, high) in [
            (0.8, 10, 0.4902, 0.9433),
            (0.0, 10, 0.0, 0.2775),
            (1.0, 10, 0.7225, 1.0),
            (0.5, 1, 0.0546, 0.9454),
        ] {
            let found = wilson(mean, n);
            assert!((found.0 - low).abs() < 1e-3 && (found.1 - high).abs() < 1e-3, "{mean} {n}: {found:?}");
        }
    }
}
