//! Does a hot path so many times and nothing else, for `cargo xtask counts` to count its instructions.
//!
//! `counts list` names the paths and how often each is to be done, `counts NAME TIMES` does one. Neighbour: `kilburn_bench::counts`.
#![forbid(unsafe_code)]

use kilburn_bench::counts;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["list"] => {
            counts::PATHS.iter().for_each(|path| println!("{} {}", path.name, path.times));
            Some(())
        }
        [name, times] => times.parse().ok().and_then(|times| counts::run(name, times)),
        _ => None,
    };
    if done.is_none() {
        eprintln!("usage: counts list | counts NAME TIMES");
        return ExitCode::from(2);
    }
    ExitCode::SUCCESS
}
