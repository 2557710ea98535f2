//! Element-wise operations: against f64, and one result for all sets, threads and batches.
use longleaf_kernel::{Compute, supported};

fn numbers(len: usize, scale: f32) -> Vec<f32> {
    (0..len).map(|i| ((i * 7919 + 13) % 10_007) as f32 / 5003.5 * scale - scale).collect()
}

/// Run on every set and some numbers of threads, and expect the same bits from all.
fn everywhere(what: &str, run: impl Fn(&Compute) -> Vec<f32>) -> Vec<f32> {
    let mut first: Option<Vec<f32>> = None;
    for kernels in supported() {
        for threads in [1, 2, 4] {
            let got = run(&Compute::with(kernels, threads));
            let want = first.get_or_insert_with(|| got.clone());
            assert!(got == *want, "{what}: {} on {threads} threads differs", kernels.name());
        }
    }
    first.expect("there is a set")
}

fn assert_close(what: &str, got: &[f32], want: impl Iterator<Item = f64>, relative: f64) {
    for (index, (got, want)) in got.iter().zip(want).enumerate() {
        let error = (f64::from(*got) - want).abs();
        assert!(error <= relative * want.abs() + 1e-30, "{what} {index}: {got} for {want}");
    }
}

#[test]
fn rms_norm() {
    for (rows, cols) in [(1, 1), (1, 576), (3, 37), (100, 576), (40, 1536)] {
        let (x, weight) = (numbers(rows * cols, 3.0), numbers(cols, 1.0));
        let run = |compute: &Compute, x: &[f32]| {
            let mut out = vec![0.0; x.len()];
            compute.rms_norm(x, &weight, 1e-5, &mut out);
            out
        };
        let got = everywhere("rms_norm", |compute| run(compute, &x));
        let want = x.chunks_exact(cols).flat_map(|x| {
            let mean = x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / cols as f64;
            let norm = (mean + 1e-5).sqrt().recip();
            x.iter().zip(&weight).map(move |(x, w)| f64::from(*x) * norm * f64::from(*w))
        });
        assert_close("rms_norm", &got, want, 1e-6 + cols as f64 * 1e-9);
        let compute = Compute::new(2);
        let one_by_one: Vec<f32> = x.chunks_exact(cols).flat_map(|x| run(&compute, x)).collect();
        assert!(got == one_by_one, "batches");
    }
}

#[test]
fn layer_norm() {
    for (rows, cols) in [(1, 1), (1, 384), (3, 37), (100, 384), (40, 1024)] {
        let (mut x, weight, bias) = (numbers(rows * cols, 3.0), numbers(cols, 1.0), numbers(cols, 0.5));
        // A row far from zero: its mean is not to swallow what it varies by.
        x[..cols].iter_mut().for_each(|x| *x += 100.0);
        let run = |compute: &Compute, x: &[f32]| {
            let mut x = x.to_vec();
            compute.layer_norm(&mut x, &weight, &bias, 1e-12);
            x
        };
        let got = everywhere("layer_norm", |compute| run(compute, &x));
        let want = x.chunks_exact(cols).flat_map(|x| {
            let mean = x.iter().map(|x| f64::from(*x)).sum::<f64>() / cols as f64;
            let variance = x.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / cols as f64;
            let norm = (variance + 1e-12).sqrt().recip();
            let each = move |((x, w), b): ((&f32, &f32), &f32)| {
                (f64::from(*x) - mean) * norm * f64::from(*w) + f64::from(*b)
            };
            x.iter().zip(&weight).zip(&bias).map(each).collect::<Vec<_>>()
        });
        for (index, (got, want)) in got.iter().zip(want).enumerate() {
            // The mean of a row near 100 is known to 2^-24 of that, and what is near it has no better.
            let error = (f64::from(*got) - want).abs();
            assert!(cols == 1 || error <= 2e-5, "layer_norm {index}: {got} for {want}");
        }
        let compute = Compute::new(2);
        let one_by_one: Vec<f32> = x.chunks_exact(cols).flat_map(|x| run(&compute, x)).collect();
        assert!(got == one_by_one, "batches");
    }
}

/// erf by its power series, exact enough up to 4; beyond, 1.
fn erf(z: f64) -> f64 {
    if z.abs() > 4.0 {
        return z.signum();
    }
    let (mut term, mut sum) = (z, z);
    for n in 1..120 {
        term *= -z * z / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * std::f64::consts::FRAC_2_SQRT_PI
}

#[test]
fn gelu() {
    for len in [1, 15, 16, 33, 1536, 100_000] {
        for scale in [0.01, 1.0, 6.0, 100.0] {
            let x = numbers(len, scale);
            let got = everywhere("gelu", |compute| {
                let mut x = x.clone();
                compute.gelu(&mut x);
                x
            });
            for (got, x) in got.iter().zip(&x) {
                let x = f64::from(*x);
                let want = 0.5 * x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2));
                assert!((f64::from(*got) - want).abs() <= 3e-7 * x.abs(), "gelu of {x}: {got} for {want}");
            }
        }
    }
    let mut x = [f32::NEG_INFINITY, -1e30, -0.0, 0.0, 1e30, f32::INFINITY, f32::NAN];
    Compute::new(1).gelu(&mut x);
    assert_eq!(x[..6].iter().map(|x| x.abs()).collect::<Vec<_>>(), [0.0, 0.0, 0.0, 0.0, 1e30, f32::INFINITY]);
    assert!(x[6].is_nan(), "what is not a number stays visible");
}

/// The exponential behind it is held to 1e-6 over the whole range.
#[test]
fn swiglu() {
    for len in [1, 15, 16, 33, 1536, 100_000] {
        let up = numbers(len, 2.0);
        for scale in [0.01, 1.0, 20.0, 85.0] {
            let gate = numbers(len, scale);
            let got = everywhere("swiglu", |compute| {
                let mut gate = gate.clone();
                compute.swiglu(&mut gate, &up);
                gate
            });
            let want = gate.iter().zip(&up).map(|(g, u)| {
                let g = f64::from(*g);
                g / (1.0 + (-g).exp()) * f64::from(*u)
            });
            // The exponent of e is rounded before use: up to 2^-24 of it, absolutely.
            assert_close("swiglu", &got, want, 1e-6 + f64::from(scale) * 1.2e-7);
        }
    }
    let mut gate = [f32::NEG_INFINITY, -1e30, -200.0, -0.0, 0.0, 200.0, 1e30, f32::NAN];
    Compute::new(1).swiglu(&mut gate, &[1.0; 8]);
    assert!(gate[2].abs() < 1e-30);
    assert_eq!(
        gate[3..7].iter().map(|x| x.abs().to_bits()).collect::<Vec<_>>(),
        [0.0, 0.0, 200.0, 1e30].map(f32::to_bits)
    );
    assert!(gate[7].is_nan(), "what is not a number stays visible");
}

#[test]
fn add() {
    for len in [1, 17, 576, 70_001] {
        let (x, y) = (numbers(len, 1.0), numbers(len, 3.0));
        let got = everywhere("add", |compute| {
            let mut x = x.clone();
            compute.add(&mut x, &y);
            x
        });
        assert!(got.iter().zip(x.iter().zip(&y)).all(|(got, (x, y))| got.to_bits() == (x + y).to_bits()));
    }
}

#[test]
fn rope() {
    for (tokens, heads, dim, rotary) in [(1, 9, 64, 64), (5, 2, 80, 32), (200, 4, 128, 128), (3, 1, 6, 4)] {
        let x = numbers(tokens * heads * dim, 2.0);
        let angle = |i: usize| (i % 97) as f32 * 0.1;
        let cos: Vec<f32> = (0..tokens * rotary / 2).map(|i| angle(i).cos()).collect();
        let sin: Vec<f32> = (0..tokens * rotary / 2).map(|i| angle(i).sin()).collect();
        let got = everywhere("rope", |compute| {
            let mut x = x.clone();
            compute.rope(&mut x, heads, dim, &cos, &sin);
            x
        });
        for (index, got) in got.iter().enumerate() {
            let (token, i) = (index / (heads * dim), index % dim);
            let half = rotary / 2;
            let want = if i >= rotary {
                x[index]
            } else {
                let (c, s) = (cos[token * half + i % half], sin[token * half + i % half]);
                if i < half { x[index] * c - x[index + half] * s } else { x[index] * c + x[index - half] * s }
            };
            assert!((got - want).abs() <= 1e-6, "rope {index}: {got} for {want}");
        }
    }
}

#[test]
fn log_mass() {
    let width = 500;
    let x = numbers(7 * width, 30.0);
    let ranges = [0..128, 128..256, 256..257, 257..257, 300..499];
    let got = everywhere("log_mass", |compute| {
        let mut out = vec![0.0; 7 * ranges.len()];
        compute.log_mass(&x, width, &ranges, 0.125, &mut out);
        out
    });
    let want = x.chunks_exact(width).flat_map(|row| {
        ranges.clone().map(|range| row[range].iter().map(|x| (f64::from(*x) * 0.125).exp()).sum::<f64>().ln())
    });
    for (got, want) in got.iter().zip(want) {
        let both_nothing = *got == f32::NEG_INFINITY && want == f64::NEG_INFINITY;
        assert!((f64::from(*got) - want).abs() < 4e-6 || both_nothing, "{got} for {want}");
    }
}
