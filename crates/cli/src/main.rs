//! The `kilburn` command.

fn main() {}
