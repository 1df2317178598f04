//! The span of a list: from and to on borders of windows, bounded by how many windows one answer may span.

use pulso_domain::time::Instant;
use pulso_domain::window::{Level, Window};

use crate::problem::Problem;

/// Most days of hours: two months.
const HOURS_MAX: i32 = 62 * 24;
/// Most days of days: a year and a month.
const DAYS_MAX: i32 = 400;
/// Most months: a hundred years; each is a partition of the store.
const MONTHS_MAX: i32 = 1200;

/// Windows of one level, half-open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Span {
    /// The first window.
    pub(crate) first: Window,
    /// The first window beyond.
    pub(crate) end: Window,
}

/// What a request says about its span.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Asked<'a> {
    /// `from`.
    pub(crate) from: Option<&'a str>,
    /// `to`.
    pub(crate) to: Option<&'a str>,
    /// `granularity`.
    pub(crate) granularity: Option<&'a str>,
}

impl Span {
    /// One window.
    pub(crate) fn of(window: Window) -> Self {
        Self { first: window, end: window.next() }
    }

    /// Its level.
    pub(crate) fn level(&self) -> Level {
        self.first.level()
    }

    /// The months that it touches.
    pub(crate) fn months(&self) -> impl Iterator<Item = Window> {
        let last = Window::from_index(self.level(), self.end.index() - 1);
        let (first, last) = (self.first.widen(Level::Month).index(), last.widen(Level::Month).index());
        (first..=last).map(|index| Window::from_index(Level::Month, index))
    }

    /// Reads a span. Without `from` it begins with the month of its end, without `to` it ends with the present window;
    /// without `granularity` it has the one of `default`, or the coarsest whose borders it keeps.
    pub(crate) fn read(asked: Asked<'_>, default: Option<Level>, now: Instant) -> Result<Self, Problem> {
        let from = asked.from.map(|text| instant("from", text)).transpose()?;
        let to = asked.to.map(|text| instant("to", text)).transpose()?;
        let level = match asked.granularity {
            Some(text) => granularity(text)?,
            None => default.unwrap_or_else(|| coarsest(from, to)),
        };
        let end = match to {
            Some(to) => on_border("to", to, level)?,
            None => Window::containing(level, now).next(),
        };
        let first = match from {
            Some(from) => on_border("from", from, level)?,
            None => {
                let last = Window::from_index(level, end.index() - 1);
                Window::containing(level, last.widen(Level::Month).start())
            }
        };
        if first >= end {
            return Err(Problem::parameter("to", "give a time after from; ranges are half-open"));
        }
        let most = match level {
            Level::Hour => (HOURS_MAX, "62 days of hours"),
            Level::Day => (DAYS_MAX, "400 days of days"),
            Level::Month => (MONTHS_MAX, "1200 months"),
        };
        if end.index() - first.index() > most.0 {
            return Err(Problem::parameter(
                "to",
                format!("ask for at most {}, or a coarser granularity", most.1),
            ));
        }
        Ok(Self { first, end })
    }
}

/// Reads RFC 3339 text with seconds and an offset.
fn instant(field: &'static str, text: &str) -> Result<Instant, Problem> {
    let read = is_rfc3339(text).then(|| Instant::parse_rfc3339(text)).flatten();
    read.ok_or_else(|| Problem::parameter(field, "write RFC 3339, such as 2026-01-31T00:00:00Z"))
}

/// `YYYY-MM-DDTHH:MM:SS[.d+](Z|+HH:MM)`: the parser takes other forms of ISO 8601 too.
fn is_rfc3339(text: &str) -> bool {
    let shape = |text: &str, shape: &str| {
        text.len() == shape.len()
            && text.bytes().zip(shape.bytes()).all(|(byte, like)| match like {
                b'0' => byte.is_ascii_digit(),
                other => byte.eq_ignore_ascii_case(&other),
            })
    };
    let Some((time, rest)) = text.split_at_checked(19) else { return false };
    let offset = match rest.strip_prefix('.') {
        None => rest,
        Some(decimals) => {
            let offset = decimals.trim_start_matches(|c: char| c.is_ascii_digit());
            if offset.len() == decimals.len() {
                return false;
            }
            offset
        }
    };
    let numeric = |sign| shape(offset, sign);
    shape(time, "0000-00-00T00:00:00") && (shape(offset, "Z") || numeric("+00:00") || numeric("-00:00"))
}

fn granularity(text: &str) -> Result<Level, Problem> {
    let level = Level::ALL.into_iter().find(|level| level.as_str() == text);
    level.ok_or_else(|| Problem::parameter("granularity", "use hour, day or month"))
}

/// The window that begins at the instant.
fn on_border(field: &'static str, instant: Instant, level: Level) -> Result<Window, Problem> {
    let window = Window::containing(level, instant);
    if window.start_seconds() == instant.seconds() && instant.nanos() == 0 {
        return Ok(window);
    }
    let name = level.as_str();
    Err(Problem::parameter(
        field,
        format!("give the first instant of a {name} in UTC, such as {}", window.start()),
    ))
}

fn coarsest(from: Option<Instant>, to: Option<Instant>) -> Level {
    let fits = |level: &Level| {
        let mut ends = from.iter().chain(&to);
        ends.all(|end| Window::containing(*level, *end).start() == *end)
    };
    Level::ALL.into_iter().rev().find(fits).unwrap_or(Level::Hour)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(from: &str, to: &str, granularity: &str) -> Result<Span, Problem> {
        let given = |text: &'static str| (!text.is_empty()).then_some(text);
        let leak = |text: &str| -> &'static str { Box::leak(text.to_owned().into_boxed_str()) };
        let asked =
            Asked { from: given(leak(from)), to: given(leak(to)), granularity: given(leak(granularity)) };
        Span::read(asked, None, Instant::parse_rfc3339("2026-03-10T12:34:56Z").unwrap())
    }

    #[test]
    fn a_span_is_the_month_to_date_unless_said() {
        for (from, to, granularity, first, last) in [
            ("", "", "", "2026-03", "2026-04"),
            ("", "", "day", "2026-03-01T00:00:00Z", "2026-03-11T00:00:00Z"),
            ("", "", "hour", "2026-03-01T00:00:00Z", "2026-03-10T13:00:00Z"),
            (
                "2026-01-02T00:00:00Z",
                "2026-01-03T00:00:00Z",
                "",
                "2026-01-02T00:00:00Z",
                "2026-01-03T00:00:00Z",
            ),
            ("2025-12-31T21:00:00-03:00", "", "month", "2026-01", "2026-04"),
            ("", "2026-01-03T00:00:00Z", "day", "2026-01-01T00:00:00Z", "2026-01-03T00:00:00Z"),
        ] {
            let span = read(from, to, granularity).unwrap();
            assert_eq!((span.first.to_string(), span.end.to_string()), (first.to_owned(), last.to_owned()));
        }
    }

    #[test]
    fn a_bad_span_names_the_field() {
        for (from, to, granularity, field) in [
            ("yesterday", "", "", "from"),
            ("2026-01-01", "", "", "from"),
            ("2026-01-01T00:00Z", "", "", "from"),
            ("2026-01-01T00:00:00", "", "", "from"),
            ("2026-01-01T00:00:00.Z", "", "", "from"),
            ("2026-13-01T00:00:00Z", "", "", "from"),
            ("", "2026-02-30T00:00:00Z", "", "to"),
            ("2026-01-01T00:30:00Z", "2026-01-02T00:00:00Z", "", "from"),
            ("2026-01-01T01:00:00Z", "2026-01-02T00:00:00Z", "day", "from"),
            ("2026-01-02T00:00:00Z", "2026-01-02T00:00:00Z", "day", "to"),
            ("2026-01-03T00:00:00Z", "2026-01-02T00:00:00Z", "day", "to"),
            ("2026-01-01T00:00:00Z", "2026-03-04T01:00:00Z", "hour", "to"),
            ("2025-01-01T00:00:00Z", "2026-02-06T00:00:00Z", "day", "to"),
            ("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z", "week", "granularity"),
        ] {
            assert_eq!(read(from, to, granularity).unwrap_err().field, Some(field), "{from} {to}");
        }
        assert!(read("2026-01-01T00:00:00Z", "2026-03-04T00:00:00Z", "hour").is_ok());
    }
}
