//! The faulting side (Linux 6.18 fs/userfaultfd.c: `handle_userfault`).

use super::{Fault, Features, Message, Progress, Userfaultfd, WaitingFault};
use crate::fault::Site;
use crate::{Host, Mm};
use alloc::sync::{Arc, Weak};
use core::sync::atomic::Ordering;
use kilburn_addr::{Access, VirtAddr, VmFlags};
use kilburn_paging::Entry;

/// A fault that waits for a monitor, as [`Mm::userfault_waits`] knows it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct UserfaultWait {
    context: u64,
    ticket: u64,
}

/// On whose behalf a page is faulted in, as far as waiting for a monitor is concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Waiter {
    /// An access of the thread itself.
    User(u32),
    /// An access of the kernel for the thread.
    Kernel(u32),
    /// Somebody who cannot wait.
    None,
}

/// Why a monitor is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reason {
    Missing,
    Minor,
}

impl<H: Host> Mm<H> {
    /// Whether the fault that answered [`Fault::Userfault`] still waits. When not, the access is
    /// to be tried again.
    pub fn userfault_waits(&self, wait: UserfaultWait) -> bool {
        self.watcher(wait)
            .is_some_and(|watcher| watcher.waiting.lock().faults.contains_key(&wait.ticket))
    }

    /// Whoever waited does not any more: a signal came.
    pub fn cancel_userfault(&self, wait: UserfaultWait) {
        if let Some(watcher) = self.watcher(wait) {
            watcher.waiting.lock().faults.remove(&wait.ticket);
        }
    }

    fn watcher(&self, wait: UserfaultWait) -> Option<Arc<Userfaultfd<H>>> {
        let watchers = self.userfaults.lock();
        watchers.iter().filter_map(Weak::upgrade).find(|one| one.id == wait.context)
    }

    /// Whether a monitor is to supply the page, whose entry was found empty: `Err` then. `Ok` when
    /// the kernel does.
    pub(crate) fn ask_monitor(&self, site: &Site<'_, H>, addr: VirtAddr) -> Result<(), Fault> {
        let Some(reason) = reason(site) else { return Ok(()) };
        if site.is_write() && !site.vma.flags.contains(VmFlags::SHARED) {
            // Linux prepares for the private page before it looks who supplies it.
            self.prepare_anon_vma(site.state, site.vma);
        }
        let Some(watcher) = site.vma.userfault() else { return Err(Fault::Bus) };
        if watcher.features().contains(Features::SIGBUS) {
            return Err(Fault::Bus);
        }
        let thread = match site.waiter {
            Waiter::User(thread) => thread,
            Waiter::Kernel(thread) if !watcher.user_mode_only => thread,
            Waiter::Kernel(_) | Waiter::None => return Err(Fault::Bus),
        };
        let wait = watcher.enqueue(message(site, addr, reason, watcher.features(), thread));
        // What a monitor did between the look at the entry and now would wake nobody.
        if self.lock_leaf(site.va).tables.query(site.va) != Entry::None
            || watcher.released.load(Ordering::Acquire)
        {
            self.cancel_userfault(wait);
            return Ok(());
        }
        watcher.watch.readable();
        Err(Fault::Userfault(wait))
    }
}

fn reason<H: Host>(site: &Site<'_, H>) -> Option<Reason> {
    let flags = site.vma.flags;
    let missing = flags.contains(VmFlags::UFFD_MISSING);
    let Some(mapping) = site.vma.file.and_then(|file| file.mapping()) else {
        return missing.then_some(Reason::Missing);
    };
    if site.index() >= mapping.size_pages() {
        return None;
    }
    match mapping.has_page(site.index()) {
        true => flags.contains(VmFlags::UFFD_MINOR).then_some(Reason::Minor),
        false => missing.then_some(Reason::Missing),
    }
}

fn message<H: Host>(
    site: &Site<'_, H>,
    addr: VirtAddr,
    reason: Reason,
    features: Features,
    thread: u32,
) -> Message {
    let exact = features.contains(Features::EXACT_ADDRESS);
    Message {
        address: if exact { addr.get() } else { site.va.get() },
        write: site.access == Access::Write,
        minor: reason == Reason::Minor,
        thread: features.contains(Features::THREAD_ID).then_some(thread),
    }
}

impl<H: Host> Userfaultfd<H> {
    fn enqueue(&self, message: Message) -> UserfaultWait {
        let mut waiting = self.waiting.lock();
        let ticket = waiting.next_ticket;
        waiting.next_ticket += 1;
        waiting.faults.insert(ticket, WaitingFault { message, progress: Progress::Pending });
        UserfaultWait { context: self.id, ticket }
    }
}
