//! The files of a group: names, text, what writing does.
//!
//! Formats and errors: Linux 6.18 kernel/cgroup/cgroup.c, mm/memcontrol.c, asked of a real riscv64
//! kernel (`testdata/e2e/cgroups_*.txt`).
//!
//! DIVERGENCE(memcg-files-absent): what is not counted or done here has no file and no line: memory.min
//! and memory.low with their event, memory.swap.high, memory.numa_stat, zswap, pressure of a group.
//!
//! Neighbours: [`super`] serves them, [`crate::cgroup`] does the work.

use crate::cgroup::{Cgroup, Moves};
use crate::kernel::Kernel;
use kilburn_addr::{Errno, PAGE_SIZE};
use kilburn_mm::{Memcg, MemcgEvent, MemcgId, PageCounter};
use std::fmt::Write as _;
use std::rc::Rc;
use std::sync::Arc;

/// Makes a file's text.
type Show = fn(&Kernel, &Rc<Cgroup>) -> Result<String, Errno>;
/// Takes what a program writes, a line feed at the end left out.
type Store = fn(&Kernel, &Rc<Cgroup>, &str) -> Result<(), Errno>;

/// Where a file is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Where {
    /// In every group.
    Everywhere,
    /// In every group but the root.
    BelowRoot,
    /// In groups where memory is controlled, the root included.
    Memory,
    /// In groups below the root where memory is controlled.
    MemoryBelowRoot,
}

/// A file of a group.
pub(super) struct GroupFile {
    pub(super) name: &'static str,
    place: Where,
    pub(super) show: Option<Show>,
    pub(super) store: Option<Store>,
}

impl GroupFile {
    /// Whether a group has it.
    pub(super) fn is_in(&self, group: &Cgroup) -> bool {
        match self.place {
            Where::Everywhere => true,
            Where::BelowRoot => !group.is_root(),
            Where::Memory => group.has_memory(),
            Where::MemoryBelowRoot => !group.is_root() && group.has_memory(),
        }
    }

    /// Permission bits as made.
    pub(super) fn perm(&self) -> u32 {
        match (self.show, self.store) {
            (Some(_), None) => 0o444,
            (None, _) => 0o200,
            (Some(_), Some(_)) => 0o644,
        }
    }
}

const fn file(
    name: &'static str,
    place: Where,
    show: Option<Show>,
    store: Option<Store>,
) -> GroupFile {
    GroupFile { name, place, show, store }
}

/// All files.
pub(super) const FILES: &[GroupFile] = &[
    file("cgroup.controllers", Where::Everywhere, Some(controllers), None),
    file("cgroup.events", Where::BelowRoot, Some(events), None),
    file("cgroup.kill", Where::BelowRoot, None, Some(kill)),
    file("cgroup.max.depth", Where::Everywhere, Some(max_depth), Some(set_max_depth)),
    file(
        "cgroup.max.descendants",
        Where::Everywhere,
        Some(max_descendants),
        Some(set_max_descendants),
    ),
    file("cgroup.procs", Where::Everywhere, Some(procs), Some(set_procs)),
    file("cgroup.stat", Where::Everywhere, Some(stat), None),
    file(
        "cgroup.subtree_control",
        Where::Everywhere,
        Some(subtree_control),
        Some(set_subtree_control),
    ),
    file("cgroup.threads", Where::Everywhere, Some(threads), Some(set_threads)),
    file("cgroup.type", Where::BelowRoot, Some(kind), Some(set_kind)),
    file(
        "memory.current",
        Where::MemoryBelowRoot,
        Some(|_, g| bytes(g, |m| m.memory().usage())),
        None,
    ),
    file("memory.events", Where::MemoryBelowRoot, Some(memory_events), None),
    file("memory.events.local", Where::MemoryBelowRoot, Some(memory_events_local), None),
    file("memory.high", Where::MemoryBelowRoot, Some(|_, g| bytes(g, Memcg::high)), Some(set_high)),
    file(
        "memory.max",
        Where::MemoryBelowRoot,
        Some(|_, g| bytes(g, |m| m.memory().max())),
        Some(set_max),
    ),
    file("memory.oom.group", Where::MemoryBelowRoot, Some(oom_group), Some(set_oom_group)),
    // DIVERGENCE(memcg-peak-reset): in Linux a write to a peak resets it for who reads through the
    // same descriptor; here peaks are for reading only.
    file("memory.peak", Where::MemoryBelowRoot, Some(|_, g| bytes(g, |m| m.memory().peak())), None),
    file("memory.reclaim", Where::Memory, None, Some(reclaim)),
    file("memory.stat", Where::Memory, Some(memory_stat), None),
    file(
        "memory.swap.current",
        Where::MemoryBelowRoot,
        Some(|_, g| bytes(g, |m| m.swap().usage())),
        None,
    ),
    file("memory.swap.events", Where::MemoryBelowRoot, Some(swap_events), None),
    file(
        "memory.swap.max",
        Where::MemoryBelowRoot,
        Some(|_, g| bytes(g, |m| m.swap().max())),
        Some(set_swap_max),
    ),
    file(
        "memory.swap.peak",
        Where::MemoryBelowRoot,
        Some(|_, g| bytes(g, |m| m.swap().peak())),
        None,
    ),
];

fn controllers(_: &Kernel, group: &Rc<Cgroup>) -> Result<String, Errno> {
    Ok(if group.has_memory() { "memory\n" } else { "" }.into())
}

fn subtree_control(_: &Kernel, group: &Rc<Cgroup>) -> Result<String, Errno> {
    Ok(if group.controls_memory() { "memory\n" } else { "" }.into())
}

fn set_subtree_control(kernel: &Kernel, group: &Rc<Cgroup>, text: &str) -> Result<(), Errno> {
    let mut on = None;
    for token in text.trim().split(' ').filter(|token| !token.is_empty()) {
        on = match token {
            "+memory" => Some(true),
            "-memory" => Some(false),
            _ => return Err(Errno::EINVAL),
        };
    }
    on.map_or(Ok(()), |on| kernel.control_memory(group, on))
}

fn events(kernel: &Kernel, group: &Rc<Cgroup>) -> Result<String, Errno> {
    Ok(format!("populated {}\n", u8::from(kernel.is_populated(group))))
}

fn kill(kernel: &Kernel, group: &Rc<Cgroup>, text: &str) -> Result<(), Errno> {
    if number(text)? != 1 {
        return Err(Errno::ERANGE);
    }
    kernel.kill_cgroup(group);
    Ok(())
}

fn limit(limit: Option<u32>) -> String {
    limit.map_or_else(|| "max\n".into(), |limit| format!("{limit}\n"))
}

fn parse_limit(text: &str) -> Result<Option<u32>, Errno> {
    if text.trim() == "max" {
        return Ok(None);
    }
    let limit = number(text)?;
    u32::try_from(limit).map(Some).map_err(|_| Errno::ERANGE)
}

fn max_depth(_: &Kernel, group: &Rc<Cgroup>) -> Result<String, Errno> {
    Ok(limit(group.max_depth.get()))
}

fn set_max_depth(_: &Kernel, group: &Rc<Cgroup>, text: &str) -> Result<(), Errno> {
    group.max_depth.set(parse_limit(text)?);
    Ok(())
}

fn max_descendants(_: &Kernel, group: &Rc<Cgroup>) -> Result<String, Errno> {
    Ok(limit(group.max_descendants.get()))
}

fn set_max_descendants(_: &Kernel, group: &Rc<Cgroup>, text: &str) -> Result<(), Errno> {
    group.max_descendants.set(parse_limit(text)?);
    Ok(())
}

fn procs(kernel: &Kernel, group: &Rc<Cgroup>) -> Result<String, Errno> {
    let processes = kernel.processes_of(group);
    Ok(processes.iter().map(|process| format!("{}\n", process.tgid())).collect())
}

fn threads(kernel: &Kernel, group: &Rc<Cgroup>) -> Result<String, Errno> {
    let threads = kernel.processes_of(group).into_iter().flat_map(|process| process.living());
    Ok(threads.map(|thread| format!("{}\n", thread.tid())).collect())
}

fn set_procs(kernel: &Kernel, group: &Rc<Cgroup>, text: &str) -> Result<(), Errno> {
    attach(kernel, group, text, Moves::Process)
}

fn set_threads(kernel: &Kernel, group: &Rc<Cgroup>, text: &str) -> Result<(), Errno> {
    attach(kernel, group, text, Moves::Thread)
}

/// Linux `__cgroup_procs_write`.
fn attach(kernel: &Kernel, to: &Rc<Cgroup>, text: &str, moves: Moves) -> Result<(), Errno> {
    let id = number(text).ok().and_then(|id| u32::try_from(id).ok()).ok_or(Errno::EINVAL)?;
    let caller = kernel.current().ok_or(Errno::ESRCH)?;
    let task = match id {
        0 => Rc::clone(&caller),
        id => kernel.task(id).ok_or(Errno::ESRCH)?,
    };
    let from = kernel.cgroup_of(task.group());
    kernel.check_may_move(&caller, &from, to)?;
    kernel.move_to_cgroup(&task, to, moves)
}

fn stat(kernel: &Kernel, group: &Rc<Cgroup>) -> Result<String, Errno> {
    let memory = kernel.count_memory_below(group);
    let dying = kernel.memory.dying_memcgs(group.charged());
    Ok(format!(
        "nr_descendants {}\nnr_subsys_memory {}\nnr_dying_descendants {dying}\n\
         nr_dying_subsys_memory {dying}\n",
        group.descendants().len(),
        memory + usize::from(group.has_memory()),
    ))
}

fn kind(_: &Kernel, _: &Rc<Cgroup>) -> Result<String, Errno> {
    Ok("domain\n".into())
}

fn set_kind(_: &Kernel, _: &Rc<Cgroup>, text: &str) -> Result<(), Errno> {
    // DIVERGENCE(cgroup-threaded): Linux makes a group threaded where no process and no controller
    // of whole processes is in the way.
    if text.trim() == "threaded" { Err(Errno::EOPNOTSUPP) } else { Err(Errno::EINVAL) }
}

fn memcg(group: &Cgroup) -> Result<Arc<Memcg>, Errno> {
    group.memcg().ok_or(Errno::ENODEV)
}

/// A number of pages as bytes; of no limit "max".
fn bytes(group: &Cgroup, pages: impl Fn(&Memcg) -> u64) -> Result<String, Errno> {
    Ok(match pages(&*memcg(group)?) {
        PageCounter::NO_LIMIT => "max\n".into(),
        pages => format!("{}\n", pages * PAGE_SIZE),
    })
}

fn set_max(kernel: &Kernel, group: &Rc<Cgroup>, text: &str) -> Result<(), Errno> {
    let memcg = memcg(group)?;
    if !kernel.memory.set_memcg_max(&memcg, parse_pages(text)?) {
        kernel.out_of_memory_in(&memcg);
    }
    Ok(())
}

fn set_high(kernel: &Kernel, group: &Rc<Cgroup>, text: &str) -> Result<(), Errno> {
    kernel.memory.set_memcg_high(&*memcg(group)?, parse_pages(text)?);
    Ok(())
}

fn set_swap_max(_: &Kernel, group: &Rc<Cgroup>, text: &str) -> Result<(), Errno> {
    memcg(group)?.swap().set_max(parse_pages(text)?);
    Ok(())
}

fn oom_group(_: &Kernel, group: &Rc<Cgroup>) -> Result<String, Errno> {
    Ok(format!("{}\n", u8::from(memcg(group)?.is_oom_group())))
}

fn set_oom_group(_: &Kernel, group: &Rc<Cgroup>, text: &str) -> Result<(), Errno> {
    match number(text)? {
        whole @ (0 | 1) => memcg(group)?.set_oom_group(whole == 1),
        _ => return Err(Errno::EINVAL),
    }
    Ok(())
}

/// Linux `user_proactive_reclaim`.
fn reclaim(kernel: &Kernel, group: &Rc<Cgroup>, text: &str) -> Result<(), Errno> {
    // DIVERGENCE(memcg-reclaim-swappiness): no `swappiness=`: EINVAL.
    if !text.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(Errno::EINVAL);
    }
    let wanted = parse_pages(text)?;
    let id = group.memcg().map_or(MemcgId::ROOT, |memcg| memcg.id());
    let went = kernel.memory.reclaim_memcg(id, wanted);
    if went < wanted { Err(Errno::EAGAIN) } else { Ok(()) }
}

/// Lines of `memory.events`.
const EVENTS: [(&str, MemcgEvent); 5] = [
    ("high", MemcgEvent::High),
    ("max", MemcgEvent::Max),
    ("oom", MemcgEvent::Oom),
    ("oom_kill", MemcgEvent::OomKill),
    ("oom_group_kill", MemcgEvent::OomGroupKill),
];

fn event_lines(count: impl Fn(MemcgEvent) -> u64) -> String {
    EVENTS.iter().map(|(name, event)| format!("{name} {}\n", count(*event))).collect()
}

fn memory_events(_: &Kernel, group: &Rc<Cgroup>) -> Result<String, Errno> {
    let memcg = memcg(group)?;
    Ok(event_lines(|event| memcg.events(event)))
}

fn memory_events_local(_: &Kernel, group: &Rc<Cgroup>) -> Result<String, Errno> {
    let memcg = memcg(group)?;
    Ok(event_lines(|event| memcg.local_events(event)))
}

fn swap_events(_: &Kernel, group: &Rc<Cgroup>) -> Result<String, Errno> {
    let memcg = memcg(group)?;
    let (max, fail) = (memcg.events(MemcgEvent::SwapMax), memcg.events(MemcgEvent::SwapFail));
    Ok(format!("max {max}\nfail {fail}\n"))
}

fn memory_stat(kernel: &Kernel, group: &Rc<Cgroup>) -> Result<String, Errno> {
    let memcg = group.memcg();
    let id = memcg.as_ref().map_or(MemcgId::ROOT, |memcg| memcg.id());
    let mms = kernel.all_mms();
    let pages = kernel.memory.memcg_pages(id, mms.iter().map(|mm| &**mm));
    let mut text = String::new();
    for (name, count) in [
        ("anon", pages.anon),
        ("file", pages.file),
        ("shmem", pages.shmem),
        ("file_mapped", pages.file_mapped),
        ("file_dirty", pages.file_dirty),
        ("swapcached", pages.swapcached),
        ("inactive_anon", pages.lru.inactive_anon),
        ("active_anon", pages.lru.active_anon),
        ("inactive_file", pages.lru.inactive_file),
        ("active_file", pages.lru.active_file),
        ("unevictable", pages.lru.unevictable),
    ] {
        let _ = writeln!(text, "{name} {}", count * PAGE_SIZE);
    }
    // Of the whole machine /proc/vmstat has them.
    for (name, count) in
        memcg.iter().flat_map(|memcg| memcg.vm_stat().entries().collect::<Vec<_>>())
    {
        let _ = writeln!(text, "{name} {count}");
    }
    Ok(text)
}

/// A number as kstrtoint reads it: decimal, 0x or 0 before it.
fn number(text: &str) -> Result<i32, Errno> {
    let text = text.trim();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (digits, radix) = radix_of(digits);
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return Err(Errno::EINVAL);
    }
    let value = i64::from_str_radix(digits, radix).map_err(|_| Errno::ERANGE)?;
    i32::try_from(if negative { -value } else { value }).map_err(|_| Errno::ERANGE)
}

fn radix_of(digits: &str) -> (&str, u32) {
    let hex = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
    match hex {
        Some(hex) => (hex, 16),
        None if digits.len() > 1 && digits.starts_with('0') => (&digits[1..], 8),
        None => (digits, 10),
    }
}

/// Bytes as memparse reads them, in pages: a number, then perhaps one of K, M, G, T, P, E; or "max"
/// (Linux `page_counter_memparse`).
fn parse_pages(text: &str) -> Result<u64, Errno> {
    let text = text.trim();
    if text == "max" {
        return Ok(PageCounter::NO_LIMIT);
    }
    let (digits, radix) = radix_of(text);
    let end = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
    let value = match &digits[..end] {
        "" => 0,
        // As simple_strtoull does: what is too large goes round.
        digits => digits.chars().filter_map(|c| c.to_digit(radix)).fold(0, |value: u64, digit| {
            value.wrapping_mul(radix.into()).wrapping_add(digit.into())
        }),
    };
    let shift = match &digits[end..] {
        "" => 0,
        "k" | "K" => 10,
        "m" | "M" => 20,
        "g" | "G" => 30,
        "t" | "T" => 40,
        "p" | "P" => 50,
        "e" | "E" => 60,
        _ => return Err(Errno::EINVAL),
    };
    // As memparse does, which shifts bits out.
    Ok((value << shift) / PAGE_SIZE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_linux_reads_them() {
        for (text, value) in [
            ("7", Ok(7)),
            (" 7\n", Ok(7)),
            ("-1", Ok(-1)),
            ("0x10", Ok(16)),
            ("010", Ok(8)),
            ("0", Ok(0)),
            ("", Err(Errno::EINVAL)),
            ("7x", Err(Errno::EINVAL)),
            ("99999999999", Err(Errno::ERANGE)),
            ("--1", Err(Errno::EINVAL)),
        ] {
            assert_eq!(number(text), value, "{text:?}");
        }
    }

    #[test]
    fn bytes_become_pages() {
        for (text, pages) in [
            ("max", Ok(PageCounter::NO_LIMIT)),
            ("4095", Ok(0)),
            ("8192\n", Ok(2)),
            ("1M", Ok(256)),
            ("0x2000", Ok(2)),
            ("2g", Ok(524_288)),
            ("", Ok(0)),
            ("99999999999999999999", Ok(7_766_279_631_452_237_824 / PAGE_SIZE)),
            ("-1", Err(Errno::EINVAL)),
            ("1MB", Err(Errno::EINVAL)),
            ("maximum", Err(Errno::EINVAL)),
        ] {
            assert_eq!(parse_pages(text), pages, "{text:?}");
        }
    }
}
