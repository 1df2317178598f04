//! Servers of a test's own, beside the shared ones: for what would spoil those for the other tests.

use std::path::PathBuf;
use std::process::Command;

/// How far its ports are behind those of the shared servers.
const PORTS_BEHIND: u16 = 20;

/// Brokers or a node; stopped and wiped when dropped.
pub(crate) struct OwnServer {
    script: &'static str,
    count: u16,
    ports: Vec<(&'static str, u16)>,
    extra: (&'static str, String),
    data: PathBuf,
}

impl OwnServer {
    /// One broker, or three.
    pub(crate) fn kafka(brokers: u16) -> Self {
        let mut server = Self::new("kafka.sh", &[("KAFKA_PORT", 19_092)], ("KAFKA_EXTRA", String::new()));
        server.count = brokers;
        server.run(&["start", "--brokers", &brokers.to_string()]);
        server
    }

    /// A node with more lines in its `cassandra.yaml`.
    pub(crate) fn cassandra(extra: &str) -> Self {
        let ports =
            [("CASSANDRA_PORT", 19_042), ("CASSANDRA_STORAGE_PORT", 17_000), ("CASSANDRA_JMX_PORT", 17_199)];
        let server = Self::new("cassandra.sh", &ports, ("CASSANDRA_EXTRA", extra.to_owned()));
        server.run(&["start"]);
        server
    }

    fn new(script: &'static str, ports: &[(&'static str, u16)], extra: (&'static str, String)) -> Self {
        let beside = |(name, usual): &(&'static str, u16)| {
            let shared = std::env::var(name).map_or(*usual, |port| port.parse().expect("a port"));
            (*name, shared + PORTS_BEHIND)
        };
        let ports: Vec<_> = ports.iter().map(beside).collect();
        let data = std::env::temp_dir().join(format!("pulso-own-{}-{}", ports[0].1, std::process::id()));
        Self { script, count: 1, ports, extra, data }
    }

    /// Where it listens, or they do.
    pub(crate) fn address(&self) -> String {
        let of = |number| format!("127.0.0.1:{}", self.ports[0].1 + number);
        (0..self.count).map(of).collect::<Vec<_>>().join(",")
    }

    /// Runs the script that has started it.
    pub(crate) fn run(&self, arguments: &[&str]) {
        let script = format!("{}/../deploy/local/{}", env!("CARGO_MANIFEST_DIR"), self.script);
        let ran = Command::new(script)
            .args(arguments)
            .arg("--data")
            .arg(&self.data)
            .envs(self.ports.iter().map(|(name, port)| (name, port.to_string())))
            .env(self.extra.0, &self.extra.1)
            // A machine that does much else is slow to start them.
            .envs([("KAFKA_READY_S", "300"), ("CASSANDRA_READY_S", "300")])
            .output()
            .expect("the script runs");
        let said = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success(), "{} {arguments:?} failed: {said}", self.script);
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        self.run(&["stop", "--wipe"]);
    }
}
