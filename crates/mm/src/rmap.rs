//! The ways back from pages to areas, kept in step with the areas
//! (Linux `vma_prepare`, `vma_complete`; mm/rmap.c).
//!
//! [`Links`] watches every change of an address space's areas and keeps two indexes, both
//! [`interval::IntervalTree`]s: the file's [`crate::page_cache::i_mmap::IMmap`] and the areas of its
//! [`crate::AnonVma`]. It also tells device mappings of areas that come and go. [`walk`] goes from a
//! frame to the entries that map it; [`snapshot`] tells all of it to who draws it.

pub(crate) mod interval;
pub(crate) mod snapshot;
pub(crate) mod walk;

use crate::areas::{AreaWatch, VmaRef};
use crate::{Host, Mm};
use kilburn_addr::AddrRange;

/// Told of every change of an address space's areas.
pub(crate) struct Links<'a, H: Host>(pub(crate) &'a Mm<H>);

impl<H: Host> Links<'_, H> {
    fn link(&self, vma: VmaRef<'_, H>) {
        if let Some(mapping) = vma.file.and_then(|file| file.mapping()) {
            mapping.i_mmap.lock().link(self.0, vma);
        }
        if let Some(anon_vma) = vma.anon_vma.get() {
            anon_vma.link(self.0, vma);
        }
    }

    fn unlink(&self, vma: VmaRef<'_, H>, range: AddrRange, pgoff: u64) {
        if let Some(mapping) = vma.file.and_then(|file| file.mapping()) {
            mapping.i_mmap.lock().unlink(self.0, range, pgoff);
        }
        if let Some(anon_vma) = vma.anon_vma.get() {
            anon_vma.unlink(self.0, range, pgoff);
        }
    }
}

impl<H: Host> AreaWatch<H> for Links<'_, H> {
    fn inserted(&mut self, vma: VmaRef<'_, H>) {
        self.link(vma);
        if let Some(device) = vma.file.and_then(|file| file.ops()) {
            device.open(vma.range);
        }
    }

    fn removed(&mut self, vma: VmaRef<'_, H>) {
        self.unlink(vma, vma.range, vma.pgoff);
        if let Some(device) = vma.file.and_then(|file| file.ops()) {
            device.close(vma.range);
        }
    }

    fn resized(&mut self, from: AddrRange, vma: VmaRef<'_, H>) {
        let moved = from.start().vpn().wrapping_sub(vma.start().vpn());
        self.unlink(vma, from, vma.pgoff.wrapping_add(moved));
        self.link(vma);
    }

    fn reflagged(&mut self, vma: VmaRef<'_, H>) {
        if let Some(mapping) = vma.file.and_then(|file| file.mapping()) {
            mapping.i_mmap.lock().reflag(self.0, vma);
        }
        if let Some(anon_vma) = vma.anon_vma.get() {
            anon_vma.reflag(self.0, vma);
        }
    }
}
