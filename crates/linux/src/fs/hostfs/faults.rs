//! Files that fail on purpose, and the checksums that keep what is spoilt from being read.
//!
//! [`FailingFiles`] belongs to a file system, [`FailingStore`] is under one file's page cache.
//! As long as the machine runs, what it wrote to a page is compared with a checksum when the page
//! is read again: a write that was torn is `EIO` then, and never wrong bytes (as Linux's dm-integrity
//! would have it). Nobody else may change these files meanwhile.

use super::Key;
use super::handle::{Handle, HostStore};
use crate::config::FileFaults;
use kilburn_addr::{Errno, PAGE_SIZE};
use kilburn_mm::BackingStore;
use kilburn_swap::{Faults, WriteFault};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// The faults of a file system's files.
pub(super) struct FailingFiles {
    faults: Faults,
    /// Only files below this path of the host's.
    below: PathBuf,
    /// What pages hold that were written, by file and index.
    sums: Mutex<BTreeMap<(Key, u64), u64>>,
}

impl FailingFiles {
    /// The faults of files below the host's folder `root`, as drawn from `seed`.
    pub(super) fn new(root: &Path, config: &FileFaults, seed: u64) -> std::io::Result<Arc<Self>> {
        let under = config.under.strip_prefix("/").unwrap_or(&config.under);
        Ok(Arc::new(Self {
            faults: Faults::new(config.inject, seed),
            below: root.canonicalize()?.join(under),
            sums: Mutex::default(),
        }))
    }

    /// The store of a file: `store`, or one that fails.
    pub(super) fn store(
        self: &Arc<Self>,
        key: Key,
        handle: &Handle,
        store: HostStore,
    ) -> Box<dyn BackingStore> {
        let place = std::fs::read_link(handle.proc_path());
        if place.is_ok_and(|place| place.starts_with(&self.below)) {
            Box::new(FailingStore { files: Arc::clone(self), key, store })
        } else {
            Box::new(store)
        }
    }

    /// The file is a new one, or somebody else changed it.
    pub(super) fn forget(&self, key: Key) {
        self.sums.lock().retain(|&(file, _), _| file != key);
    }
}

/// The contents of a file that fails.
struct FailingStore {
    files: Arc<FailingFiles>,
    key: Key,
    store: HostStore,
}

type Page = [u8; PAGE_SIZE as usize];

/// `bytes`, and zeros up to a whole page.
fn padded(bytes: &[u8]) -> Page {
    let mut page = [0; PAGE_SIZE as usize];
    page[..bytes.len()].copy_from_slice(bytes);
    page
}

impl FailingStore {
    fn sum(&self, index: u64) -> Option<u64> {
        self.files.sums.lock().get(&(self.key, index)).copied()
    }

    fn keep_sum(&self, index: u64, page: &Page) {
        self.files.sums.lock().insert((self.key, index), xxh3_64(page));
    }

    fn read_checked(&self, index: u64, into: &mut Page) -> Result<(), Errno> {
        self.store.read_page(index, into)?;
        match self.sum(index) {
            Some(sum) if sum != xxh3_64(into) => Err(Errno::EIO),
            _ => Ok(()),
        }
    }
}

impl BackingStore for FailingStore {
    fn read_page(&self, index: u64, into: &mut Page) -> Result<(), Errno> {
        self.files.faults.on_read()?;
        self.read_checked(index, into)
    }

    fn write_page(&self, index: u64, from: &[u8]) -> Result<(), Errno> {
        let (len, answer) = match self.files.faults.on_write(from.len()) {
            WriteFault::None => (from.len(), Ok(())),
            WriteFault::Fails(errno) => return Err(errno),
            WriteFault::Short(len) => (len, Err(Errno::EIO)),
            WriteFault::Torn(len) => (len, Ok(())),
        };
        self.keep_sum(index, &padded(from));
        self.store.write_page(index, &from[..len])?;
        answer
    }

    fn set_size(&self, size: u64) -> Result<(), Errno> {
        let (last, kept) = (size / PAGE_SIZE, (size % PAGE_SIZE) as usize);
        let mut page = [0; PAGE_SIZE as usize];
        // What was spoilt stays so: its sum is left as it is.
        let cut = self.sum(last).is_some() && self.read_checked(last, &mut page).is_ok();
        self.store.set_size(size)?;
        if cut {
            page[kept..].fill(0);
            self.keep_sum(last, &page);
        }
        let gone = (self.key, last + u64::from(kept > 0))..=(self.key, u64::MAX);
        let mut sums = self.files.sums.lock();
        let indices: Vec<_> = sums.range(gone).map(|(&place, _)| place).collect();
        for place in indices {
            sums.remove(&place);
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), Errno> {
        self.files.faults.on_read()?;
        self.store.sync()
    }

    fn take_wait_ns(&self) -> u64 {
        self.files.faults.take_wait_ns()
    }
}
