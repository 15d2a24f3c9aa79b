//! What `docs/fidelity.toml` may say.

use serde::Deserialize;

/// The whole file.
#[derive(Deserialize, Default, Debug)]
#[serde(deny_unknown_fields)]
pub(super) struct Data {
    /// Calls that are claimed flag by flag.
    #[serde(default)]
    pub(super) call: Vec<Call>,
    /// All other calls, by what they are about; the code says how much there is of each.
    #[serde(default)]
    pub(super) group: Vec<Group>,
    /// Departures from Linux that concern no cell.
    #[serde(default)]
    pub(super) elsewhere: Elsewhere,
    /// What the project is about, and where to see it.
    #[serde(default)]
    pub(super) feature: Vec<Feature>,
}

/// A call, or a rule of several calls, and its flags.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub(super) struct Call {
    /// Heading.
    pub(super) name: String,
    /// The system calls this covers, when it is not the one of that name.
    #[serde(default)]
    pub(super) calls: Option<Vec<String>>,
    /// Where Linux does it.
    #[serde(default)]
    pub(super) linux: Option<String>,
    /// Groups of the Linux Test Project about it.
    #[serde(default)]
    pub(super) ltp: Vec<String>,
    /// What is claimed.
    pub(super) cells: Vec<Cell>,
}

impl Call {
    /// The system calls this covers.
    pub(super) fn covers(&self) -> Vec<&str> {
        match &self.calls {
            Some(calls) => calls.iter().map(String::as_str).collect(),
            None => vec![&self.name],
        }
    }
}

/// A claim: one flag, command or rule of a call.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub(super) struct Cell {
    /// The flag as Linux names it, or the rule in a few words.
    pub(super) flag: String,
    /// How faithful it is.
    pub(super) is: Is,
    /// What there is and what there is not; needed unless exact or explained by a divergence.
    #[serde(default)]
    pub(super) note: Option<String>,
    /// Steps of the oracle that exercise it: `ARG`, `ARG & MASK`, `ARG & MASK == VALUE`, or `any`;
    /// `CALL:` before it names another call of the oracle.
    #[serde(default)]
    pub(super) oracle: Option<String>,
    /// Names of test functions, `FILE::NAME` where a name alone is not unique.
    #[serde(default)]
    pub(super) tests: Vec<String>,
    /// Cases and guest programs: files that mention the flag.
    #[serde(default)]
    pub(super) files: Vec<String>,
    /// Departures from Linux that concern it.
    #[serde(default)]
    pub(super) divergences: Vec<String>,
}

/// How faithful a cell is.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "lowercase")]
pub(super) enum Is {
    /// Every answer and every effect is Linux's.
    Exact,
    /// Some are; the note or the divergences say which are not.
    Partial,
    /// It answers what Linux answers when it does not support it.
    Absent,
}

impl Is {
    /// The word on the page.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Partial => "partial",
            Self::Absent => "absent",
        }
    }
}

/// Calls of one subject that are not claimed flag by flag.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub(super) struct Group {
    /// Heading.
    pub(super) name: String,
    /// The calls.
    pub(super) calls: Vec<String>,
    /// Those that answer from their arguments alone, and are no stubs.
    #[serde(default)]
    pub(super) pure: Vec<String>,
    /// What proves them: test functions.
    #[serde(default)]
    pub(super) tests: Vec<String>,
    /// Cases and guest programs.
    #[serde(default)]
    pub(super) files: Vec<String>,
    /// Groups of the Linux Test Project.
    #[serde(default)]
    pub(super) ltp: Vec<String>,
    /// Departures from Linux.
    #[serde(default)]
    pub(super) divergences: Vec<String>,
}

/// Departures from Linux outside of the calls.
#[derive(Deserialize, Default, Debug)]
#[serde(deny_unknown_fields)]
pub(super) struct Elsewhere {
    /// Their ids.
    #[serde(default)]
    pub(super) divergences: Vec<String>,
}

/// One thing virtual memory is made of.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub(super) struct Feature {
    /// What it is, in the words of those who teach it.
    pub(super) notes: String,
    /// What Kilburn has.
    pub(super) has: String,
    /// How much of it there is.
    pub(super) is: Is,
    /// Commands and places that show it.
    pub(super) see: String,
    /// Test functions.
    #[serde(default)]
    pub(super) tests: Vec<String>,
    /// Files that must be there.
    #[serde(default)]
    pub(super) files: Vec<String>,
}
