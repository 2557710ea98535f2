//! Products with byte dot products (`vpdpbusd`): u8 weights times i8 activations into i32.
//!
//! ```text
//! for each block of 16 tokens, each panel of 16 rows:                        one zmm lane per row
//!     acc[token] = 0                                                         f32, on the stack
//!     for each chunk of 32 k:
//!         w[0..8] = the chunk's quads, as unsigned bytes                     8 registers, shared by all tokens
//!         d, m    = the groups' scales and minima, as f32
//!         for each token:
//!             high = Σ_i vpdpbusd(w[i], broadcast(a_high[i]))                8
//!             low  = Σ_i vpdpbusd(w[i], broadcast(a_low[i])) − offset · Σ a  8 + 1
//!             part = d · f32(high · 256 + low)  (+ m · Σ a)                  4 (+ 2)
//!             acc[token] += part · scale[token]                              1
//! ```
//! Sixteen products of 64 bytes a token and chunk in Exact (8 in Fast) keep the two multiplier pipes busy; the
//! load of an activation rides on its product, and unpacking is shared by 16 tokens. A single token runs the same
//! loop at the speed of memory, and every count of tokens gives the same bits, for it *is* the same loop.
use crate::DType;
use crate::activations::{Activations, Block, Group, TOKENS};
use crate::block::{CHUNK, Format};
use crate::matmul::Matmul;
use crate::packed::PANEL;
use crate::{PackedMatrix, Precision};
use std::arch::x86_64::*;

/// Tokens that advance side by side.
const STEP: usize = 4;

/// The products of one task.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,f16c")]
pub(in crate::arch::x86_64) fn matmul(mut task: Matmul<'_>) {
    let (weights, activations) = (task.weights, task.activations);
    let exact = activations.precision() == Precision::Exact;
    let mut acc = [_mm512_setzero_ps(); TOKENS];
    for (index, block) in task.blocks.clone().enumerate() {
        for panel in task.panels.clone() {
            let tokens = product(weights, panel, activations, block, exact, &mut acc);
            let columns = task.columns(panel);
            let mask = (1_u32 << columns.len()).wrapping_sub(1) as u16;
            for (token, acc) in acc[..tokens].iter().enumerate() {
                let out = &mut task.out.row(index * TOKENS + token)[columns.clone()];
                // SAFETY: the mask lets through as many numbers as `out` has.
                unsafe { _mm512_mask_storeu_ps(out.as_mut_ptr(), mask, *acc) };
            }
        }
    }
}

/// One panel times one block; how many tokens it has.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,f16c")]
fn product(
    weights: &PackedMatrix,
    panel: usize,
    activations: &Activations,
    block: usize,
    exact: bool,
    acc: &mut [__m512; TOKENS],
) -> usize {
    macro_rules! with {
        ($dtype:ident) => {{
            let (panel, block) = (weights.panel(panel), activations.block(block));
            if exact {
                quantised::<{ DType::$dtype as usize }, true>(panel, block, acc);
            } else {
                quantised::<{ DType::$dtype as usize }, false>(panel, block, acc);
            }
            block.tokens
        }};
    }
    match weights.dtype() {
        DType::F32 => floats::<{ DType::F32 as usize }>(weights, panel, activations, block, acc),
        DType::F16 => floats::<{ DType::F16 as usize }>(weights, panel, activations, block, acc),
        DType::BF16 => floats::<{ DType::BF16 as usize }>(weights, panel, activations, block, acc),
        DType::Q4_0 => with!(Q4_0),
        DType::Q4_1 => with!(Q4_1),
        DType::Q5_0 => with!(Q5_0),
        DType::Q5_1 => with!(Q5_1),
        DType::Q8_0 => with!(Q8_0),
        DType::Q2_K => with!(Q2_K),
        DType::Q3_K => with!(Q3_K),
        DType::Q4_K => with!(Q4_K),
        DType::Q5_K => with!(Q5_K),
        DType::Q6_K => with!(Q6_K),
    }
}

/// A panel of floats: `acc[token] += w[k] · broadcast(x[token, k])` in the order of k.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,f16c")]
fn floats<const DTYPE: usize>(
    weights: &PackedMatrix,
    panel: usize,
    activations: &Activations,
    block: usize,
    acc: &mut [__m512; TOKENS],
) -> usize {
    /// Tokens at once: as many sums as hide the latency of the multiplier.
    const STEP: usize = 8;
    let (cols, size) = (weights.cols(), const { DType::ALL[DTYPE].block_bytes() });
    let (panel, first) = (weights.panel(panel), block * TOKENS);
    let tokens = TOKENS.min(activations.tokens() - first);
    let x = &activations.values()[first * cols..(first + tokens) * cols];
    assert!(panel.len() == cols * PANEL * size && x.len() == tokens * cols, "a panel and its activations");
    // SAFETY: `k < cols`, so that the 16 numbers of `k` lie in the panel.
    let weight = |k: usize| unsafe {
        let at = panel.as_ptr().add(k * PANEL * size);
        match const { DType::ALL[DTYPE] } {
            DType::F32 => _mm512_loadu_ps(at.cast()),
            DType::F16 => _mm512_cvtph_ps(_mm256_loadu_si256(at.cast())),
            _ => _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(_mm256_loadu_si256(
                at.cast(),
            )))),
        }
    };
    let mut token = 0;
    while token + STEP <= tokens {
        let mut sums = [_mm512_setzero_ps(); STEP];
        for k in 0..cols {
            let w = weight(k);
            for (t, sum) in sums.iter_mut().enumerate() {
                // SAFETY: `token + t < tokens` and `k < cols`.
                let x = unsafe { *x.get_unchecked((token + t) * cols + k) };
                *sum = _mm512_fmadd_ps(w, _mm512_set1_ps(x), *sum);
            }
        }
        acc[token..token + STEP].copy_from_slice(&sums);
        token += STEP;
    }
    for (acc, x) in acc[token..tokens].iter_mut().zip(x[token * cols..].chunks_exact(cols)) {
        *acc = _mm512_setzero_ps();
        for (k, &x) in x.iter().enumerate() {
            *acc = _mm512_fmadd_ps(weight(k), _mm512_set1_ps(x), *acc);
        }
    }
    tokens
}

/// A panel of a quantised type.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,f16c")]
fn quantised<const DTYPE: usize, const EXACT: bool>(panel: &[u8], x: Block<'_>, acc: &mut [__m512; TOKENS]) {
    let format = const { Format::of(DType::ALL[DTYPE]).expect("a quantised type") };
    let record = const { if EXACT { 2 * CHUNK } else { CHUNK } };
    let tokens = x.tokens;
    let blocks = panel.len() / format.panel_block();
    assert!(tokens <= TOKENS && blocks * format.panel_block() == panel.len(), "a panel of whole blocks");
    assert!(x.groups.len() == blocks * format.chunks * tokens, "a group for every chunk and token");
    assert!(x.integers.len() == x.groups.len() * record, "integers for every group");
    acc[..tokens].fill(_mm512_setzero_ps());
    let (mut integers, mut groups) = (x.integers.as_ptr(), x.groups.as_ptr());
    for block in panel.chunks_exact(format.panel_block()) {
        let head = Head::read::<DTYPE>(block);
        for chunk in 0..format.chunks {
            let w = quads::<DTYPE>(&block[format.quads(chunk)..format.quads(chunk + 1)]);
            let scales = head.chunk::<DTYPE>(block, chunk);
            let mut token = 0;
            // SAFETY: as many records and groups as chunks times tokens, by the assertions above.
            unsafe {
                while token + STEP <= tokens {
                    let acc = acc[token..token + STEP].as_mut_array().expect("as many");
                    step::<DTYPE, EXACT, STEP>(&w, &scales, integers, groups, acc);
                    (integers, groups) = (integers.add(STEP * record), groups.add(STEP));
                    token += STEP;
                }
                for acc in &mut acc[token..tokens] {
                    step::<DTYPE, EXACT, 1>(&w, &scales, integers, groups, std::array::from_mut(acc));
                    (integers, groups) = (integers.add(record), groups.add(1));
                }
            }
        }
    }
}

/// `N` tokens and one chunk, side by side so that neighbouring instructions do not wait for one another.
///
/// # Safety
/// `integers` and `groups` must be readable for `N` records and groups.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,f16c")]
unsafe fn step<const DTYPE: usize, const EXACT: bool, const N: usize>(
    w: &[__m512i; 8],
    scales: &Scales,
    integers: *const u8,
    groups: *const Group,
    acc: &mut [__m512; N],
) {
    let format = const { Format::of(DType::ALL[DTYPE]).expect("a quantised type") };
    let record = const { if EXACT { 2 * CHUNK } else { CHUNK } };
    let quads = 8 / format.groups;
    let mut part = [_mm512_setzero_ps(); N];
    for g in 0..format.groups {
        // SAFETY: a record has 8 quads of `high`, in Exact then 8 of `low`; the caller promises N records.
        let quad = |token: usize, i: usize| unsafe {
            _mm512_set1_epi32(integers.add(token * record + 4 * i).cast::<i32>().read_unaligned())
        };
        // SAFETY: the caller promises N groups.
        let group = |token: usize| unsafe { &*groups.add(token) };
        let mut high = [_mm512_setzero_si512(); N];
        let mut low = [_mm512_setzero_si512(); N];
        for token in 0..N {
            low[token] = offset::<DTYPE>(group(token), g);
        }
        for i in g * quads..(g + 1) * quads {
            for token in 0..N {
                if EXACT {
                    high[token] = _mm512_dpbusd_epi32(high[token], w[i], quad(token, i));
                    low[token] = _mm512_dpbusd_epi32(low[token], w[i], quad(token, 8 + i));
                } else {
                    low[token] = _mm512_dpbusd_epi32(low[token], w[i], quad(token, i));
                }
            }
        }
        for token in 0..N {
            let sum = if EXACT {
                _mm512_add_epi32(_mm512_slli_epi32::<8>(high[token]), low[token])
            } else {
                low[token]
            };
            part[token] = scaled::<DTYPE>(sum, scales, group(token), g, part[token]);
        }
    }
    for token in 0..N {
        // SAFETY: the caller promises N groups.
        let scale = unsafe { _mm512_set1_ps((*groups.add(token)).scale) };
        acc[token] = _mm512_fmadd_ps(part[token], scale, acc[token]);
    }
}

/// `−Σ a` over group `g` of a chunk.
#[inline]
#[target_feature(enable = "avx512f")]
fn minus_sum<const DTYPE: usize>(group: &Group, g: usize) -> __m512i {
    let format = const { Format::of(DType::ALL[DTYPE]).expect("a quantised type") };
    // Two groups: the halves' sums; one: the whole one.
    _mm512_set1_epi32(group.minus_sum[if format.groups == 2 { 1 + g } else { 0 }])
}

/// `−offset · Σ a` over group `g` of a chunk: by how much the sum of unsigned integers is too large.
#[inline]
#[target_feature(enable = "avx512f")]
pub(in crate::arch::x86_64) fn offset<const DTYPE: usize>(group: &Group, g: usize) -> __m512i {
    let format = const { Format::of(DType::ALL[DTYPE]).expect("a quantised type") };
    let minus_sum = minus_sum::<DTYPE>(group, g);
    match format.offset {
        0 => _mm512_setzero_si512(),
        4 => _mm512_slli_epi32::<2>(minus_sum),
        8 => _mm512_slli_epi32::<3>(minus_sum),
        16 => _mm512_slli_epi32::<4>(minus_sum),
        32 => _mm512_slli_epi32::<5>(minus_sum),
        _ => _mm512_slli_epi32::<7>(minus_sum),
    }
}

/// What the groups up to `g` contribute, from the integer sum of group `g` and the `part` of the groups before.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(in crate::arch::x86_64) fn scaled<const DTYPE: usize>(
    sum: __m512i,
    scales: &Scales,
    group: &Group,
    g: usize,
    part: __m512,
) -> __m512 {
    let format = const { Format::of(DType::ALL[DTYPE]).expect("a quantised type") };
    let sum = _mm512_cvtepi32_ps(sum);
    let part = if g == 0 { _mm512_mul_ps(sum, scales.d[g]) } else { _mm512_fmadd_ps(sum, scales.d[g], part) };
    if format.minimum {
        _mm512_fmadd_ps(_mm512_cvtepi32_ps(minus_sum::<DTYPE>(group, g)), scales.minus_m[g], part)
    } else {
        part
    }
}

/// The scales of a block in f32.
pub(in crate::arch::x86_64) struct Head {
    d: __m512,
    m: __m512,
}

/// The scales of a chunk's groups: `value = d · (u − offset) − minus_m`.
pub(in crate::arch::x86_64) struct Scales {
    pub(super) d: [__m512; 2],
    pub(super) minus_m: [__m512; 2],
}

impl Head {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,f16c")]
    pub(in crate::arch::x86_64) fn read<const DTYPE: usize>(block: &[u8]) -> Self {
        let format = const { Format::of(DType::ALL[DTYPE]).expect("a quantised type") };
        assert!(block.len() == format.panel_block(), "a block");
        // SAFETY: a block begins with 16 half-precision numbers, and with 32 if it has minima.
        unsafe {
            let half = |at: usize| _mm512_cvtph_ps(_mm256_loadu_si256(block.as_ptr().add(at).cast()));
            Self { d: half(0), m: if format.minimum { half(Format::MINIMA) } else { _mm512_setzero_ps() } }
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    pub(in crate::arch::x86_64) fn chunk<const DTYPE: usize>(&self, block: &[u8], chunk: usize) -> Scales {
        let format = const { Format::of(DType::ALL[DTYPE]).expect("a quantised type") };
        if !format.two_level() {
            let minus_m = if format.minimum { _mm512_sub_ps(_mm512_setzero_ps(), self.m) } else { self.m };
            return Scales { d: [self.d; 2], minus_m: [minus_m; 2] };
        }
        assert!(block.len() == format.panel_block() && chunk < format.chunks, "a chunk of a block");
        // SAFETY: the sub-scales of a chunk lie inside the block, 16 bytes each.
        let sub = |row: usize| unsafe {
            let at = block.as_ptr().add(format.sub_scales(chunk) + row * PANEL);
            _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(at.cast())))
        };
        let d = |g: usize| _mm512_mul_ps(self.d, sub(g));
        let minus_m = |g: usize| {
            if format.minimum { _mm512_mul_ps(self.m, sub(format.groups + g)) } else { self.m }
        };
        let last = format.groups - 1;
        Scales { d: [d(0), d(last)], minus_m: [minus_m(0), minus_m(last)] }
    }
}

/// The integers of a chunk, as bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(in crate::arch::x86_64) fn quads<const DTYPE: usize>(bytes: &[u8]) -> [__m512i; 8] {
    let format = const { Format::of(DType::ALL[DTYPE]).expect("a quantised type") };
    assert!(bytes.len() == format.bits * 64, "a chunk");
    // SAFETY: a chunk has `bits` lines of 64 bytes.
    let line = |i: usize| unsafe { _mm512_loadu_si512(bytes.as_ptr().add(64 * i).cast()) };
    let mut w = [_mm512_setzero_si512(); 8];
    if format.bits == 8 {
        for (i, w) in w.iter_mut().enumerate() {
            *w = line(i);
        }
        return w;
    }
    let low = _mm512_set1_epi8(0x0f);
    for i in 0..4 {
        w[i] = _mm512_and_si512(line(i), low);
        w[i + 4] = _mm512_and_si512(_mm512_srli_epi16::<4>(line(i)), low);
    }
    if format.bits == 6 {
        let high = _mm512_set1_epi8(0x30);
        for h in 0..2 {
            let pairs = line(4 + h);
            let shifted = [
                _mm512_slli_epi16::<4>(pairs),
                _mm512_slli_epi16::<2>(pairs),
                pairs,
                _mm512_srli_epi16::<2>(pairs),
            ];
            for (s, pairs) in shifted.into_iter().enumerate() {
                let w = &mut w[4 * h + s];
                *w = _mm512_ternarylogic_epi64::<0xf8>(*w, pairs, high); // w | (pairs & high)
            }
        }
    }
    w
}
