//! Doubly linked lists over page numbers, in one dense array.
//!
//! [`PageLists<N>`] holds `N` lists that share one array of links, eight bytes a page: a page is on at most one of them,
//! so moving it between lists touches its own link, its neighbours and the two ends. Each list is a ring through a
//! sentinel that lives behind the pages in the same array; so no operation has a special case for an end:
//!
//! ```text
//! links   0      1      2     ...    pages-1 | sentinel 0 | sentinel 1 ...
//!         prev   prev   prev         prev    | tail       | tail
//!         next   next   next         next    | head       | head
//! ```
//!
//! Links are `u32`, not `usize`: half the cache lines, and 2^32 - N pages are 16 TiB of 4 KiB pages.
//!
//! Neighbours: every policy in this module; [`GhostLists`](super::ghost::GhostLists) is built on it.

use super::PageId;
use alloc::vec::Vec;
use core::fmt;

/// `next` of a page that is on no list.
const DETACHED: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Link {
    prev: u32,
    next: u32,
}

/// `N` lists that share the pages `0..pages`; each page is on one of them or on none.
pub struct PageLists<const N: usize> {
    links: Vec<Link>,
    len: [u32; N],
    pages: u32,
}

impl<const N: usize> PageLists<N> {
    /// Empty lists over the pages `0..pages`.
    ///
    /// # Panics
    ///
    /// If there are more pages than 32-bit links can name beside `N` sentinels.
    #[must_use]
    pub fn new(pages: u32) -> Self {
        let lists = u32::try_from(N).expect("a handful of lists");
        let all =
            pages.checked_add(lists).filter(|&all| all < DETACHED).expect("pages fit 32-bit links");
        let mut links = Vec::with_capacity(all as usize);
        links.resize(pages as usize, Link { prev: DETACHED, next: DETACHED });
        links.extend((pages..all).map(|sentinel| Link { prev: sentinel, next: sentinel }));
        Self { links, len: [0; N], pages }
    }

    /// How many pages there are numbers for.
    #[must_use]
    pub fn pages(&self) -> u32 {
        self.pages
    }

    /// How many pages are on `list`.
    #[must_use]
    pub fn len(&self, list: usize) -> u32 {
        self.len[list]
    }

    /// How many pages are on any list.
    #[must_use]
    pub fn total(&self) -> u32 {
        self.len.iter().sum()
    }

    /// Whether `page` is on a list.
    #[must_use]
    pub fn is_linked(&self, page: PageId) -> bool {
        self.links[page.index()].next != DETACHED
    }

    /// The page that came last into `list` by [`Self::push_front`].
    #[must_use]
    pub fn front(&self, list: usize) -> Option<PageId> {
        self.page(self.links[self.sentinel(list)].next)
    }

    /// The page at the far end of `list`.
    #[must_use]
    pub fn back(&self, list: usize) -> Option<PageId> {
        self.page(self.links[self.sentinel(list)].prev)
    }

    /// The neighbour of `page` towards the front; `None` when it is the front.
    #[must_use]
    pub fn towards_front(&self, page: PageId) -> Option<PageId> {
        self.page(self.links[page.index()].prev)
    }

    /// The neighbour of `page` towards the back; `None` when it is the back.
    #[must_use]
    pub fn towards_back(&self, page: PageId) -> Option<PageId> {
        self.page(self.links[page.index()].next)
    }

    /// Puts `page`, which is on no list, at the front of `list`.
    pub fn push_front(&mut self, list: usize, page: PageId) {
        let sentinel = self.sentinel(list);
        let next = self.links[sentinel].next;
        self.link(page, sentinel as u32, next);
        self.len[list] += 1;
    }

    /// Puts `page`, which is on no list, at the back of `list`.
    pub fn push_back(&mut self, list: usize, page: PageId) {
        let sentinel = self.sentinel(list);
        let prev = self.links[sentinel].prev;
        self.link(page, prev, sentinel as u32);
        self.len[list] += 1;
    }

    /// Puts `page`, which is on no list, directly in front of `at`, which is on `list`.
    pub fn insert_in_front_of(&mut self, list: usize, at: PageId, page: PageId) {
        debug_assert!(self.is_linked(at), "{at} is not on a list");
        let prev = self.links[at.index()].prev;
        self.link(page, prev, at.0);
        self.len[list] += 1;
    }

    /// Takes `page` off `list`, on which it is.
    pub fn remove(&mut self, list: usize, page: PageId) {
        self.unlink(page);
        self.links[page.index()].next = DETACHED;
        self.len[list] -= 1;
    }

    /// Takes the page at the back of `list` off it.
    pub fn pop_back(&mut self, list: usize) -> Option<PageId> {
        let page = self.back(list)?;
        self.remove(list, page);
        Some(page)
    }

    /// Moves `page` from anywhere on `list` to its front.
    pub fn move_to_front(&mut self, list: usize, page: PageId) {
        let sentinel = self.sentinel(list);
        let front = self.links[sentinel].next;
        if front == page.0 {
            return;
        }
        self.unlink(page);
        self.relink(page, sentinel as u32, front);
    }

    /// The pages of `list` from front to back.
    pub fn iter(&self, list: usize) -> impl Iterator<Item = PageId> + '_ {
        core::iter::successors(self.front(list), |&page| self.towards_back(page))
    }

    /// Walks every list in both directions: links mirror each other, lengths are true, no page is on two lists.
    ///
    /// # Errors
    ///
    /// The name of what does not hold.
    pub fn check(&self) -> Result<(), &'static str> {
        let mut linked = 0;
        for list in 0..N {
            let mut at = self.sentinel(list) as u32;
            let mut count = 0;
            loop {
                let next = self.links[at as usize].next;
                if next == DETACHED || self.links[next as usize].prev != at {
                    return Err("links mirror each other");
                }
                if next as usize == self.sentinel(list) {
                    break;
                }
                count += 1;
                if next >= self.pages || count > self.len[list] {
                    return Err("a list's length is the number of its pages");
                }
                at = next;
            }
            if count != self.len[list] {
                return Err("a list's length is the number of its pages");
            }
            linked += count;
        }
        let attached =
            self.links[..self.pages as usize].iter().filter(|link| link.next != DETACHED).count();
        if attached != linked as usize {
            return Err("a linked page is on exactly one list");
        }
        Ok(())
    }

    fn sentinel(&self, list: usize) -> usize {
        debug_assert!(list < N, "no list {list}");
        self.pages as usize + list
    }

    fn page(&self, link: u32) -> Option<PageId> {
        (link < self.pages).then_some(PageId(link))
    }

    fn link(&mut self, page: PageId, prev: u32, next: u32) {
        assert!(!self.is_linked(page), "{page} is on a list already");
        self.relink(page, prev, next);
    }

    fn relink(&mut self, page: PageId, prev: u32, next: u32) {
        self.links[page.index()] = Link { prev, next };
        self.links[prev as usize].next = page.0;
        self.links[next as usize].prev = page.0;
    }

    fn unlink(&mut self, page: PageId) {
        let Link { prev, next } = self.links[page.index()];
        assert!(next != DETACHED, "{page} is not on a list");
        self.links[prev as usize].next = next;
        self.links[next as usize].prev = prev;
    }
}

impl<const N: usize> fmt::Debug for PageLists<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lists = f.debug_list();
        for list in 0..N {
            lists.entry(&self.iter(list).map(|page| page.0).collect::<Vec<_>>());
        }
        lists.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    #[test]
    fn pages_keep_their_order_through_moves_between_lists() {
        let mut lists = PageLists::<2>::new(5);
        for page in 0..4 {
            lists.push_front(0, PageId(page));
        }
        lists.push_back(0, PageId(4));
        assert_eq!(format!("{lists:?}"), "[[3, 2, 1, 0, 4], []]");
        lists.move_to_front(0, PageId(1));
        lists.remove(0, PageId(0));
        lists.push_front(1, PageId(0));
        assert_eq!(format!("{lists:?}"), "[[1, 3, 2, 4], [0]]");
        let last = lists.pop_back(0).unwrap();
        lists.insert_in_front_of(1, PageId(0), last);
        assert_eq!(format!("{lists:?}"), "[[1, 3, 2], [4, 0]]");
        assert_eq!(lists.check(), Ok(()));
    }

    #[test]
    fn an_emptied_list_has_neither_front_nor_back() {
        let mut lists = PageLists::<1>::new(1);
        lists.push_front(0, PageId(0));
        assert_eq!(lists.pop_back(0), Some(PageId(0)));
        assert_eq!((lists.front(0), lists.back(0), lists.pop_back(0)), (None, None, None));
        assert_eq!(lists.check(), Ok(()));
    }

    #[test]
    #[should_panic(expected = "is on a list already")]
    fn a_page_on_two_lists_is_our_bug() {
        let mut lists = PageLists::<2>::new(1);
        lists.push_front(0, PageId(0));
        lists.push_front(1, PageId(0));
    }

    #[test]
    fn check_sees_a_wrong_length() {
        let mut lists = PageLists::<2>::new(2);
        lists.push_front(0, PageId(0));
        lists.remove(0, PageId(0));
        lists.len[1] = 1;
        assert_eq!(lists.check(), Err("a list's length is the number of its pages"));
    }
}
