//! What a model would do with an access, step by step, without doing it.
//!
//! [`Model::explain`] leaves everything as it is: no entry is brought in, none becomes more recent, nothing is counted.
//! Neighbour: [`super`], whose `access` does what is explained here.

use super::cache::CacheLook;
use super::config::AdUpdate;
use super::level::Level;
use super::{Model, ModelFault};
use crate::mmu::Space;
use alloc::vec::Vec;
use kilburn_addr::{Access, PhysAddr, VirtAddr};
use kilburn_paging::hardware::{FoundLeaf, HardwareFormat, Step, WalkStart, descend};
use kilburn_paging::walk::WalkFault;
use kilburn_paging::{LeafFlags, PhysMem};

/// One array of a TLB, asked for one page size.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlbLook {
    /// Which level.
    pub place: &'static str,
    /// log2 of the bytes of the pages asked for.
    pub page_shift: u32,
    /// Sets and ways of the array.
    pub shape: (usize, usize),
    /// TLBI: the set.
    pub index: u64,
    /// TLBT: the rest of the page number.
    pub tag: u64,
    /// The page numbers' rests that this space's entries of the set have, for pages of this size.
    pub held: Vec<u64>,
}

impl TlbLook {
    /// Whether the translation is there.
    pub fn is_hit(&self) -> bool {
        self.held.contains(&self.tag)
    }
}

/// What becomes of an access.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ModelExplanation {
    /// The lookups, in order: the first level's, and the second's unless the first hits.
    pub tlb: Vec<TlbLook>,
    /// The level of the table that a walk cache lets a walk begin at; `None` to begin at the root.
    pub walk_from: Option<u8>,
    /// The entries from the root on; a walk reads those from `walk_from` on.
    pub steps: Vec<Step>,
    /// Whether a walk is needed: no TLB asked has an entry that permits the access (a clean one permits no store).
    pub needs_walk: bool,
    /// Who sets A and D.
    pub ad_update: AdUpdate,
    /// The physical address, and the log2 of the page's bytes; or why there is none.
    pub physical: Result<(PhysAddr, u32), ModelFault>,
    /// The caches asked, up to the first that hits.
    pub caches: Vec<CacheLook>,
}

impl ModelExplanation {
    /// Whether a TLB has an entry for the page, whatever it permits.
    pub fn is_tlb_hit(&self) -> bool {
        self.tlb.iter().any(TlbLook::is_hit)
    }
}

impl Model {
    /// What an `access` to `va` would meet now.
    pub fn explain<M: PhysMem + ?Sized, F: HardwareFormat>(
        &self,
        mem: &M,
        space: Space<F>,
        va: VirtAddr,
        access: Access,
    ) -> ModelExplanation {
        let name = if access == Access::Exec { "L1 fetch" } else { "L1 data" };
        let first = self.first[super::first_of(access)].level();
        let is_canonical = space.format.is_canonical(va);
        let looks = |level: &Level, place| -> Vec<TlbLook> {
            level.arrays().iter().flat_map(|array| array.looks(place, space.asid, va)).collect()
        };
        let serves = |level: &Level| {
            let cached = level.arrays().iter().find_map(|array| array.peek(space.asid, va));
            is_canonical && cached.is_some_and(|cached| cached.permits(access))
        };
        let mut tlb = looks(first, name);
        let mut needs_walk = !serves(first);
        if needs_walk {
            tlb.extend(looks(&self.second, "L2"));
            needs_walk = !serves(&self.second);
        }
        let (steps, found) = walk_steps(mem, space, va);
        let ad_update = self.config.ad_update;
        let physical = found.map_err(ModelFault::Walk).and_then(|found| {
            let (physical, raw) = (physical_of(found, va, access)?, found.step.raw);
            let is_marked = space.format.mark_used(raw, access) == raw;
            if needs_walk && !is_marked && ad_update == AdUpdate::Fault {
                return Err(ModelFault::UsedBits);
            }
            Ok(physical)
        });
        let caches = match (&self.caches, physical) {
            (Some(caches), Ok((at, _))) => caches.looks(at, access.into()),
            _ => Vec::new(),
        };
        let walk_from = self.walk_caches.lowest(space.format, space.asid, va);
        ModelExplanation { tlb, walk_from, steps, needs_walk, ad_update, physical, caches }
    }
}

/// What an `access` to `va` would meet on hardware that has nothing cached and no caches: the tables alone.
pub fn explain_tables<M: PhysMem + ?Sized, F: HardwareFormat>(
    mem: &M,
    space: Space<F>,
    va: VirtAddr,
    access: Access,
) -> ModelExplanation {
    let (steps, found) = walk_steps(mem, space, va);
    let physical = found.map_err(ModelFault::Walk).and_then(|found| physical_of(found, va, access));
    ModelExplanation {
        tlb: Vec::new(),
        walk_from: None,
        steps,
        needs_walk: true,
        ad_update: AdUpdate::Hardware,
        physical,
        caches: Vec::new(),
    }
}

/// The entries from the root on, and where they end.
fn walk_steps<M: PhysMem + ?Sized, F: HardwareFormat>(
    mem: &M,
    space: Space<F>,
    va: VirtAddr,
) -> (Vec<Step>, Result<FoundLeaf, WalkFault>) {
    let mut steps = Vec::new();
    let root = WalkStart::root(space.format, space.root);
    let found = if space.format.is_canonical(va) {
        descend(mem, space.format, root, va, |step: &Step| steps.push(*step))
    } else {
        Err(WalkFault::NotCanonical)
    };
    (steps, found)
}

/// Where `va` lies, if its page permits the access.
fn physical_of(
    found: FoundLeaf,
    va: VirtAddr,
    access: Access,
) -> Result<(PhysAddr, u32), ModelFault> {
    let flags = found.leaf.flags;
    if !flags.contains(LeafFlags::USER) || !flags.permits(access) {
        return Err(ModelFault::Walk(WalkFault::Denied));
    }
    let frame = super::frame_within(found.leaf, found.span_shift, va);
    Ok((PhysAddr::new(frame.base().get() + va.page_offset()), found.span_shift))
}
