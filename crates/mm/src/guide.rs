//! A guided tour of embedding the memory manager, in nine stops. All code here runs as a test.
//!
//! Whole programs: `examples/shortest.rs`, `examples/device.rs` (a mapping of your own) and
//! `examples/kernel_shaped` (no std, spin locks, a TLB).
//!
//! # 1. What you bring
//!
//! A [`Host`](crate::Host): memory to put frames in, a page-table format, two kinds of lock, and
//! what to do when translations must be forgotten.
//!
//! ```
//! use kilburn_mm::{BoxedRam, FlushScope, Host, TlbFlush};
//! use kilburn_paging::Sv;
//!
//! struct Machine {
//!     ram: BoxedRam, // a kernel brings its frames; a virtual machine its guest's memory
//! }
//!
//! impl Host for Machine {
//!     type Mem = BoxedRam;
//!     type Format = Sv;
//!     type RawMutex = parking_lot::RawMutex; // anything of lock_api's
//!     type RawRwLock = parking_lot::RawRwLock;
//!
//!     fn mem(&self) -> &BoxedRam {
//!         &self.ram
//!     }
//!
//!     fn format(&self) -> Sv {
//!         Sv::SV39
//!     }
//!
//!     fn flush_tlb(&self, flush: &TlbFlush) {
//!         // Interrupt your CPUs and wait for them: when this returns, none uses the old entries.
//!         match flush.what {
//!             FlushScope::All => { /* everything of flush.asid */ }
//!             FlushScope::Range(_range) => { /* these pages of flush.asid */ }
//!         }
//!     }
//!
//!     fn random_u64(&self) -> u64 {
//!         4 // for address-space layout; seeded, where runs must repeat
//!     }
//! }
//! ```
//!
//! There is no clock, no scheduler, no file system and no CPU to bring.
//!
//! # 2. Frames
//!
//! [`Memory`](crate::Memory) owns the machine's frames. It hands them out zeroed, takes them back
//! with their last reference, and counts them by use, as /proc/meminfo shows them.
//!
//! ```
//! # use kilburn_mm::testing::{FIRST_FRAME, TestHost};
//! use kilburn_addr::Pfn;
//! use kilburn_mm::config::CommitLimit;
//! use kilburn_mm::{Memory, MemoryConfig, Overcommit};
//!
//! # let machine = TestHost::new(1000);
//! # let first = FIRST_FRAME;
//! let config = MemoryConfig::new(Pfn::new(first)..Pfn::new(first + 1000))
//!     .with_overcommit(Overcommit::Never(CommitLimit::Ratio(80))); // vm.overcommit_memory = 2
//! let memory = Memory::new(machine, config)?;
//! assert_eq!(memory.counts().total, 1000);
//! assert_eq!(memory.counts().free, 999, "the zero page is in use from the start");
//! assert_eq!(memory.counts().commit_limit, 800);
//! # Ok::<(), kilburn_mm::MemoryError>(())
//! ```
//!
//! # 3. An address space
//!
//! [`Mm`](crate::Mm) is one: areas, tables, counts. Its [`Layout`](crate::Layout) says where
//! things go, as exec picks it; [`Layout::pick`](crate::Layout::pick) randomises.
//!
//! ```
//! # use kilburn_mm::testing::TestHost;
//! use kilburn_mm::{Arch, Layout, Mm};
//!
//! # let memory = TestHost::memory(64);
//! let mm = Mm::new(&memory, Layout::fixed(Arch::RiscvSv39))?;
//! assert_eq!(mm.layout().stack_top().get(), 1 << 38);
//! assert_eq!(memory.counts().page_tables, 1, "the root; your CPU's satp holds mm.root()");
//! drop(mm); // exit_mmap: every frame comes back
//! assert_eq!(memory.counts().page_tables, 0);
//! # Ok::<(), kilburn_addr::Errno>(())
//! ```
//!
//! # 4. Calls
//!
//! System calls are methods. They take what the guest's registers hold, and answer what Linux
//! answers; who calls, and with which limits, is passed in as a [`Caller`](crate::Caller).
//!
//! ```
//! # use kilburn_mm::testing::TestHost;
//! use kilburn_addr::{Errno, Prot, VirtAddr};
//! use kilburn_mm::{Caller, MmapRequest};
//!
//! # let memory = TestHost::memory(64);
//! # let mm = TestHost::mm(&memory);
//! // As registers have it ...
//! let request =
//!     MmapRequest { addr: 0, len: 8192, prot: 3, flags: 0x22, file: None, offset: 0 };
//! let at = mm.mmap(&Caller::USER, request)?;
//! // ... or by name.
//! let request = MmapRequest::anonymous(4096).prot(Prot::READ).at(at);
//! assert_eq!(mm.mmap(&Caller::USER, request), Err(Errno::EEXIST));
//!
//! mm.mprotect(&Caller::USER, at, 4096, 1)?;
//! assert_eq!(mm.munmap(VirtAddr::new(at.get() + 1), 4096), Err(Errno::EINVAL));
//! let poor = Caller { rlimits: kilburn_mm::Rlimits { address_space: 8192, ..Caller::USER.rlimits }, ..Caller::USER };
//! assert_eq!(mm.mmap(&poor, MmapRequest::anonymous(4096)), Err(Errno::ENOMEM));
//! # Ok::<(), Errno>(())
//! ```
//!
//! An error leaves what Linux leaves: a call plans first, which can fail, and then commits.
//!
//! # 5. Faults, and your CPU
//!
//! Your CPU walks the tables. Where they refuse, it reports the access to
//! [`Mm::handle_fault`](crate::Mm::handle_fault) and runs the instruction again.
//!
//! ```
//! # use kilburn_mm::testing::{READ_WRITE, PRIVATE_ANON, TestHost};
//! use kilburn_addr::{Access, VirtAddr};
//! use kilburn_mm::{Caller, Fault, FaultKind, SegvCode};
//! use kilburn_paging::walk::walk;
//!
//! # let memory = TestHost::memory(64);
//! # let mm = TestHost::mm(&memory);
//! # let at = mm.map_anon(0, 8192, READ_WRITE, PRIVATE_ANON).unwrap();
//! # use kilburn_mm::Host;
//! # let host = memory.host();
//! let translate = |va, access| walk(host.mem(), host.format(), mm.root(), va, access);
//!
//! assert!(translate(at, Access::Write).is_err(), "nothing was touched yet");
//! let done = mm.handle_fault(&Caller::USER, at, Access::Write)?;
//! assert_eq!(done.kind, FaultKind::DemandZero);
//! let found = translate(at, Access::Write).expect("now it is there");
//! assert!(memory.counts().anon == 1 && found.level == 0);
//!
//! // What cannot be resolved becomes a signal; you send it.
//! let refused = mm.handle_fault(&Caller::USER, VirtAddr::new(8), Access::Read);
//! assert_eq!(refused, Err(Fault::Segv(SegvCode::MapErr)));
//! # Ok::<(), Fault>(())
//! ```
//!
//! A kernel also reads and writes user memory itself: [`Mm::read`](crate::Mm::read) and
//! [`Mm::write`](crate::Mm::write) are `copy_from_user` and `copy_to_user`.
//!
//! # 6. fork and exec
//!
//! [`Mm::fork`](crate::Mm::fork) copies tables and shares pages; whoever writes first gets a copy.
//! exec makes a new `Mm`, maps the program, and sets up stack and heap.
//!
//! ```
//! # use kilburn_mm::testing::{READ_WRITE, PRIVATE_ANON, TestHost};
//! use kilburn_mm::{Caller, ExecLayout, StackExec};
//!
//! # let memory = TestHost::memory(64);
//! # let parent = TestHost::mm(&memory);
//! # let at = parent.map_anon(0, 8192, READ_WRITE, PRIVATE_ANON).unwrap();
//! parent.write(&Caller::USER, at, b"parent")?;
//! let child = parent.fork(&Caller::USER).expect("enough memory");
//! assert_eq!(memory.counts().anon, 1, "one frame, mapped twice");
//! child.write(&Caller::USER, at, b"child!")?;
//! assert_eq!((memory.counts().anon, child.stats().cow_copy), (2, 1));
//!
//! // exec: an empty address space, the stack where Linux puts it, the heap after the data.
//! let program = TestHost::mm(&memory);
//! let top = program.layout().stack_top();
//! let stack = program.setup_stack(&Caller::USER, top, 100, StackExec::No).expect("room");
//! assert_eq!((stack.end(), stack.pages()), (top, 33));
//! # let end_of_data = kilburn_addr::VirtAddr::new(0x20_0000);
//! program.set_layout_fields(ExecLayout { start_brk: end_of_data, brk: end_of_data, ..ExecLayout::default() });
//! let heap = program.brk(&Caller::USER, kilburn_addr::VirtAddr::new(end_of_data.get() + 4096));
//! assert_eq!(heap.get(), end_of_data.get() + 4096);
//! # Ok::<(), kilburn_mm::Partial>(())
//! ```
//!
//! # 7. Files and the page cache
//!
//! [`AddressSpace`](crate::AddressSpace) caches one file: read, write and mmap go through it. Its
//! content comes from your [`BackingStore`](crate::BackingStore), or from nowhere (tmpfs, memfd).
//!
//! ```
//! # use kilburn_mm::testing::TestHost;
//! use kilburn_addr::Prot;
//! use kilburn_mm::{AddressSpace, Caller, FileForMap, FileIdentity, MappedFile, MmapRequest};
//! use std::sync::Arc;
//!
//! struct File(Arc<AddressSpace<TestHost>>);
//!
//! impl MappedFile<TestHost> for File {
//!     fn mapping(&self) -> Option<&Arc<AddressSpace<TestHost>>> {
//!         Some(&self.0)
//!     }
//!     fn identity(&self) -> FileIdentity {
//!         FileIdentity { major: 0, minor: 1, inode: 7 } // of the maps line
//!     }
//!     fn path(&self) -> String {
//!         "/tmp/notes".into()
//!     }
//! }
//!
//! # let memory = TestHost::memory(64);
//! # let mm = TestHost::mm(&memory);
//! let cache = AddressSpace::new_shmem(&memory, 0);
//! cache.write_at(0, b"written by write")?;
//! let file = FileForMap::read_write(Arc::new(File(cache.clone())));
//! let request = MmapRequest::of_file(file, 0, 4096).shared().prot(Prot::READ | Prot::WRITE);
//! let at = mm.mmap(&Caller::USER, request)?;
//! mm.write(&Caller::USER, at, b"WRITTEN").expect("mapped writable");
//!
//! let mut text = [0; 16];
//! cache.read_at(0, &mut text)?;
//! assert_eq!(&text, b"WRITTEN by write", "one page behind both");
//! cache.truncate(0)?; // unmaps it everywhere: the next access is SIGBUS
//! assert_eq!(mm.read(&Caller::USER, at, &mut text).unwrap_err().fault, kilburn_mm::Fault::Bus);
//! # Ok::<(), kilburn_addr::Errno>(())
//! ```
//!
//! A device supplies its pages itself: [`Mappable`](crate::Mappable).
//!
//! # 8. Accounting, and the text of /proc
//!
//! Counts are true at every moment, and the text is Linux's.
//!
//! ```
//! # use kilburn_mm::testing::{READ_WRITE, PRIVATE_ANON, TestHost};
//! # let memory = TestHost::memory(64);
//! # let mm = TestHost::mm(&memory);
//! # let at = mm.map_anon(0, 8192, READ_WRITE, PRIVATE_ANON).unwrap();
//! # mm.poke(at.get(), 1).unwrap();
//! let mut maps = String::new();
//! mm.write_maps(&mut maps)?;
//! assert_eq!(maps, "3ff7ffe000-3ff8000000 rw-p 00000000 00:00 0 \n");
//! let usage = mm.usage();
//! assert_eq!((usage.rss, usage.pss, usage.uss), (4096, 4096, 4096));
//! assert_eq!(mm.status().vm_size, 8192);
//! assert_eq!(mm.stats().demand_zero, 1);
//!
//! // The whole state, walked and compared with every count: for your tests.
//! memory.check(&[&mm], &[]).expect("every invariant holds");
//! # Ok::<(), std::fmt::Error>(())
//! ```
//!
//! # 9. Locks and threads
//!
//! Everything takes `&self`, and [`Mm`](crate::Mm) is `Send + Sync`: threads of a process share one
//! `Arc<Mm>`. Faults hold `mmap_lock` shared and run side by side; calls that change areas hold it
//! alone. The head of this crate gives the whole lock order; your `flush_tlb` is called under these
//! locks and must not call back.
//!
//! ```
//! # use kilburn_mm::testing::{READ_WRITE, PRIVATE_ANON, TestHost};
//! use kilburn_addr::{Access, VirtAddr};
//! use kilburn_mm::Caller;
//!
//! # let memory = TestHost::memory(64);
//! # let mm = TestHost::mm(&memory);
//! # let at = mm.map_anon(0, 8 * 4096, READ_WRITE, PRIVATE_ANON).unwrap();
//! std::thread::scope(|scope| {
//!     for thread in 0..2 {
//!         let mm = &mm;
//!         scope.spawn(move || {
//!             for page in 0..4 {
//!                 let va = VirtAddr::new(at.get() + (4 * thread + page) * 4096);
//!                 mm.handle_fault(&Caller::USER, va, Access::Write).expect("mapped");
//!             }
//!         });
//!     }
//! });
//! assert_eq!((mm.statm().resident, mm.stats().demand_zero), (8, 8));
//! ```
