//! Dead letters in their topic: there before the progress passes, whatever happens to the topic, and readable by kcat as
//! docs/deploy.md shows it.

use std::time::Instant;

use prost::Message as _;
use pulso_proto::v1;

use crate::fixture::{Cluster, SOON, Servers};
use crate::harness::pulse_line;
use crate::kafka::Message;

const LOG: &str = "resource-consumption";
const LETTERS: &str = "resource-consumption.dlq";
const TOPIC_TOOL: &str = "org.apache.kafka.tools.TopicCommand";

/// A pulse, and another one with its id.
fn conflict(tenant: &str) -> String {
    let line = |amount: &str| {
        let changes = [("id", "p-1"), ("tenant_id", tenant), ("used_amount", amount)];
        pulse_line(&changes)
    };
    line("2") + &line("9")
}

fn letters_of(servers: &Servers, tenant: &str) -> Vec<Message> {
    let messages = servers.messages(LETTERS).into_iter();
    messages.filter(|message| message.header("tenant_id") == Some(tenant)).collect()
}

#[test]
fn g13_kcat_reads_a_record_and_the_dead_letter_that_came_of_it() {
    let cluster = Cluster::start(1, "topic");
    cluster.client_with_input(&["send", "-"], &conflict("kcat")).expect_code(0);
    cluster.servers.kcat(&["-P", "-t", LOG, "-p", "3"], b"of another program");
    cluster.drain();

    let letters = letters_of(&cluster.servers, "kcat");
    let [letter] = &letters[..] else { panic!("one letter: {letters:?}") };
    let header = |name| letter.header(name).unwrap_or_else(|| panic!("no {name}: {letter:?}"));
    assert_eq!((header("reason"), header("origin_topic")), ("ID_CONFLICT", LOG));
    let [partition, offset, index] = ["origin_partition", "origin_offset", "origin_index"].map(header);
    assert_eq!(letter.key, format!("1:{partition}:{offset}:{index}"));
    assert_eq!(letter.partition, partition, "letters stand in the partition of their origin");
    assert!(header("detail").contains("another payload"), "{letter:?}");
    assert!(header("appended_at_nanos").parse::<u64>().is_ok(), "{letter:?}");

    let value = cluster.servers.value(LETTERS, &letter.partition, &letter.offset);
    let pulse = v1::Pulse::decode(&value[..]).expect("a pulse");
    assert_eq!((pulse.id.as_str(), pulse.used_amount.as_str()), ("p-1", "9"));
    let record = cluster.servers.value(LOG, partition, offset);
    let batch = v1::PulseBatch::decode(&record[..]).expect("a batch");
    assert_eq!(batch.pulses[index.parse::<usize>().expect("a number")], pulse);

    let foreign = cluster.servers.messages(LETTERS);
    // Other tests leave such letters in other partitions.
    let foreign = foreign
        .iter()
        .rfind(|message| message.header("reason") == Some("UNDECODABLE") && message.partition == "3");
    let foreign = foreign.expect("a record that is none is a letter as a whole");
    assert_eq!(foreign.header("origin_index"), None);
    let value = cluster.servers.value(LETTERS, "3", &foreign.offset);
    assert_eq!(value, b"of another program");
    cluster.stop().audit();
}

#[test]
fn g13_while_the_letters_topic_is_away_the_partition_waits_and_then_goes_on() {
    let mut cluster = Cluster::start(1, "topic");
    cluster.drain();
    cluster.servers.kafka_tool(TOPIC_TOOL, &["--delete", "--topic", LETTERS]);
    cluster.client_with_input(&["send", "-"], &conflict("waits")).expect_code(0);
    let since = Instant::now();
    while !cluster.consumers[0].stderr().contains("dead letters cannot be written") {
        assert!(since.elapsed() < SOON, "{}", cluster.consumers[0].stderr());
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let total = cluster.ledger()["total"].clone();
    assert!(total["folded_offset"].as_u64() < total["end_offset"].as_u64(), "the progress waits: {total}");
    // Another one is not even started, and a crash of the first changes nothing.
    let refused = cluster.try_consumer().expect_err("no topic for letters");
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.contains(LETTERS) && refused.stderr.contains("pulso init"), "{refused:?}");
    let made = cluster.servers.init().expect_code(0).json();
    assert_eq!(made["made"], LETTERS, "{made}");
    cluster.drain();
    cluster.consumers[0].kill();
    let letters = letters_of(&cluster.servers, "waits");
    assert!(letters.iter().all(|letter| letter.key == letters[0].key), "the key tells copies: {letters:?}");
    assert!(!letters.is_empty(), "it is there");
    cluster.consumers[0] = cluster.consumer();
    let usage = cluster.client(&["usage", "waits", "--granularity", "month", "--output", "json"]).json();
    assert_eq!(usage["usage"][0]["quantity"], "2", "{usage}");
    cluster.stop().audit();
}
