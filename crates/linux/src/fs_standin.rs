//! Stand-in for what the file layer will bring; goes when it is there.

use crate::config::{MachineConfig, MachineError};
use crate::fs::{FdTable, FsStruct, Vfs};
use crate::host::{MachineHost, Memory};
use crate::kernel::Kernel;
use crate::task::Creds;
use kilburn_addr::Errno;
use kilburn_mm::{FileForMap, MappedFile};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

impl Vfs {
    pub(crate) fn new_for_machine(
        _: &MachineConfig,
        _: &Arc<Memory>,
    ) -> Result<Rc<Self>, MachineError> {
        Err(MachineError::Config("no file layer yet".into()))
    }
    pub(crate) fn attach(&self, _: &Rc<Kernel>) {}
    pub(crate) fn first_files(&self, _: &[u8]) -> Result<(Rc<FsStruct>, Rc<FdTable>), Errno> {
        Err(Errno::ENOENT)
    }
    pub(crate) fn open_exec(
        &self,
        _: &Creds,
        _: &FsStruct,
        _: &crate::fs::dentry::Path,
        _: &[u8],
    ) -> Result<ExecFile, Errno> {
        Err(Errno::ENOENT)
    }
    pub(crate) fn waits_for_host(&self) -> bool {
        false
    }
    pub(crate) fn host_input_is_terminal(&self) -> bool {
        false
    }
    pub(crate) fn host_wait(&self, _: Option<Duration>) -> bool {
        false
    }
    pub(crate) fn captured(&self) -> (Vec<u8>, Vec<u8>) {
        Default::default()
    }
}

pub(crate) struct ExecFile;

impl ExecFile {
    pub(crate) fn read_at(&self, _: u64, _: &mut [u8]) -> Result<usize, Errno> {
        Ok(0)
    }
    pub(crate) fn mode(&self) -> u32 {
        0
    }
    pub(crate) fn uid(&self) -> u32 {
        0
    }
    pub(crate) fn gid(&self) -> u32 {
        0
    }
    pub(crate) fn mapped(&self) -> Arc<dyn MappedFile<MachineHost>> {
        unreachable!()
    }
}

impl crate::fs::OpenFile {
    pub(crate) fn for_mmap(&self) -> Result<FileForMap<MachineHost>, Errno> {
        Err(Errno::ENODEV)
    }
}
