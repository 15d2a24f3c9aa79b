//! What `--inject` takes: faults of swap, or of the files below `--root`.

use kilburn_linux::FileFaults;
use kilburn_swap::Inject;
use std::str::FromStr;

/// One `--inject`.
#[derive(Clone, Debug)]
pub(crate) enum InjectArg {
    Swap(Inject),
    Files(FileFaults),
}

impl InjectArg {
    /// The faults of swap, if it is those.
    pub(crate) fn of_swap(&self) -> Option<Inject> {
        match self {
            Self::Swap(inject) => Some(*inject),
            Self::Files(_) => None,
        }
    }

    /// The faults of files, if it is those.
    pub(crate) fn of_files(&self) -> Option<FileFaults> {
        match self {
            Self::Swap(_) => None,
            Self::Files(faults) => Some(faults.clone()),
        }
    }
}

impl FromStr for InjectArg {
    type Err = String;

    /// Reads `eio=0.01`, `swap:eio=0.01` and `file:eio=0.01,under=/var`.
    fn from_str(text: &str) -> Result<Self, String> {
        let Some(faults) = text.strip_prefix("file:") else {
            let faults = text.strip_prefix("swap:").unwrap_or(text);
            return faults.parse().map(Self::Swap).map_err(explain);
        };
        let (faults, under) = faults.split_once(",under=").unwrap_or((faults, "/"));
        if !under.starts_with('/') {
            return Err(format!("{under}: under=PATH comes last, and takes a path from / on"));
        }
        let inject = faults.parse().map_err(explain)?;
        Ok(Self::Files(FileFaults { inject, under: under.into() }))
    }
}

fn explain(error: kilburn_swap::InjectError) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_those_of_swap_unless_files_are_named() {
        let swap = |text: &str| text.parse::<InjectArg>().ok().and_then(|arg| arg.of_swap());
        assert!(swap("eio=0.1").is_some_and(|inject| Some(inject) == swap("swap:eio=0.1")));
        let files: InjectArg = "file:torn=0.1,gone=9,under=/var/db".parse().expect("faults");
        let faults = files.of_files().expect("files");
        assert_eq!(faults.under.to_str(), Some("/var/db"));
        assert_eq!(Some(faults.inject), swap("torn=0.1,gone=9"));
        for wrong in ["file:", "file:eio", "file:eio=0.1,under=var", "disk:eio=0.1", "file:under=/"]
        {
            assert!(wrong.parse::<InjectArg>().is_err(), "{wrong}");
        }
    }
}
