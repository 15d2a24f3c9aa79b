//! Where there is no kernel to ask.

use super::{OracleError, Stage};
use crate::case::{Case, Window};
use crate::outcome::{Counts, Report};

/// A kernel that cannot be asked.
pub enum Oracle {}

impl Oracle {
    /// Says why not.
    ///
    /// # Errors
    /// Always.
    pub fn new(_window: Window) -> Result<Self, OracleError> {
        Err(OracleError::Unsupported("this is another system".to_owned()))
    }

    /// Never called.
    ///
    /// # Errors
    /// Never.
    pub fn run(&mut self, _case: &Case, _stage: Stage) -> Result<Vec<Report>, OracleError> {
        match *self {}
    }

    /// Never called.
    pub fn base(&self) -> Counts {
        match *self {}
    }
}

/// A child that cannot be.
pub enum Forked {}

impl Forked {
    /// Says why not.
    ///
    /// # Errors
    /// Always.
    pub fn now() -> std::io::Result<Self> {
        Err(std::io::ErrorKind::Unsupported.into())
    }

    /// Never called.
    pub fn wait(self) {
        match self {}
    }
}

/// Says why not.
///
/// # Errors
/// Always.
pub fn page_out(_memory: &mut [u8]) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}
