//! Tests of the areas.

mod host;
mod model;
mod pictures;
mod placing;
mod size;
