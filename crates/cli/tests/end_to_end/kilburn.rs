//! Running the command under test (or another one) with a time limit; skipping out loud.

use std::ffi::OsStr;
use std::io::{Read, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// No run takes that long, on whatever machine: only a run that hangs meets it.
const TIME_LIMIT: Duration = Duration::from_secs(300);

/// What a command printed and how it ended (128 + signal when a signal ended it).
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Outcome {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// `kilburn` with these arguments, nothing on stdin.
pub(crate) fn kilburn<S: AsRef<OsStr>>(arguments: &[S]) -> Outcome {
    kilburn_with_input(arguments, b"")
}

/// `kilburn` with these arguments and this on stdin.
pub(crate) fn kilburn_with_input<S: AsRef<OsStr>>(arguments: &[S], input: &[u8]) -> Outcome {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kilburn"));
    command.args(arguments);
    run(command, input)
}

/// `kilburn` with these arguments, in this folder of the host's.
pub(crate) fn kilburn_in<S: AsRef<OsStr>>(folder: &Path, arguments: &[S]) -> Outcome {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kilburn"));
    command.args(arguments).current_dir(folder);
    run(command, b"")
}

/// Runs `command` with `input` on stdin; panics when it does not end.
pub(crate) fn run(mut command: Command, input: &[u8]) -> Outcome {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_vec();
    // A command that does not read its input closes the pipe early: no error of the test's.
    thread::spawn(move || drop(stdin.write_all(&input)));
    let stdout = collect(child.stdout.take().expect("piped"));
    let stderr = collect(child.stderr.take().expect("piped"));
    let (done, ended) = mpsc::channel();
    let watched = child.id();
    let watchdog = thread::spawn(move || {
        let late = ended.recv_timeout(TIME_LIMIT) == Err(mpsc::RecvTimeoutError::Timeout);
        if late {
            drop(Command::new("kill").args(["-KILL", &watched.to_string()]).status());
        }
        late
    });
    let stdout = stdout.join().expect("read");
    let stderr = stderr.join().expect("read");
    let status = child.wait().expect("ended");
    let _ = done.send(());
    assert!(!watchdog.join().expect("ended"), "{command:?} did not end; it had printed {stdout}");
    let status = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    Outcome { status, stdout, stderr }
}

fn collect(mut from: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).expect("a pipe");
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// The Debian root folder, or `None` after saying that the test is skipped.
pub(crate) fn debian_root() -> Option<PathBuf> {
    let root = std::env::var_os("KILBURN_ROOT").map(PathBuf::from);
    if root.is_none() {
        skip("KILBURN_ROOT names no Debian riscv64 root folder (make one: kilburn rootfs DIR ...)");
    }
    root
}

/// Compiles `source`, a C program, to `folder/name`, with these options beside `-O1`; false after
/// saying that there is no compiler.
pub(crate) fn compile(folder: &Path, name: &str, source: &str, options: &[&str]) -> bool {
    const COMPILER: &str = "riscv64-linux-gnu-gcc";
    if Command::new(COMPILER).arg("--version").output().is_err() {
        skip("riscv64-linux-gnu-gcc is not installed (Debian package gcc-riscv64-linux-gnu)");
        return false;
    }
    let from = folder.join(format!("{name}.c"));
    std::fs::write(&from, source).expect("written");
    let mut command = Command::new(COMPILER);
    command.arg("-O1").args(options).arg("-o").arg(folder.join(name)).arg(&from);
    let outcome = run(command, b"");
    assert_eq!(outcome.status, 0, "{name}: {}", outcome.stderr);
    true
}

/// Says that this test is skipped, past the test harness that hides what passing tests print.
///
/// # Panics
/// When `KILBURN_NO_SKIP` is set.
pub(crate) fn skip(why: &str) {
    let name = thread::current().name().unwrap_or("a test").to_owned();
    assert!(std::env::var_os("KILBURN_NO_SKIP").is_none(), "{name} may not be skipped: {why}");
    drop(writeln!(std::io::stderr(), "SKIP: {name}: {why}"));
}
