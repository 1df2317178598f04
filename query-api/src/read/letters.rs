//! Dead letters, in the order of partition and position. A letter's name is its origin.

use prost::Message;
use pulso_domain::position::{Position, Rank};
use pulso_domain::reason::Reason;
use pulso_ingestor_consumer::fold::letters::WHOLE_RECORD;
use pulso_platform::store::{Range, Table, keys};
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
}

/// A dead letter with its place.
pub(crate) struct Letter {
    /// The partition.
    pub(crate) partition: u32,
    /// Its position; a whole record has the index `WHOLE_RECORD`.
    pub(crate) position: Position,
    /// What is kept of it.
    pub(crate) content: v1::DeadLetter,
}

/// Some letters, and where to go on.
pub(crate) struct Letters {
    /// The letters.
    pub(crate) letters: Vec<Letter>,
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
        let mut letters: Vec<Letter> = Vec::new();
        let mut looked_at: usize = 0;
        let first = after.map_or(0, |(partition, _)| *partition);
        for partition in first..self.partitions() {
            let mut range = Range::all();
            if let Some((_, clustering)) = after.filter(|(begun, _)| *begun == partition) {
                range.from = [clustering.as_slice(), &[0]].concat();
            }
            loop {
                let found = self.store.scan(
                    Table::DeadLetters,
                    &partition.to_be_bytes(),
                    &range,
                    LETTERS_PER_READ,
                )?;
                for (clustering, cell) in &found {
                    let letter = read(partition, clustering, &cell.value)?;
                    looked_at += 1;
                    if filter.wants(&letter.content) {
                        letters.push(letter);
                    }
                    if letters.len() == most || looked_at == LETTERS_PER_PAGE {
                        return Ok(Letters { letters, more_after: Some((partition, clustering.clone())) });
                    }
                }
                let Some((last, _)) = found.last().filter(|_| found.len() == LETTERS_PER_READ) else { break };
                range.from = [last.as_slice(), &[0]].concat();
            }
        }
        Ok(Letters { letters, more_after: None })
    }

    /// One letter.
    pub(crate) fn letter(&self, partition: u32, position: Position) -> Result<Option<Letter>, Problem> {
        let key = keys::dead_letter(partition, position);
        let cell = self.store.get(std::slice::from_ref(&key))?.pop().flatten();
        cell.map(|cell| read(partition, &key.clustering, &cell.value)).transpose()
    }

    /// The first dead letter of a pulse in its tenant's partition.
    pub(crate) fn letter_of(&self, name: PulseName<'_>) -> Result<Option<(u32, Position)>, Problem> {
        let partition = self.partition_of(name.tenant_id);
        let mut range = Range::all();
        loop {
            let found =
                self.store.scan(Table::DeadLetters, &partition.to_be_bytes(), &range, LETTERS_PER_READ)?;
            for (clustering, cell) in &found {
                let letter = read(partition, clustering, &cell.value)?;
                let raw = walk::pulse(&letter.content.original).unwrap_or_default();
                let named = raw.id == name.id.as_bytes() && raw.tenant_id == name.tenant_id.as_bytes();
                if named && letter.position.index != WHOLE_RECORD {
                    return Ok(Some((partition, letter.position)));
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
    fn wants(&self, letter: &v1::DeadLetter) -> bool {
        self.tenant_id.as_ref().is_none_or(|tenant| *tenant == letter.tenant_id)
            && self.reason.is_none_or(|reason| reason as u32 == letter.reason)
    }
}

fn read(partition: u32, clustering: &[u8], value: &[u8]) -> Result<Letter, Problem> {
    let damaged = || Problem::internal(&"a dead letter cannot be read");
    let (rank, index) = clustering.split_first_chunk::<8>().ok_or_else(damaged)?;
    let index: [u8; 4] = index.try_into().map_err(|_| damaged())?;
    let rank = Rank::from_u64(u64::from_be_bytes(*rank));
    Ok(Letter {
        partition,
        position: Position::new(rank, u32::from_be_bytes(index)),
        content: v1::DeadLetter::decode(value).map_err(|_| damaged())?,
    })
}
