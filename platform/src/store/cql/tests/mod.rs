//! The store against real servers: Apache Cassandra at `PULSO_TEST_CQL_NODES`, started by `make test-cluster`. Without it
//! they fail.
//!
//! Making tables takes seconds, so all tests share one keyspace, made once; each keeps [`Apart`].

mod conforms;
mod opening;

use std::sync::{Arc, OnceLock};

use super::apart::Apart;
use super::{CqlSettings, CqlStore, schema};
use crate::store::{Cell, CompareAndSet, Flush, Flushed, Key, Range, Store, StoreError, Table};

/// The keyspace of all tests.
const KEYSPACE: &str = "pulso_test";

/// How to reach the servers.
fn settings() -> CqlSettings {
    let nodes = std::env::var("PULSO_TEST_CQL_NODES")
        .expect("PULSO_TEST_CQL_NODES names no Cassandra; run the tests by `make test-cluster`");
    CqlSettings::new(&nodes.split(',').collect::<Vec<_>>(), KEYSPACE)
}

/// The store that the tests share.
fn shared() -> Arc<CqlStore> {
    static STORE: OnceLock<Arc<CqlStore>> = OnceLock::new();
    let open = || {
        schema::init(&settings(), 1).expect("the tables can be made");
        Arc::new(CqlStore::open(&settings()).expect("the store opens"))
    };
    Arc::clone(STORE.get_or_init(open))
}

/// An empty store.
fn empty() -> Apart<CqlStore> {
    Apart::new(shared())
}
