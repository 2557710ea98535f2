//! Names for content: whose blocks these are, and which bytes were read.
use std::fmt::{self, Write};

use sha2::{Digest, Sha256};

/// Whose blocks these are: a hash over weights, tokenizer, rope and layout, checked before the first one is used.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(pub [u8; 32]);

/// Which bytes were read: SHA-256 of a document's or a section's content (and of whatever else, in the caller's
/// judgement, what was computed from it depends on).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContentHash(pub [u8; 32]);

impl Fingerprint {
    /// A hash over named parts, for example `("weights", …)`, `("tokenizer", …)`. Lengths are hashed too, so that
    /// parts cannot run into one another.
    pub fn of(parts: &[(&str, &[u8])]) -> Self {
        Self(digest(parts.iter().flat_map(|(name, bytes)| [name.as_bytes(), bytes])))
    }
}

impl ContentHash {
    /// The hash of one run of bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The first `bytes` of it in hexadecimal digits: a name for a file or folder.
    ///
    /// # Panics
    /// If `bytes` is more than 32.
    pub fn hex(&self, bytes: usize) -> String {
        self.0[..bytes].iter().fold(String::new(), |mut digits, byte| {
            let _ = write!(digits, "{byte:02x}");
            digits
        })
    }

    /// The hash of several runs in their order. Lengths are hashed too: `["ab", "c"]` differs from `["a", "bc"]`.
    pub fn of_parts(parts: &[&[u8]]) -> Self {
        Self(digest(parts.iter().copied()))
    }
}

fn digest<'a>(parts: impl Iterator<Item = &'a [u8]>) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// Eight bytes are enough to tell two apart on a screen.
fn short(bytes: &[u8; 32], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes[..8].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        short(&self.0, f)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        short(&self.0, f)
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        short(&self.0, f)
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        short(&self.0, f)
    }
}
