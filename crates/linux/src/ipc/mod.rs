//! System V IPC: objects that live in the machine, found by key and id.
//!
//! - [`ids`]: keys, ids, owners and rights, the same for every kind of object.
//! - [`shm`]: shared memory segments and their attachments.
//!
//! Source: Linux 6.18 ipc/. Neighbours: `syscall/shm` has the calls, `fs/procfs` the files.

pub(crate) mod ids;
pub(crate) mod shm;
