//! A swap file on the host while its kernel is asked: MADV_PAGEOUT has somewhere to go then.
//!
//! A shell guards it: when this process ends, however it does, the pipe between them closes and the
//! shell switches the file off and removes it.

use kilburn_model::{Case, Kind};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

/// Bytes of the file: far more than the cases' windows.
const BYTES: usize = 64 << 20;
/// Where `auto` puts it: on a disk, as a swap file must be.
const FOLDER: &str = "/var/tmp";
/// Waits until the pipe closes. A signal from the terminal is for the process that is guarded.
const GUARD: &str = r#"trap "" INT TERM HUP; cat >/dev/null; swapoff "$1" 2>/dev/null; rm -f "$1""#;

/// A swap file in use by the host.
pub(super) struct HostSwap {
    guard: Child,
    pipe: Option<ChildStdin>,
}

impl HostSwap {
    /// Makes the file at `place`, or anywhere for `auto`, and has the host swap to it first.
    /// This process and those it makes stay on one CPU from then on: what MADV_PAGEOUT takes is
    /// what the CPU it runs on has put on a list.
    ///
    /// # Errors
    /// What could not be done, in words.
    pub(super) fn start(place: &str) -> Result<Self, String> {
        let path = match place {
            "auto" => Path::new(FOLDER).join(format!("kilburn-swap-{}", std::process::id())),
            path => PathBuf::from(path),
        };
        make(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut guard = Command::new("sh")
            .args(["-c", GUARD, "sh"])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| format!("sh: {error}"))?;
        let pipe = guard.stdin.take();
        // From here on the guard cleans up, whatever fails.
        let swap = Self { guard, pipe };
        tool("mkswap", &["-q".as_ref(), path.as_os_str()])?;
        tool("swapon", &["-p".as_ref(), "32767".as_ref(), path.as_os_str()])?;
        let own = std::process::id().to_string();
        tool("taskset", &["-pc".as_ref(), "0".as_ref(), own.as_ref()])?;
        Ok(swap)
    }
}

/// Makes every other madvise of a case a MADV_PAGEOUT.
pub(super) fn page_out_more(case: &mut Case) {
    const MADV_PAGEOUT: u64 = 21;
    let advices = case.steps.iter_mut().filter(|step| step.call.kind == Kind::Madvise);
    for step in advices.step_by(2) {
        step.call.args[2] = MADV_PAGEOUT;
    }
}

/// A file without holes, for our eyes only. One that is there is not touched.
fn make(path: &Path) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(&vec![0; BYTES])?;
    file.sync_all()
}

fn tool(name: &str, arguments: &[&std::ffi::OsStr]) -> Result<(), String> {
    let output = Command::new(name).args(arguments).output();
    let output = output.map_err(|error| format!("{name}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{name}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

impl Drop for HostSwap {
    fn drop(&mut self) {
        drop(self.pipe.take());
        // It ends once the file is gone.
        let _ = self.guard.wait();
    }
}
