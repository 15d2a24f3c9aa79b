//! The examples print what their `.txt` files say.

use std::error::Error;
use std::fmt::Write;

#[path = "../examples/device.rs"]
#[expect(dead_code, reason = "its main is not called")]
mod device;
#[path = "../examples/shortest.rs"]
#[expect(dead_code, reason = "its main is not called")]
mod shortest;

type Example = fn(&mut dyn Write) -> Result<(), Box<dyn Error>>;

#[track_caller]
fn check(run: Example, expected: &str) {
    let mut printed = String::new();
    run(&mut printed).expect("the example runs");
    // Lines of maps without a name end in a space, files of text do not.
    let printed: String = printed.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    assert_eq!(printed, expected);
}

#[test]
fn the_shortest_embedding_prints_what_is_shown() {
    check(shortest::run, include_str!("../examples/shortest.txt"));
}

#[test]
fn the_device_of_a_user_prints_what_is_shown() {
    check(device::run, include_str!("../examples/device.txt"));
}
