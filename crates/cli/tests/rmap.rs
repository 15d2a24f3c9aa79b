//! `kilburn rmap`: a machine that stands still, and the ways back in it.

use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Output, Stdio};

/// Three processes that map parts of one file and share anonymous memory, and a fourth. All wait then, and go on when stdin ends.
const SOURCE: &str = r#"
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096

static char *file(int fd, int pages, int flags, int from) {
    return mmap(0, pages * PAGE, PROT_READ | PROT_WRITE, flags, fd, from * PAGE);
}

int main(void) {
    int fd = open("/root/data", O_RDWR | O_CREAT, 0644), ready[2];
    char c;
    if (ftruncate(fd, 16 * PAGE) || pipe(ready)) return 1;
    char *all = file(fd, 16, MAP_SHARED, 0);
    char *own = file(-1, 8, MAP_PRIVATE | MAP_ANONYMOUS, 0);
    for (int i = 0; i < 12; i++) all[i * PAGE] = i;
    for (int i = 0; i < 8; i++) own[i * PAGE] = i;
    for (int n = 0; n < 2; n++) {
        if (fork()) continue;
        char *part = file(fd, 4, n ? MAP_PRIVATE : MAP_SHARED, 4 + 6 * n);
        part[0] = 1;
        own[n * PAGE] = 9;
        if (n && !fork()) own[2 * PAGE] = 1;
        write(ready[1], "x", 1);
        read(0, &c, 1);
        return 0;
    }
    for (int i = 0; i < 3; i++) read(ready[0], &c, 1);
    printf("%lx\n", (long)own);
    fflush(stdout);
    read(0, &c, 1);
    return 0;
}
"#;

/// Why a test did nothing, said aloud; where nothing may be skipped it fails.
fn skip(why: &str) {
    println!("SKIP: {why}");
    assert!(std::env::var_os("KILBURN_NO_SKIP").is_none(), "skipped: {why}");
}

struct Machine<'d> {
    child: Child,
    /// The processes wait for its end.
    _stdin: Option<ChildStdin>,
    folder: &'d Path,
    /// Where the anonymous memory lies.
    own: String,
}

impl Drop for Machine<'_> {
    fn drop(&mut self) {
        // It may have ended by itself: then the test has failed already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn kilburn(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kilburn"));
    command.env("XDG_RUNTIME_DIR", folder);
    command
}

/// The machine once all four processes wait; `None` without a compiler.
fn start(folder: &Path) -> Option<Machine<'_>> {
    let (source, program) = (folder.join("maps.c"), folder.join("maps"));
    std::fs::write(&source, SOURCE).expect("written");
    let mut compile = Command::new("riscv64-linux-gnu-gcc");
    compile.args(["-O1", "-static", "-w", "-o"]).args([&program, &source]);
    let Ok(status) = compile.status() else {
        skip("riscv64-linux-gnu-gcc is not installed (Debian package gcc-riscv64-linux-gnu)");
        return None;
    };
    assert!(status.success());
    let mut command = kilburn(folder);
    command.args(["run", "--no-aslr"]).arg(&program);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut own = String::new();
    let stdout = child.stdout.as_mut().expect("piped");
    BufReader::new(stdout.take(64)).read_line(&mut own).expect("it says where its memory is");
    let stdin = child.stdin.take();
    Some(Machine { child, _stdin: stdin, folder, own: format!("0x{}", own.trim()) })
}

impl Machine<'_> {
    fn ask(&self, arguments: &[&str]) -> Output {
        kilburn(self.folder).arg("rmap").args(arguments).output().expect("it starts")
    }

    fn text(&self, arguments: &[&str]) -> String {
        let output = self.ask(arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.text(&[arguments, &["--json"]].concat())).expect("JSON")
    }
}

fn numbers(list: &Value, keys: [&str; 2]) -> Vec<[u64; 2]> {
    let list = list.as_array().expect("a list");
    list.iter().map(|one| keys.map(|key| one[key].as_u64().expect("a number"))).collect()
}

#[test]
fn a_file_is_told_with_its_areas_processes_and_pages() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(machine) = start(folder.path()) else { return };
    let listed = machine.text(&[]);
    let line = listed.lines().find(|line| line.ends_with("/root/data")).expect("listed");
    // Everyone has the whole; the first child a part of its own, the second another, which its child has as well.
    assert_eq!(line.split_whitespace().collect::<Vec<_>>()[..4], ["7", "4", "16", "12"], "{line}");
    let told = machine.json(&["/root/data"]);
    let file = &told["file"];
    let areas = numbers(&file["areas"], ["first", "last"]);
    assert_eq!(areas, [[0, 15], [0, 15], [0, 15], [0, 15], [4, 7], [10, 13], [10, 13]]);
    let rights: Vec<&str> =
        file["areas"].as_array().unwrap().iter().map(|a| a["rights"].as_str().unwrap()).collect();
    assert_eq!(rights, ["rw-s", "rw-s", "rw-s", "rw-s", "rw-s", "rw-p", "rw-p"]);
    let pids: Vec<u64> =
        file["processes"].as_array().unwrap().iter().map(|p| p["pid"].as_u64().unwrap()).collect();
    assert_eq!(pids.len(), 4, "{told}");
    assert!(pids.is_sorted());
    for page in file["pages"].as_array().expect("pages") {
        let found = page["mapped_at"].as_array().expect("places").len() as u64;
        assert_eq!(page["maps"].as_u64(), Some(found), "{page}");
        assert_eq!(page["is_dirty"], true, "{page}");
    }
    // The first process maps it, and the first child through its own area.
    assert_eq!(file["pages"][4]["maps"], 2, "{told}");

    let svg = folder.path().join("data.svg");
    let text = machine.text(&["/root/data", "--svg", svg.to_str().unwrap()]);
    assert!(
        text.starts_with("/root/data: 12 of 16 pages in memory (12 dirty); 7 areas\n"),
        "{text}"
    );
    assert_eq!(text.matches("[0..15]").count(), 4, "{text}");
    let svg = std::fs::read_to_string(svg).expect("drawn");
    // Nodes, areas and processes.
    assert_eq!(svg.matches("rx=\"4\"").count(), 7 + 7 + 4);
    assert!(svg.contains(&format!(">{} maps<", pids[3])), "{svg}");
    let start = file["areas"][0]["start"].to_string();
    let by_address = machine.json(&["--pid", &pids[0].to_string(), &start]);
    assert_eq!(by_address["file"]["path"], "/root/data");
}

#[test]
fn a_fork_tree_is_told_by_whom_its_pages_belong_to() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(machine) = start(folder.path()) else { return };
    let of_file = machine.json(&["/root/data"]);
    let first = of_file["file"]["processes"][0]["pid"].to_string();
    let ask = ["--pid", &first, &machine.own];
    let told = machine.json(&ask);
    let nodes = told["anonymous"]["anon_vmas"].as_array().expect("a family");
    let parents: Vec<Option<u64>> = nodes.iter().map(|node| node["parent"].as_u64()).collect();
    assert_eq!(parents, [None, Some(0), Some(0), Some(2)], "{told}");
    let own: Vec<usize> =
        nodes.iter().map(|node| node["pages"].as_array().unwrap().len()).collect();
    assert_eq!(own, [8, 1, 1, 1], "{told}");
    let maps: Vec<u64> =
        nodes[0]["pages"].as_array().unwrap().iter().map(|p| p["maps"].as_u64().unwrap()).collect();
    // Each of three pages was written by one that forked, and the second child's child shares what that one wrote.
    assert_eq!(maps, [3, 2, 3, 4, 4, 4, 4, 4], "{told}");
    let svg = folder.path().join("own.svg");
    let text = machine.text(&[&ask[..], &["--svg", svg.to_str().unwrap()]].concat());
    assert!(
        text.starts_with("anonymous memory: 4 AnonVmas, 4 areas, 11 pages in memory"),
        "{text}"
    );
    assert!(std::fs::read_to_string(svg).expect("drawn").contains("AnonVma"));
}

#[test]
fn what_is_not_there_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(machine) = start(folder.path()) else { return };
    for wrong in [
        &["/no/such/file"][..],
        &["--pid", "99999", "0x1000"],
        &["--pid", "1"],
        &["--pid", "5", "0x0"],
        &["--pid", "5", "nonsense"],
        &["--machine", "1"],
        &["--svg", "/tmp/x.svg"],
    ] {
        let output = machine.ask(wrong);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
        assert!(!output.stderr.is_empty(), "{wrong:?}");
    }
}
