//! Clocks, sleeping and interval timers.
//!
//! All clocks are virtual (see [`crate::time`]): the monotonic ones start at 0 with the machine.

use crate::kernel::Kernel;
use crate::sched::wait::{Sleep, WaitSet, Wake};
use crate::sched::{Restart, SysError};
use crate::signal::{SigInfo, Signal};
use crate::syscall::{Args, Entry, Support, SysFuture, SysResult, waits};
use crate::task::group::IntervalTimer;
use crate::task::{Capability, Task, ThreadGroup};
use crate::time::posix::CpuClock;
use crate::time::{Nanos, SECOND};
use kilburn_addr::{Errno, VirtAddr};
use std::rc::{Rc, Weak};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The calls implemented here.
pub(crate) const TABLE: &[Entry] = &[
    waits!(101, "nanosleep", Support::Full, sys_nanosleep),
    waits!(102, "getitimer", Support::Full, sys_getitimer),
    waits!(103, "setitimer", Support::Full, sys_setitimer),
    waits!(112, "clock_settime", Support::Full, sys_clock_settime),
    waits!(113, "clock_gettime", Support::Full, sys_clock_gettime),
    waits!(114, "clock_getres", Support::Full, sys_clock_getres),
    waits!(115, "clock_nanosleep", Support::Full, sys_clock_nanosleep),
    waits!(169, "gettimeofday", Support::Full, sys_gettimeofday),
    waits!(170, "settimeofday", Support::Full, sys_settimeofday),
];

/// `struct timespec`
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub(crate) struct Timespec {
    pub(crate) sec: i64,
    pub(crate) nsec: i64,
}

impl Timespec {
    /// From nanoseconds.
    pub(crate) fn from_nanos(time: Nanos) -> Self {
        Self { sec: (time / SECOND) as i64, nsec: (time % SECOND) as i64 }
    }

    /// To nanoseconds; `None` when it is no valid duration. What does not fit is as good as for
    /// ever.
    pub(crate) fn to_nanos(self) -> Option<Nanos> {
        if self.sec < 0 || !(0..SECOND as i64).contains(&self.nsec) {
            return None;
        }
        let total = (self.sec as u64).saturating_mul(SECOND).saturating_add(self.nsec as u64);
        // KTIME_MAX
        Some(total.min(i64::MAX as u64))
    }
}

/// `struct timeval`
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub(crate) struct Timeval {
    pub(crate) sec: i64,
    pub(crate) usec: i64,
}

impl Timeval {
    /// From nanoseconds, rounded down.
    pub(crate) fn from_nanos(time: Nanos) -> Self {
        Self { sec: (time / SECOND) as i64, usec: (time % SECOND / 1000) as i64 }
    }

    /// To nanoseconds; `None` when it is no valid duration.
    pub(crate) fn to_nanos(self) -> Option<Nanos> {
        if !(0..1_000_000).contains(&self.usec) {
            return None;
        }
        Timespec { sec: self.sec, nsec: self.usec * 1000 }.to_nanos()
    }
}

/// A clock's number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ClockId(pub(crate) i32);

impl ClockId {
    /// `CLOCK_REALTIME`
    pub(crate) const REALTIME: Self = Self(0);
    /// `CLOCK_MONOTONIC`
    pub(crate) const MONOTONIC: Self = Self(1);
    const PROCESS_CPU: Self = Self(2);
    const THREAD_CPU: Self = Self(3);
    const MONOTONIC_RAW: Self = Self(4);
    const REALTIME_COARSE: Self = Self(5);
    const MONOTONIC_COARSE: Self = Self(6);
    const BOOTTIME: Self = Self(7);
    const REALTIME_ALARM: Self = Self(8);
    const BOOTTIME_ALARM: Self = Self(9);
    const TAI: Self = Self(11);
    /// `TICK_NSEC` of CONFIG_HZ=250, what coarse clocks advance by.
    const COARSE: Nanos = 4_000_000;

    /// What the clock shows to `task`.
    ///
    /// # Errors
    /// EINVAL for a clock there is not.
    pub(crate) fn read(self, task: &Task) -> Result<Nanos, Errno> {
        let kernel = task.kernel();
        Ok(match self {
            Self::REALTIME | Self::TAI | Self::REALTIME_ALARM => kernel.realtime(),
            Self::REALTIME_COARSE => kernel.realtime() / Self::COARSE * Self::COARSE,
            Self::MONOTONIC | Self::MONOTONIC_RAW | Self::BOOTTIME | Self::BOOTTIME_ALARM => {
                kernel.now()
            }
            Self::MONOTONIC_COARSE => kernel.now() / Self::COARSE * Self::COARSE,
            Self::PROCESS_CPU => task.group().cpu_time(),
            Self::THREAD_CPU => task.cpu_time(),
            Self(dynamic) if dynamic < 0 => {
                return dynamic_cpu_clock(task, dynamic)?.read().ok_or(Errno::EINVAL);
            }
            _ => return Err(Errno::EINVAL),
        })
    }

    /// Whose CPU time the clock shows; `None` for the other clocks.
    ///
    /// # Errors
    /// EINVAL for a clock there is not.
    pub(crate) fn cpu_clock(self, task: &Rc<Task>) -> Result<Option<CpuClock>, Errno> {
        match self {
            Self::PROCESS_CPU => Ok(Some(CpuClock::Process(Rc::downgrade(task.group())))),
            Self::THREAD_CPU => Ok(Some(CpuClock::Thread(Rc::downgrade(task)))),
            Self(id) if id < 0 => dynamic_cpu_clock(task, id).map(Some),
            Self(0 | 1 | 4..=9 | 11) => Ok(None),
            _ => Err(Errno::EINVAL),
        }
    }

    fn resolution(self) -> Result<Nanos, Errno> {
        match self {
            Self::REALTIME_COARSE | Self::MONOTONIC_COARSE => Ok(Self::COARSE),
            Self(0..=4 | 7..=9 | 11) => Ok(1),
            Self(dynamic) if dynamic < 0 && dynamic & 7 < 7 => Ok(1),
            _ => Err(Errno::EINVAL),
        }
    }

    /// The monotonic moment at which this clock shows `time`.
    pub(crate) fn to_monotonic(self, kernel: &Kernel, time: Nanos) -> Nanos {
        match self {
            Self::REALTIME | Self::TAI | Self::REALTIME_ALARM => {
                let offset = kernel.realtime() - kernel.now();
                time.saturating_sub(offset)
            }
            _ => time,
        }
    }

    /// Clocks that timers and sleeps can go by.
    pub(crate) fn can_wake(self) -> bool {
        matches!(
            self,
            Self::REALTIME
                | Self::MONOTONIC
                | Self::BOOTTIME
                | Self::REALTIME_ALARM
                | Self::BOOTTIME_ALARM
                | Self::TAI
        )
    }
}

/// CPU-time clocks of a process or thread: `~pid << 3 | per_thread << 2 | which`.
fn dynamic_cpu_clock(task: &Task, id: i32) -> Result<CpuClock, Errno> {
    let pid = !(id >> 3);
    let per_thread = id & 4 != 0;
    if id & 3 == 3 || pid < 0 {
        return Err(Errno::EINVAL);
    }
    let kernel = task.kernel();
    if per_thread {
        let tid = if pid == 0 { task.tid() } else { pid as u32 };
        let thread = kernel.task(tid).ok_or(Errno::EINVAL)?;
        if !Rc::ptr_eq(thread.group(), task.group()) {
            return Err(Errno::EINVAL);
        }
        Ok(CpuClock::Thread(Rc::downgrade(&thread)))
    } else {
        let group = match pid {
            0 => Rc::clone(task.group()),
            pid => kernel.group(pid as u32).ok_or(Errno::EINVAL)?,
        };
        Ok(CpuClock::Process(Rc::downgrade(&group)))
    }
}

async fn sys_clock_gettime(task: &Rc<Task>, args: Args) -> SysResult {
    let time = ClockId(args.int(0)).read(task)?;
    task.write_struct(args.addr(1), &Timespec::from_nanos(time)).await?;
    Ok(0)
}

async fn sys_clock_getres(task: &Rc<Task>, args: Args) -> SysResult {
    let resolution = ClockId(args.int(0)).resolution()?;
    if args.raw(1) != 0 {
        task.write_struct(args.addr(1), &Timespec::from_nanos(resolution)).await?;
    }
    Ok(0)
}

fn set_realtime(task: &Task, time: Nanos) -> SysResult {
    task.require(Capability::SysTime)?;
    let kernel = task.kernel();
    let boot = crate::time::BOOT_REALTIME + kernel.now();
    kernel.realtime_offset.set(time as i64 - boot as i64);
    Ok(0)
}

async fn sys_clock_settime(task: &Rc<Task>, args: Args) -> SysResult {
    let time: Timespec = task.read_struct(args.addr(1)).await?;
    if ClockId(args.int(0)) != ClockId::REALTIME {
        return Err(Errno::EINVAL.into());
    }
    set_realtime(task, time.to_nanos().ok_or(Errno::EINVAL)?)
}

async fn sys_gettimeofday(task: &Rc<Task>, args: Args) -> SysResult {
    if args.raw(0) != 0 {
        let time = Timeval::from_nanos(task.kernel().realtime());
        task.write_struct(args.addr(0), &time).await?;
    }
    if args.raw(1) != 0 {
        // struct timezone: UTC.
        task.write_struct(args.addr(1), &[0_i32; 2]).await?;
    }
    Ok(0)
}

async fn sys_settimeofday(task: &Rc<Task>, args: Args) -> SysResult {
    if args.raw(0) == 0 {
        return Ok(0);
    }
    let time: Timeval = task.read_struct(args.addr(0)).await?;
    set_realtime(task, time.to_nanos().ok_or(Errno::EINVAL)?)
}

/// What a sleep does when a signal ends it early.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Remaining {
    /// An absolute deadline: the call can simply be made again.
    Absolute,
    /// The rest is written here, unless null.
    WriteTo(VirtAddr),
}

async fn sleep_until(task: &Rc<Task>, deadline: Nanos, remaining: Remaining) -> SysResult {
    let mut set = WaitSet::new(task);
    match set.wait(Sleep::Interruptible, Some(deadline)).await {
        Wake::TimedOut | Wake::Woken => return Ok(0),
        Wake::Interrupted => (),
    }
    match remaining {
        Remaining::Absolute => Err(SysError::RESTART_NOHAND),
        Remaining::WriteTo(addr) => {
            if addr != VirtAddr::ZERO {
                let left = deadline.saturating_sub(task.kernel().now());
                task.write_struct(addr, &Timespec::from_nanos(left)).await?;
            }
            task.set_restart(Box::new(move |task| -> SysFuture<'_> {
                Box::pin(sleep_until(task, deadline, remaining))
            }));
            Err(SysError::Restart(Restart::Block))
        }
    }
}

/// Sleeps until others have used CPU time: the clock shows `deadline`.
async fn sleep_by_cpu_time(
    task: &Rc<Task>,
    cpu: CpuClock,
    deadline: Nanos,
    remaining: Remaining,
) -> SysResult {
    loop {
        // What has ended uses no more time; Linux lets the sleeper go as well.
        let (Some(now), Some(group)) = (cpu.read(), cpu.group()) else { return Ok(0) };
        if now >= deadline || group.is_zombie() {
            return Ok(0);
        }
        let mut set = WaitSet::new(task);
        set.add(&group.cpu_passed);
        if set.wait(Sleep::Interruptible, None).await != Wake::Interrupted {
            continue;
        }
        let Remaining::WriteTo(addr) = remaining else { return Err(SysError::RESTART_NOHAND) };
        if addr != VirtAddr::ZERO {
            let left = deadline.saturating_sub(cpu.read().unwrap_or(deadline));
            task.write_struct(addr, &Timespec::from_nanos(left)).await?;
        }
        task.set_restart(Box::new(move |task| -> SysFuture<'_> {
            Box::pin(sleep_by_cpu_time(task, cpu, deadline, remaining))
        }));
        return Err(SysError::Restart(Restart::Block));
    }
}

async fn sys_nanosleep(task: &Rc<Task>, args: Args) -> SysResult {
    let time: Timespec = task.read_struct(args.addr(0)).await?;
    let time = time.to_nanos().ok_or(Errno::EINVAL)?;
    let deadline = task.kernel().now().saturating_add(time);
    sleep_until(task, deadline, Remaining::WriteTo(args.addr(1))).await
}

/// `TIMER_ABSTIME`
const TIMER_ABSTIME: i32 = 1;

async fn sys_clock_nanosleep(task: &Rc<Task>, args: Args) -> SysResult {
    let clock = ClockId(args.int(0));
    let time: Timespec = task.read_struct(args.addr(2)).await?;
    clock.read(task)?;
    let nanos = time.to_nanos().ok_or(Errno::EINVAL)?;
    if clock == ClockId::THREAD_CPU {
        // It would wait for itself.
        return Err(Errno::EINVAL.into());
    }
    if let Some(cpu) = clock.cpu_clock(task)? {
        let absolute = args.int(1) & TIMER_ABSTIME != 0;
        let from = if absolute { 0 } else { cpu.read().ok_or(Errno::EINVAL)? };
        let remaining =
            if absolute { Remaining::Absolute } else { Remaining::WriteTo(args.addr(3)) };
        return sleep_by_cpu_time(task, cpu, from.saturating_add(nanos), remaining).await;
    }
    if !clock.can_wake() {
        // The coarse clocks and CLOCK_MONOTONIC_RAW.
        return Err(Errno::EOPNOTSUPP.into());
    }
    let time = nanos;
    let kernel = task.kernel();
    if args.int(1) & TIMER_ABSTIME != 0 {
        let deadline = clock.to_monotonic(kernel, time);
        return sleep_until(task, deadline, Remaining::Absolute).await;
    }
    let deadline = kernel.now().saturating_add(time);
    sleep_until(task, deadline, Remaining::WriteTo(args.addr(3))).await
}

/// `struct itimerval`
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Itimerval {
    interval: Timeval,
    value: Timeval,
}

/// `struct itimerspec`
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct Itimerspec {
    interval: Timespec,
    value: Timespec,
}

impl Itimerspec {
    /// Interval and value in nanoseconds; `None` when one is no valid duration.
    pub(crate) fn to_nanos(self) -> Option<(Nanos, Nanos)> {
        Some((self.interval.to_nanos()?, self.value.to_nanos()?))
    }
}

impl From<(Nanos, Nanos)> for Itimerspec {
    fn from((interval, value): (Nanos, Nanos)) -> Self {
        Self { interval: Timespec::from_nanos(interval), value: Timespec::from_nanos(value) }
    }
}

/// Which interval timer; each goes by a clock of its own and sends a signal of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Itimer {
    Real,
    Virtual,
    Prof,
}

impl Itimer {
    fn new(number: i32) -> Result<Self, Errno> {
        match number {
            0 => Ok(Self::Real),
            1 => Ok(Self::Virtual),
            2 => Ok(Self::Prof),
            _ => Err(Errno::EINVAL),
        }
    }

    fn cell(self, group: &ThreadGroup) -> &std::cell::Cell<IntervalTimer> {
        match self {
            Self::Real => &group.real_timer,
            Self::Virtual => &group.virtual_timer,
            Self::Prof => &group.prof_timer,
        }
    }

    fn signal(self) -> Signal {
        match self {
            Self::Real => Signal::SIGALRM,
            Self::Virtual => Signal::SIGVTALRM,
            Self::Prof => Signal::SIGPROF,
        }
    }

    fn clock(self, kernel: &Kernel, group: &ThreadGroup) -> Nanos {
        match self {
            Self::Real => kernel.now(),
            Self::Virtual => group.totals().user,
            Self::Prof => group.cpu_time(),
        }
    }

    /// Has the timer looked at when it may be due: the real one at its moment, the others as the
    /// process uses CPU time.
    fn arm(self, kernel: &Kernel, group: &Rc<ThreadGroup>) {
        let state = self.cell(group).get();
        let Some(next) = state.next else { return };
        if self != Self::Real {
            group.watch_cpu_time(group);
            return;
        }
        let weak: Weak<ThreadGroup> = Rc::downgrade(group);
        let look = Box::new(move |kernel: &Kernel| {
            if let Some(group) = weak.upgrade() {
                self.look(kernel, &group);
                self.arm(kernel, &group);
            }
        });
        let timer = Some(kernel.timers().start(next, look));
        self.cell(group).set(IntervalTimer { timer, ..state });
    }

    /// Sends the signal if the timer is due.
    fn look(self, kernel: &Kernel, group: &Rc<ThreadGroup>) {
        let mut state = self.cell(group).get();
        let now = self.clock(kernel, group);
        let Some(next) = state.next.filter(|next| *next <= now) else { return };
        // SIGALRM and its like are no real-time signals: the queue limit is not theirs.
        let _ = group.send(SigInfo::kernel(self.signal()));
        state.timer = None;
        state.next = (state.interval > 0).then(|| {
            let missed = (now - next) / state.interval + 1;
            next.saturating_add(missed.saturating_mul(state.interval))
        });
        self.cell(group).set(state);
    }

    fn read(self, kernel: &Kernel, group: &ThreadGroup) -> Itimerval {
        let state = self.cell(group).get();
        let now = self.clock(kernel, group);
        // A running timer never shows 0: that would mean stopped.
        let left = state.next.map_or(0, |next| next.saturating_sub(now).max(1000));
        Itimerval {
            interval: Timeval::from_nanos(state.interval),
            value: Timeval::from_nanos(left),
        }
    }
}

/// CPU time of `group` passed: its interval timers that go by it are looked at.
pub(crate) fn check_cpu_itimers(kernel: &Kernel, group: &Rc<ThreadGroup>) {
    for timer in [Itimer::Virtual, Itimer::Prof] {
        timer.look(kernel, group);
    }
}

async fn sys_getitimer(task: &Rc<Task>, args: Args) -> SysResult {
    let timer = Itimer::new(args.int(0))?;
    let value = timer.read(task.kernel(), task.group());
    task.write_struct(args.addr(1), &value).await?;
    Ok(0)
}

async fn sys_setitimer(task: &Rc<Task>, args: Args) -> SysResult {
    let new = match args.raw(1) {
        // Linux takes a null value for a stopped timer.
        0 => Itimerval { interval: Timeval::default(), value: Timeval::default() },
        _ => task.read_struct(args.addr(1)).await?,
    };
    let value = new.value.to_nanos().ok_or(Errno::EINVAL)?;
    let interval = new.interval.to_nanos().ok_or(Errno::EINVAL)?;
    let timer = Itimer::new(args.int(0))?;
    let (kernel, group) = (task.kernel(), task.group());
    let old = timer.read(kernel, group);
    if let Some(running) = timer.cell(group).take().timer {
        kernel.timers().cancel(running);
    }
    if value > 0 {
        let next = timer.clock(kernel, group).saturating_add(value);
        timer.cell(group).set(IntervalTimer { next: Some(next), interval, timer: None });
        timer.arm(kernel, group);
    }
    if args.raw(2) != 0 {
        task.write_struct(args.addr(2), &old).await?;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_out_of_range_are_refused_and_huge_ones_mean_for_ever() {
        assert_eq!(Timespec { sec: 1, nsec: 5 }.to_nanos(), Some(SECOND + 5));
        assert_eq!(Timespec { sec: -1, nsec: 0 }.to_nanos(), None);
        assert_eq!(Timespec { sec: 0, nsec: 1_000_000_000 }.to_nanos(), None);
        assert_eq!(Timespec { sec: i64::MAX, nsec: 0 }.to_nanos(), Some(i64::MAX as u64));
        assert_eq!(Timeval { sec: 0, usec: 1_000_000 }.to_nanos(), None);
        assert_eq!(Timeval::from_nanos(1_500_999).usec, 1500);
    }
}
