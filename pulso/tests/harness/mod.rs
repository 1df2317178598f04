//! Drives the real binary: a server on port 0 over a temporary folder, and client commands against it.
//!
//! A server that is dropped is killed, so that a failing test leaves nothing behind. Nothing here sleeps to wait: the
//! ready line, an exit, or an answer is waited for, each with a bound.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Longest wait for anything: a loaded machine is slow, a hang must still end.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(90);

/// How much of a server's log a failing test shows.
const LOG_LINES_SHOWN: usize = 40;

/// A finished command.
#[derive(Debug)]
pub(crate) struct Ran {
    /// Its exit code; `None` when a signal ended it.
    pub(crate) code: Option<i32>,
    /// What it printed.
    pub(crate) stdout: String,
    /// What it told people.
    pub(crate) stderr: String,
}

impl Ran {
    /// Its stdout as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("no JSON ({error}): {self:?}"))
    }

    /// Checks the exit code.
    #[track_caller]
    pub(crate) fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }
}

/// The binary with no setting of the machine that runs the test.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pulso"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PULSO_") || name == "RUST_LOG") {
        command.env_remove(name);
    }
    command.args(arguments);
    command
}

/// Runs a command to its end.
pub(crate) fn pulso(arguments: &[&str]) -> Ran {
    pulso_with_input(arguments, "")
}

/// Runs a command to its end, with this on its stdin.
pub(crate) fn pulso_with_input(arguments: &[&str], input: &str) -> Ran {
    let mut child = command(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_owned();
    // A command that does not read its input closes it: no fault of the test.
    let writer = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output().expect("the binary ends");
    writer.join().expect("writes");
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    ready: Value,
    stdout: Receiver<String>,
    stderr: PathBuf,
}

impl Server {
    /// Starts `pulso dev` on this folder and waits until it can serve.
    pub(crate) fn start(data_dir: &Path) -> Self {
        Self::start_with(data_dir, &[])
    }

    /// As [`Self::start`], with more flags.
    pub(crate) fn start_with(data_dir: &Path, flags: &[&str]) -> Self {
        Self::try_start(data_dir, flags).unwrap_or_else(|ran| panic!("the server did not start: {ran:?}"))
    }

    /// Starts `pulso dev`; gives how it ended when it did before it could serve.
    pub(crate) fn try_start(data_dir: &Path, flags: &[&str]) -> Result<Self, Ran> {
        let folder = data_dir.to_str().expect("UTF-8");
        let mut arguments = vec!["dev", "--data-dir", folder];
        for flag in ["--ingest-addr", "--api-addr", "--admin-addr"] {
            if !flags.contains(&flag) {
                arguments.extend([flag, "127.0.0.1:0"]);
            }
        }
        arguments.extend(flags);
        Self::try_spawn(command(&arguments), data_dir)
    }

    /// Starts any command that prints the ready line.
    pub(crate) fn try_spawn(mut command: Command, data_dir: &Path) -> Result<Self, Ran> {
        // A file, since a pipe that nobody reads would block the server.
        let stderr = data_dir.with_extension("stderr");
        let errors =
            std::fs::File::options().create(true).append(true).open(&stderr).expect("a file for stderr");
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .expect("the binary starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let (sender, stdout) = channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        match stdout.recv_timeout(WAIT_MAX) {
            Ok(line) => {
                let ready = serde_json::from_str(&line).unwrap_or_else(|_| panic!("no ready line: {line:?}"));
                Ok(Self { child, ready, stdout, stderr })
            }
            Err(RecvTimeoutError::Timeout) => {
                let _ = child.kill();
                panic!("no ready line in time; stderr: {}", read(&stderr));
            }
            Err(RecvTimeoutError::Disconnected) => {
                let status = child.wait().expect("ends");
                Err(Ran { code: status.code(), stdout: String::new(), stderr: read(&stderr) })
            }
        }
    }

    /// The ready line.
    pub(crate) fn ready(&self) -> &Value {
        &self.ready
    }

    /// The address of a listener: ingest, api or admin.
    pub(crate) fn address(&self, listener: &str) -> &str {
        self.ready[listener].as_str().expect("the ready line has it")
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it logged so far.
    pub(crate) fn stderr(&self) -> String {
        read(&self.stderr)
    }

    /// Runs a client command against this server.
    pub(crate) fn client(&self, arguments: &[&str]) -> Ran {
        self.client_with_input(arguments, "")
    }

    /// As [`Self::client`], with this on its stdin.
    pub(crate) fn client_with_input(&self, arguments: &[&str], input: &str) -> Ran {
        let mut all = arguments.to_vec();
        if matches!(arguments[0], "send" | "import") {
            all.extend(["--ingest", self.address("ingest")]);
        }
        if arguments[0] != "send" {
            all.extend(["--api", self.address("api")]);
        }
        pulso_with_input(&all, input)
    }

    /// Asks the REST API; gives the status and the document.
    pub(crate) fn get(&self, path: &str) -> (u16, Value) {
        let (status, body) = http_get(self.address("api"), path);
        (status, serde_json::from_str(&body).unwrap_or(Value::Null))
    }

    /// Asks the admin listener; gives the status and the text.
    pub(crate) fn admin(&self, path: &str) -> (u16, String) {
        http_get(self.address("admin"), path)
    }

    /// Kills it at once, as a power loss of the process would: no handler runs.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends SIGTERM and does not wait.
    pub(crate) fn terminate(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
    }

    /// Waits for its end, at most this long; `None` when it runs on.
    pub(crate) fn wait(&mut self, longest: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + longest;
        // stdout is closed by the end of the process: no polling.
        while let Some(left) = deadline.checked_duration_since(Instant::now()) {
            match self.stdout.recv_timeout(left) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => return self.child.wait().ok(),
                Err(RecvTimeoutError::Timeout) => break,
            }
        }
        None
    }

    /// Stops it cleanly and gives its exit code.
    pub(crate) fn stop(mut self) -> i32 {
        self.terminate();
        let status = self.wait(WAIT_MAX).expect("it stops");
        status.code().expect("an exit code")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let (name, log) = (self.stderr.file_stem().unwrap_or_default(), self.stderr());
            let lines: Vec<&str> = log.lines().collect();
            let last = lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n");
            let _ = writeln!(std::io::stderr(), "--- {}\n{last}", name.display());
        }
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// One HTTP request without a library in between.
pub(crate) fn http_get(address: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("the server listens");
    stream.set_read_timeout(Some(WAIT_MAX)).expect("a timeout");
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\nAccept: application/json\r\n\r\n")
        .expect("sends");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("answers");
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    (status, body.to_owned())
}

/// Posts a body to the events' listener; gives the status and the document.
pub(crate) fn post_event(server: &Server, content_type: &str, body: &str) -> (u16, Value) {
    post_event_to(server.address("events"), content_type, body)
}

/// The same by the listener's address.
pub(crate) fn post_event_to(address: &str, content_type: &str, body: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(address).expect("the server listens");
    stream.set_read_timeout(Some(WAIT_MAX)).expect("a timeout");
    let length = body.len();
    write!(
        stream,
        "POST /v1/events HTTP/1.0\r\nHost: {address}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .expect("sends");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    (status, serde_json::from_str(body).expect("JSON"))
}

/// The shipped sample bill.
pub(crate) fn sample() -> &'static str {
    concat!(env!("CARGO_MANIFEST_DIR"), "/data/focus-1.0-sample.csv")
}

/// A pulse as NDJSON, with changes to a good one.
pub(crate) fn pulse_line(changes: &[(&str, &str)]) -> String {
    let mut fields = HashMap::from([
        ("id", "p-1".to_owned()),
        ("tenant_id", "acme".to_owned()),
        ("product_sku", "block-storage".to_owned()),
        ("used_amount", "1.5".to_owned()),
        ("use_unit", "GiB-Hours".to_owned()),
        ("occurred_at", now()),
    ]);
    for (name, value) in changes {
        fields.insert(name, (*value).to_owned());
    }
    serde_json::to_string(&fields).expect("plain texts") + "\n"
}

/// Now, as RFC 3339.
pub(crate) fn now() -> String {
    pulso_platform::service::clock::Clock::System.now().to_string()
}

/// This month's predecessor, as the clock has it.
pub(crate) fn previous_month() -> String {
    use pulso_domain::window::{Level, Window};
    let now = pulso_platform::service::clock::Clock::System.now();
    let current = Window::containing(Level::Month, now);
    Window::from_index(Level::Month, current.index() - 1).to_string()
}
