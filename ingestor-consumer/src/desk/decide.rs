//! Fixing and dropping: a decision is a control record in the log, and the cell that the fold will write from it.

use bytes::Bytes;
use prost::Message;
use pulso_domain::position::{Position, partition_number};
use pulso_platform::log::{Log, LogError, RECORD_BYTES_MAX};
use pulso_platform::store::keys::ActionPlace;
use pulso_proto::v1;
use pulso_proto::v1::dead_letter_action::Kind;

use super::case::Done;
use super::send::{mark, rank};
use super::{Author, Desk};
use crate::fold::actions::origin_of;
use crate::fold::record::ACTIONS_FORMAT;

/// What is decided about a letter, other than to send it again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decision {
    /// This pulse is to be sent instead.
    Fix(Bytes),
    /// It is given up.
    Drop,
}

impl Desk<'_> {
    /// Decides about letters, durably; answers each action with its place. Blocks.
    ///
    /// # Errors
    /// When the log does not take one: those before it are decided, and deciding again does no harm.
    pub fn decide(
        &self,
        decisions: &[((u32, Position), Decision)],
        author: &Author,
    ) -> Result<Vec<Done>, LogError> {
        let mut done = Vec::with_capacity(decisions.len());
        let mut waiting: Vec<v1::DeadLetterAction> = Vec::new();
        let mut bytes = 0;
        for (letter, decision) in decisions {
            let action = self.action(*letter, decision, author);
            // Some room for the record around them, and for the length of each.
            let length = action.encoded_len() + 16;
            if bytes + length > RECORD_BYTES_MAX - 64 {
                self.append_decisions(std::mem::take(&mut waiting), &mut done)?;
                bytes = 0;
            }
            bytes += length;
            waiting.push(action);
        }
        self.append_decisions(waiting, &mut done)?;
        Ok(done)
    }

    fn action(&self, letter: (u32, Position), decision: &Decision, author: &Author) -> v1::DeadLetterAction {
        let (kind, pulse) = match decision {
            Decision::Fix(pulse) => (Kind::Fixed, pulse.clone()),
            Decision::Drop => (Kind::Dropped, Bytes::new()),
        };
        v1::DeadLetterAction {
            kind: kind.into(),
            letter: Some(origin_of(letter)),
            actor: author.actor.clone(),
            at_nanos: self.now_nanos,
            note: author.note.clone(),
            pulse,
        }
    }

    fn append_decisions(
        &self,
        actions: Vec<v1::DeadLetterAction>,
        done: &mut Vec<Done>,
    ) -> Result<(), LogError> {
        let Some(first) = actions.first() else { return Ok(()) };
        let partition = control_partition(self.log, first);
        let fact = v1::control::Fact::DeadLetterActions(v1::DeadLetterActions { actions: actions.clone() });
        let batch = v1::PulseBatch {
            format_version: ACTIONS_FORMAT,
            control: Some(v1::Control { fact: Some(fact) }),
            ..Default::default()
        };
        let reply = self.log.append(partition, vec![batch.encode_to_vec().into()]);
        let appended = reply
            .blocking_recv()
            .unwrap_or_else(|_| Err(LogError::Unknown("the log was closed".to_owned())))?;
        let place = |index| ActionPlace { partition, position: Position::new(rank(&appended), index) };
        let decided: Vec<Done> = actions
            .into_iter()
            .zip(0..)
            .map(|(action, index)| Done { action, place: place(index) })
            .collect();
        mark(self.store, &decided);
        done.extend(decided);
        Ok(())
    }
}

/// The partition that a letter came from, or another one of the newest generation.
fn control_partition(log: &dyn Log, action: &v1::DeadLetterAction) -> u32 {
    let layout = log.layout();
    let index = action.letter.as_ref().map_or(0, |letter| letter.partition) % layout.partitions;
    partition_number(layout.generation, index)
}
