//! AMX for machines that lack it, so that every x86-64 machine can run the tests of the AMX kernels.
//!
//! Where there is no AMX, its instructions raise an invalid-opcode fault. [`install`] answers the signal that Linux
//! makes of it: it decodes the instruction at the fault, does its work on tiles in thread-local memory, and goes on
//! behind it. The program under test is the very same machine code that AMX would run.
//!
//! What is checked along the way is what the hardware checks: tiles must be configured, shapes must fit, operands
//! must differ. Whatever else faults goes on to the system and ends the process, as it would without us.
//!
//! Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, chapters "TDPBF16PS", "TDPBSSD",
//! "TILELOADD" and so on, and volume 1, chapter 18 (tile configuration). A few microseconds an instruction.
use libc::{c_int, c_void, siginfo_t, ucontext_t};
use std::cell::UnsafeCell;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

/// One tile: 16 rows of 64 bytes, and the part of it that is configured.
#[derive(Clone, Copy)]
struct Tile {
    rows: usize,
    row_bytes: usize,
    data: [[u8; 64]; 16],
}

/// A thread's tiles. All shapes are 0 until a configuration is loaded.
struct Tiles {
    palette: u8,
    tiles: [Tile; 8],
}

const NO_TILE: Tile = Tile { rows: 0, row_bytes: 0, data: [[0; 64]; 16] };

thread_local! {
    // No destructor and a constant start: safe to reach from a signal handler.
    static TILES: UnsafeCell<Tiles> = const { UnsafeCell::new(Tiles { palette: 0, tiles: [NO_TILE; 8] }) };
}

/// Instructions answered so far.
static ANSWERED: AtomicU64 = AtomicU64::new(0);

/// How many instructions of this process were answered so far.
pub(crate) fn answered() -> u64 {
    ANSWERED.load(Ordering::Relaxed)
}

/// Answer AMX instructions of this process from now on, if it cannot run them itself.
pub(crate) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: a zeroed sigaction is a valid one, and the handler has the form that SA_SIGINFO asks for.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_invalid_opcode as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO;
            assert_eq!(
                libc::sigaction(libc::SIGILL, &raw const action, std::ptr::null_mut()),
                0,
                "sigaction"
            );
        }
    });
}

extern "C" fn on_invalid_opcode(_signal: c_int, _info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the system passes the context of the fault; the bytes at its instruction pointer have just been
    // fetched as code, and code never ends where a tile instruction ends.
    unsafe {
        let registers = &mut (*context.cast::<ucontext_t>()).uc_mcontext.gregs;
        let mut done = 0;
        // A fault costs far more than an instruction: take in those that follow directly.
        loop {
            let code = std::slice::from_raw_parts(registers[libc::REG_RIP as usize] as *const u8, 11);
            let Some(length) = TILES.with(|tiles| step(&mut *tiles.get(), code, registers)) else { break };
            registers[libc::REG_RIP as usize] += length as i64;
            done += 1;
        }
        ANSWERED.fetch_add(done, Ordering::Relaxed);
        if done == 0 {
            // Not ours, or used wrongly: fault again, this time for good.
            libc::signal(libc::SIGILL, libc::SIG_DFL);
        }
    }
}

/// The registers of the context in the order of their encoding.
const GENERAL: [c_int; 16] = [
    libc::REG_RAX,
    libc::REG_RCX,
    libc::REG_RDX,
    libc::REG_RBX,
    libc::REG_RSP,
    libc::REG_RBP,
    libc::REG_RSI,
    libc::REG_RDI,
    libc::REG_R8,
    libc::REG_R9,
    libc::REG_R10,
    libc::REG_R11,
    libc::REG_R12,
    libc::REG_R13,
    libc::REG_R14,
    libc::REG_R15,
];

/// A memory operand: where it begins, the index register's value (the distance of rows, for tiles), and the length
/// of its encoding, `ModRM` included.
struct Operand {
    base: usize,
    index: Option<usize>,
    length: usize,
}

/// Decode `ModRM`, SIB and displacement. `x` and `b` are the register extensions of the VEX prefix.
fn operand(code: &[u8], x: u8, b: u8, registers: &[i64]) -> Option<Operand> {
    let register = |number: u8| registers[GENERAL[number as usize] as usize] as usize;
    let (mode, rm) = (code[0] >> 6, code[0] & 7);
    let (mut base, mut index, mut at) = (0, None, 1);
    let mut displacement_only = false;
    if rm == 4 {
        let sib = code[1];
        at = 2;
        let number = ((sib >> 3) & 7) | (x << 3);
        if number != 4 {
            index = Some(register(number) << (sib >> 6));
        }
        displacement_only = mode == 0 && sib & 7 == 5;
        if !displacement_only {
            base = register((sib & 7) | (b << 3));
        }
    } else if mode == 0 && rm == 5 {
        return None; // relative to the instruction pointer: no tile instruction here is written so
    } else {
        base = register(rm | (b << 3));
    }
    if mode == 1 {
        base = base.wrapping_add_signed(code[at] as i8 as isize);
        at += 1;
    } else if mode == 2 || displacement_only {
        let bytes = code[at..at + 4].try_into().ok()?;
        base = base.wrapping_add_signed(i32::from_le_bytes(bytes) as isize);
        at += 4;
    }
    Some(Operand { base, index, length: at })
}

/// Do one instruction and return its length; `None` if it is none of AMX's or the hardware would refuse it.
///
/// # Safety
/// The memory operand of the instruction must be what the instruction needs: as for the instruction itself.
unsafe fn step(state: &mut Tiles, code: &[u8], registers: &[i64]) -> Option<usize> {
    // The three-byte VEX prefix, opcode map 0F38, 128 bits, W0.
    if code[0] != 0xC4 || code[1] & 0x1F != 2 || code[2] & 0x84 != 0 {
        return None;
    }
    let (x, b) = ((!code[1] >> 6) & 1, (!code[1] >> 5) & 1);
    let (prefix, vvvv, opcode, modrm) = (code[2] & 3, (!code[2] >> 3) & 15, code[3], code[4]);
    let (is_memory, reg, rm) = (modrm >> 6 != 3, (modrm >> 3) as usize & 7, modrm as usize & 7);
    let memory = || operand(&code[4..], x, b, registers);
    // Prefixes: 0 none, 1 66, 2 F3, 3 F2.
    match (opcode, prefix) {
        (0x49, 0) if is_memory && reg == 0 => {
            let memory = memory()?;
            let at = memory.base.wrapping_add(memory.index.unwrap_or(0));
            // SAFETY: the operand of ldtilecfg is 64 bytes.
            configure(state, unsafe { &*(at as *const [u8; 64]) })?;
            Some(4 + memory.length)
        }
        (0x49, 0) if modrm == 0xC0 => {
            *state = Tiles { palette: 0, tiles: [NO_TILE; 8] };
            Some(5)
        }
        (0x49, 3) if !is_memory && rm == 0 => {
            shaped(state, reg)?.data = [[0; 64]; 16];
            Some(5)
        }
        (0x4B, 1..=3) if is_memory && rm == 4 => {
            let (memory, tile) = (memory()?, shaped(state, reg)?);
            for row in 0..tile.rows {
                let at = memory.base.wrapping_add(memory.index.unwrap_or(0).wrapping_mul(row)) as *mut u8;
                let inside = &mut tile.data[row][..tile.row_bytes];
                // SAFETY: rows of `row_bytes` bytes, `index` bytes apart, are the operand of a load or store.
                unsafe {
                    if prefix == 2 {
                        std::ptr::copy_nonoverlapping(inside.as_ptr(), at, inside.len());
                    } else {
                        std::ptr::copy_nonoverlapping(at, inside.as_mut_ptr(), inside.len());
                    }
                }
            }
            // A load clears what the configuration leaves out of the tile; nothing here ever sets it.
            Some(4 + memory.length)
        }
        (0x5C, 2) if !is_memory => {
            let (a, b) = factors(state, reg, rm, vvvv)?;
            dot_bf16(&mut state.tiles[reg], &a, &b);
            Some(5)
        }
        (0x5E, _) if !is_memory => {
            let (a, b) = factors(state, reg, rm, vvvv)?;
            // none: u·u, 66: u·s, F3: s·u, F2: s·s
            dot_int8(&mut state.tiles[reg], &a, &b, prefix & 2 != 0, prefix & 1 != 0);
            Some(5)
        }
        _ => None,
    }
}

/// Load a configuration: palette 1 has eight tiles of at most 16 rows of 64 bytes.
fn configure(state: &mut Tiles, bytes: &[u8; 64]) -> Option<()> {
    let mut next = Tiles { palette: bytes[0], tiles: [NO_TILE; 8] };
    if bytes[0] > 1 || bytes[1] != 0 || bytes[2..16].iter().chain(&bytes[32..48]).any(|&byte| byte != 0) {
        return None;
    }
    for (number, tile) in next.tiles.iter_mut().enumerate() {
        tile.row_bytes = usize::from(u16::from_le_bytes([bytes[16 + 2 * number], bytes[17 + 2 * number]]));
        tile.rows = usize::from(bytes[48 + number]);
        if tile.rows > 16 || tile.row_bytes > 64 || (tile.rows == 0) != (tile.row_bytes == 0) {
            return None;
        }
    }
    *state = next;
    Some(())
}

/// A tile that may be used.
fn shaped(state: &mut Tiles, number: usize) -> Option<&mut Tile> {
    (state.palette == 1 && state.tiles[number].rows > 0).then(|| &mut state.tiles[number])
}

/// The two factors of a product into tile `sum`, if the shapes fit.
fn factors(state: &mut Tiles, sum: usize, a: usize, b: u8) -> Option<(Tile, Tile)> {
    let b = usize::from(b);
    if b > 7 || sum == a || sum == b || a == b {
        return None;
    }
    let (a, b, c) = (*shaped(state, a)?, *shaped(state, b)?, shaped(state, sum)?);
    let whole = [a.row_bytes, b.row_bytes, c.row_bytes].iter().all(|bytes| bytes.is_multiple_of(4));
    (whole && c.rows == a.rows && c.row_bytes == b.row_bytes && a.row_bytes / 4 == b.rows).then_some((a, b))
}

fn word(row: &[u8; 64], number: usize) -> [u8; 4] {
    row.as_chunks::<4>().0[number]
}

/// `c[m][n] += Σ_k a[m][2k]·b[k][2n] + a[m][2k + 1]·b[k][2n + 1]`. The even and the odd products are summed apart, by
/// fused multiply-adds; subnormal inputs and results are zero.
fn dot_bf16(c: &mut Tile, a: &Tile, b: &Tile) {
    #[target_feature(enable = "avx2,fma")]
    fn with_fma(c: &mut Tile, a: &Tile, b: &Tile) {
        dot_bf16_anywhere(c, a, b);
    }
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: just asked for. The same arithmetic, without calling a library for every fused operation.
        unsafe { with_fma(c, a, b) }
    } else {
        dot_bf16_anywhere(c, a, b);
    }
}

#[inline(always)]
fn dot_bf16_anywhere(c: &mut Tile, a: &Tile, b: &Tile) {
    let flush = |x: f32| if x.abs() < f32::MIN_POSITIVE { 0.0_f32.copysign(x) } else { x };
    let low = |word: u32| flush(f32::from_bits(word << 16));
    let high = |word: u32| flush(f32::from_bits(word & 0xffff_0000));
    let words = |row: &[u8; 64]| -> [u32; 16] { std::array::from_fn(|n| u32::from_le_bytes(word(row, n))) };
    let right: [[u32; 16]; 16] = std::array::from_fn(|k| words(&b.data[k]));
    let (lows, highs) = (right.map(|row| row.map(low)), right.map(|row| row.map(high)));
    for m in 0..c.rows {
        let (mut even, mut odd) = ([0.0_f32; 16], [0.0_f32; 16]);
        let left = words(&a.data[m]);
        for k in 0..b.rows {
            let (x0, x1) = (low(left[k]), high(left[k]));
            for n in 0..16 {
                even[n] = flush(x0.mul_add(lows[k][n], even[n]));
                odd[n] = flush(x1.mul_add(highs[k][n], odd[n]));
            }
        }
        for n in 0..c.row_bytes / 4 {
            let old = flush(f32::from_le_bytes(word(&c.data[m], n)));
            let sum = flush(old + flush(even[n] + odd[n]));
            c.data[m][4 * n..4 * n + 4].copy_from_slice(&sum.to_le_bytes());
        }
    }
}

/// `c[m][n] += Σ_k Σ_i a[m][4k + i]·b[k][4n + i]`, in 32 bits that wrap around.
fn dot_int8(c: &mut Tile, a: &Tile, b: &Tile, a_signed: bool, b_signed: bool) {
    let read = |byte: u8, signed: bool| if signed { i32::from(byte as i8) } else { i32::from(byte) };
    for m in 0..c.rows {
        for n in 0..c.row_bytes / 4 {
            let mut sum = i32::from_le_bytes(word(&c.data[m], n));
            for k in 0..b.rows {
                let (x, y) = (word(&a.data[m], k), word(&b.data[k], n));
                for i in 0..4 {
                    sum = sum.wrapping_add(read(x[i], a_signed) * read(y[i], b_signed));
                }
            }
            c.data[m][4 * n..4 * n + 4].copy_from_slice(&sum.to_le_bytes());
        }
    }
}
