//! Mapping a program into a new address space (Linux 6.18 fs/binfmt_elf.c: `load_elf_binary`,
//! `elf_load`, `load_elf_interp`).

use crate::config::Aslr;
use crate::exec::elf::{Elf, Kind, PF_R, PF_W, PF_X, Segment};
use crate::exec::stack::{StringArea, Tables, at, lay_out_strings, lay_out_tables};
use crate::exec::{ExecError, Program};
use crate::fs::ExecFile;
use crate::host::Mm;
use crate::task::{ADDR_NO_RANDOMIZE, Resource, Task, rseq};
use kilburn_addr::{Errno, PAGE_MASK, PAGE_SIZE, Prot, VirtAddr};
use kilburn_mm::layout::{Arch, LayoutRequest};
use kilburn_mm::{Caller, ExecLayout, FileForMap, Host, Layout, MmapRequest, StackExec};
use kilburn_paging::Sv;
use kilburn_riscv::Regs;

const MAP_PRIVATE: u64 = 0x02;
const MAP_FIXED: u64 = 0x10;
const MAP_ANONYMOUS: u64 = 0x20;
const MAP_FIXED_NOREPLACE: u64 = 0x10_0000;

/// IMAFDC, as bits of the letters: AT_HWCAP of an RV64GC hart.
const HWCAP: u64 = 0x112d;

fn page_up(value: u64) -> u64 {
    value.wrapping_add(PAGE_SIZE - 1) & PAGE_MASK
}

fn failed(errno: Errno, reason: impl Into<String>) -> ExecError {
    ExecError { errno, reason: reason.into() }
}

/// An image being mapped.
struct Image<'a> {
    mm: &'a Mm,
    caller: &'a Caller,
    task_size: u64,
    file: &'a ExecFile,
    elf: &'a Elf,
}

/// Where an image came to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Placed {
    /// Added to the file's addresses.
    bias: u64,
    start_code: u64,
    end_code: u64,
    start_data: u64,
    end_data: u64,
    /// End of the highest segment.
    end: u64,
}

impl Image<'_> {
    fn map(&self, addr: u64, len: u64, prot: u64, flags: u64, offset: u64) -> Result<u64, Errno> {
        let anonymous = flags & MAP_ANONYMOUS != 0;
        let file = (!anonymous).then(|| FileForMap {
            file: self.file.mapped(),
            readable: true,
            writable: false,
            noexec: false,
            write_sealed: false,
        });
        let request = MmapRequest { addr, len, prot, flags, file, offset };
        Ok(self.mm.mmap(self.caller, request)?.get())
    }

    /// Maps the file's part of a segment; the first one reserves room for `total` (Linux
    /// `elf_map`).
    fn map_file_part(
        &self,
        addr: u64,
        segment: &Segment,
        flags: u64,
        total: u64,
    ) -> Result<u64, Errno> {
        let skew = segment.vaddr & !PAGE_MASK;
        let addr = addr & PAGE_MASK;
        let size = page_up(segment.filesz.wrapping_add(skew));
        if size == 0 {
            return Ok(addr);
        }
        let offset = segment.offset.wrapping_sub(skew);
        if offset & !PAGE_MASK != 0 {
            return Err(Errno::EINVAL);
        }
        let prot = prot_of(segment).bits().into();
        if total == 0 {
            return self.map(addr, size, prot, flags, offset);
        }
        let total = page_up(total);
        let at = self.map(addr, total, prot, flags, offset)?;
        if total > size {
            self.mm.munmap(VirtAddr::new(at + size), total - size)?;
        }
        Ok(at)
    }

    /// Maps a segment: its file part, then zeros (Linux `elf_load`).
    fn load_segment(
        &self,
        addr: u64,
        segment: &Segment,
        flags: u64,
        total: u64,
    ) -> Result<u64, Errno> {
        let skew = segment.vaddr & !PAGE_MASK;
        let (at, zero_start) = if segment.filesz != 0 {
            let at = self.map_file_part(addr, segment, flags, total)?;
            let zero_start = at.wrapping_add(skew).wrapping_add(segment.filesz);
            if segment.memsz > segment.filesz
                && !self.zero_rest_of_page(zero_start)
                && segment.flags & PF_W != 0
            {
                return Err(Errno::EFAULT);
            }
            (at, zero_start)
        } else {
            let at = addr & PAGE_MASK;
            (at, at)
        };
        if segment.memsz > segment.filesz {
            let end = page_up(at.wrapping_add(skew).wrapping_add(segment.memsz));
            let start = page_up(zero_start);
            let exec = if segment.flags & PF_X != 0 { StackExec::Yes } else { StackExec::No };
            let len = end.wrapping_sub(start);
            self.mm.vm_brk_flags(self.caller, VirtAddr::new(start), len, exec)?;
        }
        Ok(at)
    }

    /// Zeroes from `from` to the end of its page; answers whether that was possible.
    fn zero_rest_of_page(&self, from: u64) -> bool {
        let rest = (PAGE_SIZE - (from & !PAGE_MASK)) % PAGE_SIZE;
        let zeros = [0; PAGE_SIZE as usize];
        self.mm.write(self.caller, VirtAddr::new(from), &zeros[..rest as usize]).is_ok()
    }

    fn bad(&self, addr: u64) -> bool {
        addr >= self.task_size
    }

    /// Maps all segments. `first_flags` and `bias` are for the first one, `total` what it
    /// reserves.
    fn load(&self, mut bias: u64, first_flags: u64, total: u64) -> Result<Placed, ExecError> {
        let mut placed = Placed { start_code: u64::MAX, ..Placed::default() };
        for (i, segment) in self.elf.segments.iter().enumerate() {
            let (flags, total) =
                if i == 0 { (first_flags, total) } else { (MAP_PRIVATE | MAP_FIXED, 0) };
            let wanted = bias.wrapping_add(segment.vaddr);
            let at = self
                .load_segment(wanted, segment, flags, total)
                .and_then(|at| if self.bad(at) { Err(Errno::EINVAL) } else { Ok(at) })
                .map_err(|errno| failed(errno, format!("segment {i} cannot be mapped: {errno}")))?;
            if i == 0 && self.elf.kind == Kind::Movable {
                bias = bias.wrapping_add(at.wrapping_sub(wanted & PAGE_MASK));
            }
            self.check_size(i, segment)?;
            placed.note(segment);
        }
        placed.relocate(bias);
        Ok(placed)
    }

    fn check_size(&self, i: usize, segment: &Segment) -> Result<(), ExecError> {
        let fits = !self.bad(segment.vaddr)
            && segment.filesz <= segment.memsz
            && segment.memsz <= self.task_size
            && self.task_size - segment.memsz >= segment.vaddr;
        if fits { Ok(()) } else { Err(failed(Errno::EINVAL, format!("segment {i} does not fit"))) }
    }
}

impl Placed {
    fn note(&mut self, segment: &Segment) {
        let start = segment.vaddr;
        let file_end = start.wrapping_add(segment.filesz);
        if segment.flags & PF_X != 0 {
            self.start_code = self.start_code.min(start);
            self.end_code = self.end_code.max(file_end);
        }
        self.start_data = self.start_data.max(start);
        self.end_data = self.end_data.max(file_end);
        self.end = self.end.max(start.wrapping_add(segment.memsz));
    }

    fn relocate(&mut self, bias: u64) {
        self.bias = bias;
        for field in [
            &mut self.start_code,
            &mut self.end_code,
            &mut self.start_data,
            &mut self.end_data,
            &mut self.end,
        ] {
            *field = field.wrapping_add(bias);
        }
    }
}

fn prot_of(segment: &Segment) -> Prot {
    let mut prot = Prot::empty();
    prot.set(Prot::READ, segment.flags & PF_R != 0);
    prot.set(Prot::WRITE, segment.flags & PF_W != 0);
    prot.set(Prot::EXEC, segment.flags & PF_X != 0);
    prot
}

impl Task {
    fn is_randomized(&self) -> bool {
        self.kernel().aslr == Aslr::Seeded && self.personality.get() & ADDR_NO_RANDOMIZE == 0
    }

    fn pick_layout(&self) -> Layout {
        let kernel = self.kernel();
        let arch = match kernel.paging {
            Sv::SV39 => Arch::RiscvSv39,
            Sv::SV48 => Arch::RiscvSv48,
            _ => Arch::RiscvSv57,
        };
        let mut draw = || kernel.host().random_u64();
        let random =
            if self.is_randomized() { Some(&mut draw as &mut dyn FnMut() -> u64) } else { None };
        let stack_limit_bytes = self.rlimit(Resource::Stack);
        Layout::pick(arch, LayoutRequest { stack_limit_bytes, random, ..LayoutRequest::default() })
    }

    /// Builds the address space of `program` and points the registers at its start.
    ///
    /// # Errors
    /// What went wrong; the task has no program then.
    pub(crate) fn load_program(&self, program: &Program) -> Result<(), ExecError> {
        let kernel = self.kernel();
        let layout = self.pick_layout();
        let mm = Mm::new(&kernel.memory, layout)?;
        let caller = self.caller();
        let top = layout.stack_top();
        let area = lay_out_strings(&program.strings, top);
        let exec = if program.elf.exec_stack { StackExec::Yes } else { StackExec::No };
        mm.setup_stack(&caller, top, top.get() - area.start, exec)?;
        mm.write(&caller, VirtAddr::new(area.start), &area.bytes).map_err(|_| Errno::EFAULT)?;

        let task_size = layout.task_size().get();
        let image =
            Image { mm: &mm, caller: &caller, task_size, file: &program.file, elf: &program.elf };
        let placed = load_main(&image, &layout, program.interp.is_some())?;
        let mut entry = program.elf.entry.wrapping_add(placed.bias);
        let mut base = 0;
        if let Some((file, elf)) = &program.interp {
            let image = Image { file, elf, ..image };
            base = load_interpreter(&image, placed.bias)?;
            entry = base.wrapping_add(elf.entry);
        }
        if entry >= task_size {
            return Err(failed(Errno::EINVAL, "entry point outside the address space"));
        }
        let vdso = kernel.vdso.map(&mm, &caller)?;
        let tables = self.build_tables(program, &area, &placed, base, vdso);
        mm.write(&caller, VirtAddr::new(tables.sp), &tables.bytes).map_err(|_| Errno::EFAULT)?;
        let static_pie = program.elf.kind == Kind::Movable && program.interp.is_none();
        let brk = self.brk_start(&layout, &placed, static_pie)?;
        mm.set_layout_fields(fields(&placed, &area, &tables, brk));
        self.group().enter_mm_afresh();
        self.replace_mm(Some(mm));
        self.vdso.set(vdso);
        let mut regs = Regs::new();
        regs.pc = entry;
        regs.x[Regs::SP] = tables.sp;
        **self.regs.borrow_mut() = regs;
        Ok(())
    }

    /// Where the heap starts (Linux 6.18 `load_elf_binary`, at its end).
    fn brk_start(
        &self,
        layout: &Layout,
        placed: &Placed,
        static_pie: bool,
    ) -> Result<VirtAddr, ExecError> {
        let mut start = VirtAddr::new(page_up(placed.end));
        if static_pie {
            start = layout.arch().et_dyn_base();
        } else if self.is_randomized() {
            start = start.checked_add(PAGE_SIZE).ok_or(Errno::ENOMEM)?;
        }
        Ok(layout.brk_start(start).unwrap_or(start))
    }

    fn build_tables(
        &self,
        program: &Program,
        area: &StringArea,
        placed: &Placed,
        base: u64,
        vdso: VirtAddr,
    ) -> Tables {
        let kernel = self.kernel();
        let creds = &program.creds;
        let elf = &program.elf;
        let mut auxv = vec![(at::SYSINFO_EHDR, vdso.get())];
        // Cache sizes: those of a machine that does not tell.
        auxv.extend((at::L1I_CACHESIZE..=at::L3_CACHEGEOMETRY).map(|kind| (kind, 0)));
        auxv.extend([
            (at::MINSIGSTKSZ, crate::signal::frame::FRAME_BYTES as u64),
            (at::HWCAP, HWCAP),
            (at::PAGESZ, PAGE_SIZE),
            (at::CLKTCK, crate::time::USER_HZ),
            (at::PHDR, elf.phdr_address().wrapping_add(placed.bias)),
            (at::PHENT, 56),
            (at::PHNUM, elf.phnum.into()),
            (at::BASE, base),
            (at::FLAGS, 0),
            (at::ENTRY, elf.entry.wrapping_add(placed.bias)),
            (at::UID, creds.uid.into()),
            (at::EUID, creds.euid.into()),
            (at::GID, creds.gid.into()),
            (at::EGID, creds.egid.into()),
            (at::SECURE, program.secure.into()),
            (at::RANDOM, 0),
            (at::EXECFN, 0),
            (at::RSEQ_FEATURE_SIZE, rseq::FEATURE_SIZE.into()),
            (at::RSEQ_ALIGN, rseq::ALIGN),
        ]);
        let mut random = [0; 16];
        kernel.host().fill_random(&mut random);
        // arch_align_stack: less than a page.
        let shift = if self.is_randomized() { kernel.host().random_u64() % PAGE_SIZE } else { 0 };
        lay_out_tables(&program.strings, area, auxv, random, shift)
    }
}

fn load_main(image: &Image<'_>, layout: &Layout, has_interp: bool) -> Result<Placed, ExecError> {
    let elf = image.elf;
    let total = elf.total_size();
    let Some(first) = elf.segments.first() else {
        // Linux maps nothing, then finds an entry point that cannot be fetched: SIGSEGV.
        return Ok(Placed::default());
    };
    if elf.kind == Kind::Fixed {
        return image.load(0, MAP_PRIVATE | MAP_FIXED_NOREPLACE, 0);
    }
    if total == 0 {
        return Err(failed(Errno::EINVAL, "segments of no size"));
    }
    let alignment = elf.alignment();
    let (start, flags) = if has_interp {
        (layout.et_dyn_base().get() & !(alignment - 1), MAP_PRIVATE | MAP_FIXED_NOREPLACE)
    } else if alignment > PAGE_SIZE {
        // Found by trying: where it would go, moved down to the alignment.
        let at = image.load_segment(0, first, MAP_PRIVATE, total)?;
        image.mm.munmap(VirtAddr::new(at), page_up(total))?;
        (at & !(alignment - 1), MAP_PRIVATE | MAP_FIXED_NOREPLACE)
    } else {
        (0, MAP_PRIVATE)
    };
    let bias = start.wrapping_sub(first.vaddr) & PAGE_MASK;
    image.load(bias, flags, total)
}

/// Maps the interpreter and answers what is added to its addresses.
fn load_interpreter(image: &Image<'_>, main_bias: u64) -> Result<u64, ExecError> {
    let elf = image.elf;
    let total = elf.total_size();
    let Some(first) = elf.segments.first().filter(|_| total != 0) else {
        return Err(failed(Errno::EINVAL, "interpreter without segments"));
    };
    let placed = match elf.kind {
        Kind::Fixed => image.load(0, MAP_PRIVATE | MAP_FIXED, total)?,
        Kind::Movable => {
            let bias = if main_bias != 0 { 0_u64.wrapping_sub(first.vaddr) } else { 0 };
            image.load(bias, MAP_PRIVATE, total)?
        }
    };
    Ok(placed.bias)
}

fn fields(placed: &Placed, area: &StringArea, tables: &Tables, brk: VirtAddr) -> ExecLayout {
    ExecLayout {
        start_code: VirtAddr::new(placed.start_code),
        end_code: VirtAddr::new(placed.end_code),
        start_data: VirtAddr::new(placed.start_data),
        end_data: VirtAddr::new(placed.end_data),
        start_brk: brk,
        brk,
        start_stack: VirtAddr::new(tables.sp),
        arg_start: VirtAddr::new(area.arg_start),
        arg_end: VirtAddr::new(area.arg_end),
        env_start: VirtAddr::new(area.arg_end),
        env_end: VirtAddr::new(area.env_end),
        saved_auxv: tables.auxv.clone(),
    }
}
