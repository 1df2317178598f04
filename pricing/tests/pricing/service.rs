//! The service: catalogs in store and log, charges that follow usage and catalog, and races that take nothing back.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::support::{Pulse, month, usage};
use bytes::Bytes;
use prost::Message;
use pulso_domain::ids::TenantId;
use pulso_domain::position::Rank;
use pulso_domain::usage::{RowKey, RowSeen, UsageChanged};
use pulso_domain::window::Window;
use pulso_platform::log::embedded::{EmbeddedLog, EmbeddedLogConfig};
use pulso_platform::log::{LayoutBook, Log, LogLayout};
use pulso_platform::service::clock::Clock;
use pulso_platform::store::memory::MemoryStore;
use pulso_platform::store::{Cell, Flush, Store, keys};
use pulso_pricing::catalog::{Format, Mode, Parsed, parse};
use pulso_pricing::invoice::draft_invoices;
use pulso_pricing::service::{PricingError, PricingService, Settings, published};
use pulso_proto::v1;
use tokio_util::sync::CancellationToken;

const LONG: Duration = Duration::from_secs(60);

fn parsed(text: &str) -> Parsed {
    parse(text.as_bytes(), Format::Yaml).expect("good")
}

fn flat(price: &str) -> Parsed {
    parsed(&format!(
        "skus: [{{ product_sku: a, use_unit: GB }}]\n\
         rate_cards: [{{ name: p, currency: BRL, default: true, prices: [{{ product_sku: a,\n\
         valid_from: 2026-01-01T00:00:00Z, model: {{ type: flat, unit_price: \"{price}\" }} }}] }}]\n"
    ))
}

fn service(store: &MemoryStore) -> PricingService {
    PricingService::open(settings(store)).expect("opens")
}

fn settings(store: &MemoryStore) -> Settings {
    let store = Arc::new(store.clone());
    let layouts = LayoutBook::fixed(vec![LogLayout { generation: 1, partitions: 1, log_id: [0; 16] }]);
    Settings { store, log: None, layouts, fold_wait: Duration::ZERO, sweep_every: None, rates: true }
}

fn rank(offset: u64) -> Rank {
    Rank::new(1, offset).expect("small")
}

/// Writes the rows and the month of pulses, as a checkpoint of the fold does.
fn write(store: &MemoryStore, pulses: &[Pulse<'_>]) -> UsageChanged {
    let used = usage(pulses);
    let mut cells = Vec::new();
    for row in used.month_rows.iter().chain(&used.hour_rows) {
        let key = RowKey {
            tenant_id: "acme",
            window: row.window,
            product_sku: &row.product_sku,
            use_unit: &row.use_unit,
            region: &row.region,
        };
        let place = pulso_platform::store::Key::new(
            pulso_platform::store::Table::Usage,
            key.partition_key(),
            key.clustering_key(),
        );
        let value = Bytes::copy_from_slice(&row.usage.encode());
        cells.push((place, Cell { version: row.usage.hwm.as_u64(), value }));
    }
    let through = rank(pulses.len() as u64);
    let progress =
        v1::Progress { format_version: 1, generation: 1, offset: through.offset(), ..Default::default() };
    let touched = Cell { version: through.as_u64() - 1, value: Bytes::new() };
    cells.push((keys::month(0, "acme", month()), touched));
    let checkpoint =
        vec![(keys::progress(0), Cell { version: through.as_u64(), value: progress.encode_to_vec().into() })];
    store.flush(Flush { cells, checkpoint, ..Flush::default() }).expect("written");
    let months = vec![(TenantId::new("acme").expect("good"), month())];
    UsageChanged { months, ..nothing_changed(through) }
}

fn nothing_changed(through: Rank) -> UsageChanged {
    UsageChanged { partition: 0, through, months: Vec::new(), from: Rank::ZERO, rows: Vec::new() }
}

fn billed(store: &MemoryStore) -> Option<String> {
    let set = published(store, "acme", month()).expect("reads")?;
    Some(set.rated.charges.iter().map(|charge| charge.billed_cost.to_string()).collect::<Vec<_>>().join(" "))
}

/// Runs the service while `body` does.
fn running(service: &PricingService, body: impl FnOnce(&crossbeam_channel::Sender<UsageChanged>)) {
    let (sender, receiver) = crossbeam_channel::unbounded();
    let stop = CancellationToken::new();
    thread::scope(|scope| {
        let handle = scope.spawn(|| service.run(&receiver, &stop));
        body(&sender);
        stop.cancel();
        handle.join().expect("no panic").expect("ends well");
    });
}

#[test]
fn charges_follow_usage_and_then_the_rated_marker_follows_the_charges() {
    let store = MemoryStore::new();
    let service = service(&store);
    service.apply(&flat("2"), Mode::Replace).expect("applies");
    running(&service, |sender| {
        sender.send(write(&store, &[("2026-01-01T00", "a", "GB", "", "3")])).expect("runs");
        assert!(service.settled(LONG));
        assert_eq!(billed(&store).as_deref(), Some("6"));
        let more = [("2026-01-01T00", "a", "GB", "", "3"), ("2026-01-02T00", "a", "GB", "", "4")];
        sender.send(write(&store, &more)).expect("runs");
        assert!(service.settled(LONG));
    });
    assert_eq!(billed(&store).as_deref(), Some("14"));
    let marker = store.get(&[keys::rated(0)]).expect("reads").remove(0).expect("there");
    assert_eq!(marker.version, rank(2).as_u64());
}

#[test]
fn an_apply_rates_all_months_again_and_same_documents_change_nothing() {
    let store = MemoryStore::new();
    let service = service(&store);
    write(&store, &[("2026-01-01T00", "a", "GB", "", "3")]);
    running(&service, |_| {
        let first = service.apply(&flat("2"), Mode::Replace).expect("applies");
        assert_eq!((first.version, first.changes.len()), (1, 3));
        assert!(service.settled(LONG));
        assert_eq!(billed(&store).as_deref(), Some("6"));
        service.apply(&flat("5"), Mode::Merge).expect("applies");
        assert!(service.settled(LONG));
    });
    assert_eq!(billed(&store).as_deref(), Some("15"));
    let again = service.apply(&flat("5"), Mode::Replace).expect("applies");
    assert_eq!((again.version, again.changes.len()), (2, 0));
    assert_eq!(service.accepts_unit("a", "MB"), Some(true));
    assert_eq!(service.accepts_unit("a", "Hours"), Some(false));
    assert_eq!(service.accepts_unit("b", "Hours"), None);
}

#[test]
fn a_catalog_applied_where_nobody_rates_is_settled_once_someone_has_rated_every_month() {
    let store = MemoryStore::new();
    write(&store, &[("2026-01-01T00", "a", "GB", "", "3")]);
    let door = PricingService::open(Settings { rates: false, ..settings(&store) }).expect("opens");
    door.apply(&flat("2"), Mode::Replace).expect("applies");
    assert!(!door.settled(Duration::from_millis(50)), "nobody rates yet");
    // Whoever rates starts after the apply, or takes it over while it runs.
    let rater = service(&store);
    running(&rater, |_| {
        assert!(door.settled(LONG));
        assert_eq!(billed(&store).as_deref(), Some("6"));
        door.apply(&flat("5"), Mode::Replace).expect("applies");
        assert!(door.settled(LONG));
        assert_eq!(billed(&store).as_deref(), Some("15"));
    });
    let other = PricingService::open(Settings { rates: false, ..settings(&store) }).expect("opens");
    assert_eq!(other.catalog().version(), 2);
}

#[test]
fn what_was_left_over_is_rated_at_the_start_and_the_marker_catches_up() {
    let store = MemoryStore::new();
    service(&store).apply(&flat("2"), Mode::Replace).expect("applies");
    write(&store, &[("2026-01-01T00", "a", "GB", "", "3")]);
    let service = service(&store);
    assert_eq!(service.catalog().version(), 1);
    running(&service, |_| {
        // The catch-up is over when a change sent behind it is.
        assert!(service.settled(LONG) || billed(&store).is_some());
    });
    running(&service, |sender| {
        sender.send(nothing_changed(rank(9))).expect("runs");
        while store.get(&[keys::rated(0)]).expect("reads")[0]
            .as_ref()
            .is_none_or(|cell| cell.version < rank(9).as_u64())
        {
            assert!(service.settled(LONG));
        }
    });
    assert_eq!(billed(&store).as_deref(), Some("6"));
}

#[test]
fn a_faulty_catalog_is_refused_whole_with_its_lines() {
    let store = MemoryStore::new();
    let service = service(&store);
    let faulty = parsed(
        "rate_cards: [{ name: p, currency: BRL, prices: [\n{ product_sku: a, valid_from: 2026-01-01T00:00:00Z, model: { type: flat, unit_price: \"1\" } }] }]",
    );
    let Err(PricingError::InvalidCatalog(errors)) = service.apply(&faulty, Mode::Replace) else {
        panic!("applied")
    };
    assert_eq!((errors[0].pointer.as_str(), errors[0].line), ("/rate_cards/0/prices/0/product_sku", Some(2)));
    assert_eq!(service.catalog().version(), 0);
    assert!(store.contents().is_empty());
}

#[test]
fn two_services_applying_at_once_leave_one_catalog_per_version() {
    let store = MemoryStore::new();
    let prices: Vec<String> = (1..=16).map(|price| price.to_string()).collect();
    thread::scope(|scope| {
        for price in &prices {
            let service = service(&store);
            scope.spawn(move || {
                while let Err(error) = service.apply(&flat(price), Mode::Replace) {
                    assert!(error.is_retryable(), "{error}");
                }
            });
        }
    });
    let last = service(&store).catalog().version();
    assert_eq!(last, 16, "every apply got its own version");
}

#[test]
fn g07_racing_raters_publish_the_newest_truth_whoever_wins() {
    let store = MemoryStore::new();
    service(&store).apply(&flat("2"), Mode::Replace).expect("applies");
    let pulses: Vec<Pulse<'_>> = (0..50).map(|_| ("2026-01-01T00", "a", "GB", "", "1")).collect();
    let services = [service(&store), service(&store), service(&store)];
    let senders: Vec<_> = services.iter().map(|_| crossbeam_channel::unbounded::<UsageChanged>()).collect();
    let stop = CancellationToken::new();
    thread::scope(|scope| {
        for (service, (_, receiver)) in services.iter().zip(&senders) {
            scope.spawn(|| service.run(receiver, &stop).expect("ends when it is stopped"));
        }
        for count in 1..=pulses.len() {
            let change = write(&store, &pulses[..count]);
            senders.iter().for_each(|(sender, _)| sender.send(change.clone()).expect("runs"));
        }
        services[0].apply(&flat("3"), Mode::Replace).expect("applies");
        for service in &services {
            assert!(service.settled(LONG));
        }
        stop.cancel();
    });
    assert_eq!(billed(&store).as_deref(), Some("150"));
}

#[test]
fn in_one_process_the_catalog_stands_in_the_log_before_the_store() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = EmbeddedLogConfig::new(folder.path(), 1, Clock::System);
    let opened = EmbeddedLog::open(config).expect("opens");
    let log: Arc<dyn Log> = Arc::new(opened.0);
    let store = MemoryStore::new();
    let open = |fold_wait: Duration| {
        let settings = Settings { log: Some(Arc::clone(&log)), fold_wait, ..settings(&store) };
        PricingService::open(settings).expect("opens")
    };
    let end = log.watermarks(0).expect("there").end_offset;
    let service = open(Duration::ZERO);
    if end > 0 {
        assert!(matches!(service.apply(&flat("2"), Mode::Replace), Err(PricingError::NotReady)));
    }
    fold_to(&store, end);
    service.apply(&flat("2"), Mode::Replace).expect("applies");
    let records = log.fetch(0, &[end]).expect("durable");
    let batch = v1::PulseBatch::decode(records[0].value.clone()).expect("a batch");
    let Some(v1::control::Fact::CatalogApplied(applied)) = batch.control.and_then(|control| control.fact)
    else {
        panic!("no catalog")
    };
    let stored = store.get(&[keys::catalog_version(1)]).expect("reads").remove(0).expect("there");
    assert_eq!((applied.version, applied.document), (1, stored.value));
    // A start that has not folded the record yet must not number another catalog the same.
    assert!(matches!(open(Duration::ZERO).apply(&flat("3"), Mode::Replace), Err(PricingError::NotReady)));
    thread::scope(|scope| {
        // An apply that may wait goes through once the fold has come past the record.
        let waiting = open(LONG);
        let applied = scope.spawn(move || waiting.apply(&flat("3"), Mode::Replace).expect("applies"));
        fold_to(&store, end + 1);
        assert_eq!(applied.join().expect("no panic").version, 2);
    });
}

fn fold_to(store: &MemoryStore, offset: u64) {
    let progress = v1::Progress { format_version: 1, generation: 1, offset, ..Default::default() };
    let cell = Cell { version: rank(offset).as_u64(), value: progress.encode_to_vec().into() };
    let checkpoint = vec![(keys::progress(0), cell)];
    store.flush(Flush { checkpoint, ..Flush::default() }).expect("written");
}

#[test]
fn a_published_set_makes_the_same_invoice_when_it_is_read_back() {
    let store = MemoryStore::new();
    let service = service(&store);
    service.apply(&parsed(include_str!("../data/catalog.yaml")), Mode::Replace).expect("applies");
    running(&service, |sender| {
        sender.send(write(&store, &[("2026-01-01T00", "egress", "GB", "br-se1", "250.5")])).expect("runs");
        assert!(service.settled(LONG));
    });
    let set = published(&store, "acme", month()).expect("reads").expect("published");
    let invoices = draft_invoices(&set).expect("fits");
    assert_eq!(invoices[0].invoice_id, "acme-2026-01");
    assert_eq!(invoices[0].total.to_fixed(2), "45.09");
    assert_eq!(set.rated.charges[0].window, Window::parse_month("2026-01").expect("good"));
}

/// What a consumer hands over of one checkpoint of `acme`'s month.
fn handed_over(written: &UsageChanged, from: Rank, hwm: Rank) -> UsageChanged {
    let tenant_id = TenantId::new("acme").expect("good");
    let row = ("a".to_owned(), "GB".to_owned(), String::new());
    let rows = vec![RowSeen { tenant_id, month: month(), row, hwm }];
    UsageChanged { from, rows, ..nothing_changed(written.through) }
}

/// Waits until the catch-up of a start is over, so that what is written next is seen only when it is handed over.
fn caught_up(store: &MemoryStore, sender: &crossbeam_channel::Sender<UsageChanged>) {
    let before = rated_through(store);
    sender.send(nothing_changed(Rank::from_u64(before + 1))).expect("runs");
    while rated_through(store) == before {
        thread::yield_now();
    }
}

fn rated_through(store: &MemoryStore) -> u64 {
    store.get(&[keys::rated(0)]).expect("reads").remove(0).map_or(0, |cell| cell.version)
}

#[test]
fn a_record_is_taken_only_with_a_higher_hwm_and_a_marker_ends_the_wait_for_a_duplicate() {
    let store = MemoryStore::new();
    let service = service(&store);
    service.apply(&flat("2"), Mode::Replace).expect("applies");
    running(&service, |sender| {
        caught_up(&store, sender);
        let first = write(&store, &[("2026-01-01T00", "a", "GB", "", "3")]);
        sender.send(handed_over(&first, Rank::ZERO, rank(0))).expect("runs");
        assert!(service.settled(LONG));
        assert_eq!(billed(&store).as_deref(), Some("6"));
        // A record that is known, handed over again, rates nothing: not even rows that grew since.
        write(&store, &[("2026-01-01T00", "a", "GB", "", "3"), ("2026-01-01T00", "a", "GB", "", "4")]);
        sender.send(handed_over(&first, Rank::ZERO, rank(0))).expect("runs");
        sender.send(UsageChanged { from: first.through, ..nothing_changed(rank(1)) }).expect("runs");
        assert!(service.settled(LONG));
        assert_eq!(billed(&store).as_deref(), Some("6"));
        assert_eq!(rated_through(&store), rank(1).as_u64());
    });
}

#[test]
fn what_was_handed_to_someone_who_is_gone_is_found_by_the_next_marker_or_by_the_sweep() {
    let store = MemoryStore::new();
    let before = service(&store);
    before.apply(&flat("2"), Mode::Replace).expect("applies");
    running(&before, |_| assert!(before.settled(LONG)));
    let swept = Settings { sweep_every: Some(Duration::from_millis(20)), ..settings(&store) };
    for sweeps in [false, true] {
        let settings = if sweeps { swept.clone() } else { settings(&store) };
        let service = PricingService::open(settings).expect("opens");
        let (amount, pulses) = if sweeps { ("9", 5) } else { ("4", 2) };
        running(&service, |sender| {
            caught_up(&store, sender);
            let lost = write(&store, &[("2026-01-01T00", "a", "GB", "", amount); 5][..pulses]);
            if !sweeps {
                let next = UsageChanged { from: lost.through, ..nothing_changed(lost.through) };
                sender.send(next).expect("runs");
            }
            while rated_through(&store) < lost.through.as_u64() {
                thread::yield_now();
            }
        });
        assert_eq!(billed(&store).as_deref(), Some(if sweeps { "90" } else { "16" }));
    }
}

#[test]
fn a_store_that_shows_an_older_row_than_was_handed_over_is_not_rated() {
    let store = MemoryStore::new();
    let service = service(&store);
    service.apply(&flat("2"), Mode::Replace).expect("applies");
    running(&service, |sender| {
        caught_up(&store, sender);
        let stale = write(&store, &[("2026-01-01T00", "a", "GB", "", "3")]);
        sender.send(handed_over(&stale, Rank::ZERO, rank(1))).expect("runs");
        assert!(!service.settled(Duration::from_millis(300)));
        assert_eq!((billed(&store), rated_through(&store)), (None, 1));
        write(&store, &[("2026-01-01T00", "a", "GB", "", "3"), ("2026-01-01T00", "a", "GB", "", "4")]);
        assert!(service.settled(LONG));
        assert_eq!(billed(&store).as_deref(), Some("14"));
    });
}
