//! Control groups, version 2: the tree of groups, who is in which, what is controlled where
//! (Linux 6.18 kernel/cgroup/cgroup.c).
//!
//! ```text
//!   root                subtree_control: memory      a, b have memory.* files
//!    |- a               subtree_control: (none)      its child has none:
//!    |   `- c           processes of c are charged to a's group of memory
//!    `- b
//! ```
//!
//! There is one tree ([`Cgroups`]) and one controller, memory, which is the memory manager's
//! ([`kilburn_mm::memcg`]); here is who belongs to which of its groups. All groups are domains: the
//! threads of a process stay together.
//!
//! DIVERGENCE(cgroup-controllers): of Linux's controllers there is memory; no cpu, io, pids, cpuset,
//! hugetlb, rdma, misc, no freezer, no hierarchy of version 1.
//!
//! Neighbours: [`crate::fs`]'s `cgroupfs` shows the tree as files, [`crate::oom`] ends processes.

use crate::fs::Attributes;
use crate::kernel::Kernel;
use crate::signal::Signal;
use crate::signal::info::SigInfo;
use crate::task::{Task, ThreadGroup};
use kilburn_addr::Errno;
use kilburn_mm::{Memcg, MemcgId};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

/// A group (Linux `struct cgroup`).
pub(crate) struct Cgroup {
    /// A number no other group ever has.
    id: u64,
    name: Vec<u8>,
    parent: Option<Rc<Self>>,
    children: RefCell<BTreeMap<Vec<u8>, Rc<Self>>>,
    /// Whether memory is controlled in its children (`cgroup.subtree_control`).
    controls_memory: Cell<bool>,
    /// Its group of memory, where that is controlled.
    memcg: RefCell<Option<Arc<Memcg>>>,
    /// `cgroup.max.depth`; `None`: no limit.
    pub(crate) max_depth: Cell<Option<u32>>,
    /// `cgroup.max.descendants`; `None`: no limit.
    pub(crate) max_descendants: Cell<Option<u32>>,
    removed: Cell<bool>,
    /// Owners and rights of its folder and files, as far as somebody changed them.
    pub(crate) attributes: RefCell<BTreeMap<u64, Attributes>>,
}

impl Cgroup {
    fn new(id: u64, name: &[u8], parent: Option<Rc<Self>>) -> Rc<Self> {
        Rc::new(Self {
            id,
            name: name.to_vec(),
            parent,
            children: RefCell::default(),
            controls_memory: Cell::new(false),
            memcg: RefCell::default(),
            max_depth: Cell::new(None),
            max_descendants: Cell::new(None),
            removed: Cell::new(false),
            attributes: RefCell::default(),
        })
    }

    /// A number no other group ever has.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Whether it is the first, which is always there.
    pub(crate) fn is_root(&self) -> bool {
        self.parent.is_none()
    }

    /// Whether it was removed.
    pub(crate) fn is_removed(&self) -> bool {
        self.removed.get()
    }

    /// The one above.
    pub(crate) fn parent(&self) -> Option<&Rc<Self>> {
        self.parent.as_ref()
    }

    /// Those right below, by name.
    pub(crate) fn children(&self) -> Vec<(Vec<u8>, Rc<Self>)> {
        let children = self.children.borrow();
        children.iter().map(|(name, child)| (name.clone(), Rc::clone(child))).collect()
    }

    /// The one below with this name.
    pub(crate) fn child(&self, name: &[u8]) -> Option<Rc<Self>> {
        self.children.borrow().get(name).cloned()
    }

    /// All below it that are there.
    pub(crate) fn descendants(&self) -> Vec<Rc<Self>> {
        let mut found: Vec<Rc<Self>> = self.children.borrow().values().cloned().collect();
        let mut next = 0;
        while let Some(group) = found.get(next).cloned() {
            next += 1;
            found.extend(group.children.borrow().values().cloned());
        }
        found
    }

    /// It and those above it.
    fn and_above(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |group| group.parent.as_deref())
    }

    /// Whether it is `other` or lies below it.
    pub(crate) fn is_within(&self, other: &Self) -> bool {
        self.and_above().any(|group| group.id == other.id)
    }

    /// How it is called in `/proc/PID/cgroup`.
    pub(crate) fn path(&self) -> Vec<u8> {
        if self.is_root() {
            return b"/".to_vec();
        }
        let mut names: Vec<&[u8]> = self.and_above().map(|group| group.name.as_slice()).collect();
        names.reverse();
        let mut path = names.join(&b'/');
        if self.is_removed() {
            path.extend_from_slice(b" (deleted)");
        }
        path
    }

    /// Whether memory is controlled in it, so that it has `memory.*` files.
    pub(crate) fn has_memory(&self) -> bool {
        self.parent.as_ref().is_none_or(|parent| parent.controls_memory.get())
    }

    /// Whether memory is controlled in its children.
    pub(crate) fn controls_memory(&self) -> bool {
        self.controls_memory.get()
    }

    /// Its group of memory; `None`: the root's, or memory is not controlled in it.
    pub(crate) fn memcg(&self) -> Option<Arc<Memcg>> {
        self.memcg.borrow().clone()
    }

    /// The group of memory its processes are charged to.
    pub(crate) fn charged(&self) -> MemcgId {
        self.and_above().find_map(Self::memcg).map_or(MemcgId::ROOT, |memcg| memcg.id())
    }
}

/// All groups.
pub(crate) struct Cgroups {
    root: Rc<Cgroup>,
    next_id: Cell<u64>,
}

impl Default for Cgroups {
    fn default() -> Self {
        Self { root: Cgroup::new(1, b"", None), next_id: Cell::new(2) }
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        // They hold each other.
        for group in self.root.descendants() {
            group.children.take();
        }
        self.root.children.take();
    }
}

/// What moves with a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Moves {
    /// All its threads (`cgroup.procs`).
    Process,
    /// One thread (`cgroup.threads`).
    Thread,
}

impl Kernel {
    /// The group of those that are in no other.
    pub(crate) fn root_cgroup(&self) -> &Rc<Cgroup> {
        &self.cgroups.root
    }

    /// The group a process is in.
    pub(crate) fn cgroup_of(&self, process: &ThreadGroup) -> Rc<Cgroup> {
        process.cgroup.borrow().clone().unwrap_or_else(|| Rc::clone(&self.cgroups.root))
    }

    /// Living processes of a group.
    pub(crate) fn processes_of(&self, group: &Cgroup) -> Vec<Rc<ThreadGroup>> {
        self.processes_among(|its| its.id == group.id)
    }

    /// Living processes of a group and of those below it.
    fn processes_within(&self, group: &Cgroup) -> Vec<Rc<ThreadGroup>> {
        self.processes_among(|its| its.is_within(group))
    }

    fn processes_among(&self, is_its: impl Fn(&Cgroup) -> bool) -> Vec<Rc<ThreadGroup>> {
        let lives = |process: &Rc<ThreadGroup>| {
            !process.threads.borrow().is_empty() && is_its(&self.cgroup_of(process))
        };
        self.all_groups().into_iter().filter(lives).collect()
    }

    /// Whether a process lives in the group or below it.
    pub(crate) fn is_populated(&self, group: &Cgroup) -> bool {
        !self.processes_within(group).is_empty()
    }

    /// mkdir (Linux `cgroup_mkdir`).
    ///
    /// # Errors
    /// ENODEV when `parent` was removed, EINVAL for a name with a line feed, EAGAIN beyond the limits of depth
    /// and number, EEXIST, ENOSPC.
    pub(crate) fn make_cgroup(
        &self,
        parent: &Rc<Cgroup>,
        name: &[u8],
    ) -> Result<Rc<Cgroup>, Errno> {
        if name.contains(&b'\n') {
            return Err(Errno::EINVAL);
        }
        if parent.is_removed() {
            return Err(Errno::ENODEV);
        }
        for (depth, above) in (1..).zip(parent.and_above()) {
            let descendants = above.descendants().len() as u64;
            if above.max_descendants.get().is_some_and(|most| descendants >= u64::from(most))
                || above.max_depth.get().is_some_and(|most| depth > most)
            {
                return Err(Errno::EAGAIN);
            }
        }
        if parent.child(name).is_some() {
            return Err(Errno::EEXIST);
        }
        let id = self.cgroups.next_id.replace(self.cgroups.next_id.get() + 1);
        let group = Cgroup::new(id, name, Some(Rc::clone(parent)));
        if parent.controls_memory() {
            group.memcg.replace(Some(self.memory.create_memcg(parent.charged())?));
        }
        parent.children.borrow_mut().insert(name.to_vec(), Rc::clone(&group));
        Ok(group)
    }

    /// rmdir (Linux `cgroup_rmdir`).
    ///
    /// # Errors
    /// EBUSY when there are groups below it or processes in it.
    pub(crate) fn remove_cgroup(&self, group: &Rc<Cgroup>) -> Result<(), Errno> {
        let parent = group.parent().ok_or(Errno::EBUSY)?;
        if self.is_populated(group) || !group.children.borrow().is_empty() {
            return Err(Errno::EBUSY);
        }
        parent.children.borrow_mut().remove(&group.name);
        group.removed.set(true);
        if let Some(memcg) = group.memcg.take() {
            self.memory.remove_memcg(&memcg);
        }
        Ok(())
    }

    /// Has memory controlled in the children of a group, or no more (Linux
    /// `cgroup_subtree_control_write`).
    ///
    /// # Errors
    /// ENOENT when it is not controlled in the group itself; EBUSY when a child has it controlled in
    /// its own children, or the group has processes; ENOSPC.
    pub(crate) fn control_memory(&self, group: &Rc<Cgroup>, on: bool) -> Result<(), Errno> {
        if on == group.controls_memory() {
            return Ok(());
        }
        let children = group.children();
        if on {
            if !group.has_memory() {
                return Err(Errno::ENOENT);
            }
            // No group's processes compete with those of its children.
            if !group.is_root() && !self.processes_of(group).is_empty() {
                return Err(Errno::EBUSY);
            }
            let mut made = Vec::new();
            for _ in &children {
                match self.memory.create_memcg(group.charged()) {
                    Ok(memcg) => made.push(memcg),
                    Err(errno) => {
                        made.iter().for_each(|memcg| self.memory.remove_memcg(memcg));
                        return Err(errno);
                    }
                }
            }
            for ((_, child), memcg) in children.iter().zip(made) {
                child.memcg.replace(Some(memcg));
            }
        } else if children.iter().any(|(_, child)| child.controls_memory()) {
            return Err(Errno::EBUSY);
        }
        group.controls_memory.set(on);
        let gone: Vec<_> = if on {
            Vec::new()
        } else {
            children.iter().filter_map(|(_, child)| child.memcg.take()).collect()
        };
        for process in self.processes_within(group) {
            self.charge_from_now_on(&process);
        }
        for memcg in gone {
            self.memory.remove_memcg(&memcg);
        }
        Ok(())
    }

    /// Whether processes may be moved to a group, or born in it (Linux `cgroup_migrate_vet_dst`).
    ///
    /// # Errors
    /// ENODEV when it was removed, EBUSY when something is controlled in its children.
    pub(crate) fn check_cgroup_takes(&self, group: &Cgroup) -> Result<(), Errno> {
        if group.is_removed() {
            return Err(Errno::ENODEV);
        }
        if !group.is_root() && group.controls_memory() { Err(Errno::EBUSY) } else { Ok(()) }
    }

    /// Moves the process of `task` (Linux `cgroup_attach_task`).
    ///
    /// # Errors
    /// As [`Self::check_cgroup_takes`]; EOPNOTSUPP for a thread that would leave its process.
    pub(crate) fn move_to_cgroup(
        &self,
        task: &Task,
        group: &Rc<Cgroup>,
        moves: Moves,
    ) -> Result<(), Errno> {
        self.check_cgroup_takes(group)?;
        let process = task.group();
        if moves == Moves::Thread && self.cgroup_of(process).id != group.id {
            return Err(Errno::EOPNOTSUPP);
        }
        self.enter_cgroup(process, group);
        Ok(())
    }

    /// A process is in this group now.
    pub(crate) fn enter_cgroup(&self, process: &Rc<ThreadGroup>, group: &Rc<Cgroup>) {
        process.cgroup.replace((!group.is_root()).then(|| Rc::clone(group)));
        self.charge_from_now_on(process);
    }

    /// What a process allocates from now on is charged to the group it is in; what it has stays where
    /// it is. An address space that processes share belongs to the oldest of them (Linux `mm->owner`).
    fn charge_from_now_on(&self, process: &Rc<ThreadGroup>) {
        let memcg = self.cgroup_of(process).charged();
        process.memcg.set(memcg);
        if self.current().is_some_and(|task| Rc::ptr_eq(task.group(), process)) {
            self.memory.host().set_current_memcg(memcg);
        }
        let Some(mm) = process.threads.borrow().iter().find_map(|thread| thread.mm()) else {
            return;
        };
        let is_older =
            |other: &Rc<ThreadGroup>| {
                other.tgid() < process.tgid()
                    && other.threads.borrow().iter().any(|thread| {
                        thread.with_mm(|its| Arc::ptr_eq(its, &mm)).unwrap_or_default()
                    })
            };
        if !self.all_groups().iter().any(is_older) {
            mm.set_memcg(memcg);
        }
    }

    /// Ends all processes of a group and of those below it (`cgroup.kill`).
    pub(crate) fn kill_cgroup(&self, group: &Cgroup) {
        for process in self.processes_within(group) {
            let _ = process.send(SigInfo::kernel(Signal::SIGKILL));
        }
    }

    /// How many groups there are.
    pub(crate) fn count_cgroups(&self) -> usize {
        1 + self.cgroups.root.descendants().len()
    }

    /// How many have a group of memory below `group`, itself left out.
    pub(crate) fn count_memory_below(&self, group: &Cgroup) -> usize {
        group.descendants().iter().filter(|below| below.has_memory()).count()
    }
}
