//! What a store that cannot be opened says: one sentence with the mend.

use bytes::Bytes;

use super::*;

fn refusal(settings: &CqlSettings) -> StoreError {
    CqlStore::open(settings).expect_err("must not open")
}

#[test]
fn a_keyspace_that_is_not_there_names_the_command_that_makes_it() {
    let error = refusal(&CqlSettings { cql_keyspace: "pulso_nowhere".to_owned(), ..settings() });
    assert!(matches!(error, StoreError::Refused(_)), "{error}");
    let said = error.to_string();
    assert!(said.contains("no keyspace pulso_nowhere") && said.contains("`pulso init`"), "{said}");
}

#[test]
fn a_keyspace_of_someone_else_names_the_command_too() {
    let error = refusal(&CqlSettings { cql_keyspace: "system".to_owned(), ..settings() });
    assert!(error.to_string().contains("`pulso init`"), "{error}");
}

#[test]
fn nodes_that_do_not_answer_are_worth_another_try() {
    // Nothing listens at port 1.
    let error = refusal(&CqlSettings { cql_nodes: vec!["127.0.0.1:1".to_owned()], ..settings() });
    assert!(error.is_retryable() && error.to_string().contains("check --cql-nodes"), "{error}");
    let error =
        refusal(&CqlSettings { cql_nodes: vec!["no-such-host.invalid:9042".to_owned()], ..settings() });
    assert!(error.to_string().contains("no-such-host"), "{error}");
}

#[test]
fn more_copies_than_nodes_are_refused_before_anything_is_made() {
    let wish = CqlSettings { cql_keyspace: "pulso_copies".to_owned(), ..settings() };
    let error = schema::init(&wish, 3).expect_err("one node cannot hold three copies");
    assert!(error.to_string().contains("--replication-factor"), "{error}");
    assert!(refusal(&wish).to_string().contains("no keyspace"));
}

#[test]
fn making_the_tables_again_changes_nothing_and_newer_ones_are_left_alone() {
    let mine = CqlSettings { cql_keyspace: "pulso_test_versions".to_owned(), ..settings() };
    schema::init(&mine, 1).expect("the tables can be made");
    schema::init(&mine, 1).expect("and made again");
    let store = CqlStore::open(&mine).expect("opens");
    let key = Key::new(Table::Meta, "schema", "version");
    let version = || store.get(std::slice::from_ref(&key)).unwrap().remove(0).expect("there");
    let newest = schema::SCHEMA_VERSION;
    let set = |value: u32| {
        let value = Bytes::copy_from_slice(&value.to_be_bytes());
        let sets = vec![CompareAndSet { key: key.clone(), expected: version().version, value }];
        assert_eq!(store.flush(Flush { sets, ..Flush::default() }).unwrap(), Flushed::Done);
    };
    set(newest + 1);
    for error in [refusal(&mine), schema::init(&mine, 1).expect_err("newer")] {
        let needs = matches!(error, StoreError::NeedsUpgrade { found, supported } if (found, supported) == (newest + 1, newest));
        assert!(needs, "{error}");
    }
    set(newest);
    schema::init(&mine, 1).expect("as it was");
}
