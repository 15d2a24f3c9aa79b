//! The library's operations measured beside other people's, in one run.
//!
//! A [`Row`] is one piece of work with a goal and those who can do it, each a [`Contestant`].
//! `cargo bench -p kilburn-bench --bench table` lets the contestants of a row take turns of a few
//! milliseconds, so that whatever else the machine does hits all of them, and prints what
//! docs/performance.md shows. `--bench library` gives the same rows to criterion, for one change
//! beside another.
//!
//! - [`contest`]: rows, contestants, taking turns, processor time.
//! - [`machine`]: the host that the library runs on here, and random keys.
//! - [`rows`]: the work.
//!
//! Every contestant works on random keys in a state of the size named, and what it answers is used.
#![forbid(unsafe_code)]

pub mod contest;
pub mod machine;
pub mod rows;

pub use contest::{Clock, Contestant, Row, Times};
