//! Three brokers and three nodes that a test takes down and starts again, by the scripts that started them.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use pulso_platform::log::kafka::KafkaSettings;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, Producer as _};

use crate::proxy::{Proxy, Weather};

/// The servers of each kind.
pub(super) const SERVERS: u16 = 3;
/// From a broker's port to the one of its listener behind a proxy.
const SPARE: u16 = 60;
/// One test at a time takes servers down.
static TURN: Mutex<()> = Mutex::new(());

/// A kind of server, by its script in `deploy/local`.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Kafka,
    Cassandra,
}

/// Whole when it is taken, and whole again once it is dropped.
pub(super) struct Cluster {
    _turn: MutexGuard<'static, ()>,
}

impl Cluster {
    /// Waits for the turn.
    pub(super) fn take() -> Self {
        Self { _turn: TURN.lock() }
    }

    /// Sends a signal to one server, by its number from 1.
    pub(super) fn signal(&self, kind: Kind, server: u16, signal: &str) {
        script(kind, &["signal", &server.to_string(), signal]);
    }

    /// Starts those that do not run.
    pub(super) fn start(&self, kind: Kind) {
        script(kind, &["start"]);
    }

    /// The brokers.
    pub(super) fn brokers(&self) -> String {
        let broker = |broker| format!("127.0.0.1:{}", Kind::Kafka.port() + broker);
        (0..SERVERS).map(broker).collect::<Vec<_>>().join(",")
    }

    /// The brokers, each behind a proxy of its own: the listener that they have for it advertises the proxy's address.
    pub(super) fn brokers_behind_proxies(&self) -> String {
        (1..=SERVERS).map(|broker| self.proxy(broker).address()).collect::<Vec<_>>().join(",")
    }

    /// The proxy before a broker.
    pub(super) fn proxy(&self, broker: u16) -> &'static Proxy {
        static PROXIES: OnceLock<Vec<Proxy>> = OnceLock::new();
        let start = |broker| {
            let at = |host: &str| format!("{host}:{}", Kind::Kafka.port() + SPARE + broker);
            Proxy::start(&at("127.0.0.2"), &at("127.0.0.1"))
        };
        &PROXIES.get_or_init(|| (0..SERVERS).map(start).collect())[usize::from(broker) - 1]
    }

    /// The same weather before every broker.
    pub(super) fn weather(&self, weather: Weather) {
        (1..=SERVERS).for_each(|broker| self.proxy(broker).set(weather));
    }

    /// The nodes of the store.
    pub(super) fn nodes(&self) -> Vec<String> {
        (1..=SERVERS).map(|node| format!("127.0.0.{node}:{}", Kind::Cassandra.port())).collect()
    }

    /// The broker that leads a partition.
    pub(super) fn leader(&self, topic: &str, partition: i32) -> u16 {
        let brokers = self.brokers();
        let client: BaseProducer =
            ClientConfig::new().set("bootstrap.servers", &brokers).create().expect("a client");
        let asked = client.client().fetch_metadata(Some(topic), Duration::from_secs(20));
        let asked = asked.expect("the brokers answer");
        let found = asked.topics()[0].partitions().iter().find(|found| found.id() == partition);
        u16::try_from(found.expect("is there").leader()).expect("a broker leads it")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.weather(Weather::Fair);
        for kind in [Kind::Kafka, Kind::Cassandra] {
            self.start(kind);
        }
    }
}

impl Kind {
    fn port(self) -> u16 {
        let name = match self {
            Self::Kafka => "KAFKA_PORT",
            Self::Cassandra => "CASSANDRA_PORT",
        };
        variable(name).parse().expect("a port")
    }
}

/// How to reach brokers.
pub(super) fn settings(brokers: &str) -> KafkaSettings {
    KafkaSettings::plaintext(brokers)
}

fn variable(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set; run these tests by `scripts/test-cluster outages`"))
}

fn script(kind: Kind, arguments: &[&str]) {
    let (script, data) = match kind {
        Kind::Kafka => ("kafka.sh", variable("PULSO_TEST_KAFKA3_DATA")),
        Kind::Cassandra => ("cassandra.sh", variable("PULSO_TEST_CQL3_DATA")),
    };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/local").join(script);
    let done = Command::new(path).args(arguments).args(["--data", &data]).output().expect("the script runs");
    assert!(done.status.success(), "{script} {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
}
