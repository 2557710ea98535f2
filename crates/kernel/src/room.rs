//! Room for results on the way: a thread's own, so that they stay in its core's caches.
use crate::lines::Lines;
use std::cell::Cell;

thread_local! {
    static ROOM: Cell<Lines> = Cell::default();
}

/// Lend `work` room for `len` numbers that start on a cache line; what they are is unspecified. Allocates only where
/// more is asked of a thread than ever before.
pub(crate) fn lend<R>(len: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
    // Taken out meanwhile, so that one loan within another is only slower.
    let mut room = ROOM.take();
    room.reserve(len);
    let result = work(&mut room.numbers_mut()[..len]);
    ROOM.set(room);
    result
}
