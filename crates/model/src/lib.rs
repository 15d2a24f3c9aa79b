//! The Linux oracle: the same calls made on the kernel and on ours, compared after every one.
//!
//! - [`Call`]: a memory call or an access, with raw arguments; one line of text ([`call`]).
//! - [`Case`]: a window of addresses, files, and calls to make there; a replayable text file
//!   ([`case`]).
//! - [`Generator`]: makes cases from a seed ([`generate`]).
//! - [`Oracle`]: makes a case's calls in a forked child of this process, on the real kernel, and
//!   reports every [`Outcome`] and what `/proc/self/maps` shows ([`host`]).
//! - [`shrink`]: makes a case that shows a difference as small as it gets.
//!
//! - [`locks`]: another instrument: locks that write down who takes them, for `kilburn bench locks`.
//!
//! Who is compared with the kernel is not known here: that is `kilburn fidelity`, which drives
//! `kilburn-mm` through the same calls.
#![deny(unsafe_code)]

pub mod areas;
pub mod call;
pub mod case;
pub mod flags;
pub mod generate;
pub mod host;
pub mod locks;
pub mod naive;
pub mod outcome;
pub mod rng;
pub mod safe;
pub mod shrink;

pub use call::{Call, Kind, Step};
pub use case::{Case, Window};
pub use generate::Generator;
pub use host::{Oracle, OracleError, Stage};
pub use naive::{Expect, Naive};
pub use outcome::{Class, Counts, Outcome, Pages, Report};
pub use rng::Rng;
