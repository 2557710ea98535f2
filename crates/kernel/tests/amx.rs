//! The AMX kernels on machines that have AMX and, emulated, on those with AVX-512 only.
//!
//! Products of quantised weights must equal those of the AVX-512 kernels bit for bit, whichever path a number of
//! tokens takes.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]
#![expect(unsafe_code, reason = "says that AMX is emulated")]
#[path = "emulator/sets.rs"]
mod sets;

use longleaf_kernel::{
    Activations, Compute, DType, Kernels, Matrix, PackedMatrix, Precision, Product, by_name,
};

/// The AMX and the AVX-512 set; nothing on a machine without AVX-512.
fn amx_and_avx512() -> Option<[&'static dyn Kernels; 2]> {
    let amx = sets::sets().into_iter().find(|set| set.name() == "amx")?;
    Some([amx, by_name("avx512")?])
}

/// Bytes that look random (Marsaglia's xorshift).
fn noise(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

/// In (-1, 1).
fn number(seed: &mut u64) -> f32 {
    (noise(seed) >> 40) as f32 / (1 << 23) as f32 - 1.0
}

fn product(compute: &Compute, precision: Precision, weights: &PackedMatrix, x: &[f32]) -> Vec<u32> {
    let mut activations = Activations::new();
    compute.prepare(precision, weights.cols(), x, &mut activations);
    let mut out = vec![f32::NAN; activations.tokens() * weights.rows()];
    compute.matmul(&activations, &mut [Product { weights, out: &mut out }]);
    out.into_iter().map(f32::to_bits).collect()
}

#[test]
fn products_have_the_bits_of_avx512() {
    let Some(sets) = amx_and_avx512() else { return };
    let mut seed = 0x9e37_79b9_7f4a_7c15;
    for dtype in DType::ALL {
        for (tokens, rows, cols) in [
            (1, 16, 256),
            (3, 20, 512),
            (4, 7, 256),
            (15, 33, 256),
            (16, 16, 512),
            (67, 48, 1024),
            (100, 50, 256),
        ] {
            let len = rows * dtype.row_bytes(cols).expect("whole blocks");
            let bytes: Vec<u8> = match dtype {
                // Any bits but those of infinities and NaN, whose signs are nobody's law.
                DType::F32 => (0..len / 4).flat_map(|_| number(&mut seed).to_le_bytes()).collect(),
                _ => (0..len).map(|_| noise(&mut seed) as u8 & 0xBB).collect(),
            };
            let x: Vec<f32> = (0..tokens * cols).map(|_| number(&mut seed)).collect();
            let [amx, avx512] = sets.map(|set| Compute::with(set, 2));
            let matrix = Matrix::new(dtype, rows, cols, &bytes).expect("a whole matrix");
            let packed = PackedMatrix::pack(amx.pool(), matrix);
            for precision in [Precision::Exact, Precision::Fast] {
                assert_eq!(
                    product(&amx, precision, &packed, &x),
                    product(&avx512, precision, &packed, &x),
                    "{} {precision:?} [{tokens}×{cols}×{rows}]",
                    dtype.name()
                );
            }
        }
    }
    assert!(sets::tiles_were_used(), "all by vectors");
}

#[test]
fn amx_is_never_chosen_without_the_hardware() {
    let flags = std::fs::read_to_string("/proc/cpuinfo").expect("Linux describes its processors");
    let claims = ["amx_tile", "amx_int8", "amx_bf16"].iter().all(|flag| flags.contains(flag));
    assert!(claims || by_name("amx").is_none(), "detected, but the system does not list it");
}
