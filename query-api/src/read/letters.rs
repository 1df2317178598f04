//! Dead letters with what was done about them, in the order of partition and position. A letter's name is its origin.

use prost::Message;
use pulso_domain::position::Position;
use pulso_domain::reason::Reason;
use pulso_ingestor_consumer::desk::{Case, LetterState, actions_between, case};
use pulso_ingestor_consumer::fold::letters::WHOLE_RECORD;
use pulso_platform::store::keys::{decode_position, position_clustering};
use pulso_platform::store::{Cell, Range, Table};
use pulso_proto::{v1, walk};

use super::pulse::PulseName;
use super::sources::Sources;
use crate::problem::Problem;

/// Letters read at a time; one may have half a MiB.
const LETTERS_PER_READ: usize = 64;
/// Letters looked at for one page: with a rare filter a page may be short, and the next one goes on.
const LETTERS_PER_PAGE: usize = 20_000;

/// Which dead letters are wanted.
#[derive(Clone, Default, Debug)]
pub(crate) struct LetterFilter {
    /// Of which tenant.
    pub(crate) tenant_id: Option<String>,
    /// For which reason.
    pub(crate) reason: Option<Reason>,
    /// In which state.
    pub(crate) state: Option<LetterState>,
}

/// Some letters, and where to go on.
pub(crate) struct Letters {
    /// The letters.
    pub(crate) letters: Vec<Case>,
    /// The last place looked at, when there may be more.
    pub(crate) more_after: Option<(u32, Vec<u8>)>,
}

impl Sources {
    /// Letters behind a place, in order, `most` at most.
    pub(crate) fn letters(
        &self,
        filter: &LetterFilter,
        after: Option<&(u32, Vec<u8>)>,
        most: usize,
    ) -> Result<Letters, Problem> {
        let mut letters: Vec<Case> = Vec::new();
        let mut looked_at: usize = 0;
        let first = after.map_or(0, |(partition, _)| *partition);
        for partition in self.log.partitions().into_iter().filter(|partition| *partition >= first) {
            let mut range = Range::all();
            if let Some((_, clustering)) = after.filter(|(begun, _)| *begun == partition) {
                range.from = behind(clustering);
            }
            loop {
                let found = self.cases(partition, &range)?;
                let whole = found.len() == LETTERS_PER_READ;
                for case in found {
                    let place = position_clustering(case.position);
                    range.from = behind(&place);
                    looked_at += 1;
                    if filter.wants(&case) {
                        letters.push(case);
                    }
                    if letters.len() == most || looked_at == LETTERS_PER_PAGE {
                        return Ok(Letters { letters, more_after: Some((partition, place)) });
                    }
                }
                if !whole {
                    break;
                }
            }
        }
        Ok(Letters { letters, more_after: None })
    }

    /// Some letters of a partition with what was done about them.
    fn cases(&self, partition: u32, range: &Range) -> Result<Vec<Case>, Problem> {
        let found = self.store.scan(Table::DeadLetters, &partition.to_be_bytes(), range, LETTERS_PER_READ)?;
        let read = |(clustering, cell): &(Vec<u8>, Cell)| read(partition, clustering, &cell.value);
        let mut cases = found.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let (Some(first), Some(last)) = (cases.first(), cases.last()) else { return Ok(cases) };
        let mut done = actions_between(&*self.store, partition, first.position..=last.position)?;
        for case in cases.iter_mut().rev() {
            let own = done.partition_point(|(position, _)| *position < case.position);
            let own = done.split_off(own).into_iter().filter(|(position, _)| *position == case.position);
            case.done = own.map(|(_, done)| done).collect();
        }
        Ok(cases)
    }

    /// One letter.
    pub(crate) fn letter(&self, partition: u32, position: Position) -> Result<Option<Case>, Problem> {
        Ok(case(&*self.store, partition, position)?)
    }

    /// The first dead letter of a pulse in its tenant's partitions.
    pub(crate) fn letter_of(&self, name: PulseName<'_>) -> Result<Option<(u32, Position)>, Problem> {
        for partition in self.partitions_of(name.tenant_id) {
            if let Some(position) = self.letter_in(partition, name)? {
                return Ok(Some((partition, position)));
            }
        }
        Ok(None)
    }

    fn letter_in(&self, partition: u32, name: PulseName<'_>) -> Result<Option<Position>, Problem> {
        let mut range = Range::all();
        loop {
            let found =
                self.store.scan(Table::DeadLetters, &partition.to_be_bytes(), &range, LETTERS_PER_READ)?;
            for (clustering, cell) in &found {
                let letter = read(partition, clustering, &cell.value)?;
                let raw = walk::pulse(&letter.letter.original).unwrap_or_default();
                let named = raw.id == name.id.as_bytes() && raw.tenant_id == name.tenant_id.as_bytes();
                if named && letter.position.index != WHOLE_RECORD {
                    return Ok(Some(letter.position));
                }
            }
            let Some((last, _)) = found.last().filter(|_| found.len() == LETTERS_PER_READ) else {
                return Ok(None);
            };
            range.from = [last.as_slice(), &[0]].concat();
        }
    }
}

impl LetterFilter {
    fn wants(&self, case: &Case) -> bool {
        self.tenant_id.as_ref().is_none_or(|tenant| *tenant == case.letter.tenant_id)
            && self.reason.is_none_or(|reason| reason as u32 == case.letter.reason)
            && self.state.is_none_or(|state| state == case.state())
    }
}

/// The first key behind one.
fn behind(clustering: &[u8]) -> Vec<u8> {
    [clustering, &[0]].concat()
}

fn read(partition: u32, clustering: &[u8], value: &[u8]) -> Result<Case, Problem> {
    let damaged = || Problem::internal(&"a dead letter cannot be read");
    let position = decode_position(clustering).ok_or_else(damaged)?;
    let letter = v1::DeadLetter::decode(value).map_err(|_| damaged())?;
    Ok(Case { partition, position, letter, done: Vec::new() })
}
