//! Apache Cassandra of a test's own, by the scripts of `deploy/local`: for what must not meet other tests.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

/// Which servers to start.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Names the folder of their data.
    pub(crate) name: &'static str,
    /// 1 or 3, at 127.0.0.1 to 127.0.0.3.
    pub(crate) nodes: u32,
    /// More lines for `cassandra.yaml`.
    pub(crate) extra: String,
}

/// Running nodes; stopped and wiped when dropped.
#[derive(Debug)]
struct Nodes {
    plan: Plan,
    /// Of CQL; the next one is between nodes, and those behind it are of JMX.
    port: u16,
}

/// Owns the nodes.
#[derive(Debug)]
pub(crate) struct Servers(Nodes);

impl Servers {
    /// Starts the nodes and waits until they serve.
    pub(crate) fn start(plan: Plan) -> Self {
        let servers = Self(Nodes { plan, port: free_ports() });
        servers.0.start();
        servers
    }

    /// The first node.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.0.port)
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.0.run(&["stop", "--wipe"]);
    }
}

impl Nodes {
    fn start(&self) {
        self.run(&["start", "--nodes", &self.plan.nodes.to_string()]);
    }

    fn run(&self, arguments: &[&str]) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/local/cassandra.sh");
        let data = std::env::temp_dir().join(format!("{}-{}", self.plan.name, self.port));
        let done = Command::new(script)
            .args(arguments)
            .arg("--data")
            .arg(data)
            .env("CASSANDRA_PORT", self.port.to_string())
            .env("CASSANDRA_STORAGE_PORT", (self.port + 1).to_string())
            .env("CASSANDRA_JMX_PORT", (self.port + 2).to_string())
            .env("CASSANDRA_HEAP", "512m")
            // A machine that builds at the same time is slow to start three of them.
            .env("CASSANDRA_READY_S", "600")
            .env("CASSANDRA_EXTRA", &self.plan.extra)
            .output()
            .expect("the script runs");
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "cassandra.sh {arguments:?} failed: {said}");
    }
}

/// The first of five ports that nobody uses: nodes listen at addresses of their own, so that one set serves all.
fn free_ports() -> u16 {
    let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let first = 21_000 + u16::try_from(std::process::id() % 500).unwrap_or_default() * 10;
    let mut candidates = (first..30_000).step_by(10);
    candidates.find(|port| (*port..port + 5).all(is_free)).expect("five free ports")
}
