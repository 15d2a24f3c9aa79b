//! mmap (Linux 6.18 mm/mmap.c: `ksys_mmap_pgoff`, `do_mmap`; mm/vma.c: `mmap_region`).

use crate::accounting::is_accountable;
use crate::anon_vma::AnonSlot;
use crate::areas::place::BelowMin;
use crate::areas::{AreaWatch as _, Areas, Backing, Neighbours, PlaceRequest, Placement, Window};
use crate::config::Overcommit;
use crate::lease::{Adds, StateMut};
use crate::mappable::MappedFile;
use crate::mm::State;
use crate::page_cache::{AddressSpace, Promise};
use crate::rmap::Links;
use crate::shared_anon::SharedAnon;
use crate::{Caller, Host, Mm, Vma, VmaExtra};
use alloc::sync::Arc;
use bitflags::bitflags;
use kilburn_addr::{AddrRange, Errno, PAGE_MASK, PAGE_SHIFT, PAGE_SIZE, Prot, VirtAddr, VmFlags};

bitflags! {
    /// `MAP_*` (include/uapi/asm-generic/mman-common.h, mman.h), without the type.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct MapFlags: u64 {
        /// `MAP_FIXED`
        const FIXED = 0x10;
        /// `MAP_ANONYMOUS`
        const ANONYMOUS = 0x20;
        /// `MAP_32BIT` (x86)
        const LOW_32BIT = 0x40;
        /// `MAP_ABOVE4G` (x86)
        const ABOVE4G = 0x80;
        /// `MAP_GROWSDOWN`
        const GROWSDOWN = 0x100;
        /// `MAP_DENYWRITE`: ignored.
        const DENYWRITE = 0x800;
        /// `MAP_EXECUTABLE`: ignored.
        const EXECUTABLE = 0x1000;
        /// `MAP_LOCKED`
        const LOCKED = 0x2000;
        /// `MAP_NORESERVE`
        const NORESERVE = 0x4000;
        /// `MAP_POPULATE`
        const POPULATE = 0x8000;
        /// `MAP_NONBLOCK`
        const NONBLOCK = 0x1_0000;
        /// `MAP_STACK`
        const STACK = 0x2_0000;
        /// `MAP_HUGETLB`
        const HUGETLB = 0x4_0000;
        /// `MAP_SYNC`
        const SYNC = 0x8_0000;
        /// `MAP_FIXED_NOREPLACE`
        const FIXED_NOREPLACE = 0x10_0000;
        /// `MAP_UNINITIALIZED`: ignored with an MMU.
        const UNINITIALIZED = 0x400_0000;
    }
}

const TYPE_MASK: u64 = 0xf;
pub(super) const SHARED: u64 = 0x1;
const PRIVATE: u64 = 0x2;
const SHARED_VALIDATE: u64 = 0x3;
const DROPPABLE: u64 = 0x8;

const HUGE_SHIFT: u32 = 26;
const HUGE_MASK: u64 = 0x3f;
const HUGE_2MB: u64 = 21 << HUGE_SHIFT;
const HUGE_1GB: u64 = 30 << HUGE_SHIFT;

/// What `MAP_SHARED_VALIDATE` knows (Linux `LEGACY_MAP_MASK`).
const LEGACY: u64 = SHARED
    | PRIVATE
    | HUGE_2MB
    | HUGE_1GB
    | MapFlags::all().difference(MapFlags::SYNC).difference(MapFlags::FIXED_NOREPLACE).bits();

/// The arguments of mmap as the guest gave them.
pub struct MmapRequest<H: Host> {
    /// Hint or, with `MAP_FIXED`, the address.
    pub addr: u64,
    /// Length in bytes.
    pub len: u64,
    /// `PROT_*`
    pub prot: u64,
    /// `MAP_*`
    pub flags: u64,
    /// The file of the descriptor; ignored with `MAP_ANONYMOUS`. The caller answers `EBADF` itself
    /// when a file is needed and there is none.
    pub file: Option<FileForMap<H>>,
    /// Offset in the file, in bytes.
    pub offset: u64,
}

/// What mmap needs to know of an open file.
pub struct FileForMap<H: Host> {
    /// What is mapped.
    pub file: Arc<dyn MappedFile<H>>,
    /// Opened for reading (`FMODE_READ`).
    pub readable: bool,
    /// Opened for writing (`FMODE_WRITE`).
    pub writable: bool,
    /// Its file system is mounted `noexec`.
    pub noexec: bool,
    /// Seals and the like forbid shared writable mappings for ever (`F_SEAL_WRITE`).
    pub write_sealed: bool,
}

/// A mapping whose arguments were found valid.
struct Mapping<H: Host> {
    range: AddrRange,
    there: There,
    flags: VmFlags,
    pgoff: u64,
    source: Source<H>,
}

/// What may be in the range of a mapping before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum There {
    /// Nothing: it was placed there, or looked at.
    Nothing,
    /// Areas, which go (`MAP_FIXED`).
    Areas,
}

enum Source<H: Host> {
    PrivateAnon,
    SharedAnon,
    File(Arc<dyn MappedFile<H>>),
}

impl<H: Host> Mm<H> {
    /// Maps a file or anonymous memory; answers where.
    ///
    /// # Errors
    /// As mmap(2).
    pub fn mmap(&self, caller: &Caller, request: MmapRequest<H>) -> Result<VirtAddr, Errno> {
        self.mmap_if(caller, request, |_| Ok(()))
    }

    /// Maps as [`Self::mmap`] when `check` finds nothing against it in the areas there are.
    pub(super) fn mmap_if(
        &self,
        caller: &Caller,
        mut request: MmapRequest<H>,
        check: impl FnOnce(&Areas<H>) -> Result<(), Errno>,
    ) -> Result<VirtAddr, Errno> {
        if request.offset & !PAGE_MASK != 0 {
            return Err(Errno::EINVAL);
        }
        let raw = MapFlags::from_bits_truncate(request.flags);
        if raw.contains(MapFlags::ANONYMOUS) {
            request.file = None;
        }
        if raw.contains(MapFlags::HUGETLB) {
            return Err(huge_error(&request));
        }
        let mut state = self.lock_for(caller, &request, raw);
        check(&state.areas)?;
        let mapping = self.validate(caller, &state, request, raw)?;
        let (range, flags) = (mapping.range, mapping.flags);
        self.map_region(caller, &mut state, mapping)?;
        drop(state);
        let populate = raw & (MapFlags::POPULATE | MapFlags::NONBLOCK) == MapFlags::POPULATE;
        if populate || flags.contains(VmFlags::LOCKED) {
            // Whatever is missing is faulted in later: mmap has succeeded.
            let _ = self.populate(range, super::populate::OnError::GoOn);
        }
        Ok(range.start())
    }

    /// Locks what the request can change: the surroundings of the range it names, or everything.
    fn lock_for(
        &self,
        caller: &Caller,
        request: &MmapRequest<H>,
        raw: MapFlags,
    ) -> StateMut<'_, H> {
        if let Some(range) = self.named_range(request, raw) {
            let state = self.mmap_write_lock_range(range, Adds::Pages(caller));
            // A hint that cannot be taken leads elsewhere.
            if !state.is_part() || self.placed_at(caller, &state, request, raw) == Ok(range.start())
            {
                return state;
            }
        }
        StateMut::Whole(self.mmap_write_lock())
    }

    /// Where a request for private memory without further effects wants to be.
    fn named_range(&self, request: &MmapRequest<H>, raw: MapFlags) -> Option<AddrRange> {
        let plain = MapFlags::ANONYMOUS
            | MapFlags::FIXED
            | MapFlags::FIXED_NOREPLACE
            | MapFlags::NORESERVE
            | MapFlags::STACK;
        let addr = VirtAddr::new(request.addr);
        let is_named = request.file.is_none()
            && plain.contains(raw)
            && raw.contains(MapFlags::ANONYMOUS)
            && request.flags & TYPE_MASK == PRIVATE
            && request.addr != 0
            && addr.is_page_aligned()
            && request.len != 0;
        let len = is_named.then(|| VirtAddr::new(request.len).page_up()).flatten()?.get();
        self.in_task(addr, len).then(|| AddrRange::with_len(addr, len)).flatten()
    }

    /// Where a request is placed, as things are (`get_unmapped_area`).
    fn placed_at(
        &self,
        caller: &Caller,
        state: &State<H>,
        request: &MmapRequest<H>,
        raw: MapFlags,
    ) -> Result<VirtAddr, Errno> {
        let fixed = raw.intersects(MapFlags::FIXED | MapFlags::FIXED_NOREPLACE);
        let min = self.memory().tunables.mmap_min_addr();
        let addr = if fixed { request.addr } else { hint(request.addr, min) };
        state.areas.get_unmapped_area(
            self.layout(),
            &PlaceRequest {
                addr: VirtAddr::new(addr),
                len: VirtAddr::new(request.len).page_up().ok_or(Errno::ENOMEM)?.get(),
                placement: if fixed { Placement::Fixed } else { Placement::Hint },
                backing: backing(request, request.offset >> PAGE_SHIFT),
                window: window(raw),
                min_addr: VirtAddr::new(min),
                below_min: if caller.raw_io { BelowMin::Allowed } else { BelowMin::Refused },
            },
        )
    }

    /// `do_mmap` up to the point where something changes.
    fn validate(
        &self,
        caller: &Caller,
        state: &State<H>,
        request: MmapRequest<H>,
        raw: MapFlags,
    ) -> Result<Mapping<H>, Errno> {
        if request.len == 0 {
            return Err(Errno::EINVAL);
        }
        let mut prot = Prot::from_bits_truncate(request.prot as u32);
        let noexec = request.file.as_ref().is_some_and(|file| file.noexec);
        if prot.contains(Prot::READ) && caller.read_implies_exec && !noexec {
            prot |= Prot::EXEC;
        }
        let tunables = &self.memory().tunables;
        let len = VirtAddr::new(request.len).page_up().ok_or(Errno::ENOMEM)?.get();
        let pgoff = request.offset >> PAGE_SHIFT;
        if state.areas.len() > tunables.max_map_count() as usize {
            return Err(Errno::ENOMEM);
        }
        let mut flags = VmFlags::from_prot(prot) | area_flags(raw) | state.def_flags;
        flags |= VmFlags::MAYREAD | VmFlags::MAYWRITE | VmFlags::MAYEXEC;
        let addr = self.placed_at(caller, state, &request, raw)?;
        let range = AddrRange::with_len(addr, len).ok_or(Errno::ENOMEM)?;
        let there = if raw.contains(MapFlags::FIXED_NOREPLACE) {
            if !state.areas.is_free(range) {
                return Err(Errno::EEXIST);
            }
            There::Nothing
        } else if raw.contains(MapFlags::FIXED) {
            There::Areas
        } else {
            There::Nothing
        };
        if raw.contains(MapFlags::LOCKED) && !caller.can_lock && caller.rlimits.memlock == 0 {
            return Err(Errno::EPERM);
        }
        if !state.vm.may_lock(caller, flags, len) {
            return Err(Errno::EAGAIN);
        }
        let (source, pgoff) = match request.file {
            Some(file) => {
                // file_mmap_ok: no page past the largest offset.
                let max_pages = i64::MAX as u64 >> PAGE_SHIFT;
                if pgoff > max_pages || len >> PAGE_SHIFT > max_pages - pgoff {
                    return Err(Errno::EOVERFLOW);
                }
                flags = file_flags(flags, &file, request.flags, prot)?;
                // DIVERGENCE(private-zero-device): Linux shows /dev/zero as the name of a private
                // mapping of it, which is anonymous memory in every other way, as here.
                match file.file.is_zero_device() {
                    true if flags.contains(VmFlags::MAYSHARE) => (Source::SharedAnon, pgoff),
                    true => (Source::PrivateAnon, range.start().vpn()),
                    false => (Source::File(file.file), pgoff),
                }
            }
            None => anon_source(&mut flags, request.flags, range)?,
        };
        if raw.contains(MapFlags::NORESERVE)
            && !matches!(tunables.overcommit(), Overcommit::Never(_))
        {
            flags |= VmFlags::NORESERVE;
        }
        Ok(Mapping { range, there, flags, pgoff, source })
    }

    /// `mmap_region`: what was there goes, then the mapping comes.
    fn map_region(
        &self,
        caller: &Caller,
        state: &mut State<H>,
        mapping: Mapping<H>,
    ) -> Result<(), Errno> {
        let Mapping { range, there, mut flags, .. } = mapping;
        let pages = range.pages();
        let (mut gone, mut promised) = (0, 0);
        let replaced = (there == There::Areas).then(|| state.areas.heads_overlapping(range));
        for area in replaced.into_iter().flatten() {
            let part = area.range.intersection(range).map_or(0, AddrRange::pages);
            gone += part;
            if area.flags.contains(VmFlags::ACCOUNT) {
                promised += part;
            }
        }
        let unmap = if gone == 0 {
            None
        } else {
            let planned = state.areas.plan_unmap(range, self.memory().tunables.max_map_count());
            Some(planned.map_err(|refused| {
                state.areas.leave_split(refused.left_split_at, &mut Links(self));
                refused.errno
            })?)
        };
        let mut checked = Ok(());
        if !state.vm.may_expand(caller, flags, pages.saturating_sub(gone)) {
            checked = Err(Errno::ENOMEM);
        } else if is_accountable(flags) {
            // Only what comes on top of what goes can be refused.
            checked = self.memory().charge(caller, state.vm.total, pages - promised);
            flags |= VmFlags::ACCOUNT;
        }
        if let Err(errno) = checked {
            for at in unmap.iter().flat_map(crate::areas::UnmapPlan::splits) {
                state.areas.leave_split(at, &mut Links(self));
            }
            return Err(errno);
        }
        if flags.contains(VmFlags::ACCOUNT) {
            // The promise of what goes is taken over; unmapping gives it back.
            self.memory().recharge(promised);
        }
        if let Some(plan) = unmap {
            self.commit_unmap(state, plan);
        }
        self.insert_mapping(caller, state, Mapping { flags, ..mapping }).inspect_err(|_| {
            if flags.contains(VmFlags::ACCOUNT) {
                self.memory().uncharge(pages);
            }
        })
    }

    fn insert_mapping(
        &self,
        caller: &Caller,
        state: &mut State<H>,
        mapping: Mapping<H>,
    ) -> Result<(), Errno> {
        let Mapping { range, mut flags, pgoff, source, .. } = mapping;
        let file: Option<Arc<dyn MappedFile<H>>> = match source {
            Source::PrivateAnon => None,
            Source::SharedAnon => {
                Some(self.new_shared_anon(caller, state.vm.total, range.len(), flags)?)
            }
            Source::File(file) => {
                if let Some(device) = file.ops() {
                    flags |= device.mmap(range, pgoff, flags)?;
                }
                Some(file)
            }
        };
        if flags.intersects(VmFlags::SPECIAL) {
            flags -= VmFlags::LOCKED | VmFlags::LOCKONFAULT;
        }
        let vma =
            Vma { range, flags, pgoff, file, anon_vma: AnonSlot::empty(), extra: VmaExtra::NONE };
        let plan = state.areas.plan_insert(vma, Neighbours::Both);
        let start = state.areas.commit_insert(plan, &mut Links(self));
        if flags.contains(VmFlags::DROPPABLE)
            && let Some(mut vma) = state.areas.get_mut(start)
        {
            // Never locked (vma_supports_mlock), which Linux finds out after it tried to merge.
            flags = vma.as_ref().flags - VmFlags::LOCKED - VmFlags::LOCKONFAULT;
            vma.set_flags(flags);
            Links(self).reflagged(vma.as_ref());
        }
        state.vm.add(flags, range.pages());
        Ok(())
    }

    /// The object behind `MAP_SHARED | MAP_ANONYMOUS` (Linux `shmem_zero_setup`).
    fn new_shared_anon(
        &self,
        caller: &Caller,
        total_vm: u64,
        size: u64,
        flags: VmFlags,
    ) -> Result<Arc<dyn MappedFile<H>>, Errno> {
        let promise = if flags.contains(VmFlags::NORESERVE) {
            Promise::EachPage
        } else {
            Promise::Whole(size >> PAGE_SHIFT)
        };
        let memory = self.memory();
        let mapping = AddressSpace::new_shared_anon(memory, caller, total_vm, size, promise)?;
        Ok(Arc::new(SharedAnon::new(mapping, memory.next_shmem_inode())))
    }
}

/// A hint as `round_hint_to_min` leaves it.
fn hint(addr: u64, min: u64) -> u64 {
    let addr = addr & PAGE_MASK;
    if addr != 0 && addr < min { min.next_multiple_of(PAGE_SIZE) } else { addr }
}

/// The flags that `MAP_*` flags become (Linux `calc_vm_flag_bits`).
fn area_flags(raw: MapFlags) -> VmFlags {
    let mut flags = VmFlags::empty();
    for (map, area) in [
        (MapFlags::GROWSDOWN, VmFlags::GROWSDOWN),
        (MapFlags::LOCKED, VmFlags::LOCKED),
        (MapFlags::SYNC, VmFlags::SYNC),
        (MapFlags::STACK, VmFlags::NOHUGEPAGE),
    ] {
        if raw.contains(map) {
            flags |= area;
        }
    }
    flags
}

fn backing<H: Host>(request: &MmapRequest<H>, pgoff: u64) -> Backing {
    match &request.file {
        Some(file) => backing_of(file.file.as_ref(), pgoff),
        None if request.flags & TYPE_MASK == SHARED => Backing::Shmem,
        None => Backing::Anonymous,
    }
}

/// What a file is, as far as it matters for placing.
pub(super) fn backing_of<H: Host>(file: &dyn MappedFile<H>, pgoff: u64) -> Backing {
    match file.mapping() {
        Some(mapping) if mapping.is_shmem() => Backing::Shmem,
        Some(_) => Backing::HugeAlignedFile { pgoff },
        None => Backing::OtherFile,
    }
}

fn window(raw: MapFlags) -> Window {
    if raw.contains(MapFlags::LOW_32BIT) {
        Window::Low2G
    } else if raw.contains(MapFlags::ABOVE4G) {
        Window::Above4G
    } else {
        Window::Default
    }
}

/// Checks what the file's mode permits; the area's flags then.
fn file_flags<H: Host>(
    mut flags: VmFlags,
    file: &FileForMap<H>,
    raw: u64,
    prot: Prot,
) -> Result<VmFlags, Errno> {
    let kind = raw & TYPE_MASK;
    match kind {
        SHARED | SHARED_VALIDATE => {
            if kind == SHARED_VALIDATE && raw & !(LEGACY | SHARED_VALIDATE) != 0 {
                return Err(Errno::EOPNOTSUPP);
            }
            if prot.contains(Prot::WRITE) {
                if !file.writable {
                    return Err(Errno::EACCES);
                }
                if let Some(mapping) = file.file.mapping() {
                    mapping.check_writable()?;
                }
            }
            flags |= VmFlags::SHARED | VmFlags::MAYSHARE;
            if !file.writable {
                flags -= VmFlags::MAYWRITE | VmFlags::SHARED;
            }
        }
        PRIVATE => {}
        _ => return Err(Errno::EINVAL),
    }
    if !file.readable {
        return Err(Errno::EACCES);
    }
    if file.noexec {
        if flags.contains(VmFlags::EXEC) {
            return Err(Errno::EPERM);
        }
        flags -= VmFlags::MAYEXEC;
    }
    if flags.contains(VmFlags::GROWSDOWN) {
        return Err(Errno::EINVAL);
    }
    if file.write_sealed && flags.contains(VmFlags::SHARED) {
        // Sealed against writes: read-only for ever (memfd_check_seals_mmap).
        if flags.contains(VmFlags::WRITE) {
            return Err(Errno::EPERM);
        }
        flags -= VmFlags::MAYWRITE;
    }
    Ok(flags)
}

fn anon_source<H: Host>(
    flags: &mut VmFlags,
    raw: u64,
    range: AddrRange,
) -> Result<(Source<H>, u64), Errno> {
    let grows = flags.contains(VmFlags::GROWSDOWN);
    match raw & TYPE_MASK {
        SHARED if grows => Err(Errno::EINVAL),
        SHARED => {
            *flags |= VmFlags::SHARED | VmFlags::MAYSHARE;
            Ok((Source::SharedAnon, 0))
        }
        DROPPABLE => {
            if raw & MapFlags::LOCKED.bits() != 0 || grows {
                return Err(Errno::EINVAL);
            }
            *flags |=
                VmFlags::DROPPABLE | VmFlags::NORESERVE | VmFlags::WIPEONFORK | VmFlags::DONTDUMP;
            Ok((Source::PrivateAnon, range.start().vpn()))
        }
        PRIVATE => Ok((Source::PrivateAnon, range.start().vpn())),
        _ => Err(Errno::EINVAL),
    }
}

/// What `MAP_HUGETLB` answers while there is no pool of huge pages.
fn huge_error<H: Host>(request: &MmapRequest<H>) -> Errno {
    let size = request.flags >> HUGE_SHIFT & HUGE_MASK;
    let typed = matches!(request.flags & TYPE_MASK, SHARED | PRIVATE | SHARED_VALIDATE);
    let known = typed && matches!(size, 0 | 21 | 30);
    if request.file.is_some() || !known || request.len == 0 { Errno::EINVAL } else { Errno::ENOMEM }
}
