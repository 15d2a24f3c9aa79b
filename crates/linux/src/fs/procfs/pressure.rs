//! Open files of `/proc/pressure`: figures to read, and a request to be told of pressure to write
//! (Linux 6.18 kernel/sched/psi.c: `psi_write`, `psi_trigger_poll`).
//!
//! Neighbour: [`crate::sched::psi`].

use super::file::ProcFile;
use super::{Node, ProcFs};
use crate::fs::file::{FileOps, OpenFile, PollEvents, Whence};
use crate::sched::psi::Resource;
use crate::sched::psi::trigger::{Privilege, Request, Trigger};
use crate::sched::wait::WaitQueue;
use crate::task::Capability;
use kilburn_addr::Errno;
use std::any::Any;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

/// One open file.
pub(super) struct PressureFile {
    fs: Arc<ProcFs>,
    resource: Resource,
    text: ProcFile,
    trigger: RefCell<Option<Rc<Trigger>>>,
}

impl PressureFile {
    pub(super) fn new(fs: Arc<ProcFs>, node: Node, resource: Resource) -> Self {
        let text = ProcFile::new(Arc::clone(&fs), node);
        Self { fs, resource, text, trigger: RefCell::default() }
    }
}

impl FileOps for PressureFile {
    fn read(&self, file: &OpenFile, pos: u64, into: &mut [u8]) -> Result<usize, Errno> {
        self.text.read(file, pos, into)
    }

    fn write(&self, _file: &OpenFile, _pos: u64, from: &[u8]) -> Result<usize, Errno> {
        if from.is_empty() {
            return Err(Errno::EINVAL);
        }
        let mut trigger = self.trigger.borrow_mut();
        if trigger.is_some() {
            return Err(Errno::EBUSY);
        }
        let may = self.fs.current()?.creds().has_cap(Capability::SysResource);
        let privilege = if may { Privilege::Resource } else { Privilege::None };
        let request = Request::parse(from, privilege)?;
        let kernel = self.fs.kernel()?;
        *trigger = Some(kernel.psi.watch(kernel.now(), self.resource, request));
        Ok(from.len())
    }

    /// `psi_write` leaves it.
    fn moves_by_writing(&self) -> bool {
        false
    }

    fn seek(&self, file: &OpenFile, offset: i64, whence: Whence) -> Result<u64, Errno> {
        self.text.seek(file, offset, whence)
    }

    fn poll(&self, _file: &OpenFile) -> PollEvents {
        let news = match &*self.trigger.borrow() {
            None => PollEvents::ERR | PollEvents::PRI,
            Some(trigger) if trigger.take() => PollEvents::PRI,
            Some(_) => PollEvents::empty(),
        };
        PollEvents::ALWAYS | news
    }

    fn wait_queue(&self) -> Option<WaitQueue> {
        self.trigger.borrow().as_ref().map(|trigger| trigger.queue.clone())
    }

    fn can_epoll(&self) -> bool {
        true
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
