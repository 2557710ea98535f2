//! Threads.

/// A fixed number of persistent threads that run one parallel loop at a time.
#[derive(Debug)]
pub struct Pool {
    threads: usize,
}

impl Pool {
    /// A pool that uses `threads` threads, the caller's among them.
    pub fn new(threads: usize) -> Self {
        assert!(threads > 0, "a pool has at least one thread");
        Self { threads }
    }

    /// How many threads run a loop.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Call `work(0)`, …, `work(tasks - 1)`, each once, in any order and on any thread; return when all are done.
    pub fn run(&self, tasks: usize, work: &(dyn Fn(usize) + Sync)) {
        for task in 0..tasks {
            work(task);
        }
    }

    /// Cut `data` into pieces of `len` (the last may be shorter) and call `work(index, piece)` once for each.
    pub fn chunks_mut<T: Send>(&self, data: &mut [T], len: usize, work: &(dyn Fn(usize, &mut [T]) + Sync)) {
        for (index, piece) in data.chunks_mut(len).enumerate() {
            work(index, piece);
        }
    }
}
