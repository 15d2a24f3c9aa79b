//! Keeping the ways back from pages to areas in step with the areas
//! (Linux `vma_prepare`, `vma_complete`).
//!
//! [`Links`] watches every change of an address space's areas and keeps two indexes: the file's
//! [`crate::page_cache::i_mmap::IMmap`] and the area list of its [`crate::AnonVma`]. It also tells
//! device mappings of areas that come and go.

use crate::anon_vma::AnonVma;
use crate::areas::{AreaWatch, Vma};
use crate::{Host, Mm};
use kilburn_addr::{AddrRange, VmFlags};

/// Told of every change of an address space's areas.
pub(crate) struct Links<'a, H: Host>(pub(crate) &'a Mm<H>);

impl<H: Host> Links<'_, H> {
    fn link(&self, vma: &Vma<H>) {
        if let Some(mapping) = vma.file.as_ref().and_then(|file| file.mapping()) {
            let shared_writable = VmFlags::SHARED | VmFlags::MAYWRITE;
            mapping.i_mmap.lock().link(
                self.0,
                vma.range,
                vma.pgoff,
                vma.flags.contains(shared_writable),
            );
        }
        if let Some(anon_vma) = vma.anon_vma.get() {
            anon_vma.link(self.0, vma.range, vma.pgoff);
        }
    }

    fn unlink(&self, vma: &Vma<H>, range: AddrRange, pgoff: u64) {
        if let Some(mapping) = vma.file.as_ref().and_then(|file| file.mapping()) {
            mapping.i_mmap.lock().unlink(self.0, range, pgoff);
        }
        if let Some(anon_vma) = vma.anon_vma.get() {
            anon_vma.unlink(self.0, range);
        }
    }

    /// An area got its `AnonVma` after it was linked.
    pub(crate) fn link_anon(mm: &Mm<H>, vma: &Vma<H>, anon_vma: &AnonVma<H>) {
        anon_vma.link(mm, vma.range, vma.pgoff);
    }
}

impl<H: Host> AreaWatch<H> for Links<'_, H> {
    fn inserted(&mut self, vma: &Vma<H>) {
        self.link(vma);
        if let Some(device) = vma.file.as_ref().and_then(|file| file.ops()) {
            device.open(vma.range);
        }
    }

    fn removed(&mut self, vma: &Vma<H>) {
        self.unlink(vma, vma.range, vma.pgoff);
        if let Some(device) = vma.file.as_ref().and_then(|file| file.ops()) {
            device.close(vma.range);
        }
    }

    fn resized(&mut self, from: AddrRange, vma: &Vma<H>) {
        let moved = from.start().vpn().wrapping_sub(vma.start().vpn());
        self.unlink(vma, from, vma.pgoff.wrapping_add(moved));
        self.link(vma);
    }
}
