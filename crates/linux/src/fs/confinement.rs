//! Tests: a host folder shares its bytes with the guest, and nothing else of the host's.

use crate::fs::dentry::Path;
use crate::fs::file::{OpenFile, OpenFlags};
use crate::fs::fs_struct::FsStruct;
use crate::fs::inode::NewKind;
use crate::fs::names::{At, Remove, Who};
use crate::fs::open::OpenHow;
use crate::fs::oracle::vfs;
use crate::fs::stat::{Device, FileType};
use crate::fs::vfs::{RootSource, Vfs};
use crate::fs::walk::{LastLink, Resolve};
use crate::task::Creds;
use kilburn_addr::Errno;
use std::fs;
use std::os::unix::fs::symlink;
use std::rc::Rc;
use tempfile::TempDir;

/// A folder `root` for the guest, beside a file `secret` that it must not reach.
struct World {
    host: TempDir,
    vfs: Vfs,
    fs: Rc<FsStruct>,
    creds: Creds,
}

impl World {
    fn new() -> Self {
        let host = tempfile::tempdir().expect("a temporary folder");
        fs::write(host.path().join("secret"), "secret").expect("it can be written");
        fs::create_dir(host.path().join("root")).expect("it can be made");
        let vfs = vfs(RootSource::Host(host.path().join("root")));
        let fs = FsStruct::new(vfs.root().clone(), vfs.root().clone());
        Self { host, vfs, fs, creds: Creds::root() }
    }

    fn host_path(&self, path: &str) -> std::path::PathBuf {
        self.host.path().join("root").join(path)
    }

    fn who(&self) -> Who<'_> {
        Who { creds: &self.creds, fs: &self.fs }
    }

    fn open(&self, path: &str, flags: OpenFlags) -> Result<Rc<OpenFile>, Errno> {
        let how = OpenHow::new(flags.bits(), 0o644)?;
        self.vfs.open(&self.creds, &self.fs, &self.fs.cwd(), path.as_bytes(), how)
    }

    fn lookup(&self, path: &str) -> Result<Path, Errno> {
        let from = self.fs.cwd();
        self.vfs.lookup(self.who(), At { from: &from, text: path.as_bytes() }, LastLink::Follow)
    }

    fn read(&self, path: &str) -> Result<String, Errno> {
        let file = self.open(path, OpenFlags::empty())?;
        let mut bytes = vec![0; 100];
        let got = file.read(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes[..got]).into_owned())
    }
}

#[test]
fn no_text_of_a_path_leads_out_of_the_root() {
    let world = World::new();
    for path in
        ["../secret", "/../secret", "/../../../../etc/passwd", "a/../../secret", ".//..//secret"]
    {
        let _ = fs::create_dir(world.host_path("a"));
        assert_eq!(world.read(path), Err(Errno::ENOENT), "{path}");
    }
}

#[test]
fn a_link_is_text_for_the_guest_alone() {
    let world = World::new();
    let secret = world.host.path().join("secret");
    symlink(&secret, world.host_path("absolute")).unwrap();
    symlink("../secret", world.host_path("relative")).unwrap();
    symlink("/inside", world.host_path("rooted")).unwrap();
    fs::write(world.host_path("inside"), "in here").unwrap();
    assert_eq!(world.read("absolute"), Err(Errno::ENOENT));
    assert_eq!(world.read("relative"), Err(Errno::ENOENT));
    // Absolute means: from the guest's root.
    assert_eq!(world.read("rooted"), Ok("in here".into()));
    // Making, cutting and removing through a link stay inside as well.
    let create = OpenFlags::CREAT | OpenFlags::WRONLY | OpenFlags::TRUNC;
    let _ = world.open("absolute", create);
    assert_eq!(fs::read_to_string(secret).unwrap(), "secret");
}

#[test]
fn a_folder_that_becomes_a_link_while_it_is_held_leads_nowhere_else() {
    let world = World::new();
    fs::create_dir(world.host_path("dir")).unwrap();
    fs::write(world.host_path("dir/secret"), "harmless").unwrap();
    let dir = world.lookup("dir").unwrap();
    // Somebody on the host swaps it for a link to the outside.
    fs::rename(world.host_path("dir"), world.host_path("moved")).unwrap();
    symlink("..", world.host_path("dir")).unwrap();
    let at = At { from: &dir, text: b"secret" };
    let file = world.vfs.lookup(world.who(), at, LastLink::Follow).unwrap();
    assert_eq!(file.inode().stat().unwrap().size, 8);
    let up = At { from: &dir, text: b"../secret" };
    assert_eq!(world.vfs.lookup(world.who(), up, LastLink::Follow).err(), Some(Errno::ENOENT));
    assert_eq!(world.read("dir/secret"), Err(Errno::ENOENT));
}

#[test]
fn a_race_between_links_and_folders_never_shows_the_outside() {
    let world = World::new();
    fs::create_dir(world.host_path("real")).unwrap();
    fs::write(world.host_path("real/secret"), "harmless").unwrap();
    symlink("..", world.host_path("other")).unwrap();
    let (a, b, c) = (world.host_path("real"), world.host_path("other"), world.host_path("swap"));
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                fs::rename(&a, &c).unwrap();
                fs::rename(&b, &a).unwrap();
                fs::rename(&c, &b).unwrap();
            }
        });
        for _ in 0..3000 {
            match world.read("real/secret") {
                Ok(text) => assert_eq!(text, "harmless"),
                Err(errno) => assert!(matches!(errno, Errno::ENOENT | Errno::ENOTDIR), "{errno}"),
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn device_nodes_are_neither_made_nor_opened_on_the_host() {
    let world = World::new();
    let from = world.fs.cwd();
    let at = At { from: &from, text: b"disk" };
    let what = NewKind::Device(FileType::BlockDevice, Device::new(8, 0));
    assert_eq!(world.vfs.create(world.who(), at, what, 0o666), Err(Errno::EPERM));
    assert!(!world.host_path("disk").exists());
}

#[test]
fn restricted_walks_stay_beneath() {
    let world = World::new();
    fs::create_dir_all(world.host_path("jail/in")).unwrap();
    fs::write(world.host_path("out"), "").unwrap();
    symlink("/out", world.host_path("jail/link")).unwrap();
    let jail = world.lookup("jail").unwrap();
    let open = |path: &str, resolve| {
        let how = OpenHow::checked(OpenFlags::empty(), 0, resolve).unwrap();
        world.vfs.open(&world.creds, &world.fs, &jail, path.as_bytes(), how).map(drop)
    };
    assert_eq!(open("../out", Resolve::empty()), Ok(()));
    assert_eq!(open("../out", Resolve::BENEATH), Err(Errno::EXDEV));
    assert_eq!(open("in/../../out", Resolve::BENEATH), Err(Errno::EXDEV));
    assert_eq!(open("/out", Resolve::BENEATH), Err(Errno::EXDEV));
    assert_eq!(open("link", Resolve::BENEATH), Err(Errno::EXDEV));
    assert_eq!(open("link", Resolve::NO_SYMLINKS), Err(Errno::ELOOP));
    assert_eq!(open("in/..", Resolve::BENEATH), Ok(()));
    assert_eq!(open("../../jail/in", Resolve::IN_ROOT), Err(Errno::ENOENT));
    assert_eq!(open("/in", Resolve::IN_ROOT), Ok(()));
}

#[test]
fn what_is_written_is_on_the_host_when_its_writer_closes() {
    let world = World::new();
    let file = world.open("new", OpenFlags::CREAT | OpenFlags::RDWR).unwrap();
    assert_eq!(file.write(b"hello"), Ok(5));
    file.ops().flush(&file).unwrap();
    assert_eq!(fs::read(world.host_path("new")).unwrap(), b"hello");
    file.write_at(5000, b"far").unwrap();
    drop(file);
    let bytes = fs::read(world.host_path("new")).unwrap();
    assert_eq!((bytes.len(), &bytes[5000..]), (5003, b"far" as &[u8]));
}

#[test]
fn two_names_of_a_host_file_are_one_file() {
    let world = World::new();
    fs::write(world.host_path("a"), "old").unwrap();
    fs::hard_link(world.host_path("a"), world.host_path("b")).unwrap();
    let a = world.open("a", OpenFlags::RDWR).unwrap();
    a.write(b"new").unwrap();
    // Not closed, not synced: the other name shows it all the same.
    assert_eq!(world.read("b"), Ok("new".into()));
    let stat = a.inode().stat().unwrap();
    assert_eq!((stat.nlink, stat.size), (2, 3));
}

#[test]
fn a_file_that_lost_its_name_lives_until_it_is_closed() {
    let world = World::new();
    let file = world.open("gone", OpenFlags::CREAT | OpenFlags::RDWR).unwrap();
    file.write(b"still here").unwrap();
    let from = world.fs.cwd();
    world.vfs.unlink(world.who(), At { from: &from, text: b"gone" }, Remove::File).unwrap();
    assert!(!world.host_path("gone").exists());
    assert_eq!(file.path().text(&world.fs.root()), b"/gone (deleted)");
    let mut bytes = [0; 10];
    assert_eq!(file.read_at(0, &mut bytes), Ok(10));
    assert_eq!(&bytes, b"still here");
}

#[test]
fn a_file_the_host_changed_is_read_anew() {
    let world = World::new();
    fs::write(world.host_path("f"), "one").unwrap();
    assert_eq!(world.read("f"), Ok("one".into()));
    fs::write(world.host_path("f"), "two, longer").unwrap();
    assert_eq!(world.read("f"), Ok("two, longer".into()));
}

#[test]
fn a_very_deep_tree_is_taken_down_without_recursion() {
    let world = World::new();
    let mut dir = world.lookup("/tmp").unwrap();
    for _ in 0..20_000 {
        let at = At { from: &dir, text: b"d" };
        world.vfs.create(world.who(), at, NewKind::Directory, 0o755).unwrap();
        dir = world.vfs.lookup(world.who(), at, LastLink::Follow).unwrap();
    }
    drop(dir);
    world.vfs.shutdown().unwrap();
}
