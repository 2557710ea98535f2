//! The emulator of AMX against plain loops, so that what it says of the kernels can be trusted.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]
#![expect(unsafe_code, reason = "runs AMX instructions")]
#[path = "emulator/amx.rs"]
mod emulator;

use half::bf16;
use std::arch::asm;

#[repr(C, align(64))]
struct Bytes<const N: usize>([u8; N]);

/// Tiles 0, 1, 2 as `c[m, n] += a[m, k] · b[k, n]`, `k` in words of 4 bytes.
fn shapes(m: u8, n: u8, k: u8) -> Bytes<64> {
    let mut config = Bytes([0; 64]);
    config.0[0] = 1;
    for (tile, (rows, words)) in [(m, n), (m, k), (k, n)].into_iter().enumerate() {
        config.0[16 + 2 * tile] = 4 * words;
        config.0[48 + tile] = rows;
    }
    config
}

/// Numbers that look random.
fn noise(seed: &mut u32) -> u32 {
    *seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    *seed >> 8
}

macro_rules! product {
    ($name:ident, $instruction:literal) => {
        /// `c += a · b` by one instruction; rows are 64 bytes apart.
        fn $name(config: &Bytes<64>, a: &Bytes<1024>, b: &Bytes<1024>, c: &mut Bytes<1024>) {
            // SAFETY: tiles of at most 16 rows of 64 bytes within the three arrays; the emulator stands by.
            unsafe {
                asm!(
                    "ldtilecfg [{config}]",
                    "tileloadd tmm0, [{c} + {stride}]",
                    "tileloadd tmm1, [{a} + {stride} - 64]",
                    "tileloadd tmm2, [r13 + {stride}*1 + 4096]",
                    $instruction,
                    "tilestored [{c} + {stride}], tmm0",
                    "tilezero tmm0",
                    "tilerelease",
                    config = in(reg) config,
                    a = in(reg) a.0.as_ptr().wrapping_add(64),
                    in("r13") b.0.as_ptr().wrapping_sub(4096),
                    c = in(reg) c.0.as_mut_ptr(),
                    stride = in(reg) 64_usize,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _,
                    options(nostack),
                );
            }
        }
    };
}
product!(bf16_bf16, "tdpbf16ps tmm0, tmm1, tmm2");
product!(unsigned_unsigned, "tdpbuud tmm0, tmm1, tmm2");
product!(unsigned_signed, "tdpbusd tmm0, tmm1, tmm2");
product!(signed_unsigned, "tdpbsud tmm0, tmm1, tmm2");
product!(signed_signed, "tdpbssd tmm0, tmm1, tmm2");

#[test]
fn bytes() {
    emulator::install();
    let mut seed = 1;
    for (number, product) in
        [unsigned_unsigned, unsigned_signed, signed_unsigned, signed_signed].into_iter().enumerate()
    {
        for (m, n, k) in [(16, 16, 16), (1, 16, 16), (16, 3, 16), (5, 7, 9), (16, 16, 8)] {
            let (mut a, mut b, mut c) = (Bytes([0; 1024]), Bytes([0; 1024]), Bytes([0; 1024]));
            a.0.iter_mut().chain(&mut b.0).for_each(|byte| *byte = noise(&mut seed) as u8);
            for (i, word) in c.0.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                *word = (i as i32 - 500).to_le_bytes();
            }
            product(&shapes(m, n, k), &a, &b, &mut c);
            for (i, word) in c.0.as_chunks::<4>().0.iter().enumerate() {
                let (row, column) = (i / 16, i % 16);
                let mut sum = i as i64 - 500;
                for j in 0..4 * k as usize {
                    let (x, y) = (a.0[row * 64 + j], b.0[j / 4 * 64 + 4 * column + j % 4]);
                    let x = if number & 2 != 0 { i64::from(x as i8) } else { i64::from(x) };
                    let y = if number & 1 != 0 { i64::from(y as i8) } else { i64::from(y) };
                    sum += if row < m as usize && column < n as usize { x * y } else { 0 };
                }
                assert_eq!(i64::from(i32::from_le_bytes(*word)), sum, "form {number}, {m}x{n}x{k}, word {i}");
            }
        }
    }
}

#[test]
fn halves() {
    emulator::install();
    let mut seed = 1;
    for (m, n, k) in [(16, 16, 16), (1, 16, 16), (16, 3, 16), (5, 7, 9)] {
        let (mut a, mut b, mut c) = (Bytes([0; 1024]), Bytes([0; 1024]), Bytes([0; 1024]));
        let number = |pair: &[u8; 2]| f64::from(bf16::from_le_bytes(*pair));
        for pair in a.0.as_chunks_mut::<2>().0.iter_mut().chain(b.0.as_chunks_mut::<2>().0) {
            *pair = bf16::from_f32(noise(&mut seed) as f32 / 2_f32.powi(23) - 1.0).to_le_bytes();
        }
        c.0.as_chunks_mut::<4>().0.iter_mut().for_each(|word| *word = 0.5_f32.to_le_bytes());
        bf16_bf16(&shapes(m, n, k), &a, &b, &mut c);
        assert!(emulator::answered() > 0 || longleaf_kernel::by_name("amx").is_some(), "who multiplied?");
        let (a, b) = (a.0.as_chunks::<2>().0, b.0.as_chunks::<2>().0);
        for (i, word) in c.0.as_chunks::<4>().0.iter().enumerate() {
            let (row, column) = (i / 16, i % 16);
            let inside = row < m as usize && column < n as usize;
            let sum: f64 = (0..2 * k as usize)
                .filter(|_| inside)
                .map(|j| number(&a[row * 32 + j]) * number(&b[j / 2 * 32 + 2 * column + j % 2]))
                .sum();
            let difference = f64::from(f32::from_le_bytes(*word)) - (0.5 + sum);
            assert!(difference.abs() < 1e-5, "{m}x{n}x{k}, word {i}: off by {difference}");
        }
    }
}
