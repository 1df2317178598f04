//! How roles start and end: what they listen on, what they say of a wrong configuration, and that `init` is done once.

use crate::fixture::{Cluster, Servers};
use crate::harness::{http_get, pulso};

#[test]
fn init_again_changes_nothing_and_doctor_finds_nothing() {
    let servers = Servers::take();
    let again = servers.init().expect_code(0).json();
    assert_eq!(
        (&again["generation"], &again["partitions"], &again["made"]),
        (&1.into(), &6.into(), &"nothing".into())
    );
    let doctor = servers.pulso(&["doctor", "--output", "json"]).expect_code(0).json();
    let checks = doctor["findings"].as_array().expect("a list").iter();
    let checks: Vec<_> = checks.map(|finding| finding["check"].as_str().expect("a text")).collect();
    assert_eq!(checks, ["clock", "kafka", "store"]);
}

#[test]
fn a_role_says_what_it_listens_on_and_stops_cleanly() {
    let cluster = Cluster::start(1, "grpc");
    for (role, listens) in [
        (&cluster.ingestor, &["event", "ingest", "admin"][..]),
        (&cluster.query, &["event", "api", "admin"]),
        (&cluster.pricing, &["event", "pricing", "admin"]),
        (&cluster.consumers[0], &["event", "admin"]),
    ] {
        let ready: Vec<_> = role.ready().as_object().expect("an object").keys().collect();
        let mut expected = listens.to_vec();
        expected.sort_unstable();
        assert_eq!(ready, expected);
        let since = std::time::Instant::now();
        while http_get(role.address("admin"), "/readyz").0 != 200 {
            assert!(since.elapsed() < crate::fixture::SOON, "{}", role.stderr());
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
    cluster.stop();
}

#[test]
fn a_wrong_configuration_is_one_sentence_and_exit_2() {
    let servers = Servers::take();
    let (kafka, cql) = (servers.flags[1].as_str(), servers.flags[3].as_str());
    let nobody = "127.0.0.1:1";
    let cases: [(&[&str], &str); 5] = [
        (&["--kafka-brokers", nobody, "--cql-nodes", cql], "--kafka-brokers"),
        (&["--kafka-brokers", kafka, "--cql-nodes", nobody], "127.0.0.1:1"),
        (&["--kafka-brokers", kafka, "--cql-nodes", cql, "--cql-keyspace", "absent"], "pulso init"),
        (&["--kafka-brokers", kafka, "--cql-nodes", cql, "--kafka-user", "u"], "--kafka-user"),
        (&["--kafka-brokers", kafka, "--cql-nodes", cql, "--admin-addr", "0.0.0.0:0"], "--trust-network"),
    ];
    for (flags, mend) in cases {
        let arguments =
            [&["query", "--api-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"][..], flags].concat();
        let arguments: Vec<&str> = match flags.last() {
            Some(&"0.0.0.0:0") => [&["query", "--api-addr", "127.0.0.1:0"][..], flags].concat(),
            _ => arguments,
        };
        let refused = pulso(&arguments).expect_code(2);
        let sentence = refused.stderr.lines().last().expect("a sentence");
        assert!(sentence.starts_with("error: ") && sentence.contains(mend), "{flags:?}: {sentence}");
    }
}
