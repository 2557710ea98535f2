//! Keys and values out of few bits: sixteen codes to a line of floats, and pairs of lines to words of bf16.
//!
//! Compilers leave the loops of [`crate::arch::scalar::quantised`] for this unvectorised, hence the intrinsics; every
//! step is the same, so every bit is.
use crate::kv::CHUNK;
use crate::lines::LINE;
use crate::quantised::{DequantiseHead, GROUP, KvBits, bf16};
use crate::{BLOCK_TOKENS, KvFormat};
use std::arch::x86_64::*;

/// Fill one head of a block of bf16.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) fn dequantise_head(task: &mut DequantiseHead<'_>, keys: &mut [[f32; LINE]]) {
    assert_eq!(task.format, KvFormat::Bf16, "pairs of bf16");
    assert_eq!(keys.len(), task.form.head_dim, "a line for every channel");
    dequantise_keys(task, keys);
    dequantise_values(task);
}

/// Sixteen codes as floats; of 4 bits, the lower or upper halves of the bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn codes(bits: KvBits, bytes: &[u8; LINE], upper: bool) -> __m512 {
    // SAFETY: sixteen bytes.
    let bytes = unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) };
    _mm512_cvtepi32_ps(match bits {
        KvBits::Eight => _mm512_cvtepi8_epi32(bytes),
        KvBits::Four => {
            let words = _mm512_cvtepu8_epi32(bytes);
            if upper { _mm512_srli_epi32::<4>(words) } else { _mm512_and_si512(words, _mm512_set1_epi32(15)) }
        }
    })
}

/// The nearest bf16 of finite numbers, ties to even, in the upper halves; the lower ones hold remains.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn rounded(numbers: __m512) -> __m512i {
    let bits = _mm512_castps_si512(numbers);
    let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
    _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)))
}

/// Pairs of bf16.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn store_pairs(first: __m512, second: __m512, words: &mut [u32; LINE]) {
    let first = _mm512_srli_epi32::<16>(rounded(first));
    let pairs = _mm512_mask_blend_epi16(0xaaaa_aaaa, first, rounded(second));
    // SAFETY: sixteen words.
    unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), pairs) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn load(line: &[f32; LINE]) -> __m512 {
    // SAFETY: sixteen numbers.
    unsafe { _mm512_loadu_ps(line.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn store(numbers: __m512, line: &mut [f32; LINE]) {
    // SAFETY: sixteen numbers.
    unsafe { _mm512_storeu_ps(line.as_mut_ptr(), numbers) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn dequantise_keys(task: &mut DequantiseHead<'_>, keys: &mut [[f32; LINE]]) {
    let (bits, dim) = (task.form.keys, task.form.head_dim);
    let four = bits == KvBits::Four;
    let half = task.cos.len() / BLOCK_TOKENS;
    let code_bytes = bits.code_bytes(BLOCK_TOKENS);
    let lines = task.key_codes.as_chunks::<LINE>().0;
    let (cos, sin) = (task.cos.as_chunks::<LINE>().0, task.sin.as_chunks::<LINE>().0);
    let words = task.words.as_chunks_mut::<LINE>().0;
    let steps = dim.next_multiple_of(LINE) / 2;
    for group in 0..BLOCK_TOKENS / LINE {
        let line = if four { group / 2 } else { group };
        for channel in 0..dim {
            let codes = codes(bits, &lines[channel * (code_bytes / LINE) + line], group % 2 == 1);
            let mut numbers = _mm512_mul_ps(codes, _mm512_set1_ps(bf16(task.key_ranges.scales, channel)));
            if four {
                let minimum = bf16(task.key_ranges.minima, channel);
                numbers = _mm512_add_ps(numbers, _mm512_set1_ps(minimum));
            }
            if let Some(bias) = task.key_bias.get(channel) {
                numbers = _mm512_add_ps(numbers, _mm512_set1_ps(*bias));
            }
            store(numbers, &mut keys[channel]);
        }
        let (low, high) = keys.split_at_mut(half);
        for angle in 0..half {
            let at = angle * (BLOCK_TOKENS / LINE) + group;
            let (cos, sin) = (load(&cos[at]), load(&sin[at]));
            let (x, y) = (load(&low[angle]), load(&high[angle]));
            store(_mm512_sub_ps(_mm512_mul_ps(x, cos), _mm512_mul_ps(y, sin)), &mut low[angle]);
            store(_mm512_add_ps(_mm512_mul_ps(y, cos), _mm512_mul_ps(x, sin)), &mut high[angle]);
        }
        let words = &mut words[group * steps..][..steps];
        for (words, pair) in words.iter_mut().zip(keys.chunks(2)) {
            let second = pair.get(1).map_or(_mm512_setzero_ps(), |line| load(line));
            store_pairs(load(&pair[0]), second, words);
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn dequantise_values(task: &mut DequantiseHead<'_>) {
    let (bits, dim) = (task.form.values, task.form.head_dim);
    let four = bits == KvBits::Four;
    let (groups, width) = (dim.div_ceil(GROUP), dim.next_multiple_of(LINE));
    let lines = task.value_codes.as_chunks::<LINE>().0;
    let (ranges, of_group) = (task.value_ranges, if four { 1 } else { 2 });
    let words = task.words[BLOCK_TOKENS * width / 2..].as_chunks_mut::<LINE>().0;
    let mut at = 0;
    for first in (0..width / LINE).step_by(CHUNK / LINE) {
        let last = (width / LINE).min(first + CHUNK / LINE);
        for pair in 0..BLOCK_TOKENS / 2 {
            for line in first..last {
                let mut tokens = [_mm512_setzero_ps(); 2];
                for (half, numbers) in tokens.iter_mut().enumerate() {
                    let group = (2 * pair + half) * groups + line / 2;
                    let bytes = &lines[group * of_group + if four { 0 } else { line % 2 }];
                    let codes = codes(bits, bytes, line % 2 == 1);
                    *numbers = _mm512_mul_ps(codes, _mm512_set1_ps(bf16(ranges.scales, group)));
                    if four {
                        *numbers = _mm512_add_ps(*numbers, _mm512_set1_ps(bf16(ranges.minima, group)));
                    }
                }
                store_pairs(tokens[0], tokens[1], &mut words[at]);
                at += 1;
            }
        }
    }
}
