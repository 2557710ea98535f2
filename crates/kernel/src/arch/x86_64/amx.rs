//! Tiles: AMX with its int8 and bf16 products, beside AVX-512 (Sapphire Rapids and later), on Linux.
//!
//! A tile is up to 16 rows of 64 bytes; one instruction multiplies two of them, 16 384 int8 or 8 192 bf16
//! multiply-adds. The intrinsics are not stable, the assembler is: all tile instructions here are `asm!`.
//! Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1, chapter 18.
mod attention;
mod ceilings;
mod matmul;

use super::avx512::{self, Avx512};
use crate::activations::{Operand, Quantise};
use crate::attention::{Mix, Scores, Weights};
use crate::ceilings::Arithmetic;
use crate::matmul::Matmul;
use crate::quantised::{DequantiseHead, QuantiseHead};
use crate::{Kernels, KvFormat, Precision};
use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
use std::marker::PhantomData;

/// Proof that this machine has AMX-TILE, AMX-INT8 and AMX-BF16, that Linux lets this process use them, and that it
/// has everything [`super::avx512`] asks for.
#[derive(Debug)]
pub(crate) struct Amx(());

static TOKEN: Amx = Amx(());

/// What tiles do not do.
static VECTORS: &Avx512 = &avx512::TOKEN;

impl Amx {
    /// The token, if the CPU and the system allow it.
    pub(crate) fn detect() -> Option<&'static Self> {
        (Avx512::detect().is_some() && has_instructions() && has_permission()).then_some(&TOKEN)
    }

    /// The token without asking for AMX; AVX-512 is still asked for.
    ///
    /// # Safety
    /// Something answers AMX instructions in this process: the CPU, or an emulator.
    pub(crate) unsafe fn unchecked() -> Option<&'static Self> {
        Avx512::detect().map(|_| &TOKEN)
    }
}

/// The CPU has the instructions and the system keeps the tiles of its threads apart.
fn has_instructions() -> bool {
    const TILE_INT8_BF16: u32 = 1 << 24 | 1 << 25 | 1 << 22;
    const OSXSAVE: u32 = 1 << 27;
    const TILE_STATE: u64 = 1 << 17 | 1 << 18;
    /// # Safety
    /// The system has enabled XSAVE.
    #[target_feature(enable = "xsave")]
    unsafe fn enabled_state() -> u64 {
        // SAFETY: register 0 exists wherever XSAVE is enabled.
        unsafe { _xgetbv(0) }
    }
    __cpuid(0).eax >= 7
        && __cpuid_count(7, 0).edx & TILE_INT8_BF16 == TILE_INT8_BF16
        && __cpuid(1).ecx & OSXSAVE != 0
        // SAFETY: OSXSAVE says that the system has enabled XSAVE.
        && unsafe { enabled_state() } & TILE_STATE == TILE_STATE
}

/// Ask Linux (5.16 on) for the tiles' 8 kB of state in this process; once given, it stays (arch/x86/xstate in the
/// kernel's documentation).
fn has_permission() -> bool {
    const SYS_ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
    const XFEATURE_XTILEDATA: u64 = 18;
    let refused: i64;
    // SAFETY: a system call that takes two numbers; it changes rcx and r11, as all do.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") SYS_ARCH_PRCTL => refused,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XFEATURE_XTILEDATA,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    refused == 0
}

/// The shapes of the eight tiles, as `ldtilecfg` reads them.
#[repr(C, align(64))]
pub(super) struct Shapes([u8; 64]);

impl Shapes {
    /// Palette 1; `(rows, bytes in a row)` of tiles 0 to 7.
    pub(super) const fn new(tiles: [(u8, u8); 8]) -> Self {
        let mut bytes = [0; 64];
        bytes[0] = 1;
        let mut tile = 0;
        while tile < 8 {
            let (rows, row_bytes) = tiles[tile];
            assert!(rows <= 16 && row_bytes <= 64);
            bytes[16 + 2 * tile] = row_bytes;
            bytes[48 + tile] = rows;
            tile += 1;
        }
        Self(bytes)
    }
}

/// The tiles of this thread while they have shapes. They are let go on drop, for a thread with live tiles is slower
/// to switch away from.
pub(super) struct Tiles(PhantomData<*const ()>);

impl Tiles {
    /// Give this thread's tiles their shapes.
    pub(super) fn shape(_: &Amx, shapes: &'static Shapes) -> Self {
        // SAFETY: the token says that the instruction is there, and `Shapes::new` made a valid operand.
        unsafe { asm!("ldtilecfg [{}]", in(reg) shapes, options(nostack, readonly, preserves_flags)) }
        Self(PhantomData)
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: that `self` exists says that the instruction is there; no Rust code keeps anything in tiles.
        unsafe {
            asm!(
                "tilerelease",
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nomem, nostack, preserves_flags),
            );
        }
    }
}

impl Kernels for Amx {
    fn name(&self) -> &'static str {
        "amx"
    }

    fn operand(&self, _precision: Precision) -> Operand {
        Operand::Bytes
    }

    fn quantise(&self, block: &mut Quantise<'_>) {
        VECTORS.quantise(block);
    }

    fn matmul(&self, task: Matmul<'_>) {
        // SAFETY: the token proves the instructions.
        unsafe { matmul::matmul(self, task) }
    }

    fn query_rows(&self, format: KvFormat) -> bool {
        format == KvFormat::Bf16
    }

    fn scores(&self, scores: &mut Scores<'_>) {
        match scores.format {
            KvFormat::F32 | KvFormat::Int8 => VECTORS.scores(scores),
            KvFormat::Bf16 => attention::scores(self, scores),
        }
    }

    fn weights(&self, weights: &mut Weights<'_>) {
        VECTORS.weights(weights);
    }

    fn mix(&self, mix: &mut Mix<'_>) {
        match mix.format {
            KvFormat::F32 | KvFormat::Int8 => VECTORS.mix(mix),
            KvFormat::Bf16 => attention::mix(self, mix),
        }
    }

    fn blend(&self, x: &mut [f32], a: f32, y: &[f32], b: f32) {
        VECTORS.blend(x, a, y, b);
    }

    fn scale(&self, x: &[f32], factor: f32, out: &mut [f32]) {
        VECTORS.scale(x, factor, out);
    }

    fn pack_pairs(&self, x: &[f32], factor: f32, words: &mut [u32]) {
        VECTORS.pack_pairs(x, factor, words);
    }

    fn pack_query(&self, x: &[f32], factor: f32, words: &mut [u32]) -> (f32, bool) {
        VECTORS.pack_query(x, factor, words)
    }

    fn rms_norm(&self, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
        VECTORS.rms_norm(x, weight, eps, out);
    }

    fn layer_norm(&self, x: &mut [f32], weight: &[f32], bias: &[f32], eps: f32) {
        VECTORS.layer_norm(x, weight, bias, eps);
    }

    fn gelu(&self, x: &mut [f32]) {
        VECTORS.gelu(x);
    }

    fn swiglu(&self, gate: &mut [f32], up: &[f32]) {
        VECTORS.swiglu(gate, up);
    }

    fn add(&self, x: &mut [f32], y: &[f32]) {
        VECTORS.add(x, y);
    }

    fn log_mass(&self, x: &[f32], scale: f32) -> f32 {
        VECTORS.log_mass(x, scale)
    }

    fn rope(&self, row: &mut [f32], head_dim: usize, cos: &[f32], sin: &[f32]) {
        VECTORS.rope(row, head_dim, cos, sin);
    }

    fn quantise_kv(&self, head: &mut QuantiseHead<'_>) {
        VECTORS.quantise_kv(head);
    }

    fn dequantise_kv(&self, head: &mut DequantiseHead<'_>) {
        VECTORS.dequantise_kv(head);
    }

    fn burn(&self, arithmetic: Arithmetic, rounds: usize) -> Option<usize> {
        match arithmetic {
            Arithmetic::F32 => VECTORS.burn(arithmetic, rounds),
            _ => ceilings::burn(self, arithmetic, rounds),
        }
    }
}
