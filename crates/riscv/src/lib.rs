//! The RV64GC hart: predecoded blocks, exact floating point, precise traps.
