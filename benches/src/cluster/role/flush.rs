//! Usage rows into the nodes: through the store, and with the driver alone.

use anyhow::ensure;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use pulso_platform::store::{Cell, Flush, Flushed, Key, Store as _};
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::statement::Consistency;
use scylla::statement::prepared::PreparedStatement;

use super::Place;
use crate::child::{Used, answer_each};
use crate::cluster::rows::rows;
use crate::cpu;

/// Writes under way at once, as many as the store has.
const WRITES: usize = 64;
/// Threads of the driver, as many as the store gives it.
const THREADS: usize = 2;

/// Flushes all rows once for each `work`, each time as newer ones.
pub(super) fn through_the_store(place: &Place, tenants: u64) -> anyhow::Result<()> {
    let store = place.store()?;
    let mut turn = 0;
    answer_each("work", || {
        turn += 1;
        let cells = rows("store", tenants, turn)?;
        let before = cpu::used();
        let flushed = store.flush(Flush { cells, ..Flush::default() })?;
        ensure!(matches!(flushed, Flushed::Done), "a flush without sets loses none");
        Used::since(before)
    })
}

/// Writes all rows once for each `work`, one prepared statement each.
pub(super) fn with_the_driver(place: &Place, tenants: u64) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build()?;
    let (session, statement) = runtime.block_on(connect(place))?;
    let mut turn = 0;
    answer_each("work", || {
        turn += 1;
        let cells = rows("driver", tenants, turn)?;
        let before = cpu::used();
        runtime.block_on(write(&session, &statement, &cells))?;
        Used::since(before)
    })
}

async fn connect(place: &Place) -> anyhow::Result<(Session, PreparedStatement)> {
    let profile = ExecutionProfile::builder().consistency(Consistency::LocalQuorum).build();
    let session = SessionBuilder::new()
        .known_nodes(&place.nodes)
        .default_execution_profile_handle(profile.into_handle())
        .use_keyspace(place.cql().cql_keyspace, false)
        .build()
        .await?;
    let mut statement =
        session.prepare("UPDATE usage USING TIMESTAMP ? SET v = ? WHERE p = ? AND b = ? AND c = ?").await?;
    statement.set_is_idempotent(true);
    Ok((session, statement))
}

async fn write(
    session: &Session,
    statement: &PreparedStatement,
    cells: &[(Key, Cell)],
) -> anyhow::Result<()> {
    let one = async |(key, cell): &(Key, Cell)| -> anyhow::Result<()> {
        let value: &[u8] = &cell.value;
        let values =
            (cell.version.cast_signed(), value, key.partition.as_slice(), 0_i64, key.clustering.as_slice());
        session.execute_unpaged(statement, values).await?;
        Ok(())
    };
    stream::iter(cells).map(Ok).try_for_each_concurrent(WRITES, one).await
}
