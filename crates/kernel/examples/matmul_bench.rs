//! Products at the shapes of real models, beside the machine's ceilings measured in the same run.
//!
//! `cargo run --release -p longleaf-kernel --example matmul_bench [-- SET [THREADS [FILTER]]]`
#![expect(clippy::print_stdout, reason = "a report")]
use longleaf_kernel::{
    Activations, Ceilings, Compute, DType, Matrix, PackedMatrix, Precision, Product, best, by_name, ceilings,
};
use std::time::{Duration, Instant};

/// Median and least seconds of one call, warmed up.
fn time(mut call: impl FnMut()) -> (f64, f64) {
    call();
    let begin = Instant::now();
    let mut seconds = Vec::new();
    while seconds.len() < 5 || (begin.elapsed() < Duration::from_millis(300) && seconds.len() < 2000) {
        let start = Instant::now();
        call();
        seconds.push(start.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    (seconds[seconds.len() / 2], seconds[0])
}

fn packed(compute: &Compute, dtype: DType, rows: usize, cols: usize) -> (PackedMatrix, f64) {
    let size = rows * dtype.row_bytes(cols).expect("whole blocks");
    // Bytes below 0x3c keep every half-precision scale small and finite.
    let bytes: Vec<u8> =
        (0..size as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 59) as u8).collect();
    let start = Instant::now();
    let matrix = Matrix::new(dtype, rows, cols, &bytes).expect("the shape");
    let packed = PackedMatrix::pack(compute.pool(), matrix);
    (packed, size as f64 / start.elapsed().as_secs_f64())
}

fn report(
    compute: &Compute,
    peaks: &Ceilings,
    dtype: DType,
    [tokens, cols, rows]: [usize; 3],
    precision: Precision,
) {
    let (first, packing) = packed(compute, dtype, rows, cols);
    // A model streams its weights from memory: one small matrix would stay in the caches.
    let copies = if tokens == 1 { (128 << 20) / first.bytes() + 1 } else { 1 };
    let mut matrices = vec![first];
    while matrices.len() < copies {
        matrices.push(packed(compute, dtype, rows, cols).0);
    }
    let x: Vec<f32> = (0..tokens * cols).map(|i| ((i * 7919) % 1000) as f32 / 500.0 - 1.0).collect();
    let mut activations = Activations::new();
    let (prepare, _) = time(|| compute.prepare(precision, cols, &x, &mut activations));
    let mut out = vec![0.0; tokens * rows];
    let (seconds, least) = time(|| {
        for weights in &matrices {
            compute.matmul(&activations, &mut [Product { weights, out: &mut out }]);
        }
    });
    let [seconds, least] = [seconds, least].map(|seconds| seconds / matrices.len() as f64);
    let operations = 2.0 * (tokens * cols * rows) as f64;
    let bytes = matrices[0].bytes() as f64;
    let float = matches!(dtype, DType::F32 | DType::F16 | DType::BF16);
    let products = if precision == Precision::Exact && !float { 2.0 } else { 1.0 };
    let peak = if float { Some(peaks.f32_ops) } else { peaks.int8_ops };
    let arithmetic = peak.map_or(f64::NAN, |peak| products * operations / seconds / peak);
    println!(
        "{:>5} {:<6} [{tokens:>4} × {cols:>5} × {rows:>6}]  {:>9.3} ms  {:>7.1} GOP/s {:>5.1} % of arithmetic  \
         {:>6.2} GB/s {:>5.1} % of reading (best {:>5.1} %, {:>5.1} %)  prepare {:>6.3} ms  packed at {:>5.2} GB/s",
        dtype.name(),
        format!("{precision:?}"),
        seconds * 1e3,
        operations / seconds / 1e9,
        arithmetic * 100.0,
        bytes / seconds / 1e9,
        bytes / seconds / peaks.read_bytes * 100.0,
        arithmetic * 100.0 * seconds / least,
        bytes / least / peaks.read_bytes * 100.0,
        prepare * 1e3,
        packing / 1e9,
    );
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let kernels = arguments.next().map_or_else(best, |name| by_name(&name).expect("a set of this machine"));
    let threads = arguments.next().map_or(2, |threads| threads.parse().expect("a number of threads"));
    let filter = arguments.next().unwrap_or_default();
    let compute = Compute::with(kernels, threads);
    let peaks = ceilings(&compute);
    let giga =
        |ops: Option<f64>| ops.map_or_else(|| "none".to_owned(), |ops| format!("{:.0} GOP/s", ops / 1e9));
    println!(
        "{} on {threads} threads: f32 {}, bf16 {}, int8 {}, reading {:.1} GB/s",
        kernels.name(),
        giga(Some(peaks.f32_ops)),
        giga(peaks.bf16_ops),
        giga(peaks.int8_ops),
        peaks.read_bytes / 1e9,
    );
    let all = [
        (
            DType::Q4_1,
            vec![[512, 576, 1536], [512, 1536, 576], [1, 576, 1536], [1, 1536, 576], [4, 576, 1536]],
        ),
        (DType::Q8_0, vec![[512, 576, 1536], [1, 576, 49152]]),
        (
            DType::Q4_K,
            vec![[2048, 1536, 8960], [512, 8960, 1536], [1, 1536, 8960], [1, 8960, 1536], [8, 1536, 8960]],
        ),
        (DType::Q6_K, vec![[512, 8960, 1536], [1, 1536, 151_936], [1, 8960, 1536]]),
        (DType::Q5_0, vec![[512, 1536, 1536], [1, 1536, 8960]]),
        (DType::F16, vec![[512, 576, 1536], [1, 576, 1536]]),
        (DType::BF16, vec![[512, 576, 1536], [1, 576, 1536]]),
        (DType::F32, vec![[512, 576, 1536], [1, 576, 1536]]),
    ];
    for (dtype, shapes) in all {
        for shape in shapes {
            for precision in [Precision::Exact, Precision::Fast, Precision::Coarse] {
                let float = matches!(dtype, DType::F16 | DType::BF16 | DType::F32);
                let name = format!("{} {precision:?} {shape:?}", dtype.name());
                if name.contains(&filter) && !(float && precision != Precision::Exact) {
                    report(&compute, &peaks, dtype, shape, precision);
                }
            }
        }
    }
}
