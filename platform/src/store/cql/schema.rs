//! The tables and their version: made by `pulso init`, checked by every role before it works.
//!
//! Making them again changes nothing. What is made is the same on ScyllaDB and on Apache Cassandra: no option that only one
//! of them knows. A keyspace that is there is taken as it is, so whoever wants another replication makes it beforehand.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use scylla::client::session::Session;
use scylla::statement::Statement;

use super::CqlStore;
use super::layout::{self, Home};
use super::session::{self, unavailable};
use super::settings::CqlSettings;
use crate::store::{CompareAndSet, Flush, Key, Store, StoreError, Table};

/// The version of the tables that this binary makes and reads.
pub const SCHEMA_VERSION: u32 = 1;
/// A change of the schema waits until every node has it.
const DEFINE_TIMEOUT: Duration = Duration::from_secs(60);

/// Makes or checks the keyspace and its tables. `replication_factor` is the number of copies in each data center, and is
/// used only when the keyspace is not there yet.
///
/// # Errors
/// When the store cannot be reached, refuses the credentials, has fewer nodes than copies are wanted, or was made by a
/// newer version.
pub fn init(settings: &CqlSettings, replication_factor: u32) -> Result<(), StoreError> {
    settings.validate()?;
    let runtime = session::runtime()?;
    let made = session::wait(runtime.handle(), make_keyspace(settings, replication_factor));
    runtime.shutdown_background();
    made?;
    let store = CqlStore::connect(settings)?;
    let found = store.version()?;
    if let Some(found) = found.filter(|found| *found > SCHEMA_VERSION) {
        return Err(StoreError::NeedsUpgrade { found, supported: SCHEMA_VERSION });
    }
    store.make_tables()?;
    if found.is_none() { store.write_version() } else { Ok(()) }
}

/// The keyspace, and the table that the version stands in.
async fn make_keyspace(settings: &CqlSettings, replication_factor: u32) -> Result<(), StoreError> {
    let session = session::connect(settings, None).await?;
    let keyspace = &settings.cql_keyspace;
    let home = layout::home(Table::Meta, b"");
    let cluster = session.get_cluster_state();
    let found = cluster.get_keyspace(keyspace);
    if found.is_some_and(|found| found.tables.contains_key(home.name)) {
        return Ok(());
    }
    if found.is_none() {
        check_replication(&session, replication_factor)?;
        let text = format!(
            "CREATE KEYSPACE IF NOT EXISTS {keyspace} WITH replication = \
             {{'class': 'NetworkTopologyStrategy', 'replication_factor': {replication_factor}}}"
        );
        define(&session, &text).await?;
    }
    session.use_keyspace(keyspace, false).await.map_err(|error| unavailable(&error))?;
    define(&session, &table_text(home)).await
}

/// With fewer nodes than copies no quorum would ever answer.
fn check_replication(session: &Session, replication_factor: u32) -> Result<(), StoreError> {
    let cluster = session.get_cluster_state();
    let mut nodes = BTreeMap::<Option<&str>, u32>::new();
    for node in cluster.get_nodes_info() {
        *nodes.entry(node.datacenter.as_deref()).or_default() += 1;
    }
    let fewest = nodes.into_values().min().unwrap_or(0);
    if replication_factor == 0 || fewest < replication_factor {
        return Err(StoreError::Refused(format!(
            "{replication_factor} copies are wanted and a data center has {fewest} nodes; give a --replication-factor from 1 to {fewest}, or add nodes"
        )));
    }
    Ok(())
}

async fn define(session: &Session, text: &str) -> Result<(), StoreError> {
    let mut statement = Statement::new(text);
    statement.set_request_timeout(Some(DEFINE_TIMEOUT));
    session.query_unpaged(statement, ()).await.map_err(|error| unavailable(&error))?;
    Ok(())
}

fn table_text(home: Home) -> String {
    let columns = if home.registers { "version bigint, w blob, v blob" } else { "v blob" };
    // Rows that are written again and again, and read by range, stay in few files this way.
    let compaction = match home.name {
        "usage" | "tenants" | "charges" => "LeveledCompactionStrategy",
        _ => "SizeTieredCompactionStrategy",
    };
    format!(
        "CREATE TABLE IF NOT EXISTS {} (p blob, b bigint, c blob, {columns}, PRIMARY KEY ((p, b), c)) \
         WITH compaction = {{'class': '{compaction}'}}",
        home.name
    )
}

/// The cell that says which version the tables have.
fn version_key() -> Key {
    Key::new(Table::Meta, "schema", "version")
}

impl CqlStore {
    /// Makes the tables that are not there.
    fn make_tables(&self) -> Result<(), StoreError> {
        self.wait(async |inner| {
            let cluster = inner.session.get_cluster_state();
            let found = cluster.get_keyspace(&self.keyspace);
            let is_missing = |home: &Home| found.is_none_or(|found| !found.tables.contains_key(home.name));
            for home in layout::homes().filter(is_missing) {
                define(&inner.session, &table_text(home)).await?;
            }
            Ok(())
        })
    }

    /// Says that all tables are there. Whoever loses this to another finds a version, which is what counts.
    fn write_version(&self) -> Result<(), StoreError> {
        let value = Bytes::copy_from_slice(&SCHEMA_VERSION.to_be_bytes());
        let sets = vec![CompareAndSet { key: version_key(), expected: 0, value }];
        self.flush(Flush { sets, ..Flush::default() })?;
        self.check_version()
    }

    /// The version that the tables were made as; `None` where there is none yet.
    fn version(&self) -> Result<Option<u32>, StoreError> {
        let Some(cell) = self.get(&[version_key()])?.pop().flatten() else { return Ok(None) };
        let found = <[u8; 4]>::try_from(cell.value.as_ref()).map(u32::from_be_bytes);
        found.map(Some).map_err(|_| StoreError::Damaged {
            place: format!("the schema version of keyspace {}", self.keyspace),
            detail: format!("it has {} bytes", cell.value.len()),
        })
    }

    /// Refuses tables that another version made.
    pub(super) fn check_version(&self) -> Result<(), StoreError> {
        let keyspace = &self.keyspace;
        match self.version() {
            Ok(Some(SCHEMA_VERSION)) => Ok(()),
            Ok(Some(found)) if found > SCHEMA_VERSION => {
                Err(StoreError::NeedsUpgrade { found, supported: SCHEMA_VERSION })
            }
            Ok(Some(found)) => Err(StoreError::Refused(format!(
                "the tables of keyspace {keyspace} have version {found}, this binary wants {SCHEMA_VERSION}; run `pulso init`"
            ))),
            Ok(None) => Err(StoreError::Refused(format!(
                "the keyspace {keyspace} has no tables of Pulso; run `pulso init`"
            ))),
            Err(error) => Err(error),
        }
    }
}
