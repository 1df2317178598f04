//! A `pulso dev` of one test: started on port 0, killed with the test.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pulso_proto::v1::ingest_service_client::IngestServiceClient;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tonic::transport::Channel;

/// How long anything may take that must happen.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// Each test has the machine to itself: a kill must fall on a call, an overload must come from its own callers.
pub(crate) static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// What the server said about its flushes, and its last words.
#[derive(Default)]
pub(crate) struct Heard {
    /// Flushes that began and have not ended.
    pub(crate) flushing: i64,
    /// When the last one began.
    pub(crate) flush_began: Option<Instant>,
    /// The end of what it wrote to stderr.
    pub(crate) tail: Vec<String>,
}

/// A running server.
pub(crate) struct Server {
    child: Child,
    /// Where pulses go.
    pub(crate) ingest: String,
    /// Where REST is.
    pub(crate) api: String,
    /// Where readiness is.
    pub(crate) admin: String,
    heard: Arc<Mutex<Heard>>,
}

impl Server {
    /// Starts on a folder and waits for the ready line.
    pub(crate) fn start(folder: &Path, flags: &[&str]) -> Self {
        Self::try_start(folder, flags).unwrap_or_else(|output| panic!("no ready line: {output}"))
    }

    /// Starts on a folder; what it said when it ends instead of getting ready.
    pub(crate) fn try_start(folder: &Path, flags: &[&str]) -> Result<Self, String> {
        let mut child = Command::new(binary())
            .args(["dev", "--ingest-addr", "127.0.0.1:0", "--api-addr", "127.0.0.1:0"])
            .args(["--admin-addr", "127.0.0.1:0", "--log-level", "info,pulso_ingestor_consumer=debug"])
            .arg("--data-dir")
            .arg(folder)
            .args(flags)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let heard = Arc::new(Mutex::new(Heard::default()));
        let stderr = child.stderr.take().expect("piped");
        let listening = Arc::clone(&heard);
        let listener = thread::spawn(move || {
            BufReader::new(stderr).lines().map_while(Result::ok).for_each(|line| listening.lock().hear(line));
        });
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a readable stdout");
        let Ok(ready) = serde_json::from_str::<Value>(&line) else {
            let status = child.wait().expect("ends");
            listener.join().expect("stderr is read");
            return Err(format!("{status}: {}", heard.lock().tail.join("\n")));
        };
        let address = |name: &str| ready[name].as_str().expect("an address").to_owned();
        Ok(Self { ingest: address("ingest"), api: address("api"), admin: address("admin"), child, heard })
    }

    /// What it said so far.
    pub(crate) fn heard<T>(&self, look: impl FnOnce(&Heard) -> T) -> T {
        look(&self.heard.lock())
    }

    /// A client; connects when it is used.
    pub(crate) fn client(&self) -> IngestServiceClient<Channel> {
        let channel =
            Channel::from_shared(format!("http://{}", self.ingest)).expect("an address").connect_lazy();
        IngestServiceClient::new(channel)
            .max_decoding_message_size(64 << 20)
            .max_encoding_message_size(64 << 20)
    }

    /// Kills it at once.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("can be killed");
        self.child.wait().expect("ends");
    }

    /// Asks it to end, and waits.
    pub(crate) fn terminate(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        let since = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("can be waited for") {
                return status;
            }
            assert!(since.elapsed() < SOON, "does not end after SIGTERM");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("is alive");
    }

    /// The most memory it ever had, in bytes.
    pub(crate) fn memory_peak(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("is alive");
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("Linux tells it");
        let kilobytes: u64 = line.split_whitespace().nth(1).expect("a number").parse().expect("a number");
        kilobytes * 1024
    }

    /// A GET: status and body.
    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        get(&format!("http://{}{path}", self.api)).await
    }

    /// The status of readiness.
    pub(crate) async fn ready_status(&self) -> u16 {
        get(&format!("http://{}/readyz", self.admin)).await.0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Gone already after `kill` or `terminate`.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Heard {
    fn hear(&mut self, line: String) {
        if line.contains("flush begins") {
            self.flushing += 1;
            self.flush_began = Some(Instant::now());
        } else if line.contains("flush ends") {
            self.flushing -= 1;
        } else {
            self.tail.push(line);
            let surplus = self.tail.len().saturating_sub(50);
            self.tail.drain(..surplus);
        }
    }
}

/// The binary under test.
pub(crate) fn binary() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_pulso"))
}

/// Runs `pulso audit` on a folder that no server holds.
pub(crate) fn audit(folder: &Path) -> Output {
    Command::new(binary()).arg("audit").arg("--data-dir").arg(folder).output().expect("the binary starts")
}

async fn get(url: &str) -> (u16, Value) {
    let answer = reqwest::Client::new().get(url).timeout(SOON).send().await.expect("an answer");
    let status = answer.status().as_u16();
    let body = answer.text().await.expect("a body");
    (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
}
