//! The statements, each prepared once at its first use. No statement is ever made from a value.

use scylla::client::session::Session;
use scylla::errors::{DbError, PrepareError, RequestAttemptError};
use scylla::statement::Consistency;
use scylla::statement::prepared::PreparedStatement;
use tokio::sync::OnceCell;

use super::layout::{HOMES_MAX, Home};
use super::session::unavailable;
use crate::store::StoreError;

/// What a statement does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verb {
    /// Writes a cell at a version.
    Put,
    /// Removes a cell at a version.
    Remove,
    /// Reads one cell; a register as its last change left it, whoever was interrupted in it.
    Get,
    /// Reads several cells of one bucket.
    GetMany,
    /// Reads on from a key.
    ScanUp,
    /// Reads on from a key up to another.
    ScanUpTo,
    /// Reads back from the end to a key.
    ScanDown,
    /// Reads back from a key to another.
    ScanDownTo,
    /// Makes a register.
    SetFirst,
    /// Changes a register.
    SetNext,
}

const VERBS: usize = Verb::SetNext as usize + 1;

/// The statements that were used so far.
pub(super) struct Statements {
    prepared: [[OnceCell<PreparedStatement>; VERBS]; HOMES_MAX],
}

impl Statements {
    pub(super) fn new() -> Self {
        Self { prepared: std::array::from_fn(|_| std::array::from_fn(|_| OnceCell::new())) }
    }

    /// A statement for one table.
    pub(super) async fn get(
        &self,
        session: &Session,
        home: Home,
        verb: Verb,
    ) -> Result<&PreparedStatement, StoreError> {
        let prepare = async || {
            let prepared = session.prepare(text(home, verb)).await;
            let mut statement = prepared.map_err(|error| explain(home, &error))?;
            let is_set = matches!(verb, Verb::SetFirst | Verb::SetNext);
            // A set that took place cannot be told from one that lost by doing it again.
            statement.set_is_idempotent(!is_set);
            if home.registers && verb == Verb::Get {
                statement.set_consistency(Consistency::LocalSerial);
            }
            Ok(statement)
        };
        self.prepared[home.slot][verb as usize].get_or_try_init(prepare).await
    }
}

/// A statement that is invalid, though it is always the same, has found no table.
fn explain(home: Home, error: &PrepareError) -> StoreError {
    match error {
        PrepareError::AllAttemptsFailed {
            first_attempt: RequestAttemptError::DbError(DbError::Invalid, said),
        } => StoreError::Refused(format!(
            "the table {} cannot be used; run `pulso init`, with the keyspace of the roles ({said})",
            home.name
        )),
        _ => unavailable(error),
    }
}

fn text(home: Home, verb: Verb) -> String {
    let table = home.name;
    let one = "p = ? AND b = ?";
    let columns = if home.registers { "c, version, v, w" } else { "c, WRITETIME(v), v" };
    match verb {
        Verb::Put => format!("UPDATE {table} USING TIMESTAMP ? SET v = ? WHERE {one} AND c = ?"),
        Verb::Remove => format!("DELETE FROM {table} USING TIMESTAMP ? WHERE {one} AND c = ?"),
        Verb::Get => format!("SELECT {columns} FROM {table} WHERE {one} AND c = ?"),
        Verb::GetMany => format!("SELECT {columns} FROM {table} WHERE {one} AND c IN ?"),
        Verb::ScanUp => format!("SELECT {columns} FROM {table} WHERE {one} AND c >= ?"),
        Verb::ScanUpTo => format!("SELECT {columns} FROM {table} WHERE {one} AND c >= ? AND c < ?"),
        Verb::ScanDown => format!("SELECT {columns} FROM {table} WHERE {one} AND c >= ? ORDER BY c DESC"),
        Verb::ScanDownTo => {
            format!("SELECT {columns} FROM {table} WHERE {one} AND c >= ? AND c < ? ORDER BY c DESC")
        }
        Verb::SetFirst => {
            format!("INSERT INTO {table} (version, w, v, p, b, c) VALUES (?, ?, ?, ?, ?, ?) IF NOT EXISTS")
        }
        Verb::SetNext => {
            format!("UPDATE {table} SET version = ?, w = ?, v = ? WHERE {one} AND c = ? IF version = ?")
        }
    }
}
