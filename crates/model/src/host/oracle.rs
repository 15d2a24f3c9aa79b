//! The parent's side of the oracle.

use super::child::{self, FAILURES};
use super::ring::{MAX_PROCESSES, MAX_STEPS, Ring, command, tag};
use super::{OracleError, Stage, sys};
use crate::call::Kind;
use crate::case::{Case, MAX_FILES, Window};
use crate::outcome::{Counts, Outcome, Pages, Report};
use crate::safe::is_safe;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Mutex, PoisonError};

/// Turns of 100 ms that a case may take before it counts as hung.
const PATIENCE: u32 = 300;

/// Forks of zygotes, one at a time: what one inherits of another is no longer than needed.
static FORKING: Mutex<()> = Mutex::new(());

/// A kernel that can be asked what calls do in one window of addresses.
pub struct Oracle {
    window: Window,
    ring: &'static Ring,
    data_fd: i32,
}

impl Oracle {
    /// Prepares a child whose address space is occupied but for `window`.
    ///
    /// # Errors
    /// [`OracleError::Unsupported`] when the kernel has no mseal, [`OracleError::Setup`] when
    /// anything else is refused.
    pub fn new(window: Window) -> Result<Self, OracleError> {
        let setup = |what, errno| OracleError::Setup { what, errno };
        let _one_at_a_time = FORKING.lock().unwrap_or_else(PoisonError::into_inner);
        let ring = sys::new_ring().map_err(|errno| setup("shared memory", errno))?;
        let data_fd = match sys::memfd() {
            failed @ i64::MIN..0 => return Err(setup("a file for reports", -failed as i32)),
            fd => fd as i32,
        };
        ring.data_fd.store(data_fd as u32, SeqCst);
        ring.window_start.store(window.start, SeqCst);
        ring.window_end.store(window.end(), SeqCst);
        match sys::fork() {
            0 => child::zygote(ring),
            failed @ i64::MIN..0 => return Err(setup("fork", -failed as i32)),
            _ => {}
        }
        for _ in 0..PATIENCE {
            match ring.command.load(SeqCst) {
                command::STARTING => Ring::wait(&ring.command, command::STARTING),
                command::FAILED => {
                    let what = FAILURES[ring.failure.load(SeqCst) as usize % FAILURES.len()];
                    let errno = ring.errno.load(SeqCst) as i32;
                    if what == "mseal" {
                        return Err(OracleError::Unsupported("this kernel has no mseal".into()));
                    }
                    return Err(setup(what, errno));
                }
                _ => return Ok(Self { window, ring, data_fd }),
            }
        }
        Err(setup("starting in time", 0))
    }

    /// Makes the calls of `case` in a new process and reports what each did.
    ///
    /// # Errors
    /// [`OracleError::Case`] for a case that must not be run, [`OracleError::Lost`] when the child
    /// died or hung.
    pub fn run(&mut self, case: &Case, stage: Stage) -> Result<Vec<Report>, OracleError> {
        self.accept(case)?;
        let ring = self.ring;
        ring.look_at_pages.store(u32::from(stage == Stage::Two), SeqCst);
        for (slot, step) in ring.slots.iter().zip(&case.steps) {
            slot.put(step);
        }
        ring.count.store(case.steps.len() as u32, SeqCst);
        ring.turn.store(0, SeqCst);
        ring.data_len.store(0, SeqCst);
        ring.died.store(0, SeqCst);
        ring.forked.store(0, SeqCst);
        ring.alive.store(1, SeqCst);
        ring.brk.store(case.brk, SeqCst);
        ring.file_count.store(case.files.len() as u64, SeqCst);
        for (to, from) in ring.file_sizes.iter().zip(&case.files) {
            to.store(*from, SeqCst);
        }
        if ring.command.load(SeqCst) != command::IDLE {
            return Err(OracleError::Lost { what: "was lost before".to_owned(), step: 0 });
        }
        Ring::set(&ring.command, command::RUN);
        let mut patience = PATIENCE;
        while ring.command.load(SeqCst) == command::RUN {
            Ring::wait(&ring.command, command::RUN);
            patience -= 1;
            if patience == 0 {
                return Err(self.lost("hangs".to_owned()));
            }
        }
        match ring.died.load(SeqCst) {
            0 => {
                let data = self.data()?;
                Ok((0..case.steps.len()).map(|at| self.report(at, &data)).collect())
            }
            status => Err(self.lost(format!("ended with wait status {status:#x}"))),
        }
    }

    /// What the first process of the last case counted before its first step, in stage two.
    pub fn base(&self) -> Counts {
        Counts::from_values(std::array::from_fn(|at| self.ring.base[at].load(SeqCst)))
    }

    fn accept(&self, case: &Case) -> Result<(), OracleError> {
        let refuse = |why: String| Err(OracleError::Case(why));
        if case.window != self.window {
            return refuse("it has another window".to_owned());
        }
        if case.steps.len() > MAX_STEPS || case.files.len() > MAX_FILES {
            return refuse(format!("more than {MAX_STEPS} steps or {MAX_FILES} files"));
        }
        if case.steps.iter().any(|step| usize::from(step.process) >= MAX_PROCESSES) {
            return refuse(format!("more than {MAX_PROCESSES} processes"));
        }
        let forks = case.steps.iter().filter(|step| step.call.kind == Kind::Fork).count();
        if forks >= MAX_PROCESSES {
            return refuse(format!("more than {MAX_PROCESSES} processes"));
        }
        if case.brk < case.window.start || case.brk >= case.window.end() {
            return refuse("its heap is not in the window".to_owned());
        }
        match case.steps.iter().find(|step| !is_safe(&step.call, case.window)) {
            Some(step) => refuse(format!("«{step}» could reach the oracle's child itself")),
            None => Ok(()),
        }
    }

    fn lost(&self, what: String) -> OracleError {
        Ring::set(&self.ring.command, command::QUIT);
        OracleError::Lost { what, step: self.ring.turn.load(SeqCst) as usize }
    }

    /// All that the processes of the case wrote.
    fn data(&self) -> Result<Vec<u8>, OracleError> {
        let mut data = vec![0; self.ring.data_len.load(SeqCst) as usize];
        let mut done = 0;
        while done < data.len() {
            let count = sys::pread(self.data_fd, &mut data[done..], done as u64);
            if count <= 0 {
                return Err(self.lost("left no report".to_owned()));
            }
            done += count as usize;
        }
        Ok(data)
    }

    fn report(&self, at: usize, data: &[u8]) -> Report {
        let slot = &self.ring.slots[at];
        let value = slot.value.load(SeqCst);
        let outcome = match slot.tag.load(SeqCst) {
            tag::RETURNED => Outcome::Returned(value as i64),
            tag::SIGNAL => Outcome::Signal {
                signo: (value >> 32) as i32,
                code: value as i32,
                addr: slot.addr.load(SeqCst),
            },
            _ => Outcome::Skipped,
        };
        let mut data = data.get(slot.data_at.load(SeqCst) as usize..).unwrap_or_default();
        let mut take = |len: u64| {
            let (taken, rest) = data.split_at_checked(len as usize).unwrap_or_default();
            data = rest;
            taken
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (maps_len, smaps_len) = (slot.maps_len.load(SeqCst), slot.smaps_len.load(SeqCst));
        let maps = (maps_len > 0).then(|| text(take(maps_len)));
        let pages = (smaps_len > 0).then(|| {
            let smaps = text(take(smaps_len));
            let entry = |bytes: &[u8]| u64::from_ne_bytes(bytes.try_into().expect("8 bytes"));
            Box::new(Pages {
                smaps,
                pagemap: take(self.window.pages * 8).chunks_exact(8).map(entry).collect(),
                mincore: take(self.window.pages).to_vec(),
                counts: Counts::from_values(std::array::from_fn(|at| slot.counts[at].load(SeqCst))),
            })
        });
        Report { outcome, maps, pages }
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        Ring::set(&self.ring.command, command::QUIT);
        sys::close(self.data_fd);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(text: &str) -> Option<Vec<Report>> {
        let case: Case = text.parse().expect("well-formed");
        match Oracle::new(case.window) {
            Ok(mut oracle) => Some(oracle.run(&case, Stage::One).expect("the child lives")),
            Err(error) => {
                println!("SKIP: {error}");
                None
            }
        }
    }

    #[test]
    fn a_mapping_without_address_goes_to_the_top_of_the_window() {
        let text = "window 0x1000000000 96\nbrk 0x1000000000\n\
            0 mmap addr=0x0 len=0x3000 prot=0x3 flags=0x22 file=- offset=0x0\n\
            0 write addr=0x100005d000 value=0x7f\n0 read addr=0x100005d000\n\
            0 munmap addr=0x100005e000 len=0x1000\n0 read addr=0x100005e000\n\
            0 write addr=0x100005efff value=1\n0 brk addr=0x1000002000\n\
            0 munmap addr=0x100005f000 len=0x2000\n";
        let Some(reports) = ask(text) else { return };
        let fault = |addr| Outcome::Signal { signo: 11, code: 1, addr };
        let outcomes: Vec<Outcome> = reports.iter().map(|report| report.outcome).collect();
        assert_eq!(
            outcomes,
            [
                Outcome::Returned(0x10_0005_d000),
                Outcome::Returned(0),
                Outcome::Returned(0x7f),
                Outcome::Returned(0),
                fault(0x10_0005_e000),
                fault(0x10_0005_efff),
                Outcome::Returned(0x10_0000_2000),
                // What lies behind the window is sealed.
                Outcome::Returned(-1),
            ]
        );
        let maps = reports[6].maps.as_deref().expect("brk changes areas");
        let maps = crate::areas::text(maps, Window::NARROW);
        let expect = "1000000000-1000002000 rw-p 00000000 [heap]\n\
            100005d000-100005e000 rw-p 00000000 \n100005f000-1000060000 rw-p 00000000 \n";
        assert_eq!(maps, expect);
    }

    #[test]
    fn forked_processes_take_turns() {
        let text = "window 0x1000000000 96\nbrk 0x1000000000\nfile 0x1000\n\
            0 mmap addr=0x1000000000 len=0x1000 prot=0x3 flags=0x32 file=- offset=0x0\n\
            0 write addr=0x1000000000 value=1\n0 fork\n1 write addr=0x1000000000 value=2\n\
            0 read addr=0x1000000000\n1 fork\n2 read addr=0x1000000000\n1 exit\n\
            1 read addr=0x1000000000\n2 write addr=0x1000000000 value=3\n\
            0 mmap addr=0x0 len=0x1000 prot=0x1 flags=0x1 file=0 offset=0x0\n\
            0 read addr=0x100005f007\n";
        let Some(reports) = ask(text) else { return };
        let values: Vec<Outcome> = reports[3..].iter().map(|report| report.outcome).collect();
        let returned = Outcome::Returned;
        assert_eq!(
            values,
            [
                returned(0),
                returned(1),
                returned(2),
                returned(2),
                returned(0),
                Outcome::Skipped,
                returned(0),
                returned(0x10_0005_f000),
                returned(0xf1),
            ]
        );
    }

    #[test]
    fn what_could_harm_the_child_is_not_run() {
        let text = "window 0x1000000000 96\nbrk 0x1000000000\n0 munmap addr=0x1000 len=0x100000\n";
        let case: Case = text.parse().expect("well-formed");
        let Ok(mut oracle) = Oracle::new(case.window) else {
            println!("SKIP: no oracle here");
            return;
        };
        assert!(matches!(oracle.run(&case, Stage::One), Err(OracleError::Case(_))));
    }
}
