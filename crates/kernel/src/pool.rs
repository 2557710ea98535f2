//! Threads.
//!
//! ```text
//! caller                                   worker
//! ------                                   ------
//! publish the job, open the gate           wait at the gate: spin for a while, then sleep
//! wake sleepers, if any                    enter: count itself in, only while the gate is open
//! take tasks until none is left            take tasks until none is left
//! close the gate                           leave: count itself out
//! wait until nobody is inside
//! ```
//!
//! Nobody is waited for who did not enter: a worker that the system runs late costs a loop nothing. Publishing
//! and closing are one atomic write each, so that an empty loop takes about a microsecond on two threads.
use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::fmt;
use std::hint::spin_loop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle, yield_now};
use std::time::{Duration, Instant};

/// How long an idle thread burns its core before it sleeps. The gaps between the loops of one decode step are
/// shorter; waking a sleeper takes about as long.
const SPIN: Duration = Duration::from_micros(60);

// The gate: how many workers are inside, whether more may enter, and the number of the loop.
const INSIDE: u64 = (1 << 16) - 1;
const OPEN: u64 = 1 << 16;
const LOOP: u64 = 1 << 17;

thread_local! {
    /// Whether this thread is inside a loop: a loop within a loop runs on the spot.
    static BUSY: Cell<bool> = const { Cell::new(false) };
}

/// A fixed number of persistent threads that run one parallel loop at a time.
///
/// Threads that call at the same time take turns. A loop started from inside a loop runs on its own thread.
pub struct Pool {
    threads: usize,
    turn: Mutex<()>,
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

/// What a loop does, with the lifetime taken off: valid while its gate is open or somebody is inside.
type Work = *const (dyn Fn(usize) + Sync);

/// On a cache line of its own, so that waiting for one word does not slow the others.
#[repr(align(128))]
struct Apart<T>(T);

struct Shared {
    gate: Apart<AtomicU64>,
    next: Apart<AtomicUsize>,
    job: UnsafeCell<Option<(Work, usize)>>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    sleepers: AtomicUsize,
    stop: Mutex<bool>,
    wake: Condvar,
}

// SAFETY: `job` is written only by the caller whose turn it is, while the gate is closed and nobody is inside, and
// read only by those inside; the gate's release and acquire order the two. The work behind the pointer is `Sync`.
unsafe impl Sync for Shared {}
// SAFETY: as above; no field is tied to a thread.
unsafe impl Send for Shared {}

/// A lock whose holder panicked is still good here: nothing is left half done under any of them.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    /// A pool that uses `threads` threads, the caller's among them.
    pub fn new(threads: usize) -> Self {
        assert!(threads > 0, "a pool has at least one thread");
        assert!(threads as u64 <= INSIDE, "a pool of {threads} threads");
        let shared = Arc::new(Shared {
            gate: Apart(AtomicU64::new(0)),
            next: Apart(AtomicUsize::new(0)),
            job: UnsafeCell::new(None),
            panic: Mutex::new(None),
            sleepers: AtomicUsize::new(0),
            stop: Mutex::new(false),
            wake: Condvar::new(),
        });
        let workers = (1..threads)
            .map(|index| {
                let shared = Arc::clone(&shared);
                Builder::new()
                    .name(format!("longleaf-{index}"))
                    .spawn(move || shared.serve())
                    .expect("the system has room for one more thread")
            })
            .collect();
        Self { threads, turn: Mutex::new(()), shared, workers }
    }

    /// How many threads run a loop.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Call `work(0)`, …, `work(tasks - 1)`, each once, in any order and on any thread; return when all are done.
    ///
    /// If a task panics, tasks that nobody has begun are dropped and the panic goes on in the caller.
    pub fn run(&self, tasks: usize, work: &(dyn Fn(usize) + Sync)) {
        if tasks <= 1 || self.threads == 1 || BUSY.get() {
            (0..tasks).for_each(work);
            return;
        }
        let turn = lock(&self.turn);
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes. Nobody reads the pointer after `close` has returned, and `close` is
        // reached on every path, since a panic of our own share is caught.
        let erased =
            unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static (dyn Fn(usize) + Sync)>(work) };
        shared.open(erased, tasks);
        BUSY.set(true);
        let mine = catch_unwind(AssertUnwindSafe(|| shared.work(work, tasks)));
        if mine.is_err() {
            shared.next.0.store(tasks, Ordering::Relaxed);
        }
        BUSY.set(false);
        shared.close();
        let theirs = lock(&shared.panic).take();
        drop(turn);
        if let Some(panic) = mine.err().or(theirs) {
            resume_unwind(panic);
        }
    }

    /// Cut `data` into pieces of `len` (the last may be shorter) and call `work(index, piece)` once for each.
    pub fn chunks_mut<T: Send>(&self, data: &mut [T], len: usize, work: &(dyn Fn(usize, &mut [T]) + Sync)) {
        let total = data.len();
        let pieces = Pieces::new(data);
        self.run(total.div_ceil(len), &|index| {
            let first = index * len;
            // SAFETY: every index comes once, and pieces of different indices do not overlap.
            work(index, unsafe { pieces.get(first, len.min(total - first)) });
        });
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        *lock(&self.shared.stop) = true;
        self.shared.gate.0.fetch_add(LOOP, Ordering::SeqCst);
        self.shared.wake.notify_all();
        for worker in self.workers.drain(..) {
            // Workers catch the panics of tasks; a join can fail no other way.
            let _ = worker.join();
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("threads", &self.threads).finish_non_exhaustive()
    }
}

impl Shared {
    /// Publish a loop and let workers in.
    fn open(&self, work: &'static (dyn Fn(usize) + Sync), tasks: usize) {
        // SAFETY: the gate is closed, nobody is inside, and it is the caller's turn: nobody else looks.
        unsafe { *self.job.get() = Some((work, tasks)) };
        self.next.0.store(0, Ordering::Relaxed);
        self.gate.0.fetch_add(LOOP | OPEN, Ordering::SeqCst);
        // A worker counts itself among the sleepers before it looks at the gate a last time, and we do the two in
        // the other order: one of us sees the other.
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            drop(lock(&self.stop));
            self.wake.notify_all();
        }
    }

    /// Let nobody in any more, and wait until nobody is inside.
    fn close(&self) {
        let mut inside = self.gate.0.fetch_and(!OPEN, Ordering::AcqRel) & INSIDE;
        let patience = Patience::new();
        while inside > 0 {
            if patience.spin() {
                yield_now();
            }
            inside = self.gate.0.load(Ordering::Acquire) & INSIDE;
        }
    }

    /// Take tasks until none is left.
    fn work(&self, work: &(dyn Fn(usize) + Sync), tasks: usize) {
        loop {
            let task = self.next.0.fetch_add(1, Ordering::Relaxed);
            if task >= tasks {
                return;
            }
            work(task);
        }
    }

    /// A worker's life.
    fn serve(&self) {
        BUSY.set(true);
        let mut seen = 0;
        while let Some(gate) = self.wait(seen) {
            seen = gate / LOOP;
            if gate & OPEN == 0
                || self.gate.0.compare_exchange(gate, gate + 1, Ordering::AcqRel, Ordering::Relaxed).is_err()
            {
                // Closed already, or somebody else moved: look again, for the same loop if it is still open.
                seen -= u64::from(gate & OPEN != 0);
                continue;
            }
            // SAFETY: we are inside: the job was published before the gate opened, and nobody writes it until we
            // have left.
            let job = unsafe { *self.job.get() };
            if let Some((work, tasks)) = job {
                // SAFETY: the caller waits in `close` until we have left, so what it borrowed still lives.
                let work = unsafe { &*work };
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.work(work, tasks))) {
                    lock(&self.panic).get_or_insert(panic);
                    self.next.0.store(tasks, Ordering::Relaxed);
                }
            }
            self.gate.0.fetch_sub(1, Ordering::Release);
        }
    }

    /// Wait for a loop later than `seen` and return the gate as it then stood; `None` at the end of the pool.
    fn wait(&self, seen: u64) -> Option<u64> {
        let news = || Some(self.gate.0.load(Ordering::SeqCst)).filter(|gate| gate / LOOP != seen);
        let patience = Patience::new();
        let gate = loop {
            if let Some(gate) = news() {
                break gate;
            }
            if patience.spin() {
                let mut stop = lock(&self.stop);
                self.sleepers.fetch_add(1, Ordering::SeqCst);
                let gate = loop {
                    if let Some(gate) = news() {
                        break gate;
                    }
                    stop = self.wake.wait(stop).unwrap_or_else(PoisonError::into_inner);
                };
                self.sleepers.fetch_sub(1, Ordering::SeqCst);
                break gate;
            }
        };
        // The end is a loop that never opens, so that the common path takes no lock.
        (gate & OPEN != 0 || !*lock(&self.stop)).then_some(gate)
    }
}

/// Spinning with a limit.
struct Patience(Instant);

impl Patience {
    fn new() -> Self {
        Self(Instant::now())
    }

    /// Burn a fraction of a microsecond; true when it has been enough.
    fn spin(&self) -> bool {
        for _ in 0..8 {
            spin_loop();
        }
        self.0.elapsed() > SPIN
    }
}

/// A slice that several threads write to, each its own part.
#[derive(Debug)]
pub(crate) struct Pieces<'a, T> {
    data: *mut T,
    len: usize,
    borrow: std::marker::PhantomData<&'a mut [T]>,
}

// SAFETY: handing out parts is `unsafe`, with the promise that they do not overlap; then this is `&mut [T]` cut up.
unsafe impl<T: Send> Sync for Pieces<'_, T> {}

impl<'a, T> Pieces<'a, T> {
    pub(crate) fn new(data: &'a mut [T]) -> Self {
        Self { data: data.as_mut_ptr(), len: data.len(), borrow: std::marker::PhantomData }
    }

    /// Length of the whole.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Where the whole begins.
    pub(crate) fn as_ptr(&self) -> *mut T {
        self.data
    }

    /// The numbers `first..first + len`.
    ///
    /// # Safety
    /// No two parts that live at the same time overlap.
    pub(crate) unsafe fn get(&self, first: usize, len: usize) -> &'a mut [T] {
        assert!(first <= self.len && len <= self.len - first, "{first} + {len} of {}", self.len);
        // SAFETY: in bounds, exclusively borrowed for `'a`, and disjoint by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(first), len) }
    }
}
