//! Compares what REST says with the test's own record: every hour, day, month, per resource, the ledger, the fates.

use std::collections::BTreeMap;

use pulso_domain::time::Instant;
use pulso_domain::window::{Level, Window};
use serde_json::Value;

use crate::record::{Copy, Record, Total, decimal};
use crate::senders::now;
use crate::server::Server;

type Totals = BTreeMap<(String, String, String, i64), Total>;

/// Most ids and copies whose fate is asked for one by one.
const FATES_ASKED: usize = 60;

/// Compares everything; the server must have folded all that is in its log.
pub(crate) async fn compare(server: &Server, record: &Record) {
    ledger(server, record).await;
    for level in [Level::Hour, Level::Day, Level::Month] {
        let start = |second| start_of(level, second);
        totals(server, level, false, &record.totals(start, false)).await;
    }
    totals(server, Level::Month, true, &record.totals(|second| start_of(Level::Month, second), true)).await;
    fates(server, record).await;
}

/// Waits until every partition is folded up to its end.
pub(crate) async fn drained(server: &Server) -> Value {
    for _ in 0..3000 {
        let (status, ledger) = server.get("/v1/ledger").await;
        assert_eq!(status, 200, "{ledger}");
        let partitions = ledger["partitions"].as_array().expect("partitions");
        if partitions.iter().all(|one| one["end_offset"] == one["folded_offset"]) {
            return ledger;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the consumer does not come to the end");
}

async fn ledger(server: &Server, record: &Record) {
    let total = drained(server).await["total"].clone();
    let count = |name: &str| total[name].as_u64().unwrap_or_else(|| panic!("{name} of {total}"));
    let (counted, duplicate, conflict) = (count("counted"), count("duplicate"), count("conflict"));
    assert_eq!(count("pulses"), counted + duplicate + conflict + count("dead_lettered"), "G2: {total}");
    assert_eq!(counted, record.accepted.len() as u64, "lost or doubled: {total}");
    assert_eq!(count("dead_lettered"), 0, "{total}");
    // What was never answered may stand in the log or not; everything else is known exactly.
    let (duplicates, conflicts) = (record.copies_of(Copy::Duplicate), record.copies_of(Copy::Conflict));
    assert!((duplicates..=duplicates + record.unanswered).contains(&duplicate), "{total}");
    assert!((conflicts..=conflicts + record.unanswered).contains(&conflict), "{total}");
}

async fn totals(server: &Server, level: Level, by_resource: bool, expected: &Totals) {
    let tenants: std::collections::BTreeSet<&str> =
        expected.keys().map(|(tenant, ..)| tenant.as_str()).collect();
    let mut found = Totals::new();
    for tenant in tenants {
        rows(server, tenant, level, by_resource, &mut found).await;
    }
    assert_eq!(found.len(), expected.len(), "rows of {level:?}");
    for (key, total) in expected {
        assert_eq!(found.get(key), Some(total), "{level:?} {key:?}");
    }
}

async fn rows(server: &Server, tenant: &str, level: Level, by_resource: bool, found: &mut Totals) {
    let border = |second| Window::containing(level, Instant::new(second, 0).expect("now"));
    let (from, to) = (border(now() - 34 * 86_400).start(), border(now()).next().start());
    let group_by = if by_resource { "&group_by=resource_id" } else { "" };
    let query = format!(
        "/v1/tenants/{tenant}/usage?granularity={}&from={from}&to={to}&page_size=1000{group_by}",
        level.as_str()
    );
    let mut page = String::new();
    loop {
        let (status, body) = server.get(&format!("{query}{page}")).await;
        assert_eq!(status, 200, "{query}: {body}");
        for row in body["usage"].as_array().expect("usage") {
            let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
            let window_start = Instant::parse_rfc3339(&text("window_start")).expect("a time").seconds();
            let key = (tenant.to_owned(), text("product_sku"), text("resource_id"), window_start);
            let total = Total {
                thousandths: thousandths(&text("quantity")),
                count: row["count"].as_u64().expect("a count"),
                min: thousandths(&text("min")),
                max: thousandths(&text("max")),
            };
            assert!(found.insert(key, total).is_none(), "twice: {row}");
        }
        match body["next_page_token"].as_str() {
            Some(token) if !token.is_empty() => page = format!("&page_token={token}"),
            _ => return,
        }
    }
}

async fn fates(server: &Server, record: &Record) {
    let step = (record.accepted.len() / FATES_ASKED).max(1);
    for (made, _) in record.accepted.iter().step_by(step) {
        let (tenant, id) = &made.name;
        let (status, body) = server.get(&format!("/v1/tenants/{tenant}/pulses/{id}")).await;
        assert_eq!((status, body["fate"].as_str()), (200, Some("counted")), "{tenant} {id}: {body}");
    }
    let step = (record.copies.len() / FATES_ASKED).max(1);
    for (made, copy, receipt) in record.copies.iter().step_by(step) {
        let (tenant, id) = &made.name;
        let place =
            format!("{}:{}:{}:{}", receipt.generation, receipt.partition, receipt.offset, receipt.index);
        let (status, body) = server.get(&format!("/v1/tenants/{tenant}/pulses/{id}?position={place}")).await;
        let fate = if *copy == Copy::Duplicate { "duplicate" } else { "conflict" };
        assert_eq!((status, body["fate"].as_str()), (200, Some(fate)), "{tenant} {id} {place}: {body}");
    }
}

fn start_of(level: Level, second: i64) -> i64 {
    Window::containing(level, Instant::new(second, 0).expect("now")).start_seconds()
}

/// Reads a decimal of at most three decimals and checks that it is written plainly.
fn thousandths(text: &str) -> i64 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let number = format!("{whole}{fraction:0<3}").parse().expect("a decimal");
    assert_eq!(decimal(number), text, "plain text without superfluous zeros");
    number
}
