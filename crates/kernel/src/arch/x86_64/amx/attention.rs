//! The two products of attention on tiles. The layouts of [`crate::KvBlock`] are those of a product's right side:
//! a tile of 16 steps is a group of sixteen keys, or a line of values.
use super::{Amx, Shapes, Tiles};
use crate::attention::{Mix, STRIP, Scores};
use crate::lines::LINE;
use crate::{BLOCK_TOKENS, KvFormat};
use std::arch::asm;
use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};

/// Steps of a whole tile: 16 words, 32 bf16.
const STEPS: usize = 16;
const LINE_BYTES: usize = 4 * LINE;

/// For 1 to [`STRIP`] rows: tiles 0–3 are sums, 4 and 5 the left side of 16 and of 8 steps, 6 and 7 the right side
/// of 16 and of 8 steps.
static SHAPES: [Shapes; STRIP] = {
    const fn shapes(rows: u8) -> Shapes {
        let sums = (rows, 64);
        Shapes::new([sums, sums, sums, sums, (rows, 64), (rows, 32), (16, 64), (8, 64)])
    }
    let mut all = [const { shapes(1) }; STRIP];
    let mut rows = 1;
    while rows < STRIP {
        all[rows] = shapes(rows as u8 + 1);
        rows += 1;
    }
    all
};

/// [`crate::Kernels::scores`] of bf16.
pub(super) fn scores(amx: &Amx, call: &mut Scores<'_>) {
    let steps = call.queries.len() / STRIP;
    let (whole, rest) = (steps / STEPS, steps % STEPS);
    let group = steps * LINE;
    let groups = call.keys.len() / group;
    assert!(call.format == KvFormat::Bf16 && (rest == 0 || rest == STEPS / 2), "{steps} steps");
    assert!((1..=STRIP).contains(&call.rows) && groups > 0 && call.keys.len() == groups * group, "keys");
    assert!(call.out.len() >= (call.rows - 1) * BLOCK_TOKENS + groups * LINE, "scores");
    let _tiles = Tiles::shape(amx, &SHAPES[call.rows - 1]);
    for number in 0..groups {
        let keys = &call.keys[number * group..][..group];
        let out = &mut call.out[number * LINE..];
        fetch(call.ahead.pair(number / 2, number * group, keys.as_ptr()), keys.as_ptr(), LINE, steps);
        // SAFETY: `Tiles` says that the instructions are there and the shapes set. The left side is `rows` rows,
        // `4 · steps` bytes apart, within the queries; the right side is `steps` lines, all of `keys`; the result
        // `rows` rows within `out`, by the assertions. Whole tiles are read `whole` times, 64 bytes and 16 lines
        // further each time, then half a tile if `rest` says so.
        unsafe {
            asm!(
                "tilezero tmm0",
                "test {whole}, {whole}",
                "jz 3f",
                "2:",
                "tileloadd tmm4, [{left} + {left_stride}]",
                "tileloadd tmm6, [{right} + {right_stride}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "add {left}, 64",
                "add {right}, 1024",
                "dec {whole}",
                "jnz 2b",
                "3:",
                "test {rest}, {rest}",
                "jz 4f",
                "tileloadd tmm5, [{left} + {left_stride}]",
                "tileloadd tmm7, [{right} + {right_stride}]",
                "tdpbf16ps tmm0, tmm5, tmm7",
                "4:",
                "tilestored [{out} + {out_stride}], tmm0",
                whole = inout(reg) whole => _,
                rest = in(reg) rest,
                left = inout(reg) call.queries.as_ptr() => _,
                left_stride = in(reg) 4 * steps,
                right = inout(reg) keys.as_ptr() => _,
                right_stride = in(reg) LINE_BYTES,
                out = in(reg) out.as_mut_ptr(),
                out_stride = in(reg) 4 * BLOCK_TOKENS,
                out("tmm0") _, out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }
}

/// [`crate::Kernels::mix`] of bf16. The groups of tokens come in pairs, hence whole tiles.
pub(super) fn mix(amx: &Amx, call: &mut Mix<'_>) {
    let steps = call.values.len() / (call.lines * LINE);
    let tiles = steps / STEPS;
    assert!(call.format == KvFormat::Bf16 && tiles > 0 && steps.is_multiple_of(STEPS), "{steps} steps");
    assert!((1..=STRIP).contains(&call.rows) && call.values.len() == steps * call.lines * LINE, "values");
    assert!(call.weights.len() >= (call.rows - 1) * BLOCK_TOKENS + steps, "weights");
    assert!(call.lines * LINE <= call.width, "lines");
    assert!(call.out.len() >= (call.rows - 1) * call.width + call.lines * LINE, "sums");
    for (row, rescale) in call.out.chunks_mut(call.width).zip(&call.rescale[..call.rows]) {
        // Sixteen at a time, for the compiler to see vectors.
        for line in row[..call.lines * LINE].as_chunks_mut::<LINE>().0 {
            for sum in line {
                *sum *= rescale;
            }
        }
    }
    let _tiles = Tiles::shape(amx, &SHAPES[call.rows - 1]);
    for line in 0..call.lines {
        let (values, out) = (&call.values[line * LINE..], &mut call.out[line * LINE..]);
        let ahead = call.ahead.pair(line / 2, line * LINE, values.as_ptr());
        fetch(ahead, values.as_ptr(), call.lines * LINE, steps);
        // SAFETY: as in `scores`: the left side is `rows` rows within `weights`, the right side every `lines`-th
        // line of `values`, the sums `rows` rows within `out`. There is at least one tile.
        unsafe {
            asm!(
                "tileloadd tmm0, [{out} + {out_stride}]",
                "2:",
                "tileloadd tmm4, [{left} + {left_stride}]",
                "tileloadd tmm6, [{right} + {right_stride}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "add {left}, 64",
                "add {right}, {right_step}",
                "dec {tiles}",
                "jnz 2b",
                "tilestored [{out} + {out_stride}], tmm0",
                tiles = inout(reg) tiles => _,
                left = inout(reg) call.weights.as_ptr() => _,
                left_stride = in(reg) 4 * BLOCK_TOKENS,
                right = inout(reg) values.as_ptr() => _,
                right_stride = in(reg) LINE_BYTES * call.lines,
                right_step = in(reg) STEPS * LINE_BYTES * call.lines,
                out = in(reg) out.as_mut_ptr(),
                out_stride = in(reg) 4 * call.width,
                out("tmm0") _, out("tmm4") _, out("tmm6") _,
                options(nostack),
            );
        }
    }
}

/// Ask for the lines, `stride` words apart, that the next block has from `ahead` on; not if that is `here`.
fn fetch(ahead: *const u32, here: *const u32, stride: usize, lines: usize) {
    if ahead != here {
        for line in 0..lines {
            // SAFETY: any address may be asked for; the instruction is as old as the architecture.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(ahead.wrapping_add(line * stride).cast()) };
        }
    }
}
