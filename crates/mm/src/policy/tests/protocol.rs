//! Random sequences of all calls: every policy keeps its invariants and its word.

use super::super::{
    AccessedBits, Arrival, Builtin, FirstUse, NoAccessedBits, PageId, PageKind, PolicyConfig,
    PutBack, References, ReplacementPolicy, Shadow, Wanted,
};
use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;
use proptest::prelude::*;

const PAGES: u32 = 24;

#[derive(Clone, Copy, Debug)]
enum Call {
    Insert(u32, Arrival, Option<prop::sample::Index>),
    Access(u32),
    Isolate(Wanted, u64),
    Evicted(prop::sample::Index),
    PutBack(prop::sample::Index, PutBack),
    Remove(u32),
    Forget(prop::sample::Index),
    SetCapacity(u32),
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Unknown,
    Listed(PageKind),
    Isolated(PageKind),
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let kind = prop_oneof![Just(PageKind::Anon), Just(PageKind::File)];
    let first_use =
        prop_oneof![Just(FirstUse::Call), Just(FirstUse::Mapped), Just(FirstUse::Ahead)];
    let arrival = (kind, first_use).prop_map(|(kind, first_use)| Arrival::new(kind, first_use));
    let wanted = (any::<bool>(), any::<bool>(), 0u8..=200)
        .prop_map(|(anon, file, swappiness)| Wanted { anon: anon || !file, file, swappiness });
    let why = prop_oneof![Just(PutBack::Later), Just(PutBack::Used), Just(PutBack::Next)];
    let index = any::<prop::sample::Index>;
    let call = prop_oneof![
        8 => (0..PAGES, arrival, prop::option::of(index())).prop_map(|(p, a, s)| Call::Insert(p, a, s)),
        8 => (0..PAGES).prop_map(Call::Access),
        6 => (wanted, any::<u64>()).prop_map(|(w, b)| Call::Isolate(w, b)),
        4 => index().prop_map(Call::Evicted),
        3 => (index(), why).prop_map(|(i, w)| Call::PutBack(i, w)),
        2 => (0..PAGES).prop_map(Call::Remove),
        1 => index().prop_map(Call::Forget),
        1 => (1..=PAGES).prop_map(Call::SetCapacity),
    ];
    prop::collection::vec(call, 0..300)
}

/// Accessed bits of 24 pages in one word.
struct Word(u64);

impl AccessedBits for Word {
    fn test_and_clear(&mut self, page: PageId) -> References {
        let set = self.0 >> page.0 & 1;
        self.0 &= !(1 << page.0);
        References { entries: set as u32, executable: page.0.is_multiple_of(5) }
    }

    fn walk(&mut self, used: &mut dyn FnMut(PageId)) {
        // Bits of pages that are isolated or unknown are found as well, as in real tables.
        for page in (0..PAGES).filter(|page| self.0 >> page & 1 != 0) {
            used(PageId(page));
        }
        self.0 = 0;
    }
}

/// What every caller may count on.
struct Machine {
    policy: Box<dyn ReplacementPolicy>,
    states: Vec<State>,
    shadows: Vec<Shadow>,
}

impl Machine {
    fn isolated(&self, index: prop::sample::Index) -> Option<PageId> {
        let pages: Vec<u32> =
            (0..PAGES).filter(|&p| matches!(self.states[p as usize], State::Isolated(_))).collect();
        (!pages.is_empty()).then(|| PageId(pages[index.index(pages.len())]))
    }

    fn kind(&self, page: PageId) -> PageKind {
        match self.states[page.index()] {
            State::Listed(kind) | State::Isolated(kind) => kind,
            State::Unknown => panic!("{page} is unknown"),
        }
    }

    fn call(&mut self, call: Call, tells_kinds: bool) -> Result<(), TestCaseError> {
        match call {
            Call::Insert(page, mut arrival, shadow)
                if self.states[page as usize] == State::Unknown =>
            {
                if let Some(index) = shadow.filter(|_| !self.shadows.is_empty()) {
                    let shadow = self.shadows.swap_remove(index.index(self.shadows.len()));
                    prop_assert_eq!(Shadow::from_raw(shadow.to_raw()), Some(shadow));
                    self.policy.refault(&mut arrival, shadow);
                }
                self.policy.insert(PageId(page), arrival);
                self.states[page as usize] = State::Listed(arrival.kind);
            }
            Call::Insert(..) => {}
            Call::Access(page) => self.policy.mark_accessed(PageId(page)),
            Call::Isolate(wanted, bits) => {
                let could = self
                    .states
                    .iter()
                    .any(|s| matches!(s, State::Listed(k) if !tells_kinds || wanted.allows(*k)));
                let victim = self.policy.isolate(wanted, &mut Word(bits));
                prop_assert_eq!(
                    victim.is_some(),
                    could,
                    "a victim if and only if there is a page to be had"
                );
                if let Some(page) = victim {
                    let State::Listed(kind) = self.states[page.index()] else {
                        return Err(TestCaseError::fail(format!("{page} is not on a list")));
                    };
                    prop_assert!(!tells_kinds || wanted.allows(kind));
                    self.states[page.index()] = State::Isolated(kind);
                }
            }
            Call::Evicted(index) => {
                if let Some(page) = self.isolated(index) {
                    self.shadows.extend(self.policy.evicted(page));
                    self.states[page.index()] = State::Unknown;
                }
            }
            Call::PutBack(index, why) => {
                if let Some(page) = self.isolated(index) {
                    self.policy.putback(page, why);
                    self.states[page.index()] = State::Listed(self.kind(page));
                }
            }
            Call::Remove(page) => {
                if self.states[page as usize] != State::Unknown {
                    self.policy.remove(PageId(page));
                    self.states[page as usize] = State::Unknown;
                }
            }
            Call::Forget(index) => {
                if !self.shadows.is_empty() {
                    let shadow = self.shadows.swap_remove(index.index(self.shadows.len()));
                    self.policy.forget(shadow);
                }
            }
            Call::SetCapacity(pages) => self.policy.set_capacity(pages),
        }
        let listed = self.states.iter().filter(|s| matches!(s, State::Listed(_))).count();
        prop_assert_eq!(self.policy.len() as usize, listed);
        self.policy.check().map_err(TestCaseError::fail)
    }
}

fn run(
    policy: Box<dyn ReplacementPolicy>,
    calls: &[Call],
    tells_kinds: bool,
) -> Result<(), TestCaseError> {
    let name = policy.name();
    let mut machine = Machine {
        policy,
        states: alloc::vec![State::Unknown; PAGES as usize],
        shadows: Vec::new(),
    };
    for (at, &call) in calls.iter().enumerate() {
        machine.call(call, tells_kinds).map_err(|error| {
            TestCaseError::fail(format!("{name}: call {at}, {call:?}: {error}"))
        })?;
    }
    Ok(())
}

const CONFIG: PolicyConfig = PolicyConfig { pages: PAGES, capacity: PAGES, seed: 7 };

fn tells_kinds(policy: Builtin) -> bool {
    matches!(policy, Builtin::TwoList | Builtin::Mglru)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_bare_policy_keeps_its_word(calls in calls()) {
        for policy in Builtin::ALL {
            run(policy.bare(CONFIG), &calls, tells_kinds(policy))?;
        }
    }

    #[test]
    fn every_policy_for_reclaim_keeps_its_word_and_honours_kinds(calls in calls()) {
        for policy in Builtin::ALL {
            run(policy.for_reclaim(CONFIG), &calls, true)?;
        }
    }
}

fn with_pages(policy: Builtin, pages: u32) -> Box<dyn ReplacementPolicy> {
    let mut policy = policy.bare(CONFIG);
    for page in 0..pages {
        policy.insert(PageId(page), Arrival::new(PageKind::File, FirstUse::Ahead));
    }
    policy
}

/// Everything is always in use.
struct Busy;

impl AccessedBits for Busy {
    fn test_and_clear(&mut self, _: PageId) -> References {
        References { entries: 2, executable: true }
    }

    fn walk(&mut self, used: &mut dyn FnMut(PageId)) {
        (0..PAGES).map(PageId).for_each(used);
    }
}

#[test]
fn a_victim_is_found_even_when_everything_is_always_in_use() {
    for builtin in Builtin::ALL {
        let mut policy = with_pages(builtin, PAGES);
        for left in (0..PAGES).rev() {
            assert!(policy.isolate(Wanted::ANY, &mut Busy).is_some(), "{builtin}");
            assert_eq!(policy.len(), left, "{builtin}");
        }
        assert_eq!(policy.isolate(Wanted::ANY, &mut Busy), None, "{builtin}");
    }
}

#[test]
fn a_page_put_back_for_later_is_not_offered_next() {
    for builtin in Builtin::ALL.into_iter().filter(|&policy| policy != Builtin::Random) {
        let mut policy = with_pages(builtin, PAGES);
        let mut offered = Vec::new();
        for _ in 0..PAGES / 2 {
            let page = policy.isolate(Wanted::ANY, &mut NoAccessedBits).unwrap();
            assert!(!offered.contains(&page), "{builtin} offers {page} again");
            offered.push(page);
            policy.putback(page, PutBack::Later);
        }
    }
}

#[test]
fn a_page_put_back_as_next_is_offered_next() {
    for builtin in Builtin::ALL.into_iter().filter(|&policy| policy != Builtin::Random) {
        let mut policy = with_pages(builtin, PAGES);
        for _ in 0..3 {
            let page = policy.isolate(Wanted::ANY, &mut NoAccessedBits).unwrap();
            policy.putback(page, PutBack::Next);
            assert_eq!(policy.isolate(Wanted::ANY, &mut NoAccessedBits), Some(page), "{builtin}");
            policy.evicted(page);
        }
    }
}

#[test]
fn a_page_put_back_as_used_outlives_the_unused() {
    let indifferent = [Builtin::Random];
    for builtin in Builtin::ALL.into_iter().filter(|policy| !indifferent.contains(policy)) {
        let mut policy = with_pages(builtin, PAGES);
        let used = policy.isolate(Wanted::ANY, &mut NoAccessedBits).unwrap();
        policy.putback(used, PutBack::Used);
        for _ in 0..PAGES / 2 {
            let page = policy.isolate(Wanted::ANY, &mut NoAccessedBits).unwrap();
            assert_ne!(page, used, "{builtin}");
            policy.evicted(page);
        }
    }
}

#[test]
fn an_isolated_page_can_be_freed_and_its_number_used_again() {
    for builtin in Builtin::ALL {
        let mut policy = with_pages(builtin, PAGES);
        let page = policy.isolate(Wanted::ANY, &mut NoAccessedBits).unwrap();
        policy.mark_accessed(page);
        policy.remove(page);
        policy.insert(page, Arrival::new(PageKind::Anon, FirstUse::Mapped));
        assert_eq!((policy.len(), policy.check()), (PAGES, Ok(())), "{builtin}");
    }
}

#[test]
fn names_are_what_users_type() {
    for builtin in Builtin::ALL {
        assert_eq!(builtin.name().parse(), Ok(builtin));
        assert_eq!(builtin.bare(CONFIG).name(), builtin.name());
        assert_eq!(builtin.for_reclaim(CONFIG).name(), builtin.name());
    }
    let error = "lfu".parse::<Builtin>().unwrap_err();
    assert_eq!(
        format!("{error}"),
        "no such policy; there are two-list mglru clock fifo lru arc s3-fifo sieve random"
    );
}
