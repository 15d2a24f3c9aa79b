//! Whole guest programs: in our machine, under qemu's user emulation, and on a real kernel in qemu's machine.
//!
//! The programs are those of benches/guest; each contestant is a process of its own, and its processor time counts.

use crate::Work;
use crate::contest::{Effort, Measured, Unit};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// A program, its rounds, and what is asked of it.
struct Program {
    name: &'static str,
    elf: &'static [u8],
    does: &'static str,
    rounds: u32,
    unit: Unit,
    goal: Option<f64>,
}

const PROGRAMS: [Program; 4] = [
    Program {
        name: "sieve_sha256",
        elf: include_bytes!("../../../../benches/guest/sieve_sha256"),
        does: "sieve and SHA-256: instructions retired",
        rounds: 14,
        unit: Unit::MillionsPerSecond,
        goal: Some(700.0),
    },
    Program {
        name: "qsort_malloc",
        elf: include_bytes!("../../../../benches/guest/qsort_malloc"),
        does: "quicksort and a heap: instructions retired",
        rounds: 41,
        unit: Unit::MillionsPerSecond,
        goal: None,
    },
    Program {
        name: "chase",
        elf: include_bytes!("../../../../benches/guest/chase"),
        does: "shuffle and chase over 64 MiB",
        rounds: 2,
        unit: Unit::Seconds,
        goal: Some(5.0),
    },
    Program {
        name: "hello",
        elf: include_bytes!("../../../../benches/guest/hello"),
        does: "a static program that says hello, from start to end",
        rounds: 1,
        unit: Unit::Seconds,
        goal: Some(0.03),
    },
];

/// Programs take seconds: fewer turns than of short work are enough.
const TURNS: usize = 3;

pub(crate) fn work() -> Vec<Work> {
    let work = |program: &'static Program| {
        Work::new("hart", program.does.to_owned(), program.unit, program.goal, move |effort| {
            measure(program, effort)
        })
    };
    PROGRAMS.iter().map(work).collect()
}

/// Processor time, user and system, that children which ended have had; in ticks of 10 ms.
fn children_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name may hold blanks and brackets; the fields after it count from 3.
    let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
    let ticks = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Duration::from_millis(10 * (ticks(16)? + ticks(17)?)))
}

/// Runs `command` to its end; the seconds of processor time it took.
pub(super) fn timed(command: &mut Command) -> Result<f64, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let failed = |why: String| format!("{name}: {why}");
    let before = children_time();
    let start = std::time::Instant::now();
    let output = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .map_err(|error| failed(error.to_string()))?;
    let wall = start.elapsed();
    if !output.status.success() {
        return Err(failed(format!(
            "{}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        )));
    }
    let took = before.zip(children_time()).map(|(before, after)| after.saturating_sub(before));
    // What takes less than some ticks is told from the clock.
    Ok(took.filter(|took| *took > Duration::from_millis(300)).unwrap_or(wall).as_secs_f64())
}

/// Instructions that our machine retires for it: the same each time.
fn instructions(kilburn: &Path, program: &Path, rounds: &str) -> Result<f64, String> {
    let figures = program.with_extension("figures");
    let mut command = Command::new(kilburn);
    command
        .args(["run", "--no-control", "--stats=json", "--stats-file"])
        .arg(&figures)
        .arg(program)
        .arg(rounds);
    timed(&mut command)?;
    let text = std::fs::read_to_string(&figures).map_err(|error| error.to_string())?;
    let figures: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| error.to_string())?;
    figures["instructions"].as_f64().ok_or_else(|| "no figures".to_owned())
}

type Run = Box<dyn Fn() -> Command>;

/// Who runs `program`, ours first; and who does not.
fn contestants(effort: &Effort, program: &Path, rounds: &str) -> (Vec<(String, Run)>, Vec<String>) {
    let (path, rounds) = (program.to_path_buf(), rounds.to_owned());
    let kilburn = effort.kilburn.clone();
    let ours: Run = Box::new({
        let (path, rounds) = (path.clone(), rounds.clone());
        move || {
            let mut command = Command::new(&kilburn);
            command.args(["run", "--no-control", "--stats=off"]).arg(&path).arg(&rounds);
            command
        }
    });
    let mut all = vec![("ours".to_owned(), ours)];
    let mut notes = Vec::new();
    let user = "qemu-riscv64-static";
    if Command::new(user).arg("--version").output().is_ok() {
        let (path, rounds) = (path.clone(), rounds.clone());
        let run: Run = Box::new(move || {
            let mut command = Command::new(user);
            command.arg(&path).arg(&rounds);
            command
        });
        all.push((format!("{user} (compiles; no MMU)"), run));
    } else {
        notes.push(format!("{user} is not installed (apt install qemu-user-static)"));
    }
    match std::env::var_os("KILBURN_REAL").map(PathBuf::from) {
        Some(real) => {
            let run: Run = Box::new(move || {
                let mut put = path.clone().into_os_string();
                put.push(":/root/program");
                let mut command = Command::new(&real);
                command.args(["--paging", "sv39", "--put"]).arg(put).args(["--", "./program", &rounds]);
                command
            });
            all.push(("qemu-system-riscv64 (compiles; boot of its kernel included)".to_owned(), run));
        }
        None => notes.push(
            "qemu-system-riscv64 needs a kernel: KILBURN_REAL names a command that runs a program on one"
                .to_owned(),
        ),
    }
    (all, notes)
}

fn measure(program: &Program, effort: &Effort) -> Measured {
    let folder = match tempfile::tempdir() {
        Ok(folder) => folder,
        Err(error) => return Measured::failed(error.to_string()),
    };
    let path = folder.path().join(program.name);
    let written = std::fs::write(&path, program.elf)
        .and_then(|()| std::fs::set_permissions(&path, Permissions::from_mode(0o755)));
    if let Err(error) = written {
        return Measured::failed(error.to_string());
    }
    let part = if effort.is_quick { 10 } else { 1 };
    let rounds = program.rounds.div_ceil(part).to_string();
    let work = match program.unit {
        Unit::MillionsPerSecond => match instructions(&effort.kilburn, &path, &rounds) {
            Ok(instructions) => instructions / 1e6,
            Err(why) => return Measured::failed(why),
        },
        _ => 1.0,
    };
    let (contestants, notes) = contestants(effort, &path, &rounds);
    let mut measured = Measured { notes, ..Measured::default() };
    if effort.is_quick {
        measured.notes.push(format!("{rounds} of {} rounds, as this run is quick", program.rounds));
    }
    let mut turns = vec![Vec::new(); contestants.len()];
    for _ in 0..effort.long_rounds(TURNS) {
        for ((_, run), turns) in contestants.iter().zip(&mut turns) {
            match timed(&mut run()) {
                Ok(seconds) if program.unit == Unit::MillionsPerSecond => {
                    turns.push(work / seconds);
                }
                Ok(seconds) => turns.push(seconds),
                Err(why) => measured.notes.push(why),
            }
        }
    }
    let mut turns = contestants.into_iter().map(|(name, _)| name).zip(turns);
    measured.ours = turns.next().map(|(_, turns)| turns).unwrap_or_default();
    let count = measured.ours.len();
    measured.peers = turns.filter(|(_, turns)| turns.len() == count).collect();
    measured
}
