//! Who wants to be told of pressure (Linux 6.18 kernel/sched/psi.c: `psi_trigger_create`, `update_triggers`).
//!
//! A [`Trigger`] is an open file of `/proc/pressure` that `some 150000 1000000` was written to: 150 ms of stalls within a second. It
//! is looked at ten times a window, while tasks stall, and tells at most once a window.
//!
//! No timer of its own keeps a machine going in which nobody stalls: [`Psi::next_look`] says when there is something to look for.

use super::{PERIOD, Psi, Resource};
use crate::sched::wait::WaitQueue;
use crate::time::Nanos;
use kilburn_addr::Errno;
use std::cell::Cell;
use std::rc::{Rc, Weak};

/// Bytes of what is written that count (the buffer of `psi_write`).
const TEXT_MAX: usize = 32;
/// `WINDOW_MAX_US`
const WINDOW_MAX_US: u32 = 10_000_000;
/// Looks in a window (`UPDATES_PER_WINDOW`).
const LOOKS: u64 = 10;
/// Windows of who may not use resources at will are multiples of this: that often averages are taken.
const UNPRIVILEGED_STEP_US: u32 = 2_000_000;

/// Who may ask for what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Privilege {
    /// `CAP_SYS_RESOURCE`
    Resource,
    /// None.
    None,
}

/// So much stalling in so long a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Request {
    full: bool,
    threshold: Nanos,
    window: Nanos,
    /// How often it is looked at.
    period: Nanos,
}

/// A number as `sscanf`'s `%u` takes it: blanks, digits; what is too large wraps.
fn number(text: &[u8]) -> Option<(u32, &[u8])> {
    let text = text.trim_ascii_start();
    let len = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let digits = &text[..len];
    let value = digits
        .iter()
        .fold(0_u32, |value, digit| value.wrapping_mul(10).wrapping_add(u32::from(digit - b'0')));
    (len > 0).then_some((value, &text[len..]))
}

impl Request {
    /// What `text` asks for. The last byte does not count: a line ends there.
    ///
    /// # Errors
    /// EINVAL for anything else than "some" or "full", a threshold and a window in microseconds, as Linux limits them.
    pub(crate) fn parse(text: &[u8], privilege: Privilege) -> Result<Self, Errno> {
        let text = &text[..text.len().min(TEXT_MAX)];
        let (_, text) = text.split_last().ok_or(Errno::EINVAL)?;
        let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
        let (full, rest) = match (text.strip_prefix(b"some"), text.strip_prefix(b"full")) {
            (Some(rest), _) => (false, rest),
            (_, Some(rest)) => (true, rest),
            _ => return Err(Errno::EINVAL),
        };
        let (threshold, rest) = number(rest).ok_or(Errno::EINVAL)?;
        let (window, _) = number(rest).ok_or(Errno::EINVAL)?;
        if window > WINDOW_MAX_US || threshold == 0 || threshold > window {
            return Err(Errno::EINVAL);
        }
        let nanos = |micros: u32| u64::from(micros) * 1000;
        let window_ns = nanos(window);
        let period = match privilege {
            Privilege::Resource => window_ns / LOOKS,
            Privilege::None if window.is_multiple_of(UNPRIVILEGED_STEP_US) => PERIOD,
            Privilege::None => return Err(Errno::EINVAL),
        };
        Ok(Self { full, threshold: nanos(threshold), window: window_ns, period: period.max(1) })
    }
}

/// A window and what was lost in it (Linux `psi_window`).
#[derive(Clone, Copy, Default)]
struct Window {
    start: Nanos,
    value: Nanos,
    grown_before: Nanos,
}

/// An open file that wants to be told.
pub(crate) struct Trigger {
    request: Request,
    state: usize,
    window: Cell<Window>,
    /// The state's time when it was last looked at.
    seen: Cell<Nanos>,
    next_look: Cell<Nanos>,
    /// There was so much stalling, which nobody was told of yet.
    is_pending: Cell<bool>,
    last_told: Cell<Nanos>,
    /// Told, and not polled since.
    is_told: Cell<bool>,
    /// Woken when there is something to poll for.
    pub(crate) queue: WaitQueue,
}

impl Trigger {
    /// Whether there was pressure since this was last asked.
    pub(crate) fn take(&self) -> bool {
        self.is_told.take()
    }

    /// Stalling within the window that ends now (Linux `window_update`).
    fn growth(&self, now: Nanos, total: Nanos) -> Nanos {
        let window = self.window.get();
        let grown = total - window.value;
        let elapsed = now - window.start;
        if elapsed > self.request.window {
            self.window.set(Window { start: now, value: total, grown_before: grown });
            return grown;
        }
        let left = u128::from(self.request.window - elapsed);
        let before = u128::from(window.grown_before) * left / u128::from(self.request.window);
        grown + before as u64
    }

    fn look(&self, now: Nanos, total: Nanos) {
        self.next_look.set(now + self.request.period);
        if self.seen.replace(total) != total && self.growth(now, total) >= self.request.threshold {
            self.is_pending.set(true);
        }
        if self.is_pending.get() && now >= self.last_told.get() + self.request.window {
            self.is_pending.set(false);
            self.last_told.set(now);
            if !self.is_told.replace(true) {
                self.queue.wake_all();
            }
        }
    }

    /// When there is something to look for, if the state has held for `total`.
    fn due(&self, total: Nanos) -> Option<Nanos> {
        let told = self.last_told.get() + self.request.window;
        if self.is_pending.get() {
            Some(told.max(self.next_look.get()))
        } else {
            (self.seen.get() != total).then(|| self.next_look.get())
        }
    }
}

impl Psi {
    /// Who asks is told of stalls from `now` on.
    pub(crate) fn watch(&self, now: Nanos, resource: Resource, request: Request) -> Rc<Trigger> {
        self.catch_up(now);
        let state = 2 * resource as usize + usize::from(request.full);
        let value = self.group.borrow().total[state];
        let trigger = Rc::new(Trigger {
            request,
            state,
            window: Cell::new(Window { start: now, value, grown_before: 0 }),
            seen: Cell::new(value),
            next_look: Cell::new(now + request.period),
            is_pending: Cell::new(false),
            last_told: Cell::new(0),
            is_told: Cell::new(false),
            queue: WaitQueue::new(),
        });
        self.triggers.borrow_mut().push(Rc::downgrade(&trigger));
        trigger
    }

    /// Tells those whose turn it is.
    #[inline]
    pub(crate) fn look(&self, now: Nanos) {
        if !self.triggers.borrow().is_empty() {
            self.look_at_triggers(now);
        }
    }

    #[cold]
    fn look_at_triggers(&self, now: Nanos) {
        self.catch_up(now);
        let totals = self.group.borrow().total;
        self.triggers.borrow_mut().retain(|trigger| {
            let Some(trigger) = Weak::upgrade(trigger) else { return false };
            if now >= trigger.next_look.get() {
                trigger.look(now, totals[trigger.state]);
            }
            true
        });
    }

    /// When somebody may have to be told; `None` as long as nobody stalls.
    pub(crate) fn next_look(&self) -> Option<Nanos> {
        let totals = self.group.borrow().total;
        let triggers = self.triggers.borrow();
        triggers.iter().filter_map(Weak::upgrade).filter_map(|t| t.due(totals[t.state])).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sched::psi::Stall;

    const MS: Nanos = 1_000_000;

    fn parse(text: &str) -> Option<(bool, Nanos, Nanos)> {
        let request = Request::parse(text.as_bytes(), Privilege::Resource).ok()?;
        Some((request.full, request.threshold / 1000, request.window / 1000))
    }

    /// As a real kernel answered (riscv64, 6.12).
    #[test]
    fn text_is_read_as_linux_reads_it() {
        let some = |threshold, window| Some((false, threshold, window));
        for (text, expected) in [
            ("some 150000 1000000\n", some(150_000, 1_000_000)),
            ("some 150000 1000000\0", some(150_000, 1_000_000)),
            ("full 150000 1000000\n", Some((true, 150_000, 1_000_000))),
            // The last byte is lost.
            ("some 150000 1000000", None),
            ("some 1 1000000", some(1, 100_000)),
            ("some1 1000000\n", some(1, 1_000_000)),
            ("some\t1\n1000000\n", some(1, 1_000_000)),
            ("some 000001 1000000 junk\n", some(1, 1_000_000)),
            ("some 4294967297 2000000\n", some(1, 2_000_000)),
            ("some 1 1\n", some(1, 1)),
            ("some 1 10000000\n", some(1, 10_000_000)),
            ("some 1 10000001\n", None),
            ("some 2 1\n", None),
            ("some 0 1000000\n", None),
            ("some -1 2000000\n", None),
            ("some +1 2000000\n", None),
            ("some 0x10 2000000\n", None),
            ("some 150000,1000000\n", None),
            (" some 1 1000000\n", None),
            ("SOME 1 1000000\n", None),
            ("some 1\n", None),
            ("junk\n", None),
            ("\n", None),
            ("", None),
        ] {
            assert_eq!(parse(text), expected, "{text:?}");
        }
        let long = format!("some 150000 1000000{}", " ".repeat(20));
        assert_eq!(parse(&long), some(150_000, 1_000_000));
    }

    #[test]
    fn who_has_no_privilege_waits_for_averages() {
        let parse = |text: &[u8]| Request::parse(text, Privilege::None);
        assert_eq!(parse(b"some 1 1000000\n"), Err(Errno::EINVAL));
        assert_eq!(parse(b"some 1 4000000\n").map(|request| request.period), Ok(PERIOD));
    }

    #[test]
    fn a_trigger_tells_once_a_window_and_only_of_enough() {
        let psi = Psi::new(1);
        let request = Request::parse(b"some 100000 1000000\n", Privilege::Resource);
        let trigger = psi.watch(5000 * MS, Resource::Io, request.expect("a request"));
        let stall = |from: Nanos, ms: Nanos| {
            psi.begin(from, Stall::Io);
            psi.end(from + ms * MS, Stall::Io);
            psi.look(from + 100 * MS);
            trigger.take()
        };
        assert_eq!(psi.next_look(), None);
        assert!(!stall(5000 * MS, 50));
        assert!(stall(5200 * MS, 60), "110 ms within the second");
        // More of it is told when the window is over, though nobody stalls any more.
        assert!(!stall(5400 * MS, 90));
        let next = psi.next_look().expect("something to tell");
        assert_eq!(next, 6300 * MS);
        psi.look(next);
        assert!(trigger.take());
        assert_eq!(psi.next_look(), None);
        drop(trigger);
        psi.look(next + 100 * MS);
        assert!(psi.triggers.borrow().is_empty());
    }
}
