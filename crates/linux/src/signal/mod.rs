//! Signals: numbers, sets, pending queues, actions, delivery and frames.

pub(crate) mod number;

pub(crate) use number::{SigSet, Signal};
