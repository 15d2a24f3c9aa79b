//! Names in trees: dentries, mounts, and paths made of both.
//!
//! A [`Dentry`] is one name of one inode; it knows its parent, so that the path of an open file
//! can be told at any time, renames included. Living dentries are found again through their
//! parent's children (weak: a dentry lives as long as somebody uses it). A [`Path`] is a place:
//! mount and dentry.
//!
//! Neighbours: [`crate::fs::walk`] makes dentries; [`crate::fs::mount`] joins trees.

use crate::fs::inode::InodeRef;
use crate::fs::mount::Mount;
use kilburn_addr::Errno;
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

/// Where a dentry hangs.
#[derive(Clone)]
enum Place {
    /// Root of a file system.
    Root,
    /// `name` in `parent`.
    Child { parent: Arc<Dentry>, name: Vec<u8> },
    /// Was `name` in `parent`, removed since.
    Removed { parent: Arc<Dentry>, name: Vec<u8> },
    /// Never had a place in a tree; prints as this text (`pipe:[7]`, `/memfd:x (deleted)`).
    Nameless(Vec<u8>),
}

/// One name of one inode.
pub(crate) struct Dentry {
    inode: InodeRef,
    place: RwLock<Place>,
    children: Mutex<BTreeMap<Vec<u8>, Weak<Dentry>>>,
    /// What is mounted here, topmost last. Holds the mounts, which hold this dentry.
    mounted: Mutex<Vec<Arc<Mount>>>,
}

impl Dentry {
    /// The root of a file system.
    pub(crate) fn root(inode: InodeRef) -> Arc<Self> {
        Self::at(inode, Place::Root)
    }

    /// A dentry outside all trees that prints as `text`.
    pub(crate) fn nameless(inode: InodeRef, text: Vec<u8>) -> Arc<Self> {
        Self::at(inode, Place::Nameless(text))
    }

    fn at(inode: InodeRef, place: Place) -> Arc<Self> {
        Arc::new(Self {
            inode,
            place: RwLock::new(place),
            children: Mutex::new(BTreeMap::new()),
            mounted: Mutex::new(Vec::new()),
        })
    }

    /// The inode it names.
    pub(crate) fn inode(&self) -> &InodeRef {
        &self.inode
    }

    /// The child `name`, which is `inode`: the living dentry, or a new one.
    pub(crate) fn child(self: &Arc<Self>, name: &[u8], inode: InodeRef) -> Arc<Self> {
        let mut children = self.children.lock();
        if let Some(known) = children.get(name).and_then(Weak::upgrade) {
            if Arc::ptr_eq(&known.inode, &inode) {
                return known;
            }
            // Somebody outside the machine put another file there.
            known.mark_removed();
        }
        let place = Place::Child { parent: Arc::clone(self), name: name.to_vec() };
        let dentry = Self::at(inode, place);
        children.insert(name.to_vec(), Arc::downgrade(&dentry));
        dentry
    }

    /// A dentry for an inode that has no name, as if `name` had been removed here.
    pub(crate) fn removed_child(self: &Arc<Self>, name: &[u8], inode: InodeRef) -> Arc<Self> {
        Self::at(inode, Place::Removed { parent: Arc::clone(self), name: name.to_vec() })
    }

    /// The living child `name`.
    pub(crate) fn known_child(&self, name: &[u8]) -> Option<Arc<Self>> {
        self.children.lock().get(name).and_then(Weak::upgrade)
    }

    /// Names under which something is mounted right below.
    pub(crate) fn mounted_children(&self) -> Vec<(Vec<u8>, Arc<Self>)> {
        let children = self.children.lock();
        children
            .iter()
            .filter_map(|(name, child)| Some((name.clone(), child.upgrade()?)))
            .filter(|(_, child)| child.is_mount_point())
            .collect()
    }

    /// The directory it is in; `None` at a root and outside trees.
    pub(crate) fn parent(&self) -> Option<Arc<Self>> {
        match &*self.place.read() {
            Place::Child { parent, .. } | Place::Removed { parent, .. } => Some(Arc::clone(parent)),
            Place::Root | Place::Nameless(_) => None,
        }
    }

    /// Its last name; empty at a root.
    pub(crate) fn name(&self) -> Vec<u8> {
        match &*self.place.read() {
            Place::Child { name, .. } | Place::Removed { name, .. } => name.clone(),
            Place::Root => Vec::new(),
            Place::Nameless(text) => text.clone(),
        }
    }

    /// Whether the name was removed.
    pub(crate) fn is_removed(&self) -> bool {
        matches!(&*self.place.read(), Place::Removed { .. })
    }

    fn mark_removed(&self) {
        let mut place = self.place.write();
        if let Place::Child { parent, name } = &*place {
            *place = Place::Removed { parent: Arc::clone(parent), name: name.clone() };
        }
    }

    /// The child `name` was removed.
    pub(crate) fn forget_child(&self, name: &[u8]) {
        let known = self.children.lock().remove(name).and_then(|child| child.upgrade());
        if let Some(known) = known {
            known.mark_removed();
        }
    }

    /// The child `name` is now `new_name` of `new_parent`, replacing what was there.
    pub(crate) fn move_child(&self, name: &[u8], new_parent: &Arc<Self>, new_name: &[u8]) {
        let moved = self.children.lock().remove(name).and_then(|child| child.upgrade());
        new_parent.forget_child(new_name);
        if let Some(moved) = moved {
            *moved.place.write() =
                Place::Child { parent: Arc::clone(new_parent), name: new_name.to_vec() };
            new_parent.children.lock().insert(new_name.to_vec(), Arc::downgrade(&moved));
        }
    }

    /// Two names trade places.
    pub(crate) fn exchange_children(
        self: &Arc<Self>,
        name: &[u8],
        other: &Arc<Self>,
        other_name: &[u8],
    ) {
        let first = self.children.lock().remove(name).and_then(|child| child.upgrade());
        let second = other.children.lock().remove(other_name).and_then(|child| child.upgrade());
        for (moved, parent, name) in [(first, other, other_name), (second, self, name)] {
            if let Some(moved) = moved {
                *moved.place.write() =
                    Place::Child { parent: Arc::clone(parent), name: name.to_vec() };
                parent.children.lock().insert(name.to_vec(), Arc::downgrade(&moved));
            }
        }
    }

    /// Whether `self` is `other` or lies below it.
    pub(crate) fn is_below(self: &Arc<Self>, other: &Arc<Self>) -> bool {
        let mut at = Some(Arc::clone(self));
        while let Some(dentry) = at {
            if Arc::ptr_eq(&dentry, other) {
                return true;
            }
            at = dentry.parent();
        }
        false
    }

    /// Whether something is mounted on it.
    pub(crate) fn is_mount_point(&self) -> bool {
        !self.mounted.lock().is_empty()
    }

    /// Takes `mount` off this dentry.
    pub(crate) fn detach(&self, mount: &Arc<Mount>) {
        self.mounted.lock().retain(|known| !Arc::ptr_eq(known, mount));
    }

    /// Names from the root of the file system to here, as mountinfo shows the root of a mount.
    pub(crate) fn path_in_file_system(self: &Arc<Self>) -> Vec<u8> {
        let mut names = Vec::new();
        let mut at = Arc::clone(self);
        while let Some(parent) = at.parent() {
            names.push(at.name());
            at = parent;
        }
        joined(&names)
    }
}

impl Dentry {
    /// Leaves the parent's list; answers the parent, whose last reference this may be.
    fn leave(&mut self) -> Option<Arc<Self>> {
        match std::mem::replace(self.place.get_mut(), Place::Root) {
            Place::Child { parent, name } => {
                let mut siblings = parent.children.lock();
                if siblings.get(&name).is_some_and(|child| child.strong_count() == 0) {
                    siblings.remove(&name);
                }
                drop(siblings);
                Some(parent)
            }
            Place::Removed { parent, .. } => Some(parent),
            Place::Root | Place::Nameless(_) => None,
        }
    }
}

impl Drop for Dentry {
    /// Lets go of the chain of parents without recursion: it is as long as the guest likes.
    fn drop(&mut self) {
        let mut next = self.leave();
        while let Some(mut dentry) = next.and_then(Arc::into_inner) {
            next = dentry.leave();
        }
    }
}

/// A place in the name space.
#[derive(Clone)]
pub(crate) struct Path {
    /// Which mount.
    pub(crate) mount: Arc<Mount>,
    /// Which dentry in it.
    pub(crate) dentry: Arc<Dentry>,
}

impl Path {
    /// The inode there.
    pub(crate) fn inode(&self) -> &InodeRef {
        &self.dentry.inode
    }

    /// The root of the tree of mounts that this place is in.
    pub(crate) fn root_of_everything(&self) -> Self {
        let mut here = self.clone();
        while let Some(under) = here.mount.parent() {
            here = under;
        }
        let dentry = Arc::clone(&here.mount.root);
        Self { mount: here.mount, dentry }
    }

    /// Whether this is the root of its mount.
    pub(crate) fn is_mount_root(&self) -> bool {
        Arc::ptr_eq(&self.mount.root, &self.dentry)
    }

    /// Whether names and attributes here may be changed.
    ///
    /// # Errors
    /// EROFS on a mount for reading only.
    pub(crate) fn want_write(&self) -> Result<(), Errno> {
        if self.mount.flags().readonly { Err(Errno::EROFS) } else { Ok(()) }
    }

    /// Whether two paths are the same place.
    pub(crate) fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.mount, &other.mount) && Arc::ptr_eq(&self.dentry, &other.dentry)
    }

    /// Puts `mount` on this place.
    pub(crate) fn attach(&self, mount: Arc<Mount>) {
        self.dentry.mounted.lock().push(mount);
    }

    /// The topmost root mounted here, or the place itself.
    pub(crate) fn into_mounted(self) -> Self {
        let mut here = self;
        loop {
            let top = {
                let mounted = here.dentry.mounted.lock();
                mounted.iter().rfind(|m| m.is_on(&here.mount)).map(Arc::clone)
            };
            match top {
                Some(mount) => {
                    let dentry = Arc::clone(&mount.root);
                    here = Self { mount, dentry };
                }
                None => return here,
            }
        }
    }

    /// The directory above, never above `root` (Linux `follow_dotdot`).
    pub(crate) fn parent_within(&self, root: &Self) -> Self {
        let mut here = self.clone();
        loop {
            if here.same(root) {
                return here;
            }
            if !here.is_mount_root()
                && let Some(parent) = here.dentry.parent()
            {
                let up = Self { mount: Arc::clone(&here.mount), dentry: parent };
                return up.into_mounted();
            }
            match here.mount.parent() {
                Some(under) => here = under,
                None => return here,
            }
        }
    }

    /// The path as text from `root` (Linux `d_path`): with ` (deleted)` when the name is gone.
    pub(crate) fn text(&self, root: &Self) -> Vec<u8> {
        if let Place::Nameless(text) = &*self.dentry.place.read() {
            return text.clone();
        }
        let mut text = match self.names_below(Some(root)) {
            Some(text) => text,
            None => self.names_below(None).unwrap_or_else(|| b"/".to_vec()),
        };
        if self.dentry.is_removed() {
            text.extend_from_slice(b" (deleted)");
        }
        text
    }

    /// As `getcwd` tells it.
    ///
    /// # Errors
    /// ENOENT when the directory was removed.
    pub(crate) fn working_dir_text(&self, root: &Self) -> Result<Vec<u8>, Errno> {
        if self.dentry.is_removed() {
            return Err(Errno::ENOENT);
        }
        Ok(match self.names_below(Some(root)) {
            Some(text) => text,
            None => {
                let mut text = b"(unreachable)".to_vec();
                text.extend(self.names_below(None).unwrap_or_default());
                text
            }
        })
    }

    /// Names from `root` (or the topmost root) to here; `None` when `root` is not above.
    fn names_below(&self, root: Option<&Self>) -> Option<Vec<u8>> {
        let mut names: Vec<Vec<u8>> = Vec::new();
        let mut here = self.clone();
        loop {
            if root.is_some_and(|root| here.same(root)) {
                break;
            }
            if !here.is_mount_root()
                && let Some(parent) = here.dentry.parent()
            {
                names.push(here.dentry.name());
                here.dentry = parent;
                continue;
            }
            match here.mount.parent() {
                Some(under) => here = under,
                None if root.is_none() => break,
                None => return None,
            }
        }
        Some(joined(&names))
    }
}

/// A path of `names`, the last one first.
fn joined(names: &[Vec<u8>]) -> Vec<u8> {
    if names.is_empty() {
        return b"/".to_vec();
    }
    let mut text = Vec::new();
    for name in names.iter().rev() {
        text.push(b'/');
        text.extend_from_slice(name);
    }
    text
}
