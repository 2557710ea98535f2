//! Products with signed bytes, 16 rows in four registers of four lanes.
//!
//! ```text
//! for each block of 16 tokens, each panel of 16 rows:
//!     acc[token] = 0                                                 f32, [4][4 rows]
//!     for each chunk of 32 k:
//!         w[0..8] = the chunk's quads, as signed bytes               8-bit types: u − 128, hence no offset later
//!         d, m    = the groups' scales and minima, as f32
//!         for each token:
//!             high = Σ_i sdot(w[i], a_high[i]),  low = Σ_i sdot(w[i], a_low[i]) − offset · Σ a
//!             part = d · f32(high · 256 + low)  (+ m · Σ a)
//!             acc[token] += part · scale[token]
//! ```
//! The integers are exact and the floating-point steps are those of the AVX-512 kernels in their order. Cores
//! without `sdot` multiply bytes into 16 bits and add pairs into 32.
use crate::DType;
use crate::activations::{Activations, Block, Group, TOKENS};
use crate::block::{CHUNK, Format};
use crate::matmul::Matmul;
use crate::packed::PANEL;
use crate::{PackedMatrix, Precision};
use std::arch::aarch64::*;
use std::arch::asm;

/// One number for each of the 16 rows of a panel.
type Rows = [float32x4_t; 4];

/// Sums of byte products on their way: with `sdot` one number a row in the first half; without, two numbers a row.
type Sums = [int32x4_t; 8];

/// The products of one task.
#[target_feature(enable = "neon,dotprod")]
pub(super) fn with_dot_products(task: Matmul<'_>) {
    matmul::<true>(task);
}

/// The products of one task.
#[target_feature(enable = "neon")]
pub(super) fn with_multiplications(task: Matmul<'_>) {
    matmul::<false>(task);
}

fn zero() -> Rows {
    // SAFETY: NEON belongs to the architecture.
    unsafe { [vdupq_n_f32(0.0); 4] }
}

/// The caller has dot products if it says `DOT`.
#[inline(always)]
fn matmul<const DOT: bool>(mut task: Matmul<'_>) {
    let (weights, activations) = (task.weights, task.activations);
    let exact = activations.precision() == Precision::Exact;
    let mut acc = [zero(); TOKENS];
    for (index, block) in task.blocks.clone().enumerate() {
        for panel in task.panels.clone() {
            let tokens = product::<DOT>(weights, panel, activations, block, exact, &mut acc);
            let columns = task.columns(panel);
            for (token, acc) in acc[..tokens].iter().enumerate() {
                let mut rows = [0.0; PANEL];
                for (lanes, acc) in rows.as_chunks_mut::<4>().0.iter_mut().zip(acc) {
                    // SAFETY: four lanes, four numbers.
                    unsafe { vst1q_f32(lanes.as_mut_ptr(), *acc) };
                }
                let out = &mut task.out.row(index * TOKENS + token)[columns.clone()];
                out.copy_from_slice(&rows[..out.len()]);
            }
        }
    }
}

/// One panel times one block; how many tokens it has.
#[inline(always)]
fn product<const DOT: bool>(
    weights: &PackedMatrix,
    panel: usize,
    activations: &Activations,
    block: usize,
    exact: bool,
    acc: &mut [Rows; TOKENS],
) -> usize {
    macro_rules! with {
        ($dtype:ident) => {{
            let (panel, block) = (weights.panel(panel), activations.block(block));
            if exact {
                quantised::<{ DType::$dtype as usize }, true, DOT>(panel, block, acc);
            } else {
                quantised::<{ DType::$dtype as usize }, false, DOT>(panel, block, acc);
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

/// A panel of floats: `acc[token] += w[k] · x[token, k]` in the order of k.
fn floats<const DTYPE: usize>(
    weights: &PackedMatrix,
    panel: usize,
    activations: &Activations,
    block: usize,
    acc: &mut [Rows; TOKENS],
) -> usize {
    /// Tokens at once: as many sums as registers hold beside the weights.
    const STEP: usize = 4;
    let (cols, size) = (weights.cols(), const { DType::ALL[DTYPE].block_bytes() });
    let (panel, first) = (weights.panel(panel), block * TOKENS);
    let tokens = TOKENS.min(activations.tokens() - first);
    let x = &activations.values()[first * cols..(first + tokens) * cols];
    assert!(panel.len() == cols * PANEL * size && x.len() == tokens * cols, "a panel and its activations");
    let weight = |k: usize| -> Rows {
        // SAFETY: `k < cols`, so that the 16 numbers of `k` lie in the panel.
        std::array::from_fn(|i| unsafe {
            let at = panel.as_ptr().add((k * PANEL + 4 * i) * size);
            match const { DType::ALL[DTYPE] } {
                DType::F32 => vld1q_f32(at.cast()),
                DType::F16 => from_half(vld1_u16(at.cast())),
                _ => vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(at.cast()))),
            }
        })
    };
    let add = |acc: &mut Rows, w: &Rows, x: f32| {
        for (acc, w) in acc.iter_mut().zip(w) {
            // SAFETY: NEON belongs to the architecture.
            *acc = unsafe { vfmaq_n_f32(*acc, *w, x) };
        }
    };
    let mut token = 0;
    while token + STEP <= tokens {
        let mut sums = [zero(); STEP];
        for k in 0..cols {
            let w = weight(k);
            for (t, sum) in sums.iter_mut().enumerate() {
                // SAFETY: `token + t < tokens` and `k < cols`.
                add(sum, &w, unsafe { *x.get_unchecked((token + t) * cols + k) });
            }
        }
        acc[token..token + STEP].copy_from_slice(&sums);
        token += STEP;
    }
    for (acc, x) in acc[token..tokens].iter_mut().zip(x[token * cols..].chunks_exact(cols)) {
        *acc = zero();
        for (k, &x) in x.iter().enumerate() {
            add(acc, &weight(k), x);
        }
    }
    tokens
}

/// A panel of a quantised type.
#[inline(always)]
fn quantised<const DTYPE: usize, const EXACT: bool, const DOT: bool>(
    panel: &[u8],
    x: Block<'_>,
    acc: &mut [Rows; TOKENS],
) {
    let format = const { Format::of(DType::ALL[DTYPE]).expect("a quantised type") };
    let record = const { if EXACT { 2 * CHUNK } else { CHUNK } };
    let tokens = x.tokens;
    let blocks = panel.len() / format.panel_block();
    assert!(tokens <= TOKENS && blocks * format.panel_block() == panel.len(), "a panel of whole blocks");
    assert!(x.groups.len() == blocks * format.chunks * tokens, "a group for every chunk and token");
    assert!(x.integers.len() == x.groups.len() * record, "integers for every group");
    acc[..tokens].fill(zero());
    let mut records = x.integers.chunks_exact(record).zip(x.groups);
    for block in panel.chunks_exact(format.panel_block()) {
        let head = Head::read::<DTYPE>(block);
        for chunk in 0..format.chunks {
            let w = quads::<DTYPE>(&block[format.quads(chunk)..format.quads(chunk + 1)]);
            let scales = head.chunk::<DTYPE>(block, chunk);
            for (acc, (integers, group)) in acc[..tokens].iter_mut().zip(&mut records) {
                token::<DTYPE, EXACT, DOT>(&w, &scales, integers, group, acc);
            }
        }
    }
}

/// One token and chunk added to `acc`.
#[inline(always)]
fn token<const DTYPE: usize, const EXACT: bool, const DOT: bool>(
    w: &[[int8x16_t; 4]; 8],
    scales: &Scales,
    integers: &[u8],
    group: &Group,
    acc: &mut Rows,
) {
    let format = const { Format::of(DType::ALL[DTYPE]).expect("a quantised type") };
    let quads = 8 / format.groups;
    assert!(integers.len() == if EXACT { 2 * CHUNK } else { CHUNK }, "a record");
    // SAFETY: NEON belongs to the architecture, and dot products come with `DOT`; four quads of 16 bytes begin at
    // each multiple of 16 in the record.
    unsafe {
        let quad4 = |at: usize| vld1q_s8(integers.as_ptr().add(16 * at).cast());
        let mut part = zero();
        for g in 0..format.groups {
            let minus_sum = group.minus_sum[if format.groups == 2 { 1 + g } else { 0 }];
            // The offset of 8-bit types is in the weights already.
            let offset = if format.bits == 8 { 0 } else { format.offset };
            let dot = |first: usize, start: i32| -> [int32x4_t; 4] {
                let mut sums: Sums = [vdupq_n_s32(0); 8];
                for i in (g * quads..(g + 1) * quads).step_by(4) {
                    let a = quad4(first + i / 4);
                    add_quad::<DOT, 0>(&mut sums, &w[i], a);
                    add_quad::<DOT, 1>(&mut sums, &w[i + 1], a);
                    add_quad::<DOT, 2>(&mut sums, &w[i + 2], a);
                    add_quad::<DOT, 3>(&mut sums, &w[i + 3], a);
                }
                let start = vdupq_n_s32(start);
                std::array::from_fn(|i| {
                    let sum = if DOT { sums[i] } else { vpaddq_s32(sums[2 * i], sums[2 * i + 1]) };
                    vaddq_s32(sum, start)
                })
            };
            let start = minus_sum.wrapping_mul(offset);
            let sum = if EXACT {
                let (high, low) = (dot(0, 0), dot(2, start));
                std::array::from_fn(|i| vaddq_s32(vshlq_n_s32::<8>(high[i]), low[i]))
            } else {
                dot(0, start)
            };
            let minus_sum = vdupq_n_f32(minus_sum as f32);
            for i in 0..4 {
                let sum = vcvtq_f32_s32(sum[i]);
                part[i] = if g == 0 {
                    vmulq_f32(sum, scales.d[g][i])
                } else {
                    vfmaq_f32(part[i], sum, scales.d[g][i])
                };
                if format.minimum {
                    part[i] = vfmaq_f32(part[i], minus_sum, scales.minus_m[g][i]);
                }
            }
        }
        for (acc, part) in acc.iter_mut().zip(part) {
            *acc = vfmaq_n_f32(*acc, part, group.scale);
        }
    }
}

/// Add the products of one quad of the weights with quad `LANE` of the activations.
///
/// # Safety
/// Dot products are there if `DOT`.
#[inline(always)]
unsafe fn add_quad<const DOT: bool, const LANE: i32>(sums: &mut Sums, w: &[int8x16_t; 4], a: int8x16_t) {
    // SAFETY: NEON belongs to the architecture; the caller promises the rest.
    unsafe {
        if DOT {
            for (sum, w) in sums.iter_mut().zip(w) {
                *sum = sdot::<LANE>(*sum, *w, a);
            }
        } else {
            let a = vreinterpretq_s8_s32(vdupq_laneq_s32::<LANE>(vreinterpretq_s32_s8(a)));
            for (sums, w) in sums.as_chunks_mut::<2>().0.iter_mut().zip(w) {
                sums[0] = vpadalq_s16(sums[0], vmull_s8(vget_low_s8(*w), vget_low_s8(a)));
                sums[1] = vpadalq_s16(sums[1], vmull_high_s8(*w, a));
            }
        }
    }
}

/// `sum[row] += Σ_i w[4 · row + i] · a[4 · LANE + i]`; the intrinsic is not stable.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn sdot<const LANE: i32>(mut sum: int32x4_t, w: int8x16_t, a: int8x16_t) -> int32x4_t {
    // SAFETY: arithmetic on registers.
    unsafe {
        asm!(
            "sdot {sum:v}.4s, {w:v}.16b, {a:v}.4b[{lane}]",
            sum = inout(vreg) sum,
            w = in(vreg) w,
            a = in(vreg) a,
            lane = const LANE,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}

/// Four half-precision numbers; the intrinsic is not stable, the instruction belongs to the architecture.
#[inline(always)]
fn from_half(half: uint16x4_t) -> float32x4_t {
    let single: float32x4_t;
    // SAFETY: arithmetic on registers.
    unsafe {
        asm!(
            "fcvtl {single:v}.4s, {half:v}.4h",
            single = out(vreg) single,
            half = in(vreg) half,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    single
}

/// The scales of a block in f32.
struct Head {
    d: Rows,
    m: Rows,
}

/// The scales of a chunk's groups: `value = d · (u − offset) − minus_m`.
struct Scales {
    d: [Rows; 2],
    minus_m: [Rows; 2],
}

impl Head {
    #[inline(always)]
    fn read<const DTYPE: usize>(block: &[u8]) -> Self {
        let format = const { Format::of(DType::ALL[DTYPE]).expect("a quantised type") };
        assert!(block.len() == format.panel_block(), "a block");
        let half = |at: usize| -> Rows {
            // SAFETY: a block begins with 16 half-precision numbers, and with 32 if it has minima.
            std::array::from_fn(|i| unsafe { from_half(vld1_u16(block.as_ptr().add(at + 8 * i).cast())) })
        };
        Self { d: half(0), m: if format.minimum { half(Format::MINIMA) } else { zero() } }
    }

    #[inline(always)]
    fn chunk<const DTYPE: usize>(&self, block: &[u8], chunk: usize) -> Scales {
        let format = const { Format::of(DType::ALL[DTYPE]).expect("a quantised type") };
        if !format.two_level() {
            // SAFETY: NEON belongs to the architecture.
            let minus_m = if format.minimum { self.m.map(|m| unsafe { vnegq_f32(m) }) } else { self.m };
            return Scales { d: [self.d; 2], minus_m: [minus_m; 2] };
        }
        assert!(block.len() == format.panel_block() && chunk < format.chunks, "a chunk of a block");
        let sub = |factor: &Rows, row: usize| -> Rows {
            // SAFETY: the sub-scales of a chunk lie inside the block, 16 bytes each.
            unsafe {
                let bytes = vld1q_s8(block.as_ptr().add(format.sub_scales(chunk) + row * PANEL).cast());
                let (low, high) = (vmovl_s8(vget_low_s8(bytes)), vmovl_high_s8(bytes));
                let words = [
                    vmovl_s16(vget_low_s16(low)),
                    vmovl_high_s16(low),
                    vmovl_s16(vget_low_s16(high)),
                    vmovl_high_s16(high),
                ];
                std::array::from_fn(|i| vmulq_f32(factor[i], vcvtq_f32_s32(words[i])))
            }
        };
        let d = |g: usize| sub(&self.d, g);
        let minus_m = |g: usize| if format.minimum { sub(&self.m, format.groups + g) } else { self.m };
        let last = format.groups - 1;
        Scales { d: [d(0), d(last)], minus_m: [minus_m(0), minus_m(last)] }
    }
}

/// The integers of a chunk as signed bytes: as they are, but for 8-bit types less 128.
#[inline(always)]
fn quads<const DTYPE: usize>(bytes: &[u8]) -> [[int8x16_t; 4]; 8] {
    let format = const { Format::of(DType::ALL[DTYPE]).expect("a quantised type") };
    assert!(bytes.len() == format.bits * 64, "a chunk");
    // SAFETY: NEON belongs to the architecture; a chunk has `bits` lines of 64 bytes.
    unsafe {
        let load = |line: usize, i: usize| vld1q_u8(bytes.as_ptr().add(64 * line + 16 * i));
        let mut w = [[vdupq_n_s8(0); 4]; 8];
        for i in 0..4 {
            if format.bits == 8 {
                for (line, w) in w.iter_mut().enumerate() {
                    w[i] = vreinterpretq_s8_u8(veorq_u8(load(line, i), vdupq_n_u8(0x80)));
                }
                continue;
            }
            let mut u = [vdupq_n_u8(0); 8];
            for line in 0..4 {
                let both = load(line, i);
                (u[line], u[line + 4]) = (vandq_u8(both, vdupq_n_u8(15)), vshrq_n_u8::<4>(both));
            }
            if format.bits == 6 {
                let two = vdupq_n_u8(0x30);
                for h in 0..2 {
                    let pairs = load(4 + h, i);
                    let u = &mut u[4 * h..4 * h + 4];
                    u[0] = vorrq_u8(u[0], vandq_u8(vshlq_n_u8::<4>(pairs), two));
                    u[1] = vorrq_u8(u[1], vandq_u8(vshlq_n_u8::<2>(pairs), two));
                    u[2] = vorrq_u8(u[2], vandq_u8(pairs, two));
                    u[3] = vorrq_u8(u[3], vandq_u8(vshrq_n_u8::<2>(pairs), two));
                }
            }
            for (w, u) in w.iter_mut().zip(u) {
                w[i] = vreinterpretq_s8_u8(u);
            }
        }
        w
    }
}
