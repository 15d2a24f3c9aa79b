//! Areas in files: of the host's, and of file systems that an embedder has.

use crate::PAGE;
use kilburn_addr::Errno;
use kilburn_mm::{BackingStore, SwapArea};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Time a transfer is taken to need, as of a fast disk: guests wait for it.
const TRANSFER_NS: u64 = 80_000;

/// A file, a page a slot.
pub struct FileArea {
    file: File,
    slots: u32,
    waited_ns: AtomicU64,
}

impl FileArea {
    /// Makes or empties the file at `path`, for `slots` slots. It takes room as slots are written.
    ///
    /// # Errors
    /// Those of making it.
    pub fn create(path: &Path, slots: u32) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(true).open(path)?;
        file.set_len(u64::from(slots) * PAGE as u64)?;
        Ok(Self { file, slots, waited_ns: AtomicU64::new(0) })
    }

    fn note_transfer(&self) {
        self.waited_ns.fetch_add(TRANSFER_NS, Ordering::Relaxed);
    }
}

/// A file behind a [`BackingStore`], whose first page is not swap's (Linux: it holds the header), a
/// page a slot after it.
pub struct StoreArea {
    store: Box<dyn BackingStore>,
    slots: u32,
    waited_ns: AtomicU64,
}

impl StoreArea {
    /// Uses pages 1 to `slots` of what is in `store`. Nobody else may write to them meanwhile.
    pub fn new(store: Box<dyn BackingStore>, slots: u32) -> Self {
        Self { store, slots, waited_ns: AtomicU64::new(0) }
    }

    fn note_transfer(&self) {
        self.waited_ns.fetch_add(TRANSFER_NS, Ordering::Relaxed);
    }
}

impl SwapArea for StoreArea {
    fn slots(&self) -> u32 {
        self.slots
    }

    fn read(&self, slot: u32, into: &mut [u8; PAGE]) -> Result<(), Errno> {
        self.note_transfer();
        self.store.read_page(u64::from(slot) + 1, into)
    }

    fn write(&self, slot: u32, from: &[u8; PAGE]) -> Result<(), Errno> {
        self.note_transfer();
        self.store.write_page(u64::from(slot) + 1, from)
    }

    fn take_wait_ns(&self) -> u64 {
        self.waited_ns.swap(0, Ordering::Relaxed) + self.store.take_wait_ns()
    }

    fn kind(&self) -> &'static str {
        "file"
    }
}

fn offset(slot: u32) -> u64 {
    u64::from(slot) * PAGE as u64
}

fn errno_of(error: &io::Error) -> Errno {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Errno::ENOSPC,
        _ => Errno::EIO,
    }
}

impl SwapArea for FileArea {
    fn slots(&self) -> u32 {
        self.slots
    }

    fn read(&self, slot: u32, into: &mut [u8; PAGE]) -> Result<(), Errno> {
        self.note_transfer();
        self.file.read_exact_at(into, offset(slot)).map_err(|error| errno_of(&error))
    }

    fn write(&self, slot: u32, from: &[u8; PAGE]) -> Result<(), Errno> {
        self.note_transfer();
        self.file.write_all_at(from, offset(slot)).map_err(|error| errno_of(&error))
    }

    fn take_wait_ns(&self) -> u64 {
        self.waited_ns.swap(0, Ordering::Relaxed)
    }

    fn kind(&self) -> &'static str {
        "file"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    #[test]
    fn slots_lie_side_by_side_in_the_file() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("swap");
        let area = FileArea::create(&path, 4).expect("made");
        area.write(0, &[1; PAGE]).expect("room");
        area.write(3, &[4; PAGE]).expect("room");
        let bytes = std::fs::read(&path).expect("there");
        assert_eq!(bytes.len(), 4 * PAGE);
        assert_eq!([bytes[0], bytes[PAGE], bytes[4 * PAGE - 1]], [1, 0, 4]);
        let mut page = [0; PAGE];
        area.read(3, &mut page).expect("written");
        assert_eq!(page, [4; PAGE]);
        assert_eq!((area.take_wait_ns(), area.take_wait_ns()), (3 * TRANSFER_NS, 0));
    }

    /// Pages of zeros, but for those written.
    #[derive(Clone, Default)]
    struct Pages(Arc<Mutex<BTreeMap<u64, Vec<u8>>>>);

    impl BackingStore for Pages {
        fn read_page(&self, index: u64, into: &mut [u8; PAGE]) -> Result<(), Errno> {
            match self.0.lock().get(&index) {
                Some(page) => into.copy_from_slice(page),
                None => into.fill(0),
            }
            Ok(())
        }

        fn write_page(&self, index: u64, from: &[u8]) -> Result<(), Errno> {
            self.0.lock().insert(index, from.to_vec());
            Ok(())
        }

        fn set_size(&self, _size: u64) -> Result<(), Errno> {
            panic!("swap never changes the size of its file")
        }

        fn sync(&self) -> Result<(), Errno> {
            Ok(())
        }
    }

    #[test]
    fn the_first_page_of_a_store_is_left_alone() {
        let pages = Pages::default();
        let area = StoreArea::new(Box::new(pages.clone()), 3);
        area.write(0, &[1; PAGE]).expect("room");
        area.write(2, &[3; PAGE]).expect("room");
        let written: Vec<_> = pages.0.lock().keys().copied().collect();
        assert_eq!(written, [1, 3]);
        let mut page = [0; PAGE];
        area.read(2, &mut page).expect("written");
        assert_eq!((page, area.slots(), area.kind()), ([3; PAGE], 3, "file"));
        assert_eq!((area.take_wait_ns(), area.take_wait_ns()), (3 * TRANSFER_NS, 0));
    }

    #[test]
    fn a_file_that_lost_its_end_is_an_error() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("swap");
        let area = FileArea::create(&path, 4).expect("made");
        area.write(3, &[4; PAGE]).expect("room");
        OpenOptions::new().write(true).open(&path).expect("there").set_len(5000).expect("cut");
        assert_eq!(area.read(3, &mut [0; PAGE]), Err(Errno::EIO));
    }
}
