//! `kilburn run`: one guest program, and all it starts, on a machine of its own.

use crate::args::{RunArgs, StatsForm};
use crate::control;
use crate::failure::Failure;
use crate::figures::{Figures, HostTime};
use crate::inject::InjectArg;
use crate::timed::Timed;
use crate::translate::live;
use kilburn_linux::{
    Aslr, Control, ExitReport, ExitStatus, InitialFile, Machine, MachineConfig, MachineError,
    RealTime, ReclaimConfig, RootConfig, StdioConfig, TimeConfig, TraceSink,
};
use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// The tour, as built from programs/tour.c.
const TOUR: &[u8] = include_bytes!("../../../programs/tour");

/// Where a program of the host's lies in its in-memory root, and where it starts.
const HOME: &str = "/root";

/// Environment of the first program; `--env` adds to it and replaces.
const ENVIRONMENT: [&str; 6] = [
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME=/root",
    "USER=root",
    "LOGNAME=root",
    "SHELL=/bin/sh",
    "TERM=dumb",
];

/// Runs the program; the answer is its exit status.
pub(crate) fn run(arguments: &RunArgs) -> Result<ExitCode, Failure> {
    let mut config = configure(arguments)?;
    let control = Control::new();
    // A terminal's ^C is for the guest; whoever cannot be told of signals does without.
    let _ = signal_hook::flag::register(
        signal_hook::consts::SIGINT,
        Arc::clone(control.interrupt_flag()),
    );
    let _socket = if arguments.no_control { None } else { control::serve(&control) };
    config.control = Some(Arc::clone(&control));
    let form = arguments.stats.unwrap_or(if arguments.command.is_empty() {
        StatsForm::Text
    } else {
        StatsForm::Off
    });
    let mut timed = Timed::prepare(arguments)?;
    // The recording wants its output back: models alone are what is asked for.
    control.set_explainer(live::explainer(timed.as_ref().map(Timed::models).unwrap_or_default()));
    let start = Instant::now();
    // The machine is used up in there: nothing half-changed is seen again after a panic.
    let run = AssertUnwindSafe(|| {
        let machine = Machine::new(config.clone())?;
        if let Some(timed) = &timed {
            timed.install(&machine);
        }
        Ok::<_, MachineError>(machine.run())
    });
    let report = std::panic::catch_unwind(run).map_err(|_| {
        Failure::internal(
            "this is a mistake in kilburn, not in the program; please report it with the lines above",
        )
    })??;
    let host = HostTime { wall: start.elapsed() };
    if let Some(tasks) = &report.deadlock {
        eprintln!("kilburn: every task waits for another one, for ever; killed: {tasks}");
    }
    if let Some(timed) = &mut timed {
        timed.finish()?;
    }
    let mut figures = Figures::new(&config, &report, host);
    if let Some(timed) = &timed {
        figures.translated_by(&timed.stats());
    }
    // Models were there to be read, unless it was all for the recording.
    let timed = timed.filter(|_| arguments.timing.is_some() || form != StatsForm::Off);
    let text = match (form, &timed) {
        (StatsForm::Text, None) => figures.to_text(),
        (StatsForm::Text, Some(timed)) => figures.to_text() + &timed.to_text(),
        (StatsForm::Json, None) => figures.to_json(),
        (StatsForm::Json, Some(timed)) => figures.to_json_with("timing", timed.to_json()),
        (StatsForm::Off, Some(timed)) => timed.to_text(),
        (StatsForm::Off, None) => return Ok(exit_code(&report)),
    };
    match &arguments.stats_file {
        Some(path) => std::fs::write(path, text)
            .map_err(|e| Failure::usage(format!("--stats-file {}: {e}", path.display())))?,
        // Nobody is left to tell when stderr is gone; the guest's status still counts.
        None => drop(io::stderr().write_all(text.as_bytes())),
    }
    Ok(exit_code(&report))
}

fn exit_code(report: &ExitReport) -> ExitCode {
    ExitCode::from(match report.status {
        ExitStatus::Exited(status) => status,
        ExitStatus::Killed(signal) | ExitStatus::Dumped(signal) => signal.saturating_add(128),
    })
}

fn configure(arguments: &RunArgs) -> Result<MachineConfig, Failure> {
    let (root, program, args) = match (arguments.command.first(), &arguments.root) {
        (None, Some(_)) => return Err(Failure::usage("--root needs a PROGRAM to run in it")),
        (None, None) => in_memory("tour", TOUR.to_vec(), vec![b"./tour".to_vec()]),
        (Some(program), Some(dir)) => {
            (RootConfig::HostDir(dir.clone()), program.as_bytes().to_vec(), words(arguments))
        }
        (Some(program), None) => {
            let path = Path::new(program);
            let name = path.file_name().unwrap_or(program).to_string_lossy().into_owned();
            in_memory(&name, read_program(path)?, words(arguments))
        }
    };
    let cwd = match (&arguments.cwd, &arguments.root) {
        (Some(dir), _) => dir.as_str(),
        (None, Some(_)) => "/",
        (None, None) => HOME,
    };
    Ok(MachineConfig {
        memory_bytes: arguments.memory,
        paging: arguments.paging.into(),
        harts: arguments.harts,
        seed: arguments.seed,
        aslr: if arguments.no_aslr { Aslr::Off } else { Aslr::Seeded },
        root,
        program,
        args,
        env: environment(&arguments.env),
        cwd: cwd.into(),
        net: arguments.net.into(),
        stdio: StdioConfig::Host,
        strace: trace_sink(arguments)?,
        control: None,
        time: if arguments.real_time {
            TimeConfig::Real(Arc::new(HostClock::start()))
        } else {
            TimeConfig::Virtual
        },
        reclaim: ReclaimConfig {
            policy: arguments.policy,
            swap: arguments.swap.clone(),
            inject: arguments.inject.iter().find_map(InjectArg::of_swap),
        },
        file_faults: arguments.inject.iter().find_map(InjectArg::of_files),
    })
}

/// The host's clock: monotonic, on top of what the time was when the machine was made.
struct HostClock {
    at_start: Duration,
    start: Instant,
}

impl HostClock {
    fn start() -> Self {
        let at_start = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { at_start, start: Instant::now() }
    }
}

impl RealTime for HostClock {
    fn now(&self) -> Duration {
        self.at_start + self.start.elapsed()
    }

    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }
}

/// Where `--strace` goes.
fn trace_sink(arguments: &RunArgs) -> Result<Option<TraceSink>, Failure> {
    Ok(match &arguments.strace {
        None => None,
        Some(None) => Some(TraceSink::new(io::stderr())),
        Some(Some(path)) => {
            let file = std::fs::File::create(path)
                .map_err(|e| Failure::usage(format!("--strace={}: {e}", path.display())))?;
            Some(TraceSink::new(file))
        }
    })
}

fn words(arguments: &RunArgs) -> Vec<Vec<u8>> {
    arguments.command.iter().map(|word| word.as_bytes().to_vec()).collect()
}

/// An in-memory root that holds one program.
fn in_memory(name: &str, data: Vec<u8>, args: Vec<Vec<u8>>) -> (RootConfig, Vec<u8>, Vec<Vec<u8>>) {
    let path = format!("{HOME}/{name}").into_bytes();
    let file = InitialFile { path: path.clone(), mode: 0o755, data };
    (RootConfig::Memory(vec![file]), path, args)
}

fn read_program(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| {
        let message = format!("{}: {}", path.display(), plain(&error));
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Failure::not_found(format!(
                "{message} (without --root, PROGRAM is a file of this machine)"
            )),
            _ => Failure::not_executable(message),
        }
    })
}

/// The error without its "(os error N)".
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error").map_or(text.clone(), |(what, _)| what.to_owned())
}

/// [`ENVIRONMENT`] with `changes` applied, each `NAME=VALUE`.
fn environment(changes: &[String]) -> Vec<Vec<u8>> {
    let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    let mut all: Vec<String> = ENVIRONMENT.map(str::to_owned).to_vec();
    for change in changes {
        match all.iter_mut().find(|entry| name(entry) == name(change)) {
            Some(entry) => entry.clone_from(change),
            None => all.push(change.clone()),
        }
    }
    all.into_iter().map(|entry| OsStr::new(&entry).as_bytes().to_vec()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_replaced_in_place_or_added_at_the_end() {
        let all = environment(&["TERM=xterm".into(), "X=1".into(), "X=2".into()]);
        assert_eq!(all.len(), ENVIRONMENT.len() + 1);
        assert_eq!(all[5], b"TERM=xterm");
        assert_eq!(all[6], b"X=2");
    }

    #[test]
    fn the_committed_tour_is_a_riscv_elf() {
        assert_eq!(TOUR[..4], *b"\x7fELF");
        assert_eq!(TOUR[18], 243);
        assert!(TOUR.len() < 64 << 10, "small enough to carry along");
    }
}
