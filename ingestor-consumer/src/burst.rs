//! The burst limit: when many of the last records cannot be decoded, somebody writes what is no record at all, and the
//! partition stops before it has dead-lettered everything. It only stops, and never changes a fate: folded further, each
//! record becomes what it would have become (G7, G13).

use std::collections::VecDeque;

use pulso_platform::log::LogRecord;
use pulso_proto::foreign;

use crate::fold::record::{RecordParts, split};

/// Of how many records the undecodable ones are counted.
const RECORDS: u64 = 1000;

/// The undecodable ones among the last records of a partition. A start counts from nothing: whoever starts again takes
/// as many more.
#[derive(Debug)]
pub(crate) struct Burst {
    /// How many are folded at most; 0 for any number.
    limit: usize,
    /// The offsets of the latest, `limit` at most.
    undecodable: VecDeque<u64>,
}

impl Burst {
    /// A partition that has just been opened.
    pub(crate) const fn new(limit: usize) -> Self {
        Self { limit, undecodable: VecDeque::new() }
    }

    /// The sentence with which the partition halts before the next record, when that is one too many. Costs nothing
    /// below the limit.
    pub(crate) fn stops_before(&mut self, record: &LogRecord) -> Option<String> {
        let oldest = (record.offset + 1).saturating_sub(RECORDS);
        while self.undecodable.front().is_some_and(|offset| *offset < oldest) {
            self.undecodable.pop_front();
        }
        if self.limit == 0 || self.undecodable.len() < self.limit || !is_undecodable(record) {
            return None;
        }
        Some(format!(
            "{} of the last {RECORDS} records cannot be decoded, and so is offset {}: stop what writes them, then start \
             again to dead-letter as many more, or with --undecodable-max 0 for all of them",
            self.limit, record.offset
        ))
    }

    /// Notes a folded record that left `letters` dead letters for other reasons than a conflict. Only one that left one
    /// can be undecodable as a whole, so that others are not read again.
    pub(crate) fn note(&mut self, record: &LogRecord, letters: u64) {
        if self.limit > 0 && letters == 1 && is_undecodable(record) {
            self.undecodable.push_back(record.offset);
        }
    }
}

/// What the fold takes for an undecodable record; but for what an ingestor put there knowingly, a foreign message: nobody
/// who writes to a queue may halt a partition thereby.
fn is_undecodable(record: &LogRecord) -> bool {
    split(&record.value, &mut RecordParts::default()).is_err() && foreign::decode(&record.value).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(offset: u64, value: &'static [u8]) -> LogRecord {
        LogRecord { partition: 0, offset, appended_at_nanos: 0, digest: 0, value: value.into() }
    }

    const GOOD: &[u8] = b"\x08\x01\x22\x00";
    const BAD: &[u8] = b"garbage";

    /// Folds records, each leaving one dead letter, until one stops.
    fn folded(burst: &mut Burst, records: &[(u64, &'static [u8])]) -> Option<String> {
        records.iter().find_map(|(offset, value)| {
            let record = record(*offset, value);
            let stops = burst.stops_before(&record);
            burst.note(&record, 1);
            stops
        })
    }

    #[test]
    fn one_too_many_among_the_last_records_stops_and_fewer_do_not() {
        let mut burst = Burst::new(2);
        // A good record may hold one bad pulse.
        assert_eq!(folded(&mut burst, &[(0, BAD), (1, GOOD), (2, BAD), (3, GOOD), (3, GOOD)]), None);
        let sentence = folded(&mut burst, &[(4, BAD)]).expect("halts");
        assert!(sentence.contains("offset 4") && sentence.contains("--undecodable-max"), "{sentence}");
    }

    #[test]
    fn foreign_messages_are_no_burst() {
        let mut burst = Burst::new(1);
        let foreign: Vec<_> = (0..10).map(|offset| (offset, &b"\x00\x0a\x01r"[..])).collect();
        assert_eq!(folded(&mut burst, &foreign), None);
    }

    #[test]
    fn old_ones_are_forgotten_and_0_is_no_limit() {
        let mut burst = Burst::new(1);
        assert_eq!(folded(&mut burst, &[(0, BAD)]), None);
        assert!(burst.stops_before(&record(999, BAD)).is_some());
        assert_eq!(burst.stops_before(&record(1000, BAD)), None, "offset 0 is not among the last 1000");
        let mut any = Burst::new(0);
        let many: Vec<_> = (0..5000).map(|offset| (offset, BAD)).collect();
        assert_eq!(folded(&mut any, &many), None);
    }
}
