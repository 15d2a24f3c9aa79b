//! Tests that hold for every policy, and each policy against its definition.
//!
//! - [`reference`], [`reference_linux`]: each policy once more, naively, straight from its definition: keyed by object, no
//!   slots, no shadows, linear searches.
//! - [`equivalence`]: the same hits as the reference on random traces, with objects removed from the middle.
//! - [`protocol`]: random sequences of all calls of the trait, isolation and putting back included.
//! - [`properties`]: what theory says of LRU, OPT and the others.

mod equivalence;
mod properties;
mod protocol;
mod reference;
mod reference_linux;
