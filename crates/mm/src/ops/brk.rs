//! brk (Linux 6.18 mm/mmap.c: `brk`, `vm_brk_flags`; mm/vma.c: `do_brk_flags`).

use crate::anon_vma::AnonSlot;
use crate::areas::place::BelowMin;
use crate::areas::{Backing, Neighbours, PlaceRequest, Placement, Window};
use crate::exec::StackExec;
use crate::mm::State;
use crate::rmap::Links;
use crate::{Caller, Host, Mm, Vma, VmaExtra};
use kilburn_addr::{AddrRange, Errno, PAGE_SIZE, VirtAddr, VmFlags};

/// `VM_DATA_DEFAULT_FLAGS` where data is not executable by default.
pub(crate) const DATA_FLAGS: VmFlags = VmFlags::READ
    .union(VmFlags::WRITE)
    .union(VmFlags::MAYREAD)
    .union(VmFlags::MAYWRITE)
    .union(VmFlags::MAYEXEC);

impl<H: Host> Mm<H> {
    /// Moves the end of the heap; answers where it is then, which is where it was on failure.
    pub fn brk(&self, caller: &Caller, addr: VirtAddr) -> VirtAddr {
        let mut state = self.mmap_write_lock();
        let before = state.exec.brk;
        let Some(grown) = self.move_brk(caller, &mut state, addr) else { return before };
        state.exec.brk = addr;
        let locked = state.def_flags.contains(VmFlags::LOCKED);
        drop(state);
        if locked && !grown.is_empty() {
            let _ = self.populate(grown, super::populate::OnError::GoOn);
        }
        addr
    }

    /// What was added when the end can move to `addr`, empty if nothing.
    fn move_brk(&self, caller: &Caller, state: &mut State<H>, addr: VirtAddr) -> Option<AddrRange> {
        let exec = &state.exec;
        if addr < exec.start_brk {
            return None;
        }
        // check_data_rlimit
        let data = exec.end_data.get().wrapping_sub(exec.start_data.get());
        let heap = addr.get() - exec.start_brk.get();
        if heap.checked_add(data)? > caller.rlimits.data {
            return None;
        }
        let (new, old) = (addr.page_up()?, exec.brk.page_up()?);
        if new == old {
            return Some(AddrRange::default());
        }
        if addr <= exec.brk {
            let gone = AddrRange::new(new, old)?;
            if state.areas.is_free(gone) {
                return None;
            }
            self.unmap_locked(state, gone).ok()?;
            return Some(AddrRange::default());
        }
        let more = AddrRange::new(old, new)?;
        self.check_brk_limits(caller, state, more).ok()?;
        // A page of distance to what comes next, and its guard gap if that is a stack.
        let above = new.checked_add(PAGE_SIZE)?;
        if let Some(next) = state.areas.find(old) {
            let gap = if next.flags.contains(VmFlags::GROWSDOWN) {
                state.areas.guard_gap_bytes()
            } else {
                0
            };
            if above.get() > next.start().get().saturating_sub(gap) {
                return None;
            }
        }
        let start_brk = state.exec.start_brk;
        let may_extend =
            state.areas.before(old).is_some_and(|vma| vma.end() == old && vma.end() > start_brk);
        let neighbours = if may_extend { Neighbours::LowerOnly } else { Neighbours::None };
        self.add_brk_pages(caller, state, more, VmFlags::empty(), neighbours).ok()?;
        Some(more)
    }

    fn check_brk_limits(
        &self,
        caller: &Caller,
        state: &State<H>,
        range: AddrRange,
    ) -> Result<(), Errno> {
        state.areas.get_unmapped_area(
            self.layout(),
            &PlaceRequest {
                addr: range.start(),
                len: range.len(),
                placement: Placement::Fixed,
                backing: Backing::Anonymous,
                window: Window::Default,
                min_addr: VirtAddr::new(self.memory().tunables.mmap_min_addr()),
                below_min: if caller.raw_io { BelowMin::Allowed } else { BelowMin::Refused },
            },
        )?;
        if state.vm.may_lock(caller, state.def_flags, range.len()) {
            Ok(())
        } else {
            Err(Errno::EAGAIN)
        }
    }

    /// `do_brk_flags`: private writable memory in `range`, which is free.
    fn add_brk_pages(
        &self,
        caller: &Caller,
        state: &mut State<H>,
        range: AddrRange,
        extra: VmFlags,
        neighbours: Neighbours,
    ) -> Result<(), Errno> {
        let flags = extra | DATA_FLAGS | VmFlags::ACCOUNT | state.def_flags;
        let pages = range.pages();
        if !state.vm.may_expand(caller, flags, pages)
            || state.areas.len() > self.memory().tunables.max_map_count() as usize
        {
            return Err(Errno::ENOMEM);
        }
        self.memory().charge(caller, state.vm.total, pages)?;
        let vma = Vma {
            range,
            flags,
            pgoff: range.start().vpn(),
            file: None,
            anon_vma: AnonSlot::empty(),
            extra: VmaExtra::NONE,
        };
        let plan = state.areas.plan_insert(vma, neighbours);
        state.areas.commit_insert(plan, &mut Links(self));
        state.vm.add(flags, pages);
        Ok(())
    }

    /// Maps anonymous pages for a program's bss (Linux `vm_brk_flags`).
    ///
    /// # Errors
    /// `ENOMEM`, `EINVAL`, `EAGAIN`
    pub fn vm_brk_flags(
        &self,
        caller: &Caller,
        addr: VirtAddr,
        len: u64,
        exec: StackExec,
    ) -> Result<(), Errno> {
        let len = VirtAddr::new(len).page_up().ok_or(Errno::ENOMEM)?.get();
        if len == 0 {
            return Ok(());
        }
        let mut state = self.mmap_write_lock();
        let range = AddrRange::with_len(addr, len).ok_or(Errno::ENOMEM)?;
        self.check_brk_limits(caller, &state, range)?;
        self.unmap_locked(&mut state, range)?;
        let extra = match exec {
            StackExec::Yes => VmFlags::EXEC,
            StackExec::No => VmFlags::empty(),
        };
        let touches = state.areas.before(addr).is_some_and(|vma| vma.end() == addr);
        let neighbours = if touches { Neighbours::LowerOnly } else { Neighbours::None };
        self.add_brk_pages(caller, &mut state, range, extra, neighbours)
    }
}
