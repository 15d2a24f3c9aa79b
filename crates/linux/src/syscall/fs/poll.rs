//! ppoll and pselect6: waiting for several files at once.
//!
//! Both gather descriptors and events ([`Watched`]), look at each file, and sleep in the wait
//! queues of all of them until one says something, time runs out, or a signal comes. Source: Linux
//! 6.18 fs/select.c. Neighbours: [`crate::sched::wait`]; epoll is [`super::epoll`].

use crate::fs::{OpenFile, PollEvents};
use crate::sched::wait::{Sleep, WaitSet, Wake};
use crate::syscall::{Args, Entry, Support, SysError, SysResult, waits};
use crate::task::Task;
use crate::task::limits::Resource;
use crate::time::Nanos;
use kilburn_addr::{Errno, VirtAddr};
use std::rc::Rc;

pub(super) const TABLE: &[Entry] = &[
    waits!(72, "pselect6", Support::Full, sys_pselect6),
    waits!(73, "ppoll", Support::Full, sys_ppoll),
];

/// One descriptor to wait for.
struct Watched {
    file: Option<Rc<OpenFile>>,
    wanted: PollEvents,
    ready: PollEvents,
}

impl Watched {
    fn look(&mut self) -> bool {
        self.ready = match &self.file {
            None => PollEvents::empty(),
            Some(file) => {
                let always = PollEvents::ERR | PollEvents::HUP | PollEvents::NVAL;
                file.ops().poll(file) & (self.wanted | always)
            }
        };
        !self.ready.is_empty()
    }
}

/// Waits until something is ready; answers how many are.
async fn wait_ready(
    task: &Rc<Task>,
    watched: &mut [Watched],
    deadline: Option<Nanos>,
) -> Result<usize, SysError> {
    loop {
        let ready = watched.iter_mut().filter_map(|w| w.look().then_some(())).count();
        if ready > 0 || deadline == Some(0) {
            return Ok(ready);
        }
        let mut set = WaitSet::new(task);
        for file in watched.iter().filter_map(|w| w.file.as_ref()) {
            for queue in file.ops().wait_queues() {
                set.add(&queue);
            }
        }
        match set.wait(Sleep::Interruptible, deadline).await {
            Wake::Woken => {}
            Wake::TimedOut => {
                return Ok(watched.iter_mut().filter_map(|w| w.look().then_some(())).count());
            }
            Wake::Interrupted => return Err(SysError::RESTART_NOHAND),
        }
    }
}

/// A `struct timespec` for a relative timeout: the deadline, 0 for "do not wait", `None` for ever.
pub(super) async fn deadline_arg(task: &Rc<Task>, addr: VirtAddr) -> Result<Option<Nanos>, Errno> {
    if addr == VirtAddr::ZERO {
        return Ok(None);
    }
    let mut raw = [0; 16];
    task.copy_in(addr, &mut raw).await?;
    let (seconds, nanos) = raw.split_at(8);
    let seconds = i64::from_le_bytes(seconds.try_into().map_err(|_| Errno::EFAULT)?);
    let nanos = i64::from_le_bytes(nanos.try_into().map_err(|_| Errno::EFAULT)?);
    if seconds < 0 || !(0..1_000_000_000).contains(&nanos) {
        return Err(Errno::EINVAL);
    }
    if (seconds, nanos) == (0, 0) {
        return Ok(Some(0));
    }
    let wait = (seconds as u64).saturating_mul(1_000_000_000).saturating_add(nanos as u64);
    Ok(Some(task.kernel().now().saturating_add(wait)))
}

/// Linux writes the time left back where the timeout was read.
async fn write_left(task: &Rc<Task>, addr: VirtAddr, deadline: Option<Nanos>) {
    let Some(deadline) = deadline.filter(|_| addr != VirtAddr::ZERO) else { return };
    let left = deadline.saturating_sub(task.kernel().now());
    let mut raw = [0; 16];
    raw[..8].copy_from_slice(&(left / 1_000_000_000).to_le_bytes());
    raw[8..].copy_from_slice(&(left % 1_000_000_000).to_le_bytes());
    // As Linux: a timeout in read-only memory is no error.
    let _ = task.copy_out(addr, &raw).await;
}

async fn sys_ppoll(task: &Rc<Task>, args: Args) -> SysResult {
    let (addr, count) = (args.addr(0), u64::from(args.uint(1)));
    let deadline = deadline_arg(task, args.addr(2)).await?;
    let mask = super::poll_mask(task, args.addr(3), args.raw(4)).await?;
    if count > task.rlimit(Resource::Nofile) {
        return Err(Errno::EINVAL.into());
    }
    let mut raw = vec![0; count as usize * 8];
    task.copy_in(addr, &mut raw).await?;
    let files = task.files();
    let mut invalid = 0;
    let mut watched = Vec::with_capacity(count as usize);
    for entry in raw.chunks_exact_mut(8) {
        let fd = i32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]);
        let wanted = u32::from(u16::from_le_bytes([entry[4], entry[5]]));
        let file = if fd < 0 { None } else { files.get(fd).ok() };
        if fd >= 0 && file.is_none() {
            entry[6..].copy_from_slice(&(PollEvents::NVAL.bits() as u16).to_le_bytes());
            invalid += 1;
        } else {
            entry[6..].fill(0);
        }
        let wanted = PollEvents::from_bits_truncate(wanted);
        watched.push(Watched { file, wanted, ready: PollEvents::empty() });
    }
    super::block_until_return(task, mask);
    let limit = if invalid > 0 { Some(0) } else { deadline };
    let answer = wait_ready(task, &mut watched, limit).await;
    super::unblock_now(task, &answer);
    let ready = answer? as u64 + invalid;
    for (entry, watched) in raw.chunks_exact_mut(8).zip(&watched) {
        if watched.file.is_some() {
            entry[6..].copy_from_slice(&(watched.ready.bits() as u16).to_le_bytes());
        }
    }
    task.copy_out(addr, &raw).await?;
    write_left(task, args.addr(2), deadline).await;
    Ok(ready)
}

/// What each of select's three sets asks for, and what in an answer counts for it.
const SETS: [(PollEvents, PollEvents); 3] = [
    (
        PollEvents::READABLE.union(PollEvents::RDBAND).union(PollEvents::RDHUP),
        PollEvents::READABLE
            .union(PollEvents::RDBAND)
            .union(PollEvents::HUP)
            .union(PollEvents::ERR),
    ),
    (
        PollEvents::WRITABLE.union(PollEvents::WRBAND),
        PollEvents::WRITABLE.union(PollEvents::WRBAND).union(PollEvents::ERR),
    ),
    (PollEvents::PRI, PollEvents::PRI),
];

async fn sys_pselect6(task: &Rc<Task>, args: Args) -> SysResult {
    let count = usize::try_from(args.int(0)).map_err(|_| Errno::EINVAL)?;
    let deadline = deadline_arg(task, args.addr(4)).await?;
    // The sixth argument points to a mask's address and size.
    let mut mask = None;
    if args.addr(5) != VirtAddr::ZERO {
        let mut raw = [0; 16];
        task.copy_in(args.addr(5), &mut raw).await?;
        let (at, size) = raw.split_at(8);
        let at = u64::from_le_bytes(at.try_into().map_err(|_| Errno::EFAULT)?);
        let size = u64::from_le_bytes(size.try_into().map_err(|_| Errno::EFAULT)?);
        mask = super::poll_mask(task, VirtAddr::new(at), size).await?;
    }
    let files = task.files();
    let count = count.min(files.size() as usize);
    let bytes = count.div_ceil(64) * 8;
    let mut sets = [vec![0u8; bytes], vec![0; bytes], vec![0; bytes]];
    for (i, set) in sets.iter_mut().enumerate() {
        if args.addr(i + 1) != VirtAddr::ZERO {
            task.copy_in(args.addr(i + 1), set).await?;
        }
    }
    let mut watched = Vec::new();
    let mut fds = Vec::new();
    for fd in 0..count {
        let asked = |set: &[u8]| set[fd / 8] & 1 << (fd % 8) != 0;
        let wanted = SETS.iter().zip(&sets).filter(|(_, set)| asked(set));
        let wanted = wanted.fold(PollEvents::empty(), |all, ((wanted, _), _)| all | *wanted);
        if !wanted.is_empty() {
            let file = Some(files.get(fd as i32)?);
            watched.push(Watched { file, wanted, ready: PollEvents::empty() });
            fds.push(fd);
        }
    }
    super::block_until_return(task, mask);
    let answer = select(task, &mut watched, &fds, &sets, deadline).await;
    super::unblock_now(task, &answer);
    let mut ready = 0;
    answer?;
    for (set, (_, counts)) in sets.iter_mut().zip(SETS) {
        let asked = std::mem::replace(set, vec![0; bytes]);
        for (watched, fd) in watched.iter().zip(&fds) {
            let bit = 1 << (fd % 8);
            if asked[fd / 8] & bit != 0 && watched.ready.intersects(counts) {
                set[fd / 8] |= bit;
                ready += 1;
            }
        }
    }
    for (i, set) in sets.iter().enumerate() {
        if args.addr(i + 1) != VirtAddr::ZERO {
            task.copy_out(args.addr(i + 1), set).await?;
        }
    }
    write_left(task, args.addr(4), deadline).await;
    Ok(ready)
}

/// As [`wait_ready`], but what is ready must count for a set it was asked in.
async fn select(
    task: &Rc<Task>,
    watched: &mut [Watched],
    fds: &[usize],
    sets: &[Vec<u8>; 3],
    deadline: Option<Nanos>,
) -> Result<usize, SysError> {
    for (watched, fd) in watched.iter_mut().zip(fds) {
        for (set, (_, counts)) in sets.iter().zip(SETS) {
            if set[fd / 8] & 1 << (fd % 8) != 0 {
                watched.wanted |= counts;
            }
        }
    }
    wait_ready(task, watched, deadline).await
}
