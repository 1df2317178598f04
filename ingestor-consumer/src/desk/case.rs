//! A dead letter with everything that was done about it.

use bytes::Bytes;
use prost::Message;
use pulso_domain::position::Position;
use pulso_platform::store::keys::{ActionPlace, decode_letter_action, position_clustering};
use pulso_platform::store::{Range, Store, Table, after_prefix, keys};
use pulso_proto::v1;
use pulso_proto::v1::dead_letter_action::Kind;
use pulso_proto::walk;

use crate::fold::halt::{Halt, Stop};

/// Actions read at a time; one may hold a whole pulse.
const ACTIONS_PER_READ: usize = 128;

/// What stands about a dead letter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LetterState {
    /// Nobody has sent it again or given it up.
    Open,
    /// It was sent again.
    Replayed,
    /// It was given up.
    Dropped,
}

impl LetterState {
    /// All states.
    pub const ALL: [Self; 3] = [Self::Open, Self::Replayed, Self::Dropped];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Replayed => "replayed",
            Self::Dropped => "dropped",
        }
    }

    /// The state of a word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }
}

/// One action, and where it stands in the log.
#[derive(Clone, PartialEq, Debug)]
pub struct Done {
    /// What was done.
    pub action: v1::DeadLetterAction,
    /// Where that stands; of a replay this is the new position of the pulse.
    pub place: ActionPlace,
}

/// A dead letter, and what was done about it, in order of time.
#[derive(Clone, PartialEq, Debug)]
pub struct Case {
    /// Its partition.
    pub partition: u32,
    /// Its position; a whole record has the index `WHOLE_RECORD`.
    pub position: Position,
    /// What is kept of it.
    pub letter: v1::DeadLetter,
    /// What was done.
    pub done: Vec<Done>,
}

impl Case {
    /// What stands about it. Sent again is for good; a fix takes up what was given up.
    #[must_use]
    pub fn state(&self) -> LetterState {
        if self.replay().is_some() {
            return LetterState::Replayed;
        }
        match self.done.last().map(|done| done.action.kind()) {
            Some(Kind::Dropped) => LetterState::Dropped,
            _ => LetterState::Open,
        }
    }

    /// The first replay: the later ones are duplicates of it.
    #[must_use]
    pub fn replay(&self) -> Option<ActionPlace> {
        self.done.iter().find(|done| done.action.kind() == Kind::Replayed).map(|done| done.place)
    }

    /// How often it was fixed.
    #[must_use]
    pub fn fixes(&self) -> usize {
        self.done.iter().filter(|done| done.action.kind() == Kind::Fixed).count()
    }

    /// The pulse as a replay would send it: the newest fix, else the original. `None` for a whole record that is no single
    /// pulse either.
    #[must_use]
    pub fn pulse(&self) -> Option<Bytes> {
        let fixed = self.done.iter().rev().find(|done| done.action.kind() == Kind::Fixed);
        fixed.map(|done| done.action.pulse.clone()).or_else(|| self.original_pulse())
    }

    /// The original, when it is one pulse: also a whole record may be, of a producer who does not pack.
    #[must_use]
    pub fn original_pulse(&self) -> Option<Bytes> {
        let original = &self.letter.original;
        let single =
            || walk::pulse(original).is_ok_and(|raw| !raw.id.is_empty() && !raw.tenant_id.is_empty());
        (self.letter.origin_index.is_some() || single()).then(|| original.clone())
    }
}

/// One dead letter by its place; `None` when there is none.
///
/// # Errors
/// When the store cannot be read or is damaged.
pub fn case(store: &dyn Store, partition: u32, position: Position) -> Result<Option<Case>, Stop> {
    let key = keys::dead_letter(partition, position);
    let Some(cell) = store.get(std::slice::from_ref(&key))?.pop().flatten() else { return Ok(None) };
    let letter = v1::DeadLetter::decode(cell.value)
        .map_err(|_| Halt::StoreIncomplete("a dead letter that can be read".to_owned()))?;
    let found = actions_between(store, partition, position..=position)?;
    let done = found.into_iter().map(|(_, done)| done).collect();
    Ok(Some(Case { partition, position, letter, done }))
}

/// The actions about the letters of a partition from one position to another, in order.
///
/// # Errors
/// When the store cannot be read or is damaged.
pub fn actions_between(
    store: &dyn Store,
    partition: u32,
    positions: std::ops::RangeInclusive<Position>,
) -> Result<Vec<(Position, Done)>, Stop> {
    let unreadable = || Halt::StoreIncomplete("an action about a dead letter that can be read".to_owned());
    let mut found = Vec::new();
    let mut range = Range {
        from: position_clustering(*positions.start()),
        to: after_prefix(&position_clustering(*positions.end())),
        reverse: false,
    };
    loop {
        let page = store.scan(Table::LetterActions, &partition.to_be_bytes(), &range, ACTIONS_PER_READ)?;
        for (clustering, cell) in &page {
            let (letter, place) = decode_letter_action(clustering).ok_or_else(unreadable)?;
            let action = v1::DeadLetterAction::decode(cell.value.clone()).map_err(|_| unreadable())?;
            found.push((letter, Done { action, place }));
        }
        let Some((last, _)) = page.last().filter(|_| page.len() == ACTIONS_PER_READ) else {
            return Ok(found);
        };
        range.from = [last.as_slice(), &[0]].concat();
    }
}
