//! Swap in stores reached by URL: all comes back, and a store that goes away is SIGBUS.

use crate::pressure::{in_little, pressure, with_enough};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

/// Little work: each transfer is some requests.
const WORK: [&str; 2] = ["shared", "3"];

/// A server of objects, a process of its own.
struct Server {
    process: Child,
    area: String,
}

impl Server {
    /// Starts one; it kills itself after so many writes, if there are to be any.
    fn start(writes: u32) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/end_to_end/webdav.py");
        let mut process = Command::new("python3")
            .arg(script)
            .arg(writes.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is needed");
        let mut line = String::new();
        let stdout = process.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("a port");
        let area = format!("--swap=remote:webdav+http://127.0.0.1:{}/pages:64M", line.trim());
        Self { process, area }
    }
}

/// A Redis server, which keeps nothing on disk.
struct Redis {
    server: Server,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Redis {
    /// Starts one; `None` where there is none.
    fn start() -> Option<Self> {
        if Command::new("redis-server").arg("--version").output().is_err() {
            crate::kilburn::skip("redis-server is not installed");
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        // Free now; whoever takes it in the moment between would have to be very quick.
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        drop(listener);
        let process = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .args(["--port", &port.to_string()])
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("it was there");
        let area = format!("--swap=remote:redis://127.0.0.1:{port}/0:64M");
        let redis = Self { server: Server { process, area }, port, _folder: folder };
        while redis.pages().is_none() {
            thread::sleep(Duration::from_millis(10));
        }
        Some(redis)
    }

    /// How many objects it has; `None` while it does not answer.
    fn pages(&self) -> Option<u64> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.write_all(b"DBSIZE\r\n").ok()?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).ok()?;
        line.strip_prefix(':')?.trim().parse().ok()
    }
}

#[test]
fn redis_gives_everything_back_and_is_left_empty() {
    let Some(redis) = Redis::start() else { return };
    let expected = with_enough(&WORK);
    in_little("3M", &[&redis.server.area], &WORK, &expected);
    assert_eq!(redis.pages(), Some(0));
}

#[test]
fn a_redis_server_that_is_killed_is_sigbus() {
    let Some(mut redis) = Redis::start() else { return };
    let area = redis.server.area.clone();
    let killer = thread::spawn(move || {
        while redis.pages().is_some_and(|pages| pages < 200) {
            thread::sleep(Duration::from_millis(1));
        }
        redis.server.process.kill().expect("it runs");
    });
    let outcome = pressure(&["--memory=4M", &area], &["sort", "6"]);
    killer.join().expect("killed");
    assert_eq!((outcome.status, outcome.stdout.as_str()), (135, ""), "{outcome:?}");
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have done so itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn every_store_gives_everything_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(0);
    let in_folder = format!("--swap=remote:fs://{}:64M", folder.path().display());
    let expected = with_enough(&WORK);
    let secret = format!("{in_folder},encrypt");
    let failing = "--inject=enospc=0.1,delay=0.01";
    for options in
        [&["--swap=remote:memory:///:64M"][..], &[&in_folder], &[&secret, failing], &[&server.area]]
    {
        in_little("3M", options, &WORK, &expected);
    }
    assert_eq!(pages_in(folder.path()), 0, "the store is left as it was found");
}

/// Objects in the areas of a folder.
fn pages_in(folder: &Path) -> usize {
    let areas = std::fs::read_dir(folder).expect("there").filter_map(Result::ok);
    areas.filter_map(|area| Some(std::fs::read_dir(area.path()).ok()?.count())).sum()
}

#[test]
fn a_server_that_is_killed_is_sigbus() {
    // The last write arrived, and was not answered.
    let server = Server::start(500);
    let outcome = pressure(&["--memory=4M", &server.area], &["sort", "6"]);
    assert_eq!((outcome.status, outcome.stdout.as_str()), (135, ""), "{outcome:?}");
}

#[test]
fn a_folder_that_is_removed_is_sigbus() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = folder.path().join("store");
    let area = format!("--swap=remote:fs://{}:64M", store.display());
    let remover = thread::spawn(move || {
        while !store.exists() || pages_in(&store) < 100 {
            thread::sleep(Duration::from_millis(1));
        }
        // Pages are written meanwhile.
        while std::fs::remove_dir_all(&store).is_err() {}
    });
    // Far more than a moment's work.
    let outcome = pressure(&["--memory=4M", &area], &["sort", "8"]);
    remover.join().expect("removed");
    assert_eq!((outcome.status, outcome.stdout.as_str()), (135, ""), "{outcome:?}");
}

#[test]
fn a_store_that_is_not_there_is_refused_with_its_name() {
    let area = "--swap=remote:webdav+http://user:secret@127.0.0.1:1/pages?token=x:64M";
    let outcome = pressure(&[area], &["sort", "1"]);
    assert_eq!(outcome.status, 2, "{outcome:?}");
    assert!(outcome.stderr.contains("webdav+http://127.0.0.1:1/pages"), "{outcome:?}");
    assert!(!outcome.stderr.contains("secret"), "{outcome:?}");
}
