//! One measured figure and what is asked of it.

use std::fmt;

/// What is asked of a figure.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Bounds {
    /// The floor and the goal are lower bounds.
    AtLeast { floor: f64, goal: f64 },
    /// The floor and the goal are upper bounds.
    AtMost { floor: f64, goal: f64 },
    /// Printed beside.
    Beside,
}

/// A line of the table.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    /// What was measured.
    pub(crate) what: String,
    /// The value that counts: a median where there are several.
    pub(crate) value: f64,
    /// Its unit, such as `x`.
    pub(crate) unit: &'static str,
    /// What it was made of.
    pub(crate) detail: String,
    pub(crate) bounds: Bounds,
}

impl Figure {
    /// The head of the table.
    pub(crate) const HEADER: &str =
        "| figure | measured | how | floor | goal | floor holds |\n|---|---|---|---|---|---|";

    /// Whether the floor holds.
    pub(crate) fn holds(&self) -> bool {
        match self.bounds {
            Bounds::AtLeast { floor, .. } => self.value >= floor,
            Bounds::AtMost { floor, .. } => self.value <= floor,
            Bounds::Beside => true,
        }
    }

    fn reaches_goal(&self) -> bool {
        match self.bounds {
            Bounds::AtLeast { goal, .. } => self.value >= goal,
            Bounds::AtMost { goal, .. } => self.value <= goal,
            Bounds::Beside => false,
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, value, unit, detail, bounds } = self;
        let decimals = if *value >= 100.0 { 0 } else { 2 };
        write!(formatter, "| {what} | {value:.decimals$} {unit} | {detail} |")?;
        match bounds {
            Bounds::AtLeast { floor, goal } => write!(formatter, " >= {floor} | >= {goal} |")?,
            Bounds::AtMost { floor, goal } => write!(formatter, " <= {floor} | <= {goal} |")?,
            Bounds::Beside => return formatter.write_str(" | | |"),
        }
        let verdict = match (self.holds(), self.reaches_goal()) {
            (true, true) => "yes, and the goal",
            (true, false) => "yes",
            (false, _) => "**no**",
        };
        write!(formatter, " {verdict} |")
    }
}
