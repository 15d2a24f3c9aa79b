//! The ways back as they are told: a file's interval tree with its pages, a fork tree's `AnonVma`s.

use kilburn_addr::VirtAddr;
use kilburn_mm::testing::*;
use kilburn_mm::*;
use std::sync::Arc;

const PAGE: u64 = 4096;

fn fork(mm: &Arc<Mm<TestHost>>) -> Arc<Mm<TestHost>> {
    mm.fork(&Caller::ROOT).expect("room")
}

/// The tree as text: a node, what hangs left of it, what hangs right of it.
fn shape(areas: &[RmapArea], at: Option<usize>) -> String {
    let Some(at) = at else { return "-".into() };
    let RmapArea { first, last, max_last, left, right, .. } = areas[at];
    format!("[{first}..{last}]{max_last}({} {})", shape(areas, left), shape(areas, right))
}

fn root(areas: &[RmapArea]) -> Option<usize> {
    (0..areas.len()).find(|&at| !areas.iter().any(|a| a.left == Some(at) || a.right == Some(at)))
}

#[test]
fn a_file_tells_its_tree_its_pages_and_who_maps_them() {
    let memory = TestHost::memory(512);
    let mm = TestHost::mm(&memory);
    let file = TestFile::stored(&memory, "/f", TestStore::with(&[7; 8 * 4096]));
    let whole = mm.map_file(&file, 8 * PAGE, READ_WRITE, 1, 0).unwrap().get();
    let end = mm.map_file(&file, 2 * PAGE, READ_WRITE, 2, 6 * PAGE).unwrap().get();
    let child = fork(&mm);
    mm.peek(whole).unwrap();
    child.poke(whole + 3 * PAGE, 1).unwrap();
    child.poke(end, 9).unwrap();
    let told = file.cache().rmap();
    assert_eq!((told.id, told.is_shmem, told.size_pages), (file.cache().id(), false, 8));
    let keys: Vec<_> =
        told.areas.iter().map(|a| (a.first, a.last, a.mm, a.range.start())).collect();
    let at = |mm: &Mm<TestHost>, first, last, start| (first, last, mm.id(), VirtAddr::new(start));
    let expected =
        [at(&mm, 0, 7, whole), at(&child, 0, 7, whole), at(&mm, 6, 7, end), at(&child, 6, 7, end)];
    assert_eq!(keys, expected);
    for (i, area) in told.areas.iter().enumerate() {
        assert!(area.left.is_none_or(|left| left < i) && area.right.is_none_or(|right| right > i));
        let below = [area.left, area.right].into_iter().flatten();
        let largest = below.map(|at| told.areas[at].max_last).fold(area.last, u64::max);
        assert_eq!(area.max_last, largest, "{}", shape(&told.areas, root(&told.areas)));
    }
    assert_eq!(shape(&told.areas, root(&told.areas)).matches('[').count(), 4, "one tree");
    assert_eq!(told.pages.iter().map(|p| p.index).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6, 7]);
    for page in &told.pages {
        assert_eq!(page.mapped_at.len(), page.maps as usize, "{page:?}");
        assert_eq!(page.is_dirty, page.index == 3, "{page:?}");
    }
    let copied = &told.pages[6].mapped_at;
    assert!(
        !copied.contains(&(child.id(), VirtAddr::new(end))),
        "a private copy is no page of the file"
    );
    drop((mm, child));
    assert_eq!(file.cache().rmap().areas, []);
}

#[test]
fn a_fork_tree_tells_whom_its_pages_belong_to() {
    let memory = TestHost::memory(512);
    let mm = TestHost::mm(&memory);
    let at = mm.map_anon(0, 4 * PAGE, READ_WRITE, PRIVATE_ANON).unwrap();
    assert!(mm.anon_vma_at(at).is_none(), "as long as nothing was written");
    mm.poke(at.get(), 1).unwrap();
    mm.poke(at.get() + PAGE, 1).unwrap();
    let child = fork(&mm);
    let grandchild = fork(&child);
    child.poke(at.get(), 2).unwrap();
    let told = child.anon_vma_at(at).expect("one by fork").rmap(&memory);
    let nodes: Vec<_> =
        told.nodes.iter().map(|n| (n.parent, n.areas[0].mm, n.pages.len())).collect();
    assert_eq!(
        nodes,
        [(None, mm.id(), 2), (Some(0), child.id(), 1), (Some(1), grandchild.id(), 0)]
    );
    let first = &told.nodes[0].pages[0];
    let holders: Vec<u64> = first.mapped_at.iter().map(|(mm, _)| *mm).collect();
    assert_eq!((first.maps, holders), (2, vec![mm.id(), grandchild.id()]), "the child has its own");
    drop(child);
    let told = grandchild.anon_vma_at(at).expect("it stays").rmap(&memory);
    assert_eq!(told.nodes.len(), 3, "who is gone stays as a link");
    assert_eq!(told.nodes[1].areas, []);
}
