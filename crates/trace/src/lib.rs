//! Traces of memory accesses: read, recorded, and replayed through the translation hardware.
//!
//! ```text
//!   lackey, ChampSim --\                             /--> tables of kilburn-mm, demand faults (managed)
//!                       open --> Event --> Replay --<
//!   a run (Recorder) --/                             \--> the tables a run had (recorded)
//! ```
//!
//! - [`Event`]: what any trace says ([`event`]). [`open`](open::open): which format, decompressed.
//! - [`lackey`], [`champsim`], [`native`]: the formats; [`native`] is our own and documented there.
//! - [`Replay`]: events into models ([`replay`]), over [`managed`] or [`recorded`] memory.
//! - [`Recorder`]: a hart's hardware model that also writes down what it saw ([`recorder`]).
//! - [`areas`]: what became of areas between two looks at them.
//! - [`timing`]: model configurations from presets and TOML files.
#![forbid(unsafe_code)]

pub mod areas;
pub mod champsim;
pub mod event;
pub mod lackey;
pub mod managed;
pub mod native;
pub mod open;
pub mod recorded;
pub mod recorder;
pub mod replay;
pub mod timing;

pub use event::{Event, Records, Sharing, TraceError};
pub use open::{Format, Source};
pub use recorder::Recorder;
pub use replay::{Replay, ReplayError};
