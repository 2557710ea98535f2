//! Products with byte tiles (`tdpbsud`): i8 activations times u8 weights into i32.
//!
//! A block of activations and a panel of weights are tiles as they lie: 16 tokens' bytes of one chunk, and the
//! chunk's quads. One instruction does what the AVX-512 kernels need 128 for:
//! ```text
//! for each pair of blocks of 16 tokens, each panel of 16 rows:
//!     acc[token] = 0
//!     for each chunk of 32 k:
//!         quads = the chunk's integers, as unsigned bytes             shared by both blocks
//!         high  = a_high · quads,  low = a_low · quads                tiles [16 tokens, 16 rows], through memory
//!         then, with the sums of the chunk before, as in AVX-512:
//!         acc[token] += d · f32(high · 256 + low − offset · Σ a) · scale[token]   (+ minima)
//! ```
//! Sums of bytes are exact, and scales are applied by the very functions of the AVX-512 kernels in the same order:
//! the two sets give the same bits, so that few tokens may take the path without tiles. Rounding weights to bf16
//! would let tiles sum over many chunks, three times faster in Fast; it would also make the bits of a token depend on
//! how many come with it, or a single token as slow as sixteen.
use super::super::avx512::matmul::{self as vectors, Head, offset, quads, scaled};
use super::{Amx, Shapes, Tiles};
use crate::activations::{Block, TOKENS};
use crate::block::{CHUNK, Format};
use crate::matmul::Matmul;
use crate::packed::PANEL;
use crate::{DType, Precision};
use std::arch::asm;
use std::arch::x86_64::*;

/// Tokens in the last block from which on tiles pay: below, filling and storing them takes longer than the products
/// of vectors.
const FEWEST: usize = 4;

/// Blocks that share unpacked weights.
const TOGETHER: usize = 2;

/// Bytes of a chunk's unpacked integers.
const QUADS: usize = CHUNK * PANEL;

/// For one or two groups in a chunk and 1 to [`TOKENS`] tokens: tiles 0 and 1 are sums, 4 and 5 activations, 6 weights.
static SHAPES: [[Shapes; TOKENS]; 2] = {
    const fn shapes(group: u8, tokens: u8) -> Shapes {
        let (sums, none) = ((tokens, 64), (0, 0));
        Shapes::new([sums, sums, none, none, (tokens, group), (tokens, group), (group / 4, 64), none])
    }
    let mut all = [const { [const { shapes(32, 1) }; TOKENS] }; 2];
    let mut tokens = 1;
    while tokens <= TOKENS {
        all[0][tokens - 1] = shapes(32, tokens as u8);
        all[1][tokens - 1] = shapes(16, tokens as u8);
        tokens += 1;
    }
    all
};

/// Sums of one group of a chunk over one block: `[high, low][tokens][rows]`.
type Sums = [[[i32; PANEL]; TOKENS]; 2];

/// What tiles read and write besides panels and activations.
#[repr(C, align(64))]
struct Scratch {
    quads: [u8; QUADS],
    /// Of this chunk and the one before, of each block, of each group.
    sums: [[[Sums; 2]; TOGETHER]; 2],
}

/// The products of one task.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,f16c")]
pub(super) fn matmul(amx: &Amx, mut task: Matmul<'_>) {
    let Some(format) = Format::of(task.weights.dtype()) else {
        return vectors::matmul(task);
    };
    let mut scratch = Scratch { quads: [0; QUADS], sums: [[[[[[0; PANEL]; TOKENS]; 2]; 2]; TOGETHER]; 2] };
    let last = task.activations.block(task.blocks.end - 1).tokens;
    // The last block by itself if it is not full.
    let full = task.blocks.end - usize::from(last < TOKENS);
    if task.blocks.start < full {
        let _tiles = Tiles::shape(amx, &SHAPES[format.groups - 1][TOKENS - 1]);
        for first in (task.blocks.start..full).step_by(TOGETHER) {
            for panel in task.panels.clone() {
                if first + TOGETHER <= full {
                    blocks::<TOGETHER>(&mut task, panel, first, &mut scratch);
                } else {
                    blocks::<1>(&mut task, panel, first, &mut scratch);
                }
            }
        }
    }
    if last < FEWEST {
        let skip = (full - task.blocks.start) * TOKENS;
        vectors::matmul(Matmul { blocks: full..task.blocks.end, out: task.out.below(skip), ..task });
    } else if last < TOKENS {
        let _tiles = Tiles::shape(amx, &SHAPES[format.groups - 1][last - 1]);
        for panel in task.panels.clone() {
            blocks::<1>(&mut task, panel, full, &mut scratch);
        }
    }
}

/// One panel times `N` blocks from `first` on. The thread's tiles must have the shapes of as many tokens.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,f16c")]
fn blocks<const N: usize>(task: &mut Matmul<'_>, panel: usize, first: usize, scratch: &mut Scratch) {
    let (weights, activations) = (task.weights, task.activations);
    let x: [Block<'_>; N] = std::array::from_fn(|n| activations.block(first + n));
    let mut acc = [[_mm512_setzero_ps(); TOKENS]; N];
    macro_rules! with {
        ($dtype:ident) => {
            if activations.precision() == Precision::Exact {
                quantised::<{ DType::$dtype as usize }, true, N>(weights.panel(panel), &x, scratch, &mut acc)
            } else {
                quantised::<{ DType::$dtype as usize }, false, N>(weights.panel(panel), &x, scratch, &mut acc)
            }
        };
    }
    match weights.dtype() {
        DType::F32 | DType::F16 | DType::BF16 => unreachable!("floats take the path without tiles"),
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
    let columns = task.columns(panel);
    let mask = (1_u32 << columns.len()).wrapping_sub(1) as u16;
    for (n, acc) in acc.iter().enumerate() {
        for (token, acc) in acc[..x[n].tokens].iter().enumerate() {
            let row = (first + n - task.blocks.start) * TOKENS + token;
            let out = &mut task.out.row(row)[columns.clone()];
            // SAFETY: the mask lets through as many numbers as `out` has.
            unsafe { _mm512_mask_storeu_ps(out.as_mut_ptr(), mask, *acc) };
        }
    }
}

/// A panel of a quantised type.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,f16c")]
fn quantised<const DTYPE: usize, const EXACT: bool, const N: usize>(
    panel: &[u8],
    x: &[Block<'_>; N],
    scratch: &mut Scratch,
    acc: &mut [[__m512; TOKENS]; N],
) {
    let format = const { Format::of(DType::ALL[DTYPE]).expect("a quantised type") };
    let record = const { if EXACT { 2 * CHUNK } else { CHUNK } };
    let chunks = panel.len() / format.panel_block() * format.chunks;
    assert!(panel.len() == chunks / format.chunks * format.panel_block(), "a panel of whole blocks");
    for x in x {
        assert!(
            x.tokens <= TOKENS && x.groups.len() == chunks * x.tokens,
            "a group for every chunk and token"
        );
        assert!(x.integers.len() == x.groups.len() * record, "integers for every group");
    }
    // The products of a chunk take their time; meanwhile the sums of the one before are scaled.
    for step in 0..=chunks {
        if step < chunks {
            let at = format.quads(step % format.chunks);
            let block = &panel[step / format.chunks * format.panel_block()..][..format.panel_block()];
            let packed = &block[at..at + format.bits * (CHUNK * PANEL / 8)];
            if format.bits < 8 {
                for (line, quad) in
                    scratch.quads.as_chunks_mut::<64>().0.iter_mut().zip(quads::<DTYPE>(packed))
                {
                    // SAFETY: a line is as long as a register.
                    unsafe { _mm512_storeu_si512(line.as_mut_ptr().cast(), quad) };
                }
            }
            let quads = if format.bits < 8 { &scratch.quads[..] } else { packed };
            for (x, sums) in x.iter().zip(&mut scratch.sums[step % 2]) {
                let integers = &x.integers[step * x.tokens * record..][..x.tokens * record];
                for (g, sums) in sums.iter_mut().take(format.groups).enumerate() {
                    let len = CHUNK / format.groups;
                    // SAFETY: the tiles have their shapes. Rows of activations are `record` bytes apart, one for
                    // each token of the block; a group's bytes begin at `g · len` of a row, and its quads, 16 bytes
                    // a number, at `g · len · 16`.
                    unsafe {
                        products::<EXACT>(
                            integers.as_ptr().add(g * len),
                            record,
                            quads.as_ptr().add(g * len * PANEL),
                            sums,
                        );
                    }
                }
            }
        }
        let Some(chunk) = step.checked_sub(1) else { continue };
        let block = &panel[chunk / format.chunks * format.panel_block()..][..format.panel_block()];
        let scales = Head::read::<DTYPE>(block).chunk::<DTYPE>(block, chunk % format.chunks);
        for ((x, sums), acc) in x.iter().zip(&scratch.sums[chunk % 2]).zip(&mut *acc) {
            let groups = &x.groups[chunk * x.tokens..][..x.tokens];
            for ((token, group), acc) in groups.iter().enumerate().zip(&mut *acc) {
                let mut part = _mm512_setzero_ps();
                for (g, sums) in sums.iter().enumerate().take(format.groups) {
                    // SAFETY: a row of sums is as long as a register.
                    let [high, low] =
                        [0, 1].map(|digit| unsafe { _mm512_loadu_si512(sums[digit][token].as_ptr().cast()) });
                    let sum = if EXACT { _mm512_add_epi32(_mm512_slli_epi32::<8>(high), low) } else { high };
                    let sum = _mm512_add_epi32(sum, offset::<DTYPE>(group, g));
                    part = scaled::<DTYPE>(sum, &scales, group, g, part);
                }
                *acc = _mm512_fmadd_ps(part, _mm512_set1_ps(group.scale), *acc);
            }
        }
    }
}

/// The sums of one group: bytes of activations times quads; in Exact also the low bytes, 32 further.
///
/// # Safety
/// This thread's tiles have one of [`SHAPES`]. `integers` are as many rows as it has tokens, `record` bytes apart;
/// `quads` are the lines of one group.
#[inline]
unsafe fn products<const EXACT: bool>(integers: *const u8, record: usize, quads: *const u8, sums: &mut Sums) {
    let out = sums.as_mut_ptr();
    // SAFETY: the caller's promises; sums are two tiles of 16 rows of 64 bytes.
    unsafe {
        if EXACT {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tileloadd tmm6, [{quads} + {line}]",
                "tileloadd tmm4, [{integers} + {record}]",
                "tdpbsud tmm0, tmm4, tmm6",
                "tileloadd tmm5, [{integers} + {record} + 32]",
                "tdpbsud tmm1, tmm5, tmm6",
                "tilestored [{out} + {line}], tmm0",
                "tilestored [{out} + {line} + 1024], tmm1",
                quads = in(reg) quads,
                integers = in(reg) integers,
                record = in(reg) record,
                line = in(reg) 4 * PANEL,
                out = in(reg) out,
                out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm5") _, out("tmm6") _,
                options(nostack, preserves_flags),
            );
        } else {
            asm!(
                "tilezero tmm0",
                "tileloadd tmm6, [{quads} + {line}]",
                "tileloadd tmm4, [{integers} + {record}]",
                "tdpbsud tmm0, tmm4, tmm6",
                "tilestored [{out} + {line}], tmm0",
                quads = in(reg) quads,
                integers = in(reg) integers,
                record = in(reg) record,
                line = in(reg) 4 * PANEL,
                out = in(reg) out,
                out("tmm0") _, out("tmm4") _, out("tmm6") _,
                options(nostack, preserves_flags),
            );
        }
    }
}
