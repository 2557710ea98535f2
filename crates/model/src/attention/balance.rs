//! Channels of keys brought to a common size, so that keys can be kept in few bits.
//!
//! Qwen2's lowest layers add a bias to their keys that is a hundred times as large in some channels as in most. Numbers
//! that share a scale with such a one would lose all their bits. A score is a product of queries and keys, so a channel
//! of the keys may be divided by what the same channel of the queries is multiplied with (Xiao et al.,
//! 2023, "`SmoothQuant`"). The factors follow from the bias alone, so they are the same for every token; they are powers
//! of two, so nothing is rounded by them. Rotation mixes channels in pairs: both of a pair have one factor.
//!
//! Where a bias is huge (Qwen2's two lowest layers), its own channel is what 8 bits are too few for: a 127th of it is more
//! than all that the other channels say. Such a layer stays in bf16.
use longleaf_kernel::KvFormat;

/// The factor from which on 8 bits are too few.
const HUGE: f32 = 16.0;

/// What keys and queries of one layer are multiplied with once they are rotated.
#[derive(Debug, Clone)]
pub(super) struct Balance {
    /// `[kv_heads, head_dim]`.
    pub(super) keys: Box<[f32]>,
    /// `[heads, head_dim]`.
    pub(super) queries: Box<[f32]>,
    /// The format that keeps what matters of the keys.
    pub(super) format: KvFormat,
}

impl Balance {
    /// The factors for keys with this bias, `[kv_heads, head_dim]`, of which the first `2 · half` numbers of a head are
    /// rotated; `None` if all are 1.
    pub(super) fn new(bias: &[f32], heads: usize, kv_heads: usize, half: usize) -> Option<Self> {
        let dim = bias.len() / kv_heads;
        let queries: Vec<f32> = bias.chunks_exact(dim).flat_map(|bias| factors(bias, half)).collect();
        if queries.iter().all(|factor| *factor <= 1.0) {
            return None;
        }
        let huge = queries.iter().any(|factor| *factor >= HUGE);
        let keys = queries.iter().map(|factor| factor.recip()).collect();
        let of_head = |head: usize| &queries[head / (heads / kv_heads) * dim..][..dim];
        Some(Self {
            keys,
            queries: (0..heads).flat_map(of_head).copied().collect(),
            format: if huge { KvFormat::Bf16 } else { KvFormat::Int8 },
        })
    }
}

/// What one head's queries are multiplied with. Channels up to four times the median stay as they are: they hide among
/// what else is in a key.
fn factors(bias: &[f32], half: usize) -> Vec<f32> {
    let size = |channel: usize| match channel {
        _ if channel < half => bias[channel].hypot(bias[channel + half]),
        _ if channel < 2 * half => bias[channel].hypot(bias[channel - half]),
        _ => bias[channel].abs(),
    };
    let sizes: Vec<f32> = (0..bias.len()).map(size).collect();
    let mut sorted = sizes.clone();
    sorted.sort_unstable_by(f32::total_cmp);
    let most = sorted.last().copied().unwrap_or(0.0);
    // At most 2^8: then half a unit of a query's 16 bits is still nothing beside its other channels.
    let usual = (4.0 * sorted[sorted.len() / 2]).max(most / 256.0);
    let factor = |size: f32| if size > usual { (size / usual).log2().round().exp2() } else { 1.0 };
    sizes.into_iter().map(factor).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_have_one_factor_and_products_stay() {
        let mut bias = vec![1.0; 2 * 12];
        (bias[1], bias[12 + 9]) = (-300.0, 60.0);
        // Four pairs, four channels that are not rotated.
        let balance = Balance::new(&bias, 6, 2, 4).expect("some channels are large");
        let large = |at: &[usize], factor: f32| {
            let mut expected = vec![1.0; 12];
            for at in at {
                expected[*at] = factor;
            }
            expected
        };
        // 300 / 4√2 = 53, 60 / 4√2 = 10.6: the nearest powers.
        assert_eq!(balance.queries[..12], large(&[1, 5], 64.0));
        assert_eq!(balance.queries[5 * 12..], large(&[9], 8.0));
        assert_eq!(balance.format, KvFormat::Bf16, "64 is more than 8 bits can bear");
        let product = |head: usize, channel: usize| {
            balance.queries[head * 12 + channel] * balance.keys[head / 3 * 12 + channel]
        };
        let same = |product: f32| (product - 1.0).abs() < f32::EPSILON;
        assert!((0..6).all(|head| (0..12).all(|channel| same(product(head, channel)))));
    }

    #[test]
    fn what_is_alike_stays() {
        assert!(Balance::new(&[0.0; 8], 2, 1, 4).is_none());
        assert!(Balance::new(&[3.0, -2.0, 1.0, 4.0, 2.5, -1.0, 3.0, 2.0], 1, 1, 4).is_none());
        let one = Balance::new(&[0.0, 0.0, 0.0, 9.0, 0.0, 0.0, 0.0, 0.0], 1, 1, 4).expect("one is large");
        assert_eq!(one.queries[2..4], [1.0, 256.0]);
    }
}
