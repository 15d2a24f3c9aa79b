//! System V shared memory segments (Linux 6.18 ipc/shm.c, ipc/util.c).
//!
//! A segment is a file of shared memory without a name: attaching maps it. How often it is
//! attached is asked of the memory manager (`nattch` is the number of areas, as in Linux), so
//! that fork, exec and exit need not report here. A segment that was removed while attached goes
//! when next somebody looks and finds it detached. Neighbours: `crate::syscall::shm`.

use crate::host::{MachineHost, Memory};
use crate::task::creds::Id;
use crate::task::{Capability, Creds, Tid};
use kilburn_addr::{Errno, PAGE_SIZE};
use kilburn_mm::{AddressSpace, FileIdentity, MappedFile};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

/// `IPC_PRIVATE`
pub(crate) const PRIVATE: i32 = 0;
/// `SHMMAX`, `SHMALL`
pub(crate) const SIZE_MAX: u64 = u64::MAX - (1 << 24);
/// `SHMMNI`
pub(crate) const SEGMENTS_MAX: usize = 4096;
/// `SHM_DEST`: goes when the last one detaches.
pub(crate) const DEST: u32 = 0o1000;
/// `SHM_LOCKED`
pub(crate) const LOCKED: u32 = 0o2000;
/// Ids are a sequence number times this, plus an index (`IPCMNI`).
const INDEX_RANGE: u32 = 1 << 15;

/// One segment.
pub(crate) struct Segment {
    pub(crate) id: i32,
    pub(crate) key: Cell<i32>,
    pub(crate) size: u64,
    pub(crate) uid: Cell<Id>,
    pub(crate) gid: Cell<Id>,
    pub(crate) cuid: Id,
    pub(crate) cgid: Id,
    /// Permission bits, [`DEST`], [`LOCKED`].
    pub(crate) mode: Cell<u32>,
    pub(crate) creator: Tid,
    pub(crate) last: Cell<Tid>,
    /// Seconds of CLOCK_REALTIME; 0 for never.
    pub(crate) attached_at: Cell<u64>,
    pub(crate) detached_at: Cell<u64>,
    pub(crate) changed_at: Cell<u64>,
    pub(crate) memory: Arc<AddressSpace<MachineHost>>,
}

/// What an area of a segment keeps of it.
struct Attached {
    id: i32,
    key: i32,
    memory: Arc<AddressSpace<MachineHost>>,
}

impl MappedFile<MachineHost> for Attached {
    fn mapping(&self) -> Option<&Arc<AddressSpace<MachineHost>>> {
        Some(&self.memory)
    }

    fn identity(&self) -> FileIdentity {
        // The kernel's own tmpfs.
        FileIdentity { major: 0, minor: 1, inode: self.id as u64 }
    }

    fn path(&self) -> String {
        format!("/SYSV{:08x} (deleted)", self.key)
    }
}

impl Segment {
    /// How many areas show it.
    pub(crate) fn attachments(&self) -> u64 {
        self.memory.mapping_count() as u64
    }

    /// What attaching maps.
    pub(crate) fn file(&self) -> Arc<dyn MappedFile<MachineHost>> {
        let memory = Arc::clone(&self.memory);
        Arc::new(Attached { id: self.id, key: self.key.get(), memory })
    }

    /// Whether `creds` has the rights `want` (three bits, for each class) on it (Linux
    /// `ipcperms`).
    ///
    /// # Errors
    /// EACCES.
    pub(crate) fn check(&self, creds: &Creds, want: u32) -> Result<(), Errno> {
        let want = (want >> 6 | want >> 3 | want) & 7;
        let granted = self.mode.get();
        let owner = creds.euid == self.cuid || creds.euid == self.uid.get();
        let group = [self.cgid, self.gid.get()]
            .iter()
            .any(|gid| *gid == creds.egid || creds.groups.binary_search(gid).is_ok());
        let granted = if owner {
            granted >> 6
        } else if group {
            granted >> 3
        } else {
            granted
        };
        if want & !granted & 7 != 0 && !creds.has_cap(Capability::IpcOwner) {
            return Err(Errno::EACCES);
        }
        Ok(())
    }

    /// Whether `creds` may change or remove it (Linux `ipcctl_obtain_check`).
    ///
    /// # Errors
    /// EPERM.
    pub(crate) fn check_owner(&self, creds: &Creds) -> Result<(), Errno> {
        let owner = creds.euid == self.cuid || creds.euid == self.uid.get();
        if owner || creds.has_cap(Capability::SysAdmin) { Ok(()) } else { Err(Errno::EPERM) }
    }
}

/// All segments of the machine, by index.
#[derive(Default)]
pub(crate) struct Segments {
    by_index: RefCell<BTreeMap<u32, Rc<Segment>>>,
    last_index: Cell<Option<u32>>,
    sequence: Cell<u32>,
}

/// What a new segment is made of.
pub(crate) struct NewSegment {
    pub(crate) key: i32,
    pub(crate) size: u64,
    pub(crate) mode: u32,
    pub(crate) creator: Tid,
    pub(crate) now: u64,
}

impl Segments {
    /// Forgets removed segments that nobody has attached any more.
    fn collect(&self) {
        let gone =
            |segment: &Rc<Segment>| segment.mode.get() & DEST != 0 && segment.attachments() == 0;
        self.by_index.borrow_mut().retain(|_, segment| !gone(segment));
    }

    /// All segments, by index.
    pub(crate) fn all(&self) -> Vec<(u32, Rc<Segment>)> {
        self.collect();
        self.by_index.borrow().iter().map(|(i, segment)| (*i, Rc::clone(segment))).collect()
    }

    /// The segment with this key.
    pub(crate) fn by_key(&self, key: i32) -> Option<Rc<Segment>> {
        self.collect();
        let all = self.by_index.borrow();
        all.values().find(|segment| segment.key.get() == key).cloned()
    }

    /// The segment with this id.
    ///
    /// # Errors
    /// EINVAL when there is none.
    pub(crate) fn by_id(&self, id: i32) -> Result<Rc<Segment>, Errno> {
        self.collect();
        let index = u32::try_from(id).map_err(|_| Errno::EINVAL)? % INDEX_RANGE;
        let found = self.by_index.borrow().get(&index).cloned();
        found.filter(|segment| segment.id == id).ok_or(Errno::EINVAL)
    }

    /// Pages of all segments.
    pub(crate) fn total_pages(&self) -> u64 {
        let all = self.by_index.borrow();
        all.values().map(|segment| segment.size.div_ceil(PAGE_SIZE)).sum()
    }

    /// Makes a segment.
    ///
    /// # Errors
    /// EINVAL for a size of 0 or too much, ENOSPC when there are too many.
    pub(crate) fn create(
        &self,
        memory: &Arc<Memory>,
        creds: &Creds,
        new: &NewSegment,
    ) -> Result<Rc<Segment>, Errno> {
        if new.size == 0 || new.size > SIZE_MAX {
            return Err(Errno::EINVAL);
        }
        // What no file can be long.
        if new.size > i64::MAX as u64 {
            return Err(Errno::ENOMEM);
        }
        self.collect();
        let mut all = self.by_index.borrow_mut();
        let free = (0..SEGMENTS_MAX as u32).find(|index| !all.contains_key(index));
        let index = free.ok_or(Errno::ENOSPC)?;
        if self.last_index.get().is_some_and(|last| index <= last) {
            self.sequence.set((self.sequence.get() + 1) % (INDEX_RANGE * 2));
        }
        self.last_index.set(Some(index));
        let segment = Rc::new(Segment {
            id: (self.sequence.get() * INDEX_RANGE + index) as i32,
            key: Cell::new(new.key),
            size: new.size,
            uid: Cell::new(creds.euid),
            gid: Cell::new(creds.egid),
            cuid: creds.euid,
            cgid: creds.egid,
            mode: Cell::new(new.mode & 0o777),
            creator: new.creator,
            last: Cell::new(0),
            attached_at: Cell::new(0),
            detached_at: Cell::new(0),
            changed_at: Cell::new(new.now),
            memory: AddressSpace::new_shmem(memory, new.size),
        });
        all.insert(index, Rc::clone(&segment));
        Ok(segment)
    }

    /// Removes a segment: at once, or when the last one detaches.
    pub(crate) fn remove(&self, segment: &Segment) {
        segment.mode.set(segment.mode.get() | DEST);
        segment.key.set(PRIVATE);
        self.collect();
    }

    /// Forgets all (the machine ends).
    pub(crate) fn clear(&self) {
        let all = self.by_index.take();
        drop(all);
    }
}
