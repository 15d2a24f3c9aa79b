//! Counts of events under Linux's names: counters, and what they said at a moment, from one list
//! ([`crate::VmStat`], [`crate::MemcgVmStat`]).

/// Two structs with a field for each name: one of counters, one of what they say.
macro_rules! event_counts {
    (
        $(#[$events_doc:meta])* struct $Events:ident;
        $(#[$stat_doc:meta])* pub struct $Stat:ident;
        $($(#[$doc:meta])* $name:ident,)*
    ) => {
        $(#[$events_doc])*
        #[derive(Default)]
        pub(crate) struct $Events { $(pub(crate) $name: AtomicU64,)* }

        $(#[$stat_doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub struct $Stat { $($(#[$doc])* pub $name: u64,)* }

        impl $Events {
            fn snapshot(&self) -> $Stat {
                $Stat { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }

        impl $Stat {
            /// Name and count of each, in Linux's order.
            pub fn entries(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)*].into_iter()
            }
        }
    };
}

pub(crate) use event_counts;
