//! What is done about dead letters, as the fold keeps it. An action stands in the log, in a control record or beside the
//! pulse that is sent again, so that a store that is folded again has it; whoever appended it writes the same cell at
//! once. It is named by its letter, its time and its place in the log: a second copy is the same one.

use prost::Message;
use pulso_domain::position::{Position, Rank, partition_index, partition_number};
use pulso_platform::store::keys::ActionPlace;
use pulso_platform::store::{Cell, Key, keys};
use pulso_proto::v1;

use super::letters::WHOLE_RECORD;
use super::record::{RecordParts, split};

/// The record format since which replays stand beside pulses.
const REPLAYS_FORMAT: u32 = 2;

/// The cell of an action; `None` for one that names no letter.
#[must_use]
pub fn action_cell(action: &v1::DeadLetterAction, place: ActionPlace) -> Option<(Key, Cell)> {
    let letter = letter_of(action.letter.as_ref()?)?;
    let key = keys::letter_action(letter, action.at_nanos, place);
    // Nothing is ever written over it: the key is used once.
    Some((key, Cell { version: 1, value: action.encode_to_vec().into() }))
}

/// The partition and position that an origin names.
#[must_use]
pub fn letter_of(origin: &v1::DeadLetterOrigin) -> Option<(u32, Position)> {
    let rank = Rank::new(origin.generation, origin.offset)?;
    let partition = partition_number(origin.generation, origin.partition);
    Some((partition, Position::new(rank, origin.index.unwrap_or(WHOLE_RECORD))))
}

/// The origin that names a partition and position.
#[must_use]
pub fn origin_of((partition, position): (u32, Position)) -> v1::DeadLetterOrigin {
    v1::DeadLetterOrigin {
        partition: partition_index(partition),
        generation: position.rank.generation(),
        offset: position.rank.offset(),
        index: Some(position.index).filter(|index| *index != WHOLE_RECORD),
    }
}

/// The cells of the actions that a control record holds.
pub(super) fn control_cells(fact: &v1::control::Fact, partition: u32, rank: Rank) -> Vec<(Key, Cell)> {
    let v1::control::Fact::DeadLetterActions(decided) = fact else { return Vec::new() };
    let actions = decided.actions.iter().zip(0..);
    let place = |index| ActionPlace { partition, position: Position::new(rank, index) };
    actions.filter_map(|(action, index)| action_cell(action, place(index))).collect()
}

/// The replays of a record, one for each of its pulses; empty when it has none, or not one for each.
pub(super) fn replays(parts: &RecordParts<'_>) -> Vec<v1::DeadLetterAction> {
    if parts.format_version < REPLAYS_FORMAT || parts.replays.len() != parts.pulses.len() {
        return Vec::new();
    }
    let replays = parts.replays.iter().map(|bytes| v1::DeadLetterAction::decode(*bytes).ok());
    replays.collect::<Option<_>>().unwrap_or_default()
}

/// The cells of the replays that a record of pulses holds.
pub(super) fn replay_cells(value: &[u8], partition: u32, rank: Rank) -> Vec<(Key, Cell)> {
    let mut parts = RecordParts::default();
    if split(value, &mut parts).is_err() {
        return Vec::new();
    }
    let place = |index| ActionPlace { partition, position: Position::new(rank, index) };
    let replays = replays(&parts).into_iter().zip(0..);
    replays.filter_map(|(action, index)| action_cell(&action, place(index))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn action(index: Option<u32>) -> v1::DeadLetterAction {
        let letter = v1::DeadLetterOrigin { partition: 2, generation: 1, offset: 9, index };
        v1::DeadLetterAction {
            kind: v1::dead_letter_action::Kind::Replayed.into(),
            letter: Some(letter),
            at_nanos: 5,
            ..Default::default()
        }
    }

    fn batch(format_version: u32, replays: usize) -> Vec<u8> {
        let pulses = vec![v1::Pulse::default(), v1::Pulse { id: "b".into(), ..Default::default() }];
        let replays = vec![action(Some(1)), action(None)].into_iter().take(replays).collect();
        v1::PulseBatch { format_version, pulses, replays, ..Default::default() }.encode_to_vec()
    }

    #[test]
    fn the_replays_of_a_record_become_cells_beside_their_letters() {
        let rank = Rank::new(1, 20).expect("fits");
        let cells = replay_cells(&batch(2, 2), 3, rank);
        let letters: Vec<_> =
            cells.iter().map(|(key, _)| keys::decode_letter_action(&key.clustering)).collect();
        let letter = |index| Position::new(Rank::new(1, 9).expect("fits"), index);
        let place = |index| ActionPlace { partition: 3, position: Position::new(rank, index) };
        assert_eq!(letters, [Some((letter(1), place(0))), Some((letter(WHOLE_RECORD), place(1)))]);
        assert!(cells.iter().all(|(key, _)| key.partition == 2_u32.to_be_bytes()));
        assert_eq!(letter_of(&origin_of((2, letter(WHOLE_RECORD)))), Some((2, letter(WHOLE_RECORD))));
    }

    #[test]
    fn a_record_whose_replays_do_not_fit_its_pulses_marks_nothing() {
        let rank = Rank::new(1, 20).expect("fits");
        for (format_version, count) in [(1, 2), (2, 1), (2, 0)] {
            assert!(replay_cells(&batch(format_version, count), 3, rank).is_empty());
        }
    }
}
