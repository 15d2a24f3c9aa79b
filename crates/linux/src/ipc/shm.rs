//! System V shared memory: segments and who attaches them (Linux 6.18 ipc/shm.c).
//!
//! [`Segments`] has all segments of the machine; [`Attachment`] is what one shmat maps. Areas tell
//! it when they come and go, so that a segment marked for removal goes with its last area.

use crate::host::MachineHost;
use crate::ipc::ids::{CREAT, EXCL, Ids, Object, PRIVATE, Perm};
use crate::kernel::Kernel;
use crate::task::creds::{Creds, Id};
use crate::task::limits::Resource;
use crate::task::{Capability, Task, Tid};
use crate::time::SECOND;
use kilburn_addr::{Access, AddrRange, Errno, PAGE_SIZE, Pfn, VmFlags};
use kilburn_mm::{AddressSpace, DeviceFault, FileIdentity, Mappable, MappedFile, Reserve};
use send_wrapper::SendWrapper;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;

/// `SHM_DEST`: the segment goes with its last attachment.
const DEST: u32 = 0o1000;
/// `SHM_LOCKED`
const LOCKED: u32 = 0o2000;
/// `SHM_HUGETLB`
const HUGETLB: i32 = 0o4000;
/// `SHM_NORESERVE`
const NORESERVE: i32 = 0o1_0000;
/// `SHM_HUGE_SHIFT`, `SHM_HUGE_MASK`
const HUGE_SHIFT: u32 = 26;
const HUGE_MASK: i32 = 0x3f;
/// `SHMMIN`
pub(crate) const MIN: u64 = 1;

/// `/proc/sys/kernel/shm*`
pub(crate) struct Limits {
    /// Largest segment, in bytes.
    pub(crate) max: Cell<u64>,
    /// Most pages of all segments.
    pub(crate) all: Cell<u64>,
    /// Most segments.
    pub(crate) mni: Cell<u32>,
}

impl Default for Limits {
    fn default() -> Self {
        let most = u64::MAX - (1 << 24);
        Self { max: Cell::new(most), all: Cell::new(most), mni: Cell::new(4096) }
    }
}

/// One segment (Linux `struct shmid_kernel`). Times are seconds of `CLOCK_REALTIME`.
pub(crate) struct Segment {
    pub(crate) perm: Perm,
    /// The key it was made with: the name of its file keeps it.
    named_after: i32,
    /// In bytes, as asked for.
    pub(crate) size: u64,
    pub(crate) attached_at: u64,
    pub(crate) detached_at: u64,
    pub(crate) changed_at: u64,
    pub(crate) creator: Tid,
    pub(crate) last_user: Tid,
    /// Areas that map it.
    pub(crate) attached: u64,
    pages: Arc<AddressSpace<MachineHost>>,
    /// The user whose limit its locked pages count against.
    locker: Option<Id>,
}

impl Object for Segment {
    fn perm(&self) -> &Perm {
        &self.perm
    }
}

impl Segment {
    fn page_count(&self) -> u64 {
        self.size.div_ceil(PAGE_SIZE)
    }

    /// Pages of it that are in memory.
    pub(crate) fn resident(&self) -> u64 {
        self.pages.cached_pages()
    }
}

/// All segments of a machine.
#[derive(Default)]
pub(crate) struct Segments {
    ids: RefCell<Ids<Segment>>,
    pub(crate) limits: Limits,
    /// Pages of all segments (`shm_tot`).
    total: Cell<u64>,
    /// Pages each user has locked (`UCOUNT_RLIMIT_MEMLOCK`).
    locked: RefCell<BTreeMap<Id, u64>>,
}

/// Whether shmget's size selects huge pages that there could be.
fn huge_page_error(creds: &Creds, flags: i32) -> Errno {
    match flags >> HUGE_SHIFT & HUGE_MASK {
        0 | 21 | 30 if creds.has_cap(Capability::IpcLock) || creds.in_group(0) => Errno::ENOMEM,
        0 | 21 | 30 => Errno::EPERM,
        _ => Errno::EINVAL,
    }
}

impl Segments {
    /// shmget (`ipcget`).
    ///
    /// # Errors
    /// As shmget(2).
    pub(crate) fn get(&self, task: &Task, key: i32, size: u64, flags: i32) -> Result<i32, Errno> {
        if key != PRIVATE
            && let Some(segment) = self.ids.borrow().find(key)
        {
            if flags & CREAT != 0 && flags & EXCL != 0 {
                return Err(Errno::EEXIST);
            }
            if segment.size < size {
                return Err(Errno::EINVAL);
            }
            segment.perm.check(&task.creds(), flags)?;
            return Ok(segment.perm.id);
        }
        if key != PRIVATE && flags & CREAT == 0 {
            return Err(Errno::ENOENT);
        }
        self.create(task, key, size, flags)
    }

    /// `newseg`
    fn create(&self, task: &Task, key: i32, size: u64, flags: i32) -> Result<i32, Errno> {
        if size < MIN || size > self.limits.max.get() {
            return Err(Errno::EINVAL);
        }
        let pages = size.div_ceil(PAGE_SIZE);
        let total = self.total.get().checked_add(pages).ok_or(Errno::ENOSPC)?;
        if total > self.limits.all.get() {
            return Err(Errno::ENOSPC);
        }
        let creds = task.creds();
        if flags & HUGETLB != 0 {
            return Err(huge_page_error(&creds, flags));
        }
        let reserve = if flags & NORESERVE == 0 { Reserve::Whole } else { Reserve::EachPage };
        let mm = task.mm().ok_or(Errno::EFAULT)?;
        let pages = mm.new_segment(&task.caller(), size, reserve)?;
        let id = self.ids.borrow_mut().add(key, flags, &creds, self.limits.mni.get(), |perm| {
            Segment {
                perm,
                named_after: key,
                size,
                attached_at: 0,
                detached_at: 0,
                changed_at: seconds(task.kernel()),
                creator: task.tgid(),
                last_user: 0,
                attached: 0,
                pages,
                locker: None,
            }
        })?;
        self.total.set(total);
        Ok(id)
    }

    /// What shmat maps, and its size in bytes. The segment counts as attached until
    /// [`Self::unpin`], so that it outlives areas that the new one replaces.
    ///
    /// # Errors
    /// EINVAL when there is no such segment, EACCES.
    pub(crate) fn pin(
        &self,
        kernel: &Rc<Kernel>,
        creds: &Creds,
        id: i32,
        wanted: i32,
    ) -> Result<(Arc<Attachment>, u64), Errno> {
        let mut ids = self.ids.borrow_mut();
        let segment = ids.get_mut(id)?;
        segment.perm.check(creds, wanted)?;
        segment.attached += 1;
        let attachment = Attachment {
            kernel: SendWrapper::new(Rc::downgrade(kernel)),
            id,
            named_after: segment.named_after,
            pages: Arc::clone(&segment.pages),
        };
        Ok((Arc::new(attachment), segment.size))
    }

    /// Ends what [`Self::pin`] began.
    pub(crate) fn unpin(&self, id: i32) {
        self.detach(id, |_| ());
    }

    fn attach(&self, id: i32, note: impl FnOnce(&mut Segment)) {
        if let Ok(segment) = self.ids.borrow_mut().get_mut(id) {
            segment.attached += 1;
            note(segment);
        }
    }

    /// `shm_close`
    fn detach(&self, id: i32, note: impl FnOnce(&mut Segment)) {
        let mut ids = self.ids.borrow_mut();
        let Ok(segment) = ids.get_mut(id) else { return };
        note(segment);
        segment.attached -= 1;
        let last = segment.attached == 0 && segment.perm.mode & DEST != 0;
        drop(ids);
        if last {
            self.destroy(id);
        }
    }

    /// `shm_destroy`
    fn destroy(&self, id: i32) {
        let removed = self.ids.borrow_mut().remove(id);
        if let Ok(segment) = removed {
            self.total.set(self.total.get() - segment.page_count());
            self.forget_locked(&segment);
        }
    }

    /// `IPC_RMID`
    ///
    /// # Errors
    /// EINVAL when there is no such segment, EPERM.
    pub(crate) fn remove(&self, creds: &Creds, id: i32) -> Result<(), Errno> {
        let attached = {
            let ids = self.ids.borrow();
            let segment = ids.get(id)?;
            segment.perm.check_owner(creds)?;
            segment.attached
        };
        if attached == 0 {
            self.destroy(id);
            return Ok(());
        }
        self.ids.borrow_mut().hide(id, |segment| {
            segment.perm.key = PRIVATE;
            segment.perm.mode |= DEST;
        })
    }

    /// `IPC_SET`
    ///
    /// # Errors
    /// EINVAL when there is no such segment, EPERM; EINVAL for an owner that is nobody.
    pub(crate) fn set(
        &self,
        kernel: &Kernel,
        creds: &Creds,
        id: i32,
        (uid, gid, mode): (Id, Id, u32),
    ) -> Result<(), Errno> {
        let mut ids = self.ids.borrow_mut();
        let segment = ids.get_mut(id)?;
        segment.perm.check_owner(creds)?;
        segment.perm.update(uid, gid, mode)?;
        segment.changed_at = seconds(kernel);
        Ok(())
    }

    /// Calls `f` with the segment that has this id.
    ///
    /// # Errors
    /// EINVAL when there is none; what `f` answers.
    pub(crate) fn with<T>(
        &self,
        id: i32,
        f: impl FnOnce(&Segment) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        f(self.ids.borrow().get(id)?)
    }

    /// Calls `f` with the segment at the place that `id` names.
    ///
    /// # Errors
    /// EINVAL when there is none; what `f` answers.
    pub(crate) fn with_place<T>(
        &self,
        id: i32,
        f: impl FnOnce(&Segment) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        f(self.ids.borrow().at_place(id)?)
    }

    /// Calls `f` with each segment, by place.
    pub(crate) fn for_each(&self, f: impl FnMut(&Segment)) {
        self.ids.borrow().iter().for_each(f);
    }

    /// Number of segments.
    pub(crate) fn count(&self) -> usize {
        self.ids.borrow().len()
    }

    /// Pages of all segments, in memory or not.
    pub(crate) fn total_pages(&self) -> u64 {
        self.total.get()
    }

    /// The highest place in use; 0 when none is.
    pub(crate) fn highest_place(&self) -> u64 {
        self.ids.borrow().highest_place().map_or(0, u64::from)
    }

    /// The id the next segment shall get; `None` for any.
    pub(crate) fn next_id(&self) -> Option<i32> {
        self.ids.borrow().next_id
    }

    /// Chooses the id of the next segment.
    pub(crate) fn set_next_id(&self, id: i32) {
        self.ids.borrow_mut().next_id = Some(id);
    }

    /// `SHM_LOCK`. Segments are never swapped as it is; what counts is the limit.
    ///
    /// # Errors
    /// EINVAL when there is no such segment, EPERM, ENOMEM past `RLIMIT_MEMLOCK`.
    pub(crate) fn lock(&self, task: &Task, id: i32) -> Result<(), Errno> {
        let creds = task.creds();
        let mut ids = self.ids.borrow_mut();
        let segment = ids.get_mut(id)?;
        let privileged = creds.has_cap(Capability::IpcLock);
        let limit = task.rlimit(Resource::Memlock);
        may_lock(segment, &creds)?;
        if !privileged && limit == 0 {
            return Err(Errno::EPERM);
        }
        if segment.perm.mode & LOCKED != 0 {
            return Ok(());
        }
        let mut locked = self.locked.borrow_mut();
        let own = locked.entry(creds.uid).or_default();
        let now = own.saturating_add(segment.page_count());
        let limit = if limit == u64::MAX { limit } else { limit / PAGE_SIZE };
        if now > limit && !privileged {
            return Err(Errno::ENOMEM);
        }
        *own = now;
        segment.perm.mode |= LOCKED;
        segment.locker = Some(creds.uid);
        Ok(())
    }

    /// `SHM_UNLOCK`
    ///
    /// # Errors
    /// EINVAL when there is no such segment, EPERM.
    pub(crate) fn unlock(&self, task: &Task, id: i32) -> Result<(), Errno> {
        let mut ids = self.ids.borrow_mut();
        let segment = ids.get_mut(id)?;
        may_lock(segment, &task.creds())?;
        self.forget_locked(segment);
        segment.perm.mode &= !LOCKED;
        segment.locker = None;
        Ok(())
    }

    fn forget_locked(&self, segment: &Segment) {
        if let Some(user) = segment.locker {
            let mut locked = self.locked.borrow_mut();
            if let Some(pages) = locked.get_mut(&user) {
                *pages -= segment.page_count();
            }
        }
    }
}

/// Who may lock and unlock a segment.
fn may_lock(segment: &Segment, creds: &Creds) -> Result<(), Errno> {
    let owner = creds.euid == segment.perm.uid || creds.euid == segment.perm.cuid;
    if owner || creds.has_cap(Capability::IpcLock) { Ok(()) } else { Err(Errno::EPERM) }
}

/// Seconds of `CLOCK_REALTIME`.
fn seconds(kernel: &Kernel) -> u64 {
    kernel.realtime() / SECOND
}

/// What one shmat maps (Linux `struct shm_file_data`): two attachments of a segment are two
/// files, so their areas never merge.
pub(crate) struct Attachment {
    /// Used on the machine's thread only, as all memory calls are.
    kernel: SendWrapper<Weak<Kernel>>,
    id: i32,
    named_after: i32,
    pages: Arc<AddressSpace<MachineHost>>,
}

impl Attachment {
    /// Tells the machine that the current process attached or detached.
    fn note(&self, change: impl FnOnce(&Segments, Tid, u64)) {
        if let Some(kernel) = self.kernel.upgrade() {
            let user = kernel.current().map_or(0, |task| task.tgid());
            change(&kernel.shm, user, seconds(&kernel));
        }
    }
}

impl MappedFile<MachineHost> for Attachment {
    fn mapping(&self) -> Option<&Arc<AddressSpace<MachineHost>>> {
        Some(&self.pages)
    }

    fn ops(&self) -> Option<&dyn Mappable<MachineHost>> {
        Some(self)
    }

    fn identity(&self) -> FileIdentity {
        // The inode number is the id: ps and others rely on it.
        FileIdentity { major: 0, minor: 1, inode: self.id as u64 }
    }

    fn path(&self) -> String {
        format!("/SYSV{:08x} (deleted)", self.named_after)
    }
}

impl Mappable<MachineHost> for Attachment {
    /// `shm_mmap`: remap_file_pages may come when the segment is gone.
    fn mmap(&self, _: AddrRange, _: u64, _: VmFlags) -> Result<VmFlags, Errno> {
        let kernel = self.kernel.upgrade().ok_or(Errno::EINVAL)?;
        kernel.shm.with(self.id, |segment| {
            if Arc::ptr_eq(&segment.pages, &self.pages) {
                Ok(VmFlags::empty())
            } else {
                Err(Errno::EINVAL)
            }
        })
    }

    fn open(&self, _: AddrRange) {
        self.note(|segments, user, now| {
            segments.attach(self.id, |segment| {
                segment.attached_at = now;
                segment.last_user = user;
            });
        });
    }

    fn close(&self, _: AddrRange) {
        self.note(|segments, user, now| {
            segments.detach(self.id, |segment| {
                segment.detached_at = now;
                segment.last_user = user;
            });
        });
    }

    fn fault(&self, _: u64, _: Access) -> Result<Pfn, DeviceFault> {
        // The pages are those of the mapping; nobody asks here.
        Err(DeviceFault::Bus)
    }

    fn is_segment(&self) -> bool {
        true
    }
}
