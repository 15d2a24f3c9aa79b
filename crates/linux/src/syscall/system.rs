//! Calls about the machine and about a task's odds and ends: names, limits, prctl, hwprobe.

use crate::signal::Signal;
use crate::syscall::{Args, Entry, Support, SysResult, now, waits};
use crate::task::creds::{SECBIT_KEEP_CAPS, SECBIT_KEEP_CAPS_LOCKED};
use crate::task::limits::Limit;
use crate::task::{Capability, Creds, Resource, Task};
use crate::time::SECOND;
use kilburn_addr::{Errno, VirtAddr};
use std::rc::Rc;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Release that `uname` gives: the version of Linux whose behaviour this is.
pub(crate) const RELEASE: &str = "6.18.0-kilburn";
/// `uname -v`
pub(crate) const VERSION: &str = "#1 SMP Kilburn";

/// The calls implemented here.
pub(crate) const TABLE: &[Entry] = &[
    now(92, "personality", Support::Full, sys_personality),
    waits!(160, "uname", Support::Full, sys_uname),
    waits!(161, "sethostname", Support::Full, sys_sethostname),
    waits!(162, "setdomainname", Support::Full, sys_setdomainname),
    waits!(163, "getrlimit", Support::Full, sys_getrlimit),
    waits!(164, "setrlimit", Support::Full, sys_setrlimit),
    waits!(167, "prctl", Support::Partial("what programs use; others EINVAL"), sys_prctl),
    waits!(179, "sysinfo", Support::Full, sys_sysinfo),
    waits!(258, "riscv_hwprobe", Support::Full, sys_riscv_hwprobe),
    now(259, "riscv_flush_icache", Support::Full, sys_riscv_flush_icache),
    waits!(261, "prlimit64", Support::Full, sys_prlimit64),
    waits!(278, "getrandom", Support::Full, sys_getrandom),
    now(283, "membarrier", Support::Full, sys_membarrier),
];

fn sys_personality(task: &Rc<Task>, args: Args) -> SysResult {
    let old = task.personality.get();
    let new = args.uint(0);
    if new != u32::MAX {
        // PER_MASK: only Linux's own personality exists; the flags are kept, and those that
        // concern memory are honoured.
        task.personality.set(new);
    }
    Ok(old.into())
}

/// Bytes of a field of `struct new_utsname`.
const UTS_FIELD: usize = 65;

async fn sys_uname(task: &Rc<Task>, args: Args) -> SysResult {
    let kernel = task.kernel();
    let (node, domain) = (kernel.hostname.borrow().clone(), kernel.domainname.borrow().clone());
    let fields: [&[u8]; 6] =
        [b"Linux", &node, RELEASE.as_bytes(), VERSION.as_bytes(), b"riscv64", &domain];
    let mut bytes = [0; 6 * UTS_FIELD];
    for (room, field) in bytes.chunks_exact_mut(UTS_FIELD).zip(fields) {
        let len = field.len().min(UTS_FIELD - 1);
        room[..len].copy_from_slice(&field[..len]);
    }
    task.copy_out(args.addr(0), &bytes).await?;
    Ok(0)
}

async fn new_name(task: &Rc<Task>, args: Args) -> Result<Vec<u8>, Errno> {
    task.require(Capability::SysAdmin)?;
    if !(0..UTS_FIELD as i32).contains(&args.int(1)) {
        return Err(Errno::EINVAL);
    }
    let mut name = vec![0; args.int(1) as usize];
    task.copy_in(args.addr(0), &mut name).await?;
    Ok(name)
}

async fn sys_sethostname(task: &Rc<Task>, args: Args) -> SysResult {
    let name = new_name(task, args).await?;
    task.kernel().hostname.replace(name);
    Ok(0)
}

async fn sys_setdomainname(task: &Rc<Task>, args: Args) -> SysResult {
    let name = new_name(task, args).await?;
    task.kernel().domainname.replace(name);
    Ok(0)
}

/// `sysctl_nr_open`: hard limit of RLIMIT_NOFILE.
const NR_OPEN: u64 = 1 << 20;

fn change_limit(task: &Task, target: &Task, resource: Resource, new: Limit) -> Result<(), Errno> {
    let limits = &target.group().limits;
    if new.soft > new.hard {
        return Err(Errno::EINVAL);
    }
    if resource == Resource::Nofile && new.hard > NR_OPEN {
        return Err(Errno::EPERM);
    }
    if new.hard > limits.get(resource).hard {
        task.require(Capability::SysResource)?;
    }
    limits.set(resource, new);
    Ok(())
}

async fn sys_getrlimit(task: &Rc<Task>, args: Args) -> SysResult {
    let resource = Resource::new(args.uint(0)).ok_or(Errno::EINVAL)?;
    let limit = task.group().limits.get(resource);
    task.write_struct(args.addr(1), &[limit.soft, limit.hard]).await?;
    Ok(0)
}

async fn sys_setrlimit(task: &Rc<Task>, args: Args) -> SysResult {
    let [soft, hard]: [u64; 2] = task.read_struct(args.addr(1)).await?;
    let resource = Resource::new(args.uint(0)).ok_or(Errno::EINVAL)?;
    change_limit(task, task, resource, Limit { soft, hard })?;
    Ok(0)
}

async fn sys_prlimit64(task: &Rc<Task>, args: Args) -> SysResult {
    let resource = Resource::new(args.uint(1));
    let new: Option<[u64; 2]> = match args.raw(2) {
        0 => None,
        _ => Some(task.read_struct(args.addr(2)).await?),
    };
    let target = match args.int(0) {
        0 => Rc::clone(task),
        pid => {
            let found = u32::try_from(pid).ok().and_then(|pid| task.kernel().task(pid));
            found.ok_or(Errno::ESRCH)?
        }
    };
    let (own, other) = (task.creds(), target.creds());
    let same = [other.uid, other.euid, other.suid].iter().all(|id| *id == own.uid);
    if !Rc::ptr_eq(task.group(), target.group()) && !same && !own.has_cap(Capability::SysResource) {
        return Err(Errno::EPERM.into());
    }
    let resource = resource.ok_or(Errno::EINVAL)?;
    let old = target.group().limits.get(resource);
    if let Some([soft, hard]) = new {
        change_limit(task, &target, resource, Limit { soft, hard })?;
    }
    if args.raw(3) != 0 {
        task.write_struct(args.addr(3), &[old.soft, old.hard]).await?;
    }
    Ok(0)
}

/// `struct sysinfo`
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct Sysinfo {
    uptime: i64,
    loads: [u64; 3],
    totalram: u64,
    freeram: u64,
    sharedram: u64,
    bufferram: u64,
    totalswap: u64,
    freeswap: u64,
    procs: u16,
    pad: [u16; 3],
    totalhigh: u64,
    freehigh: u64,
    mem_unit: u32,
    tail: u32,
}

async fn sys_sysinfo(task: &Rc<Task>, args: Args) -> SysResult {
    let kernel = task.kernel();
    let counts = kernel.memory.counts();
    let page = kilburn_addr::PAGE_SIZE;
    let info = Sysinfo {
        uptime: kernel.now().div_ceil(SECOND) as i64,
        loads: [0; 3],
        totalram: counts.total * page,
        freeram: counts.free * page,
        sharedram: counts.shmem * page,
        bufferram: 0,
        totalswap: 0,
        freeswap: 0,
        procs: kernel.task_count() as u16,
        pad: [0; 3],
        totalhigh: 0,
        freehigh: 0,
        mem_unit: 1,
        tail: 0,
    };
    task.write_struct(args.addr(0), &info).await?;
    Ok(0)
}

/// `GRND_NONBLOCK | GRND_RANDOM | GRND_INSECURE`
const GRND_ALL: u32 = 7;

async fn sys_getrandom(task: &Rc<Task>, args: Args) -> SysResult {
    let flags = args.uint(2);
    if flags & !GRND_ALL != 0 || flags & 6 == 6 {
        return Err(Errno::EINVAL.into());
    }
    // MAX_RW_COUNT; chunks, so that a huge request takes no memory of the host's.
    let total = args.raw(1).min(0x7fff_f000);
    let mut done = 0;
    let mut chunk = [0; 4096];
    while done < total {
        let count = (total - done).min(4096) as usize;
        task.kernel().random_bytes(&mut chunk[..count]);
        let to = args.addr(0).checked_add(done).ok_or(Errno::EFAULT)?;
        let copied = task.copy_out_partial(to, &chunk[..count]).await;
        done += copied as u64;
        if copied < count {
            return if done == 0 { Err(Errno::EFAULT.into()) } else { Ok(done) };
        }
    }
    Ok(done)
}

/// A key of riscv_hwprobe and its value.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct HwprobePair {
    key: i64,
    value: u64,
}

/// `RISCV_HWPROBE_BASE_BEHAVIOR_IMA`
const BEHAVIOR_IMA: u64 = 1;
/// `RISCV_HWPROBE_IMA_FD | RISCV_HWPROBE_IMA_C`
const EXT_FD_C: u64 = 3;
/// `RISCV_HWPROBE_MISALIGNED_FAST`: the hart takes no longer for misaligned scalars.
const MISALIGNED_FAST: u64 = 3;

async fn sys_riscv_hwprobe(task: &Rc<Task>, args: Args) -> SysResult {
    let [pairs, count, cpusetsize, cpus, flags, _] = args.0;
    // RISCV_HWPROBE_WHICH_CPUS reverses the question; all harts are alike.
    let which_cpus = flags & 1 != 0;
    if flags & !1 != 0 || which_cpus && (cpusetsize == 0 || cpus == 0) {
        return Err(Errno::EINVAL.into());
    }
    let mut all_match = true;
    for i in 0..count {
        let at = pairs.checked_add(i.saturating_mul(16)).ok_or(Errno::EFAULT)?;
        let at = VirtAddr::new(at);
        let pair: HwprobePair = task.read_struct(at).await?;
        let answer = hwprobe_value(task, pair.key);
        let answered = HwprobePair {
            key: if answer.is_some() { pair.key } else { -1 },
            value: answer.unwrap_or(0),
        };
        if which_cpus {
            all_match &= answer.is_some_and(|value| value & pair.value == pair.value);
        } else {
            task.write_struct(at, &answered).await?;
        }
    }
    if which_cpus && !all_match {
        let empty = vec![0; cpusetsize.min(128) as usize];
        task.copy_out(VirtAddr::new(cpus), &empty).await?;
    }
    Ok(0)
}

fn hwprobe_value(task: &Task, key: i64) -> Option<u64> {
    let task_size = task.with_mm(|mm| mm.layout().task_size().get());
    Some(match key {
        // mvendorid, marchid, mimpid: not assigned.
        0..=2 => 0,
        3 => BEHAVIOR_IMA,
        4 => EXT_FD_C,
        5 | 9 => MISALIGNED_FAST,
        // Zicboz block size: no such instruction.
        6 => 0,
        7 => task_size? - 1,
        // TIME_CSR_FREQ: 10 MHz.
        8 => 10_000_000,
        // Misaligned vectors: unsupported.
        10 => 4,
        _ => return None,
    })
}

fn sys_riscv_flush_icache(_: &Rc<Task>, args: Args) -> SysResult {
    // SYS_RISCV_FLUSH_ICACHE_LOCAL is the only flag. Harts see writes to code by themselves.
    if args.raw(2) & !1 != 0 { Err(Errno::EINVAL.into()) } else { Ok(0) }
}

/// What `MEMBARRIER_CMD_QUERY` announces: global, and private expedited with its registration.
const MEMBARRIER_COMMANDS: u32 = 1 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 9;

fn sys_membarrier(task: &Rc<Task>, args: Args) -> SysResult {
    let (command, flags) = (args.uint(0), args.uint(1));
    if flags != 0 {
        return Err(Errno::EINVAL.into());
    }
    let registered = &task.group().membarrier;
    match command {
        0 => Ok(MEMBARRIER_COMMANDS.into()),
        // Harts run one after the other: whoever calls this sees all memory in order.
        1 | 2 => Ok(0),
        4 | 16 => {
            registered.set(registered.get() | command);
            Ok(0)
        }
        8 if registered.get() & 16 != 0 => Ok(0),
        8 => Err(Errno::EPERM.into()),
        // MEMBARRIER_CMD_GET_REGISTRATIONS
        512 => Ok(registered.get().into()),
        _ => Err(Errno::EINVAL.into()),
    }
}

mod option {
    pub(super) const SET_PDEATHSIG: i32 = 1;
    pub(super) const GET_PDEATHSIG: i32 = 2;
    pub(super) const GET_DUMPABLE: i32 = 3;
    pub(super) const SET_DUMPABLE: i32 = 4;
    pub(super) const GET_KEEPCAPS: i32 = 7;
    pub(super) const SET_KEEPCAPS: i32 = 8;
    pub(super) const GET_TIMING: i32 = 13;
    pub(super) const SET_TIMING: i32 = 14;
    pub(super) const SET_NAME: i32 = 15;
    pub(super) const GET_NAME: i32 = 16;
    pub(super) const GET_SECCOMP: i32 = 21;
    pub(super) const CAPBSET_READ: i32 = 23;
    pub(super) const CAPBSET_DROP: i32 = 24;
    pub(super) const GET_SECUREBITS: i32 = 27;
    pub(super) const SET_SECUREBITS: i32 = 28;
    pub(super) const SET_TIMERSLACK: i32 = 29;
    pub(super) const GET_TIMERSLACK: i32 = 30;
    pub(super) const SET_CHILD_SUBREAPER: i32 = 36;
    pub(super) const GET_CHILD_SUBREAPER: i32 = 37;
    pub(super) const SET_NO_NEW_PRIVS: i32 = 38;
    pub(super) const GET_NO_NEW_PRIVS: i32 = 39;
    pub(super) const GET_TID_ADDRESS: i32 = 40;
    pub(super) const GET_THP_DISABLE: i32 = 42;
    pub(super) const CAP_AMBIENT: i32 = 47;
    pub(super) const SET_VMA: i32 = 0x5356_4d41;
}

async fn sys_prctl(task: &Rc<Task>, args: Args) -> SysResult {
    let group = task.group();
    let [_, a, b, c, d, _] = args.0;
    let rest_is_zero = b == 0 && c == 0 && d == 0;
    match args.int(0) {
        option::SET_PDEATHSIG => {
            task.pdeath_signal.set(match a {
                0 => None,
                n => Some(i32::try_from(n).ok().and_then(Signal::new).ok_or(Errno::EINVAL)?),
            });
        }
        option::GET_PDEATHSIG => {
            let number = task.pdeath_signal.get().map_or(0, |s| i32::from(s.number()));
            task.write_struct(args.addr(1), &number).await?;
        }
        option::GET_DUMPABLE => return Ok(group.dumpable.get().into()),
        option::SET_DUMPABLE if a <= 1 => group.dumpable.set(a as u32),
        option::GET_TIMING | option::GET_SECCOMP => return Ok(0),
        option::GET_KEEPCAPS => return Ok(task.creds().is_secure(SECBIT_KEEP_CAPS).into()),
        option::SET_KEEPCAPS if a <= 1 => {
            let old = task.creds();
            if old.is_secure(SECBIT_KEEP_CAPS_LOCKED) {
                return Err(Errno::EPERM.into());
            }
            let keep = if a == 1 { SECBIT_KEEP_CAPS } else { 0 };
            let securebits = old.securebits & !SECBIT_KEEP_CAPS | keep;
            task.set_creds(Creds { securebits, ..Creds::clone(&old) });
        }
        option::SET_TIMING if a == 0 => (),
        option::SET_NAME => {
            let mut name = task.read_cstr_prefix(args.addr(1), 15).await?;
            name.truncate(15);
            task.set_comm(&name);
        }
        option::GET_NAME => task.copy_out(args.addr(1), &task.comm()).await?,
        option::CAPBSET_READ if a <= 40 => {
            return Ok(task.creds().cap_bounding >> a & 1);
        }
        option::CAPBSET_DROP if a <= 40 => {
            task.require(Capability::Setpcap)?;
            let old = task.creds();
            let cap_bounding = old.cap_bounding & !(1 << a);
            task.set_creds(Creds { cap_bounding, ..Creds::clone(&old) });
        }
        option::SET_SECUREBITS => {
            task.require(Capability::Setpcap)?;
            // Bits in pairs: one switches, the next one locks it (include/uapi/linux/securebits.h).
            let old = task.creds();
            let new = a as u32;
            let locked = (old.securebits & 0xaa) >> 1;
            let unlocks = old.securebits & 0xaa & !new != 0;
            if a > 0xff || unlocks || (old.securebits ^ new) & locked != 0 {
                return Err(Errno::EPERM.into());
            }
            task.set_creds(Creds { securebits: new, ..Creds::clone(&old) });
        }
        option::GET_SECUREBITS => return Ok(task.creds().securebits.into()),
        option::SET_TIMERSLACK => {
            let default = task.default_timer_slack.get();
            task.timer_slack.set(if a as i64 <= 0 { default } else { a });
        }
        option::GET_TIMERSLACK => return Ok(task.timer_slack.get()),
        option::SET_CHILD_SUBREAPER => group.is_subreaper.set(a != 0),
        option::GET_CHILD_SUBREAPER => {
            task.write_struct(args.addr(1), &i32::from(group.is_subreaper.get())).await?;
        }
        option::SET_NO_NEW_PRIVS if a == 1 && rest_is_zero => {
            let old = task.creds();
            task.set_creds(Creds { no_new_privs: true, ..Creds::clone(&old) });
        }
        option::GET_NO_NEW_PRIVS if a == 0 && rest_is_zero => {
            return Ok(task.creds().no_new_privs.into());
        }
        option::GET_TID_ADDRESS => {
            task.write_struct(args.addr(1), &task.clear_child_tid.get().get()).await?;
        }
        option::GET_THP_DISABLE if a == 0 && rest_is_zero => return Ok(0),
        option::CAP_AMBIENT => return cap_ambient(task, args),
        // Naming anonymous areas needs CONFIG_ANON_VMA_NAME, which Debian's kernel is without.
        option::SET_VMA => return Err(Errno::EINVAL.into()),
        _ => return Err(Errno::EINVAL.into()),
    }
    Ok(0)
}

fn cap_ambient(task: &Rc<Task>, args: Args) -> SysResult {
    let old = task.creds();
    let bit = 1_u64.checked_shl(args.uint(2)).filter(|_| args.raw(2) <= 40);
    let (is_set, raise, lower, clear) = (1, 2, 3, 4);
    let rest = if args.raw(1) == clear { args.raw(2) } else { 0 };
    if rest != 0 || args.raw(3) != 0 || args.raw(4) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let new = match args.raw(1) {
        command if command == is_set => {
            return Ok((old.cap_ambient & bit.ok_or(Errno::EINVAL)? != 0).into());
        }
        command if command == raise => {
            let bit = bit.ok_or(Errno::EINVAL)?;
            if old.cap_permitted & old.cap_inheritable & bit == 0 {
                return Err(Errno::EPERM.into());
            }
            old.cap_ambient | bit
        }
        command if command == lower => old.cap_ambient & !bit.ok_or(Errno::EINVAL)?,
        command if command == clear => 0,
        _ => return Err(Errno::EINVAL.into()),
    };
    task.set_creds(Creds { cap_ambient: new, ..Creds::clone(&old) });
    Ok(0)
}
