//! `kilburn run --timing` and `--record`: models in place of the harts' TLBs, and what they counted.

use crate::args::RunArgs;
use crate::failure::Failure;
use crate::sim::figures::{model_json, model_text};
use kilburn_addr::VmFlags;
use kilburn_linux::{Machine, SpaceWatch};
use kilburn_mmu::{Model, ModelStats};
use kilburn_paging::{Format as _, Sv};
use kilburn_riscv::Translator;
use kilburn_trace::Sharing;
use kilburn_trace::areas::Area;
use kilburn_trace::native::Header;
use kilburn_trace::recorder::{Recording, SharedModel};
use kilburn_trace::{Recorder, timing};
use parking_lot::Mutex;
use serde_json::Value;
use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;
use std::sync::Arc;

type Output = BufWriter<File>;

/// The models of a run's harts, and the recording they write to.
pub(crate) struct Timed {
    models: Vec<SharedModel>,
    recording: Option<(PathBuf, Arc<Mutex<Recording<Output>>>)>,
}

impl Timed {
    /// What the arguments ask for; `None` for neither timing nor recording.
    pub(crate) fn prepare(arguments: &RunArgs) -> Result<Option<Self>, Failure> {
        if arguments.timing.is_none() && arguments.record.is_none() {
            return Ok(None);
        }
        let config = timing::load(arguments.timing.as_deref().unwrap_or("simple"))
            .map_err(|why| Failure::usage(format!("--timing: {why}")))?;
        let model = |_| {
            let model = Model::new(config.clone()).map_err(|e| Failure::usage(e.to_string()))?;
            Ok(SharedModel(Arc::new(Mutex::new(model))))
        };
        let models = (0..arguments.harts).map(model).collect::<Result<_, Failure>>()?;
        let recording = match &arguments.record {
            None => None,
            Some(path) => {
                let failed = |error: std::io::Error| {
                    Failure::usage(format!("--record {}: {error}", path.display()))
                };
                let output = BufWriter::new(File::create(path).map_err(failed)?);
                let levels = Sv::from(arguments.paging).levels();
                let header = Header { levels, ad_update: config.ad_update };
                Some((path.clone(), Recording::new(output, header).map_err(failed)?))
            }
        };
        Ok(Some(Self { models, recording }))
    }

    /// The models, one a hart.
    pub(crate) fn models(&self) -> Vec<SharedModel> {
        self.models.clone()
    }

    /// Puts the models into the machine.
    pub(crate) fn install(&self, machine: &Machine) {
        if let Some((_, recording)) = &self.recording {
            machine.set_watch(Box::new(AreaRecorder(Arc::clone(recording))));
        }
        machine.set_translators(|hart| {
            let model = self.models[hart as usize].clone();
            match &self.recording {
                None => Box::new(model) as Box<dyn Translator + Send>,
                Some((_, recording)) => Box::new(Recorder::new(hart, Arc::clone(recording), model)),
            }
        });
    }

    /// Ends the recording, after the machine is gone.
    pub(crate) fn finish(&mut self) -> Result<(), Failure> {
        let Some((path, recording)) = self.recording.take() else { return Ok(()) };
        let failed = |why: String| Failure::usage(format!("--record {}: {why}", path.display()));
        let recording = Arc::into_inner(recording)
            .ok_or_else(|| Failure::internal("a recorder outlived its machine"))?
            .into_inner();
        let (output, _) = recording.finish().map_err(|error| failed(error.to_string()))?;
        output.into_inner().map(drop).map_err(|error| failed(error.to_string()))
    }

    /// The counts of each hart's model.
    pub(crate) fn stats(&self) -> Vec<ModelStats> {
        self.models.iter().map(|model| model.0.lock().stats()).collect()
    }

    /// The counts, for people.
    pub(crate) fn to_text(&self) -> String {
        let mut text = String::new();
        for (number, stats) in self.stats().iter().enumerate() {
            text += &format!("translation hardware of hart {number}\n");
            model_text(&mut text, stats).expect("a string takes any text");
        }
        text
    }

    /// The counts, for programs: one object a hart.
    pub(crate) fn to_json(&self) -> Value {
        self.stats().iter().map(model_json).collect()
    }
}

/// Writes down what address spaces consist of.
struct AreaRecorder(Arc<Mutex<Recording<Output>>>);

impl SpaceWatch for AreaRecorder {
    fn enters_user(&mut self, hart: u32, pid: u32, asid: u16, areas: &[kilburn_linux::Area]) {
        let area = |area: &kilburn_linux::Area| Area {
            start: area.range.start().get(),
            end: area.range.end().get(),
            prot: prot(area.flags),
            sharing: if area.flags.contains(VmFlags::MAYSHARE) {
                Sharing::Shared
            } else {
                Sharing::Private
            },
        };
        let areas: Vec<Area> = areas.iter().map(area).collect();
        self.0.lock().enters_user(hart, pid, asid, &areas);
    }

    fn forked(&mut self, hart: u32, parent: u16, child: u16) {
        self.0.lock().forked(hart, parent, child);
    }
}

/// `PROT_*` as mmap(2) takes them.
fn prot(flags: VmFlags) -> u64 {
    [(VmFlags::READ, 1), (VmFlags::WRITE, 2), (VmFlags::EXEC, 4)]
        .into_iter()
        .filter(|(flag, _)| flags.contains(*flag))
        .map(|(_, bit)| bit)
        .sum()
}
