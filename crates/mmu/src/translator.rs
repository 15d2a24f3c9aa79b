//! The seam between a hart and whatever stands in for its translation hardware.
//!
//! A hart asks its [`crate::Mmu`] unless it was given a [`Translator`]: then it asks that one for every single access,
//! so that a model counts and times them all, or a recorder writes them down. Neighbours: `kilburn-riscv` asks,
//! [`crate::Model`] answers.

use crate::mmu::{Flush, Mapping, Space};
use crate::model::{Cause, Model, ModelFault};
use kilburn_addr::{Access, VirtAddr};
use kilburn_paging::PhysMem;
use kilburn_paging::walk::WalkFault;

/// Translation hardware that is asked for every access.
pub trait Translator {
    /// Translates a user-mode `access` to `va`.
    ///
    /// # Errors
    /// [`WalkFault`], when software has to act first; the access is then tried again.
    fn access(
        &mut self,
        mem: &dyn PhysMem,
        space: Space,
        va: VirtAddr,
        access: Access,
    ) -> Result<Mapping, WalkFault>;

    /// So many instructions were retired since the last call.
    fn retire(&mut self, instructions: u64);

    /// Forgets cached translations, because of `cause`.
    fn flush(&mut self, what: Flush, cause: Cause);
}

impl Translator for Model {
    fn access(
        &mut self,
        mem: &dyn PhysMem,
        space: Space,
        va: VirtAddr,
        access: Access,
    ) -> Result<Mapping, WalkFault> {
        // How long the access is matters where it leaves its line; harts split those that leave a page.
        self.access(mem, space, va, 1, access).map_err(|fault| match fault {
            ModelFault::Walk(fault) => fault,
            ModelFault::UsedBits => WalkFault::Denied,
        })
    }

    fn retire(&mut self, instructions: u64) {
        self.retire(instructions);
    }

    fn flush(&mut self, what: Flush, cause: Cause) {
        self.flush(what, cause);
        if let (Flush::Asid(asid), Cause::Exit) = (what, cause) {
            self.forget(asid);
        }
    }
}
