//! Signals: numbers, sets, pending queues, actions, sending, delivery and frames.
//!
//! - [`number`]: [`Signal`], [`SigSet`]. [`info`]: [`SigInfo`]. [`action`]: handlers and defaults.
//! - [`pending`]: what was sent and not taken. [`send`]: who gets a signal, and who is woken.
//! - [`deliver`]: what a task does about its signals before it returns to user mode.
//! - [`frame`]: what a handler finds on its stack, and the way back.
//!
//! Neighbours: `crate::syscall::signal` holds the calls; [`crate::task::stop`] job control.

pub(crate) mod action;
mod coredump;
pub(crate) mod deliver;
pub(crate) mod frame;
pub(crate) mod info;
pub(crate) mod number;
pub(crate) mod pending;
pub(crate) mod send;

pub(crate) use info::SigInfo;
pub(crate) use number::{SigSet, Signal};
