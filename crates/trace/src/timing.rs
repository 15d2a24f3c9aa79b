//! Model configurations from presets and TOML files.
//!
//! ```toml
//! preset = "skylake"          # what is not said below is as there
//!
//! [l2]                        # one array, or [[l2]] for several; likewise l1_fetch and l1_data
//! entries = 2048
//! ways = 16
//! pages = ["4K", "2M"]
//!
//! [[walk_cache]]
//! level = 0                   # 0: leaf tables
//! entries = 64
//! ways = 4
//!
//! [cache.l1_data]             # l1_fetch, l2 and l3 likewise
//! bytes = "48K"
//! ways = 12
//! latency = 5
//! ```
//!
//! Beside these: `l2_latency`, `walk_read_latency`, `memory_latency` (cycles), `ad_update = "hardware" | "fault"`,
//! `asids = true | false`, `walk_port = "l1-data" | "l2"`, `prefetch = "off" | "next-page"`, `caches = true | false`, and
//! `replacement = "lru" | "plru" | "random"` in every array. Caches that the preset does not have are skylake's where
//! nothing else is said.

use kilburn_mmu::ModelConfig;
use kilburn_mmu::model::config::{
    AdUpdate, AsidUse, CacheConfig, Prefetch, Replacement, TlbConfig, WalkCacheConfig, WalkPort,
};
use kilburn_mmu::model::preset::Preset;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};

/// A file as written.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct File {
    preset: Option<String>,
    l1_fetch: Option<OneOrMore<Tlb>>,
    l1_data: Option<OneOrMore<Tlb>>,
    l2: Option<OneOrMore<Tlb>>,
    l2_latency: Option<u32>,
    walk_cache: Option<Vec<WalkCache>>,
    walk_read_latency: Option<u32>,
    walk_port: Option<Port>,
    ad_update: Option<Ad>,
    asids: Option<bool>,
    prefetch: Option<Ahead>,
    caches: Option<bool>,
    cache: Option<CacheFile>,
    memory_latency: Option<u32>,
}

/// A table, or a list of tables. (An untagged enum would say of neither what is wrong with it.)
struct OneOrMore<T>(Vec<T>);

impl<'de, T: DeserializeOwned> Deserialize<'de> for OneOrMore<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let list = match toml::Value::deserialize(from)? {
            toml::Value::Array(list) => list,
            one => vec![one],
        };
        let read = |value: toml::Value| {
            value.try_into().map_err(|error: toml::de::Error| D::Error::custom(error.message()))
        };
        list.into_iter().map(read).collect::<Result<_, _>>().map(Self)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tlb {
    entries: usize,
    ways: usize,
    pages: Vec<String>,
    #[serde(default)]
    replacement: Replace,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WalkCache {
    level: u8,
    entries: usize,
    ways: usize,
    #[serde(default)]
    replacement: Replace,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct CacheFile {
    l1_fetch: Option<Cache>,
    l1_data: Option<Cache>,
    l2: Option<Cache>,
    l3: Option<Cache>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cache {
    bytes: String,
    ways: usize,
    #[serde(default = "line_bytes")]
    line: u32,
    latency: u32,
    #[serde(default)]
    replacement: Replace,
}

fn line_bytes() -> u32 {
    64
}

#[derive(Deserialize, Clone, Copy, Default)]
#[serde(rename_all = "kebab-case")]
enum Replace {
    #[default]
    Lru,
    Plru,
    Random,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
enum Port {
    L1Data,
    L2,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
enum Ad {
    Hardware,
    Fault,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
enum Ahead {
    Off,
    NextPage,
}

impl From<Replace> for Replacement {
    fn from(replace: Replace) -> Self {
        match replace {
            Replace::Lru => Self::Lru,
            Replace::Plru => Self::TreePlru,
            Replace::Random => Self::Random,
        }
    }
}

/// Bytes of `64K`, `2M`, `1G`, `4096`.
///
/// # Errors
/// What is wrong with the text.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 20),
        Some(b'G' | b'g') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let number: Option<u64> =
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten();
    number
        .filter(|number| number.leading_zeros() >= shift)
        .map(|number| number << shift)
        .ok_or_else(|| format!("`{text}` is no number of bytes such as 64K"))
}

fn power(name: &str, bytes: u64) -> Result<u32, String> {
    if bytes.is_power_of_two() {
        Ok(bytes.ilog2())
    } else {
        Err(format!("{name}: {bytes} is no power of two"))
    }
}

fn sets(name: &str, entries: usize, ways: usize) -> Result<usize, String> {
    if ways == 0 || entries == 0 || !entries.is_multiple_of(ways) {
        return Err(format!("{name}: {entries} entries do not make sets of {ways}"));
    }
    Ok(entries / ways)
}

fn tlbs(name: &str, list: OneOrMore<Tlb>) -> Result<Vec<TlbConfig>, String> {
    let tlb = |tlb: Tlb| {
        let shift = |text: &String| power(name, parse_bytes(text)?);
        Ok(TlbConfig {
            page_shifts: tlb.pages.iter().map(shift).collect::<Result<_, String>>()?,
            sets: sets(name, tlb.entries, tlb.ways)?,
            ways: tlb.ways,
            replacement: tlb.replacement.into(),
        })
    };
    list.0.into_iter().map(tlb).collect()
}

fn cache(name: &str, cache: Cache) -> Result<CacheConfig, String> {
    let bytes = parse_bytes(&cache.bytes)?;
    let line_shift = power(name, u64::from(cache.line))?;
    let lines = usize::try_from(bytes >> line_shift).map_err(|error| error.to_string())?;
    Ok(CacheConfig {
        sets: sets(name, lines, cache.ways)?,
        ways: cache.ways,
        line_shift,
        latency: cache.latency,
        replacement: cache.replacement.into(),
    })
}

/// The configuration that the text of a file gives.
///
/// # Errors
/// What is wrong with it, in one line or with the place in the text.
pub fn parse(text: &str) -> Result<ModelConfig, String> {
    configure(toml::from_str(text).map_err(|error| error.to_string())?)
}

/// The configuration that a file's table gives.
///
/// # Errors
/// What is wrong with it, in one line.
pub fn from_table(table: toml::Table) -> Result<ModelConfig, String> {
    configure(table.try_into().map_err(|error| error.to_string().trim_end().to_owned())?)
}

fn configure(file: File) -> Result<ModelConfig, String> {
    let mut config = preset(file.preset.as_deref().unwrap_or("simple"))?;
    if let Some(list) = file.l1_fetch {
        config.l1_fetch = tlbs("l1_fetch", list)?;
    }
    if let Some(list) = file.l1_data {
        config.l1_data = tlbs("l1_data", list)?;
    }
    if let Some(list) = file.l2 {
        config.l2 = tlbs("l2", list)?;
    }
    if let Some(list) = file.walk_cache {
        let walk_cache = |one: WalkCache| {
            Ok(WalkCacheConfig {
                level: one.level,
                sets: sets("walk_cache", one.entries, one.ways)?,
                ways: one.ways,
                replacement: one.replacement.into(),
            })
        };
        config.walk_caches = list.into_iter().map(walk_cache).collect::<Result<_, String>>()?;
    }
    config.l2_latency = file.l2_latency.unwrap_or(config.l2_latency);
    config.walk_read_latency = file.walk_read_latency.unwrap_or(config.walk_read_latency);
    match file.walk_port {
        Some(Port::L1Data) => config.walk_port = WalkPort::L1Data,
        Some(Port::L2) => config.walk_port = WalkPort::L2,
        None => (),
    }
    match file.ad_update {
        Some(Ad::Hardware) => config.ad_update = AdUpdate::Hardware,
        Some(Ad::Fault) => config.ad_update = AdUpdate::Fault,
        None => (),
    }
    match file.prefetch {
        Some(Ahead::NextPage) => config.prefetch = Prefetch::NextPage,
        Some(Ahead::Off) => config.prefetch = Prefetch::Off,
        None => (),
    }
    if let Some(asids) = file.asids {
        config.asids = if asids { AsidUse::Tagged } else { AsidUse::None };
    }
    apply_caches(&mut config, file.caches, file.cache, file.memory_latency)?;
    config.check().map_err(|error| error.to_string())?;
    Ok(config)
}

fn apply_caches(
    config: &mut ModelConfig,
    wanted: Option<bool>,
    file: Option<CacheFile>,
    memory_latency: Option<u32>,
) -> Result<(), String> {
    if wanted == Some(false) {
        config.caches = None;
        if file.is_some() || memory_latency.is_some() {
            return Err("caches = false leaves nothing for [cache] and memory_latency".to_owned());
        }
    }
    if file.is_none() && memory_latency.is_none() && wanted != Some(true) {
        return Ok(());
    }
    let skylake = preset("skylake")?;
    let caches = match &mut config.caches {
        Some(caches) => caches,
        None if file.is_none() && wanted.is_none() => {
            return Err(
                "memory_latency: there are no caches (see [cache] and caches = true)".into()
            );
        }
        None => config.caches.insert(skylake.caches.ok_or("a preset without caches")?),
    };
    let file = file.unwrap_or_default();
    if let Some(one) = file.l1_fetch {
        caches.l1_fetch = cache("cache.l1_fetch", one)?;
    }
    if let Some(one) = file.l1_data {
        caches.l1_data = cache("cache.l1_data", one)?;
    }
    if let Some(one) = file.l2 {
        caches.l2 = Some(cache("cache.l2", one)?);
    }
    if let Some(one) = file.l3 {
        caches.l3 = Some(cache("cache.l3", one)?);
    }
    caches.memory_latency = memory_latency.unwrap_or(caches.memory_latency);
    Ok(())
}

/// The preset of that name.
///
/// # Errors
/// Which there are.
pub fn preset(name: &str) -> Result<ModelConfig, String> {
    Preset::named(name).map(Preset::config).ok_or_else(|| {
        let names: Vec<&str> = Preset::ALL.iter().map(|preset| preset.name).collect();
        format!("there is no preset `{name}`; there are {}", names.join(", "))
    })
}

/// What `--timing` is given: the name of a preset, or a file that ends with `.toml`.
///
/// # Errors
/// What is wrong, in one line or with the place in the file.
pub fn load(given: &str) -> Result<ModelConfig, String> {
    if !given.ends_with(".toml") {
        return preset(given).map_err(|error| format!("{error}, or a file that ends with .toml"));
    }
    let text = std::fs::read_to_string(given).map_err(|error| format!("{given}: {error}"))?;
    parse(&text).map_err(|error| format!("{given}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_changes_what_it_names() {
        let config = parse(
            "preset = 'skylake'\nasids = false\nmemory_latency = 300\n\
             [l2]\nentries = 2048\nways = 16\npages = ['4K', '2M']\n\
             [cache.l1_data]\nbytes = '48K'\nways = 12\nlatency = 5\n",
        )
        .unwrap();
        assert_eq!((config.l2.len(), config.l2[0].sets, config.l2[0].ways), (1, 128, 16));
        assert_eq!(config.asids, AsidUse::None);
        let caches = config.caches.unwrap();
        assert_eq!((caches.l1_data.sets, caches.memory_latency), (64, 300));
        assert_eq!(config.l1_data, preset("skylake").unwrap().l1_data);
    }

    #[test]
    fn caches_can_be_had_with_any_preset() {
        let caches = |text| parse(text).unwrap().caches;
        assert_eq!(caches("caches = true"), preset("skylake").unwrap().caches);
        assert_eq!(caches("preset = 'u54'\ncaches = true"), preset("u54").unwrap().caches);
        assert_eq!(caches("preset = 'u54'\ncaches = false"), None);
    }

    #[test]
    fn wrong_files_are_refused_with_what_is_wrong() {
        let said = |text| parse(text).unwrap_err();
        assert!(said("preset = 'z80'").contains("there are skylake"));
        assert!(said("l3_latency = 4").contains("l3_latency"));
        assert!(said("[l2]\nentries = 10\nways = 4\npages = ['4K']").contains("sets of 4"));
        assert!(said("[l2]\nentries = 12\nways = 4\npages = ['4K']").contains("power of two"));
        assert!(said("[l2]\nentries = 8\nways = 4\npages = ['5K']").contains("power of two"));
        assert!(said("[l2]\nentries = 8\nways = 4\npages = ['4K', '4K']").contains("twice"));
        assert!(said("[l2]\nentries = 8").contains("missing field `ways`"));
        assert!(said("caches = false\nmemory_latency = 5").contains("caches = false"));
        assert!(said("memory_latency = 5").contains("no caches"));
        let walk_cache = "[[walk_cache]]\nlevel = 0\nentries = 4\nways = 4\n";
        assert!(said(&walk_cache.repeat(2)).contains("one for each level"));
    }
}
