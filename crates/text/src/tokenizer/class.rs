//! General categories of characters, as pre-tokenizers ask for them.

use std::sync::LazyLock;
use unicode_properties::{GeneralCategory as G, UnicodeGeneralCategory};

pub(super) const LETTER: u8 = 1;
pub(super) const NUMBER: u8 = 2;
pub(super) const MARK: u8 = 4;
pub(super) const PUNCTUATION: u8 = 8;
pub(super) const SYMBOL: u8 = 16;
/// `\s`: Unicode's `White_Space`.
pub(super) const SPACE: u8 = 32;
/// `Lu` and `Lt`.
pub(super) const UPPER: u8 = 64;
/// `Ll`.
pub(super) const LOWER: u8 = 128;

/// Classes of the basic plane, computed once: a search per character would be most of the work.
static BASIC_PLANE: LazyLock<Box<[u8]>> =
    LazyLock::new(|| (0..0x1_0000).map(|c| char::from_u32(c).map_or(0, compute)).collect());

pub(super) fn class(c: char) -> u8 {
    BASIC_PLANE.get(c as usize).copied().unwrap_or_else(|| compute(c))
}

fn compute(c: char) -> u8 {
    let category = match c.general_category() {
        G::UppercaseLetter | G::TitlecaseLetter => LETTER | UPPER,
        G::LowercaseLetter => LETTER | LOWER,
        G::ModifierLetter | G::OtherLetter => LETTER,
        G::DecimalNumber | G::LetterNumber | G::OtherNumber => NUMBER,
        G::NonspacingMark | G::SpacingMark | G::EnclosingMark => MARK,
        G::ConnectorPunctuation
        | G::DashPunctuation
        | G::OpenPunctuation
        | G::ClosePunctuation
        | G::InitialPunctuation
        | G::FinalPunctuation
        | G::OtherPunctuation => PUNCTUATION,
        G::MathSymbol | G::CurrencySymbol | G::ModifierSymbol | G::OtherSymbol => SYMBOL,
        _ => 0,
    };
    if c.is_whitespace() { category | SPACE } else { category }
}
