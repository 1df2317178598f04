//! Instants. Pulso never says just "timestamp": the fields that hold these are `occurred_at`, `received_at`, `appended_at`.

use std::fmt;

/// 0001-01-01T00:00:00Z in seconds of the Unix epoch.
pub const SECONDS_MIN: i64 = -62_135_596_800;
/// 9999-12-31T23:59:59Z in seconds of the Unix epoch.
pub const SECONDS_MAX: i64 = 253_402_300_799;

/// An instant in UTC with nanoseconds, within the years 1 to 9999.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Instant {
    seconds: i64,
    nanos: u32,
}

impl Instant {
    /// The Unix epoch.
    pub const EPOCH: Self = Self { seconds: 0, nanos: 0 };

    /// `None` outside the years 1 to 9999 or with a nanosecond outside 0..10^9.
    #[must_use]
    pub const fn new(seconds: i64, nanos: i32) -> Option<Self> {
        if seconds < SECONDS_MIN || seconds > SECONDS_MAX || nanos < 0 || nanos > 999_999_999 {
            return None;
        }
        Some(Self { seconds, nanos: nanos.cast_unsigned() })
    }

    /// The same from parts that are not negative.
    #[must_use]
    #[inline(always)]
    pub const fn since_epoch(seconds: u64, nanos: u64) -> Option<Self> {
        if seconds > SECONDS_MAX as u64 || nanos > 999_999_999 {
            return None;
        }
        Some(Self { seconds: seconds.cast_signed(), nanos: nanos as u32 })
    }

    /// Whole seconds since the Unix epoch, rounded down.
    #[must_use]
    pub const fn seconds(self) -> i64 {
        self.seconds
    }

    /// Nanoseconds within the second.
    #[must_use]
    pub const fn nanos(self) -> u32 {
        self.nanos
    }

    /// Reads RFC 3339 text with any offset; `None` for another text or an instant outside the years 1 to 9999.
    #[must_use]
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        // A civil date and an offset, not a `jiff::Timestamp`, which ends a day before the year 9999 does.
        let pieces = jiff::fmt::temporal::Pieces::parse(text).ok()?;
        let (date, time, offset) = (pieces.date(), pieces.time()?, pieces.to_numeric_offset()?);
        let days = i64::from((date - crate::window::EPOCH).get_days());
        let second = i64::from(time.hour()) * 3600 + i64::from(time.minute()) * 60 + i64::from(time.second());
        Self::new(days * 86_400 + second - i64::from(offset.seconds()), time.subsec_nanosecond())
    }
}

impl fmt::Display for Instant {
    /// RFC 3339 in UTC with as many decimals as needed, such as `2026-01-31T23:59:59.5Z`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days = self.seconds.div_euclid(86_400);
        let second = self.seconds.rem_euclid(86_400);
        let date = crate::window::date_of_day(days);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(
            formatter,
            "{:04}-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}",
            date.year(),
            date.month(),
            date.day()
        )?;
        if self.nanos > 0 {
            let decimals = format!("{:09}", self.nanos);
            write!(formatter, ".{}", decimals.trim_end_matches('0'))?;
        }
        formatter.write_str("Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3339_text_is_read_and_written_back() {
        for (text, back) in [
            ("2026-01-31T23:59:59.500Z", "2026-01-31T23:59:59.5Z"),
            ("2026-01-31T21:00:00-03:00", "2026-02-01T00:00:00Z"),
            ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
            ("9999-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59.999999999Z"),
            ("1969-12-31T23:59:59.25Z", "1969-12-31T23:59:59.25Z"),
        ] {
            assert_eq!(Instant::parse_rfc3339(text).expect(text).to_string(), back);
        }
    }

    #[test]
    fn instants_outside_the_years_1_to_9999_do_not_exist() {
        assert!(Instant::new(SECONDS_MIN - 1, 0).is_none());
        assert!(Instant::new(SECONDS_MAX + 1, 0).is_none());
        assert!(Instant::new(0, -1).is_none());
        assert!(Instant::new(0, 1_000_000_000).is_none());
    }
}
