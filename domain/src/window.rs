//! Windows and periods: half-open spans in UTC that a usage row or an invoice stands for.

use std::fmt;

use jiff::civil::Date;

use crate::time::Instant;

/// The three lengths of window that the fold keeps.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Level {
    /// One hour.
    Hour = 1,
    /// One day in UTC.
    Day = 2,
    /// One calendar month in UTC; also the billing period.
    Month = 3,
}

impl Level {
    /// All levels, finest first.
    pub const ALL: [Self; 3] = [Self::Hour, Self::Day, Self::Month];

    /// The level of a stored byte.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Hour),
            2 => Some(Self::Day),
            3 => Some(Self::Month),
            _ => None,
        }
    }

    /// The word of the API: `hour`, `day` or `month`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Month => "month",
        }
    }
}

/// One aggregation bucket `[start, end)`: the `index`-th hour or day since the Unix epoch, or `12 * year + month - 1`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Window {
    level: Level,
    index: i32,
}

/// The day that days are counted from.
pub(crate) const EPOCH: Date = Date::constant(1970, 1, 1);
const SECONDS_PER_HOUR: i64 = 3600;
const SECONDS_PER_DAY: i64 = 86_400;

impl Window {
    /// The window of a level that holds the instant.
    #[must_use]
    pub fn containing(level: Level, instant: Instant) -> Self {
        let hour = Self { level: Level::Hour, index: narrow(instant.seconds().div_euclid(SECONDS_PER_HOUR)) };
        hour.widen(level)
    }

    /// From its parts; the index is as [`Window::index`] gives it.
    #[must_use]
    pub const fn from_index(level: Level, index: i32) -> Self {
        Self { level, index }
    }

    /// The month of a year; `None` when the month is not 1..=12 or the year not 1..=9999.
    #[must_use]
    pub fn month(year: i32, month: i32) -> Option<Self> {
        let good = (1..=9999).contains(&year) && (1..=12).contains(&month);
        good.then(|| Self { level: Level::Month, index: year * 12 + month - 1 })
    }

    /// Reads a period such as `2026-01`.
    #[must_use]
    pub fn parse_month(text: &str) -> Option<Self> {
        let (year, month) = text.split_once('-')?;
        let digits = |part: &str, len| part.len() == len && part.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(year, 4) || !digits(month, 2) {
            return None;
        }
        Self::month(year.parse().ok()?, month.parse().ok()?)
    }

    /// The window of a coarser (or the same) level that holds this one.
    #[must_use]
    pub fn widen(self, level: Level) -> Self {
        debug_assert!(level >= self.level, "a window has no single finer window");
        if level == self.level {
            return self;
        }
        let day = if self.level == Level::Hour { self.index.div_euclid(24) } else { self.index };
        if level == Level::Day {
            return Self { level, index: day };
        }
        let date = date_of_day(i64::from(day));
        Self { level, index: i32::from(date.year()) * 12 + i32::from(date.month()) - 1 }
    }

    /// Its level.
    #[must_use]
    pub const fn level(self) -> Level {
        self.level
    }

    /// Its number among the windows of its level.
    #[must_use]
    pub const fn index(self) -> i32 {
        self.index
    }

    /// The next window of its level.
    #[must_use]
    pub const fn next(self) -> Self {
        Self { level: self.level, index: self.index + 1 }
    }

    /// Its first instant, in seconds of the Unix epoch.
    #[must_use]
    pub fn start_seconds(self) -> i64 {
        match self.level {
            Level::Hour => i64::from(self.index) * SECONDS_PER_HOUR,
            Level::Day => i64::from(self.index) * SECONDS_PER_DAY,
            Level::Month => days_of_month_start(self.index) * SECONDS_PER_DAY,
        }
    }

    /// The first instant after it, in seconds of the Unix epoch.
    #[must_use]
    pub fn end_seconds(self) -> i64 {
        self.next().start_seconds()
    }

    /// Its first instant.
    #[must_use]
    pub fn start(self) -> Instant {
        clamp(self.start_seconds())
    }

    /// The first instant after it (the last instant of the year 9999 for the last windows of all).
    #[must_use]
    pub fn end(self) -> Instant {
        clamp(self.end_seconds())
    }
}

impl fmt::Display for Window {
    /// A month as `2026-01`, other windows by their start.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.level {
            Level::Month => {
                write!(formatter, "{:04}-{:02}", self.index.div_euclid(12), self.index.rem_euclid(12) + 1)
            }
            Level::Hour | Level::Day => self.start().fmt(formatter),
        }
    }
}

/// The civil date of a day since the Unix epoch; days beyond the years 1 to 9999 give the nearest date inside.
#[must_use]
pub fn date_of_day(day: i64) -> Date {
    let first = Date::constant(1, 1, 1);
    let last = Date::constant(9999, 12, 31);
    let span = jiff::Span::new().try_days(day.clamp(-719_162, 2_932_896)).unwrap_or_default();
    EPOCH.checked_add(span).unwrap_or(if day < 0 { first } else { last })
}

fn days_of_month_start(index: i32) -> i64 {
    let year = i16::try_from(index.div_euclid(12)).unwrap_or(i16::MAX);
    let month = i8::try_from(index.rem_euclid(12) + 1).unwrap_or(1);
    // The month after December 9999 has no date; its start is one day behind the last.
    match Date::new(year, month, 1) {
        Ok(date) => i64::from((date - EPOCH).get_days()),
        Err(_) => 2_932_897,
    }
}

fn clamp(seconds: i64) -> Instant {
    let inside = seconds.clamp(crate::time::SECONDS_MIN, crate::time::SECONDS_MAX);
    Instant::new(inside, 0).unwrap_or(Instant::EPOCH)
}

fn narrow(index: i64) -> i32 {
    // Hours of the years 1 to 9999 lie within -17.3 M and 70.4 M.
    i32::try_from(index).unwrap_or(if index < 0 { i32::MIN } else { i32::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Instant {
        Instant::parse_rfc3339(text).expect(text)
    }

    #[test]
    fn an_instant_lies_in_one_window_of_each_level() {
        let instant = at("2024-02-29T23:59:59.9Z");
        for (level, start, end) in [
            (Level::Hour, "2024-02-29T23:00:00Z", "2024-03-01T00:00:00Z"),
            (Level::Day, "2024-02-29T00:00:00Z", "2024-03-01T00:00:00Z"),
            (Level::Month, "2024-02-01T00:00:00Z", "2024-03-01T00:00:00Z"),
        ] {
            let window = Window::containing(level, instant);
            assert_eq!((window.start(), window.end()), (at(start), at(end)));
            assert_eq!(Window::from_index(level, window.index()), window);
        }
    }

    #[test]
    fn windows_before_the_epoch_and_at_both_ends_of_time_have_borders() {
        let early = Window::containing(Level::Month, at("0001-01-01T00:00:00Z"));
        assert_eq!(early.start(), at("0001-01-01T00:00:00Z"));
        let before = Window::containing(Level::Hour, at("1969-12-31T23:30:00Z"));
        assert_eq!(before.start(), at("1969-12-31T23:00:00Z"));
        let last = Window::containing(Level::Month, at("9999-12-31T23:59:59Z"));
        assert_eq!(last.start(), at("9999-12-01T00:00:00Z"));
        assert_eq!(last.end_seconds(), crate::time::SECONDS_MAX + 1);
    }

    #[test]
    fn a_period_is_four_digits_a_dash_and_a_month() {
        assert_eq!(Window::parse_month("2026-01").expect("good").to_string(), "2026-01");
        for bad in ["2026-1", "2026-13", "2026-00", "0000-01", "26-01", "2026/01", "2026-01-01", "+026-01"] {
            assert_eq!(Window::parse_month(bad), None, "{bad}");
        }
    }
}
