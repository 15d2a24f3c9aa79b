//! The policies that come with Kilburn, by name.

use super::{
    Arc, ByKind, Clock, Fifo, Lru, Mglru, Random, ReplacementPolicy, S3Fifo, Sieve, TwoList,
};
use alloc::boxed::Box;
use core::fmt;
use core::str::FromStr;

/// What a policy needs to know at birth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyConfig {
    /// Page numbers are `0..pages`.
    pub pages: u32,
    /// Pages in RAM at most; at most `pages`.
    pub capacity: u32,
    /// For policies that draw.
    pub seed: u64,
}

/// A policy that comes with Kilburn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is documented at the type of its name")]
pub enum Builtin {
    TwoList,
    Mglru,
    Clock,
    Fifo,
    Lru,
    Arc,
    S3Fifo,
    Sieve,
    Random,
}

/// Something done with a policy of a type known at compile time: a loop around it is compiled for that policy.
pub trait PolicyVisitor {
    /// What comes of it.
    type Output;

    /// Does it.
    fn visit<P: ReplacementPolicy + 'static>(self, policy: P) -> Self::Output;
}

impl Builtin {
    /// All of them; Linux's default first.
    pub const ALL: [Self; 9] = [
        Self::TwoList,
        Self::Mglru,
        Self::Clock,
        Self::Fifo,
        Self::Lru,
        Self::Arc,
        Self::S3Fifo,
        Self::Sieve,
        Self::Random,
    ];

    /// The name a user gives.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TwoList => "two-list",
            Self::Mglru => "mglru",
            Self::Clock => "clock",
            Self::Fifo => "fifo",
            Self::Lru => "lru",
            Self::Arc => "arc",
            Self::S3Fifo => "s3-fifo",
            Self::Sieve => "sieve",
            Self::Random => "random",
        }
    }

    /// The bare policy, one order over pages of both kinds (except for Linux's own two, which have lists for each).
    pub fn visit<V: PolicyVisitor>(self, config: PolicyConfig, visitor: V) -> V::Output {
        let PolicyConfig { pages, capacity, seed } = config;
        match self {
            Self::TwoList => visitor.visit(TwoList::new(pages)),
            Self::Mglru => visitor.visit(Mglru::new(pages)),
            Self::Clock => visitor.visit(Clock::new(pages)),
            Self::Fifo => visitor.visit(Fifo::new(pages)),
            Self::Lru => visitor.visit(Lru::new(pages)),
            Self::Arc => visitor.visit(Arc::new(pages, capacity)),
            Self::S3Fifo => visitor.visit(S3Fifo::new(pages, capacity)),
            Self::Sieve => visitor.visit(Sieve::new(pages)),
            Self::Random => visitor.visit(Random::new(pages, seed)),
        }
    }

    /// [`Self::visit`]'s policy behind a pointer.
    #[must_use]
    pub fn bare(self, config: PolicyConfig) -> Box<dyn ReplacementPolicy> {
        struct Boxed;
        impl PolicyVisitor for Boxed {
            type Output = Box<dyn ReplacementPolicy>;
            fn visit<P: ReplacementPolicy + 'static>(self, policy: P) -> Self::Output {
                Box::new(policy)
            }
        }
        self.visit(config, Boxed)
    }

    /// The policy for reclaim: it honours the kinds that [`Wanted`](super::Wanted) allows, through [`ByKind`] where needed.
    #[must_use]
    pub fn for_reclaim(self, config: PolicyConfig) -> Box<dyn ReplacementPolicy> {
        let PolicyConfig { pages, capacity, mut seed } = config;
        match self {
            Self::TwoList => Box::new(TwoList::new(pages)),
            Self::Mglru => Box::new(Mglru::new(pages)),
            Self::Clock => Box::new(ByKind::new(pages, || Clock::new(pages))),
            Self::Fifo => Box::new(ByKind::new(pages, || Fifo::new(pages))),
            Self::Lru => Box::new(ByKind::new(pages, || Lru::new(pages))),
            Self::Arc => Box::new(ByKind::new(pages, || Arc::new(pages, capacity))),
            Self::S3Fifo => Box::new(ByKind::new(pages, || S3Fifo::new(pages, capacity))),
            Self::Sieve => Box::new(ByKind::new(pages, || Sieve::new(pages))),
            Self::Random => Box::new(ByKind::new(pages, || {
                seed = seed.rotate_left(32) ^ 1;
                Random::new(pages, seed)
            })),
        }
    }
}

impl fmt::Display for Builtin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// No policy has this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownPolicy;

impl fmt::Display for UnknownPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no such policy; there are")?;
        Builtin::ALL.iter().try_for_each(|policy| write!(f, " {policy}"))
    }
}

impl core::error::Error for UnknownPolicy {}

impl FromStr for Builtin {
    type Err = UnknownPolicy;

    fn from_str(name: &str) -> Result<Self, UnknownPolicy> {
        Self::ALL.into_iter().find(|policy| policy.name() == name).ok_or(UnknownPolicy)
    }
}
