//! One instance of the replacement policy for each group of memory, and one for the pages of no group
//! (Linux `struct lruvec`, one a memory control group and node).
//!
//! A policy keeps arrays over dense page numbers. That of the root has the machine's frames for pages;
//! that of a group has numbers of its own, so that it is as large as the group and not as the machine:
//!
//! ```text
//!   frame --slots[frame]--> page of its group's instance --pages[page]--> frame
//! ```
//!
//! A group whose pages outgrow its instance gets one twice as large, to which its pages are new.
//!
//! Who reclaims from several groups takes turns among them in proportion to their sizes: each has a
//! clock that advances by the reciprocal of its size when a page is taken, and the one that is furthest
//! behind is next (Linux scans of each group a share of its pages). Why it is so:
//! `docs/decisions/0006-policy-per-group.md`.

use super::lru::Scope;
use crate::memcg::MemcgId;
use crate::policy::{
    AccessedBits, Arrival, Builtin, PageId, PolicyConfig, PutBack, References, ReplacementPolicy,
    Shadow, Wanted,
};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// Least pages an instance is made for.
const PAGES_MIN: u32 = 256;
/// How far the clock of an instance with one page advances when one is taken.
const TURN: u64 = 1 << 32;
/// No frame.
const NONE: u32 = u32::MAX;

/// Policies of the root and of groups.
pub(super) struct Instances {
    choice: Builtin,
    /// Frames of the machine.
    frames: u32,
    root: Option<Box<dyn ReplacementPolicy>>,
    root_clock: u64,
    groups: BTreeMap<MemcgId, Instance>,
    /// By frame of a group's page: its number there. Empty without groups.
    slots: Vec<u32>,
    /// Instances made so far.
    made: u64,
}

/// The policy of a group.
struct Instance {
    policy: Box<dyn ReplacementPolicy>,
    /// By page: its frame, and what it arrived as.
    pages: Vec<(u32, Arrival)>,
    free: Vec<u32>,
    /// Pages that were isolated.
    isolated: Vec<u32>,
    clock: u64,
    /// Makes its shadows differ from those of others. A page may return to another group than it left;
    /// a policy takes what it does not know for a page gone long ago.
    salt: u64,
}

/// Accessed bits of a group's pages.
struct OfGroup<'a> {
    bits: &'a mut dyn AccessedBits,
    pages: &'a [(u32, Arrival)],
}

impl AccessedBits for OfGroup<'_> {
    fn test_and_clear(&mut self, page: PageId) -> References {
        self.bits.test_and_clear(PageId(self.pages[page.index()].0))
    }
}

/// What a page chosen is: its frame.
type Frame = u32;

impl Instance {
    fn new(choice: Builtin, pages: u32, serial: u64, clock: u64) -> Self {
        Self {
            policy: choice.for_reclaim(PolicyConfig { pages, capacity: pages, seed: serial }),
            pages: alloc::vec![(NONE, Arrival::new(crate::policy::PageKind::Anon, crate::policy::FirstUse::Ahead)); pages as usize],
            free: (0..pages).rev().collect(),
            isolated: Vec::new(),
            clock,
            // An odd multiple of the golden ratio: different in the upper bits for each.
            salt: serial.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 2,
        }
    }

    fn salted(&self, shadow: Shadow) -> Shadow {
        Shadow::new(shadow.bits() ^ self.salt)
    }
}

impl Instances {
    pub(super) fn new(choice: Builtin, frames: u64) -> Self {
        Self {
            choice,
            frames: frames as u32,
            root: None,
            root_clock: 0,
            groups: BTreeMap::new(),
            slots: Vec::new(),
            made: 0,
        }
    }

    /// Name of the policy.
    pub(super) fn name(&self) -> &'static str {
        self.root.as_ref().map_or(self.choice.name(), |policy| policy.name())
    }

    /// Whether nothing was ever reclaimed.
    pub(super) fn is_armed(&self) -> bool {
        self.root.is_some()
    }

    /// Makes the root's, if there is none.
    pub(super) fn arm(&mut self) {
        if self.root.is_none() {
            let pages = self.frames;
            let config = PolicyConfig { pages, capacity: pages, seed: 0 };
            self.root = Some(self.choice.for_reclaim(config));
        }
    }

    /// Another policy, which knows no page. Groups have the one of that name, or the one chosen at the
    /// start if it is nobody's we know.
    pub(super) fn replace(&mut self, policy: Box<dyn ReplacementPolicy>) {
        self.choice = policy.name().parse().unwrap_or(self.choice);
        self.root = Some(policy);
        self.groups.clear();
    }

    /// The group is gone, and with it its pages.
    pub(super) fn forget_group(&mut self, memcg: MemcgId) {
        self.groups.remove(&memcg);
    }

    /// The policy that knows a frame, and the frame's number there.
    fn of(&mut self, frame: Frame, memcg: MemcgId) -> Option<(&mut dyn ReplacementPolicy, PageId)> {
        if memcg.is_root() {
            return Some((self.root.as_mut()?.as_mut(), PageId(frame)));
        }
        let page = PageId(self.slots[frame as usize]);
        Some((self.groups.get_mut(&memcg)?.policy.as_mut(), page))
    }

    /// Pages that can be chosen from.
    pub(super) fn len(&self, scope: &Scope) -> u32 {
        let root = self.root.as_ref().filter(|_| scope.contains(MemcgId::ROOT));
        let groups = self.groups.iter().filter(|(id, _)| scope.contains(**id));
        root.map_or(0, |policy| policy.len()) + groups.map(|(_, g)| g.policy.len()).sum::<u32>()
    }

    /// A page of a group arrives; `most` is how many the group can have. Answers frames that are not
    /// known any more: they were isolated, and are to arrive anew.
    pub(super) fn insert(
        &mut self,
        frame: Frame,
        memcg: MemcgId,
        mut arrival: Arrival,
        shadow: Option<Shadow>,
        most: u64,
    ) -> Vec<Frame> {
        if memcg.is_root() {
            if let Some(policy) = &mut self.root {
                if let Some(shadow) = shadow {
                    policy.refault(&mut arrival, shadow);
                }
                policy.insert(PageId(frame), arrival);
            }
            return Vec::new();
        }
        let dropped = self.make_room(memcg, most);
        let Some(instance) = self.groups.get_mut(&memcg) else { return dropped };
        let Some(page) = instance.free.pop() else { return dropped };
        self.slots[frame as usize] = page;
        instance.pages[page as usize] = (frame, arrival);
        if let Some(shadow) = shadow {
            instance.policy.refault(&mut arrival, instance.salted(shadow));
        }
        instance.policy.insert(PageId(page), arrival);
        dropped
    }

    /// Sees to it that a group has an instance with a free number.
    fn make_room(&mut self, memcg: MemcgId, most: u64) -> Vec<Frame> {
        if self.slots.is_empty() {
            self.slots = alloc::vec![NONE; self.frames as usize];
        }
        let most = most.clamp(u64::from(PAGES_MIN), u64::from(self.frames).max(1)) as u32;
        let (old_len, clock) = match self.groups.get(&memcg) {
            Some(instance) if !instance.free.is_empty() => return Vec::new(),
            Some(instance) => (instance.pages.len() as u32, instance.clock),
            None => (0, self.least_clock()),
        };
        // As many as it can have if that is known, or else twice as many as so far.
        let pages = if most < self.frames && most > old_len { most } else { old_len * 2 };
        let pages = pages.clamp(PAGES_MIN.min(self.frames), self.frames);
        self.made += 1;
        let new = Instance::new(self.choice, pages, self.made, clock);
        let Some(old) = self.groups.insert(memcg, new) else { return Vec::new() };
        let mut dropped = Vec::new();
        let mut isolated = old.isolated;
        isolated.sort_unstable();
        for (page, (frame, arrival)) in old.pages.into_iter().enumerate() {
            if frame == NONE {
                continue;
            }
            if isolated.binary_search(&(page as u32)).is_ok() {
                dropped.push(frame);
            } else {
                // Its instance has room for all of them: it does not grow again.
                self.insert(
                    frame,
                    memcg,
                    Arrival::new(arrival.kind, arrival.first_use),
                    None,
                    most.into(),
                );
            }
        }
        dropped
    }

    /// A page was used by a call.
    pub(super) fn mark_accessed(&mut self, frame: Frame, memcg: MemcgId) {
        if let Some((policy, page)) = self.of(frame, memcg) {
            policy.mark_accessed(page);
        }
    }

    /// Whether a known page counts as in use.
    pub(super) fn is_active(&mut self, frame: Frame, memcg: MemcgId) -> bool {
        self.of(frame, memcg).is_some_and(|(policy, page)| policy.is_active(page))
    }

    /// A known page is freed, or cannot go.
    pub(super) fn remove(&mut self, frame: Frame, memcg: MemcgId) {
        if let Some((policy, page)) = self.of(frame, memcg) {
            policy.remove(page);
        }
        self.release(frame, memcg);
    }

    /// An isolated page is gone; what is to be kept of it.
    pub(super) fn evicted(&mut self, frame: Frame, memcg: MemcgId) -> Option<Shadow> {
        let (policy, page) = self.of(frame, memcg)?;
        let shadow = policy.evicted(page);
        self.release(frame, memcg);
        let Some(instance) = self.groups.get(&memcg) else { return shadow };
        shadow.map(|shadow| instance.salted(shadow))
    }

    /// An isolated page stays.
    pub(super) fn putback(&mut self, frame: Frame, memcg: MemcgId, why: PutBack) {
        if let Some((policy, page)) = self.of(frame, memcg) {
            policy.putback(page, why);
        }
        self.end_isolation(frame, memcg);
    }

    /// The number of a group's page is free again.
    fn release(&mut self, frame: Frame, memcg: MemcgId) {
        self.end_isolation(frame, memcg);
        if let Some(instance) = self.groups.get_mut(&memcg) {
            let page = core::mem::replace(&mut self.slots[frame as usize], NONE);
            instance.pages[page as usize].0 = NONE;
            instance.free.push(page);
        }
    }

    fn end_isolation(&mut self, frame: Frame, memcg: MemcgId) {
        if let Some(instance) = self.groups.get_mut(&memcg) {
            let page = self.slots[frame as usize];
            instance.isolated.retain(|&isolated| isolated != page);
        }
    }

    /// A page that is remembered will not come back. Whose it was is not known any more: all but one do
    /// not know it.
    pub(super) fn forget(&mut self, shadow: Shadow) {
        if let Some(policy) = &mut self.root {
            policy.forget(shadow);
        }
        for instance in self.groups.values_mut() {
            let salted = instance.salted(shadow);
            instance.policy.forget(salted);
        }
    }

    fn least_clock(&self) -> u64 {
        let groups = self.groups.values().map(|instance| instance.clock).min();
        groups.map_or(self.root_clock, |clock| clock.min(self.root_clock))
    }

    /// The page that should go next among those of `scope`; `wanted` says what may go of a group.
    pub(super) fn isolate(
        &mut self,
        scope: &Scope,
        wanted: impl Fn(MemcgId) -> Wanted,
        bits: &mut dyn AccessedBits,
    ) -> Option<(Frame, MemcgId)> {
        if self.groups.is_empty() {
            let policy = self.root.as_mut().filter(|_| scope.contains(MemcgId::ROOT))?;
            let page = policy.isolate(wanted(MemcgId::ROOT), bits)?;
            return Some((page.0, MemcgId::ROOT));
        }
        for memcg in self.turns(scope) {
            if let Some(frame) = self.isolate_of(memcg, wanted(memcg), bits) {
                return Some((frame, memcg));
            }
        }
        None
    }

    /// The groups of `scope` that have pages, the one whose turn it is first.
    fn turns(&self, scope: &Scope) -> Vec<MemcgId> {
        let root = self.root.iter().map(|policy| (self.root_clock, MemcgId::ROOT, policy.len()));
        let groups = self.groups.iter().map(|(&id, group)| (group.clock, id, group.policy.len()));
        let mut turns: Vec<_> = root
            .chain(groups)
            .filter(|&(_, id, len)| len > 0 && scope.contains(id))
            .map(|(clock, id, _)| (clock, id))
            .collect();
        turns.sort_unstable();
        turns.into_iter().map(|(_, id)| id).collect()
    }

    fn isolate_of(
        &mut self,
        memcg: MemcgId,
        wanted: Wanted,
        bits: &mut dyn AccessedBits,
    ) -> Option<Frame> {
        if memcg.is_root() {
            let policy = self.root.as_mut()?;
            let len = u64::from(policy.len()).max(1);
            let page = policy.isolate(wanted, bits)?;
            self.root_clock += TURN / len;
            return Some(page.0);
        }
        let instance = self.groups.get_mut(&memcg)?;
        let len = u64::from(instance.policy.len()).max(1);
        let mut bits = OfGroup { bits, pages: &instance.pages };
        let page = instance.policy.isolate(wanted, &mut bits)?;
        instance.clock += TURN / len;
        instance.isolated.push(page.0);
        Some(instance.pages[page.index()].0)
    }

    /// The policies' own invariants, and that each page of a group is where its frame says.
    ///
    /// # Errors
    /// The name of what is wrong.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        self.root.as_ref().map_or(Ok(()), |policy| policy.check())?;
        for instance in self.groups.values() {
            instance.policy.check()?;
            for (page, &(frame, _)) in instance.pages.iter().enumerate() {
                if frame != NONE && self.slots[frame as usize] != page as u32 {
                    return Err("a frame's number in its group's policy");
                }
            }
            let known = instance.pages.len() - instance.free.len();
            if known != instance.policy.len() as usize + instance.isolated.len() {
                return Err("the number of pages of a group's policy");
            }
        }
        Ok(())
    }
}
