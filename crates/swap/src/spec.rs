//! What a user writes for an area: `zstd:256M,prio=10`, `file:/var/swap:1G,encrypt`,
//! `remote:s3://bucket/folder:1G`.

use crate::{Checked, Compressed, Compression, Encrypted, FileArea, Inject, Injected, PAGE};
use kilburn_mm::SwapArea;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

/// Where an area keeps its pages.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AreaKind {
    /// In compressed memory.
    Memory(Compression),
    /// In a file of the host's.
    File(PathBuf),
    /// In a store reached by a URL.
    Remote(String),
}

/// An area as a user describes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AreaSpec {
    /// Where its pages are.
    pub kind: AreaKind,
    /// Number of slots.
    pub slots: u32,
    /// Who is higher is filled first; none: after all others.
    pub priority: Option<i16>,
    /// Whether it is enciphered.
    pub encrypted: bool,
}

/// Why a text describes no area.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SpecError {
    /// The kind is unknown.
    #[error(
        "{0}: an area is lz4:SIZE, zstd:SIZE, file:PATH:SIZE or remote:URL:SIZE, then ,prio=N or \
         ,encrypt"
    )]
    Kind(String),
    /// The size is none.
    #[error(
        "{0}: a size is a number of bytes, or a number and K, M or G, at least 4K, at most 15T"
    )]
    Size(String),
    /// What follows a comma is unknown.
    #[error("{0}: options are prio=N (0 to 32767) and encrypt")]
    Option(String),
}

/// Why an area could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {why}")]
pub struct OpenError {
    place: String,
    why: String,
}

impl OpenError {
    /// Says of `place` what is wrong with it.
    fn at<E: std::fmt::Display>(place: impl Into<String>) -> impl FnOnce(E) -> Self {
        let place = place.into();
        move |why| Self { place, why: why.to_string() }
    }
}

/// The host's generator of random bytes.
const RANDOM: &str = "/dev/urandom";

fn random_bytes<const N: usize>() -> Result<[u8; N], OpenError> {
    let read = || {
        let mut bytes = [0; N];
        File::open(RANDOM)?.read_exact(&mut bytes)?;
        Ok(bytes)
    };
    read().map_err(OpenError::at::<io::Error>(RANDOM))
}

/// A URL without what may be secret: who asks, and parameters.
fn shown(url: &str) -> String {
    let bare = url.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = bare.split_once("://") else { return bare.into() };
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = host.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}{path}")
}

fn parse_slots(text: &str) -> Result<u32, SpecError> {
    let wrong = || SpecError::Size(text.into());
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 20),
        Some(b'G' | b'g') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let bytes = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(1 << shift));
    let slots = bytes.map(|bytes| bytes / PAGE as u64).and_then(|slots| u32::try_from(slots).ok());
    slots.filter(|&slots| slots > 0 && slots < u32::MAX).ok_or_else(wrong)
}

impl FromStr for AreaSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let (kind, rest) = text.split_once(':').ok_or_else(|| SpecError::Kind(text.into()))?;
        // A path or URL may contain commas and colons: options and size are read from the end.
        let mut rest = rest;
        let (mut priority, mut encrypted) = (None, false);
        while let Some((before, option)) = rest.rsplit_once(',') {
            if option == "encrypt" {
                encrypted = true;
            } else if let Some(number) = option.strip_prefix("prio=") {
                let number: i16 = number.parse().map_err(|_| SpecError::Option(option.into()))?;
                priority =
                    Some(Some(number).filter(|n| *n >= 0).ok_or(SpecError::Option(option.into()))?);
            } else if matches!(kind, "file" | "remote") && option.contains(':') {
                break;
            } else {
                return Err(SpecError::Option(option.into()));
            }
            rest = before;
        }
        let (kind, size) = match kind {
            "lz4" => (AreaKind::Memory(Compression::Lz4), rest),
            "zstd" => (AreaKind::Memory(Compression::Zstd), rest),
            "file" | "remote" => {
                let (place, size) =
                    rest.rsplit_once(':').ok_or_else(|| SpecError::Kind(text.into()))?;
                if kind == "file" {
                    (AreaKind::File(place.into()), size)
                } else if place.contains("://") {
                    (AreaKind::Remote(place.into()), size)
                } else {
                    return Err(SpecError::Kind(text.into()));
                }
            }
            _ => return Err(SpecError::Kind(text.into())),
        };
        Ok(Self { kind, slots: parse_slots(size)?, priority, encrypted })
    }
}

impl AreaSpec {
    /// The name under which it is listed in /proc/swaps, the `index`th of the machine's areas.
    pub fn name(&self, index: usize) -> String {
        match &self.kind {
            AreaKind::Memory(_) => format!("/dev/zram{index}"),
            AreaKind::File(path) => path.to_string_lossy().into_owned(),
            AreaKind::Remote(url) => shown(url),
        }
    }

    /// Opens the area. The key of an enciphered one comes from the host's generator and is kept in
    /// memory alone. `seed` is for the faults that `inject` asks for.
    ///
    /// # Errors
    /// A file's that cannot be made, a store's that does not answer.
    pub fn open(&self, inject: Option<Inject>, seed: u64) -> Result<Arc<dyn SwapArea>, OpenError> {
        let key = if self.encrypted { Some(random_bytes()?) } else { None };
        Ok(match &self.kind {
            AreaKind::Memory(compression) => {
                self.wrap(Compressed::new(*compression, self.slots), key, inject, seed)
            }
            AreaKind::File(path) => {
                let area = FileArea::create(path, self.slots)
                    .map_err(OpenError::at(path.to_string_lossy()))?;
                self.wrap(area, key, inject, seed)
            }
            AreaKind::Remote(url) => {
                let area = open_remote(url, self.slots)?;
                self.wrap(area, key, inject, seed)
            }
        })
    }

    fn wrap(
        &self,
        area: impl SwapArea + 'static,
        key: Option<[u8; 32]>,
        inject: Option<Inject>,
        seed: u64,
    ) -> Arc<dyn SwapArea> {
        let in_memory = matches!(self.kind, AreaKind::Memory(_));
        match (key, inject) {
            (Some(key), Some(inject)) => {
                Arc::new(Checked::new(Injected::new(Encrypted::new(area, &key), inject, seed)))
            }
            (Some(key), None) => Arc::new(Encrypted::new(area, &key)),
            // Memory does not spoil what it holds.
            (None, None) if in_memory => Arc::new(area),
            (None, inject) => checked(area, inject, seed),
        }
    }
}

/// An area of which nothing is read but what was written: `area`, with the faults that `inject` asks
/// for, as drawn from `seed`, and a checksum for every slot above them.
pub fn checked(
    area: impl SwapArea + 'static,
    inject: Option<Inject>,
    seed: u64,
) -> Arc<dyn SwapArea> {
    match inject {
        Some(inject) => Arc::new(Checked::new(Injected::new(area, inject, seed))),
        None => Arc::new(Checked::new(area)),
    }
}

/// What a store said, without what `url` has that may be secret.
#[cfg(feature = "remote")]
fn without_secrets(text: &str, url: &str) -> String {
    let (bare, parameters) = url.split_once('?').unwrap_or((url, ""));
    let host = bare.split_once("://").map_or("", |(_, rest)| rest.split('/').next().unwrap_or(""));
    let who = host.rsplit_once('@').map_or("", |(who, _)| who);
    let secrets = [parameters, who].into_iter().chain(parameters.split('&')).chain(who.split(':'));
    secrets
        .filter(|part| !part.is_empty())
        .fold(text.into(), |text, part| text.replace(part, "..."))
}

#[cfg(feature = "remote")]
fn open_remote(url: &str, slots: u32) -> Result<crate::RemoteArea, OpenError> {
    // Others may use the same store.
    let id = u64::from_ne_bytes(random_bytes()?);
    crate::RemoteArea::open(url, slots, id)
        .map_err(|error| OpenError::at(shown(url))(without_secrets(&error.to_string(), url)))
}

#[cfg(not(feature = "remote"))]
fn open_remote(url: &str, _slots: u32) -> Result<Compressed, OpenError> {
    Err(OpenError::at(shown(url))("built without remote stores"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remote_area_is_read_and_shown_without_what_is_secret() {
        let text = "remote:s3://me:key@bucket/a,b?region=x&secret=y:1G,prio=3";
        let area: AreaSpec = text.parse().expect("an area");
        let url = "s3://me:key@bucket/a,b?region=x&secret=y";
        assert_eq!(area.kind, AreaKind::Remote(url.into()));
        assert_eq!((area.slots, area.priority), (262_144, Some(3)));
        assert_eq!(area.name(0), "s3://bucket/a,b");
        let area: AreaSpec = "remote:redis://host:6379:64M".parse().expect("an area");
        assert_eq!(area.name(0), "redis://host:6379");
    }

    #[test]
    fn areas_are_read_with_their_options() {
        let area: AreaSpec = "zstd:256M,prio=10".parse().expect("an area");
        assert_eq!((area.slots, area.priority, area.encrypted), (65536, Some(10), false));
        let area: AreaSpec = "file:/tmp/a,b:c:1G,encrypt,prio=1".parse().expect("an area");
        assert_eq!(area.kind, AreaKind::File("/tmp/a,b:c".into()));
        assert_eq!((area.slots, area.priority, area.encrypted), (262_144, Some(1), true));
    }

    #[test]
    fn what_is_no_area_is_refused_with_what_would_be() {
        for wrong in [
            "",
            "zstd",
            "zstd:",
            "zip:1M",
            "lz4:0",
            "lz4:x",
            "lz4:1M,prio=-1",
            "lz4:1M,prio=99999",
            "lz4:1M,fast",
            "file:/tmp/x",
            "file:1M",
            "remote:host:1M",
            "remote:fs:///x",
            "lz4:99999999G",
            "lz4:\u{e9}",
        ] {
            assert!(wrong.parse::<AreaSpec>().is_err(), "{wrong:?}");
        }
    }
}
