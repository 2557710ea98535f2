//! Angles of the rotary embedding, a block of positions at a time, shared by all layers.
use longleaf_kernel::{BLOCK_TOKENS, Compute, KvBlock};
use longleaf_model::Rotation;
use std::collections::HashMap;

/// Cosines and sines of [`BLOCK_TOKENS`] consecutive positions, `[BLOCK_TOKENS, rotated / 2]` each.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) cos: Box<[f32]>,
    pub(crate) sin: Box<[f32]>,
}

impl Table {
    /// Numbers of one position.
    fn half(&self) -> usize {
        self.cos.len() / BLOCK_TOKENS
    }

    /// Rotate `rows`, `[tokens, …, head_dim]` of `row` numbers a token, the first standing at place `first`.
    pub(crate) fn rotate(
        &self,
        compute: &Compute,
        head_dim: usize,
        first: usize,
        rows: &mut [f32],
        row: usize,
    ) {
        let half = self.half();
        for (place, row) in (first..).zip(rows.chunks_exact_mut(row)) {
            let angles = place * half..(place + 1) * half;
            compute.kernels().rope(row, head_dim, &self.cos[angles.clone()], &self.sin[angles]);
        }
    }
}

/// The tables that are in use, by the position of their first place.
#[derive(Debug)]
pub(crate) struct Angles {
    rotation: Rotation,
    tables: HashMap<i64, Table>,
    /// All places of these stand at one position.
    level: HashMap<i64, Table>,
}

/// How many tables are kept before those of a sequence's past are given up.
const KEPT: usize = 1024;

impl Angles {
    pub(crate) fn new(rotation: Rotation) -> Self {
        Self { rotation, tables: HashMap::new(), level: HashMap::new() }
    }

    /// Make the tables that `start`s will ask for.
    pub(crate) fn prepare(&mut self, starts: impl IntoIterator<Item = Place>) {
        if self.tables.len() > KEPT {
            self.tables.clear();
        }
        if self.level.len() > KEPT {
            self.level.clear();
        }
        for place in starts {
            match place {
                Place::From(start) => {
                    let rotation = &mut self.rotation;
                    self.tables.entry(start).or_insert_with(|| {
                        let (cos, sin) = rotation.at(start..start + BLOCK_TOKENS as i64);
                        Table { cos: cos.into(), sin: sin.into() }
                    });
                }
                Place::At(position) => {
                    let rotation = &mut self.rotation;
                    self.level.entry(position).or_insert_with(|| {
                        let (cos, sin) = rotation.at(position..position + 1);
                        Table { cos: cos.repeat(BLOCK_TOKENS).into(), sin: sin.repeat(BLOCK_TOKENS).into() }
                    });
                }
            }
        }
    }

    /// A table that was prepared.
    pub(crate) fn get(&self, place: Place) -> &Table {
        let table = match place {
            Place::From(start) => self.tables.get(&start),
            Place::At(position) => self.level.get(&position),
        };
        table.expect("tables are prepared before they are used")
    }
}

/// Where the tokens of a block stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// One after another from this position on.
    From(i64),
    /// All at this position.
    At(i64),
}

/// Add the layer's bias to `keys`, `[tokens, kv_heads, head_dim]`, rotate them to their place and write them with
/// their values to `block`.
pub(crate) fn write_rotated(
    compute: &Compute,
    table: &Table,
    key_bias: Option<&[f32]>,
    (keys, values): (&mut [f32], &[f32]),
    block: &mut KvBlock,
) {
    let (dim, row) = (block.head_dim(), block.kv_heads() * block.head_dim());
    if let Some(bias) = key_bias {
        for keys in keys.chunks_exact_mut(row) {
            keys.iter_mut().zip(bias).for_each(|(x, b)| *x += b);
        }
    }
    table.rotate(compute, dim, 0, keys, row);
    block.write(0, keys, values);
}
