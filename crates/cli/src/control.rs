//! The control socket of a running machine: a Unix socket that answers questions in JSON.
//!
//! `$XDG_RUNTIME_DIR/kilburn/PID.sock`, for its owner alone. One line asks, one line answers:
//!
//! ```text
//! {"ask":"ps"}                 {"virtual_ns":..., "memory_kib":..., "processes":[{"pid":2, ...}]}
//! {"ask":"maps","pid":2}       {"text":"..."}
//! {"ask":"translate","pid":2,"va":65536,"access":"load"}    {"text":"...","svg":"...","moment":{...}}
//! {"ask":"files"}              {"files":[{"path":"/bin/sh", ...}]}
//! {"ask":"rmap","path":"/bin/sh"}                {"file":{"path":"/bin/sh","areas":[...], ...}}
//! {"ask":"rmap","pid":2,"va":65536,"anon":true}  {"anonymous":{"anon_vmas":[...], ...}}
//! {"ask":"nonsense"}           {"error":"..."}
//! ```
//!
//! [`serve`] is the machine's side; [`ask`] and [`machines`] are what `kilburn ps` and its like
//! use ([`crate::observe`]).

use crate::rmap::told::Told;
use kilburn_addr::{Access, VirtAddr};
use kilburn_linux::{Answer, Control, MappedInfo, Question, RmapOf, Snapshot};
use serde_json::{Value, json};
use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Longest question.
const QUESTION_MAX: u64 = 4096;
/// How long a machine may take to answer: one slice takes far less.
const PATIENCE: Duration = Duration::from_secs(10);

/// A socket that is there as long as this is.
pub(crate) struct Socket(PathBuf);

impl Drop for Socket {
    fn drop(&mut self) {
        // Whoever removed it before us did our work.
        let _ = fs::remove_file(&self.0);
    }
}

/// The folder of all sockets of this user; `None` without XDG_RUNTIME_DIR.
fn folder() -> Option<PathBuf> {
    Some(PathBuf::from(std::env::var_os("XDG_RUNTIME_DIR")?).join("kilburn"))
}

/// Opens the socket of this process's machine; `None` when there is no place for it.
pub(crate) fn serve(control: &Arc<Control>) -> Option<Socket> {
    let path = folder()?.join(format!("{}.sock", std::process::id()));
    let listener = listen(&path).ok()?;
    let control = Arc::clone(control);
    // It ends with the process: nothing waits for it.
    thread::Builder::new()
        .name("control".into())
        .spawn(move || {
            for stream in listener.incoming().flatten() {
                // Who asks and goes away is no error of the machine's.
                let _ = converse(&control, stream);
            }
        })
        .ok()?;
    Some(Socket(path))
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    let folder = path.parent().unwrap_or(path);
    // The folder keeps others out before the socket has its own mode.
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let _ = fs::remove_file(path);
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

fn converse(control: &Control, stream: UnixStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new((&stream).take(QUESTION_MAX)).read_line(&mut line)?;
    let answer = match parse(&line) {
        Some(question) => match control.ask(question, PATIENCE) {
            Some(answer) => to_json(answer),
            None => json!({ "error": "the machine does not answer" }),
        },
        None => {
            json!({ "error": "ask for ps or files; for maps or smaps with a pid; for translate with a pid, va and access; for rmap with a path, or a pid and va" })
        }
    };
    writeln!(&stream, "{answer}")
}

fn parse(line: &str) -> Option<Question> {
    let asked: Value = serde_json::from_str(line).ok()?;
    let pid = || u32::try_from(asked.get("pid")?.as_u64()?).ok();
    match asked.get("ask")?.as_str()? {
        "ps" => Some(Question::Processes),
        "maps" => pid().map(Question::Maps),
        "smaps" => pid().map(Question::Smaps),
        "files" => Some(Question::MappedFiles),
        "rmap" => Some(Question::Rmap(rmap_of(&asked)?)),
        "translate" => Some(Question::Translate {
            pid: pid()?,
            va: VirtAddr::new(asked.get("va")?.as_u64()?),
            access: match asked.get("access")?.as_str()? {
                "load" => Access::Read,
                "store" => Access::Write,
                "fetch" => Access::Exec,
                _ => return None,
            },
        }),
        _ => None,
    }
}

/// Whose ways back are asked for.
fn rmap_of(asked: &Value) -> Option<RmapOf> {
    if let Some(path) = asked.get("path") {
        return Some(RmapOf::Path(path.as_str()?.to_owned()));
    }
    let pid = u32::try_from(asked.get("pid")?.as_u64()?).ok()?;
    let va = VirtAddr::new(asked.get("va")?.as_u64()?);
    let is_anon = asked.get("anon").is_some_and(|anon| anon == true);
    Some(if is_anon { RmapOf::Anon(pid, va) } else { RmapOf::Address(pid, va) })
}

fn files(found: Vec<MappedInfo>) -> Value {
    let one = |file: MappedInfo| {
        json!({
            "path": file.path, "areas": file.areas, "spaces": file.spaces,
            "size_pages": file.size_pages, "cached_pages": file.cached_pages,
        })
    };
    json!({ "files": found.into_iter().map(one).collect::<Vec<Value>>() })
}

fn to_json(answer: Answer) -> Value {
    let snapshot = match answer {
        Answer::Processes(snapshot) => snapshot,
        Answer::Text(text) => {
            // What explains an access answers an object already.
            let object = serde_json::from_str(&text).ok().filter(Value::is_object);
            return object.unwrap_or_else(|| json!({ "text": text }));
        }
        Answer::NoExplainer => return json!({ "error": "this machine explains no accesses" }),
        Answer::MappedFiles(found) => return files(found),
        Answer::Rmap(rmap) => {
            let told = serde_json::to_value(Told::of(*rmap));
            return told.expect("plain values");
        }
        Answer::NotMapped => {
            return json!({ "error": "nothing is mapped there (or nothing was written to it yet)" });
        }
        Answer::SeveralFiles => {
            return json!({ "error": "several files have that path: ask for a process and an address" });
        }
        Answer::NoSuchProcess => return json!({ "error": "no such process" }),
    };
    let Snapshot { virtual_ns, memory_kib, free_kib, cached_kib, processes } = snapshot;
    let processes: Vec<Value> = processes
        .into_iter()
        .map(|p| {
            json!({
                "pid": p.pid, "ppid": p.ppid, "uid": p.uid, "state": p.state.to_string(),
                "threads": p.threads, "name": p.name, "cpu_ns": p.cpu_ns, "vm_kib": p.vm_kib,
                "rss_kib": p.rss_kib, "pss_kib": p.pss_kib, "minor_faults": p.minor_faults,
                "major_faults": p.major_faults,
            })
        })
        .collect();
    json!({
        "virtual_ns": virtual_ns, "memory_kib": memory_kib, "free_kib": free_kib,
        "cached_kib": cached_kib, "processes": processes,
    })
}

/// Process ids, on the host, of this user's running machines.
pub(crate) fn machines() -> Vec<u32> {
    let entries = folder().and_then(|folder| fs::read_dir(folder).ok());
    let mut found = Vec::new();
    for entry in entries.into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_suffix(".sock")?.parse().ok());
        let Some(pid) = pid else { continue };
        match UnixStream::connect(entry.path()) {
            Ok(_) => found.push(pid),
            // Left behind by a machine that was killed.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                let _ = fs::remove_file(entry.path());
            }
            Err(_) => (),
        }
    }
    found.sort_unstable();
    found
}

/// Asks the machine of host process `pid`.
pub(crate) fn ask(pid: u32, question: &Value) -> io::Result<Value> {
    let folder = folder().ok_or_else(|| io::Error::other("XDG_RUNTIME_DIR is not set"))?;
    let stream = UnixStream::connect(folder.join(format!("{pid}.sock")))?;
    stream.set_read_timeout(Some(PATIENCE + Duration::from_secs(1)))?;
    writeln!(&stream, "{question}")?;
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line)?;
    serde_json::from_str(&line).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_understood_and_nonsense_is_not() {
        assert_eq!(parse(r#"{"ask":"ps"}"#), Some(Question::Processes));
        assert_eq!(parse(r#"{"ask":"maps","pid":7}"#), Some(Question::Maps(7)));
        let asked = r#"{"ask":"translate","pid":7,"va":18446744073709551615,"access":"store"}"#;
        let va = VirtAddr::new(u64::MAX);
        let expected = Question::Translate { pid: 7, va, access: Access::Write };
        assert_eq!(parse(asked), Some(expected));
        let asked = r#"{"ask":"rmap","path":"/bin/sh"}"#;
        assert_eq!(parse(asked), Some(Question::Rmap(RmapOf::Path("/bin/sh".into()))));
        let asked = r#"{"ask":"rmap","pid":7,"va":4096,"anon":true}"#;
        let expected = Question::Rmap(RmapOf::Anon(7, VirtAddr::new(4096)));
        assert_eq!(parse(asked), Some(expected));
        for nonsense in [
            r#"{"ask":"rmap"}"#,
            r#"{"ask":"rmap","path":7}"#,
            r#"{"ask":"translate","pid":7,"va":-1,"access":"load"}"#,
            r#"{"ask":"translate","pid":7,"va":1,"access":"jump"}"#,
            "",
            "ps",
            r#"{"ask":"maps"}"#,
            r#"{"ask":"maps","pid":-1}"#,
            r#"{"ask":"maps","pid":4294967296}"#,
            r#"{"ask":5}"#,
        ] {
            assert_eq!(parse(nonsense), None, "{nonsense}");
        }
    }
}
