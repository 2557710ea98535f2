//! Peaks of tiles: four sums from two by two operands that never leave their tiles.
use super::{Amx, Shapes, Tiles};
use crate::ceilings::Arithmetic;
use std::arch::asm;

/// All of them whole.
static SHAPES: Shapes = Shapes::new([(16, 64); 8]);

/// [`crate::Kernels::burn`] of bytes and bf16.
pub(super) fn burn(amx: &Amx, arithmetic: Arithmetic, rounds: usize) -> Option<usize> {
    let _tiles = Tiles::shape(amx, &SHAPES);
    macro_rules! products {
        ($instruction:literal) => {
            // SAFETY: the tiles have their shapes; only registers and tiles are touched.
            unsafe {
                asm!(
                    "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
                    "tilezero tmm4", "tilezero tmm5", "tilezero tmm6", "tilezero tmm7",
                    "2:",
                    concat!($instruction, " tmm0, tmm4, tmm6"),
                    concat!($instruction, " tmm1, tmm4, tmm7"),
                    concat!($instruction, " tmm2, tmm5, tmm6"),
                    concat!($instruction, " tmm3, tmm5, tmm7"),
                    "dec {rounds}",
                    "jnz 2b",
                    rounds = inout(reg) rounds.max(1) => _,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nomem, nostack),
                );
            }
        };
    }
    match arithmetic {
        Arithmetic::F32 => return None,
        Arithmetic::Int8 => products!("tdpbsud"),
        Arithmetic::Bf16 => products!("tdpbf16ps"),
    }
    let words = 16 * 16 * 16;
    Some(4 * 2 * words * if arithmetic == Arithmetic::Int8 { 4 } else { 2 })
}
