//! `pulso send FILE --follow`: sends a file while it is being written, and goes on where it ended.
//!
//! The position passes a line only after its pulse has its final answer. A crash sends at most a second's worth of lines
//! again; the ids decide, so that counts nothing twice.

mod position;
mod tail;
mod track;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use pulso_ingestor_api::formats::pulse_json;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use self::position::PositionFile;
use self::tail::{Line, Tail};
use self::track::Track;
use super::{Counts, rejection};
use crate::cli::exit::{Exit, Failure};
use crate::cli::output;
use crate::client::ingest::{Answer, AnswerSink, Ingest, Outgoing, PulseSource};

/// How often a file without new lines is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long to wait when the server takes nothing; before that the client has tried for half a minute.
const AGAIN_WAIT: Duration = Duration::from_secs(1);
/// How long a stop waits for the answers to what was sent.
const LAST_ANSWERS_WAIT: Duration = Duration::from_secs(5);

/// Sends until SIGTERM or SIGINT, and gives what became of the lines.
pub(super) async fn run(path: &Path, named: Option<&Path>, ingest: &Ingest) -> Result<Counts, Failure> {
    let keeper = PositionFile::new(named, path);
    let kept = keeper.load()?;
    let tail = Tail::open(path, kept.as_ref())?;
    let stop = CancellationToken::new();
    let track = Rc::new(RefCell::new(Track::new(keeper)));
    let lines = Lines { tail, track: Rc::clone(&track), again: VecDeque::new(), stop: stop.clone() };
    let mut following = Box::pin(follow(lines, Answers(track), ingest, &stop));
    tokio::select! {
        ended = &mut following => ended,
        asked = asked_to_stop() => {
            asked?;
            stop.cancel();
            following.await
        }
    }
}

async fn asked_to_stop() -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::failed)?;
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

async fn follow(
    mut lines: Lines,
    mut answers: Answers,
    ingest: &Ingest,
    stop: &CancellationToken,
) -> Result<Counts, Failure> {
    let track = Rc::clone(&lines.track);
    while !stop.is_cancelled() {
        let stopped = async {
            stop.cancelled().await;
            tokio::time::sleep(LAST_ANSWERS_WAIT).await;
        };
        let delivered = tokio::select! {
            delivered = ingest.deliver(&mut lines, &mut answers) => delivered,
            () = stopped => break,
        };
        track.borrow_mut().keep()?;
        match delivered.failure {
            None => {}
            Some(failure) if failure.exit == Exit::Unavailable => {
                output::note(format!("{failure}; what was not answered is sent again"));
                lines.again = track.borrow().unanswered();
                let _ = tokio::time::timeout(AGAIN_WAIT, stop.cancelled()).await;
                continue;
            }
            Some(failure) => return Err(failure),
        }
        if tokio::time::timeout(LOOK_EVERY, stop.cancelled()).await.is_err() {
            lines.turn()?;
        }
    }
    let mut track = track.borrow_mut();
    track.keep()?;
    Ok(track.counts())
}

/// The pulses of a file that grows; "no more" means "no more now".
struct Lines {
    tail: Tail,
    track: Rc<RefCell<Track>>,
    /// Sent and not answered: first of all.
    again: VecDeque<Outgoing>,
    stop: CancellationToken,
}

impl Lines {
    /// A line on its way; `None` when it holds no pulse and is settled thereby.
    fn outgoing(&self, line: Line) -> Option<Outgoing> {
        let mut track = self.track.borrow_mut();
        let number = line.number;
        if line.text.trim_ascii().is_empty() {
            track.pass(line);
            return None;
        }
        match pulse_json::read(&line.text) {
            Ok(pulse) => Some(track.send(line, pulse)),
            Err(bad) => {
                track.refuse();
                track.pass(line);
                output::note(format!("line {number}: {bad}"));
                None
            }
        }
    }

    /// Looks for a rotation.
    fn turn(&mut self) -> Result<(), Failure> {
        if let Some(last) = self.tail.turn()? {
            let outgoing = self.outgoing(last);
            self.again.extend(outgoing);
        }
        Ok(())
    }
}

impl PulseSource for Lines {
    fn next_pulse(&mut self) -> Result<Option<Outgoing>, Failure> {
        if let Some(outgoing) = self.again.pop_front() {
            return Ok(Some(outgoing));
        }
        while !self.stop.is_cancelled() {
            let Some(line) = self.tail.next_line()? else { break };
            if let Some(outgoing) = self.outgoing(line) {
                return Ok(Some(outgoing));
            }
        }
        Ok(None)
    }
}

struct Answers(Rc<RefCell<Track>>);

impl AnswerSink for Answers {
    fn settled(&mut self, outgoing: &Outgoing, answer: Answer) {
        let mut track = self.0.borrow_mut();
        let number = track.settle(outgoing.line, matches!(answer, Answer::Accepted(_)));
        if let Answer::Rejected(result) = answer {
            output::note(rejection(number, &result));
        }
    }
}
