//! The ways back as they are told: a file's interval tree with its pages, a fork tree's `AnonVma`s.

use kilburn_addr::VirtAddr;
use kilburn_mm::testing::*;
use kilburn_mm::*;
use std::sync::{Arc, Barrier};

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

#[test]
fn an_identity_that_nothing_has_any_more_is_given_out_again() {
    let memory = TestHost::memory(512);
    let (mm, other) = (TestHost::mm(&memory), TestHost::mm(&memory));
    let used = |mm: &Arc<Mm<TestHost>>| {
        let at = mm.map_anon(0, PAGE, READ_WRITE, PRIVATE_ANON).unwrap();
        mm.poke(at.get(), 1).unwrap();
        (at, mm.anon_vma_at(at).expect("written to"))
    };
    let number = |(at, anon_vma): &(VirtAddr, Arc<AnonVma<TestHost>>)| {
        let told = anon_vma.rmap(&memory);
        let [node] = &told.nodes[..] else { panic!("one identity") };
        assert_eq!((node.areas.len(), node.pages.len(), node.areas[0].range.start()), (1, 1, *at));
        anon_vma.id()
    };
    let first = used(&mm);
    let first_number = number(&first);
    mm.munmap(first.0, PAGE).unwrap();
    let second = used(&mm);
    assert_ne!(number(&second), first_number, "the first is still held");
    let second_number = number(&second);
    let at = second.0;
    drop((first, second));
    mm.munmap(at, PAGE).unwrap();
    let third = used(&other);
    assert_eq!(number(&third), second_number, "whoever asks next has it");
    let child = fork(&other);
    drop(third.1);
    other.munmap(third.0, PAGE).unwrap();
    assert_ne!(number(&used(&mm)), second_number, "the child's hangs below it");
    memory.check(&[&mm, &other, &child], &[]).unwrap();
}

#[test]
fn threads_that_write_first_to_one_area_agree_on_whose_its_pages_are() {
    let memory = TestHost::memory(512);
    let mm = TestHost::mm(&memory);
    for round in 0..400 {
        let pages = 2 + round % 3;
        let at = mm.map_anon(0, pages * PAGE, READ_WRITE, PRIVATE_ANON).unwrap();
        let start = Barrier::new(pages as usize);
        std::thread::scope(|scope| {
            for page in 0..pages {
                let (mm, start) = (&mm, &start);
                scope.spawn(move || {
                    start.wait();
                    mm.poke(at.get() + page * PAGE, 1).unwrap();
                });
            }
        });
        let told = mm.anon_vma_at(at).expect("written to").rmap(&memory);
        let [node] = &told.nodes[..] else { panic!("one identity") };
        assert_eq!((node.areas.len(), node.pages.len()), (1, pages as usize));
        memory.check(&[&mm], &[]).unwrap();
        mm.munmap(at, pages * PAGE).unwrap();
    }
}
