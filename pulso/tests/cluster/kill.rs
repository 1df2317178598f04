//! Consumers that are killed at random moments, that join and leave, that sleep past their session and come back, or that are
//! held up until their channels are full: no total changes.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::fixture::{Cluster, SOON, metric, until};
use crate::harness::{Server, pulse_line};
use crate::held::HeldNode;

/// Pulses of one file.
const FILE_PULSES: usize = 400;
const TENANTS: usize = 7;
/// Between two files: a steady load, that leaves the machine room for the faults.
const FILE_EVERY: Duration = Duration::from_millis(100);

/// Which run this is: its tenants have its name, since tests share the servers.
struct Story<'a> {
    name: &'a str,
    seed: u64,
}

impl Story<'_> {
    fn tenant(&self, number: usize) -> String {
        format!("{}-{number}", self.name)
    }

    /// The n-th file, with what it adds to each tenant; a tenth of it repeats what the file before had.
    fn file(&self, number: usize) -> (String, BTreeMap<String, u64>) {
        let mut lines = String::new();
        let mut added = BTreeMap::new();
        let line = |file: usize, place: usize| {
            let tenant = self.tenant((file + place) % TENANTS);
            let id = format!("{file}-{place}");
            (pulse_line(&[("id", &id), ("tenant_id", &tenant), ("used_amount", "1.25")]), tenant)
        };
        for place in 0..FILE_PULSES {
            let (text, tenant) = line(number, place);
            lines.push_str(&text);
            *added.entry(tenant).or_default() += 1;
        }
        for place in (0..FILE_PULSES / 10).filter(|_| number > 0) {
            lines.push_str(&line(number - 1, place).0);
        }
        (lines, added)
    }

    /// Sends files until it is over, while `disturb` does what it does; then every total is the one that was sent.
    fn tell(&self, mut cluster: Cluster, disturb: impl FnOnce(&mut Cluster, &mut ChaCha8Rng)) {
        let is_over = AtomicBool::new(false);
        let (ingest, mut random) =
            (cluster.ingestor.address("ingest").to_owned(), ChaCha8Rng::seed_from_u64(self.seed));
        let sent = thread::scope(|scope| {
            let sender = scope.spawn(|| {
                let mut sent: BTreeMap<String, u64> = BTreeMap::new();
                for number in 0.. {
                    if is_over.load(Ordering::SeqCst) {
                        break;
                    }
                    let (lines, added) = self.file(number);
                    let send = ["send", "-", "--ingest", &ingest, "--output", "json"];
                    let summary = crate::harness::pulso_with_input(&send, &lines).expect_code(0).json();
                    assert_eq!((&summary["rejected"], &summary["unknown"]), (&0.into(), &0.into()));
                    added.into_iter().for_each(|(tenant, pulses)| *sent.entry(tenant).or_default() += pulses);
                    thread::sleep(FILE_EVERY);
                }
                sent
            });
            disturb(&mut cluster, &mut random);
            is_over.store(true, Ordering::SeqCst);
            sender.join().expect("sends")
        });
        cluster.drain();
        for (tenant, pulses) in &sent {
            assert_eq!(cluster.counted(tenant), *pulses, "{tenant}: lost or doubled");
        }
        let sum: u64 = sent.values().sum();
        let told = format!("{}: {sum} pulses of {} tenants, lost 0, doubled 0", self.name, sent.len());
        writeln!(std::io::stdout(), "{told}").expect("tells");
        cluster.stop().audit();
    }
}

/// A number of the environment: CI does with the usual one.
fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().expect("a number"))
}

#[test]
fn g03_g09_consumers_killed_at_random_moments_lose_and_double_nothing() {
    let story = Story { name: "killed", seed: 20_260_501 };
    story.tell(Cluster::start(2, "topic"), |cluster, random| {
        for _ in 0..number("PULSO_TEST_KILLS", 50) {
            thread::sleep(Duration::from_millis(random.random_range(100..1500)));
            let number = random.random_range(0..cluster.consumers.len());
            cluster.consumers[number].kill();
            cluster.consumers[number] = cluster.consumer();
        }
    });
}

#[test]
fn g03_a_consumer_that_sleeps_past_its_session_and_comes_back_changes_no_total() {
    let story = Story { name: "asleep", seed: 7 };
    story.tell(Cluster::start(2, "topic"), |cluster, random| {
        for round in 0..4 {
            thread::sleep(Duration::from_millis(random.random_range(500..1500)));
            let pid = cluster.consumers[round % 2].pid();
            signal(pid, rustix::process::Signal::STOP);
            // The brokers' session here is 3 s: the other one has its partitions by then.
            thread::sleep(Duration::from_secs(8));
            signal(pid, rustix::process::Signal::CONT);
        }
    });
}

/// A consumer falls asleep within a flush, which does not reach the store before another one has its partitions and has written
/// its own checkpoints. Then rows and runs of the sleeper land behind these, and lose; and it wakes and works on.
#[test]
fn g03_a_row_and_a_run_of_a_sleeper_land_behind_the_new_owners_checkpoint_and_change_no_total() {
    let mut cluster = Cluster::start(0, "topic");
    let mut node = None;
    let sleeper = cluster.consumer_through(|nodes| node.insert(HeldNode::start(nodes)).address().to_owned());
    let (pid, node) = (sleeper.pid(), node.expect("it is started with the consumer"));
    cluster.consumers.push(sleeper);
    let writes = || ["usage", "id_runs"].map(|table| node.writes(table));
    Story { name: "late", seed: 17 }.tell(cluster, |cluster, _| {
        thread::sleep(Duration::from_secs(3));
        node.hold();
        until("a flush has rows and runs on their way", || writes().iter().all(|(held, _)| *held > 0));
        signal(pid, rustix::process::Signal::STOP);
        let ends = offsets(cluster, "end_offset");
        assert_ne!(offsets(cluster, "folded_offset"), ends, "the sleeper has nothing unfinished");
        let owner = cluster.consumer();
        cluster.consumers.push(owner);
        until("every checkpoint is another's", || {
            offsets(cluster, "folded_offset").iter().zip(&ends).all(|(folded, end)| folded >= end)
        });
        assert!(writes().iter().all(|(_, landed)| *landed == 0), "{:?}", writes());
        node.release();
        until("a row and a run of the sleeper have landed", || {
            writes().iter().all(|(_, landed)| *landed > 0)
        });
        let told = format!("late: held and landed of the sleeper: rows and runs {:?}", writes());
        writeln!(std::io::stdout(), "{told}").expect("tells");
        let folded = || metric(&cluster.consumers[0], "pulso_consumer_records_total");
        signal(pid, rustix::process::Signal::CONT);
        let before = folded();
        until("the sleeper works on", || folded() > before);
        thread::sleep(Duration::from_secs(3));
    });
}

/// This offset of each partition.
fn offsets(cluster: &Cluster, name: &str) -> Vec<u64> {
    let ledger = cluster.ledger();
    let partitions = ledger["partitions"].as_array().expect("partitions");
    partitions.iter().map(|partition| partition[name].as_u64().expect("an offset")).collect()
}

#[test]
fn g03_g16_two_to_four_consumers_that_join_and_leave_lose_and_double_nothing() {
    let story = Story { name: "moving", seed: 11 };
    story.tell(Cluster::start(2, "topic"), |cluster, random| {
        let seconds = number("PULSO_TEST_MOVING_SECONDS", 75);
        let (since, mut moves) = (Instant::now(), 0);
        while since.elapsed() < Duration::from_secs(seconds) {
            thread::sleep(Duration::from_millis(random.random_range(200..2500)));
            let members = cluster.consumers.len();
            if members == 2 || (members < 4 && random.random_bool(0.5)) {
                let consumer = cluster.consumer();
                cluster.consumers.push(consumer);
            } else {
                let leaving = cluster.consumers.remove(random.random_range(0..members));
                assert_eq!(leaving.stop(), 0);
            }
            moves += 1;
        }
        writeln!(std::io::stdout(), "moving: {moves} joined or left").expect("tells");
    });
}

#[test]
fn g03_g11_a_consumer_whose_channels_are_full_waits_and_loses_and_doubles_nothing() {
    let story = Story { name: "full", seed: 13 };
    let mut cluster = Cluster::start(0, "grpc");
    // One worker, since the reader waits as soon as one channel is full: of two, the other one would stay half empty.
    let consumer = cluster.consumer_with(&["--workers", "1"]);
    cluster.consumers.push(consumer);
    story.tell(cluster, |cluster, _| {
        // Pricing sleeps, so nothing is handed over, no flush ends, and what is read piles up in front of the fold.
        signal(cluster.pricing.pid(), rustix::process::Signal::STOP);
        let (queue, limit) = ("pulso_consumer_queue_batches", "pulso_consumer_queue_batches_limit");
        let since = Instant::now();
        let is_full = |consumer: &Server| metric(consumer, queue) >= metric(consumer, limit).max(1.0);
        while !is_full(&cluster.consumers[0]) {
            assert!(since.elapsed() < SOON, "{}", cluster.consumers[0].stderr());
            thread::sleep(Duration::from_millis(200));
        }
        thread::sleep(Duration::from_secs(2));
        assert!(is_full(&cluster.consumers[0]), "and no further");
        signal(cluster.pricing.pid(), rustix::process::Signal::CONT);
    });
}

/// Sends a signal to a role.
pub(crate) fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).expect("a process");
    rustix::process::kill_process(pid, signal).expect("it is there");
}
