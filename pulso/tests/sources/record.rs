//! The test's own record of what must come out, and the comparison with what did.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Server, WAIT_MAX, pulse_line, pulso};

/// Pulses and poison that a broker has confirmed.
#[derive(Default)]
pub(crate) struct Record {
    pulses: u64,
    /// The details that only this poison has.
    poison: BTreeSet<String>,
    occurred_at: String,
}

impl Record {
    /// An empty record.
    pub(crate) fn new() -> Self {
        Self { occurred_at: crate::harness::now(), ..Self::default() }
    }

    /// The next pulse: its amount is 1, so that the total is their number.
    pub(crate) fn pulse(&mut self) -> String {
        self.pulses += 1;
        self.again(self.pulses)
    }

    /// An earlier pulse once more, byte for byte.
    pub(crate) fn again(&self, number: u64) -> String {
        let id = format!("p-{number}");
        let tenant = format!("tenant-{}", number % 5);
        let line = pulse_line(&[
            ("id", &id),
            ("tenant_id", &tenant),
            ("used_amount", "1"),
            ("occurred_at", &self.occurred_at),
        ]);
        line.trim_end().to_owned()
    }

    /// The next message that is no pulse: it names a field of its own.
    pub(crate) fn poison(&mut self) -> String {
        let name = format!("poison-{}", self.poison.len());
        let body = format!("{{\"{name}\":1}}");
        self.poison.insert(name);
        body
    }

    /// How many different pulses there are.
    pub(crate) fn pulses(&self) -> u64 {
        self.pulses
    }

    /// Waits until the ledger has counted every pulse, and at least one copy of each poison.
    pub(crate) fn wait_until_folded(&self, server: &Server) {
        let deadline = Instant::now() + WAIT_MAX;
        loop {
            let total = total(server);
            let of = |name: &str| total[name].as_u64().unwrap_or_default();
            assert!(of("counted") <= self.pulses, "doubled: {total}");
            if of("counted") == self.pulses && of("dead_lettered") >= self.poison.len() as u64 {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{} pulses were sent: {total}\n{}",
                self.pulses,
                server.stderr()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Compares everything: lost 0, doubled 0, each poison a dead letter; the audit agrees. Stops the server.
    #[expect(clippy::print_stdout, reason = "docs/faults.md has the counts")]
    pub(crate) fn settle(&self, server: Server, data: &Path) {
        self.wait_until_folded(&server);
        let mut sum = 0;
        for tenant in 0..5 {
            let (status, usage) = server.get(&format!("/v1/tenants/tenant-{tenant}/usage?granularity=month"));
            assert!(status == 200 || self.pulses < 5, "{usage}");
            let rows = usage["usage"].as_array().cloned().unwrap_or_default();
            sum += rows.iter().filter_map(|row| row["quantity"].as_str()?.parse::<u64>().ok()).sum::<u64>();
        }
        assert_eq!(sum, self.pulses, "lost or doubled");
        let ledger = total(&server);
        assert_eq!(ledger["conflict"], 0);
        let found = self.dead_letters(&server);
        assert_eq!(found, self.poison);
        assert_eq!(server.stop(), 0);
        pulso(&["audit", "--data-dir", data.to_str().expect("UTF-8")]).expect_code(0);
        let (test, poison) = (std::thread::current().name().unwrap_or_default().to_owned(), found.len());
        println!("{test}: {} pulses, {} poison, lost 0, doubled 0; {ledger}", self.pulses, poison);
    }

    /// The poison that stands among the dead letters.
    fn dead_letters(&self, server: &Server) -> BTreeSet<String> {
        let (mut found, mut token) = (BTreeSet::new(), String::new());
        loop {
            let (status, page) = server.get(&format!("/v1/dead-letters?page_size=1000{token}"));
            assert_eq!(status, 200, "{page}");
            for letter in page["dead_letters"].as_array().expect("a list") {
                assert_eq!(letter["reason"], "UNDECODABLE", "{letter}");
                let detail = letter["detail"].as_str().expect("a sentence");
                let name = detail.split('`').nth(1).expect("it names the unknown field");
                found.insert(name.to_owned());
            }
            match page["next_page_token"].as_str() {
                Some(next) => token = format!("&page_token={next}"),
                None => return found,
            }
        }
    }
}

/// The ledger's sum.
pub(crate) fn total(server: &Server) -> Value {
    let (status, ledger) = server.get("/v1/ledger");
    assert_eq!(status, 200, "{ledger}");
    ledger["total"].clone()
}

/// Waits until something holds.
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + WAIT_MAX;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
