//! Who a task is: user and group ids and capabilities (Linux `struct cred`).

use std::rc::Rc;

/// A user or group id in the only user namespace there is.
pub(crate) type Id = u32;

/// Capabilities that something here asks for (include/uapi/linux/capability.h).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Capability {
    Chown = 0,
    DacOverride = 1,
    DacReadSearch = 2,
    Fowner = 3,
    Fsetid = 4,
    Kill = 5,
    Setgid = 6,
    Setuid = 7,
    Setpcap = 8,
    NetBindService = 10,
    IpcLock = 14,
    IpcOwner = 15,
    SysRawio = 17,
    SysChroot = 18,
    SysPtrace = 19,
    SysAdmin = 21,
    SysNice = 23,
    SysResource = 24,
    SysTime = 25,
    Mknod = 27,
}

/// All 41 capabilities of Linux 6.18.
pub(crate) const CAP_ALL: u64 = (1 << 41) - 1;

/// `SECBIT_NOROOT`: to exec as root gives no capabilities (include/uapi/linux/securebits.h; the bit
/// above each locks it).
const SECBIT_NOROOT: u32 = 1;
/// `SECBIT_NO_SETUID_FIXUP`: a change of user ids leaves capabilities as they are.
const SECBIT_NO_SETUID_FIXUP: u32 = 1 << 2;
/// `SECBIT_KEEP_CAPS`: who stops being root keeps what is permitted, until the next exec.
pub(crate) const SECBIT_KEEP_CAPS: u32 = 1 << 4;
/// `SECBIT_KEEP_CAPS_LOCKED`
pub(crate) const SECBIT_KEEP_CAPS_LOCKED: u32 = 1 << 5;

/// Credentials; replaced as a whole, so a holder sees one consistent state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Creds {
    pub(crate) uid: Id,
    pub(crate) euid: Id,
    pub(crate) suid: Id,
    pub(crate) fsuid: Id,
    pub(crate) gid: Id,
    pub(crate) egid: Id,
    pub(crate) sgid: Id,
    pub(crate) fsgid: Id,
    /// Supplementary groups, sorted.
    pub(crate) groups: Rc<[Id]>,
    pub(crate) cap_permitted: u64,
    pub(crate) cap_effective: u64,
    pub(crate) cap_inheritable: u64,
    pub(crate) cap_bounding: u64,
    pub(crate) cap_ambient: u64,
    pub(crate) securebits: u32,
    pub(crate) no_new_privs: bool,
}

impl Creds {
    /// The superuser with all capabilities.
    pub(crate) fn root() -> Self {
        Self {
            uid: 0,
            euid: 0,
            suid: 0,
            fsuid: 0,
            gid: 0,
            egid: 0,
            sgid: 0,
            fsgid: 0,
            groups: Rc::from([]),
            cap_permitted: CAP_ALL,
            cap_effective: CAP_ALL,
            cap_inheritable: 0,
            cap_bounding: CAP_ALL,
            cap_ambient: 0,
            securebits: 0,
            no_new_privs: false,
        }
    }

    /// Whether `capability` is effective.
    pub(crate) fn has_cap(&self, capability: Capability) -> bool {
        self.cap_effective & 1 << capability as u8 != 0
    }

    /// Capabilities after exec of a file without any of its own (Linux security/commoncap.c:
    /// `cap_bprm_creds_from_file`): root gets all it may, others keep the ambient ones.
    pub(crate) fn recompute_caps_for_exec(&mut self) {
        let special = !self.is_secure(SECBIT_NOROOT);
        let root = special && (self.uid == 0 || self.euid == 0);
        self.cap_permitted =
            if root { self.cap_bounding | self.cap_inheritable } else { self.cap_ambient };
        self.cap_effective =
            if special && self.euid == 0 { self.cap_permitted } else { self.cap_ambient };
        self.securebits &= !SECBIT_KEEP_CAPS;
    }

    /// Whether a security bit is set.
    pub(crate) fn is_secure(&self, bit: u32) -> bool {
        self.securebits & bit != 0
    }

    /// Whether `group` is the file-system group or a supplementary one (Linux `in_group_p`).
    pub(crate) fn in_group(&self, group: Id) -> bool {
        self.fsgid == group || self.groups.binary_search(&group).is_ok()
    }
}

impl Creds {
    /// Capabilities follow the user ids, unless the security bits say otherwise (Linux
    /// security/commoncap.c: `cap_task_fix_setuid`, `cap_emulate_setxuid`).
    pub(crate) fn fix_caps_after_setuid(&mut self, old: &Self) {
        if self.is_secure(SECBIT_NO_SETUID_FIXUP) {
            return;
        }
        let was_root = [old.uid, old.euid, old.suid].contains(&0);
        let is_root = [self.uid, self.euid, self.suid].contains(&0);
        if was_root && !is_root {
            if !self.is_secure(SECBIT_KEEP_CAPS) {
                self.cap_permitted = 0;
                self.cap_effective = 0;
            }
            self.cap_ambient = 0;
        }
        if old.euid == 0 && self.euid != 0 {
            self.cap_effective = 0;
        }
        if old.euid != 0 && self.euid == 0 {
            self.cap_effective = self.cap_permitted;
        }
    }
}
