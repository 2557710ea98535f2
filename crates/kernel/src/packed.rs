//! The one form in which weights are multiplied.
//!
//! ```text
//! matrix = panels of 16 rows (the last padded with zeros)
//! panel  = blocks in the order of k, one after the other
//! block  = d[16] m[16]  { scale[g][16] min[g][16] } per chunk  { integers } per chunk      quantised
//!        = one number of each of the 16 rows, in the type of the file                      floats
//! ```
//! so that one product of a panel is one sequential read, and 16 rows advance together, one in each lane of a
//! 512-bit register. The integers of a chunk of 32 are the operands of byte products: *quad* `i` holds, for each
//! of the 16 rows, the four unsigned integers `4i..4i + 4`, 64 bytes. Byte by byte,
//! ```text
//! 8 bits: quad 0, quad 1, …, quad 7
//! 4 bits: quad i in the low, quad i + 4 in the high halves of 64 bytes, i = 0..4
//! 6 bits: the low 4 bits as above; then two lines: quads 4h..4h + 4 in bits 0–1, 2–3, 4–5, 6–7
//! ```
//! Integers and scales are the file's own: nothing is rounded, and 2-, 3- and 5-bit types only grow into 4 and
//! 6 bits.
use crate::aligned::Aligned;
use crate::block::{self, Block, CHUNK, Format};
use crate::{DType, Matrix, Pool};
use half::f16;

/// Rows of a panel: the lanes of a 512-bit register of 32-bit numbers.
pub(crate) const PANEL: usize = 16;

/// Where things lie in one block of a quantised panel, in bytes.
impl Format {
    /// The minima (of `d`: 0).
    pub(crate) const MINIMA: usize = 2 * PANEL;

    /// Scales (and then minima) of the groups of chunk `chunk`, `[groups][16]` signed bytes each.
    #[inline]
    pub(crate) const fn sub_scales(self, chunk: usize) -> usize {
        let head = 2 * PANEL * (1 + self.minimum as usize);
        head + chunk * self.groups * PANEL * (1 + self.minimum as usize)
    }

    /// The integers of chunk `chunk`.
    #[inline]
    pub(crate) const fn quads(self, chunk: usize) -> usize {
        let scales = if self.two_level() { self.sub_scales(self.chunks) } else { self.sub_scales(0) };
        scales + chunk * self.bits * (CHUNK * PANEL / 8)
    }

    /// The whole block.
    #[inline]
    pub(crate) const fn panel_block(self) -> usize {
        self.quads(self.chunks)
    }
}

/// A weight matrix `[rows, cols]` repacked for the products. Made once when a model is loaded; the file's own
/// bytes are not needed afterwards. Packing loses nothing: [`PackedMatrix::decode_row`] gives exactly the numbers
/// that [`Matrix::decode_row`] gave.
#[derive(Debug)]
pub struct PackedMatrix {
    dtype: DType,
    rows: usize,
    cols: usize,
    panel_bytes: usize,
    data: Aligned,
    /// `[panels, 16]`, see [`PackedMatrix::limits`]; empty for floats and where panels come from outside.
    limits: Vec<f32>,
}

impl PackedMatrix {
    /// Repack `matrix`, the rows split over `pool`.
    pub fn pack(pool: &Pool, matrix: Matrix<'_>) -> Self {
        Self::pack_rows(pool, matrix, &|row| row)
    }

    /// Repack `matrix` in another order: row `r` of the result is row `source(r)` of `matrix`.
    pub fn pack_rows(pool: &Pool, matrix: Matrix<'_>, source: &(dyn Fn(usize) -> usize + Sync)) -> Self {
        let (dtype, rows, cols) = (matrix.dtype(), matrix.rows(), matrix.cols());
        let panel_bytes = Self::bytes_of_panel(dtype, cols);
        let mut data = Aligned::zeroed(rows.div_ceil(PANEL) * panel_bytes);
        if panel_bytes > 0 {
            pool.chunks_mut(data.as_mut_slice(), panel_bytes, &|index, panel| {
                let first = index * PANEL;
                let mut lanes: [&[u8]; PANEL] = [&[]; PANEL];
                let lanes = &mut lanes[..PANEL.min(rows - first)];
                for (lane, row) in lanes.iter_mut().enumerate() {
                    *row = matrix.row(source(first + lane));
                }
                match Format::of(dtype) {
                    Some(format) => pack_panel(dtype, format, lanes, panel),
                    None if dtype.block_bytes() == 2 => pack_floats::<2>(lanes, panel),
                    None => pack_floats::<4>(lanes, panel),
                }
            });
        }
        let mut packed = Self { dtype, rows, cols, panel_bytes, data, limits: Vec::new() };
        if let Some(format) = Format::of(dtype) {
            let mut limits = vec![0.0; packed.panels() * PANEL];
            pool.chunks_mut(&mut limits, PANEL, &|index, limits| {
                limits.copy_from_slice(&panel_limits(format, packed.panel(index)));
            });
            packed.limits = limits;
        }
        packed
    }

    /// A matrix of zeros, whose panels are to be filled with [`PackedMatrix::panels_mut`]. `None` if `cols` is not
    /// a whole number of blocks or the size overflows.
    pub fn zeroed(dtype: DType, rows: usize, cols: usize) -> Option<Self> {
        dtype.row_bytes(cols)?;
        let panel_bytes = Self::bytes_of_panel(dtype, cols);
        let data = Aligned::zeroed(rows.div_ceil(PANEL).checked_mul(panel_bytes)?);
        Some(Self { dtype, rows, cols, panel_bytes, data, limits: Vec::new() })
    }

    /// Take fewer or more rows: as many as the panels hold at least. What they hold is kept as far as it goes.
    pub fn set_rows(&mut self, rows: usize) {
        self.rows = rows;
        self.data.grow(rows.div_ceil(PANEL) * self.panel_bytes);
    }

    /// The panels as bytes, so that they can be stored: `[rows / 16 rounded up, panel]`.
    pub fn panels_bytes(&self) -> &[u8] {
        self.data.as_slice()
    }

    /// The panels as bytes, to be filled with what [`PackedMatrix::panels_bytes`] gave. Every bit pattern is a
    /// matrix of finite or infinite numbers; none is unsafe.
    pub fn panels_mut(&mut self) -> &mut [u8] {
        self.data.as_mut_slice()
    }

    /// Size of one panel: 16 rows of `cols` numbers.
    fn bytes_of_panel(dtype: DType, cols: usize) -> usize {
        match Format::of(dtype) {
            Some(format) => cols / dtype.block_len() * format.panel_block(),
            None => cols * PANEL * dtype.block_bytes(),
        }
    }

    /// The element type, that of the file.
    #[inline]
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Outputs.
    #[inline]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Inputs.
    #[inline]
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Size in memory.
    pub fn bytes(&self) -> usize {
        self.data.as_slice().len()
    }

    /// How many panels of 16 rows.
    #[inline]
    pub(crate) fn panels(&self) -> usize {
        self.rows.div_ceil(PANEL)
    }

    /// Bytes of one panel.
    #[inline]
    pub(crate) fn panel_bytes(&self) -> usize {
        self.panel_bytes
    }

    /// One panel.
    #[inline]
    pub(crate) fn panel(&self, panel: usize) -> &[u8] {
        &self.data.as_slice()[panel * self.panel_bytes..(panel + 1) * self.panel_bytes]
    }

    /// For each row of a quantised panel the largest magnitude that its scales and minima allow.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "what AVX-512 rounds weights by"))]
    pub(crate) fn limits(&self, panel: usize) -> [f32; PANEL] {
        match (self.limits.as_chunks::<PANEL>().0.get(panel), Format::of(self.dtype)) {
            (Some(limits), _) => *limits,
            (None, Some(format)) => panel_limits(format, self.panel(panel)),
            (None, None) => [f32::INFINITY; PANEL],
        }
    }

    /// One row as numbers (an embedding look-up): `values` is `[cols]`.
    pub fn decode_row(&self, row: usize, values: &mut [f32]) {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        assert_eq!(values.len(), self.cols, "a row has as many numbers as the matrix has columns");
        let (panel, lane) = (self.panel(row / PANEL), row % PANEL);
        let Some(format) = Format::of(self.dtype) else {
            let size = self.dtype.block_bytes();
            for (k, value) in values.iter_mut().enumerate() {
                let at = (k * PANEL + lane) * size;
                block::decode_floats(self.dtype, &panel[at..at + size], std::slice::from_mut(value));
            }
            return;
        };
        let group_len = format.group_len();
        for (block, values) in
            panel.chunks_exact(format.panel_block()).zip(values.chunks_exact_mut(format.chunks * CHUNK))
        {
            let half =
                |at: usize| f16::from_le_bytes([block[at + 2 * lane], block[at + 2 * lane + 1]]).to_f32();
            let (d, m) = (half(0), if format.minimum { half(Format::MINIMA) } else { 0.0 });
            for (chunk, values) in values.chunks_exact_mut(CHUNK).enumerate() {
                let quads = read_quads(format, &block[format.quads(chunk)..], lane);
                for (g, values) in values.chunks_exact_mut(group_len).enumerate() {
                    let sub = |what: usize| {
                        block[format.sub_scales(chunk) + (what * format.groups + g) * PANEL + lane] as i8
                    };
                    let (scale, min) = match (format.two_level(), format.minimum) {
                        (false, _) => (0, 0),
                        (true, false) => (sub(0), 0),
                        (true, true) => (sub(0), sub(1)),
                    };
                    let group = format.group(d, m, scale, min);
                    for (i, value) in values.iter_mut().enumerate() {
                        let k = g * group_len + i;
                        *value = format.value(group, quads[k / 4].to_le_bytes()[k % 4]);
                    }
                }
            }
        }
    }
}

/// [`PackedMatrix::limits`] of one panel.
fn panel_limits(format: Format, panel: &[u8]) -> [f32; PANEL] {
    let (lowest, highest) = (-format.offset, (1 << format.stored_bits) - 1 - format.offset);
    let mut limits = [0.0_f32; PANEL];
    for block in panel.chunks_exact(format.panel_block()) {
        for (lane, limit) in limits.iter_mut().enumerate() {
            let half =
                |at: usize| f16::from_le_bytes([block[at + 2 * lane], block[at + 2 * lane + 1]]).to_f32();
            let (d, m) = (half(0), if format.minimum { half(Format::MINIMA) } else { 0.0 });
            for group in 0..format.chunks * format.groups {
                let (chunk, g) = (group / format.groups, group % format.groups);
                let sub = |what: usize| {
                    block[format.sub_scales(chunk) + (what * format.groups + g) * PANEL + lane] as i8
                };
                let (scale, min) = match (format.two_level(), format.minimum) {
                    (false, _) => (0, 0),
                    (true, false) => (sub(0), 0),
                    (true, true) => (sub(0), sub(1)),
                };
                let (scale, minimum) = format.group(d, m, scale, min);
                for end in [lowest, highest] {
                    *limit = limit.max((scale * end as f32 + minimum).abs());
                }
            }
        }
    }
    limits
}

/// Repack the stored rows of one panel; lanes without a row stay zero.
fn pack_panel(dtype: DType, format: Format, rows: &[&[u8]], panel: &mut [u8]) {
    let size = dtype.block_bytes();
    let mut lanes = [const { Block::new() }; PANEL];
    for (index, out) in panel.chunks_exact_mut(format.panel_block()).enumerate() {
        for (lane, (block, row)) in lanes.iter_mut().zip(rows).enumerate() {
            block::split(dtype, &row[index * size..(index + 1) * size], block);
            out[2 * lane..2 * lane + 2].copy_from_slice(&block.d.to_le_bytes());
            if format.minimum {
                let at = Format::MINIMA + 2 * lane;
                out[at..at + 2].copy_from_slice(&block.m.to_le_bytes());
            }
        }
        for chunk in 0..format.chunks {
            if format.two_level() {
                let sub =
                    out[format.sub_scales(chunk)..format.sub_scales(chunk + 1)].as_chunks_mut::<PANEL>().0;
                for (g, sub) in sub.iter_mut().enumerate() {
                    let (of_min, g) = (g >= format.groups, chunk * format.groups + g % format.groups);
                    for (sub, block) in sub.iter_mut().zip(&lanes) {
                        *sub = if of_min { block.mins[g] } else { block.scales[g] } as u8;
                    }
                }
            }
            let lines = out[format.quads(chunk)..format.quads(chunk + 1)].as_chunks_mut::<64>().0;
            match format.bits {
                4 => write_quads::<4>(&lanes, chunk, lines),
                6 => write_quads::<6>(&lanes, chunk, lines),
                _ => write_quads::<8>(&lanes, chunk, lines),
            }
        }
    }
}

/// Interleave the integers of one chunk of all lanes.
#[inline]
fn write_quads<const BITS: usize>(lanes: &[Block; PANEL], chunk: usize, lines: &mut [[u8; 64]]) {
    for (lane, block) in lanes.iter().enumerate() {
        let u = &block.u.as_chunks::<4>().0[chunk * 8..chunk * 8 + 8];
        let quads: [u32; 8] = std::array::from_fn(|i| u32::from_le_bytes(u[i]));
        let mut put = |line: usize, word: u32| lines[line].as_chunks_mut::<4>().0[lane] = word.to_le_bytes();
        if BITS == 8 {
            for (i, quad) in quads.into_iter().enumerate() {
                put(i, quad);
            }
            continue;
        }
        for i in 0..4 {
            put(i, quads[i] & 0x0f0f_0f0f | (quads[i + 4] & 0x0f0f_0f0f) << 4);
        }
        if BITS == 6 {
            for h in 0..2 {
                let high = |s: usize| (quads[4 * h + s] >> 4 & 0x0303_0303) << (2 * s);
                put(4 + h, high(0) | high(1) | high(2) | high(3));
            }
        }
    }
}

/// The integers of one chunk in one lane.
#[inline]
fn read_quads(format: Format, bytes: &[u8], lane: usize) -> [u32; 8] {
    let lines = bytes.as_chunks::<64>().0;
    let get = |line: usize| {
        let bytes = &lines[line][4 * lane..4 * lane + 4];
        u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    };
    std::array::from_fn(|i| {
        if format.bits == 8 {
            return get(i);
        }
        let low = get(i % 4) >> (4 * (i / 4)) & 0x0f0f_0f0f;
        let high = if format.bits == 6 { get(4 + i / 4) >> (2 * (i % 4)) & 0x0303_0303 } else { 0 };
        low | high << 4
    })
}

/// Interleave the stored rows of a panel of floats of `SIZE` bytes; lanes without a row stay zero.
fn pack_floats<const SIZE: usize>(rows: &[&[u8]], panel: &mut [u8]) {
    let mut lanes: [&[[u8; SIZE]]; PANEL] = [&[]; PANEL];
    for (lane, row) in lanes.iter_mut().zip(rows) {
        *lane = row.as_chunks::<SIZE>().0;
    }
    for (k, out) in panel.as_chunks_mut::<SIZE>().0.as_chunks_mut::<PANEL>().0.iter_mut().enumerate() {
        for (out, lane) in out.iter_mut().zip(&lanes[..rows.len()]) {
            *out = lane[k];
        }
    }
}
