//! One seed, one run: of a program whose threads and processes race, with one hart and with several.

use crate::kilburn::{Outcome, compile, kilburn_in};
use serde_json::Value;
use std::fs;
use std::path::Path;

/// Threads that race for a counter without a lock, for a lock, for a pipe and against a timer's
/// signals; children that race with each other. All prints depend on who came first.
const RACES: &str = r#"
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { THREADS = 6, TURNS = 3000 };
static volatile long racy;
static atomic_long exact, ticks;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned order;
static int ends[2];

static void tick(int signal)
{
    ticks++;
}

static void *race(void *name)
{
    volatile unsigned work = 0;
    for (int i = 0; i < TURNS; i++) {
        long seen = racy;
        for (int n = 0; n < i % 7; n++)
            work++;
        racy = seen + 1;
        exact++;
        if (i % 50 == 0) {
            pthread_mutex_lock(&lock);
            order = order * 31 + (unsigned)(long)name;
            pthread_mutex_unlock(&lock);
        }
        if (i % 500 == (long)name * 10)
            sched_yield();
        if (i % 1000 == 0)
            write(ends[1], &"ABCDEF"[(long)name], 1);
    }
    return name;
}

int main(void)
{
    struct itimerval often = { { 0, 70 }, { 0, 70 } }, off = { 0 };
    char text[64] = "", bytes[8], *large = malloc(1 << 20);
    pthread_t threads[THREADS];
    struct timespec now;

    pipe(ends);
    signal(SIGALRM, tick);
    setitimer(ITIMER_REAL, &often, NULL);
    for (long i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, race, (void *)i);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    setitimer(ITIMER_REAL, &off, NULL);
    for (int i = 0; i < 5; i++)
        if (!fork()) {
            for (volatile int n = 0; n < (i * 7919) % 5 * 20000; n++)
                ;
            write(ends[1], &"12345"[i], 1);
            _exit(i);
        }
    for (int status, pid; (pid = wait(&status)) > 0; )
        order = order * 31 + pid + status;
    read(ends[0], text, sizeof text - 1);
    getrandom(bytes, sizeof bytes, 0);
    clock_gettime(CLOCK_MONOTONIC, &now);
    printf("exact %ld\n", (long)exact);
    printf("%ld %ld %x %s %p\n", racy, (long)ticks, order, text, (void *)large);
    printf("%ld.%09ld %llx\n", (long)now.tv_sec, now.tv_nsec, *(unsigned long long *)bytes);
    return 0;
}
"#;

/// What a run printed, its system calls, and its figures but for those of the host.
#[derive(PartialEq, Eq, Debug)]
struct Run {
    outcome: Outcome,
    calls: String,
    figures: String,
}

fn run(folder: &Path, seed: &str, harts: &str) -> Run {
    let (calls, figures) = (folder.join("calls"), folder.join("figures"));
    let options = [
        "run".to_owned(),
        format!("--seed={seed}"),
        format!("--harts={harts}"),
        format!("--strace={}", calls.display()),
        "--stats=json".to_owned(),
        format!("--stats-file={}", figures.display()),
        "./races".to_owned(),
    ];
    let outcome = kilburn_in(folder, &options);
    assert_eq!((outcome.status, &*outcome.stderr), (0, ""), "{outcome:?}");
    let figures = fs::read_to_string(figures).expect("written");
    let mut figures: Value = serde_json::from_str(&figures).expect("JSON");
    assert!(figures.as_object_mut().expect("an object").remove("host").is_some());
    let calls = fs::read_to_string(calls).expect("written");
    Run { outcome, calls, figures: figures.to_string() }
}

#[test]
fn threads_and_processes_that_race_do_so_alike_with_one_seed() {
    let work = tempfile::tempdir().expect("a folder");
    if !compile(work.path(), "races", RACES, &["-w", "-static", "-pthread"]) {
        return;
    }
    let mut seen = Vec::new();
    for harts in ["1", "2", "5"] {
        let first = run(work.path(), "7", harts);
        assert!(first.outcome.stdout.starts_with("exact 18000\n"), "{first:?}");
        assert!(first.calls.lines().count() > 100, "{}", first.calls);
        assert_eq!(first, run(work.path(), "7", harts), "{harts} harts");
        assert_ne!(first.outcome, run(work.path(), "8", harts).outcome, "{harts} harts");
        seen.push(first.outcome.stdout);
    }
    // The races are real: their outcome depends on how many run at a time.
    let updates = |text: &String| text.lines().nth(1).map(str::to_owned);
    assert_ne!(updates(&seen[0]), updates(&seen[1]));
    assert_ne!(updates(&seen[1]), updates(&seen[2]));
}
