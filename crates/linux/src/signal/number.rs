//! Signal numbers and sets of them (include/uapi/asm-generic/signal.h).

use core::fmt;

/// A signal number, 1 to 64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Signal(u8);

macro_rules! signals {
    ($($name:ident = $number:literal),* $(,)?) => {
        #[expect(dead_code, reason = "the list is complete, as Linux's is")]
        impl Signal {
            $(
                #[doc = concat!("`", stringify!($name), "`")]
                pub(crate) const $name: Self = Self($number);
            )*

            /// Linux's name; real-time signals have none.
            pub(crate) const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($number => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

signals! {
    SIGHUP = 1, SIGINT = 2, SIGQUIT = 3, SIGILL = 4, SIGTRAP = 5, SIGABRT = 6, SIGBUS = 7,
    SIGFPE = 8, SIGKILL = 9, SIGUSR1 = 10, SIGSEGV = 11, SIGUSR2 = 12, SIGPIPE = 13, SIGALRM = 14,
    SIGTERM = 15, SIGSTKFLT = 16, SIGCHLD = 17, SIGCONT = 18, SIGSTOP = 19, SIGTSTP = 20,
    SIGTTIN = 21, SIGTTOU = 22, SIGURG = 23, SIGXCPU = 24, SIGXFSZ = 25, SIGVTALRM = 26,
    SIGPROF = 27, SIGWINCH = 28, SIGIO = 29, SIGPWR = 30, SIGSYS = 31,
}

impl Signal {
    /// The highest number (`_NSIG`).
    pub(crate) const MAX: u8 = 64;
    /// The lowest real-time signal (`SIGRTMIN`).
    pub(crate) const RTMIN: u8 = 32;

    /// The signal with this number; `None` outside 1..=64.
    pub(crate) const fn new(number: i32) -> Option<Self> {
        if number >= 1 && number <= Self::MAX as i32 { Some(Self(number as u8)) } else { None }
    }

    /// The number.
    pub(crate) const fn number(self) -> u8 {
        self.0
    }

    /// Whether instances queue up instead of merging.
    pub(crate) const fn is_realtime(self) -> bool {
        self.0 >= Self::RTMIN
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "signal {}", self.0),
        }
    }
}

/// A set of signals, bit n-1 for signal n (`sigset_t`).
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct SigSet(u64);

impl SigSet {
    /// No signal.
    pub(crate) const EMPTY: Self = Self(0);
    /// All signals.
    pub(crate) const ALL: Self = Self(u64::MAX);

    /// From Linux's bits.
    pub(crate) const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Linux's bits.
    pub(crate) const fn bits(self) -> u64 {
        self.0
    }

    /// The set of these signals.
    pub(crate) const fn of(signals: &[Signal]) -> Self {
        let mut bits = 0;
        let mut i = 0;
        while i < signals.len() {
            bits |= 1 << (signals[i].0 - 1);
            i += 1;
        }
        Self(bits)
    }

    /// Whether `signal` is in it.
    pub(crate) const fn contains(self, signal: Signal) -> bool {
        self.0 & (1 << (signal.0 - 1)) != 0
    }

    /// Whether no signal is in it.
    pub(crate) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// With `signal`.
    pub(crate) const fn with(self, signal: Signal) -> Self {
        Self(self.0 | 1 << (signal.0 - 1))
    }

    /// Without `signal`.
    pub(crate) const fn without(self, signal: Signal) -> Self {
        Self(self.0 & !(1 << (signal.0 - 1)))
    }

    /// Signals in either.
    pub(crate) const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Signals in both.
    pub(crate) const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Signals in this and not in `other`.
    pub(crate) const fn minus(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The lowest signal in it.
    pub(crate) const fn first(self) -> Option<Signal> {
        if self.0 == 0 { None } else { Some(Signal(self.0.trailing_zeros() as u8 + 1)) }
    }
}

impl fmt::Debug for SigSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_outside_1_to_64_are_no_signals() {
        assert_eq!(Signal::new(0), None);
        assert_eq!(Signal::new(-1), None);
        assert_eq!(Signal::new(65), None);
        assert_eq!(Signal::new(9), Some(Signal::SIGKILL));
        assert!(Signal::new(64).is_some_and(Signal::is_realtime));
    }

    #[test]
    fn a_set_holds_signal_64_and_gives_the_lowest_first() {
        let last = Signal::new(64).expect("valid");
        let set = SigSet::EMPTY.with(last).with(Signal::SIGHUP);
        assert_eq!(set.bits(), 1 << 63 | 1);
        assert_eq!(set.first(), Some(Signal::SIGHUP));
        assert_eq!(set.without(Signal::SIGHUP).first(), Some(last));
    }
}
