//! `kilburn rmap`: from pages back to areas and processes, drawn.
//!
//! - [`told`]: what a machine says. [`text`], [`picture`]: the same to be read.
//!
//! The trees themselves are `kilburn_mm`'s; the machine is asked through its control socket.

mod picture;
mod text;
pub(crate) mod told;

use crate::failure::Failure;
use crate::observe::{machine, print, printable, question};
use crate::translate::parse_number;
use clap::Args;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use told::Told;

const NOTES: &str = "\
Examples:
  kilburn rmap                                files that are mapped, with their areas
  kilburn rmap /usr/bin/dash --svg dash.svg   the tree of one of them, as text and as a picture
  kilburn rmap --pid 5 0x15555556a000         of what is mapped there
  kilburn rmap --pid 5 0x15555556a000 --anon  of private pages: AnonVmas through fork

A file's areas form a tree by the pages they map. Each node has its pages [first..last] and the
largest last page of all below it, so that who maps a page is found without a look at the others.
Below `<` hangs what starts at smaller pages, below `>` what starts at larger ones. Private pages
belong to an AnonVma; fork makes one below it for the child's area.

A machine is looked at between two slices. One that waits for input stays as it is meanwhile.

Exit status: 0; 2 wrong usage, no such machine, file or process.";

/// `kilburn rmap`.
#[derive(Args, Debug)]
#[command(after_help = NOTES)]
pub(crate) struct Arguments {
    /// The machine, by its process on the host [default: the only one that runs]
    #[arg(long, value_name = "PID")]
    machine: Option<u32>,

    /// Process inside the machine, whose ADDRESS is meant
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,

    /// Private pages at the ADDRESS, although a file is mapped there
    #[arg(long, requires = "pid")]
    anon: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,

    /// Draw it into FILE as well
    #[arg(long, value_name = "FILE", requires = "what")]
    svg: Option<PathBuf>,

    /// Path of a file as /proc/PID/maps has it, or with --pid an address [default: list the files]
    #[arg(value_name = "FILE|ADDRESS")]
    what: Option<String>,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let machine = machine(arguments.machine)?;
    let asked = match (&arguments.what, arguments.pid) {
        (None, None) => return list(machine, arguments.json),
        (None, Some(_)) => return Err(Failure::usage("--pid needs an ADDRESS")),
        (Some(path), None) => json!({ "ask": "rmap", "path": path }),
        (Some(address), Some(pid)) => {
            let va = parse_number(address).map_err(Failure::usage)?;
            json!({ "ask": "rmap", "pid": pid, "va": va, "anon": arguments.anon })
        }
    };
    let answer = question(machine, &asked)?;
    let odd = |error| Failure::usage(format!("machine {machine}: {error} (another version?)"));
    let told: Told = serde_json::from_value(answer).map_err(odd)?;
    if let Some(path) = &arguments.svg {
        std::fs::write(path, picture::draw(&told))
            .map_err(|e| Failure::usage(format!("--svg {}: {e}", path.display())))?;
    }
    Ok(if arguments.json {
        let text = serde_json::to_string_pretty(&told).expect("plain values");
        print(&format!("{text}\n"))
    } else {
        print(&text::text(&told))
    })
}

/// The files that are mapped.
fn list(machine: u32, as_json: bool) -> Result<ExitCode, Failure> {
    let answer = question(machine, &json!({ "ask": "files" }))?;
    let files = answer.get("files").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if as_json {
        let text = serde_json::to_string_pretty(files).expect("plain values");
        return Ok(print(&format!("{text}\n")));
    }
    let mut text = String::from("  AREAS  SPACES     PAGES IN MEMORY FILE\n");
    for file in files {
        let n = |key| file.get(key).and_then(Value::as_u64).unwrap_or(0);
        let path = file.get("path").and_then(Value::as_str).unwrap_or("?");
        let _ = writeln!(
            text,
            "{:>7} {:>7} {:>9} {:>9} {}",
            n("areas"),
            n("spaces"),
            n("size_pages"),
            n("cached_pages"),
            printable(path)
        );
    }
    Ok(print(&text))
}
