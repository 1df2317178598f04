//! Compare-and-set by lightweight transactions. One whose answer is lost is read back with serial consistency: that read
//! finishes or rules out whatever was begun, so what it finds stands, and the token says whether it is ours.

use std::time::Duration;

use bytes::Bytes;
use scylla::value::{CqlValue, Row};
use uuid::Uuid;

use super::Inner;
use super::layout;
use super::session::unavailable;
use super::statements::Verb;
use crate::store::{CompareAndSet, StoreError};

/// How often one set is tried when it is not known what became of it.
const ATTEMPTS: u32 = 4;
/// The pause after the first attempt that failed; each next one is twice as long. Rivals get in each other's way.
const PAUSE: Duration = Duration::from_millis(20);

impl Inner {
    /// Does one compare-and-set; false when it lost.
    pub(super) async fn set(&self, set: &CompareAndSet) -> Result<bool, StoreError> {
        let token = Uuid::new_v4().into_bytes();
        let mut pause = PAUSE;
        let mut unknown = StoreError::Unavailable("no answer".to_owned());
        for _ in 0..ATTEMPTS {
            match self.try_set(set, &token).await {
                Ok(true) => return Ok(true),
                // It may have lost to itself: to an attempt before, or one that the driver repeated.
                Ok(false) => return Ok(*self.read_token(set).await?.1 == token),
                Err(error) => unknown = error,
            }
            match self.read_token(set).await? {
                (_, found) if *found == token => return Ok(true),
                (version, _) if version != set.expected => return Ok(false),
                _ => {}
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        Err(unknown)
    }

    async fn try_set(&self, set: &CompareAndSet, token: &[u8; 16]) -> Result<bool, StoreError> {
        let key = &set.key;
        let home = layout::home(key.table, &key.partition);
        let bucket = layout::bucket(key.table, &key.clustering);
        let expected = set.expected.cast_signed();
        let next = expected + 1;
        let (value, partition) = (set.value.as_ref(), key.partition.as_slice());
        let clustering = key.clustering.as_slice();
        let _flight = self.take_off(value.len()).await?;
        let values = (next, token.as_slice(), value, partition, bucket, clustering);
        let answer = if set.expected == 0 {
            let statement = self.statements.get(&self.session, home, Verb::SetFirst).await?;
            self.session.execute_unpaged(statement, values).await
        } else {
            let (next, token, value, partition, bucket, clustering) = values;
            let values = (next, token, value, partition, bucket, clustering, expected);
            let statement = self.statements.get(&self.session, home, Verb::SetNext).await?;
            self.session.execute_unpaged(statement, values).await
        };
        let rows = answer.map_err(|error| unavailable(&error))?.into_rows_result();
        let rows = rows.map_err(|error| unavailable(&error))?;
        // The first column says whether it took place; which others follow differs between the servers.
        let first = rows.first_row::<Row>().map_err(|error| unavailable(&error))?;
        match first.columns.first() {
            Some(Some(CqlValue::Boolean(applied))) => Ok(*applied),
            _ => Err(StoreError::Unavailable("a set was answered without its outcome".to_owned())),
        }
    }

    /// The version of a register and the token of its last writer.
    async fn read_token(&self, set: &CompareAndSet) -> Result<(u64, Bytes), StoreError> {
        let key = &set.key;
        let home = layout::home(key.table, &key.partition);
        let bucket = layout::bucket(key.table, &key.clustering);
        let _flight = self.take_off(set.value.len()).await?;
        let statement = self.statements.get(&self.session, home, Verb::Get).await?;
        let values = (key.partition.as_slice(), bucket, key.clustering.as_slice());
        let answer = self.session.execute_unpaged(statement, values).await;
        let rows = answer.map_err(|error| unavailable(&error))?.into_rows_result();
        let rows = rows.map_err(|error| unavailable(&error))?;
        type Row = (Bytes, Option<i64>, Option<Bytes>, Option<Bytes>);
        let row = rows.maybe_first_row::<Row>().map_err(|error| unavailable(&error))?;
        let Some((_, version, _, token)) = row else { return Ok((0, Bytes::new())) };
        let version = version.unwrap_or_default();
        Ok((u64::try_from(version).unwrap_or_default(), token.unwrap_or_default()))
    }
}
