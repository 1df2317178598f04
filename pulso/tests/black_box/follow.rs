//! `pulso send --follow` against the real binary: rotation, an emptied file, kills of the sender and of the server. What
//! was written is counted, each once.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Server, WAIT_MAX, command, pulse_line, pulso};

/// A running `pulso send --follow`; dropped it is killed.
struct Follower(Child);

impl Follower {
    fn start(ingest: &str, file: &Path) -> Self {
        let file = file.to_str().expect("UTF-8");
        let mut command = command(&["send", "--follow", file, "--ingest", ingest, "--output", "json"]);
        Self(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the binary starts"))
    }

    /// Asks it to end and gives its exit code and summary.
    fn stop(mut self) -> (Option<i32>, Value) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
        let mut text = String::new();
        let mut stdout = self.0.stdout.take().expect("piped");
        std::io::Read::read_to_string(&mut stdout, &mut text).expect("reads");
        let status = self.0.wait().expect("it ends");
        (status.code(), serde_json::from_str(&text).expect("a summary"))
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn append(path: &Path, ids: std::ops::Range<u32>) {
    let mut file = File::options().append(true).create(true).open(path).expect("opens");
    for id in ids {
        file.write_all(pulse_line(&[("id", &format!("p-{id}")), ("used_amount", "1")]).as_bytes())
            .expect("writes");
    }
}

/// Counted, and duplicates.
fn fates(server: &Server) -> (u64, u64) {
    let (status, ledger) = server.get("/v1/ledger");
    assert_eq!(status, 200, "{ledger}");
    let of = |name: &str| ledger["total"][name].as_u64().expect("a count");
    (of("counted"), of("duplicate"))
}

fn wait_until_counted(server: &Server, pulses: u64) {
    let deadline = Instant::now() + WAIT_MAX;
    while fates(server).0 < pulses {
        assert!(Instant::now() < deadline, "{:?} of {pulses}", fates(server));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(fates(server).0, pulses);
}

#[test]
fn g03_a_followed_file_is_counted_once_over_rotations_kills_and_an_emptied_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let file = folder.path().join("pulses.ndjson");
    let mut server = Server::start(&data);
    let ingest = server.address("ingest").to_owned();
    append(&file, 0..500);
    let follower = Follower::start(&ingest, &file);
    wait_until_counted(&server, 500);

    // Rotated under the follower, with lines on both sides.
    append(&file, 500..700);
    std::fs::rename(&file, folder.path().join("pulses.ndjson.1")).expect("renames");
    append(&folder.path().join("pulses.ndjson.1"), 700..710);
    append(&file, 710..900);
    wait_until_counted(&server, 900);

    // The sender dies, the file goes on; a later one sends the rest.
    drop(follower);
    append(&file, 900..1000);
    let follower = Follower::start(&ingest, &file);
    wait_until_counted(&server, 1000);

    // The server dies while lines come, and comes back at the same address.
    server.kill();
    append(&file, 1000..1500);
    let server = Server::start_with(&data, &["--ingest-addr", &ingest]);
    wait_until_counted(&server, 1500);

    // Emptied in place, and written anew.
    File::create(&file).expect("empties");
    append(&file, 1500..1510);
    wait_until_counted(&server, 1510);
    let (code, summary) = follower.stop();
    assert_eq!(
        (code, &summary["unknown"], &summary["rejected"]),
        (Some(0), &0.into(), &0.into()),
        "{summary}"
    );

    // A clean stop kept its place: nothing is sent again.
    let before = fates(&server);
    let follower = Follower::start(&ingest, &file);
    append(&file, 1510..1511);
    wait_until_counted(&server, 1511);
    assert_eq!(follower.stop().1["sent"], 1);
    assert_eq!(fates(&server), (1511, before.1));
    assert_eq!(server.stop(), 0);
    pulso(&["audit", "--data-dir", data.to_str().expect("UTF-8")]).expect_code(0);
}

#[test]
fn what_cannot_be_followed_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let csv = folder.path().join("p.csv");
    std::fs::write(&csv, "id\n").expect("writes");
    pulso(&["send", "--follow", csv.to_str().expect("UTF-8")]).expect_code(2);
    pulso(&["send", "--follow", "-"]).expect_code(2);
    pulso(&["send", "--follow", "/nowhere/p.ndjson"]).expect_code(2);
    pulso(&["send", "--position", "x", "p.ndjson"]).expect_code(2);
}
