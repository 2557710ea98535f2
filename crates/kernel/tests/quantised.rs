//! Keys and values in few bits: what the bytes mean, and that the fast ways give the same bits.
use longleaf_kernel::{
    BLOCK_TOKENS, BlockAngles, Compute, Dequantise, KvBits, KvBlock, KvFormat, KvQuantisation, supported,
};

const BITS: [(KvBits, KvBits); 4] = [
    (KvBits::Eight, KvBits::Eight),
    (KvBits::Eight, KvBits::Four),
    (KvBits::Four, KvBits::Four),
    (KvBits::Four, KvBits::Eight),
];

/// KV heads and head sizes, also such as are no multiple of anything.
const SHAPES: [(usize, usize); 5] = [(3, 64), (2, 128), (1, 80), (2, 16), (1, 22)];

fn forms() -> impl Iterator<Item = KvQuantisation> {
    SHAPES.into_iter().flat_map(|(kv_heads, head_dim)| {
        BITS.map(|(keys, values)| KvQuantisation { keys, values, kv_heads, head_dim })
    })
}

/// Numbers of very different size from channel to channel, as keys are.
fn rows(seed: u64, tokens: usize, form: &KvQuantisation) -> Vec<f32> {
    let mut state = seed | 1;
    let row = form.kv_heads * form.head_dim;
    let noise = |i: usize| {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let unit = (state >> 40) as f32 / (1 << 23) as f32 - 1.0;
        unit * (1.0 + (i % row % 7) as f32 * 3.0) + (i % row % 5) as f32
    };
    (0..tokens * row).map(noise).collect()
}

fn encode(compute: &Compute, form: &KvQuantisation, keys: &[f32], values: &[f32]) -> Vec<u8> {
    let tokens = keys.len() / (form.kv_heads * form.head_dim);
    let mut bytes = vec![0xaa; tokens.div_ceil(BLOCK_TOKENS) * form.bytes()];
    compute.quantise_kv(form, keys, values, &mut bytes);
    bytes
}

/// The plain way: a range for each channel (keys) or each 32 numbers of a token (values), in f64.
#[test]
fn numbers_come_back_within_half_a_step() {
    for form in forms() {
        let (row, dim) = (form.kv_heads * form.head_dim, form.head_dim);
        for tokens in [1, 17, 32, 100, 128] {
            let (keys, values) = (rows(1, tokens, &form), rows(2, tokens, &form));
            let bytes = encode(&Compute::new(1), &form, &keys, &values);
            let (mut got_keys, mut got_values) = (vec![0.0; keys.len()], vec![0.0; values.len()]);
            form.decode(&bytes, &mut got_keys, &mut got_values);
            let check = |got: f32, want: f32, bits: KvBits, members: &mut dyn Iterator<Item = f32>| {
                let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
                for member in members {
                    (low, high) = (low.min(f64::from(member)), high.max(f64::from(member)));
                }
                let step = match bits {
                    KvBits::Eight => high.max(-low) / 127.0,
                    // The minimum is rounded away from the numbers by up to 1/128 of itself.
                    KvBits::Four => (high - low + low.abs() / 128.0) / 15.0,
                };
                let error = f64::from(got - want).abs();
                // A scale is rounded up by up to 1/128 of itself.
                assert!(error <= step * 0.505 + 1e-6, "{form:?} {tokens}: {got} for {want}, step {step}");
            };
            for i in 0..keys.len() {
                let channel = &mut keys.iter().copied().skip(i % row).step_by(row);
                check(got_keys[i], keys[i], form.keys, channel);
                let (start, index) = (i / dim * dim, i % dim / 32 * 32);
                let group = values[start + index..start + dim.min(index + 32)].iter().copied();
                check(got_values[i], values[i], form.values, &mut { group });
            }
        }
    }
}

/// Every set writes the same bytes, on any number of threads, block by block or all at once.
#[test]
fn the_bytes_are_the_same_everywhere() {
    for form in forms() {
        let row = form.kv_heads * form.head_dim;
        let tokens = 2 * BLOCK_TOKENS + 37;
        let (keys, values) = (rows(3, tokens, &form), rows(4, tokens, &form));
        let want = encode(&Compute::with(supported()[supported().len() - 1], 1), &form, &keys, &values);
        for kernels in supported() {
            for threads in [1, 3] {
                let compute = Compute::with(kernels, threads);
                assert!(encode(&compute, &form, &keys, &values) == want, "{} {form:?}", kernels.name());
                let blocks = keys.chunks(BLOCK_TOKENS * row).zip(values.chunks(BLOCK_TOKENS * row));
                let one_by_one: Vec<u8> = blocks.flat_map(|(k, v)| encode(&compute, &form, k, v)).collect();
                assert!(one_by_one == want, "{} {form:?} in blocks", kernels.name());
            }
        }
    }
}

/// The law: into a block is decoding, adding the bias, rotating and writing, bit for bit, on every set.
#[test]
fn into_a_block_is_what_the_slow_way_gives() {
    for form in forms() {
        let (row, dim) = (form.kv_heads * form.head_dim, form.head_dim);
        let (keys, values) = (rows(5, BLOCK_TOKENS, &form), rows(6, BLOCK_TOKENS, &form));
        let bytes = encode(&Compute::new(1), &form, &keys, &values);
        let bias = rows(7, 1, &form);
        let angles = dim / 2 - usize::from(dim > 64) * 3;
        let angle = |i: usize| (i / angles) as f32 * 0.37 / (1 + i % angles) as f32;
        let (cos, sin): (Vec<f32>, Vec<f32>) =
            (0..BLOCK_TOKENS * angles).map(|i| (angle(i).cos(), angle(i).sin())).unzip();
        let turned = BlockAngles::new(angles, &cos, &sin);
        for (bias, angles) in
            [(None, None), (Some(&bias), None), (None, Some(&turned)), (Some(&bias), Some(&turned))]
        {
            let (mut want_keys, mut want_values) = (vec![0.0; keys.len()], vec![0.0; values.len()]);
            form.decode(&bytes, &mut want_keys, &mut want_values);
            if let Some(bias) = bias {
                want_keys
                    .chunks_exact_mut(row)
                    .for_each(|key| key.iter_mut().zip(bias).for_each(|(k, b)| *k += b));
            }
            if angles.is_some() {
                Compute::new(1).rope(&mut want_keys, form.kv_heads, dim, &cos, &sin);
            }
            for format in [KvFormat::F32, KvFormat::Bf16] {
                let mut want = KvBlock::new(format, form.kv_heads, dim);
                want.write(0, &want_keys, &want_values);
                for kernels in supported() {
                    for threads in [1, 2] {
                        let mut blocks = vec![KvBlock::new(format, form.kv_heads, dim); 2];
                        let from = Dequantise { bytes: &bytes, key_bias: bias.map(Vec::as_slice), angles };
                        Compute::with(kernels, threads).dequantise_kv(&form, &[from; 2], &mut blocks);
                        for got in &blocks {
                            assert_same(got, &want, &format!("{} {form:?} {format:?}", kernels.name()));
                        }
                    }
                }
            }
        }
    }
}

fn assert_same(got: &KvBlock, want: &KvBlock, what: &str) {
    let dim = want.head_dim();
    let numbers = |block: &KvBlock, token: usize, head: usize| {
        let (mut key, mut value) = (vec![0.0; dim], vec![0.0; dim]);
        block.read_key(token, head, &mut key);
        block.read_value(token, head, &mut value);
        (key, value)
    };
    for token in 0..BLOCK_TOKENS {
        for head in 0..want.kv_heads() {
            assert!(
                numbers(got, token, head) == numbers(want, token, head),
                "{what}: token {token}, head {head}"
            );
        }
    }
}

#[test]
fn zeros_and_constants_survive() {
    for form in forms() {
        let len = BLOCK_TOKENS * form.kv_heads * form.head_dim;
        for number in [0.0, -0.0, 1.5, -3.0, 1e-38, 1e30] {
            let bytes = encode(&Compute::new(1), &form, &vec![number; len], &vec![number; len]);
            let (mut keys, mut values) = (vec![7.0; len], vec![7.0; len]);
            form.decode(&bytes, &mut keys, &mut values);
            for got in keys.iter().chain(&values) {
                assert!((got - number).abs() <= number.abs() / 200.0 + 1e-30, "{form:?}: {got} for {number}");
            }
        }
    }
}

#[test]
fn sizes() {
    let form = |keys, values, kv_heads, head_dim| KvQuantisation { keys, values, kv_heads, head_dim }.bytes();
    assert_eq!(form(KvBits::Eight, KvBits::Eight, 3, 64), 3 * (64 * 130 + 128 * 2 * 34));
    assert_eq!(form(KvBits::Eight, KvBits::Four, 3, 64), 3 * (64 * 130 + 128 * 2 * 20));
    assert_eq!(form(KvBits::Four, KvBits::Four, 2, 128), 2 * (128 * 68 + 128 * 4 * 20));
}

/// Memories on disk hold these bytes: another result is another format, which needs another name for its stream.
#[test]
fn the_bytes_stay_what_they_are() {
    let (kv_heads, head_dim) = (2, 80);
    let hashes = BITS.map(|(keys, values)| {
        let form = KvQuantisation { keys, values, kv_heads, head_dim };
        let bytes = encode(&Compute::new(1), &form, &rows(8, 100, &form), &rows(9, 100, &form));
        // FNV-1a of 64 bits.
        bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        })
    });
    let known = [0x2096_6b29_940e_3465, 0xd57f_0440_325f_f273, 0xe89c_f00b_a13d_70a4, 0xac7e_3913_5cbe_094a];
    assert_eq!(hashes, known, "{hashes:#x?}");
}
