//! What a machine says about ways back, as it crosses the control socket and as `--json` prints it.
//!
//! [`Told::of`] is the machine's side; who asks reads the same types back and draws them.

use kilburn_addr::VmFlags;
use kilburn_linux::{Rmap, RmapTree};
use kilburn_mm::{RmapArea, RmapPage};
use serde::{Deserialize, Serialize};

/// The ways back from something that is mapped.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Told {
    /// From a file's pages.
    File(File),
    /// From anonymous pages that fork shares.
    Anonymous(Anonymous),
}

#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
pub(crate) struct File {
    pub(crate) path: String,
    /// Shared memory: nothing is behind it but swap.
    pub(crate) is_shmem: bool,
    /// Pages that the file's size covers.
    pub(crate) size_pages: u64,
    /// In the order of the interval tree.
    pub(crate) areas: Vec<Area>,
    /// Those in memory, by page.
    pub(crate) pages: Vec<Page>,
    pub(crate) processes: Vec<Process>,
}

#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
pub(crate) struct Anonymous {
    /// Parents before children.
    pub(crate) anon_vmas: Vec<AnonVma>,
    pub(crate) processes: Vec<Process>,
}

#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
pub(crate) struct AnonVma {
    pub(crate) id: u32,
    /// The one it is forked from, as a place in the list.
    pub(crate) parent: Option<usize>,
    pub(crate) areas: Vec<Area>,
    /// Those in memory that belong to it.
    pub(crate) pages: Vec<Page>,
}

/// An area, a node of an interval tree.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
pub(crate) struct Area {
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// Largest `last` of the node and those below.
    pub(crate) max_last: u64,
    /// Children, as places in the list.
    pub(crate) left: Option<usize>,
    pub(crate) right: Option<usize>,
    /// Number of the address space.
    pub(crate) mm: u64,
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// As /proc/PID/maps shows them.
    pub(crate) rights: String,
}

/// A page in memory.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
pub(crate) struct Page {
    pub(crate) page: u64,
    pub(crate) frame: u64,
    /// Entries that map the frame.
    pub(crate) maps: u32,
    pub(crate) is_dirty: bool,
    /// The entries themselves.
    pub(crate) mapped_at: Vec<Place>,
}

/// Where a page is mapped.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Debug)]
pub(crate) struct Place {
    pub(crate) mm: u64,
    pub(crate) address: u64,
}

/// A process that uses one of the address spaces.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
pub(crate) struct Process {
    pub(crate) mm: u64,
    pub(crate) pid: u32,
    pub(crate) name: String,
}

impl Told {
    /// What `rmap` says.
    pub(crate) fn of(rmap: Rmap) -> Self {
        let of = |(mm, found): (u64, Vec<kilburn_linux::RmapProcess>)| {
            found.into_iter().map(move |one| Process { mm, pid: one.pid, name: one.name })
        };
        let mut processes: Vec<Process> = rmap.processes.into_iter().flat_map(of).collect();
        let mut told = match rmap.tree {
            RmapTree::File(path, file) => Self::File(File {
                path,
                is_shmem: file.is_shmem,
                size_pages: file.size_pages,
                areas: file.areas.iter().map(Area::of).collect(),
                pages: file.pages.iter().map(Page::of).collect(),
                processes: Vec::new(),
            }),
            RmapTree::Anon(anon) => {
                let of = |node: &kilburn_mm::RmapAnon| AnonVma {
                    id: node.id,
                    parent: node.parent,
                    areas: node.areas.iter().map(Area::of).collect(),
                    pages: node.pages.iter().map(Page::of).collect(),
                };
                let anon_vmas = anon.nodes.iter().map(of).collect();
                Self::Anonymous(Anonymous { anon_vmas, processes: Vec::new() })
            }
        };
        processes.retain(|process| told.areas().any(|area| area.mm == process.mm));
        processes.sort_by_key(|process| process.pid);
        match &mut told {
            Self::File(file) => file.processes = processes,
            Self::Anonymous(anon) => anon.processes = processes,
        }
        told
    }

    fn areas(&self) -> Box<dyn Iterator<Item = &Area> + '_> {
        match self {
            Self::File(file) => Box::new(file.areas.iter()),
            Self::Anonymous(anon) => Box::new(anon.anon_vmas.iter().flat_map(|node| &node.areas)),
        }
    }
}

impl Area {
    fn of(area: &RmapArea) -> Self {
        let right = |flag, letter| if area.flags.contains(flag) { letter } else { '-' };
        let rights = [
            right(VmFlags::READ, 'r'),
            right(VmFlags::WRITE, 'w'),
            right(VmFlags::EXEC, 'x'),
            if area.flags.contains(VmFlags::MAYSHARE) { 's' } else { 'p' },
        ];
        Self {
            first: area.first,
            last: area.last,
            max_last: area.max_last,
            left: area.left,
            right: area.right,
            mm: area.mm,
            start: area.range.start().get(),
            end: area.range.end().get(),
            rights: rights.iter().collect(),
        }
    }
}

impl Page {
    fn of(page: &RmapPage) -> Self {
        let place = |&(mm, va): &(u64, kilburn_addr::VirtAddr)| Place { mm, address: va.get() };
        Self {
            page: page.index,
            frame: page.pfn.get(),
            maps: page.maps,
            is_dirty: page.is_dirty,
            mapped_at: page.mapped_at.iter().map(place).collect(),
        }
    }
}

/// The root of the tree that `areas` are.
pub(crate) fn root(areas: &[Area]) -> Option<usize> {
    let below = |at| areas.iter().any(|area| area.left == Some(at) || area.right == Some(at));
    (0..areas.len()).find(|&at| !below(at))
}

/// Pages that follow each other and are mapped by the same areas.
pub(crate) struct Run<'t> {
    pub(crate) first: &'t Page,
    pub(crate) last: u64,
}

/// `pages` as runs.
pub(crate) fn runs(pages: &[Page]) -> Vec<Run<'_>> {
    let mut found: Vec<Run<'_>> = Vec::new();
    for page in pages {
        match found.last_mut() {
            Some(run) if continues(run, page) => run.last = page.page,
            _ => found.push(Run { first: page, last: page.page }),
        }
    }
    found
}

fn continues(run: &Run<'_>, page: &Page) -> bool {
    let begin = run.first;
    let further = page.page.wrapping_sub(begin.page) << 12;
    let is_next =
        |(a, b): (&Place, &Place)| a.mm == b.mm && a.address.wrapping_add(further) == b.address;
    run.last.checked_add(1) == Some(page.page)
        && (begin.maps, begin.is_dirty) == (page.maps, page.is_dirty)
        && begin.mapped_at.len() == page.mapped_at.len()
        && begin.mapped_at.iter().zip(&page.mapped_at).all(is_next)
}
