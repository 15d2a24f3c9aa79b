//! `kilburn ps`, `maps`, `smaps`, `top`: looking at machines that are running.

use crate::args::{MapsArgs, PsArgs, TopArgs};
use crate::control::{ask, machines};
use crate::failure::Failure;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

/// The machine that is meant: the chosen one, or the only one that runs.
pub(crate) fn machine(chosen: Option<u32>) -> Result<u32, Failure> {
    if let Some(pid) = chosen {
        return Ok(pid);
    }
    match machines().as_slice() {
        [] => Err(Failure::usage(
            "no machine is running (or XDG_RUNTIME_DIR is not set, where their sockets lie)",
        )),
        [one] => Ok(*one),
        several => {
            let several: Vec<String> = several.iter().map(u32::to_string).collect();
            Err(Failure::usage(format!(
                "several machines are running, choose one with --machine: {}",
                several.join(", ")
            )))
        }
    }
}

/// What machine `pid` answers.
pub(crate) fn question(pid: u32, question: &Value) -> Result<Value, Failure> {
    let answer =
        ask(pid, question).map_err(|error| Failure::usage(format!("machine {pid}: {error}")))?;
    match answer.get("error").and_then(Value::as_str) {
        Some(error) => Err(Failure::usage(format!("machine {pid}: {error}"))),
        None => Ok(answer),
    }
}

/// Prints on stdout.
pub(crate) fn print(text: &str) -> ExitCode {
    // Who reads may have had enough (`| head`).
    let _ = io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

/// `kilburn ps`: processes of one machine, or of all.
pub(crate) fn ps(arguments: &PsArgs) -> Result<ExitCode, Failure> {
    let chosen = match arguments.machine {
        Some(pid) => vec![pid],
        None => machines(),
    };
    if chosen.is_empty() {
        machine(None)?;
    }
    let mut text = String::new();
    for pid in chosen {
        let answer = question(pid, &json!({ "ask": "ps" }))?;
        if arguments.json {
            let _ = writeln!(text, "{}", json!({ "machine": pid, "state": answer }));
        } else {
            if text.is_empty() {
                text.push_str(HEADER);
            }
            table(pid, &answer, &mut text);
        }
    }
    Ok(print(&text))
}

const HEADER: &str =
    "MACHINE    PID   PPID S  THR     CPU s    VSZ KiB    RSS KiB    PSS KiB  MINFLT COMMAND\n";

fn processes(answer: &Value) -> Vec<&Value> {
    answer.get("processes").and_then(Value::as_array).into_iter().flatten().collect()
}

fn number(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or(0)
}

fn table(machine: u32, answer: &Value, out: &mut String) {
    rows(machine, &processes(answer), out);
}

fn rows(machine: u32, processes: &[&Value], out: &mut String) {
    for process in processes {
        let n = |key| number(process, key);
        let word = |key| process.get(key).and_then(Value::as_str).unwrap_or("?");
        let _ = writeln!(
            out,
            "{machine:>7} {:>6} {:>6} {} {:>4} {:>5}.{:03} {:>10} {:>10} {:>10} {:>7} {}",
            n("pid"),
            n("ppid"),
            word("state"),
            n("threads"),
            n("cpu_ns") / 1_000_000_000,
            n("cpu_ns") / 1_000_000 % 1000,
            n("vm_kib"),
            n("rss_kib"),
            n("pss_kib"),
            n("minor_faults"),
            printable(word("name")),
        );
    }
}

/// A guest chooses its names: none may steer the terminal.
pub(crate) fn printable(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// `kilburn maps PID`.
pub(crate) fn maps(arguments: &MapsArgs) -> Result<ExitCode, Failure> {
    text_of("maps", arguments)
}

/// `kilburn smaps PID`.
pub(crate) fn smaps(arguments: &MapsArgs) -> Result<ExitCode, Failure> {
    text_of("smaps", arguments)
}

fn text_of(what: &str, arguments: &MapsArgs) -> Result<ExitCode, Failure> {
    let machine = machine(arguments.machine)?;
    let answer = question(machine, &json!({ "ask": what, "pid": arguments.pid }))?;
    let text = answer.get("text").and_then(Value::as_str).unwrap_or_default();
    Ok(print(text))
}

/// `kilburn top`: processes of one machine by CPU time, again and again until it ends.
pub(crate) fn top(arguments: &TopArgs) -> Result<ExitCode, Failure> {
    let machine = machine(arguments.machine)?;
    let mut before = question(machine, &json!({ "ask": "ps" }))?;
    let mut shown = 0;
    loop {
        let text = screen(machine, &before);
        let clear = if arguments.count == Some(1) { "" } else { "\x1b[H\x1b[2J" };
        print(&format!("{clear}{text}"));
        shown += 1;
        if arguments.count.is_some_and(|count| shown >= count) {
            return Ok(ExitCode::SUCCESS);
        }
        thread::sleep(Duration::from_millis(arguments.interval_ms.into()));
        match question(machine, &json!({ "ask": "ps" })) {
            Ok(answer) => before = answer,
            // The machine has ended.
            Err(_) => return Ok(ExitCode::SUCCESS),
        }
    }
}

fn screen(machine: u32, answer: &Value) -> String {
    let mut listed = processes(answer);
    listed.sort_by_key(|process| std::cmp::Reverse(number(process, "cpu_ns")));
    let n = |key| number(answer, key);
    let mut text = format!(
        "machine {machine}: {}.{:03} s of virtual time, {} processes\n\
         memory {} KiB, free {} KiB, page cache {} KiB\n\n{HEADER}",
        n("virtual_ns") / 1_000_000_000,
        n("virtual_ns") / 1_000_000 % 1000,
        listed.len(),
        n("memory_kib"),
        n("free_kib"),
        n("cached_kib"),
    );
    rows(machine, &listed, &mut text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn top_sorts_by_time_used_and_names_cannot_steer_the_terminal() {
        let answer = json!({
            "virtual_ns": 1_500_000_000_u64, "memory_kib": 1024, "free_kib": 100, "cached_kib": 7,
            "processes": [
                { "pid": 2, "state": "S", "name": "idle", "cpu_ns": 5 },
                { "pid": 3, "state": "R", "name": "b\u{1b}[2Jsy", "cpu_ns": 2_000_000_000_u64 },
            ],
        });
        let text = screen(77, &answer);
        assert!(text.starts_with("machine 77: 1.500 s of virtual time, 2 processes\n"), "{text}");
        let (busy, idle) = (text.find("b?[2Jsy"), text.find("idle"));
        assert!(busy.is_some() && busy < idle, "{text}");
    }
}
