//! A store that is reached by a URL (OpenDAL's services): one object a slot.
//!
//! ```text
//!   memory:///   fs:///folder   redis://host:6379/0   webdav+http://host:8080/folder
//!   webdav://host/folder   s3://bucket/folder?region=...   gcs://...   azblob://...
//! ```
//!
//! Those of the second line need TLS, and features of this crate that are off by default.
//!
//! The objects lie in a folder that no other area has, and go with it. A store that does not answer
//! is asked again a few times; then whoever needs the page is told. As long as it is down, writes
//! are refused at once, so that the pages find another area or stay in RAM.

use crate::PAGE;
use kilburn_addr::Errno;
use kilburn_mm::SwapArea;
use opendal::layers::{RetryLayer, TimeoutLayer};
use opendal::{ErrorKind, Operator};
use parking_lot::Mutex;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// Time a transfer is taken to need, as within a data centre: guests wait for it.
const TRANSFER_NS: u64 = 500_000;
/// How long the host waits for one answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How often it asks again.
const RETRIES: usize = 2;
/// How long it waits before that, at first.
const RETRY_DELAY: Duration = Duration::from_millis(20);
/// How long a store that failed is not written to.
const HOLD_OFF: Duration = Duration::from_secs(1);
/// Objects deleted at once.
const DELETIONS: usize = 16;

/// An area of objects in a store reached by a URL.
pub struct RemoteArea {
    runtime: Runtime,
    store: Operator,
    folder: String,
    /// Slots that have an object.
    objects: Mutex<Vec<bool>>,
    failed_at: Mutex<Option<Instant>>,
    waited_ns: AtomicU64,
}

/// Why a store cannot be used, in one line.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct RemoteError(String);

impl From<opendal::Error> for RemoteError {
    fn from(error: opendal::Error) -> Self {
        Self(error.to_string().lines().collect::<Vec<_>>().join(" "))
    }
}

impl RemoteArea {
    /// An area of `slots` slots in the store at `url`, in a folder called after `id`. Makes sure
    /// that the store keeps what it is given.
    ///
    /// # Errors
    /// An unknown kind of store, wrong parameters; a store that does not answer.
    pub fn open(url: &str, slots: u32, id: u64) -> Result<Self, RemoteError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| RemoteError(error.to_string()))?;
        let retry = RetryLayer::new().with_max_times(RETRIES).with_min_delay(RETRY_DELAY);
        let timeout = TimeoutLayer::new().with_timeout(TIMEOUT).with_io_timeout(TIMEOUT);
        let store = operator(url)?.layer(timeout);
        let folder = format!("kilburn-swap-{id:016x}");
        probe(&runtime, &store, &folder)?;
        Ok(Self {
            runtime,
            store: store.layer(retry),
            folder,
            objects: Mutex::new(vec![false; slots as usize]),
            failed_at: Mutex::new(None),
            waited_ns: AtomicU64::new(0),
        })
    }

    fn object(&self, slot: u32) -> String {
        format!("{}/{slot:08x}", self.folder)
    }

    fn is_down(&self) -> bool {
        self.failed_at.lock().is_some_and(|at| at.elapsed() < HOLD_OFF)
    }

    /// Notes how a transfer ended.
    fn ended<T>(&self, result: Result<T, opendal::Error>) -> Result<T, Errno> {
        self.waited_ns.fetch_add(TRANSFER_NS, Ordering::Relaxed);
        match result {
            Ok(value) => {
                *self.failed_at.lock() = None;
                Ok(value)
            }
            Err(error) => {
                // An object that is missing is lost; the store is there.
                if error.kind() != ErrorKind::NotFound {
                    *self.failed_at.lock() = Some(Instant::now());
                }
                Err(Errno::EIO)
            }
        }
    }

    async fn delete_objects(&self, slots: &[u32]) -> Result<(), opendal::Error> {
        for some in slots.chunks(DELETIONS) {
            let mut deletions = JoinSet::new();
            for &slot in some {
                let (store, name) = (self.store.clone(), self.object(slot));
                deletions.spawn(async move { store.delete(&name).await });
            }
            for result in deletions.join_all().await {
                result?;
            }
        }
        self.store.delete(&format!("{}/", self.folder)).await
    }
}

/// Writes an object, reads it back, deletes it.
fn probe(runtime: &Runtime, store: &Operator, folder: &str) -> Result<(), RemoteError> {
    let name = format!("{folder}/probe");
    let content = id_page(folder);
    let kept = runtime.block_on(async {
        store.write(&name, content.to_vec()).await?;
        let back = store.read(&name).await?.to_vec();
        store.delete(&name).await?;
        Ok::<_, opendal::Error>(back == content)
    })?;
    if kept { Ok(()) } else { Err(RemoteError("it does not keep what it is given".into())) }
}

/// A page whose content nobody else writes.
fn id_page(folder: &str) -> [u8; PAGE] {
    let mut page = [0; PAGE];
    for (byte, of_name) in page.iter_mut().zip(folder.bytes().cycle()) {
        *byte = of_name;
    }
    page
}

/// The store at `url`. `SCHEME+http://HOST/PATH` is one that is reached without TLS.
fn operator(url: &str) -> Result<Operator, opendal::Error> {
    static SERVICES: Once = Once::new();
    SERVICES.call_once(|| {
        // Only the first counts, and any will do.
        #[cfg(feature = "remote-tls")]
        let _ = rustls::crypto::ring::default_provider().install_default();
        #[cfg(feature = "remote-http")]
        opendal_http_transport_reqwest::install_default();
        opendal::init_default_registry();
    });
    let Some((scheme, place)) = url.split_once("+http://") else { return Operator::from_uri(url) };
    let (place, query) = place.split_once('?').unwrap_or((place, ""));
    let (host, root) = place.split_once('/').unwrap_or((place, ""));
    let mut options = vec![
        ("endpoint".to_owned(), format!("http://{host}")),
        ("root".to_owned(), format!("/{root}")),
    ];
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    options.extend(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
    Operator::via_iter(scheme, options)
}

impl SwapArea for RemoteArea {
    fn slots(&self) -> u32 {
        self.objects.lock().len() as u32
    }

    fn read(&self, slot: u32, into: &mut [u8; PAGE]) -> Result<(), Errno> {
        let name = self.object(slot);
        let content = self.ended(self.runtime.block_on(self.store.read(&name)))?;
        *into = content.to_vec().try_into().map_err(|_| Errno::EIO)?;
        Ok(())
    }

    fn write(&self, slot: u32, from: &[u8; PAGE]) -> Result<(), Errno> {
        if self.is_down() {
            return Err(Errno::EIO);
        }
        let name = self.object(slot);
        // It may be there in part even if this fails.
        self.objects.lock()[slot as usize] = true;
        self.ended(self.runtime.block_on(self.store.write(&name, from.to_vec())))?;
        Ok(())
    }

    fn take_wait_ns(&self) -> u64 {
        self.waited_ns.swap(0, Ordering::Relaxed)
    }
}

impl Drop for RemoteArea {
    /// Deletes the objects. What a store that is down still has stays there.
    fn drop(&mut self) {
        let objects = std::mem::take(&mut *self.objects.lock());
        let slots: Vec<u32> = (0..).zip(objects).filter(|&(_, is)| is).map(|(i, _)| i).collect();
        if !self.is_down() {
            let _ = self.runtime.block_on(self.delete_objects(&slots));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Checked;
    use std::path::{Path, PathBuf};

    fn in_folder(folder: &Path) -> RemoteArea {
        RemoteArea::open(&format!("fs://{}", folder.display()), 8, 7).expect("a store")
    }

    fn object(folder: &Path, slot: u32) -> PathBuf {
        folder.join(format!("kilburn-swap-0000000000000007/{slot:08x}"))
    }

    #[test]
    fn what_is_written_is_read() {
        let area = RemoteArea::open("memory:///", 8, 1).expect("a store");
        for (slot, byte) in [(3, 1), (0, 2), (3, 3)] {
            area.write(slot, &[byte; PAGE]).expect("room");
            let mut back = [0; PAGE];
            area.read(slot, &mut back).expect("written");
            assert_eq!(back, [byte; PAGE]);
        }
        assert_eq!(area.read(5, &mut [0; PAGE]), Err(Errno::EIO));
    }

    #[test]
    fn what_the_store_loses_or_spoils_is_an_error_and_the_rest_is_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let area = Checked::new(in_folder(folder.path()));
        for slot in 0..4 {
            area.write(slot, &[slot as u8; PAGE]).expect("room");
        }
        std::fs::remove_file(object(folder.path(), 0)).expect("there");
        std::fs::write(object(folder.path(), 1), [1; PAGE - 1]).expect("written");
        std::fs::write(object(folder.path(), 2), [9; PAGE]).expect("written");
        let mut page = [0; PAGE];
        for slot in 0..3 {
            assert_eq!(area.read(slot, &mut page), Err(Errno::EIO), "{slot}");
        }
        area.read(3, &mut page).expect("untouched");
        assert_eq!(page, [3; PAGE]);
    }

    #[test]
    fn an_area_that_goes_leaves_nothing_in_the_store() {
        let folder = tempfile::tempdir().expect("a folder");
        let area = in_folder(folder.path());
        for slot in 0..8 {
            area.write(slot, &[1; PAGE]).expect("room");
        }
        assert!(object(folder.path(), 7).exists());
        drop(area);
        assert!(!object(folder.path(), 7).exists());
    }

    #[test]
    fn a_store_that_cannot_be_reached_is_refused_at_once() {
        for url in ["webdav+http://127.0.0.1:1/", "gopher://host/", "fs:///proc/nowhere", "x"] {
            assert!(RemoteArea::open(url, 8, 1).is_err(), "{url}");
        }
    }
}
