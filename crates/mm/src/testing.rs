//! A host for tests: memory in a boxed slice, counted flushes, a counter for randomness.
//!
//! ```
//! # use kilburn_mm::testing::TestHost;
//! let memory = TestHost::memory(1024);
//! let mm = TestHost::mm(&memory);
//! memory.check(&[&mm], &[]).expect("consistent");
//! ```

use crate::layout::{Arch, Layout};
use crate::ops::mmap::{FileForMap, MmapRequest};
use crate::page_cache::BackingStore;
use crate::{
    AddressSpace, BoxedRam, Caller, FileIdentity, Host, MappedFile, MemcgId, Memory, MemoryConfig,
    Mm, SwapArea, TlbFlush,
};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use kilburn_addr::{Errno, PAGE_SIZE, Pfn, VirtAddr};
use kilburn_paging::Sv;
use parking_lot::Mutex;

/// Where the memory of a test machine starts.
pub const FIRST_FRAME: u64 = 0x8_0000;

/// A machine for tests.
pub struct TestHost {
    ram: BoxedRam,
    format: Sv,
    random: AtomicU64,
    flushes: Mutex<Vec<TlbFlush>>,
    cpus: usize,
    /// The group new address spaces and pages of files are charged to.
    pub current_memcg: Mutex<MemcgId>,
}

impl Host for TestHost {
    type Mem = BoxedRam;
    type Format = Sv;
    type RawMutex = parking_lot::RawMutex;
    type RawRwLock = parking_lot::RawRwLock;

    fn mem(&self) -> &BoxedRam {
        &self.ram
    }

    fn format(&self) -> Sv {
        self.format
    }

    fn flush_tlb(&self, flush: &TlbFlush) {
        self.flushes.lock().push(*flush);
    }

    fn current_memcg(&self) -> MemcgId {
        *self.current_memcg.lock()
    }

    fn cpu(&self) -> usize {
        // Threads have stacks of their own. Any answer is right.
        let here = 0_u8;
        core::ptr::from_ref(&here).addr() >> 16
    }

    fn cpus(&self) -> usize {
        self.cpus
    }

    fn random_u64(&self) -> u64 {
        self.random.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed)
    }
}

impl TestHost {
    /// A machine of `frames` frames with Sv39.
    pub fn new(frames: u64) -> Self {
        Self {
            ram: BoxedRam::new(Pfn::new(FIRST_FRAME)..Pfn::new(FIRST_FRAME + frames)),
            format: Sv::SV39,
            random: AtomicU64::new(1),
            flushes: Mutex::new(Vec::new()),
            cpus: 1,
            current_memcg: Mutex::default(),
        }
    }

    /// Memory of `frames` frames with Linux's settings.
    pub fn memory(frames: u64) -> Arc<Memory<Self>> {
        Self::memory_with(frames, |_| {})
    }

    /// Memory of `frames` frames with Linux's settings, but for what `change` changes.
    pub fn memory_with(frames: u64, change: impl FnOnce(&mut MemoryConfig)) -> Arc<Memory<Self>> {
        let range = Pfn::new(FIRST_FRAME)..Pfn::new(FIRST_FRAME + frames);
        let mut config = MemoryConfig::new(range);
        change(&mut config);
        Memory::new(Self::new(frames), config).expect("enough frames")
    }

    /// As [`Self::memory`], on a machine whose memory manager tells `cpus` CPUs apart.
    pub fn memory_of_cpus(frames: u64, cpus: usize) -> Arc<Memory<Self>> {
        let range = Pfn::new(FIRST_FRAME)..Pfn::new(FIRST_FRAME + frames);
        let host = Self { cpus, ..Self::new(frames) };
        Memory::new(host, MemoryConfig::new(range)).expect("enough frames")
    }

    /// An empty address space with the layout of Sv39, nothing random.
    pub fn mm(memory: &Arc<Memory<Self>>) -> Arc<Mm<Self>> {
        Mm::new(memory, Layout::fixed(Arch::RiscvSv39)).expect("a frame for the root")
    }

    /// The flushes since the last call.
    pub fn take_flushes(&self) -> Vec<TlbFlush> {
        core::mem::take(&mut self.flushes.lock())
    }
}

/// A file of a test: page cache and name.
pub struct TestFile {
    mapping: Arc<AddressSpace<TestHost>>,
    name: String,
}

impl TestFile {
    /// A tmpfs file that holds `content`.
    pub fn shmem(memory: &Arc<Memory<TestHost>>, name: &str, content: &[u8]) -> Arc<Self> {
        let mapping = AddressSpace::new_shmem(memory, 0);
        mapping.write_at(0, content).expect("room");
        Arc::new(Self { mapping, name: name.into() })
    }

    /// A file whose content is in `store`.
    pub fn stored(memory: &Arc<Memory<TestHost>>, name: &str, store: Arc<TestStore>) -> Arc<Self> {
        let size = store.0.lock().len() as u64;
        let mapping = AddressSpace::new(memory, Box::new(SharedStore(store)), size);
        Arc::new(Self { mapping, name: name.into() })
    }

    /// Its page cache.
    pub fn cache(&self) -> &Arc<AddressSpace<TestHost>> {
        &self.mapping
    }

    /// Opened for reading and writing.
    pub fn opened(self: &Arc<Self>) -> FileForMap<TestHost> {
        FileForMap {
            file: self.clone(),
            readable: true,
            writable: true,
            noexec: false,
            write_sealed: false,
        }
    }
}

impl MappedFile<TestHost> for TestFile {
    fn mapping(&self) -> Option<&Arc<AddressSpace<TestHost>>> {
        Some(&self.mapping)
    }

    fn identity(&self) -> FileIdentity {
        FileIdentity { major: 8, minor: 1, inode: 100 + self.mapping.id() }
    }

    fn path(&self) -> String {
        self.name.clone()
    }
}

/// A store in a vector.
#[derive(Default)]
pub struct TestStore(pub Mutex<Vec<u8>>);

impl TestStore {
    /// A store that holds `content`.
    pub fn with(content: &[u8]) -> Arc<Self> {
        Arc::new(Self(Mutex::new(content.to_vec())))
    }
}

/// An area of swap in memory that fails when it is told to.
pub struct TestSwap {
    slots: Mutex<Vec<Option<[u8; 4096]>>>,
    /// What writes answer, if not success. The slot is spoilt then.
    pub write_error: Mutex<Option<Errno>>,
    /// What reads answer, if not success.
    pub read_error: Mutex<Option<Errno>>,
}

impl TestSwap {
    /// An area of `slots` slots.
    pub fn new(slots: usize) -> Arc<Self> {
        Arc::new(Self {
            slots: Mutex::new((0..slots).map(|_| None).collect()),
            write_error: Mutex::new(None),
            read_error: Mutex::new(None),
        })
    }

    /// Slots that hold something.
    pub fn written(&self) -> usize {
        self.slots.lock().iter().flatten().count()
    }
}

impl SwapArea for TestSwap {
    fn slots(&self) -> u32 {
        self.slots.lock().len() as u32
    }

    fn read(&self, slot: u32, into: &mut [u8; 4096]) -> Result<(), Errno> {
        if let Some(errno) = *self.read_error.lock() {
            return Err(errno);
        }
        *into = self.slots.lock()[slot as usize].expect("a slot is written before it is read");
        Ok(())
    }

    fn write(&self, slot: u32, from: &[u8; 4096]) -> Result<(), Errno> {
        let failed = *self.write_error.lock();
        let spoilt = [0xee; 4096];
        self.slots.lock()[slot as usize] = Some(if failed.is_some() { spoilt } else { *from });
        failed.map_or(Ok(()), Err)
    }

    fn discard(&self, slot: u32) {
        self.slots.lock()[slot as usize] = None;
    }
}

struct SharedStore(Arc<TestStore>);

impl BackingStore for SharedStore {
    fn read_page(&self, index: u64, into: &mut [u8; 4096]) -> Result<(), Errno> {
        let content = self.0.0.lock();
        let from = content.get((index * PAGE_SIZE) as usize..).unwrap_or_default();
        let len = from.len().min(into.len());
        into.fill(0);
        into[..len].copy_from_slice(&from[..len]);
        Ok(())
    }

    fn write_page(&self, index: u64, from: &[u8]) -> Result<(), Errno> {
        let mut content = self.0.0.lock();
        let start = (index * PAGE_SIZE) as usize;
        if content.len() < start + from.len() {
            content.resize(start + from.len(), 0);
        }
        content[start..start + from.len()].copy_from_slice(from);
        Ok(())
    }

    fn set_size(&self, size: u64) -> Result<(), Errno> {
        self.0.0.lock().resize(size as usize, 0);
        Ok(())
    }

    fn sync(&self) -> Result<(), Errno> {
        Ok(())
    }
}

/// `PROT_READ | PROT_WRITE`
pub const READ_WRITE: u64 = 3;
/// `MAP_PRIVATE | MAP_ANONYMOUS`
pub const PRIVATE_ANON: u64 = 0x22;
/// `MAP_SHARED | MAP_ANONYMOUS`
pub const SHARED_ANON: u64 = 0x21;
/// `MAP_FIXED`
pub const FIXED: u64 = 0x10;

impl Mm<TestHost> {
    /// mmap without a file.
    ///
    /// # Errors
    /// As mmap(2).
    pub fn map_anon(&self, addr: u64, len: u64, prot: u64, flags: u64) -> Result<VirtAddr, Errno> {
        let request = MmapRequest { addr, len, prot, flags, file: None, offset: 0 };
        self.mmap(&Caller::ROOT, request)
    }

    /// mmap of a file opened for reading and writing.
    ///
    /// # Errors
    /// As mmap(2).
    pub fn map_file(
        &self,
        file: &Arc<TestFile>,
        len: u64,
        prot: u64,
        flags: u64,
        offset: u64,
    ) -> Result<VirtAddr, Errno> {
        let file = Some(file.opened());
        self.mmap(&Caller::ROOT, MmapRequest { addr: 0, len, prot, flags, file, offset })
    }

    /// The byte at `addr`, or the fault of reading it.
    ///
    /// # Errors
    /// The fault.
    pub fn peek(&self, addr: u64) -> Result<u8, crate::Fault> {
        let mut byte = [0];
        match self.read(&Caller::ROOT, VirtAddr::new(addr), &mut byte) {
            Ok(()) => Ok(byte[0]),
            Err(partial) => Err(partial.fault),
        }
    }

    /// Writes the byte at `addr`, or answers the fault of doing so.
    ///
    /// # Errors
    /// The fault.
    pub fn poke(&self, addr: u64, byte: u8) -> Result<(), crate::Fault> {
        self.write(&Caller::ROOT, VirtAddr::new(addr), &[byte]).map_err(|partial| partial.fault)
    }

    /// The text of /proc/PID/maps.
    pub fn maps(&self) -> String {
        let mut text = String::new();
        self.write_maps(&mut text).expect("a string takes everything");
        text
    }
}
