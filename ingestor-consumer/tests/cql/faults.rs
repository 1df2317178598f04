//! The fold over a real Apache Cassandra in bad weather: late answers, lost answers, cut connections.
//! Each test compares the totals with an own account of what was sent: lost 0, doubled 0.
//!
//! The weather is a proxy before the node of `make test-cluster`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::history::{Account, Dice, KEYSPACE, SHAPE, account_of, empty, history, nodes, try_worker};
use crate::proxy::{Proxy, Weather};
use pulso_ingestor_consumer::fold::halt::Stop;
use pulso_ingestor_consumer::runs;
use pulso_ingestor_consumer::worker::PartitionWorker;
use pulso_platform::log::LogRecord;
use pulso_platform::store::Store;
use pulso_platform::store::cql::{CqlSettings, CqlStore};

const RECORDS: u64 = 300;
/// Longer than any trouble of these tests lasts.
const PATIENCE: Duration = Duration::from_secs(600);

/// How a consumer got through.
#[derive(Default, Debug)]
struct Journey {
    /// Steps that the store could not do, and were tried again.
    retries: u64,
    /// The longest wait for one step.
    longest: Duration,
}

impl Journey {
    /// Tries a step until it works; anything but "not now" fails the test.
    fn insist<T>(&mut self, mut step: impl FnMut() -> Result<T, Stop>) -> T {
        let begun = Instant::now();
        loop {
            match step() {
                Ok(done) => {
                    self.longest = self.longest.max(begun.elapsed());
                    return done;
                }
                Err(Stop::Retry(why)) => {
                    self.retries += 1;
                    assert!(begun.elapsed() < PATIENCE, "still not: {why}");
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(Stop::Halt(halt)) => panic!("trouble must never halt a partition: {halt}"),
            }
        }
    }

    /// Folds all records, flushing every seventh; `before_flush` is told the offset, a multiple of seven. Half of the flushes
    /// that fail are given up with their worker, as in a crash.
    fn fold<S: Store>(&mut self, store: &Arc<S>, log: &[LogRecord], mut before_flush: impl FnMut(u64)) {
        let mut dice = Dice(5);
        let mut worker: PartitionWorker = self.insist(|| try_worker(store));
        loop {
            let offset = worker.fold().state().offset;
            if let Some(record) = log.get(offset as usize) {
                self.insist(|| worker.fold_record(record));
                if !offset.is_multiple_of(7) {
                    continue;
                }
                before_flush(offset);
            }
            match worker.flush() {
                Ok(_) if offset >= log.len() as u64 => return,
                Ok(_) => {}
                Err(Stop::Retry(_)) if dice.below(2) == 0 => {
                    self.retries += 1;
                    worker = self.insist(|| try_worker(store));
                }
                Err(_) => {
                    self.retries += 1;
                    self.insist(|| worker.flush());
                }
            }
            self.insist(|| runs::merge_once(&**store, 0, &SHAPE));
        }
    }
}

/// Folds through the proxy and compares what the node then has, read past the proxy.
fn through(proxy: &Proxy, timeout: Duration, weather: impl FnMut(u64)) -> Journey {
    let (log, account) = history(RECORDS);
    let direct = empty(&nodes());
    let mut settings = CqlSettings::new(&[proxy.address()], KEYSPACE);
    settings.cql_timeout = timeout;
    let behind = CqlStore::open(&settings).expect("the store opens through the proxy");
    let behind = Arc::new(direct.through(Arc::new(behind)));
    let mut journey = Journey::default();
    journey.fold(&behind, &log, weather);
    proxy.set(Weather::Fair);
    assert_exact(&*direct, &account);
    journey
}

#[expect(clippy::print_stdout, reason = "docs/faults.md has the counts")]
fn assert_exact(store: &dyn Store, account: &Account) {
    assert_eq!(&account_of(store), account, "lost or doubled");
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    println!("{test}: {RECORDS} records, lost 0, doubled 0; {:?}", account.counts);
}

#[test]
fn g03_writes_that_time_out_and_were_applied_count_once() {
    let proxy = Proxy::start("127.0.0.1:0", &nodes());
    let journey = through(&proxy, Duration::from_secs(1), |offset| {
        if offset % 42 == 21 {
            proxy.set(Weather::AnswersLost);
            fair_after(&proxy, Duration::from_millis(2500));
        }
    });
    println!("answers lost: {} bytes, {journey:?}", proxy.lost_bytes());
    assert!(journey.retries >= 3, "the weather never met a request: {journey:?}");
    assert!(proxy.lost_bytes() > 0);
}

#[test]
fn g12_a_store_that_is_away_holds_the_fold_back_and_loses_nothing() {
    let proxy = Proxy::start("127.0.0.1:0", &nodes());
    let journey = through(&proxy, Duration::from_secs(2), |offset| {
        if offset % 63 == 28 {
            proxy.set(Weather::Cut);
            fair_after(&proxy, Duration::from_secs(2));
        }
    });
    println!("cut: {journey:?}");
    assert!(journey.retries >= 3, "the weather never met a request: {journey:?}");
}

#[test]
fn g12_a_slow_store_holds_the_fold_back_and_loses_nothing() {
    let proxy = Proxy::start("127.0.0.1:0", &nodes());
    let journey = through(&proxy, Duration::from_secs(10), |offset| {
        proxy.set(if offset % 98 < 49 { Weather::Slow } else { Weather::Fair });
    });
    println!("slow: {journey:?}");
    assert!(journey.longest >= Duration::from_millis(30));
    assert_eq!(journey.retries, 0, "slow is not broken");
}

fn fair_after(proxy: &Proxy, pause: Duration) {
    let weather = proxy.clone();
    std::thread::spawn(move || {
        std::thread::sleep(pause);
        weather.set(Weather::Fair);
    });
}
