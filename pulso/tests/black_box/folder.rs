//! A data folder that cannot be trusted stops the start: one sentence, exit 1, and nothing in it is changed.

use std::path::Path;

use xxhash_rust::xxh3::xxh3_64;

use crate::harness::{Server, pulse_line, pulso};

/// A folder with one pulse in it, cleanly stopped.
fn filled(data: &Path) {
    let server = Server::start(data);
    server.client_with_input(&["send", "-"], &pulse_line(&[])).expect_code(0);
    assert_eq!(server.stop(), 0);
}

/// Checks that neither a server nor an audit takes the folder, and that the sentence has these words.
#[track_caller]
fn is_refused(data: &Path, words: &[&str]) {
    let start = Server::try_start(data, &[]).expect_err("it must not start");
    let audit = pulso(&["audit", "--data-dir", data.to_str().expect("UTF-8")]);
    for ran in [start, audit] {
        assert_eq!(ran.code, Some(1), "{ran:?}");
        let told = ran.stderr.lines().filter(|line| line.starts_with("error: ")).count();
        assert_eq!(told, 1, "{ran:?}");
        for word in words {
            assert!(ran.stderr.contains(word), "{word:?} in {ran:?}");
        }
    }
}

#[test]
fn a_log_of_a_newer_format_is_left_to_a_newer_binary() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    filled(&data);
    let meta = data.join("log/g1/meta");
    let text = std::fs::read_to_string(&meta).expect("reads");
    let document = text.lines().next().expect("a document");
    let newer = document.replace("\"format\":1", "\"format\":99");
    assert_ne!(newer, document, "the document names its format: {document}");
    std::fs::write(&meta, format!("{newer}\n{:016x}\n", xxh3_64(newer.as_bytes()))).expect("writes");
    is_refused(&data, &["99", "newer"]);
    std::fs::write(&meta, text).expect("writes");
    assert_eq!(Server::start(&data).stop(), 0);
}

#[test]
fn a_damaged_log_is_named_and_not_served() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    filled(&data);
    let meta = data.join("log/g1/meta");
    let mut bytes = std::fs::read(&meta).expect("reads");
    bytes[5] ^= 1;
    std::fs::write(&meta, bytes).expect("writes");
    is_refused(&data, &["damaged", "log/g1/meta"]);
}

#[test]
fn a_store_of_another_log_is_refused_and_a_store_that_is_gone_is_folded_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let (one, other) = (folder.path().join("one"), folder.path().join("other"));
    filled(&one);
    filled(&other);
    std::fs::rename(one.join("store"), folder.path().join("aside")).expect("moves");
    std::fs::rename(other.join("store"), one.join("store")).expect("moves");
    is_refused(&one, &["log"]);
    std::fs::remove_dir_all(one.join("store")).expect("removes");
    let server = Server::start(&one);
    let usage = server.client(&["usage", "acme", "--output", "json"]).expect_code(0).json();
    assert_eq!(usage["usage"][0]["quantity"], "1.5");
    assert_eq!(server.stop(), 0);
    pulso(&["audit", "--data-dir", one.to_str().expect("UTF-8")]).expect_code(0);
}

#[test]
fn a_store_that_is_removed_is_rebuilt_from_the_log_with_catalog_and_charges() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let month = crate::harness::previous_month();
    let server = Server::start_with(&data, &["--accept-past", "65d"]);
    server.client(&["import", "focus", crate::harness::sample(), "--month", &month]).expect_code(0);
    let answers = |server: &Server| {
        let tenants = server.client(&["tenants"]).expect_code(0).stdout;
        let tenant = tenants.split_whitespace().nth(3).expect("a tenant").to_owned();
        let charges =
            server.client(&["charges", &tenant, "--period", &month, "--output", "csv"]).expect_code(0);
        (server.client(&["catalog", "get"]).expect_code(0).stdout, tenants, charges.stdout)
    };
    let before = answers(&server);
    assert!(before.2.lines().count() > 1, "{}", before.2);
    assert_eq!(server.stop(), 0);
    std::fs::remove_dir_all(data.join("store")).expect("removes");
    let server = Server::start(&data);
    let again = ["import", "focus", crate::harness::sample(), "--month", &month];
    let mut after = answers(&server);
    // Rating follows the fold: until it has, charges are those of fewer rows.
    let deadline = std::time::Instant::now() + crate::harness::WAIT_MAX;
    while after.2 != before.2 && std::time::Instant::now() < deadline {
        after = answers(&server);
    }
    assert_eq!(after, before);
    assert_eq!(server.stop(), 0);
    let server = Server::start_with(&data, &["--accept-past", "65d"]);
    server.client(&again).expect_code(0);
    let (_, ledger) = server.get("/v1/ledger");
    assert_eq!(
        (&ledger["total"]["counted"], &ledger["total"]["duplicate"]),
        (&985.into(), &985.into()),
        "{ledger}"
    );
}
