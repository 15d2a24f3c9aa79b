//! Runs one test and reads its verdict.
//!
//! [`Runner`] knows the command and the guest's root; [`Outcome`] is what became of a test.
//! Neighbour: [`super`].

use super::Args;
use super::list::Test;
use anyhow::{Context as _, Result, bail};
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Where the programs are in the guest.
const BIN: &str = "opt/ltp/testcases/bin";

/// How a test ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Verdict {
    /// Exit status 0.
    Pass,
    /// A check failed, or the test broke.
    Fail,
    /// The machine lacks what it tests (TCONF).
    Conf,
    /// It did not end in time.
    Hung,
    /// There is no such program.
    Missing,
}

impl Verdict {
    /// As the exit status says (LTP's doc/developers/api_c_tests: TFAIL 1, TBROK 2, TWARN 4,
    /// TCONF 32, added up).
    fn of(status: Option<i32>) -> Self {
        match status {
            Some(0) => Self::Pass,
            Some(32) => Self::Conf,
            _ => Self::Fail,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pass => "PASS",
            Self::Fail => "FAIL",
            Self::Conf => "CONF",
            Self::Hung => "HUNG",
            Self::Missing => "MISSING",
        })
    }
}

/// What became of a test.
pub(super) struct Outcome {
    pub(super) verdict: Verdict,
    /// The line in which it said why it did not pass.
    pub(super) cause: String,
}

/// Runs tests.
pub(super) struct Runner {
    kilburn: PathBuf,
    root: PathBuf,
    timeout: Duration,
    logs: PathBuf,
    /// Removed at the end.
    _own: tempfile::TempDir,
}

impl Runner {
    /// Checks what is given and puts the programs into the guest's root.
    pub(super) fn new(args: &Args) -> Result<Self> {
        let kilburn = &args.kilburn;
        let kilburn = kilburn.canonicalize().with_context(|| kilburn.display().to_string())?;
        let own = tempfile::tempdir()?;
        let root = args.root.clone().unwrap_or_else(|| own.path().join("root"));
        let bin = root.join(BIN);
        std::fs::create_dir_all(&bin).with_context(|| bin.display().to_string())?;
        if args.dir.canonicalize()? != bin.canonicalize()? {
            copy_new(&args.dir, &bin)?;
        }
        let logs = args.logs.clone().unwrap_or_else(|| own.path().join("logs"));
        std::fs::create_dir_all(&logs).with_context(|| logs.display().to_string())?;
        let timeout = Duration::from_secs(args.timeout);
        Ok(Self { kilburn, root, timeout, logs, _own: own })
    }

    /// Runs `test`.
    pub(super) fn run(&self, test: &Test) -> Result<Outcome> {
        let mut words: Vec<&str> = test.command.split_ascii_whitespace().collect();
        // A command line that only a shell understands.
        if test.command.contains(['`', '$', ';', '|']) {
            words = vec!["sh", "-c", &test.command];
        } else if words.first().is_none_or(|name| !self.root.join(BIN).join(name).exists()) {
            return Ok(Outcome { verdict: Verdict::Missing, cause: "no such program".to_owned() });
        }
        let log = self.logs.join(format!("{}.log", test.name));
        let out = File::create(&log).with_context(|| log.display().to_string())?;
        let mut child = Command::new(&self.kilburn)
            // As large as the machine that the table was measured on.
            .args(["run", "--memory", "2G", "--paging", "sv57"])
            .args(["--env", "LTPROOT=/opt/ltp", "--env", "HOME=/root"])
            // Tests that race two threads for a minute do so for a quarter of it.
            .args(["--env", "LTP_RUNTIME_MUL=0.25"])
            .args(["--env", "PATH=/opt/ltp/testcases/bin:/usr/bin:/bin:/usr/sbin:/sbin"])
            .args(["--env", "TMPDIR=/tmp", "--root"])
            .arg(&self.root)
            .args(words)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .with_context(|| self.kilburn.display().to_string())?;
        let end = Instant::now() + self.timeout;
        let status: Option<ExitStatus> = loop {
            match child.try_wait()? {
                Some(status) => break Some(status),
                None if Instant::now() >= end => break None,
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        let verdict = match status {
            Some(status) => Verdict::of(status.code()),
            None => {
                child.kill()?;
                child.wait()?;
                Verdict::Hung
            }
        };
        Ok(Outcome { verdict, cause: cause(&log)? })
    }
}

/// The first line that tells of a failure; else the last one.
fn cause(log: &Path) -> Result<String> {
    const LOG_BYTES_MAX: u64 = 1 << 20;
    let mut text = Vec::new();
    File::open(log)?.take(LOG_BYTES_MAX).read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text);
    let tells = |line: &&str| ["TFAIL", "TBROK", "TCONF", "TWARN"].iter().any(|w| line.contains(w));
    let line =
        text.lines().find(tells).or_else(|| text.lines().last()).unwrap_or("it said nothing");
    Ok(line.trim().to_owned())
}

/// Copies programs that `to` does not have, or has older.
fn copy_new(from: &Path, to: &Path) -> Result<()> {
    let mut any = false;
    for entry in std::fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let metadata = std::fs::metadata(entry.path())?;
        if !metadata.is_file() {
            continue;
        }
        any = true;
        let target = to.join(entry.file_name());
        let known = std::fs::metadata(&target).and_then(|known| known.modified());
        if known.map_or(true, |known| metadata.modified().is_ok_and(|new| new > known)) {
            std::fs::copy(entry.path(), &target).with_context(|| target.display().to_string())?;
        }
    }
    if any { Ok(()) } else { bail!("{} holds no programs", from.display()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_lone_tconf_is_a_test_the_machine_cannot_run() {
        assert_eq!(Verdict::of(Some(0)), Verdict::Pass);
        assert_eq!(Verdict::of(Some(32)), Verdict::Conf);
        for failed in [Some(1), Some(2), Some(4), Some(33), Some(70), None] {
            assert_eq!(Verdict::of(failed), Verdict::Fail);
        }
    }
}
