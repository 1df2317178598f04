//! The broker as others see it: kcat, which knows nothing of Pulso, and Kafka's own tools.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::fixture::Servers;

/// A message as kcat shows it.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) partition: String,
    pub(crate) offset: String,
    pub(crate) key: String,
    headers: String,
}

impl Message {
    /// A header's text; headers whose text has a comma are looked at as a whole.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.split(',').find_map(|header| header.strip_prefix(name)?.strip_prefix('='))
    }
}

impl Servers {
    /// Runs kcat against the broker.
    pub(crate) fn kcat(&self, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        let mut child = Command::new("kcat")
            .args(["-q", "-b", &self.flags[1]])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("kcat is installed");
        child.stdin.take().expect("piped").write_all(input).expect("kcat reads");
        let output = child.wait_with_output().expect("kcat ends");
        assert!(output.status.success(), "kcat {arguments:?}: {}", output.status);
        output.stdout
    }

    /// All messages of a topic, without their values.
    pub(crate) fn messages(&self, topic: &str) -> Vec<Message> {
        let read = self.kcat(&["-C", "-t", topic, "-o", "beginning", "-e", "-f", "%p\t%o\t%k\t%h\n"], b"");
        let text = String::from_utf8(read).expect("text");
        let messages = text.lines().map(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            let [partition, offset, key, headers] = fields[..] else { panic!("no message: {line}") };
            let [partition, offset, key, headers] = [partition, offset, key, headers].map(str::to_owned);
            Message { partition, offset, key, headers }
        });
        messages.collect()
    }

    /// The bytes of one message.
    pub(crate) fn value(&self, topic: &str, partition: &str, offset: &str) -> Vec<u8> {
        self.kcat(&["-C", "-t", topic, "-p", partition, "-o", offset, "-c", "1", "-f", "%s"], b"")
    }

    /// Runs one of Kafka's own tools.
    pub(crate) fn kafka_tool(&self, class: &str, arguments: &[&str]) {
        kafka_tool(&self.flags[1], class, arguments);
    }
}

/// Runs one of Kafka's own tools against these brokers.
pub(crate) fn kafka_tool(brokers: &str, class: &str, arguments: &[&str]) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/local/kafka.sh");
    let ran = Command::new(script)
        .args(["tool", class, "--bootstrap-server", brokers])
        .args(arguments)
        .output()
        .expect("the script runs");
    assert!(ran.status.success(), "{class} {arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
}
