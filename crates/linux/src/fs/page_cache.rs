//! The contents of regular files in memory.
//!
//! [`PageCache`] is one file's; [`PageCaches`] makes them.

use kilburn_addr::{Errno, PAGE_SIZE};
use kilburn_mm::BackingStore;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

const PAGE: usize = PAGE_SIZE as usize;

struct Page {
    bytes: Box<[u8; PAGE]>,
    dirty: bool,
}

struct State {
    size: u64,
    pages: BTreeMap<u64, Page>,
}

/// One file's contents.
#[derive(Clone)]
pub(crate) struct PageCache {
    store: Option<Arc<dyn BackingStore>>,
    state: Arc<Mutex<State>>,
}

/// Makes page caches.
#[derive(Clone, Default)]
pub(crate) struct PageCaches;

impl PageCaches {
    /// Contents that live in memory only.
    pub(crate) fn in_memory(&self, size: u64) -> PageCache {
        let state = Arc::new(Mutex::new(State { size, pages: BTreeMap::new() }));
        PageCache { store: None, state }
    }

    /// Contents kept in `store`.
    pub(crate) fn backed(&self, store: Box<dyn BackingStore>, size: u64) -> PageCache {
        let state = Arc::new(Mutex::new(State { size, pages: BTreeMap::new() }));
        PageCache { store: Some(Arc::from(store)), state }
    }
}

impl PageCache {
    fn page<'a>(&self, state: &'a mut State, index: u64) -> Result<&'a mut Page, Errno> {
        if !state.pages.contains_key(&index) {
            let mut bytes = Box::new([0; PAGE]);
            if let Some(store) = &self.store {
                store.read_page(index, &mut bytes)?;
            }
            state.pages.insert(index, Page { bytes, dirty: false });
        }
        state.pages.get_mut(&index).ok_or(Errno::EIO)
    }

    /// Size of the file.
    pub(crate) fn size(&self) -> u64 {
        self.state.lock().size
    }

    /// Reads from `pos`, at most to the end of the file.
    pub(crate) fn read_at(&self, pos: u64, into: &mut [u8]) -> Result<usize, Errno> {
        let mut state = self.state.lock();
        let len = into.len().min(state.size.saturating_sub(pos) as usize);
        let mut done = 0;
        while done < len {
            let at = pos + done as u64;
            let (index, offset) = (at / PAGE_SIZE, (at % PAGE_SIZE) as usize);
            let n = (PAGE - offset).min(len - done);
            let page = self.page(&mut state, index)?;
            into[done..done + n].copy_from_slice(&page.bytes[offset..offset + n]);
            done += n;
        }
        Ok(len)
    }

    /// Writes at `pos`.
    pub(crate) fn write_at(&self, pos: u64, from: &[u8]) -> Result<usize, Errno> {
        let mut state = self.state.lock();
        let mut done = 0;
        while done < from.len() {
            let at = pos + done as u64;
            let (index, offset) = (at / PAGE_SIZE, (at % PAGE_SIZE) as usize);
            let n = (PAGE - offset).min(from.len() - done);
            let page = self.page(&mut state, index)?;
            page.bytes[offset..offset + n].copy_from_slice(&from[done..done + n]);
            page.dirty = true;
            done += n;
        }
        state.size = state.size.max(pos + from.len() as u64);
        Ok(from.len())
    }

    /// Changes the size.
    pub(crate) fn truncate(&self, size: u64) -> Result<(), Errno> {
        let mut state = self.state.lock();
        if let Some(store) = &self.store {
            store.set_size(size)?;
        }
        state.size = size;
        state.pages.retain(|index, _| index * PAGE_SIZE < size);
        if size % PAGE_SIZE != 0 && state.pages.contains_key(&(size / PAGE_SIZE)) {
            let page = self.page(&mut state, size / PAGE_SIZE)?;
            page.bytes[(size % PAGE_SIZE) as usize..].fill(0);
        }
        Ok(())
    }

    /// Writes dirty pages to the store.
    pub(crate) fn sync(&self, _bytes: Range<u64>) -> Result<(), Errno> {
        let Some(store) = &self.store else { return Ok(()) };
        let mut state = self.state.lock();
        let size = state.size;
        for (index, page) in &mut state.pages {
            if page.dirty {
                let len = size.saturating_sub(index * PAGE_SIZE).min(PAGE_SIZE) as usize;
                store.write_page(*index, &page.bytes[..len])?;
                page.dirty = false;
            }
        }
        Ok(())
    }

    /// Drops clean pages.
    pub(crate) fn evict(&self) {
        if self.store.is_some() {
            self.state.lock().pages.retain(|_, page| page.dirty);
        }
    }
}

impl PageCache {
    /// Memory it takes, in units of 512 bytes.
    pub(crate) fn blocks(&self) -> u64 {
        self.state.lock().pages.len() as u64 * (PAGE_SIZE / 512)
    }
}
