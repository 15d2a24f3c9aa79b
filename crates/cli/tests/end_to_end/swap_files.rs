//! Swap in files that a guest made in its root folder and switched on itself.

use crate::kilburn::{Outcome, compile, kilburn};
use crate::pressure::{WORK, assert_right_or_killed, program, with_enough};
use serde_json::Value;
use std::fs;
use std::path::Path;

const PAGE: usize = 4096;
/// Of each file, header included.
const PAGES: usize = 16384;

/// Makes files, has swap in them, becomes a program: `with_swap FILE... -- PROGRAM ARGS...`.
const WITH_SWAP: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdint.h>
#include <string.h>
#include <sys/swap.h>
#include <unistd.h>

static int make(const char *path)
{
    static char page[4096];
    uint32_t header[2] = {1, PAGES - 1};
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
    if (fallocate(fd, 0, 0, PAGES * 4096))
        return -1;
    memcpy(page + 1024, header, 8);
    memcpy(page + 4086, "SWAPSPACE2", 10);
    if (pwrite(fd, page, 4096, 0) != 4096)
        return -1;
    memset(page, 0, 4096);
    close(fd);
    return swapon(path, SWAP_FLAG_PREFER | 5);
}

int main(int argc, char **argv)
{
    char *environment[] = {NULL};
    for (argv++; *argv && strcmp(*argv, "--"); argv++)
        if (make(*argv)) {
            perror(*argv);
            return 1;
        }
    if (*argv)
        execve(argv[1], argv + 1, environment);
    perror("execve");
    return 1;
}
"#;

/// A root folder with that program and programs/pressure, or none without a compiler.
fn root() -> Option<tempfile::TempDir> {
    let root = tempfile::tempdir().expect("a folder");
    let pages = format!("-DPAGES={PAGES}");
    if !compile(root.path(), "with_swap", WITH_SWAP, &["-static", &pages]) {
        return None;
    }
    fs::copy(program(), root.path().join("pressure")).expect("copied");
    Some(root)
}

/// Runs the work in little memory, with swap in these files.
fn run(root: &Path, options: &[&str], files: &[&str], work: &[&str]) -> Outcome {
    let root = format!("--root={}", root.display());
    let machine = ["run", "--memory=4M", "--stats=json", &root];
    let program = [&["/with_swap"], files, &["--", "/pressure"], work].concat();
    kilburn(&[&machine, options, &program].concat())
}

fn figures(outcome: &Outcome) -> Value {
    serde_json::from_str(&outcome.stderr).unwrap_or_else(|e| panic!("{e}: {outcome:?}"))
}

/// Pages of a file after its header, and how many of them hold anything.
fn swapped(path: &Path) -> (usize, usize) {
    let bytes = fs::read(path).expect("there");
    assert_eq!(&bytes[PAGE - 10..PAGE], b"SWAPSPACE2", "the header stays");
    let pages = bytes[PAGE..].chunks(PAGE);
    (pages.len(), pages.filter(|page| page.iter().any(|&byte| byte != 0)).count())
}

#[test]
fn swap_in_files_of_the_guests_own_gives_everything_back() {
    let expected = with_enough(&WORK);
    for files in [&["/swap"][..], &["/one", "/two"]] {
        let Some(root) = root() else { return };
        let outcome = run(root.path(), &["--harts=2"], files, &WORK);
        assert_eq!((outcome.status, &outcome.stdout), (0, &expected), "{outcome:?}");
        let figures = figures(&outcome);
        for figure in ["swapped_out", "swapped_in"] {
            assert!(figures["reclaim"][figure].as_u64() > Some(500), "{figures}");
        }
        // The machine ended with swap in use.
        assert_eq!(figures["frames"]["in_use_at_end"], 0, "frames leaked");
        for file in files {
            let (pages, used) = swapped(&root.path().join(&file[1..]));
            assert_eq!(pages, PAGES - 1);
            assert!((100..PAGES - 1).contains(&used), "{used} pages of {file} hold something");
        }
    }
}

#[test]
fn a_failing_swap_file_never_makes_bytes_wrong() {
    let work = ["sort", "6"];
    let expected = with_enough(&work);
    let mut ends = Vec::new();
    for faults in [
        "eio=0.001",
        "enospc=0.2",
        "short=0.05",
        "torn=0.0005",
        "delay=0.01",
        "gone=3000",
        // The file system below it fails, once the files are made.
        "file:gone=9000,under=/swap",
        "file:torn=0.00005,under=/swap",
    ] {
        let Some(root) = root() else { return };
        let inject = format!("--inject={faults}");
        let outcome = run(root.path(), &[&inject], &["/swap"], &work);
        assert_right_or_killed(&outcome, &expected, faults);
        assert_eq!(figures(&outcome)["frames"]["in_use_at_end"], 0, "{faults}: frames leaked");
        ends.push(outcome.status);
    }
    assert!(ends.contains(&0) && ends.contains(&135), "{ends:?}");
}
