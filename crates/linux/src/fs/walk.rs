//! Path walking: from text to a place, or to the directory in which the last name is.
//!
//! [`Walk`] carries what one system call's resolutions share: who asks, the root, and how many
//! links were followed. It takes one component at a time, so that `..` never leads above the root
//! and a symbolic link is text for us alone; a file system only ever sees one name in one
//! directory. Source: Linux 6.18 fs/namei.c: `link_path_walk`, Documentation/filesystems/
//! path-lookup.rst. Neighbours: [`crate::fs::open`], [`crate::fs::names`].

use crate::fs::dentry::Path;
use crate::fs::inode::Target;
use crate::fs::perm::{May, may_access};
use crate::fs::stat::{FileType, S_ISVTX};
use crate::task::Creds;
use bitflags::bitflags;
use kilburn_addr::Errno;
use std::sync::Arc;

/// Longest name of one component.
pub(crate) const NAME_MAX: usize = 255;
/// Most symbolic links in one resolution.
const MAXSYMLINKS: u32 = 40;

bitflags! {
    /// Restrictions of `openat2` (`RESOLVE_*`).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) struct Resolve: u64 {
        /// Stay within the mount.
        const NO_XDEV = 0x01;
        /// No magic links.
        const NO_MAGICLINKS = 0x02;
        /// No symbolic links.
        const NO_SYMLINKS = 0x04;
        /// Not above the start.
        const BENEATH = 0x08;
        /// The start is the root.
        const IN_ROOT = 0x10;
        /// Only what needs no waiting.
        const CACHED = 0x20;
    }
}

/// Whether a symbolic link as last component is followed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LastLink {
    /// Yes.
    Follow,
    /// It is the answer itself.
    Keep,
}

/// The last component of a path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Last {
    /// A name.
    Name(Vec<u8>),
    /// `.`
    Dot,
    /// `..`
    DotDot,
    /// None: the path was `/`.
    Root,
}

/// A path resolved up to its last component.
pub(crate) struct Parent {
    /// The directory it is in.
    pub(crate) dir: Path,
    /// The component.
    pub(crate) last: Last,
    /// Whether slashes follow it.
    pub(crate) trailing_slash: bool,
}

/// The resolutions of one system call.
pub(crate) struct Walk<'a> {
    creds: &'a Creds,
    root: Path,
    start: Option<Path>,
    resolve: Resolve,
    links: u32,
}

enum Goal {
    Whole(LastLink),
    Parent,
}

enum Reached {
    Place(Path),
    Parent(Parent),
}

impl<'a> Walk<'a> {
    /// Resolutions by `creds` below `root`.
    pub(crate) fn new(creds: &'a Creds, root: Path) -> Self {
        Self { creds, root, start: None, resolve: Resolve::empty(), links: 0 }
    }

    /// Resolutions with the restrictions of `openat2`, starting at `start`.
    pub(crate) fn restricted(creds: &'a Creds, root: Path, start: &Path, resolve: Resolve) -> Self {
        let root = if resolve.contains(Resolve::IN_ROOT) { start.clone() } else { root };
        Self { creds, root, start: Some(start.clone()), resolve, links: 0 }
    }

    /// The place that `text` names, from `from` unless it begins with a slash.
    ///
    /// # Errors
    /// ENOENT, ENOTDIR, EACCES, ELOOP, ENAMETOOLONG; EXDEV under restrictions.
    pub(crate) fn resolve(
        &mut self,
        from: &Path,
        text: &[u8],
        last: LastLink,
    ) -> Result<Path, Errno> {
        match self.walk(from, text, &Goal::Whole(last))? {
            Reached::Place(path) | Reached::Parent(Parent { dir: path, .. }) => Ok(path),
        }
    }

    /// The directory that holds the last component of `text`.
    ///
    /// # Errors
    /// As [`resolve`](Self::resolve).
    pub(crate) fn resolve_parent(&mut self, from: &Path, text: &[u8]) -> Result<Parent, Errno> {
        match self.walk(from, text, &Goal::Parent)? {
            Reached::Parent(parent) => Ok(parent),
            Reached::Place(dir) => Ok(Parent { dir, last: Last::Root, trailing_slash: true }),
        }
    }

    fn walk(&mut self, from: &Path, text: &[u8], goal: &Goal) -> Result<Reached, Errno> {
        if text.is_empty() {
            return Err(Errno::ENOENT);
        }
        let mut here = from.clone();
        let mut rest = text.to_vec();
        if rest[0] == b'/' {
            here = self.jump_to_root()?;
        }
        loop {
            let skipped = rest.iter().take_while(|byte| **byte == b'/').count();
            if skipped == rest.len() {
                return Ok(Reached::Place(here));
            }
            let end = rest[skipped..].iter().position(|byte| *byte == b'/');
            let end = end.map_or(rest.len(), |end| skipped + end);
            let name = rest[skipped..end].to_vec();
            rest.drain(..end);
            let is_last = rest.iter().all(|byte| *byte == b'/');
            let trailing_slash = is_last && !rest.is_empty();
            self.may_pass(&here)?;
            if is_last && matches!(goal, Goal::Parent) {
                let last = match &name[..] {
                    b"." => Last::Dot,
                    b".." => Last::DotDot,
                    _ => Last::Name(name),
                };
                return Ok(Reached::Parent(Parent { dir: here, last, trailing_slash }));
            }
            match &name[..] {
                b"." => continue,
                b".." => {
                    here = self.up(&here)?;
                    continue;
                }
                _ => {}
            }
            let child = self.child(&here, &name)?;
            let follow =
                !is_last || trailing_slash || matches!(goal, Goal::Whole(LastLink::Follow));
            if child.inode().kind() == FileType::Symlink && follow {
                match self.follow(&here, &child)? {
                    Target::Jump(place) => {
                        here = place;
                        if is_last {
                            if trailing_slash {
                                self.must_be_dir(&here)?;
                            }
                            return Ok(Reached::Place(here));
                        }
                    }
                    Target::Text(mut target) => {
                        if target.first() == Some(&b'/') {
                            here = self.jump_to_root()?;
                        }
                        target.append(&mut rest);
                        rest = target;
                    }
                }
                continue;
            }
            here = child;
            if is_last {
                if trailing_slash {
                    self.must_be_dir(&here)?;
                }
                return Ok(Reached::Place(here));
            }
        }
    }

    fn must_be_dir(&self, place: &Path) -> Result<(), Errno> {
        if place.inode().kind() == FileType::Directory { Ok(()) } else { Err(Errno::ENOTDIR) }
    }

    /// Whether names may be looked up in `dir`.
    fn may_pass(&self, dir: &Path) -> Result<(), Errno> {
        self.must_be_dir(dir)?;
        may_access(self.creds, &dir.inode().stat()?, May::EXEC)
    }

    fn jump_to_root(&self) -> Result<Path, Errno> {
        if self.resolve.contains(Resolve::BENEATH) {
            return Err(Errno::EXDEV);
        }
        if self.leaves_mount(&self.root) {
            return Err(Errno::EXDEV);
        }
        Ok(self.root.clone())
    }

    fn up(&self, here: &Path) -> Result<Path, Errno> {
        let at_start = self.start.as_ref().is_some_and(|start| start.same(here));
        if self.resolve.contains(Resolve::BENEATH) && at_start {
            return Err(Errno::EXDEV);
        }
        let above = here.parent_within(&self.root);
        if self.leaves_mount(&above) { Err(Errno::EXDEV) } else { Ok(above) }
    }

    fn leaves_mount(&self, place: &Path) -> bool {
        self.resolve.contains(Resolve::NO_XDEV)
            && self.start.as_ref().is_some_and(|start| !Arc::ptr_eq(&start.mount, &place.mount))
    }

    /// The child `name` of `dir`, at the top of what is mounted there; links are not followed.
    ///
    /// # Errors
    /// ENOENT, ENAMETOOLONG; EXDEV when restricted to the mount.
    pub(crate) fn child(&self, dir: &Path, name: &[u8]) -> Result<Path, Errno> {
        if name.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let under = dir.dentry.known_child(name).filter(|known| known.is_mount_point());
        let dentry = match under {
            Some(dentry) => dentry,
            None => match dir.inode().lookup(name) {
                Ok(inode) => dir.dentry.child(name, inode),
                Err(errno) => {
                    dir.dentry.forget_child(name);
                    return Err(errno);
                }
            },
        };
        let place = Path { mount: Arc::clone(&dir.mount), dentry }.into_mounted();
        if self.leaves_mount(&place) { Err(Errno::EXDEV) } else { Ok(place) }
    }

    /// Where the link at `link`, found in `dir`, leads.
    ///
    /// # Errors
    /// ELOOP after 40 links or where links are forbidden; EACCES by the sticky-directory rule.
    pub(crate) fn follow(&mut self, dir: &Path, link: &Path) -> Result<Target, Errno> {
        self.links += 1;
        if self.links > MAXSYMLINKS || self.resolve.contains(Resolve::NO_SYMLINKS) {
            return Err(Errno::ELOOP);
        }
        let inode = link.inode();
        if inode.is_magic_link() {
            if self.resolve.intersects(Resolve::NO_MAGICLINKS) {
                return Err(Errno::ELOOP);
            }
            if self.resolve.intersects(Resolve::BENEATH | Resolve::IN_ROOT) {
                return Err(Errno::EXDEV);
            }
        } else {
            self.may_follow(dir, link)?;
        }
        match inode.follow()? {
            Target::Text(text) if text.is_empty() => Err(Errno::ENOENT),
            Target::Jump(place) if self.leaves_mount(&place) => Err(Errno::EXDEV),
            target => Ok(target),
        }
    }

    /// `fs.protected_symlinks`: in a sticky directory that all can write, only links of the
    /// follower or of the directory's owner count.
    fn may_follow(&self, dir: &Path, link: &Path) -> Result<(), Errno> {
        let dir = dir.inode().stat()?;
        if dir.perm & (S_ISVTX | 0o002) != S_ISVTX | 0o002 {
            return Ok(());
        }
        let owner = link.inode().stat()?.uid;
        if owner == self.creds.fsuid || owner == dir.uid { Ok(()) } else { Err(Errno::EACCES) }
    }
}
