//! Keys and values into few bits and back, written once for all instruction sets: loops over lines of sixteen
//! without fused multiplications, so that compiling for wider vectors changes no bit.
use crate::kv::{BLOCK_TOKENS, CHUNK, KvFormat, round_bf16};
use crate::lines::LINE;
use crate::quantised::{DequantiseHead, GROUP, KvBits, QuantiseHead, bf16};
use std::cell::RefCell;

thread_local! {
    /// One group of sixteen tokens' keys, `[dim][16]`.
    static KEYS: RefCell<Vec<[f32; LINE]>> = const { RefCell::new(Vec::new()) };
}

/// The least bf16 that is no less than a number of no sign.
#[inline(always)]
fn round_up(number: f32) -> u16 {
    (number.to_bits().wrapping_add(0xffff) >> 16) as u16
}

/// The greatest bf16 that is no more than a number.
#[inline(always)]
fn round_down(number: f32) -> u16 {
    let bits = number.to_bits();
    // Towards 0 is down for what is positive, away from it for what is negative.
    if bits >> 31 == 0 { (bits >> 16) as u16 } else { (bits.wrapping_add(0xffff) >> 16) as u16 }
}

/// How numbers of a range become codes.
#[derive(Debug, Clone, Copy)]
struct Range {
    /// What is taken off first.
    minimum: f32,
    /// Codes to a unit.
    inverse: f32,
}

impl Range {
    /// The range for numbers from `low` to `high`, its scale (and minimum) written to `scales` (and `minima`).
    #[inline(always)]
    fn write(bits: KvBits, (low, high): (f32, f32), index: usize, ranges: &mut [u8], count: usize) -> Self {
        let mut put = |at: usize, bf16: u16| ranges[2 * at..2 * at + 2].copy_from_slice(&bf16.to_le_bytes());
        let (minimum, width) = match bits {
            KvBits::Eight => (0.0, high.max(-low) * (1.0 / 127.0)),
            KvBits::Four => {
                let down = round_down(low);
                put(count + index, down);
                let minimum = f32::from_bits(u32::from(down) << 16);
                (minimum, (high - minimum) * (1.0 / 15.0))
            }
        };
        let scale = round_up(width);
        put(index, scale);
        let scale = f32::from_bits(u32::from(scale) << 16);
        Self { minimum, inverse: if scale < 1e-30 { 0.0 } else { 1.0 / scale } }
    }
}

/// Sixteen codes, or thirty-two of them in sixteen bytes, in the order of [`crate::quantised`].
#[inline(always)]
fn put_codes(bits: KvBits, codes: &[u8; GROUP], out: &mut [u8]) {
    match bits {
        KvBits::Eight => out[..GROUP].copy_from_slice(codes),
        KvBits::Four => {
            for (i, byte) in out[..LINE].iter_mut().enumerate() {
                *byte = codes[i] | codes[LINE + i] << 4;
            }
        }
    }
}

#[inline(always)]
pub(crate) fn quantise_head(task: &mut QuantiseHead<'_>) {
    quantise_keys(task);
    quantise_values(task);
}

/// Sixteen numbers, or as many as there are and zeros.
#[inline(always)]
fn load(numbers: &[f32]) -> [f32; LINE] {
    if let Some(line) = numbers.first_chunk() {
        return *line;
    }
    let mut line = [0.0; LINE];
    line[..numbers.len()].copy_from_slice(numbers);
    line
}

#[inline(always)]
fn quantise_keys(task: &mut QuantiseHead<'_>) {
    let (bits, dim, row, tokens) = (task.form.keys, task.form.head_dim, task.row, task.tokens);
    let code_bytes = bits.code_bytes(BLOCK_TOKENS);
    let (ranges, codes) = task.key_bytes.split_at_mut(task.key_bytes.len() - dim * code_bytes);
    for first in (0..dim).step_by(LINE) {
        let lanes = LINE.min(dim - first);
        // The last line of the last token may be cut short.
        let line = |token: usize| load(&task.keys[token * row + first..][..lanes]);
        let (mut low, mut high) = (line(0), line(0));
        for token in 1..tokens {
            let line = line(token);
            for i in 0..LINE {
                low[i] = if line[i] < low[i] { line[i] } else { low[i] };
                high[i] = if line[i] > high[i] { line[i] } else { high[i] };
            }
        }
        let (mut minima, mut inverses) = ([0.0; LINE], [0.0; LINE]);
        for i in 0..lanes {
            let range = Range::write(bits, (low[i], high[i]), first + i, ranges, dim);
            (minima[i], inverses[i]) = (range.minimum, range.inverse);
        }
        for start in (0..BLOCK_TOKENS).step_by(GROUP) {
            // `[token][channel]`; tokens that are not there have code 0.
            let mut tile = [[0; LINE]; GROUP];
            for token in start..tokens.min(start + GROUP).max(start) {
                tile[token - start] = code_line(bits, &line(token), &minima, &inverses);
            }
            let tile = turned(&tile);
            for (i, tile) in tile[..lanes].iter().enumerate() {
                put_codes(bits, tile, &mut codes[(first + i) * code_bytes + bits.code_bytes(start)..]);
            }
        }
    }
}

/// Codes of sixteen numbers, each of a range of its own.
#[inline(always)]
fn code_line(bits: KvBits, line: &[f32; LINE], minima: &[f32; LINE], inverses: &[f32; LINE]) -> [u8; LINE] {
    let (least, most) = if bits == KvBits::Eight { (-127, 127) } else { (0, 15) };
    let mut codes = [0; LINE];
    for i in 0..LINE {
        let code = round((line[i] - minima[i]) * inverses[i]);
        codes[i] = code.clamp(least, most) as u8;
    }
    codes
}

/// The nearest whole number, ties to even, of what is far from the ends of `i32`: added to 1.5 · 2²³, a number has
/// its whole part in the lowest bits. (A plain cast saturates, which costs more than all the rest.)
#[inline(always)]
fn round(number: f32) -> i32 {
    const SHIFT: f32 = 12_582_912.0;
    (number + SHIFT).to_bits().wrapping_sub(SHIFT.to_bits()) as i32
}

/// `[channel][token]` from `[token][channel]`, by merging halves of rows four times.
#[inline(always)]
fn turned(tile: &[[u8; LINE]; GROUP]) -> [[u8; GROUP]; LINE] {
    let mut turned = [[0; GROUP]; LINE];
    for (i, row) in turned.iter_mut().enumerate() {
        for (token, line) in tile.iter().enumerate() {
            row[token] = line[i];
        }
    }
    turned
}

#[inline(always)]
fn quantise_values(task: &mut QuantiseHead<'_>) {
    let (bits, dim) = (task.form.values, task.form.head_dim);
    let groups = dim.div_ceil(GROUP);
    let (count, code_bytes) = (BLOCK_TOKENS * groups, bits.code_bytes(GROUP));
    task.value_bytes.fill(0);
    let (ranges, codes) = task.value_bytes.split_at_mut(task.value_bytes.len() - count * code_bytes);
    for token in 0..task.tokens {
        let value = &task.values[token * task.row..][..dim];
        for (group, numbers) in value.chunks(GROUP).enumerate() {
            let index = token * groups + group;
            // What is beyond the head repeats its first number, which changes no range; its codes are dropped.
            let mut pair = [[numbers[0]; LINE]; 2];
            for (line, numbers) in pair.iter_mut().zip(numbers.chunks(LINE)) {
                *line = if numbers.len() == LINE { load(numbers) } else { *line };
                line[..numbers.len()].copy_from_slice(numbers);
            }
            let [first, second] = &pair;
            let (mut low, mut high) = ([0.0; LINE], [0.0; LINE]);
            for i in 0..LINE {
                low[i] = if second[i] < first[i] { second[i] } else { first[i] };
                high[i] = if second[i] > first[i] { second[i] } else { first[i] };
            }
            let mut width = LINE / 2;
            while width > 0 {
                for i in 0..width {
                    low[i] = if low[i + width] < low[i] { low[i + width] } else { low[i] };
                    high[i] = if high[i + width] > high[i] { high[i + width] } else { high[i] };
                }
                width /= 2;
            }
            let range = Range::write(bits, (low[0], high[0]), index, ranges, count);
            let (minimum, inverse) = ([range.minimum; LINE], [range.inverse; LINE]);
            let mut tile = [0; GROUP];
            for (codes, line) in tile.chunks_exact_mut(LINE).zip(&pair) {
                codes.copy_from_slice(&code_line(bits, line, &minimum, &inverse));
            }
            tile[numbers.len()..].fill(0);
            put_codes(bits, &tile, &mut codes[index * code_bytes..]);
        }
    }
}

/// Sixteen codes as numbers: of a run of codes, line `line`.
#[inline(always)]
fn codes(bits: KvBits, run: &[u8], line: usize) -> [f32; LINE] {
    let mut out = [0.0; LINE];
    match bits {
        KvBits::Eight => {
            let bytes = &run[line * LINE..][..LINE];
            for i in 0..LINE {
                out[i] = f32::from(bytes[i] as i8);
            }
        }
        KvBits::Four => {
            let bytes = &run[line / 2 * LINE..][..LINE];
            let shift = 4 * (line % 2);
            for i in 0..LINE {
                out[i] = f32::from(bytes[i] >> shift & 15);
            }
        }
    }
    out
}

/// Codes as the numbers they stand for.
#[inline(always)]
fn numbers(bits: KvBits, mut line: [f32; LINE], scale: f32, minimum: f32) -> [f32; LINE] {
    for number in &mut line {
        *number *= scale;
    }
    if bits == KvBits::Four {
        for number in &mut line {
            *number += minimum;
        }
    }
    line
}

/// Call with this thread's buffer for `dim` channels' keys.
#[inline(always)]
pub(crate) fn with_keys(dim: usize, work: impl FnOnce(&mut [[f32; LINE]])) {
    // Taken and given back: a closure given to the thread's storage would be compiled without a set's instructions.
    let mut keys = KEYS.take();
    keys.resize(dim, [0.0; LINE]);
    work(&mut keys);
    KEYS.set(keys);
}

#[inline(always)]
pub(crate) fn dequantise_head(task: &mut DequantiseHead<'_>) {
    with_keys(task.form.head_dim, |keys| dequantise_keys(task, keys));
    dequantise_values(task);
}

#[inline(always)]
fn dequantise_keys(task: &mut DequantiseHead<'_>, keys: &mut [[f32; LINE]]) {
    let (bits, dim) = (task.form.keys, task.form.head_dim);
    let half = task.cos.len() / BLOCK_TOKENS;
    let width = dim.next_multiple_of(LINE);
    let code_bytes = bits.code_bytes(BLOCK_TOKENS);
    let steps = width / task.format.per_word();
    let four = bits == KvBits::Four;
    for group in 0..BLOCK_TOKENS / LINE {
        for (channel, line) in keys.iter_mut().enumerate() {
            let run = &task.key_codes[channel * code_bytes..][..code_bytes];
            let minimum = if four { bf16(task.key_ranges.minima, channel) } else { 0.0 };
            *line = numbers(bits, codes(bits, run, group), bf16(task.key_ranges.scales, channel), minimum);
            if let Some(bias) = task.key_bias.get(channel) {
                for number in line.iter_mut() {
                    *number += bias;
                }
            }
        }
        let (low, rest) = keys.split_at_mut(half);
        for (angle, (low, high)) in low.iter_mut().zip(rest).enumerate() {
            let at = angle * BLOCK_TOKENS + group * LINE;
            let (cos, sin) = (&task.cos[at..at + LINE], &task.sin[at..at + LINE]);
            for i in 0..LINE {
                (low[i], high[i]) = (low[i] * cos[i] - high[i] * sin[i], high[i] * cos[i] + low[i] * sin[i]);
            }
        }
        let words = &mut task.words[group * steps * LINE..][..steps * LINE];
        match task.format {
            KvFormat::F32 => {
                for (words, line) in words.as_chunks_mut::<LINE>().0.iter_mut().zip(keys.iter()) {
                    for i in 0..LINE {
                        words[i] = line[i].to_bits();
                    }
                }
            }
            KvFormat::Bf16 => {
                for (words, pair) in words.as_chunks_mut::<LINE>().0.iter_mut().zip(keys.chunks(2)) {
                    let second = pair.get(1).unwrap_or(&[0.0; LINE]);
                    for i in 0..LINE {
                        words[i] = round_bf16(pair[0][i]) | round_bf16(second[i]) << 16;
                    }
                }
            }
            KvFormat::Int8 => unreachable!("refused by Compute::dequantise_kv"),
        }
    }
}

#[inline(always)]
fn dequantise_values(task: &mut DequantiseHead<'_>) {
    let (bits, dim) = (task.form.values, task.form.head_dim);
    let (groups, width) = (dim.div_ceil(GROUP), dim.next_multiple_of(LINE));
    let code_bytes = bits.code_bytes(GROUP);
    let four = bits == KvBits::Four;
    let (ranges, stored) = (task.value_ranges, task.value_codes);
    let line = |token: usize, line: usize| {
        let group = token * groups + line / 2;
        let minimum = if four { bf16(ranges.minima, group) } else { 0.0 };
        let run = &stored[group * code_bytes..][..code_bytes];
        numbers(bits, codes(bits, run, line % 2), bf16(ranges.scales, group), minimum)
    };
    let per_word = task.format.per_word();
    let (_, values) = task.words.split_at_mut(BLOCK_TOKENS * width / per_word);
    for (chunk, out) in values.chunks_mut(CHUNK * BLOCK_TOKENS / per_word).enumerate() {
        let first = chunk * CHUNK / LINE;
        let lines = (CHUNK / LINE).min(width / LINE - first);
        for (step, out) in out.chunks_exact_mut(lines * LINE).enumerate() {
            for (index, out) in out.as_chunks_mut::<LINE>().0.iter_mut().enumerate() {
                match task.format {
                    KvFormat::F32 => {
                        let number = line(step, first + index);
                        for i in 0..LINE {
                            out[i] = number[i].to_bits();
                        }
                    }
                    KvFormat::Bf16 => {
                        let (even, odd) = (line(2 * step, first + index), line(2 * step + 1, first + index));
                        for i in 0..LINE {
                            out[i] = round_bf16(even[i]) | round_bf16(odd[i]) << 16;
                        }
                    }
                    KvFormat::Int8 => unreachable!("refused by Compute::dequantise_kv"),
                }
            }
        }
    }
}
