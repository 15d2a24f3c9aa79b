//! The figures as aligned columns for people.

use super::{Exit, Figures, Process, Syscall};
use std::fmt::Write as _;

/// Processes shown one by one; the JSON form has them all.
const PROCESSES_SHOWN: usize = 20;

/// Width of a line of system calls.
const LINE_WIDTH: usize = 96;

/// Width of a row's name and of its number.
const NAME: usize = 30;
const NUMBER: usize = 14;

pub(super) fn render(figures: &Figures) -> String {
    let mut out = String::new();
    head(&mut out, figures);
    faults(&mut out, figures);
    memory(&mut out, figures);
    reclaim(&mut out, figures);
    processes(&mut out, &figures.processes);
    translation(&mut out, figures);
    syscalls(&mut out, &figures.syscalls);
    let _ = writeln!(
        out,
        "host          {:.3} s, {:.0} MIPS (differs from run to run)",
        figures.host.wall_seconds, figures.host.mips
    );
    out
}

fn head(out: &mut String, figures: &Figures) {
    let machine = &figures.machine;
    let end = match figures.exit {
        Exit::Exited(status) => format!("exited with status {status}"),
        Exit::Killed(signal) => format!("killed by signal {signal}"),
    };
    let _ = writeln!(out, "\n--- figures {}", "-".repeat(LINE_WIDTH - 12));
    let _ = writeln!(
        out,
        "machine       {}, {}, {} hart{}, seed {}, ASLR {}; {end}",
        bytes(machine.memory_bytes),
        machine.paging,
        machine.harts,
        if machine.harts == 1 { "" } else { "s" },
        machine.seed,
        if machine.aslr { "on" } else { "off" },
    );
}

fn row(out: &mut String, name: &str, number: u64, note: &str) {
    let line = format!("  {name:<NAME$}{:>NUMBER$}  {note}", grouped(number));
    let _ = writeln!(out, "{}", line.trim_end());
}

fn faults(out: &mut String, figures: &Figures) {
    let f = &figures.faults;
    let _ =
        writeln!(out, "page faults {:>width$}", grouped(f.total), width = 2 + NAME + NUMBER - 12);
    row(out, "demand-zero", f.demand_zero, "anonymous page written first: a zeroed frame");
    row(out, "zero page", f.zero_page, "anonymous page read first: the shared page of zeroes");
    row(out, "file read", f.file_read, "page of a file or shared memory, from the page cache");
    row(out, "file write", f.file_write, "shared mapping written: the page cache's own frame");
    row(out, "file copy", f.file_cow, "private mapping written first: copied from the page cache");
    row(out, "copy-on-write, copied", f.cow_copy, "the frame was shared");
    row(out, "copy-on-write, reused", f.cow_reuse, "nobody else had the frame any more");
    if f.swap > 0 {
        row(out, "swap", f.swap, "brought back from swap, or still in its cache");
    }
    row(out, "spurious", f.spurious, "already resolved");
    row(out, "SIGSEGV, no area", f.segv_maperr, "SEGV_MAPERR");
    row(out, "SIGSEGV, no right", f.segv_accerr, "SEGV_ACCERR");
    row(out, "SIGBUS", f.bus, "beyond the end of the file");
    let _ = writeln!(
        out,
        "  (of these {} grew a stack, {} needed I/O)",
        grouped(f.stack_growth),
        grouped(f.major)
    );
}

fn memory(out: &mut String, figures: &Figures) {
    let frames = &figures.frames;
    let tables = &figures.page_tables;
    let _ = writeln!(out, "memory");
    let pages = |n: u64| format!("of 4 KiB, {}", bytes(n * 4096));
    row(out, "frames", frames.total, &pages(frames.total));
    row(out, "frames in use, peak", frames.peak, &pages(frames.peak));
    row(out, "page-table pages, peak", tables.peak, &pages(tables.peak));
    row(out, "page cache after the last exit", frames.page_cache_at_end, "then dropped");
    let leak = |n| if n == 0 { "nothing leaked" } else { "LEAKED" };
    row(out, "frames in use at the end", frames.in_use_at_end, leak(frames.in_use_at_end));
    row(out, "page-table pages at the end", tables.in_use_at_end, "");
}

/// What was done because memory was short, if it ever was.
fn reclaim(out: &mut String, figures: &Figures) {
    let r = &figures.reclaim;
    if r.scanned == 0 && r.oom_kills == 0 {
        return;
    }
    let _ = writeln!(out, "memory was short, {} chose", r.policy);
    row(out, "pages considered", r.scanned, "");
    row(out, "pages evicted", r.evicted, "");
    row(out, "pages written to swap", r.swapped_out, "");
    row(out, "pages read from swap", r.swapped_in, "");
    row(out, "  of them read ahead", r.read_ahead, &format!("{} used then", r.read_ahead_used));
    row(out, "refaults", r.refaults, "came back that the policy remembered");
    row(out, "direct reclaims", r.direct, "by allocations, for themselves");
    row(out, "kswapd runs", r.kswapd, "");
    if r.read_errors + r.write_errors > 0 {
        row(out, "swap read errors", r.read_errors, "SIGBUS");
        row(out, "swap write errors", r.write_errors, "the page stayed");
    }
    row(out, "out-of-memory kills", r.oom_kills, "");
}

fn processes(out: &mut String, all: &[Process]) {
    let _ = writeln!(out, "processes, each at its end (KiB)");
    let _ = writeln!(
        out,
        "  {:>5} {:>5} {:<16}{:>8}{:>8}{:>8}{:>9}{:>8}{:>9}{:>13}  end",
        "pid", "ppid", "name", "RSS", "PSS", "USS", "peak RSS", "tables", "faults", "instructions"
    );
    for p in all.iter().take(PROCESSES_SHOWN) {
        let end = match p.exit {
            Exit::Exited(status) => format!("exit {status}"),
            Exit::Killed(signal) => format!("signal {signal}"),
        };
        let _ = writeln!(
            out,
            "  {:>5} {:>5} {:<16}{:>8}{:>8}{:>8}{:>9}{:>8}{:>9}{:>13}  {end}",
            p.pid,
            p.ppid,
            p.name,
            p.rss_kib,
            p.pss_kib,
            p.uss_kib,
            p.peak_rss_kib,
            p.page_tables * 4,
            p.minor_faults + p.major_faults,
            p.instructions
        );
    }
    if all.len() > PROCESSES_SHOWN {
        let _ = writeln!(out, "  and {} more (all in --stats=json)", all.len() - PROCESSES_SHOWN);
    }
}

fn translation(out: &mut String, figures: &Figures) {
    let tlb = &figures.tlb;
    let lookups = tlb.hits + tlb.misses;
    let rate = if lookups == 0 { 0.0 } else { tlb.misses as f64 / lookups as f64 * 100.0 };
    let _ = writeln!(out, "processor");
    row(out, "TLB hits", tlb.hits, "");
    row(out, "TLB misses", tlb.misses, &format!("{rate:.4} % of {}", grouped(lookups)));
    row(out, "page-table walks", tlb.walks, &format!("{} entries read", grouped(tlb.walk_steps)));
    row(out, "TLB flushes", tlb.flushes, "");
    row(out, "instructions", figures.instructions, "");
    row(out, "context switches", figures.context_switches, "");
    let spaces = &figures.address_spaces;
    let note = format!("and {} times none, as the kernel's own work borrows", spaces.lazy_kept);
    row(out, "address-space switches", spaces.switches, &note);
    let _ = writeln!(out, "  {:<NAME$}{:>NUMBER$.6}  s", "virtual time", figures.virtual_seconds);
}

fn syscalls(out: &mut String, all: &[Syscall]) {
    let total: u64 = all.iter().map(|s| s.calls).sum();
    let _ =
        writeln!(out, "system calls {:>width$}", grouped(total), width = 2 + NAME + NUMBER - 13);
    let name = |s: &Syscall| match s.name {
        Some(name) => name.to_owned(),
        None => format!("number {}", s.number),
    };
    let mut known: Vec<&Syscall> = all.iter().filter(|s| s.implemented).collect();
    known.sort_by_key(|s| (std::cmp::Reverse(s.calls), s.number));
    wrapped(out, known.iter().map(|s| format!("{} {}", name(s), grouped(s.calls))));
    let missing: Vec<&Syscall> = all.iter().filter(|s| !s.implemented).collect();
    if !missing.is_empty() {
        let _ = writeln!(out, "  not there, answered ENOSYS:");
        wrapped(out, missing.iter().map(|s| format!("{} {}", name(s), grouped(s.calls))));
    }
}

/// Writes words separated by commas, in lines of [`LINE_WIDTH`].
fn wrapped(out: &mut String, words: impl Iterator<Item = String>) {
    let mut line = String::new();
    for word in words {
        if !line.is_empty() && line.len() + word.len() + 4 > LINE_WIDTH {
            let _ = writeln!(out, "  {line},");
            line.clear();
        }
        if !line.is_empty() {
            line.push_str(", ");
        }
        line.push_str(&word);
    }
    if !line.is_empty() {
        let _ = writeln!(out, "  {line}");
    }
}

/// `1234567` as `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes in the largest unit that leaves a whole number or one decimal.
fn bytes(number: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match UNITS.iter().find(|(_, size)| number >= *size) {
        Some((unit, size)) if number.is_multiple_of(*size) => format!("{} {unit}", number / size),
        Some((unit, size)) => format!("{:.1} {unit}", number as f64 / *size as f64),
        None => format!("{number} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::example;
    use super::*;

    #[test]
    fn numbers_are_grouped_and_sizes_have_units() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1000), "1,000");
        assert_eq!(grouped(12_345_678), "12,345,678");
        assert_eq!(bytes(4096 * 3), "12 KiB");
        assert_eq!(bytes((1 << 20) * 3 / 2), "1.5 MiB");
        assert_eq!(bytes(100), "100 bytes");
    }

    #[test]
    fn long_lists_are_wrapped() {
        let mut out = String::new();
        wrapped(&mut out, (0..30).map(|i| format!("call_{i} 1")));
        assert!(out.lines().count() > 1);
        assert!(out.lines().all(|line| line.len() <= LINE_WIDTH));
        assert_eq!(out.matches("call_").count(), 30);
    }

    #[test]
    fn only_the_last_line_depends_on_the_host() {
        let text = example().to_text();
        let hosted: Vec<usize> =
            (0..).zip(text.lines()).filter(|(_, l)| l.contains("MIPS")).map(|(i, _)| i).collect();
        assert_eq!(hosted, [text.lines().count() - 1]);
        assert!(text.ends_with("host          0.100 s, 123 MIPS (differs from run to run)\n"));
    }

    #[test]
    fn every_figure_that_matters_is_shown() {
        let text = example().to_text();
        for shown in [
            "64 MiB, sv39, 1 hart, seed 7, ASLR off; killed by signal 11",
            "2,060",
            "2,222",
            "0.2000 % of 1,000",
            "write 90, mmap 12",
            "memfd_create 2, number 9999 1",
        ] {
            assert!(text.contains(shown), "{shown:?} in\n{text}");
        }
    }
}
