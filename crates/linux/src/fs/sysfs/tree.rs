//! What is where in `/sys`.
//!
//! [`build`] lists every file with the function that makes its text. Neighbour: [`super`] serves
//! them.

use super::{Entry, Text, Write};
use crate::fs::hugetlb::HugeSize;
use crate::fs::procfs::{cpu_list, cpu_mask};
use crate::kernel::Kernel;
use kilburn_addr::Errno;
use std::collections::BTreeMap;

/// The root folder's place in the tree.
pub(super) const ROOT: usize = 0;

/// Most processors a machine can have, less one (`kernel_max`).
const KERNEL_MAX: usize = 63;

/// The tree of a machine with this many harts.
pub(super) fn build(harts: usize) -> Vec<Entry> {
    let mut tree = Tree { entries: vec![Entry::Dir(BTreeMap::new())] };
    for folder in ["block", "bus", "class", "dev", "fs"] {
        tree.folder(folder);
    }
    // Where control groups are mounted.
    tree.folder("fs/cgroup");
    tree.constant("kernel/address_bits", "64");
    tree.constant("kernel/cpu_byteorder", "little");
    memory_management(&mut tree);
    processors(&mut tree, harts);
    node(&mut tree, harts);
    tree.entries
}

struct Tree {
    entries: Vec<Entry>,
}

impl Tree {
    /// The folder at `path`, made with those above it.
    fn folder(&mut self, path: &str) -> usize {
        let mut at = ROOT;
        for name in path.split('/') {
            let new = self.entries.len();
            let Entry::Dir(names) = &mut self.entries[at] else {
                unreachable!("a file is no folder: {path}");
            };
            at = *names.entry(name.into()).or_insert(new);
            if at == new {
                self.entries.push(Entry::Dir(BTreeMap::new()));
            }
        }
        at
    }

    fn put(&mut self, path: &str, entry: Entry) {
        let (folder, name) = path.rsplit_once('/').expect("nothing but folders at the top");
        let (folder, new) = (self.folder(folder), self.entries.len());
        self.entries.push(entry);
        if let Entry::Dir(names) = &mut self.entries[folder] {
            names.insert(name.into(), new);
        }
    }

    fn link(&mut self, path: &str, target: &str) {
        self.put(path, Entry::Link(target.into()));
    }

    fn file(&mut self, path: &str, text: Text, write: Option<Write>) {
        self.put(path, Entry::File(text, write));
    }

    fn constant(&mut self, path: &str, text: &str) {
        let text = format!("{text}\n");
        self.file(path, Box::new(move |_| text.clone()), None);
    }

    fn setting(&mut self, path: &str, text: &'static str, write: Write) {
        self.file(path, Box::new(move |_| format!("{text}\n")), Some(write));
    }
}

/// Takes only `value`, which holds already.
macro_rules! only {
    ($($value:literal)|+) => {
        |_, text| match text {
            $($value)|+ => Ok(()),
            _ => Err(Errno::EINVAL),
        }
    };
}

fn memory_management(tree: &mut Tree) {
    // Booted with transparent_hugepage=never, and cannot be told otherwise.
    let thp = "kernel/mm/transparent_hugepage";
    tree.setting(&format!("{thp}/enabled"), "always madvise [never]", only!("never"));
    let defrag = "always defer defer+madvise madvise [never]";
    tree.setting(&format!("{thp}/defrag"), defrag, only!("never"));
    let shmem = "always within_size advise [never] deny force";
    tree.setting(&format!("{thp}/shmem_enabled"), shmem, only!("never"));
    tree.constant(&format!("{thp}/hpage_pmd_size"), "2097152");
    for size in HugeSize::ALL {
        let pool = format!("kernel/mm/hugepages/hugepages-{}kB", size.bytes() / 1024);
        for count in ["free_hugepages", "resv_hugepages", "surplus_hugepages"] {
            tree.constant(&format!("{pool}/{count}"), "0");
        }
        // A pool takes as many pages as it finds: none.
        for count in ["nr_hugepages", "nr_hugepages_mempolicy"] {
            let number = |_: &Kernel, text: &str| match text.parse::<u64>() {
                Ok(_) => Ok(()),
                Err(_) => Err(Errno::EINVAL),
            };
            tree.setting(&format!("{pool}/{count}"), "0", number);
        }
        // No pages beyond the pool either, which stays empty (hugetlb). Of 1 GiB Linux refuses them as well.
        let overcommit: Write = match size {
            HugeSize::Mib2 => only!("0"),
            HugeSize::Gib1 => |_, _| Err(Errno::EINVAL),
        };
        tree.setting(&format!("{pool}/nr_overcommit_hugepages"), "0", overcommit);
    }
    let ksm = "kernel/mm/ksm";
    // DIVERGENCE(ksm): MADV_MERGEABLE marks areas, and nothing merges them: `run` stays 0.
    tree.setting(&format!("{ksm}/run"), "0", |_, text| match text {
        // 2 unmerges what is merged: nothing.
        "0" | "2" => Ok(()),
        "1" => Err(Errno::EOPNOTSUPP),
        _ => Err(Errno::EINVAL),
    });
    for count in ["full_scans", "pages_shared", "pages_sharing", "pages_unshared", "pages_volatile"]
    {
        tree.constant(&format!("{ksm}/{count}"), "0");
    }
}

/// All harts as a mask.
fn all(harts: usize) -> u64 {
    if harts >= 64 { u64::MAX } else { (1 << harts) - 1 }
}

fn processors(tree: &mut Tree, harts: usize) {
    let cpu = "devices/system/cpu";
    let everyone = all(harts);
    for name in ["online", "possible", "present"] {
        tree.constant(&format!("{cpu}/{name}"), &cpu_list(everyone));
    }
    for name in ["offline", "isolated", "nohz_full"] {
        tree.constant(&format!("{cpu}/{name}"), "");
    }
    tree.constant(&format!("{cpu}/kernel_max"), &KERNEL_MAX.to_string());
    for hart in 0..harts {
        let own = 1 << hart;
        let topology = format!("{cpu}/cpu{hart}/topology");
        tree.constant(&format!("{topology}/core_id"), &hart.to_string());
        tree.constant(&format!("{topology}/physical_package_id"), "0");
        for (name, mask) in [
            ("core_cpus", own),
            ("thread_siblings", own),
            ("core_siblings", everyone),
            ("package_cpus", everyone),
        ] {
            tree.constant(&format!("{topology}/{name}"), &cpu_mask(mask, harts));
            tree.constant(&format!("{topology}/{name}_list"), &cpu_list(mask));
        }
        tree.link(&format!("{cpu}/cpu{hart}/node0"), "../../node/node0");
    }
}

/// The one node of memory.
fn node(tree: &mut Tree, harts: usize) {
    let node = "devices/system/node";
    for name in ["has_cpu", "has_memory", "has_normal_memory", "online", "possible"] {
        tree.constant(&format!("{node}/{name}"), "0");
    }
    tree.constant(&format!("{node}/node0/cpulist"), &cpu_list(all(harts)));
    tree.constant(&format!("{node}/node0/cpumap"), &cpu_mask(all(harts), harts));
    tree.constant(&format!("{node}/node0/distance"), "10");
    tree.file(&format!("{node}/node0/meminfo"), Box::new(node_meminfo), None);
    for hart in 0..harts {
        tree.link(&format!("{node}/node0/cpu{hart}"), &format!("../../cpu/cpu{hart}"));
    }
}

fn node_meminfo(kernel: &Kernel) -> String {
    let counts = kernel.memory.counts();
    let lines = [
        ("MemTotal", counts.total),
        ("MemFree", counts.free),
        ("MemUsed", counts.total - counts.free),
        ("Dirty", counts.dirty),
        ("FilePages", counts.cached),
        ("Mapped", counts.mapped),
        ("AnonPages", kernel.memory.mapped_anon_pages()),
        ("Shmem", counts.shmem),
        ("PageTables", counts.page_tables),
    ];
    let line = |(name, pages): (&str, u64)| {
        format!("Node 0 {:<16}{:>8} kB\n", format!("{name}:"), pages * 4)
    };
    lines.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_hart_has_its_folder_and_a_link_in_the_node() {
        let tree = build(3);
        let child = |at: usize, name: &str| match &tree[at] {
            Entry::Dir(names) => names[name.as_bytes()],
            _ => panic!("{name}: the parent is no folder"),
        };
        let walk = |path: &str| path.split('/').fold(ROOT, child);
        for hart in 0..3 {
            let topology = walk(&format!("devices/system/cpu/cpu{hart}/topology"));
            assert!(matches!(tree[topology], Entry::Dir(_)));
            let link = walk(&format!("devices/system/node/node0/cpu{hart}"));
            assert!(matches!(tree[link], Entry::Link(_)));
        }
    }
}
