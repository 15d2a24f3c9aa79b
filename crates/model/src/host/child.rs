//! What the oracle's children do: the zygote prepares an address space, its children make calls.
//!
//! This runs between fork and exit in a process that may have had other threads, so it allocates
//! nothing, takes no lock and cannot panic on purpose.

use super::look::{self, Looker, line_range};
use super::probe::{self, Raised};
use super::ring::{MAX_PROCESSES, MAX_STEPS, Ring, Slot, command, tag};
use super::sys;
use crate::call::{Call, Kind, NO_FILE, REMOTE_BYTES, RLIMIT_AS, RLIMIT_DATA};
use crate::case::{MAX_FILES, stamp};
use crate::outcome::{Digest, digest_of, digest_of_bytes};
use kilburn_addr::PAGE_SIZE;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};

/// What can fail in the zygote, by [`Ring::failure`].
pub(super) const FAILURES: [&str; 7] =
    ["nothing", "signal handlers", "prctl", "maps", "filling the address space", "mseal", "heap"];

const SYS_MSEAL: i64 = 462;
/// Times a process waits for its turn before it gives up, so that none is left behind for ever.
const PATIENCE: u32 = 1200;
/// Pages that mincore is asked about at once.
const MINCORE_PAGES: usize = 4096;
const PROT_NONE: u64 = 0;
const TASK_SIZE: u64 = crate::safe::TASK_SIZE;
/// Where the heap is moved to (`PR_SET_MM`).
const PR_SET_MM: u64 = 35;
const PR_SET_MM_MAP: u64 = 14;
/// Where everything else than the heap is said to be: below every window.
const LOW: u64 = 0x1_0000;

/// The zygote: prepares itself, then forks a first process for every case, until its parent dies.
pub(super) fn zygote(ring: &'static Ring) -> ! {
    if let Err((failure, errno)) = prepare(ring) {
        ring.failure.store(failure, SeqCst);
        ring.errno.store(errno as u32, SeqCst);
        Ring::set(&ring.command, command::FAILED);
        sys::exit(1);
    }
    Ring::set(&ring.command, command::IDLE);
    loop {
        while ring.command.load(SeqCst) == command::IDLE {
            Ring::wait(&ring.command, command::IDLE);
        }
        if ring.command.load(SeqCst) != command::RUN {
            sys::exit(0);
        }
        let first = sys::fork();
        if first == 0 {
            run_case(ring);
        }
        // As subreaper this sees the orphans of the case as well.
        loop {
            let (id, status) = sys::wait_any();
            if id < 0 {
                break;
            }
            if status != 0 {
                ring.died.store(status, SeqCst);
                // The others wait for a turn that never comes.
                Ring::set(&ring.turn, MAX_STEPS as u32 + 1);
            }
        }
        Ring::set(&ring.command, command::IDLE);
    }
}

fn check(failure: u32, result: i64) -> Result<i64, (u32, i32)> {
    if result < 0 { Err((failure, -result as i32)) } else { Ok(result) }
}

fn prctl(option: i32, a: u64, b: u64) -> i64 {
    sys::call(libc::SYS_prctl, [option as u64, a, b, 0, 0, 0])
}

fn prepare(ring: &Ring) -> Result<(), (u32, i32)> {
    check(2, prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64, 0))?;
    check(2, prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0))?;
    check(2, prctl(libc::PR_SET_THP_DISABLE, 1, 0))?;
    probe::install().map_err(|errno| (1, errno))?;
    deepen_stack();
    let mut text = [0; 32768];
    let len = read_maps(&mut text)?;
    occupy(ring, &text[..len])
}

/// Lets the stack's area grow to what will ever be needed, before its surroundings are occupied.
#[inline(never)]
fn deepen_stack() {
    let mut room = [0u8; 384 << 10];
    std::hint::black_box(&mut room);
}

fn read_maps(text: &mut [u8]) -> Result<usize, (u32, i32)> {
    let fd = check(3, i64::from(sys::open(c"/proc/self/maps")))? as i32;
    let mut len = 0;
    loop {
        let count = check(3, sys::pread(fd, &mut text[len..], len as u64))? as usize;
        if count == 0 {
            sys::close(fd);
            return Ok(len);
        }
        len += count;
    }
}

/// Occupies everything outside the window and seals it, so that no call of a case changes it and
/// every mapping without an address goes into the window. The fillers map a file of their own,
/// so that nothing merges with them.
fn occupy(ring: &Ring, maps: &[u8]) -> Result<(), (u32, i32)> {
    let window = (ring.window_start.load(SeqCst), ring.window_end.load(SeqCst));
    let fd = check(4, sys::memfd())? as u64;
    let mut free_from = PAGE_SIZE;
    for line in maps.split(|&byte| byte == b'\n') {
        let Some((start, end)) = line_range(line) else { continue };
        if start >= TASK_SIZE {
            continue;
        }
        fill(free_from, start, window, fd)?;
        check(5, sys::call(SYS_MSEAL, [start, end - start, 0, 0, 0, 0]))?;
        free_from = end;
    }
    fill(free_from, TASK_SIZE, window, fd)
}

/// Occupies `start..end` but for the window.
fn fill(start: u64, end: u64, window: (u64, u64), fd: u64) -> Result<(), (u32, i32)> {
    for (start, end) in [(start, end.min(window.0)), (start.max(window.1), end)] {
        if start >= end {
            continue;
        }
        let flags = (libc::MAP_PRIVATE | libc::MAP_FIXED_NOREPLACE | libc::MAP_NORESERVE) as u64;
        let args = [start, end - start, PROT_NONE, flags, fd, 0];
        check(4, sys::call(libc::SYS_mmap, args))?;
        check(5, sys::call(SYS_MSEAL, [start, end - start, 0, 0, 0, 0]))?;
    }
    Ok(())
}

/// A process of a case.
struct Process {
    number: u64,
    files: [i32; MAX_FILES],
    looker: Looker,
}

fn run_case(ring: &Ring) -> ! {
    let mut process = Process { number: 0, files: [-1; MAX_FILES], looker: Looker::new() };
    if make_files(ring, &mut process).is_err() || move_heap(ring).is_err() {
        sys::exit(98);
    }
    look::report_base(ring);
    ring.ids[0].store(sys::id(), SeqCst);
    let count = ring.count.load(SeqCst);
    let mut patience = PATIENCE;
    loop {
        let turn = ring.turn.load(SeqCst);
        if turn >= count {
            sys::exit(if turn == count { 0 } else { 96 });
        }
        let slot = &ring.slots[turn as usize];
        let owner = slot.process();
        // Who was never forked, or has ended, is stood in for by the first process: it skips. A
        // process that is just ending has made its last step by then.
        let absent = owner > 0 && !alive(ring, owner) && slot.tag.load(SeqCst) == tag::NOT_MADE;
        if owner != process.number && !(absent && process.number == 0) {
            Ring::wait(&ring.turn, turn);
            patience -= 1;
            if patience == 0 || ring.command.load(SeqCst) != command::RUN {
                sys::exit(95);
            }
            continue;
        }
        patience = PATIENCE;
        await_end(ring, process.number, turn);
        let then = if absent { Then::Advance } else { make(ring, &mut process, slot) };
        if then == Then::Wait {
            continue;
        }
        let ends = then == Then::End;
        ring.turn.store(turn + 1, SeqCst);
        let next = ring.slots.get(turn as usize + 1).map_or(0, Slot::process);
        let stays = next == process.number && turn + 1 < count;
        if ends || ring.alive.load(SeqCst) != 1 && !stays {
            sys::futex_wake(&ring.turn);
        }
        if ends {
            sys::exit(0);
        }
    }
}

/// When the step before was the end of another process: waits until its memory is gone, which is
/// seen in how often pages are mapped.
fn await_end(ring: &Ring, number: u64, turn: u32) {
    let Some(before) = turn.checked_sub(1).map(|before| &ring.slots[before as usize]) else {
        return;
    };
    let other = before.process();
    if before.call().kind != Kind::Exit || other == number || other == 0 {
        return;
    }
    let id = ring.ids[other as usize % MAX_PROCESSES].load(SeqCst);
    let fd = sys::call(libc::SYS_pidfd_open, [u64::from(id), 0, 0, 0, 0, 0]);
    if fd >= 0 {
        sys::wait_readable(fd as i32);
        sys::close(fd as i32);
    }
}

/// Whether process `number` was forked and has not ended.
fn alive(ring: &Ring, number: u64) -> bool {
    ring.alive.load(SeqCst) >> number & 1 != 0
}

fn make_files(ring: &Ring, process: &mut Process) -> Result<(), (u32, i32)> {
    let count = (ring.file_count.load(SeqCst) as usize).min(MAX_FILES);
    for number in 0..count {
        let size = ring.file_sizes[number].load(SeqCst);
        let fd = check(4, sys::memfd())? as i32;
        check(4, sys::call(libc::SYS_ftruncate, [fd as u64, size, 0, 0, 0, 0]))?;
        let mut page = 0;
        while page * PAGE_SIZE + 8 <= size {
            let bytes = stamp(number as u64, page).to_le_bytes();
            check(4, sys::pwrite(fd, &bytes, page * PAGE_SIZE))?;
            page += 1;
        }
        process.files[number] = fd;
    }
    Ok(())
}

fn move_heap(ring: &Ring) -> Result<(), (u32, i32)> {
    let brk = ring.brk.load(SeqCst);
    // struct prctl_mm_map: code, data, brk, stack, arguments, environment, each from and to but
    // the stack; no auxv; no executable. The heap must lie above the data.
    let fields: [u64; 13] =
        [LOW, LOW + 1, LOW, LOW, brk, brk, LOW, LOW, LOW, LOW, LOW, 0, u64::from(u32::MAX) << 32];
    let (at, size) = (fields.as_ptr() as u64, size_of_val(&fields) as u64);
    check(6, sys::call(libc::SYS_prctl, [PR_SET_MM, PR_SET_MM_MAP, at, size, 0, 0]))?;
    Ok(())
}

/// What a process does after a step.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    /// It lets the next step be made.
    Advance,
    /// As that, and it ends.
    End,
    /// It was just forked: its parent lets the next step be made.
    Wait,
}

/// Makes the call in `slot`.
fn make(ring: &Ring, process: &mut Process, slot: &Slot) -> Then {
    let call = slot.call();
    let result = match call.kind {
        Kind::Fork => return fork(ring, process, slot),
        Kind::Exit => Ok(0),
        _ => perform(ring, process, &call),
    };
    match result {
        Ok(value) => {
            slot.value.store(value as u64, SeqCst);
            slot.tag.store(tag::RETURNED, SeqCst);
        }
        Err(Raised { signo, code, addr }) => {
            slot.value.store((signo as u64) << 32 | u64::from(code as u32), SeqCst);
            slot.addr.store(addr, SeqCst);
            slot.tag.store(tag::SIGNAL, SeqCst);
        }
    }
    if call.kind == Kind::Exit && process.number > 0 {
        ring.alive.fetch_and(!(1 << process.number), SeqCst);
        return Then::End;
    }
    look(ring, process, slot, call.may_change_areas());
    Then::Advance
}

/// The child continues as the next process; both return.
fn fork(ring: &Ring, process: &mut Process, slot: &Slot) -> Then {
    let number = u64::from(ring.forked.fetch_add(1, SeqCst)) + 1;
    let turn = ring.turn.load(SeqCst);
    match sys::fork() {
        0 => {
            process.number = number;
            process.looker.reopen();
            while ring.turn.load(SeqCst) == turn {
                Ring::wait(&ring.turn, turn);
            }
            return Then::Wait;
        }
        failed @ i64::MIN..0 => {
            slot.value.store(failed as u64, SeqCst);
            slot.tag.store(tag::RETURNED, SeqCst);
        }
        id => {
            ring.ids[number as usize % MAX_PROCESSES].store(id as u32, SeqCst);
            ring.alive.fetch_or(1 << number, SeqCst);
            slot.value.store(number, SeqCst);
            slot.tag.store(tag::RETURNED, SeqCst);
            look(ring, process, slot, true);
        }
    }
    Then::Advance
}

/// Reports the process after a step.
fn look(ring: &Ring, process: &mut Process, slot: &Slot, areas_changed: bool) {
    slot.data_at.store(ring.data_len.load(SeqCst), SeqCst);
    if areas_changed {
        process.looker.report_areas(ring, slot);
    }
    if ring.look_at_pages.load(SeqCst) != 0 {
        process.looker.report_pages(ring, slot);
    }
}

/// Makes a call other than fork and exit.
fn perform(ring: &Ring, process: &Process, call: &Call) -> Result<i64, Raised> {
    let [a, b, c, d, e, f] = call.args;
    let file = |number: u64| process.files.get(number as usize).copied().unwrap_or(-1) as u64;
    Ok(match call.kind {
        Kind::Mmap => {
            let fd = if e == NO_FILE { u64::MAX } else { file(e) };
            sys::call(libc::SYS_mmap, [a, b, c, d, fd, f])
        }
        Kind::Munmap => sys::call(libc::SYS_munmap, call.args),
        Kind::Mprotect => sys::call(libc::SYS_mprotect, call.args),
        Kind::Mremap => sys::call(libc::SYS_mremap, call.args),
        Kind::Brk => sys::call(libc::SYS_brk, call.args),
        Kind::Madvise => sys::call(libc::SYS_madvise, call.args),
        Kind::Msync => sys::call(libc::SYS_msync, call.args),
        Kind::Mincore => mincore(a, b),
        Kind::Mlock => sys::call(libc::SYS_mlock, call.args),
        Kind::Mlock2 => sys::call(libc::SYS_mlock2, call.args),
        Kind::Munlock => sys::call(libc::SYS_munlock, call.args),
        Kind::Mlockall => sys::call(libc::SYS_mlockall, call.args),
        Kind::Munlockall => sys::call(libc::SYS_munlockall, call.args),
        Kind::Mseal => sys::call(SYS_MSEAL, call.args),
        Kind::RemapFilePages => sys::call(libc::SYS_remap_file_pages, call.args),
        Kind::Read => probe::load(a)? as i64,
        Kind::Write => probe::store(a, b)? as i64,
        Kind::Sum => {
            let mut digest = Digest::default();
            for page in 0..b {
                digest.add(probe::load8(a + page * PAGE_SIZE)?);
            }
            digest.value()
        }
        Kind::Truncate => sys::call(libc::SYS_ftruncate, [file(a), b, 0, 0, 0, 0]),
        Kind::FileWrite => sys::pwrite(file(a) as i32, &c.to_le_bytes(), b),
        Kind::FileRead => {
            let mut bytes = [0; 8];
            let count = sys::pread(file(a) as i32, &mut bytes, b);
            if count < 0 { count } else { digest_of(&[count as u64, u64::from_le_bytes(bytes)]) }
        }
        Kind::RemoteRead => {
            let mut bytes = [0; REMOTE_BYTES as usize];
            let count = remote(libc::SYS_process_vm_readv, ring, a, b, &mut bytes[..c as usize]);
            if count < 0 { count } else { digest_of_bytes(&bytes[..count as usize]) }
        }
        Kind::RemoteWrite => {
            let mut bytes = [d as u8; REMOTE_BYTES as usize];
            remote(libc::SYS_process_vm_writev, ring, a, b, &mut bytes[..c as usize])
        }
        Kind::Rlimit => {
            let base = match a {
                RLIMIT_AS => ring.base[0].load(SeqCst) << 10,
                RLIMIT_DATA => ring.base[2].load(SeqCst) << 10,
                _ => 0,
            };
            set_soft_limit(a, base.saturating_add(b))
        }
        Kind::DropIpcLock => drop_ipc_lock(),
        Kind::Fork | Kind::Exit => 0,
    })
}

fn set_soft_limit(resource: u64, bytes: u64) -> i64 {
    // Soft, hard.
    let limits: [AtomicU64; 2] = Default::default();
    let at = limits.as_ptr() as u64;
    let got = sys::call(libc::SYS_prlimit64, [0, resource, 0, at, 0, 0]);
    if got < 0 {
        return got;
    }
    limits[0].store(bytes.min(limits[1].load(SeqCst)), SeqCst);
    sys::call(libc::SYS_prlimit64, [0, resource, at, 0, 0, 0])
}

/// process_vm_readv or process_vm_writev.
fn remote(number: i64, ring: &Ring, target: u64, addr: u64, bytes: &mut [u8]) -> i64 {
    let lives = target < 32 && alive(ring, target);
    // Of a process that is not there the number is not known: 0 is nobody's.
    let id = ring.ids.get(target as usize).filter(|_| lives);
    let id = id.map_or(0, |id| u64::from(id.load(SeqCst)));
    let local = [bytes.as_mut_ptr() as u64, bytes.len() as u64];
    let there = [addr, bytes.len() as u64];
    sys::call(number, [id, local.as_ptr() as u64, 1, there.as_ptr() as u64, 1, 0])
}

/// Takes `CAP_IPC_LOCK` out of the effective capabilities.
fn drop_ipc_lock() -> i64 {
    const VERSION_3: u32 = 0x2008_0522;
    const CAP_IPC_LOCK: u32 = 14;
    let header = [VERSION_3, 0];
    // Effective, permitted, inheritable; the low 32 of each, then the high.
    let sets: [AtomicU32; 6] = Default::default();
    let (header, at) = (header.as_ptr() as u64, sets.as_ptr() as u64);
    let got = sys::call(libc::SYS_capget, [header, at, 0, 0, 0, 0]);
    if got < 0 {
        return got;
    }
    sets[0].fetch_and(!(1 << CAP_IPC_LOCK), SeqCst);
    sys::call(libc::SYS_capset, [header, at, 0, 0, 0, 0])
}

fn mincore(addr: u64, len: u64) -> i64 {
    let mut pages = [0u8; MINCORE_PAGES];
    if len > (MINCORE_PAGES as u64) * PAGE_SIZE && addr.checked_add(len).is_some() && len < 1 << 40
    {
        return -i64::from(libc::ENOSYS);
    }
    let args = [addr, len, pages.as_mut_ptr() as u64, 0, 0, 0];
    let result = sys::call(libc::SYS_mincore, args);
    if result < 0 {
        return result;
    }
    let mut digest = Digest::default();
    for page in &pages[..len.div_ceil(PAGE_SIZE) as usize] {
        digest.add(u64::from(*page & 1));
    }
    digest.value()
}
