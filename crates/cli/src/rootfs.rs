//! `kilburn rootfs`: a Debian riscv64 root folder, made by mmdebstrap without running any of it.

use crate::args::RootfsArgs;
use crate::failure::Failure;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

/// Packages every root has: the folders and links of Debian, and `sh`.
const ALWAYS: [&str; 2] = ["base-files", "dash"];

const PASSWD: &str = "\
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
bin:x:2:2:bin:/bin:/usr/sbin/nologin
man:x:6:12:man:/var/cache/man:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
";

const GROUP: &str = "\
root:x:0:
daemon:x:1:
bin:x:2:
adm:x:4:
tty:x:5:
man:x:12:
shadow:x:42:
utmp:x:43:
staff:x:50:
users:x:100:
nogroup:x:65534:
";

/// Links the alternatives system would make: the first target that exists wins.
const ALTERNATIVES: &[(&str, &[&str])] = &[
    ("sh", &["dash", "bash"]),
    ("awk", &["gawk", "mawk", "original-awk"]),
    ("nawk", &["gawk", "mawk"]),
    ("cc", &["gcc"]),
    ("c++", &["g++"]),
    ("which", &["which.debianutils"]),
    ("pager", &["less", "more"]),
    ("vi", &["vim.basic", "vim.tiny", "busybox"]),
    ("nc", &["nc.openbsd", "nc.traditional"]),
];

/// Makes the folder.
pub(crate) fn make(arguments: &RootfsArgs) -> Result<ExitCode, Failure> {
    refuse_unless_new(&arguments.dir)?;
    check_packages(&arguments.packages)?;
    check_mmdebstrap()?;
    let mirror = match &arguments.mirror {
        Some(url) => url.clone(),
        None => mirror_of_this_machine()?,
    };
    // mmdebstrap makes the folder, but none above it.
    fs::create_dir_all(&arguments.dir)
        .map_err(|error| Failure::usage(format!("{}: {error}", arguments.dir.display())))?;
    unpack(arguments, &mirror).inspect_err(|_| {
        // It was new or empty before: what lies there now is mmdebstrap's unfinished work.
        drop(fs::remove_dir_all(&arguments.dir));
    })?;
    finish(&arguments.dir)
        .map_err(|e| Failure::usage(format!("{}: {e}", arguments.dir.display())))?;
    eprintln!("kilburn: {} is ready; try:", arguments.dir.display());
    eprintln!("  kilburn run --root {} sh -c 'echo hello'", arguments.dir.display());
    Ok(ExitCode::SUCCESS)
}

fn refuse_unless_new(dir: &Path) -> Result<(), Failure> {
    let what = match fs::read_dir(dir).map(|mut entries| entries.next().is_none()) {
        Ok(true) => return Ok(()),
        Ok(false) => "the folder is not empty; name a new one".to_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => "not a folder".to_owned(),
        Err(error) => error.to_string(),
    };
    Err(Failure::usage(format!("{}: {what}", dir.display())))
}

/// A name with a comma or a space would become two; one with a dash an option.
fn check_packages(packages: &[String]) -> Result<(), Failure> {
    let well_formed = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            && name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+.-".contains(&b))
    };
    match packages.iter().find(|name| !well_formed(name)) {
        Some(name) => Err(Failure::usage(format!(
            "{name:?} is not a Debian package name (lower-case letters, digits, + . -)"
        ))),
        None => Ok(()),
    }
}

fn check_mmdebstrap() -> Result<(), Failure> {
    match Command::new("mmdebstrap").arg("--version").stdout(Stdio::null()).status() {
        Ok(_) => Ok(()),
        Err(_) => {
            Err(Failure::usage("mmdebstrap is needed and not installed: apt install mmdebstrap"))
        }
    }
}

/// The archive that this machine's own apt takes its release from.
fn mirror_of_this_machine() -> Result<String, Failure> {
    let needs_url = "name a Debian archive with --mirror URL";
    let output = Command::new("apt-get")
        .args(["indextargets", "--format", "$(RELEASE) $(REPO_URI)", "Created-By: Packages"])
        .output()
        .map_err(|_| Failure::usage(format!("no apt-get here; {needs_url}")))?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .filter_map(|line| line.split_once(' '))
        // Updates and security come from other places, with suites of other names.
        .find(|(release, uri)| {
            !release.contains('-') && uri.trim_end_matches('/').ends_with("/debian")
        })
        .map(|(_, uri)| uri.to_owned())
        .ok_or_else(|| Failure::usage(format!("apt here uses no Debian archive; {needs_url}")))
}

fn unpack(arguments: &RootfsArgs, mirror: &str) -> Result<(), Failure> {
    let include: Vec<&str> =
        ALWAYS.into_iter().chain(arguments.packages.iter().map(String::as_str)).collect();
    let status = Command::new("mmdebstrap")
        // chrootless: needs neither root nor anything that could run riscv64.
        .args(["--mode=chrootless", "--variant=extract", "--architectures=riscv64"])
        .arg(format!("--include={}", include.join(",")))
        .arg(&arguments.suite)
        .arg(&arguments.dir)
        .arg(format!("deb {mirror} {} main", arguments.suite))
        .stdin(Stdio::null())
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(Failure::usage("mmdebstrap failed, see above")),
        Err(error) => Err(Failure::usage(format!("mmdebstrap: {error}"))),
    }
}

/// What maintainer scripts would have left behind, as far as programs need it.
fn finish(root: &Path) -> io::Result<()> {
    for (folder, mode) in [
        ("proc", 0o555),
        ("sys", 0o555),
        ("dev", 0o755),
        ("tmp", 0o1777),
        ("var/tmp", 0o1777),
        ("root", 0o700),
        ("mnt", 0o755),
        ("opt", 0o755),
        ("srv", 0o755),
    ] {
        fs::create_dir_all(root.join(folder))?;
        fs::set_permissions(root.join(folder), fs::Permissions::from_mode(mode))?;
    }
    for (file, text) in
        [("passwd", PASSWD), ("group", GROUP), ("hosts", "127.0.0.1 localhost\n::1 localhost\n")]
    {
        let path = root.join("etc").join(file);
        if !path.exists() {
            fs::write(path, text)?;
        }
    }
    // mmdebstrap copies these two from the host; a root should not depend on where it was made.
    write_plain(&root.join("etc/hostname"), "kilburn\n")?;
    write_plain(&root.join("etc/resolv.conf"), "")?;
    for (name, targets) in ALTERNATIVES {
        let folder = root.join("usr/bin");
        let missing = folder.join(name).symlink_metadata().is_err();
        if let Some(target) = targets.iter().find(|t| missing && folder.join(t).exists()) {
            symlink(target, folder.join(name))?;
        }
    }
    Ok(())
}

fn write_plain(path: &Path, text: &str) -> io::Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_package_names_are_refused() {
        let check = |name: &str| check_packages(&[name.to_owned()]);
        assert!(check("libstdc++6").is_ok() && check("0ad").is_ok());
        for wrong in ["", "-x", "Bash", "a,b", "a b", "a/trixie"] {
            assert!(check(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_folder_with_something_in_it_is_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        assert!(refuse_unless_new(dir.path()).is_ok());
        assert!(refuse_unless_new(&dir.path().join("new")).is_ok());
        fs::write(dir.path().join("file"), "").expect("written");
        assert!(refuse_unless_new(dir.path()).is_err());
        assert!(refuse_unless_new(&dir.path().join("file")).is_err());
    }

    #[test]
    fn a_finished_root_has_users_and_the_links_of_alternatives() {
        let dir = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(dir.path().join("etc")).expect("made");
        fs::create_dir_all(dir.path().join("usr/bin")).expect("made");
        fs::write(dir.path().join("usr/bin/mawk"), "").expect("written");
        fs::write(dir.path().join("etc/passwd"), "kept\n").expect("written");
        finish(dir.path()).expect("finished");
        assert_eq!(
            fs::read_link(dir.path().join("usr/bin/awk")).expect("a link"),
            Path::new("mawk")
        );
        assert!(dir.path().join("usr/bin/cc").symlink_metadata().is_err());
        assert_eq!(fs::read_to_string(dir.path().join("etc/passwd")).expect("read"), "kept\n");
        let mode = fs::metadata(dir.path().join("tmp")).expect("there").permissions().mode();
        assert_eq!(mode & 0o7777, 0o1777);
    }
}
