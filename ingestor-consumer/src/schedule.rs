//! Reading in bursts: when a consumer is online, and what waits in the log while it is not.
//!
//! Bursts begin at whole multiples of their span, counted from the Unix epoch, so that all members of a group are online at
//! once and share the partitions between them. Outside a burst nothing is read; what was folded is flushed, and the log keeps
//! the rest. No total depends on it.

use std::time::Duration;

use metrics::{counter, gauge};
use pulso_platform::log::Log;
use pulso_platform::service::clock::Clock;
use pulso_platform::store::Store;

use crate::lookup;
use crate::metrics as names;

/// When a consumer reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Schedule {
    every: Duration,
    online_for: Duration,
}

impl Schedule {
    /// One burst of `online_for` in every span of `every`.
    ///
    /// # Errors
    /// When a burst is nothing, or longer than its span.
    pub fn new(every: Duration, online_for: Duration) -> Result<Self, String> {
        if online_for.is_zero() || online_for > every {
            return Err("--online-for must be longer than 0s and at most --every".to_owned());
        }
        Ok(Self { every, online_for })
    }

    /// How long the burst that holds this instant still lasts; `None` between two.
    fn left(&self, now_nanos: i64) -> Option<Duration> {
        let nanos = |duration: Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
        let into = now_nanos.rem_euclid(nanos(self.every).max(1));
        let left = nanos(self.online_for).checked_sub(into).filter(|left| *left > 0)?;
        Some(Duration::from_nanos(left.cast_unsigned()))
    }
}

/// What waits in the log for this member.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Backlog {
    /// Records behind the last one folded.
    pub records: u64,
    /// When the log took the oldest of them, in nanoseconds since the Unix epoch.
    pub oldest_appended_at_nanos: Option<i64>,
}

/// What waits behind the progress of these partitions, as well as log and store can say.
pub(crate) fn backlog(log: &dyn Log, store: &dyn Store, partitions: &[u32]) -> Backlog {
    let mut backlog = Backlog::default();
    for partition in partitions {
        let (Ok(marks), Ok(state)) = (log.watermarks(*partition), lookup::load_state(store, *partition))
        else {
            continue;
        };
        let folded = state.map_or(0, |state| state.offset);
        let waiting = marks.end_offset.saturating_sub(folded);
        if waiting == 0 {
            continue;
        }
        backlog.records += waiting;
        let oldest = log.fetch(*partition, &[folded]).ok().and_then(|mut records| records.pop());
        if let Some(at) = oldest.map(|record| record.appended_at_nanos) {
            let oldest = backlog.oldest_appended_at_nanos.get_or_insert(at);
            *oldest = at.min(*oldest);
        }
    }
    backlog
}

/// What the reader has to do now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// Read.
    Read,
    /// Read nothing; the log keeps what comes.
    Rest,
}

/// Follows a schedule through its bursts.
#[derive(Debug)]
pub struct Windows {
    schedule: Option<Schedule>,
    clock: Clock,
    is_online: bool,
    /// When the backlog was told last.
    told_at_nanos: i64,
}

/// How often the backlog is told: it costs a question to the log for each partition.
const TELL_EVERY_NANOS: i64 = 10_000_000_000;

impl Windows {
    /// Follows the schedule by this clock; without one it is always online.
    #[must_use]
    pub fn new(schedule: Option<Schedule>, clock: Clock) -> Self {
        Self { schedule, clock, is_online: schedule.is_none(), told_at_nanos: i64::MIN }
    }

    /// What to do now. `backlog` is asked now and then, and at the end of each burst: one that could not finish is told.
    pub fn turn(&mut self, backlog: impl FnOnce() -> Backlog) -> Turn {
        let now = self.clock.now_nanos();
        let is_online = self.schedule.is_none_or(|schedule| schedule.left(now).is_some());
        let has_ended = self.is_online && !is_online;
        if is_online && !self.is_online {
            tracing::info!("a burst begins: reading what waits in the log");
        }
        self.is_online = is_online;
        if has_ended || now.saturating_sub(self.told_at_nanos) >= TELL_EVERY_NANOS {
            self.told_at_nanos = now;
            let backlog = backlog();
            tell(backlog, now);
            if has_ended {
                self.burst_ended(backlog, now);
            }
        }
        if is_online { Turn::Read } else { Turn::Rest }
    }

    fn burst_ended(&self, backlog: Backlog, now: i64) {
        if backlog.records == 0 {
            tracing::info!("the burst ends with nothing left to read");
            return;
        }
        counter!(names::BURSTS_UNFINISHED).increment(1);
        tracing::warn!(
            records = backlog.records,
            oldest_seconds = age_seconds(backlog, now),
            "the burst ends before all was read; it waits for the next: lengthen --online-for or add consumers"
        );
    }
}

fn tell(backlog: Backlog, now: i64) {
    gauge!(names::BACKLOG_RECORDS).set(backlog.records as f64);
    gauge!(names::BACKLOG_AGE_SECONDS).set(age_seconds(backlog, now));
}

/// How long the oldest waiting record has waited; 0 when none does.
fn age_seconds(backlog: Backlog, now: i64) -> f64 {
    let age = backlog.oldest_appended_at_nanos.map_or(0, |at| now.saturating_sub(at).max(0));
    Duration::from_nanos(age.cast_unsigned()).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use pulso_domain::time::Instant;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const FIVE_MINUTES: Duration = Duration::from_secs(300);

    #[test]
    fn a_burst_must_fit_its_span() {
        assert!(Schedule::new(HOUR, Duration::ZERO).is_err());
        assert!(Schedule::new(FIVE_MINUTES, HOUR).is_err());
        assert!(Schedule::new(HOUR, HOUR).is_ok());
    }

    #[test]
    fn bursts_begin_on_the_hour_for_everyone_and_end_in_time() {
        let schedule = Schedule::new(HOUR, FIVE_MINUTES).expect("fits");
        let at = |text: &str| {
            let at = Instant::parse_rfc3339(text).expect("a time");
            schedule.left(at.seconds() * 1_000_000_000 + i64::from(at.nanos()))
        };
        assert_eq!(at("2026-05-01T10:00:00Z"), Some(FIVE_MINUTES));
        assert_eq!(at("2026-05-01T10:04:59Z"), Some(Duration::from_secs(1)));
        assert_eq!(at("2026-05-01T10:05:00Z"), None);
        assert_eq!(at("2026-05-01T10:59:59.999Z"), None);
        assert_eq!(at("1969-12-31T23:04:59Z"), Some(Duration::from_secs(1)));
    }

    #[test]
    fn it_reads_in_bursts_and_a_burst_that_could_not_finish_is_told() {
        let start = Instant::parse_rfc3339("2026-05-01T10:01:00Z").expect("a time").seconds() * 1_000_000_000;
        let clock = Clock::manual(start);
        let schedule = Schedule::new(HOUR, FIVE_MINUTES).expect("fits");
        let mut windows = Windows::new(Some(schedule), clock.clone());
        let left = Backlog { records: 7, oldest_appended_at_nanos: Some(0) };
        let mut asked = 0;
        let mut turn = |seconds: u64| {
            clock.set_nanos(clock.now_nanos() + (seconds * 1_000_000_000).cast_signed());
            windows.turn(|| {
                asked += 1;
                left
            })
        };
        assert_eq!(turn(0), Turn::Read);
        assert_eq!(turn(9), Turn::Read, "the backlog is not asked for at each turn");
        assert_eq!(turn(240), Turn::Rest, "the burst has ended");
        assert_eq!(turn(3300), Turn::Read, "the next one begins");
        assert_eq!(asked, 3);
        let mut always = Windows::new(None, clock.clone());
        assert_eq!(always.turn(Backlog::default), Turn::Read);
    }
}
