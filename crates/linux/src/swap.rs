//! The machine's areas of swap: those it was made with, and files of its own that programs switch on
//! (Linux 6.18 mm/swapfile.c: swapon, swapoff).
//!
//! [`SwapAreas`] knows what is behind the names of `kilburn_mm`'s areas. An area the machine was made
//! with is called what the user called it; a file, which may have several names and change them, after
//! its inode. While swap lies in a file it is open, and nobody writes to it
//! ([`kilburn_mm::AddressSpace::begin_swap_file`]); its pages are reached past the page cache, as
//! Linux reaches the blocks under a file. Neighbours: [`header`] is what mkswap writes,
//! [`crate::fs::Vfs`] opens the file, [`kilburn_swap::StoreArea`] reads and writes it.

mod header;

use crate::config::{MachineConfig, MachineError};
use crate::fs::{FileType, InodeRef, OpenFile, Path};
use crate::host::Memory;
use kilburn_addr::{Errno, PAGE_SIZE};
use kilburn_mm::SwapArea;
use kilburn_swap::{Inject, StoreArea, checked};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

/// An area the machine was made with, in use or not.
struct Device {
    name: String,
    area: Arc<dyn SwapArea>,
}

/// All areas of a machine.
pub(crate) struct SwapAreas {
    devices: Vec<Device>,
    /// Files in use, by the names of their areas.
    files: RefCell<BTreeMap<String, Rc<OpenFile>>>,
    /// Faults of all areas.
    inject: Option<Inject>,
    seed: u64,
    /// Areas that were opened so far: each has faults of its own.
    opened: Cell<u64>,
}

impl SwapAreas {
    /// Opens the areas a machine is to have, and uses them.
    ///
    /// # Errors
    /// [`MachineError::Config`] for an area that cannot be opened or used.
    pub(crate) fn open(memory: &Memory, config: &MachineConfig) -> Result<Self, MachineError> {
        let failed = |what: String| MachineError::Config(format!("swap: {what}"));
        let mut areas = Self {
            devices: Vec::new(),
            files: RefCell::default(),
            inject: config.reclaim.inject,
            seed: config.seed,
            opened: Cell::new(0),
        };
        for (i, spec) in config.reclaim.swap.iter().enumerate() {
            let area = spec
                .open(areas.inject, areas.next_seed())
                .map_err(|error| failed(error.to_string()))?;
            let name = spec.name(i);
            memory
                .swap_on(&name, Arc::clone(&area), spec.priority)
                .map_err(|errno| failed(format!("{name}: {}", crate::errno_text(errno))))?;
            areas.devices.push(Device { name, area });
        }
        Ok(areas)
    }

    fn next_seed(&self) -> u64 {
        self.seed ^ self.opened.replace(self.opened.get() + 1) << 32
    }

    /// The area of that name that the machine was made with, in use or not.
    pub(crate) fn device(&self, name: &str) -> Option<Arc<dyn SwapArea>> {
        let device = self.devices.iter().find(|device| device.name == name)?;
        Some(Arc::clone(&device.area))
    }

    /// Where the file is that is behind an area's name, if one is.
    pub(crate) fn path_of(&self, name: &str) -> Option<Path> {
        self.files.borrow().get(name).map(|file| file.path().clone())
    }

    /// Swap lies in a file from now on, which is open for writing.
    ///
    /// # Errors
    /// ENOENT without a name, EBUSY when swap lies in it already, EINVAL for what is no file with a
    /// header, or has holes, or is in memory; EPERM when there are too many areas; what the store
    /// answers.
    pub(crate) fn switch_on(
        &self,
        memory: &Memory,
        file: &Rc<OpenFile>,
        priority: Option<i16>,
    ) -> Result<(), Errno> {
        let inode = file.inode();
        if file.path().dentry.is_removed() {
            return Err(Errno::ENOENT);
        }
        if inode.is_swap_file() {
            return Err(Errno::EBUSY);
        }
        if inode.kind() != FileType::Regular {
            return Err(Errno::EINVAL);
        }
        let cache = inode.page_cache().ok_or(Errno::EINVAL)?;
        let mut first = [0; PAGE_SIZE as usize];
        cache.read_at(0, &mut first)?;
        let slots = header::slots(&first, cache.size() / PAGE_SIZE)?;
        let store = inode.swap_store()?;
        let name = area_name(inode)?;
        cache.begin_swap_file()?;
        let area = checked(StoreArea::new(store, slots), self.inject, self.next_seed());
        memory.swap_on(&name, area, priority).inspect_err(|_| cache.end_swap_file())?;
        self.files.borrow_mut().insert(name, Rc::clone(file));
        Ok(())
    }

    /// Brings home what lies in a file, and lets go of it.
    ///
    /// # Errors
    /// EINVAL when none does; ENOMEM, EIO, and swap stays there.
    pub(crate) fn switch_off(&self, memory: &Memory, file: &OpenFile) -> Result<(), Errno> {
        let name = area_name(file.inode())?;
        if !self.files.borrow().contains_key(&name) {
            return Err(Errno::EINVAL);
        }
        memory.swap_off(&name)?;
        let file = self.files.borrow_mut().remove(&name);
        file.iter().for_each(let_go);
        Ok(())
    }

    /// The machine ends: nobody has anything in swap any more.
    pub(crate) fn close(&self) {
        self.files.take().values().for_each(let_go);
    }
}

fn let_go(file: &Rc<OpenFile>) {
    if let Some(cache) = file.inode().page_cache() {
        cache.end_swap_file();
    }
}

/// The name of the area in a file.
fn area_name(inode: &InodeRef) -> Result<String, Errno> {
    let stat = inode.stat()?;
    Ok(format!("inode {:x}:{}", stat.dev.encode(), stat.ino))
}
