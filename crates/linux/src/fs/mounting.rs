//! Mounting and unmounting.
//!
//! [`MountTable`] is what is mounted now; [`Vfs::mount_new`], [`Vfs::bind_mount`],
//! [`Vfs::remount`] and [`Vfs::unmount`] are what mount(2) and umount2(2) do, rights and arguments
//! checked. Every mount is private, as there is one name space. Source: Linux 6.18
//! fs/namespace.c. Neighbours: [`crate::fs::mount`], [`crate::fs::vfs`].

use crate::fs::dentry::{Dentry, Path};
use crate::fs::mount::{Mount, MountFlags};
use crate::fs::stat::FileType;
use crate::fs::vfs::Vfs;
use crate::sched::wait::WaitQueue;
use kilburn_addr::Errno;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Number of the first mount.
const FIRST_ID: u64 = 20;
/// Most mounts (`fs.mount-max`).
pub(crate) const MOUNT_MAX: usize = 100_000;

/// What is mounted, oldest first.
pub(crate) struct MountTable {
    mounts: RefCell<Vec<Mounted>>,
    next_id: Cell<u64>,
    /// Trees of which there is one, wherever they are mounted: by type.
    shared: RefCell<BTreeMap<&'static str, Arc<Dentry>>>,
    /// How often the table changed; pollers of mountinfo look at it.
    changes: Cell<u64>,
    queue: WaitQueue,
}

struct Mounted {
    mount: Arc<Mount>,
    /// What it sits on, kept alive; `None` for the root of everything.
    on: Option<Path>,
}

impl MountTable {
    /// Nothing is mounted.
    pub(crate) fn new() -> Self {
        Self {
            mounts: RefCell::default(),
            next_id: Cell::new(FIRST_ID),
            shared: RefCell::default(),
            changes: Cell::new(0),
            queue: WaitQueue::new(),
        }
    }

    /// Mounts `root` on `place`, or as the root of everything.
    pub(crate) fn add(
        &self,
        root: Arc<Dentry>,
        source: &[u8],
        flags: MountFlags,
        place: Option<Path>,
    ) -> Arc<Mount> {
        let id = self.next_id.replace(self.next_id.get() + 1);
        let mount = Mount::new(id, root, source.to_vec(), flags);
        mount.set_place(place.as_ref());
        if let Some(place) = &place {
            place.attach(Arc::clone(&mount));
        }
        self.mounts.borrow_mut().push(Mounted { mount: Arc::clone(&mount), on: place });
        self.changed();
        mount
    }

    /// All mounts, oldest first.
    pub(crate) fn all(&self) -> Vec<Arc<Mount>> {
        self.mounts.borrow().iter().map(|mounted| Arc::clone(&mounted.mount)).collect()
    }

    /// How often the table changed.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.get()
    }

    /// Woken at each change.
    pub(crate) fn queue(&self) -> &WaitQueue {
        &self.queue
    }

    fn changed(&self) {
        self.changes.set(self.changes.get() + 1);
        self.queue.wake_all();
    }

    /// The one tree of type `name`, made by `make` when it is first asked for.
    pub(crate) fn shared_tree(
        &self,
        name: &'static str,
        make: impl FnOnce() -> Arc<Dentry>,
    ) -> Arc<Dentry> {
        Arc::clone(self.shared.borrow_mut().entry(name).or_insert_with(make))
    }

    fn remove(&self, mount: &Arc<Mount>) {
        let mut mounts = self.mounts.borrow_mut();
        let at = mounts.iter().position(|mounted| Arc::ptr_eq(&mounted.mount, mount));
        let removed = at.map(|at| mounts.remove(at));
        drop(mounts);
        if let Some(Mounted { on: Some(place), .. }) = &removed {
            place.dentry.detach(mount);
        }
        mount.set_place(None);
        drop(removed);
        self.changed();
    }

    /// The mounts that sit on `mount`, directly or not; those on top come first.
    fn above(&self, mount: &Arc<Mount>) -> Vec<Arc<Mount>> {
        let mut above = vec![Arc::clone(mount)];
        let mut next = 0;
        while let Some(under) = above.get(next).cloned() {
            next += 1;
            let mounts = self.mounts.borrow();
            above.extend(mounts.iter().filter(|m| m.mount.is_on(&under)).map(|m| m.mount.clone()));
        }
        above.remove(0);
        above.reverse();
        above
    }

    /// The machine ended: nothing is mounted any more.
    pub(crate) fn clear(&self) -> Vec<Arc<Mount>> {
        self.shared.take();
        let mounts = self.mounts.take();
        for Mounted { mount, on } in &mounts {
            if let Some(place) = on {
                place.dentry.detach(mount);
            }
        }
        mounts.into_iter().map(|mounted| mounted.mount).collect()
    }
}

/// What a bind mount takes along.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Depth {
    /// The tree alone.
    Single,
    /// What is mounted in it too (`MS_REC`).
    Recursive,
}

/// How a mount goes that is in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unmount {
    /// It does not: EBUSY.
    IfIdle,
    /// Out of sight now, away when nobody uses it any more (`MNT_DETACH`).
    Detach,
}

impl Vfs {
    /// Mounts a file system of `kind` on `place`.
    ///
    /// # Errors
    /// ENODEV for a type there is not, EINVAL for bad options, ENOTDIR, ENOSPC.
    pub(crate) fn mount_new(
        &self,
        place: Path,
        kind: &[u8],
        source: &[u8],
        options: &[u8],
        flags: MountFlags,
    ) -> Result<(), Errno> {
        let root = self.tree_of_type(kind, options)?;
        self.check_mount(&place, &root)?;
        self.mount_table().add(root, source, flags, Some(place));
        Ok(())
    }

    /// Makes the tree at `from` visible at `place` too.
    ///
    /// # Errors
    /// ENOTDIR, EINVAL for what is outside the name space, ENOSPC.
    pub(crate) fn bind_mount(&self, place: Path, from: &Path, depth: Depth) -> Result<(), Errno> {
        if from.mount.is_pseudo() {
            return Err(Errno::EINVAL);
        }
        self.check_mount(&place, &from.dentry)?;
        let table = self.mount_table();
        // Asked before the new mount is there, which may lie within what is copied.
        let mut inside =
            if depth == Depth::Recursive { table.above(&from.mount) } else { Vec::new() };
        inside.reverse();
        let (source, flags) = (from.mount.source.clone(), from.mount.flags());
        let top = table.add(Arc::clone(&from.dentry), &source, flags, Some(place));
        let mut copies = vec![(Arc::clone(&from.mount), top)];
        for mount in inside {
            let Some(on) = mount.parent() else { continue };
            let copy = copies.iter().find(|(original, _)| Arc::ptr_eq(original, &on.mount));
            let Some((_, copy)) = copy else { continue };
            if Arc::ptr_eq(&on.mount, &from.mount) && !on.dentry.is_below(&from.dentry) {
                continue;
            }
            let on = Path { mount: Arc::clone(copy), dentry: on.dentry };
            let copy = table.add(Arc::clone(&mount.root), &mount.source, mount.flags(), Some(on));
            copies.push((mount, copy));
        }
        Ok(())
    }

    fn check_mount(&self, place: &Path, root: &Arc<Dentry>) -> Result<(), Errno> {
        let is_dir = |dentry: &Arc<Dentry>| dentry.inode().kind() == FileType::Directory;
        if place.dentry.is_removed() {
            return Err(Errno::ENOENT);
        }
        if is_dir(&place.dentry) != is_dir(root) {
            return Err(Errno::ENOTDIR);
        }
        if self.mount_table().mounts.borrow().len() >= MOUNT_MAX {
            return Err(Errno::ENOSPC);
        }
        Ok(())
    }

    /// Gives the mount at `place` other restrictions.
    ///
    /// # Errors
    /// EINVAL when `place` is not its root.
    pub(crate) fn remount(&self, place: &Path, flags: MountFlags) -> Result<(), Errno> {
        if !place.is_mount_root() {
            return Err(Errno::EINVAL);
        }
        place.mount.set_flags(flags);
        self.mount_table().changed();
        Ok(())
    }

    /// Unmounts what is mounted at `place`.
    ///
    /// # Errors
    /// EINVAL when nothing is; EBUSY when it is in use, and for the root of everything.
    pub(crate) fn unmount(&self, place: Path, mode: Unmount) -> Result<(), Errno> {
        if !place.is_mount_root() || place.mount.is_pseudo() {
            return Err(Errno::EINVAL);
        }
        let Path { mount, dentry } = place;
        drop(dentry);
        let table = self.mount_table();
        if Arc::ptr_eq(&mount, &self.root().mount) {
            return Err(Errno::EBUSY);
        }
        if mount.parent().is_none() {
            return Err(Errno::EINVAL);
        }
        let above = table.above(&mount);
        if mode == Unmount::IfIdle {
            // The table, the dentry below, and this call know an idle mount.
            const IDLE: usize = 3;
            if !above.is_empty() || Arc::strong_count(&mount) > IDLE {
                return Err(Errno::EBUSY);
            }
            mount.file_system.sync()?;
        }
        for mount in above.iter().chain([&mount]) {
            table.remove(mount);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::fs_struct::FsStruct;
    use crate::fs::inode::NewKind;
    use crate::fs::names::{At, Who};
    use crate::fs::oracle::vfs;
    use crate::fs::vfs::RootSource;
    use crate::fs::walk::LastLink;
    use crate::task::Creds;
    use std::rc::Rc;

    struct World {
        vfs: Vfs,
        fs: Rc<FsStruct>,
        creds: Creds,
    }

    impl World {
        fn new() -> Self {
            let vfs = vfs(RootSource::Memory);
            let fs = FsStruct::new(vfs.root().clone(), vfs.root().clone());
            let world = Self { vfs, fs, creds: Creds::root() };
            for dir in ["/a", "/a/b", "/a/b/c", "/m"] {
                world.make(dir).unwrap();
            }
            world
        }

        fn who(&self) -> Who<'_> {
            Who { creds: &self.creds, fs: &self.fs }
        }

        fn make(&self, path: &str) -> Result<(), Errno> {
            let at = At { from: self.vfs.root(), text: path.as_bytes() };
            self.vfs.create(self.who(), at, NewKind::Directory, 0o755)
        }

        fn at(&self, path: &str) -> Result<Path, Errno> {
            let at = At { from: self.vfs.root(), text: path.as_bytes() };
            self.vfs.lookup(self.who(), at, LastLink::Follow)
        }

        fn text(&self, path: &str) -> String {
            let text = self.at(path).unwrap().text(self.vfs.root());
            String::from_utf8(text).unwrap()
        }

        fn tmpfs(&self, path: &str, flags: MountFlags) -> Result<(), Errno> {
            self.vfs.mount_new(self.at(path)?, b"tmpfs", b"none", b"", flags)
        }
    }

    #[test]
    fn a_part_of_a_tree_bound_elsewhere_ends_at_its_own_root() {
        let world = World::new();
        let from = world.at("/a/b").unwrap();
        world.vfs.bind_mount(world.at("/m").unwrap(), &from, Depth::Single).unwrap();
        assert_eq!(world.text("/m/c"), "/m/c");
        assert_eq!(world.text("/m/c/.."), "/m");
        assert_eq!(world.text("/m/c/../.."), "/");
        let mount = world.at("/m").unwrap().mount;
        assert_eq!(mount.root.path_in_file_system(), b"/a/b");
    }

    #[test]
    fn a_recursive_bind_takes_mounts_below_along_and_no_others() {
        let world = World::new();
        world.tmpfs("/a/b/c", MountFlags::default()).unwrap();
        world.make("/a/b/c/inside").unwrap();
        let from = world.at("/a").unwrap();
        world.vfs.bind_mount(world.at("/m").unwrap(), &from, Depth::Recursive).unwrap();
        assert_eq!(world.text("/m/b/c/inside"), "/m/b/c/inside");
        world.vfs.unmount(world.at("/m").unwrap(), Unmount::Detach).unwrap();
        assert!(world.at("/m/b").is_err());
        assert!(world.at("/a/b/c/inside").is_ok());
    }

    #[test]
    fn a_mount_in_use_stays_until_it_is_detached() {
        let world = World::new();
        world.tmpfs("/m", MountFlags::default()).unwrap();
        world.make("/m/dir").unwrap();
        let held = world.at("/m/dir").unwrap();
        let busy = world.vfs.unmount(world.at("/m").unwrap(), Unmount::IfIdle);
        assert_eq!(busy, Err(Errno::EBUSY));
        world.vfs.unmount(world.at("/m").unwrap(), Unmount::Detach).unwrap();
        assert!(world.at("/m/dir").is_err());
        assert_eq!(held.inode().read_dir(), Ok(Vec::new()));
        drop(held);
        world.tmpfs("/m", MountFlags::default()).unwrap();
        world.vfs.unmount(world.at("/m").unwrap(), Unmount::IfIdle).unwrap();
        let nothing = world.vfs.unmount(world.at("/m").unwrap(), Unmount::IfIdle);
        assert_eq!(nothing, Err(Errno::EINVAL));
        let root = world.vfs.unmount(world.at("/").unwrap(), Unmount::Detach);
        assert_eq!(root, Err(Errno::EBUSY));
    }

    #[test]
    fn a_mount_for_reading_only_is_not_changed() {
        let world = World::new();
        world.tmpfs("/m", MountFlags { readonly: true, ..MountFlags::default() }).unwrap();
        assert_eq!(world.make("/m/dir"), Err(Errno::EROFS));
        world.vfs.remount(&world.at("/m").unwrap(), MountFlags::default()).unwrap();
        assert_eq!(world.make("/m/dir"), Ok(()));
    }

    #[test]
    fn what_cannot_be_mounted_is_refused() {
        let world = World::new();
        let place = || world.at("/m").unwrap();
        let mount = |kind: &[u8], options: &[u8]| {
            world.vfs.mount_new(place(), kind, b"none", options, MountFlags::default())
        };
        assert_eq!(mount(b"ext4", b""), Err(Errno::ENODEV));
        for options in [b"mode=9" as &[u8], b"size=1q", b"size=99999999999g", b"what", b"\xff"] {
            assert_eq!(mount(b"tmpfs", options), Err(Errno::EINVAL), "{options:?}");
        }
        assert_eq!(mount(b"tmpfs", b"size=10%,mode=0700,,uid=3"), Ok(()));
        assert_eq!(place().inode().stat().unwrap().perm, 0o700);
    }
}
