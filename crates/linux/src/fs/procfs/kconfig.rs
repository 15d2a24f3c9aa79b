//! `/proc/config.gz`: what this kernel has, in Linux's option names.
//!
//! Options that stand for a system call follow the table of calls ([`CALLS`]); the others are in
//! the text beside this file. An option that is not named is not there. Neighbour:
//! [`super::system`].

use crate::kernel::Kernel;
use crate::syscall::table;
use flate2::{Compression, GzBuilder};
use kilburn_addr::Errno;
use std::io::Write as _;

/// Options that no system call stands for.
const TEXT: &str = include_str!("kconfig.txt");

/// Options and the number of a call that is there exactly when they are set.
const CALLS: &[(&str, u64)] = &[
    ("AIO", 0),
    ("BPF_SYSCALL", 280),
    ("CROSS_MEMORY_ATTACH", 270),
    ("EPOLL", 20),
    ("EVENTFD", 19),
    ("FANOTIFY", 262),
    ("FUTEX", 98),
    ("INOTIFY_USER", 26),
    ("IO_URING", 425),
    ("KEYS", 217),
    ("MEMBARRIER", 283),
    ("MEMFD_CREATE", 279),
    ("MIGRATION", 239),
    ("PERF_EVENTS", 241),
    ("POSIX_MQUEUE", 180),
    ("QUOTA", 60),
    ("RSEQ", 293),
    ("SECCOMP", 277),
    ("SIGNALFD", 74),
    ("SWAP", 224),
    ("SYSVIPC", 194),
    ("TIMERFD", 85),
    ("USERFAULTFD", 282),
];

/// All options, as kconfig writes them.
fn options() -> String {
    let line = |(option, call): &(&str, u64)| match table::lookup(*call) {
        Some(_) => format!("CONFIG_{option}=y\n"),
        None => format!("# CONFIG_{option} is not set\n"),
    };
    let calls: String = CALLS.iter().map(line).collect();
    format!("{TEXT}#\n# System calls\n#\n{calls}")
}

/// The options as Linux shows them, compressed; the same bytes every time.
pub(super) fn gzipped(_: &Kernel) -> Result<Vec<u8>, Errno> {
    let mut gzip = GzBuilder::new().write(Vec::new(), Compression::default());
    gzip.write_all(options().as_bytes()).and_then(|()| gzip.finish()).map_err(|_| Errno::EIO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_line_is_a_setting_once_or_a_comment_as_kconfig_writes_them() {
        let mut seen = BTreeSet::new();
        for line in options().lines() {
            let unset = line.strip_prefix("# CONFIG_").and_then(|l| l.strip_suffix(" is not set"));
            let set = line.strip_prefix("CONFIG_").and_then(|l| Some(l.split_once('=')?.0));
            match unset.or(set) {
                Some(option) => assert!(seen.insert(option.to_owned()), "{option} comes twice"),
                None => assert!(line.starts_with('#') && !line.contains("CONFIG"), "{line}"),
            }
        }
    }

    #[test]
    fn an_option_that_stands_for_a_call_is_set_when_the_call_is_there() {
        assert!(options().contains("\nCONFIG_MEMFD_CREATE=y\n"));
        assert!(options().contains("\n# CONFIG_IO_URING is not set\n"));
    }
}
