//! Rectangles of an output matrix that several threads write at once.
use crate::pool::Pieces;
use std::marker::PhantomData;
use std::ops::Range;

/// A rectangle of a row-major matrix, held exclusively.
#[derive(Debug)]
pub(crate) struct Tile<'a> {
    first: *mut f32,
    stride: usize,
    rows: usize,
    columns: usize,
    borrow: PhantomData<&'a mut [f32]>,
}

impl<'a> Tile<'a> {
    /// Some columns of some rows of a matrix of `width` columns.
    ///
    /// # Safety
    /// No two tiles that live at the same time overlap.
    pub(crate) unsafe fn new(
        matrix: &Pieces<'a, f32>,
        width: usize,
        rows: Range<usize>,
        columns: Range<usize>,
    ) -> Self {
        assert!(columns.start <= columns.end && columns.end <= width, "{columns:?} of {width}");
        assert!(rows.start <= rows.end && rows.end * width <= matrix.len(), "{rows:?} of {}", matrix.len());
        // SAFETY: the first element; one past the end at most, if the tile is empty.
        let first = unsafe { matrix.as_ptr().add(rows.start * width + columns.start) };
        Self { first, stride: width, rows: rows.len(), columns: columns.len(), borrow: PhantomData }
    }

    /// How many rows.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// How many columns.
    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// One row of the rectangle.
    #[inline]
    pub(crate) fn row(&mut self, row: usize) -> &mut [f32] {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        // SAFETY: inside the matrix by `new`'s assertions; exclusive by its contract and by `&mut self`.
        unsafe { std::slice::from_raw_parts_mut(self.first.add(row * self.stride), self.columns) }
    }

    /// What is left below the first `rows` rows.
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    pub(crate) fn below(self, rows: usize) -> Self {
        assert!(rows <= self.rows, "{rows} rows of {}", self.rows);
        // SAFETY: row `rows` of the matrix, or the end if nothing is left.
        Self { first: unsafe { self.first.add(rows * self.stride) }, rows: self.rows - rows, ..self }
    }
}
