//! The thread pool under load: every task once, panics passed on, callers and loops in each other's way.
use longleaf_kernel::Pool;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

#[test]
fn every_task_runs_once() {
    for threads in 1..=5 {
        let pool = Pool::new(threads);
        for round in 0..2000 {
            let tasks = round % 37;
            let counts: Vec<_> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
            pool.run(tasks, &|task| {
                counts[task].fetch_add(1, Relaxed);
            });
            assert!(counts.iter().all(|count| count.load(Relaxed) == 1), "{threads} threads, round {round}");
        }
    }
}

#[test]
fn chunks_cover_the_slice() {
    let pool = Pool::new(3);
    for len in [1, 7, 64, 1000] {
        let mut data = vec![0_usize; 999];
        pool.chunks_mut(&mut data, len, &|index, piece| {
            for (i, number) in piece.iter_mut().enumerate() {
                *number += index * len + i + 1;
            }
        });
        assert!(data.iter().enumerate().all(|(i, number)| *number == i + 1), "pieces of {len}");
    }
    pool.chunks_mut(&mut [0_u8; 0], 4, &|_, _| panic!("no pieces of nothing"));
}

#[test]
fn panics_reach_the_caller_and_the_pool_lives_on() {
    let pool = Pool::new(4);
    for bad in 0..64 {
        let seen = catch_unwind(AssertUnwindSafe(|| {
            pool.run(64, &|task| assert_ne!(task, bad, "task {bad} is bad"));
        }));
        let panic = seen.expect_err("the panic is passed on");
        let message = panic.downcast_ref::<String>().expect("a formatted message");
        assert!(message.contains(&format!("task {bad} is bad")), "{message}");
        let sum = AtomicUsize::new(0);
        pool.run(10, &|task| {
            sum.fetch_add(task, Relaxed);
        });
        assert_eq!(sum.into_inner(), 45);
    }
}

#[test]
fn callers_take_turns_and_loops_nest() {
    let pool = Pool::new(3);
    let sum = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..300 {
                    pool.run(5, &|_| {
                        pool.run(3, &|inner| {
                            sum.fetch_add(inner, Relaxed);
                        });
                    });
                }
            });
        }
    });
    assert_eq!(sum.into_inner(), 4 * 300 * 5 * 3);
}

#[test]
fn sleepers_wake_up_and_idle_pools_end() {
    let pool = Pool::new(4);
    for pause in [0, 10, 50, 70, 100, 500, 3000] {
        for _ in 0..20 {
            std::thread::sleep(Duration::from_micros(pause));
            let begun = AtomicUsize::new(0);
            // Two tasks that wait for each other: only a second thread can end this.
            pool.run(2, &|_| {
                begun.fetch_add(1, Relaxed);
                let start = Instant::now();
                while begun.load(Relaxed) < 2 {
                    assert!(start.elapsed() < Duration::from_secs(30), "nobody woke after {pause} µs");
                    std::thread::yield_now();
                }
            });
        }
    }
    for _ in 0..50 {
        drop(Pool::new(3));
    }
}

/// Idle threads must not take cores from others: a second of idleness costs a few milliseconds of CPU time.
#[test]
#[cfg(target_os = "linux")]
fn idle_threads_sleep() {
    let pool = Pool::new(2);
    pool.run(8, &|_| {});
    let ticks = || -> u64 {
        let tasks = std::fs::read_dir("/proc/self/task").expect("proc");
        tasks
            .filter_map(|task| {
                let stat = std::fs::read_to_string(task.ok()?.path().join("stat")).ok()?;
                let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
                let fields: Vec<_> = rest.split_whitespace().collect();
                name.starts_with("longleaf").then(|| fields[11].parse::<u64>().unwrap_or(0))
            })
            .sum()
    };
    // Other tests of this process have pools too; take the quietest of a few intervals.
    let quietest = (0..8).map(|_| {
        let before = ticks();
        std::thread::sleep(Duration::from_millis(250));
        ticks().saturating_sub(before)
    });
    assert!(quietest.min().unwrap_or(0) <= 2, "idle workers burn time");
}
