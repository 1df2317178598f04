//! Wrong configurations, on real servers: a role says in one sentence what to change and ends with 2, and `pulso doctor` finds
//! the same.

use pulso_platform::store::cql::{CqlSettings, CqlStore};
use pulso_platform::store::{CompareAndSet, Flush, Flushed, Key, Store, Table};

use crate::fixture::Servers;
use crate::harness::{Ran, pulso};
use crate::kafka::kafka_tool;
use crate::own::OwnServer;

const LOG: &str = "resource-consumption";
const LETTERS: &str = "resource-consumption.dlq";
const TOPIC_TOOL: &str = "org.apache.kafka.tools.TopicCommand";
const CONFIG_TOOL: &str = "kafka.admin.ConfigCommand";

/// Where a cluster shall be.
#[derive(Clone, Copy)]
struct Place<'a> {
    brokers: &'a str,
    nodes: &'a str,
    keyspace: &'a str,
    more: &'a [&'a str],
}

impl Place<'_> {
    fn run(&self, command: &[&str]) -> Ran {
        let Self { brokers, nodes, keyspace, more } = self;
        let place = ["--kafka-brokers", brokers, "--cql-nodes", nodes, "--cql-keyspace", keyspace];
        pulso(&[command, &place, more].concat())
    }

    fn init(&self, partitions: &str) -> Ran {
        self.run(&["init", "--partitions", partitions, "--replication-factor", "1"])
    }

    /// The role does not start, and says why; doctor finds a fault of this kind for the same reason. Its ports are free ones,
    /// so that no other cluster of this machine is in the way.
    #[track_caller]
    fn is_wrong(&self, role: &str, check: &str, words: &str) {
        let any = "127.0.0.1:0";
        let listener = match role {
            "query" => &["--api-addr", any][..],
            "pricing" => &["--pricing-addr", any],
            _ => &[],
        };
        is_refused(&self.run(&[&[role, "--admin-addr", any], listener].concat()), words);
        self.is_found(check, words);
    }

    #[track_caller]
    fn is_found(&self, check: &str, words: &str) {
        let found = self.run(&["doctor", "--output", "json"]).expect_code(1).json();
        let findings = found["findings"].as_array().expect("a list").iter();
        let mut faults = findings.filter(|finding| finding["state"] == "fault" && finding["check"] == check);
        let fault = faults.next().unwrap_or_else(|| panic!("no fault {check} in {found}"));
        assert!(fault["detail"].as_str().is_some_and(|detail| detail.contains(words)), "{words}: {found}");
        assert!(fault["mend"].as_str().is_some_and(|mend| !mend.is_empty()), "{found}");
    }
}

#[track_caller]
fn is_refused(ran: &Ran, words: &str) {
    assert_eq!(ran.code, Some(2), "{ran:?}");
    let sentence = ran.stderr.lines().last().expect("a sentence");
    assert!(sentence.starts_with("error: ") && sentence.contains(words), "{words}: {ran:?}");
    assert!(!ran.stderr.contains("wrong-secret"), "{ran:?}");
}

#[test]
fn a_missing_or_another_topic_is_told_by_the_roles_and_found_by_doctor() {
    let servers = Servers::take();
    let own = OwnServer::kafka(1);
    let brokers = own.address();
    let place = Place { brokers: &brokers, nodes: &servers.flags[3], keyspace: "wrong_topics", more: &[] };
    place.is_wrong("query", "kafka", "run `pulso init`");
    place.is_found("store", "pulso init");
    place.init("3").expect_code(0);
    place.run(&["doctor"]).expect_code(0);
    is_refused(&place.init("4"), "--partitions 3");

    let set = |value: &str| {
        let entity = ["--alter", "--entity-type", "topics", "--entity-name", LETTERS];
        let value = format!("max.message.bytes={value}");
        kafka_tool(&brokers, CONFIG_TOOL, &[&entity[..], &["--add-config", &value]].concat());
    };
    set("600000");
    place.is_wrong("consumer", "topics", "set max.message.bytes=");
    set("700000");
    for (topic, role) in [(LETTERS, "consumer"), ("usage-aggregates", "pricing")] {
        kafka_tool(&brokers, TOPIC_TOOL, &["--delete", "--topic", topic]);
        place.is_wrong(role, "topics", topic);
        place.init("3").expect_code(0);
    }

    kafka_tool(&brokers, TOPIC_TOOL, &["--delete", "--topic", LOG]);
    place.is_wrong("consumer", "kafka", "is not there although its generation began");
    let stamped = ["--config", "message.timestamp.type=LogAppendTime"];
    let made = ["--create", "--topic", LOG, "--partitions", "2", "--replication-factor", "1"];
    kafka_tool(&brokers, TOPIC_TOOL, &[&made[..], &stamped].concat());
    place.is_wrong("query", "kafka", "has 2 partitions but its generation has 3");
}

#[test]
fn servers_that_are_not_there_and_tables_of_a_newer_version_are_told_and_found() {
    let servers = Servers::take();
    let (brokers, nodes) = (servers.flags[1].as_str(), servers.flags[3].as_str());
    let nobody = "127.0.0.1:1";
    let place = Place { brokers, nodes, keyspace: "pulso", more: &[] };
    Place { brokers: nobody, ..place }.is_wrong("query", "kafka", "check --kafka-brokers");
    Place { nodes: nobody, ..place }.is_wrong("query", "store", nobody);
    Place { keyspace: "absent", ..place }.is_wrong("query", "store", "pulso init");

    let newer = Place { keyspace: "newer", ..place };
    let ran = newer.run(&["init", "--partitions", "6", "--replication-factor", "1", "--id-horizon", "400d"]);
    ran.expect_code(0);
    let store = CqlStore::open(&CqlSettings::new(&[nodes], "newer")).expect("opens");
    let key = Key::new(Table::Meta, "schema", "version");
    let found = store.get(std::slice::from_ref(&key)).expect("answers").pop().flatten().expect("a version");
    let set = CompareAndSet { key, expected: found.version, value: 99_u32.to_be_bytes().to_vec().into() };
    let flushed = store.flush(Flush { sets: vec![set], ..Flush::default() });
    assert_eq!(flushed.expect("answers"), Flushed::Done);
    newer.is_wrong("query", "store", "99");
}

#[test]
fn credentials_that_are_refused_are_told_and_found_and_never_shown() {
    let servers = Servers::take();
    let named = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    let (secured, ca) = (named("PULSO_TEST_KAFKA_SASL"), named("PULSO_TEST_KAFKA_SASL_CA"));
    let user = ["--kafka-user", "pulso", "--kafka-password"];
    let encrypted = ["--kafka-security", "sasl_ssl", "--kafka-ca", &ca];
    let wrong = [&encrypted[..], &user, &["wrong-secret"]].concat();
    let place = Place { brokers: &secured, nodes: &servers.flags[3], keyspace: "pulso", more: &wrong };
    place.is_wrong("query", "kafka", "--kafka-password");
    let good = [&encrypted[..], &user, &["hunter2"]].concat();
    Place { more: &good, ..place }.run(&["doctor"]).expect_code(0);

    let own = OwnServer::cassandra("authenticator: PasswordAuthenticator\n");
    let nodes = own.address();
    let wrong = ["--cql-user", "cassandra", "--cql-password", "wrong-secret"];
    let place = Place { brokers: &servers.flags[1], nodes: &nodes, keyspace: "pulso", more: &wrong };
    place.is_wrong("query", "store", "--cql-password");
    Place { more: &[], ..place }.is_wrong("query", "store", "--cql-user");
}
