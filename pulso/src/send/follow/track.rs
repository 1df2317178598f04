//! Which lines of a followed file have their final answer, and the position that follows from it.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pulso_proto::v1;

use super::position::{Position, PositionFile};
use super::tail::Line;
use crate::cli::exit::Failure;
use crate::cli::output;
use crate::client::ingest::Outgoing;
use crate::send::Counts;

/// How often the position is kept while lines come.
const KEEP_EVERY: Duration = Duration::from_secs(1);

/// A line that was read and is not passed yet.
struct Entry {
    line: Line,
    /// The pulse until its final answer.
    pulse: Option<v1::Pulse>,
}

/// The lines between the position and the place of reading.
pub(super) struct Track {
    keeper: PositionFile,
    /// The name of the first entry for the client: lines of several files are in one order for it.
    first: u64,
    entries: VecDeque<Entry>,
    /// The last line passed, when that is not kept yet: its file, its end, and the number of the line behind it.
    passed: Option<(Arc<File>, u64, u64)>,
    kept: Instant,
    accepted: u64,
    rejected: u64,
}

impl Track {
    /// Nothing is read yet.
    pub(super) fn new(keeper: PositionFile) -> Self {
        let (entries, kept) = (VecDeque::new(), Instant::now());
        Self { keeper, first: 1, entries, passed: None, kept, accepted: 0, rejected: 0 }
    }

    /// A line that needs no answer.
    pub(super) fn pass(&mut self, line: Line) {
        self.push(line, None);
        self.advance();
    }

    /// A line whose pulse is sent.
    pub(super) fn send(&mut self, line: Line, pulse: v1::Pulse) -> Outgoing {
        let name = self.first + self.entries.len() as u64;
        self.push(line, Some(pulse.clone()));
        Outgoing { line: name, pulse }
    }

    fn push(&mut self, mut line: Line, pulse: Option<v1::Pulse>) {
        // The pulse is all that is needed of it from here.
        line.text = Vec::new();
        self.entries.push_back(Entry { line, pulse });
    }

    /// A line that is no pulse.
    pub(super) fn refuse(&mut self) {
        self.rejected += 1;
    }

    /// The final answer to a pulse. Gives the number of its line.
    pub(super) fn settle(&mut self, name: u64, accepted: bool) -> u64 {
        let entry = name.checked_sub(self.first).and_then(|place| self.entries.get_mut(place as usize));
        let Some(entry) = entry else { return 0 };
        entry.pulse = None;
        let number = entry.line.number;
        match accepted {
            true => self.accepted += 1,
            false => self.rejected += 1,
        }
        self.advance();
        number
    }

    /// Passes what is settled, in order.
    fn advance(&mut self) {
        while self.entries.front().is_some_and(|entry| entry.pulse.is_none()) {
            let Some(Entry { line: Line { file, number, end, .. }, .. }) = self.entries.pop_front() else {
                break;
            };
            self.first += 1;
            self.passed = Some((file, end, number + 1));
        }
        // A disk that refuses now is told at the latest when the stream ends.
        if self.kept.elapsed() >= KEEP_EVERY
            && let Err(failure) = self.keep()
        {
            output::note(failure);
        }
    }

    /// Keeps the position.
    pub(super) fn keep(&mut self) -> Result<(), Failure> {
        self.kept = Instant::now();
        if let Some((file, offset, line)) = &self.passed {
            let unreadable = |error| Failure::failed(format!("cannot read the file again: {error}"));
            self.keeper.save(&Position::at(file, *offset, *line).map_err(unreadable)?)?;
            self.passed = None;
        }
        Ok(())
    }

    /// What was sent and has no answer.
    pub(super) fn unanswered(&self) -> VecDeque<Outgoing> {
        let open = (self.first..).zip(&self.entries);
        open.filter_map(|(line, entry)| Some(Outgoing { line, pulse: entry.pulse.clone()? })).collect()
    }

    /// What became of the lines.
    pub(super) fn counts(&self) -> Counts {
        let unknown = self.entries.iter().filter(|entry| entry.pulse.is_some()).count() as u64;
        Counts { accepted: self.accepted, rejected: self.rejected, unknown }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(file: &Arc<File>, number: u64) -> Line {
        Line { number, text: Vec::new(), end: number * 2, file: Arc::clone(file) }
    }

    #[test]
    fn the_position_passes_a_line_only_after_all_before_it_are_settled() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("p");
        std::fs::write(&path, "a\nb\nc\nd\n").expect("writes");
        let file = Arc::new(File::open(&path).expect("opens"));
        let keeper = PositionFile::new(None, &path);
        let mut track = Track::new(keeper.clone());
        let sent: Vec<Outgoing> =
            (1..=3).map(|number| track.send(line(&file, number), v1::Pulse::default())).collect();
        track.pass(line(&file, 4));
        assert_eq!(track.settle(sent[1].line, true), 2);
        track.keep().expect("keeps");
        assert_eq!(keeper.load(), Ok(None));
        assert_eq!(track.unanswered().iter().map(|open| open.line).collect::<Vec<_>>(), [1, 3]);
        track.settle(sent[0].line, false);
        track.keep().expect("keeps");
        let kept = keeper.load().expect("reads").expect("kept");
        assert_eq!((kept.offset, kept.line), (4, 3));
        track.settle(sent[2].line, true);
        track.keep().expect("keeps");
        assert_eq!(keeper.load().expect("reads").expect("kept").line, 5);
        assert_eq!(track.counts(), Counts { accepted: 2, rejected: 1, unknown: 0 });
    }
}
