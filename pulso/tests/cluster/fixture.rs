//! A cluster of roles over the servers that the environment names.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use pulso_platform::log::kafka::{self, KafkaSettings, TopicPlan};
use pulso_platform::service::clock::Clock;
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Ran, Server, command, http_get, pulso, pulso_with_input};
use crate::own::OwnServer;

/// Longest wait for something to come out: machines of CI are slow, a hang must still end.
pub(crate) const SOON: Duration = Duration::from_secs(120);

/// The servers, taken by one test at a time.
pub(crate) struct Servers {
    /// The flags of every role.
    pub(crate) flags: Vec<String>,
    /// Brokers that only this test has; stopped before the next one's turn.
    own: Option<OwnServer>,
    _turn: MutexGuard<'static, ()>,
}

static TURN: Mutex<()> = Mutex::new(());
static MADE: OnceLock<()> = OnceLock::new();

impl Servers {
    /// Waits for its turn; the first makes topics and tables.
    pub(crate) fn take() -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let flags =
            ["--kafka-brokers", &named("PULSO_TEST_KAFKA"), "--cql-nodes", &named("PULSO_TEST_CQL_NODES")];
        let servers = Self { flags: flags.map(str::to_owned).to_vec(), own: None, _turn: turn };
        MADE.get_or_init(|| {
            servers.init().expect_code(0);
        });
        servers
    }

    /// A broker of a test's own, and a keyspace of its own on the shared nodes: for what would spoil the shared log.
    pub(crate) fn take_own(keyspace: &str) -> Self {
        Self::take_own_brokers(keyspace, 1)
    }

    /// The same with three brokers, and three copies of what they hold.
    pub(crate) fn take_own_three(keyspace: &str) -> Self {
        Self::take_own_brokers(keyspace, 3)
    }

    fn take_own_brokers(keyspace: &str, brokers: u16) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let (own, nodes) = (OwnServer::kafka(brokers), named("PULSO_TEST_CQL_NODES"));
        let addresses = own.address();
        // The nodes may outlive the broker, and with them what was folded from its log.
        let keyspace = format!("{keyspace}_{}", std::process::id());
        let flags = ["--kafka-brokers", &addresses, "--cql-nodes", &nodes, "--cql-keyspace", &keyspace];
        let servers = Self { flags: flags.map(str::to_owned).to_vec(), own: Some(own), _turn: turn };
        if brokers > 1 {
            servers.make_topics(brokers);
        }
        servers.init().expect_code(0);
        servers
    }

    /// Makes topics with so many copies: `pulso init` would want as many of the store, whose node is alone here.
    fn make_topics(&self, copies: u16) {
        let own = self.own.as_ref().expect("it has its own");
        let plan = TopicPlan {
            partitions: 6,
            replication_factor: copies,
            id_horizon: Duration::from_secs(400 * 86_400),
            ..TopicPlan::default()
        };
        let made = kafka::init(&KafkaSettings::plaintext(&own.address()), &plan, &Clock::System);
        made.expect("the topics can be made");
    }

    /// Sends a signal to one of the test's own brokers, by its number from 1.
    pub(crate) fn signal_broker(&self, number: u16, signal: &str) {
        self.own.as_ref().expect("it has its own").run(&["signal", &number.to_string(), signal]);
    }

    /// Starts those of its own brokers that do not run.
    pub(crate) fn start_brokers(&self) {
        self.own.as_ref().expect("it has its own").run(&["start"]);
    }

    /// Runs `pulso init`.
    pub(crate) fn init(&self) -> Ran {
        self.pulso(&[
            "init",
            "--partitions",
            "6",
            "--replication-factor",
            "1",
            "--id-horizon",
            "400d",
            "--output",
            "json",
        ])
    }

    /// Starts an ingestor alone, which logs in this folder.
    pub(crate) fn ingestor(&self, folder: &Path, flags: &[&str]) -> Server {
        let doors = ["ingestor", "--ingest-addr", "127.0.0.1:0", "--events-addr", "127.0.0.1:0"];
        started("ingestor", role(self, folder.join("ingestor"), &[&doors, flags].concat()))
    }

    /// Runs a command that looks at log and store itself.
    pub(crate) fn pulso(&self, arguments: &[&str]) -> Ran {
        let mut all = arguments.to_vec();
        all.extend(self.flags.iter().map(String::as_str));
        pulso(&all)
    }

    /// Audits, and checks that every total is what the archive adds up to.
    pub(crate) fn audit(&self) -> Value {
        let audit = self.pulso(&["audit", "--output", "json", "--memory-max", "4MiB"]).expect_code(0).json();
        assert_eq!((&audit["difference_count"], &audit["moving_rows"]), (&0.into(), &0.into()), "{audit}");
        audit
    }
}

/// One process for each role.
pub(crate) struct Cluster {
    pub(crate) servers: Servers,
    pub(crate) ingestor: Server,
    pub(crate) query: Server,
    pub(crate) pricing: Server,
    pub(crate) consumers: Vec<Server>,
    handing: Vec<String>,
    folder: TempDir,
    started: usize,
}

impl Cluster {
    /// Starts the roles with so many consumers, which hand over in this way.
    pub(crate) fn start(consumers: usize, handoff: &str) -> Self {
        Self::start_on(Servers::take(), consumers, handoff)
    }

    /// The same on servers of a test's own.
    pub(crate) fn start_on(servers: Servers, consumers: usize, handoff: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let start = |name: &str, arguments: &[&str]| {
            started(name, role(&servers, folder.path().join(name), arguments))
        };
        let pricing = start("pricing", &["pricing", "--pricing-addr", "127.0.0.1:0"]);
        let ingestor = servers.ingestor(folder.path(), &["--accept-past", "200d"]);
        let query = start("query", &["query", "--api-addr", "127.0.0.1:0"]);
        let url = format!("http://{}", pricing.address("pricing"));
        let handing = ["--handoff", handoff, "--pricing", &url].map(str::to_owned).to_vec();
        let mut cluster =
            Self { servers, ingestor, query, pricing, consumers: Vec::new(), handing, folder, started: 0 };
        for _ in 0..consumers {
            let consumer = cluster.consumer();
            cluster.consumers.push(consumer);
        }
        cluster
    }

    /// Starts one more consumer.
    pub(crate) fn consumer(&mut self) -> Server {
        self.consumer_with(&[])
    }

    /// Starts one more consumer with more flags.
    pub(crate) fn consumer_with(&mut self, flags: &[&str]) -> Server {
        started("consumer", self.start_consumer(flags))
    }

    /// Starts one more consumer, which reaches the store through what `lead` gives for the address of its nodes.
    pub(crate) fn consumer_through(&mut self, lead: impl FnOnce(&str) -> String) -> Server {
        let name = self.servers.flags.iter().position(|flag| flag == "--cql-nodes").expect("nodes");
        let nodes = self.servers.flags[name + 1].clone();
        self.servers.flags[name + 1] = lead(&nodes);
        let consumer = self.consumer();
        self.servers.flags[name + 1] = nodes;
        consumer
    }

    /// Starts one more consumer; gives how it ended when it did before it could work.
    pub(crate) fn try_consumer(&mut self) -> Result<Server, Ran> {
        self.start_consumer(&[])
    }

    fn start_consumer(&mut self, flags: &[&str]) -> Result<Server, Ran> {
        self.started += 1;
        let mut arguments = vec!["consumer", "--flush-every", "300ms"];
        arguments.extend(flags);
        arguments.extend(self.handing.iter().map(String::as_str));
        role(&self.servers, self.folder.path().join(format!("consumer-{}", self.started)), &arguments)
    }

    /// Runs a client command.
    pub(crate) fn client(&self, arguments: &[&str]) -> Ran {
        self.client_with_input(arguments, "")
    }

    /// As [`Self::client`], with this on its stdin.
    pub(crate) fn client_with_input(&self, arguments: &[&str], input: &str) -> Ran {
        let mut all = arguments.to_vec();
        if matches!(arguments[0], "send" | "import") {
            all.extend(["--ingest", self.ingestor.address("ingest")]);
        }
        if arguments[0] != "send" {
            all.extend(["--api", self.query.address("api")]);
        }
        pulso_with_input(&all, input)
    }

    /// The ledger.
    pub(crate) fn ledger(&self) -> Value {
        let (status, body) = http_get(self.query.address("api"), "/v1/ledger");
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).expect("JSON")
    }

    /// Waits until all that the log holds is folded.
    pub(crate) fn drain(&self) -> Value {
        let since = Instant::now();
        loop {
            let total = self.ledger()["total"].clone();
            if total["end_offset"].is_u64() && total["end_offset"] == total["folded_offset"] {
                return total;
            }
            assert!(since.elapsed() < SOON, "not drained: {}\n{}", self.ledger(), self.logs());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// How many pulses the usage of a tenant has.
    pub(crate) fn counted(&self, tenant: &str) -> u64 {
        let usage = self.client(&["usage", tenant, "--output", "json"]).expect_code(0).json();
        let rows = usage["usage"].as_array().expect("rows");
        rows.iter().map(|row| row["count"].as_u64().expect("a count")).sum()
    }

    /// Usage, charges and invoices of a tenant's month, without what depends on when it was asked.
    pub(crate) fn bill(&self, tenant: &str, month: &str) -> Vec<String> {
        bill_of(tenant, month, &|arguments| self.client(arguments))
    }

    /// Stops every role cleanly.
    pub(crate) fn stop(self) -> Servers {
        for role in self.consumers.into_iter().chain([self.ingestor, self.query, self.pricing]) {
            let log = role.stderr();
            assert_eq!(role.stop(), 0, "{log}");
        }
        self.servers
    }

    fn logs(&self) -> String {
        self.consumers.iter().map(Server::stderr).collect::<Vec<_>>().join("\n---\n")
    }
}

/// Waits until something is so, and fails when it does not come to that.
#[track_caller]
pub(crate) fn until(what: &str, is_so: impl Fn() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < SOON, "not within {SOON:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn named(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set; make test-cluster sets it"))
}

fn role(servers: &Servers, place: PathBuf, arguments: &[&str]) -> Result<Server, Ran> {
    let mut command = command(arguments);
    command.args(["--admin-addr", "127.0.0.1:0"]).args(&servers.flags);
    Server::try_spawn(command, &place)
}

fn started(name: &str, server: Result<Server, Ran>) -> Server {
    server.unwrap_or_else(|ran| panic!("{name} did not start: {ran:?}"))
}

/// What a server says of a tenant's month, line by line.
pub(crate) fn bill_of(tenant: &str, month: &str, client: &dyn Fn(&[&str]) -> Ran) -> Vec<String> {
    let first = format!("{month}-01T00:00:00Z");
    let window = pulso_domain::window::Window::parse_month(month).expect("a month");
    let next = window.end().to_string();
    let mut lines = Vec::new();
    let mut add = |arguments: &[&str]| {
        let mut all = arguments.to_vec();
        all.extend(["--output", "csv"]);
        lines.extend(client(&all).expect_code(0).stdout.lines().map(str::to_owned));
    };
    for granularity in ["month", "day", "hour"] {
        add(&["usage", tenant, "--from", &first, "--to", &next, "--granularity", granularity]);
    }
    add(&["charges", tenant, "--period", month]);
    add(&["invoice", tenant, &format!("{tenant}-{month}")]);
    lines
}

/// A metric without labels; 0 while it was never set.
pub(crate) fn metric(server: &Server, name: &str) -> f64 {
    let (_, text) = server.admin("/metrics");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0.0, |value| value.parse().expect("a number"))
}
