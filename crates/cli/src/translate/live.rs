//! A process of a machine that is running, asked through its control socket.
//!
//! [`explainer`] is the machine's side: between two slices it looks at the tables, and at the hart's TLBs, walk caches and caches
//! where the run models them (`--timing`). [`ask`] is the side of `kilburn translate --pid`.

use super::{moment, picture};
use crate::failure::Failure;
use crate::observe::{machine, question};
use kilburn_addr::Access;
use kilburn_linux::{Explainer, Look};
use kilburn_mmu::model::explain::explain_tables;
use kilburn_paging::Format as _;
use kilburn_trace::recorder::SharedModel;
use kilburn_trace::replay::Moment;
use serde_json::{Value, json};

/// Explains with `models`, one a hart, or with the tables alone where there are none.
pub(crate) fn explainer(models: Vec<SharedModel>) -> Explainer {
    Box::new(move |look: &Look<'_>| {
        let Look { mem, space, hart, pid, va, access } = *look;
        let said = match models.get(hart as usize) {
            Some(model) => model.0.lock().explain(mem, space, va, access),
            None => explain_tables(mem, space, va, access),
        };
        let levels = space.format.levels();
        let (hart, space, pid) = (hart as usize, space.asid, Some(pid));
        let told = Told::of(&Moment { hart, space, pid, levels, va, access, said });
        json!({ "moment": told.moment, "text": told.text, "svg": told.svg }).to_string()
    })
}

/// What an access would meet: its fields, the same as text, and as a picture.
pub(crate) struct Told {
    pub(crate) moment: Value,
    pub(crate) text: String,
    pub(crate) svg: String,
}

impl Told {
    /// What is said of a recorded moment.
    pub(crate) fn of(said: &Moment) -> Self {
        let mut text = Vec::new();
        // A vector takes everything.
        let _ = moment::steps(&mut text, said);
        let text = String::from_utf8_lossy(&text).into_owned();
        Self { moment: moment::as_json(said), text, svg: picture::draw_moment(said) }
    }
}

/// Asks the machine about an access of `pid` to each of `addresses`.
pub(crate) fn ask(
    chosen: Option<u32>,
    pid: u32,
    addresses: &[u64],
    access: Access,
) -> Result<Vec<Told>, Failure> {
    let machine = machine(chosen)?;
    let access = if access == Access::Write { "store" } else { "load" };
    let one = |va: &u64| {
        let asked = json!({ "ask": "translate", "pid": pid, "va": va, "access": access });
        let answer = question(machine, &asked)?;
        let text = |key| answer.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let moment = answer.get("moment").cloned().unwrap_or(Value::Null);
        Ok(Told { moment, text: text("text"), svg: text("svg") })
    };
    addresses.iter().map(one).collect()
}
