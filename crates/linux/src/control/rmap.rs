//! What a running machine maps, and the ways back from it to processes.
//!
//! [`MappedInfo`] lists files that areas map; [`Rmap`] is the reverse mapping of one, or of anonymous memory that
//! fork shares. Neighbour: [`kilburn_mm::FileRmap`] and [`kilburn_mm::AnonRmap`], which this gives names of
//! processes.

use super::Answer;
use crate::host::{MachineHost, Mm};
use crate::kernel::Kernel;
use kilburn_addr::VirtAddr;
use kilburn_mm::{AddressSpace, AnonRmap, FileRmap, Mapped};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Whose ways back are asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RmapOf {
    /// The file that lines of /proc/PID/maps name so.
    Path(String),
    /// What is mapped at an address of a process: a file, or else its anonymous memory.
    Address(u32, VirtAddr),
    /// The anonymous memory at an address of a process, private copies of a file's pages included.
    Anon(u32, VirtAddr),
}

/// A file that areas map.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MappedInfo {
    /// Its path, as in /proc/PID/maps.
    pub path: String,
    /// Number of areas that map it.
    pub areas: u64,
    /// Number of address spaces these lie in.
    pub spaces: u64,
    /// Number of pages of the file.
    pub size_pages: u64,
    /// Number of these that are in memory.
    pub cached_pages: u64,
}

/// The ways back from what is mapped.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rmap {
    /// The trees.
    pub tree: RmapTree,
    /// Processes by the [`kilburn_mm::Mm::id`] of their address space: who shares one is there together.
    pub processes: BTreeMap<u64, Vec<RmapProcess>>,
}

/// What is mapped, and its trees.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RmapTree {
    /// A file by this path.
    File(String, FileRmap),
    /// Anonymous memory.
    Anon(AnonRmap),
}

/// A process of an address space.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RmapProcess {
    /// Process id.
    pub pid: u32,
    /// Linux comm.
    pub name: String,
}

type Cache = Arc<AddressSpace<MachineHost>>;

/// Each living process and its address space, by process id.
fn spaces(kernel: &Kernel) -> Vec<(RmapProcess, Arc<Mm>)> {
    let of = |group: &crate::task::ThreadGroup| {
        let task = group.first_thread()?;
        let process = RmapProcess { pid: group.tgid(), name: task.comm_text() };
        Some((process, task.mm()?))
    };
    kernel.all_groups().iter().filter_map(|group| of(group)).collect()
}

/// The files that are mapped, by path.
pub(super) fn files(kernel: &Kernel) -> Vec<MappedInfo> {
    let mut found: BTreeMap<(String, u64), (Cache, u64, BTreeSet<u64>)> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for (_, mm) in spaces(kernel) {
        if !seen.insert(mm.id()) {
            continue;
        }
        mm.for_each_mapped_file(|_, file| {
            let Some(cache) = file.mapping() else { return };
            let place = found.entry((file.path(), cache.id()));
            let (_, areas, mms) = place.or_insert_with(|| (cache.clone(), 0, BTreeSet::new()));
            *areas += 1;
            mms.insert(mm.id());
        });
    }
    let told = |((path, _), (cache, areas, mms)): ((String, u64), (Cache, u64, BTreeSet<u64>))| {
        let (spaces, cached_pages) = (mms.len() as u64, cache.cached_pages());
        MappedInfo { path, areas, spaces, size_pages: cache.size().div_ceil(4096), cached_pages }
    };
    found.into_iter().map(told).collect()
}

/// The ways back from what is asked for.
pub(super) fn of(kernel: &Kernel, what: &RmapOf) -> Answer {
    let spaces = spaces(kernel);
    let space = |pid: u32| spaces.iter().find(|(process, _)| process.pid == pid).map(|(_, mm)| mm);
    let tree = match what {
        RmapOf::Path(path) => {
            let mut caches: BTreeMap<u64, Cache> = BTreeMap::new();
            for (_, mm) in &spaces {
                mm.for_each_mapped_file(|_, file| {
                    if let Some(cache) = file.mapping().filter(|_| file.path() == *path) {
                        caches.insert(cache.id(), cache.clone());
                    }
                });
            }
            match caches.len() {
                0 => return Answer::NotMapped,
                1 => caches
                    .into_values()
                    .next()
                    .map(|cache| RmapTree::File(path.clone(), cache.rmap())),
                _ => return Answer::SeveralFiles,
            }
        }
        RmapOf::Address(pid, va) => {
            let Some(mm) = space(*pid) else { return Answer::NoSuchProcess };
            match mm.mapped_at(*va) {
                Some(Mapped::File(file)) => {
                    file.mapping().map(|cache| RmapTree::File(file.path(), cache.rmap()))
                }
                Some(Mapped::Anon) => anon_tree(kernel, mm, *va),
                None => None,
            }
        }
        RmapOf::Anon(pid, va) => {
            let Some(mm) = space(*pid) else { return Answer::NoSuchProcess };
            anon_tree(kernel, mm, *va)
        }
    };
    let Some(tree) = tree else { return Answer::NotMapped };
    let mut processes: BTreeMap<u64, Vec<RmapProcess>> = BTreeMap::new();
    for (process, mm) in spaces {
        processes.entry(mm.id()).or_default().push(process);
    }
    Answer::Rmap(Box::new(Rmap { tree, processes }))
}

fn anon_tree(kernel: &Kernel, mm: &Mm, va: VirtAddr) -> Option<RmapTree> {
    Some(RmapTree::Anon(mm.anon_vma_at(va)?.rmap(&kernel.memory)))
}
