//! Finding by meaning: vectors of windows of text, scanned exactly.
//!
//! A section's windows lie one after the other and together are its text. Two streams keep them, named after whoever
//! made the vectors:
//!
//! ```text
//! meaning.<maker>.ends      where each window ends within its section's text, u32
//! meaning.<maker>.vectors   their vectors, [windows, width] as Q8_0, in panels of 16; the last one of a section filled
//!                           up with zeros
//! ```
//! The scan is one product of all vectors and the question's. Nothing is pruned.
use crate::{Error, SectionId, Store, StreamId};
use longleaf_kernel::{Activations, Compute, DType, Matrix, PackedMatrix, Pool, Precision, Product, block};
use std::ops::Range;
use std::sync::Arc;

/// Windows whose vectors lie together in one row of their stream.
pub const PANEL: usize = 16;

/// Vectors that are scanned together, at least.
const PIECE: usize = 4096;

/// The streams of one maker of vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Streams {
    /// Where windows end.
    pub ends: StreamId,
    /// Their vectors.
    pub vectors: StreamId,
}

fn names(maker: &str) -> [String; 2] {
    [format!("meaning.{maker}.ends"), format!("meaning.{maker}.vectors")]
}

impl Streams {
    /// Those of `maker`, if the store has them.
    pub fn find(store: &Store, maker: &str) -> Option<Self> {
        let [ends, vectors] = names(maker);
        Some(Self { ends: store.find_stream(&ends)?, vectors: store.find_stream(&vectors)? })
    }

    /// Those of `maker`, whose vectors have `width` numbers, added if the store has none.
    ///
    /// # Errors
    /// If the store cannot be written.
    ///
    /// # Panics
    /// If `maker` cannot be a part of a stream's name.
    pub fn open(store: &mut Store, maker: &str, width: usize) -> Result<Self, Error> {
        let [ends, vectors] = names(maker);
        let panel = panel_bytes(width) as u32;
        Ok(Self { ends: store.stream(&ends, 4)?, vectors: store.stream(&vectors, panel)? })
    }

    /// How many windows of a section have their vectors, and whether they are all of it.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn done(&self, store: &Store, section: SectionId) -> Result<(usize, bool), Error> {
        let Some(found) = store.section(section) else { return Ok((0, false)) };
        let bytes = found.bytes(self.ends);
        if bytes == 0 {
            return Ok((0, false));
        }
        let mut last = [0; 4];
        store.read(section, self.ends, bytes - 4, &mut last)?;
        let whole = u64::from(u32::from_le_bytes(last)) == found.bytes(StreamId::TEXT);
        Ok(((bytes / 4) as usize, whole))
    }

    /// Add windows to those a section has, which are a multiple of [`PANEL`]: where they end, and their vectors,
    /// `[windows, width]`. They count from the next commit on.
    ///
    /// # Errors
    /// If the store cannot be written.
    ///
    /// # Panics
    /// If there is not a vector for every window, or the store has no such section.
    pub fn add(
        &self,
        store: &mut Store,
        section: SectionId,
        ends: &[u32],
        vectors: &[f32],
        pool: &Pool,
    ) -> Result<(), Error> {
        if ends.is_empty() {
            return Ok(());
        }
        let width = vectors.len() / ends.len();
        assert_eq!(width * ends.len(), vectors.len(), "a vector for every window");
        let row_bytes = DType::Q8_0.row_bytes(stored_width(width)).expect("whole blocks");
        let mut encoded = vec![0; ends.len() * row_bytes];
        let mut padded = vec![0.0; stored_width(width)];
        for (row, encoded) in vectors.chunks_exact(width).zip(encoded.chunks_exact_mut(row_bytes)) {
            padded[..width].copy_from_slice(row);
            block::encode_q8_0(&padded, encoded);
        }
        let matrix = Matrix::new(DType::Q8_0, ends.len(), stored_width(width), &encoded);
        let matrix = matrix.expect("a row for every window");
        let packed = PackedMatrix::pack(pool, matrix);
        let ends: Vec<u8> = ends.iter().flat_map(|end| end.to_le_bytes()).collect();
        store.deepen(section, self.ends, &ends)?;
        store.deepen(section, self.vectors, packed.panels_bytes())
    }
}

/// Numbers that are kept of a vector of `width`: zeros fill it up to whole blocks.
fn stored_width(width: usize) -> usize {
    width.next_multiple_of(DType::Q8_0.block_len())
}

/// Bytes of [`PANEL`] vectors.
fn panel_bytes(width: usize) -> usize {
    PackedMatrix::zeroed(DType::Q8_0, PANEL, stored_width(width)).expect("whole blocks").bytes()
}

/// A window and where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The section.
    pub section: SectionId,
    /// First byte of it in the section's text.
    pub start: u32,
    /// One past the last.
    pub end: u32,
}

/// The vectors of a memory, ready to be searched.
#[derive(Debug)]
pub struct Vectors {
    compute: Arc<Compute>,
    stream: StreamId,
    width: usize,
    windows: Vec<Window>,
    pieces: Vec<Piece>,
}

/// Some sections whose vectors are scanned together.
#[derive(Debug, Default)]
struct Piece {
    sections: Vec<SectionId>,
    /// Which windows, and among the rows of the piece where those of each section lie.
    windows: Range<usize>,
    rows: Vec<Range<usize>>,
    /// `[rows, width]`, unless they are to be read for every question.
    vectors: Option<PackedMatrix>,
}

impl Piece {
    /// Rows, those that fill panels up included.
    fn rows(&self) -> usize {
        self.rows.last().map_or(0, |rows| rows.end.next_multiple_of(PANEL))
    }

    fn read(&self, store: &Store, stream: StreamId, width: usize) -> Result<PackedMatrix, Error> {
        let mut vectors =
            PackedMatrix::zeroed(DType::Q8_0, self.rows(), stored_width(width)).expect("whole blocks");
        let mut panels = vectors.panels_mut();
        for (section, rows) in self.sections.iter().zip(&self.rows) {
            let len = rows.len().div_ceil(PANEL) * panel_bytes(width);
            let (these, rest) = panels.split_at_mut(len);
            store.read(*section, stream, 0, these)?;
            panels = rest;
        }
        Ok(vectors)
    }
}

impl Vectors {
    /// The vectors of `width` numbers that `maker` gave to `sections`. As many are kept in RAM as `ram` bytes hold; the
    /// others are read for every question.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn open(
        store: &Store,
        sections: impl IntoIterator<Item = SectionId>,
        (maker, width): (&str, usize),
        compute: &Arc<Compute>,
        ram: usize,
    ) -> Result<Self, Error> {
        let (mut windows, mut pieces) = (Vec::new(), Vec::<Piece>::new());
        let theirs = Streams::find(store, maker);
        let fits = |streams: &Streams| store.row_bytes(streams.vectors) as usize == panel_bytes(width);
        let Some(streams) = theirs.filter(fits) else {
            let stream = StreamId::TEXT;
            return Ok(Self { compute: Arc::clone(compute), stream, width, windows, pieces });
        };
        for section in sections {
            let Some(found) = store.section(section) else { continue };
            let ends = store.read_u32(section, streams.ends)?;
            // A section that is being given its vectors by another process may have windows without them.
            let stored = found.bytes(streams.vectors) as usize / panel_bytes(width) * PANEL;
            let count = ends.len().min(stored);
            if count == 0 {
                continue;
            }
            let starts = std::iter::once(&0).chain(&ends);
            windows.extend(starts.zip(&ends).take(count).map(|(start, end)| Window {
                section,
                start: *start,
                end: *end,
            }));
            if pieces.last().is_none_or(|piece| piece.rows() >= PIECE) {
                let start = windows.len() - count;
                pieces.push(Piece { windows: start..start, ..Piece::default() });
            }
            let piece = pieces.last_mut().expect("just made");
            let first = piece.rows();
            piece.sections.push(section);
            piece.rows.push(first..first + count);
            piece.windows.end = windows.len();
        }
        let mut left = ram.saturating_sub(windows.len() * size_of::<Window>());
        for piece in &mut pieces {
            let bytes = piece.rows() / PANEL * panel_bytes(width);
            if bytes <= left {
                piece.vectors = Some(piece.read(store, streams.vectors, width)?);
                left -= bytes;
            }
        }
        Ok(Self { compute: Arc::clone(compute), stream: streams.vectors, width, windows, pieces })
    }

    /// All windows, section by section.
    pub fn windows(&self) -> &[Window] {
        &self.windows
    }

    /// Size in memory.
    pub fn bytes(&self) -> usize {
        let vectors = self.pieces.iter().filter_map(|piece| piece.vectors.as_ref()).map(PackedMatrix::bytes);
        self.windows.len() * size_of::<Window>() + vectors.sum::<usize>()
    }

    /// The cosine of `question`, `[width]` of length 1, and every window, `[windows]`.
    ///
    /// # Errors
    /// If vectors that are not in RAM cannot be read.
    pub fn scores(&self, store: &Store, question: &[f32]) -> Result<Vec<f32>, Error> {
        let mut padded = question.to_vec();
        padded.resize(stored_width(self.width), 0.0);
        let mut activations = Activations::new();
        self.compute.prepare(Precision::Exact, padded.len(), &padded, &mut activations);
        let mut scores = vec![0.0; self.windows.len()];
        let mut all = Vec::new();
        for piece in &self.pieces {
            let read;
            let weights = if let Some(vectors) = &piece.vectors {
                vectors
            } else {
                read = piece.read(store, self.stream, self.width)?;
                &read
            };
            all.resize(piece.rows(), 0.0);
            self.compute.matmul(&activations, &mut [Product { weights, out: &mut all }]);
            let mut out = &mut scores[piece.windows.clone()];
            for rows in &piece.rows {
                let (these, rest) = out.split_at_mut(rows.len());
                these.copy_from_slice(&all[rows.clone()]);
                out = rest;
            }
        }
        Ok(scores)
    }
}
