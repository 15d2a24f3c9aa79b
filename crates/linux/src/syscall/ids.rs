//! Who a task is: process, group and session ids, user and group ids, capabilities.

use crate::syscall::{Args, Entry, Support, SysResult, now, waits};
use crate::task::creds::{CAP_ALL, Creds, Id};
use crate::task::{Capability, Task, ThreadGroup, Tid};
use kilburn_addr::Errno;
use std::rc::Rc;

/// The calls implemented here.
pub(crate) const TABLE: &[Entry] = &[
    waits!(90, "capget", Support::Full, sys_capget),
    waits!(91, "capset", Support::Full, sys_capset),
    now(143, "setregid", Support::Full, |task, args| set_ids(task, args, Kind::Group, Form::Re)),
    now(144, "setgid", Support::Full, |task, args| set_ids(task, args, Kind::Group, Form::One)),
    now(145, "setreuid", Support::Full, |task, args| set_ids(task, args, Kind::User, Form::Re)),
    now(146, "setuid", Support::Full, |task, args| set_ids(task, args, Kind::User, Form::One)),
    now(147, "setresuid", Support::Full, |task, args| set_ids(task, args, Kind::User, Form::Res)),
    waits!(148, "getresuid", Support::Full, sys_getresuid),
    now(149, "setresgid", Support::Full, |task, args| set_ids(task, args, Kind::Group, Form::Res)),
    waits!(150, "getresgid", Support::Full, sys_getresgid),
    now(151, "setfsuid", Support::Full, sys_setfsuid),
    now(152, "setfsgid", Support::Full, sys_setfsgid),
    now(154, "setpgid", Support::Full, sys_setpgid),
    now(155, "getpgid", Support::Full, sys_getpgid),
    now(156, "getsid", Support::Full, sys_getsid),
    now(157, "setsid", Support::Full, sys_setsid),
    waits!(158, "getgroups", Support::Full, sys_getgroups),
    waits!(159, "setgroups", Support::Full, sys_setgroups),
    now(172, "getpid", Support::Full, |task, _| Ok(task.tgid().into())),
    now(173, "getppid", Support::Full, |task, _| Ok(task.group().ppid().into())),
    now(174, "getuid", Support::Full, |task, _| Ok(task.creds().uid.into())),
    now(175, "geteuid", Support::Full, |task, _| Ok(task.creds().euid.into())),
    now(176, "getgid", Support::Full, |task, _| Ok(task.creds().gid.into())),
    now(177, "getegid", Support::Full, |task, _| Ok(task.creds().egid.into())),
    now(178, "gettid", Support::Full, |task, _| Ok(task.tid().into())),
];

/// The process a pid argument names; 0 is the caller's.
fn group_argument(task: &Rc<Task>, pid: i32) -> Result<Rc<ThreadGroup>, Errno> {
    match pid {
        0 => Ok(Rc::clone(task.group())),
        pid => u32::try_from(pid).ok().and_then(|pid| task.kernel().group(pid)).ok_or(Errno::ESRCH),
    }
}

fn sys_setpgid(task: &Rc<Task>, args: Args) -> SysResult {
    let target = group_argument(task, args.int(0))?;
    if args.int(1) < 0 {
        return Err(Errno::EINVAL.into());
    }
    let pgid = match args.uint(1) {
        0 => target.tgid(),
        pgid => pgid,
    };
    let own = task.group();
    let is_child = target.parent().is_some_and(|parent| Rc::ptr_eq(&parent, own));
    if is_child {
        if target.sid != own.sid {
            return Err(Errno::EPERM.into());
        }
        if target.has_execed.get() {
            return Err(Errno::EACCES.into());
        }
    } else if !Rc::ptr_eq(&target, own) {
        return Err(Errno::ESRCH.into());
    }
    if target.sid.get() == target.tgid() {
        // A session leader stays in its group.
        return Err(Errno::EPERM.into());
    }
    if pgid != target.tgid() {
        let same_session =
            task.kernel().process_group(pgid).iter().any(|member| member.sid == own.sid);
        if !same_session {
            return Err(Errno::EPERM.into());
        }
    }
    target.pgid.set(pgid);
    Ok(0)
}

fn sys_getpgid(task: &Rc<Task>, args: Args) -> SysResult {
    Ok(group_argument(task, args.int(0))?.pgid.get().into())
}

fn sys_getsid(task: &Rc<Task>, args: Args) -> SysResult {
    Ok(group_argument(task, args.int(0))?.sid.get().into())
}

fn sys_setsid(task: &Rc<Task>, _: Args) -> SysResult {
    let group = task.group();
    let id: Tid = group.tgid();
    if group.sid.get() == id || !task.kernel().process_group(id).is_empty() {
        return Err(Errno::EPERM.into());
    }
    group.sid.set(id);
    group.pgid.set(id);
    group.tty.replace(None);
    Ok(id.into())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    User,
    Group,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// set*id(id)
    One,
    /// setre*id(real, effective)
    Re,
    /// setres*id(real, effective, saved)
    Res,
}

/// "Leave as it is".
const KEEP: Id = Id::MAX;

/// Real, effective and saved id of one kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Ids {
    real: Id,
    effective: Id,
    saved: Id,
}

impl Ids {
    /// What the call makes of these ids (Linux kernel/sys.c: `__sys_setuid`, `__sys_setreuid`,
    /// `__sys_setresuid` and the group forms).
    fn changed(self, form: Form, args: [Id; 3], privileged: bool) -> Result<Self, Errno> {
        let [a, b, c] = args;
        let known =
            |id: Id| id == KEEP || id == self.real || id == self.effective || id == self.saved;
        let keep = |id: Id, old: Id| if id == KEEP { old } else { id };
        match form {
            Form::One if a == KEEP => Err(Errno::EINVAL),
            Form::One if privileged => Ok(Self { real: a, effective: a, saved: a }),
            Form::One if a == self.real || a == self.saved => Ok(Self { effective: a, ..self }),
            Form::One => Err(Errno::EPERM),
            Form::Re => {
                let real_known = a == KEEP || a == self.real || a == self.effective;
                if !privileged && (!real_known || !known(b)) {
                    return Err(Errno::EPERM);
                }
                let new =
                    Self { real: keep(a, self.real), effective: keep(b, self.effective), ..self };
                let follow = a != KEEP || b != KEEP && b != self.real;
                Ok(if follow { Self { saved: new.effective, ..new } } else { new })
            }
            Form::Res => {
                if !(privileged || known(a) && known(b) && known(c)) {
                    return Err(Errno::EPERM);
                }
                Ok(Self {
                    real: keep(a, self.real),
                    effective: keep(b, self.effective),
                    saved: keep(c, self.saved),
                })
            }
        }
    }
}

fn set_ids(task: &Rc<Task>, args: Args, kind: Kind, form: Form) -> SysResult {
    let old = task.creds();
    let mut new = Creds::clone(&old);
    let wanted = [args.uint(0), args.uint(1), args.uint(2)];
    match kind {
        Kind::User => {
            let ids = Ids { real: old.uid, effective: old.euid, saved: old.suid };
            let ids = ids.changed(form, wanted, old.has_cap(Capability::Setuid))?;
            (new.uid, new.euid, new.suid, new.fsuid) =
                (ids.real, ids.effective, ids.saved, ids.effective);
            new.fix_caps_after_setuid(&old);
        }
        Kind::Group => {
            let ids = Ids { real: old.gid, effective: old.egid, saved: old.sgid };
            let ids = ids.changed(form, wanted, old.has_cap(Capability::Setgid))?;
            (new.gid, new.egid, new.sgid, new.fsgid) =
                (ids.real, ids.effective, ids.saved, ids.effective);
        }
    }
    if new.euid != old.euid || new.egid != old.egid {
        task.group().dumpable.set(0);
        task.pdeath_signal.set(None);
    }
    task.set_creds(new);
    Ok(0)
}

async fn sys_getresuid(task: &Rc<Task>, args: Args) -> SysResult {
    let creds = task.creds();
    for (i, id) in [creds.uid, creds.euid, creds.suid].into_iter().enumerate() {
        task.write_struct(args.addr(i), &id).await?;
    }
    Ok(0)
}

async fn sys_getresgid(task: &Rc<Task>, args: Args) -> SysResult {
    let creds = task.creds();
    for (i, id) in [creds.gid, creds.egid, creds.sgid].into_iter().enumerate() {
        task.write_struct(args.addr(i), &id).await?;
    }
    Ok(0)
}

fn sys_setfsuid(task: &Rc<Task>, args: Args) -> SysResult {
    let old = task.creds();
    let id = args.uint(0);
    let allowed =
        [old.uid, old.euid, old.suid, old.fsuid].contains(&id) || old.has_cap(Capability::Setuid);
    if id != KEEP && allowed {
        task.set_creds(Creds { fsuid: id, ..Creds::clone(&old) });
    }
    // Always the old id, never an error.
    Ok(old.fsuid.into())
}

fn sys_setfsgid(task: &Rc<Task>, args: Args) -> SysResult {
    let old = task.creds();
    let id = args.uint(0);
    let allowed =
        [old.gid, old.egid, old.sgid, old.fsgid].contains(&id) || old.has_cap(Capability::Setgid);
    if id != KEEP && allowed {
        task.set_creds(Creds { fsgid: id, ..Creds::clone(&old) });
    }
    Ok(old.fsgid.into())
}

/// `NGROUPS_MAX`
const NGROUPS_MAX: i32 = 65536;

async fn sys_getgroups(task: &Rc<Task>, args: Args) -> SysResult {
    let groups = Rc::clone(&task.creds().groups);
    let room = args.int(0);
    if room < 0 {
        return Err(Errno::EINVAL.into());
    }
    if room != 0 {
        if groups.len() > room as usize {
            return Err(Errno::EINVAL.into());
        }
        let bytes: Vec<u8> = groups.iter().flat_map(|id| id.to_le_bytes()).collect();
        task.copy_out(args.addr(1), &bytes).await?;
    }
    Ok(groups.len() as u64)
}

async fn sys_setgroups(task: &Rc<Task>, args: Args) -> SysResult {
    task.require(Capability::Setgid)?;
    let count = args.int(0);
    if !(0..=NGROUPS_MAX).contains(&count) {
        return Err(Errno::EINVAL.into());
    }
    let mut bytes = vec![0; count as usize * 4];
    task.copy_in(args.addr(1), &mut bytes).await?;
    let mut groups: Vec<Id> =
        bytes.chunks_exact(4).map(|id| Id::from_le_bytes([id[0], id[1], id[2], id[3]])).collect();
    groups.sort_unstable();
    task.set_creds(Creds { groups: groups.into(), ..Creds::clone(&task.creds()) });
    Ok(0)
}

const CAPABILITY_VERSION_1: u32 = 0x1998_0330;
const CAPABILITY_VERSION_2: u32 = 0x2007_1026;
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// Number of 32-bit words a set takes in the version of the header at argument 0; an unknown one
/// is answered with ours.
async fn cap_words(task: &Rc<Task>, args: Args) -> Result<(usize, i32), Errno> {
    let [version, pid]: [u32; 2] = task.read_struct(args.addr(0)).await?;
    match version {
        CAPABILITY_VERSION_1 => Ok((1, pid as i32)),
        CAPABILITY_VERSION_2 | CAPABILITY_VERSION_3 => Ok((2, pid as i32)),
        _ => {
            task.write_struct(args.addr(0), &CAPABILITY_VERSION_3).await?;
            Err(Errno::EINVAL)
        }
    }
}

async fn sys_capget(task: &Rc<Task>, args: Args) -> SysResult {
    let (words, pid) = match cap_words(task, args).await {
        Ok(found) => found,
        // Asking for the version with no data is how it is meant to be found out.
        Err(Errno::EINVAL) if args.raw(1) == 0 => return Ok(0),
        Err(errno) => return Err(errno.into()),
    };
    if pid < 0 {
        return Err(Errno::EINVAL.into());
    }
    let creds = match pid {
        0 => task.creds(),
        pid => task.kernel().task(pid as Tid).ok_or(Errno::ESRCH)?.creds(),
    };
    if args.raw(1) != 0 {
        let sets = [creds.cap_effective, creds.cap_permitted, creds.cap_inheritable];
        let bytes: Vec<u8> = (0..words)
            .flat_map(|word| sets.map(|set| (set >> (32 * word)) as u32))
            .flat_map(u32::to_le_bytes)
            .collect();
        task.copy_out(args.addr(1), &bytes).await?;
    }
    Ok(0)
}

async fn sys_capset(task: &Rc<Task>, args: Args) -> SysResult {
    let (words, pid) = cap_words(task, args).await?;
    if pid != 0 && pid as Tid != task.tid() {
        return Err(Errno::EPERM.into());
    }
    let mut sets = [0_u64; 3];
    for word in 0..words {
        let at = args.addr(1).checked_add(word as u64 * 12).ok_or(Errno::EFAULT)?;
        let halves: [u32; 3] = task.read_struct(at).await?;
        for (set, half) in sets.iter_mut().zip(halves) {
            *set |= u64::from(half) << (32 * word);
        }
    }
    let [effective, permitted, inheritable] = sets.map(|set| set & CAP_ALL);
    let old = task.creds();
    let within = |set: u64, of: u64| set & !of == 0;
    let may_inherit = old.has_cap(Capability::Setpcap)
        || within(inheritable, old.cap_inheritable | old.cap_permitted);
    if !may_inherit
        || !within(inheritable, old.cap_inheritable | old.cap_bounding)
        || !within(permitted, old.cap_permitted)
        || !within(effective, permitted)
    {
        return Err(Errno::EPERM.into());
    }
    task.set_creds(Creds {
        cap_effective: effective,
        cap_permitted: permitted,
        cap_inheritable: inheritable,
        cap_ambient: old.cap_ambient & permitted & inheritable,
        ..Creds::clone(&old)
    });
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: Ids = Ids { real: 1000, effective: 1001, saved: 1002 };

    #[test]
    fn an_ordinary_user_moves_among_its_own_ids_only() {
        let one = |id| USER.changed(Form::One, [id, 0, 0], false);
        assert_eq!(one(1002), Ok(Ids { effective: 1002, ..USER }));
        assert_eq!(one(0), Err(Errno::EPERM));
        assert_eq!(
            USER.changed(Form::Res, [1002, 1000, 1001], false),
            Ok(Ids { real: 1002, effective: 1000, saved: 1001 })
        );
        assert_eq!(USER.changed(Form::Res, [KEEP, 5, KEEP], false), Err(Errno::EPERM));
    }

    #[test]
    fn setreuid_moves_the_saved_id_when_the_real_one_was_set() {
        assert_eq!(USER.changed(Form::Re, [1001, KEEP, 0], false).map(|ids| ids.saved), Ok(1001));
        assert_eq!(USER.changed(Form::Re, [KEEP, 1000, 0], false).map(|ids| ids.saved), Ok(1002));
    }

    #[test]
    fn the_superuser_sets_all_three() {
        let root = Ids { real: 0, effective: 0, saved: 0 };
        let expect = Ids { real: 7, effective: 7, saved: 7 };
        assert_eq!(root.changed(Form::One, [7, 0, 0], true), Ok(expect));
    }
}
