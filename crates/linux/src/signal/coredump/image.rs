//! The head of a core file: ELF header, segments, notes (Linux fs/binfmt_elf.c: `elf_core_dump`,
//! arch/riscv/kernel/ptrace.c).
//!
//! ```text
//! Ehdr | Phdr PT_NOTE | Phdr PT_LOAD per area ... | notes | padding to a page | pages ...
//! ```

use super::bytes_of;
use crate::host::Mm;
use crate::signal::SigInfo;
use crate::task::group::{StopState, Totals};
use crate::task::{Task, ThreadGroup};
use kilburn_addr::{PAGE_SIZE, VmFlags};
use kilburn_mm::{DumpArea, RemoteRights};
use kilburn_riscv::Regs;
use std::rc::Rc;

const EHDR_BYTES: u64 = 64;
const PHDR_BYTES: u64 = 56;
const ET_CORE: u16 = 4;
const EM_RISCV: u16 = 243;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
/// `PN_XNUM`: the real number of segments stands in section header 0.
const PN_XNUM: usize = 0xffff;

/// `NT_*` (include/uapi/linux/elf.h).
mod note {
    pub(super) const PRSTATUS: u32 = 1;
    pub(super) const PRFPREG: u32 = 2;
    pub(super) const PRPSINFO: u32 = 3;
    pub(super) const AUXV: u32 = 6;
    pub(super) const SIGINFO: u32 = 0x5349_4749;
    pub(super) const FILE: u32 = 0x4649_4c45;
}

/// Everything before the first page.
pub(super) struct Image {
    pub(super) bytes: Vec<u8>,
}

/// Pages of one area, in the order of the file.
pub(super) struct Segment {
    pub(super) start: u64,
    /// Bytes in the file; a multiple of the page size.
    pub(super) bytes: u64,
    pub(super) is_anonymous: bool,
}

impl Image {
    /// The head for `task`, which `info` ends, and the segments that follow it.
    pub(super) fn new(task: &Rc<Task>, mm: &Mm, info: &SigInfo) -> (Self, Vec<Segment>) {
        let mut areas = mm.dump_areas(task.group().core_filter.get());
        // Section header 0 could hold more; so many areas need max_map_count raised first.
        areas.truncate(PN_XNUM - 2);
        let notes = notes(task, mm, info, &areas);
        let segments: Vec<Segment> = areas.iter().map(|area| segment(mm, area)).collect();
        let notes_at = EHDR_BYTES + PHDR_BYTES * (areas.len() as u64 + 1);
        let data_at = (notes_at + notes.len() as u64).next_multiple_of(PAGE_SIZE);

        let mut out = Bytes(ehdr(areas.len() as u16 + 1));
        let notes_len = notes.len() as u64;
        out.phdr([PT_NOTE, 0], [notes_at, 0, notes_len, 0, 4]);
        let mut offset = data_at;
        for (area, segment) in areas.iter().zip(&segments) {
            let rights = [(VmFlags::READ, 4), (VmFlags::WRITE, 2), (VmFlags::EXEC, 1)];
            let of = |(flag, bit)| if area.flags.contains(flag) { bit } else { 0 };
            let rights = rights.into_iter().map(of).sum();
            let (start, len) = (segment.start, area.range.len());
            out.phdr([PT_LOAD, rights], [offset, start, segment.bytes, len, PAGE_SIZE]);
            offset += segment.bytes;
        }
        out.0.extend(notes);
        out.0.resize(data_at as usize, 0);
        (Self { bytes: out.0 }, segments)
    }
}

fn segment(mm: &Mm, area: &DumpArea) -> Segment {
    let bytes = bytes_of(mm, area.range.start(), area.range.len(), area.extent);
    Segment { start: area.range.start().get(), bytes, is_anonymous: area.file.is_none() }
}

fn ehdr(segments: u16) -> Vec<u8> {
    // Class 64, little-endian, version 1, System V.
    let mut out = Bytes(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec());
    out.u16(ET_CORE);
    out.u16(EM_RISCV);
    out.u32(1);
    out.u64(0);
    out.u64(EHDR_BYTES);
    out.u64(0);
    out.u32(0);
    out.u16(EHDR_BYTES as u16);
    out.u16(PHDR_BYTES as u16);
    out.u16(segments);
    out.0.resize(EHDR_BYTES as usize, 0);
    out.0
}

/// Little-endian bytes in the making.
#[derive(Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn u16(&mut self, value: u16) {
        self.0.extend(value.to_le_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.0.extend(value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.0.extend(value.to_le_bytes());
    }

    fn timeval(&mut self, nanos: u64) {
        self.u64(nanos / 1_000_000_000);
        self.u64(nanos % 1_000_000_000 / 1000);
    }

    /// A program header: type and flags; offset, address, bytes in the file, bytes in memory,
    /// alignment.
    fn phdr(&mut self, [kind, flags]: [u32; 2], rest: [u64; 5]) {
        let [offset, start, file_bytes, memory_bytes, align] = rest;
        self.u32(kind);
        self.u32(flags);
        for word in [offset, start, 0, file_bytes, memory_bytes, align] {
            self.u64(word);
        }
    }

    fn note(&mut self, kind: u32, body: &[u8]) {
        self.u32(5);
        self.u32(body.len() as u32);
        self.u32(kind);
        self.0.extend(b"CORE\0\0\0\0");
        self.0.extend(body);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }
}

/// The dumping thread's notes first, the process's between its two, then the other threads'.
fn notes(task: &Rc<Task>, mm: &Mm, info: &SigInfo, areas: &[DumpArea]) -> Vec<u8> {
    let mut out = Bytes::default();
    out.note(note::PRSTATUS, &prstatus(task, info));
    out.note(note::PRPSINFO, &prpsinfo(task, mm));
    out.note(note::SIGINFO, &info.to_bytes());
    let auxv = mm.layout_fields().saved_auxv;
    let auxv: Vec<u8> = auxv.iter().flat_map(|word| word.to_le_bytes()).collect();
    out.note(note::AUXV, &auxv);
    out.note(note::FILE, &files(areas));
    out.note(note::PRFPREG, &fpregs(&task.regs.borrow()));
    for thread in task.group().living() {
        if !Rc::ptr_eq(&thread, task) {
            out.note(note::PRSTATUS, &prstatus(&thread, info));
            out.note(note::PRFPREG, &fpregs(&thread.regs.borrow()));
        }
    }
    out.0
}

/// `struct elf_prstatus`
fn prstatus(task: &Task, info: &SigInfo) -> Vec<u8> {
    let group = task.group();
    let mut out = Bytes::default();
    out.u32(u32::from(info.signal.number()));
    out.u32(info.code as u32);
    out.u32(0);
    out.u32(u32::from(info.signal.number()));
    out.u64(task.signals.pending.set().bits());
    out.u64(task.signals.blocked.get().bits());
    for id in ids(task.tid(), group) {
        out.u32(id);
    }
    let (own, waited) = (Totals::of(task), group.waited.get());
    let own = if task.is_leader() { group.totals() } else { own };
    for time in [own.user, own.system, waited.user, waited.system] {
        out.timeval(time);
    }
    let regs = task.regs.borrow();
    out.u64(regs.pc);
    for x in &regs.x[1..] {
        out.u64(*x);
    }
    // pr_fpvalid, and padding.
    out.u64(1);
    out.0
}

/// Thread, parent, process group, session.
fn ids(tid: u32, group: &ThreadGroup) -> [u32; 4] {
    [tid, group.ppid(), group.pgid.get(), group.sid.get()]
}

/// `struct elf_prpsinfo`
fn prpsinfo(task: &Task, mm: &Mm) -> Vec<u8> {
    let group = task.group();
    let stopped = matches!(group.stop.get(), StopState::Stopped(_));
    let mut out = Bytes(vec![if stopped { 3 } else { 0 }, if stopped { b'T' } else { b'R' }, 0]);
    out.0.push(task.nice.get() as u8);
    out.u32(0);
    out.u64(0);
    let creds = task.creds();
    out.u32(creds.uid);
    out.u32(creds.gid);
    for id in ids(task.tgid(), group) {
        out.u32(id);
    }
    out.0.extend(task.comm());
    let layout = mm.layout_fields();
    let len = layout.arg_end.bytes_since(layout.arg_start).unwrap_or(0).min(79) as usize;
    let mut args = [0; 80];
    let got = mm.read_remote(layout.arg_start, &mut args[..len], RemoteRights::Forced);
    for byte in args[..got].iter_mut().filter(|byte| **byte == 0) {
        *byte = b' ';
    }
    out.0.extend(args);
    out.0
}

/// `NT_FILE`: which file is mapped where.
fn files(areas: &[DumpArea]) -> Vec<u8> {
    let mapped = areas.iter().filter_map(|area| Some((area, area.file.as_ref()?)));
    let mapped: Vec<_> = mapped.collect();
    let mut out = Bytes::default();
    out.u64(mapped.len() as u64);
    out.u64(PAGE_SIZE);
    for (area, (_, page)) in &mapped {
        for word in [area.range.start().get(), area.range.end().get(), *page] {
            out.u64(word);
        }
    }
    for (_, (path, _)) in &mapped {
        out.0.extend(path.as_bytes());
        out.0.push(0);
    }
    out.0
}

/// `struct __riscv_d_ext_state`
fn fpregs(regs: &Regs) -> Vec<u8> {
    let mut out = Bytes::default();
    for f in &regs.f {
        out.u64(*f);
    }
    out.u64(u64::from(regs.fcsr));
    out.0
}
