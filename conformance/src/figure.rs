//! Measured numbers in the one form every check prints last: `name value unit bound`.

use std::fmt;

/// One measured number and the bound it is held to.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// Dotted name, stable between versions.
    pub name: &'static str,
    /// What was measured.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
    /// What it must not pass; `None` when it is only told.
    pub at_most: Option<f64>,
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} ", self.name, self.value, self.unit)?;
        match self.at_most {
            Some(bound) => write!(f, "<={bound}"),
            None => write!(f, "-"),
        }
    }
}
