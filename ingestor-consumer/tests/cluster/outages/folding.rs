//! Consumers over brokers and nodes that go away: the fold waits, goes on by itself, and counts each pulse once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use pulso_platform::store::Store;
use pulso_platform::store::cql::apart::Apart;
use pulso_platform::store::cql::{CqlSettings, CqlStore, schema};
use pulso_platform::store::memory::MemoryStore;

use super::servers::{Cluster, Kind, SERVERS};
use crate::world::{Member, Place, Sent, World, until};

const PARTITIONS: u32 = 4;
/// How long a log waits for a confirmation by default.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(15);
const KEYSPACE: &str = "pulso_test";

/// An empty store with three copies of everything.
fn store(cluster: &Cluster) -> Arc<dyn Store> {
    let nodes = cluster.nodes();
    let settings = CqlSettings::new(&nodes.iter().map(String::as_str).collect::<Vec<_>>(), KEYSPACE);
    schema::init(&settings, u32::from(SERVERS)).expect("the tables can be made");
    Arc::new(Apart::new(Arc::new(CqlStore::open(&settings).expect("the store opens"))))
}

/// A log on the three brokers.
fn world(cluster: &Cluster, store: Arc<dyn Store>) -> World {
    World::at(Place { brokers: cluster.brokers(), copies: 3, store }, PARTITIONS)
}

/// Sends pulses while `meanwhile` does what it does, each pulse twice in the end and as a client that insists. Gives how many
/// answers were no yes.
fn send_under(world: &World, sent: &mut Sent, meanwhile: impl FnOnce() + Send) -> u32 {
    let first = sent.len() as u32;
    let mut refusals = 0;
    thread::scope(|scope| {
        let trouble = scope.spawn(meanwhile);
        for number in first.. {
            if trouble.is_finished() {
                break;
            }
            refusals += world.insist_on_pulse(sent, number);
            refusals += world.insist_on_pulse(sent, number / 2);
            thread::sleep(Duration::from_millis(5));
        }
        trouble.join().expect("the trouble comes and goes");
    });
    refusals
}

/// Two members that have taken what there is.
fn members(world: &World) -> [Member; 2] {
    let members = [world.join(), world.join()];
    let half = PARTITIONS as usize / 2;
    until("both have their share", || members.iter().all(|member| member.partitions() == half));
    members
}

fn assert_all_went_on(members: &[Member]) {
    let halted = members.iter().flat_map(|member| (0..PARTITIONS).filter_map(|one| member.halt_of(one)));
    assert_eq!(halted.collect::<Vec<_>>(), Vec::<String>::new(), "trouble must never halt a partition");
    let folded: usize = members.iter().map(Member::partitions).sum();
    assert_eq!(folded, PARTITIONS as usize);
}

#[test]
fn g03_killing_brokers_under_clients_that_send_again_counts_each_pulse_once() {
    let cluster = Cluster::take();
    let world = world(&cluster, Arc::new(MemoryStore::default()));
    let members = members(&world);
    let mut sent = BTreeMap::new();
    let refusals = send_under(&world, &mut sent, || {
        for partition in [0, 1] {
            thread::sleep(Duration::from_secs(1));
            cluster.signal(Kind::Kafka, cluster.leader(world.topic(), partition), "KILL");
            thread::sleep(Duration::from_secs(4));
            cluster.start(Kind::Kafka);
        }
        // Longer than a produce may take: some time out, stand in the log all the same, and are sent again.
        [1, 2].into_iter().for_each(|broker| cluster.signal(Kind::Kafka, broker, "KILL"));
        thread::sleep(DELIVERY_TIMEOUT + Duration::from_secs(2));
        cluster.start(Kind::Kafka);
    });
    world.drain();
    println!("{} pulses, {refusals} answers were no yes, {:?}", sent.len(), world.counts());
    assert!(refusals > 0, "the brokers were always there");
    assert_all_went_on(&members);
    members.into_iter().for_each(drop);
    world.assert_totals(&sent);
}

#[test]
fn g12_one_node_of_three_down_holds_nothing_back() {
    let cluster = Cluster::take();
    let world = world(&cluster, store(&cluster));
    let members = members(&world);
    let mut sent = BTreeMap::new();
    send_under(&world, &mut sent, || thread::sleep(Duration::from_secs(1)));
    cluster.signal(Kind::Cassandra, 2, "KILL");
    send_under(&world, &mut sent, || thread::sleep(Duration::from_secs(3)));
    let began = Instant::now();
    world.drain();
    println!("drained {:?} after the last pulse, with a node down", began.elapsed());
    world.assert_totals(&sent);
    send_under(&world, &mut sent, || cluster.start(Kind::Cassandra));
    world.drain();
    assert_all_went_on(&members);
    members.into_iter().for_each(drop);
    world.assert_totals(&sent);
}

/// With all nodes gone the fold waits, pulses are taken all the same, and members keep what is theirs. Then it goes on.
#[test]
fn g12_all_nodes_down_hold_the_fold_back_and_lose_nothing() {
    let cluster = Cluster::take();
    let world = world(&cluster, store(&cluster));
    let members = members(&world);
    let mut sent = BTreeMap::new();
    send_under(&world, &mut sent, || {
        thread::sleep(Duration::from_secs(1));
        (1..=SERVERS).for_each(|node| cluster.signal(Kind::Cassandra, node, "KILL"));
        thread::sleep(Duration::from_secs(4));
        assert!((0..PARTITIONS).all(|partition| !world.is_drained(partition)), "nothing can be folded");
        cluster.start(Kind::Cassandra);
    });
    let began = Instant::now();
    world.drain();
    println!("{} pulses, drained {:?} after the nodes were back", sent.len(), began.elapsed());
    assert_all_went_on(&members);
    members.into_iter().for_each(drop);
    world.assert_totals(&sent);
}

/// A node that takes connections and answers nothing, as in a long collection of garbage: the others are enough.
#[test]
fn g12_a_node_that_sleeps_slows_the_fold_and_stops_nothing() {
    let cluster = Cluster::take();
    let world = world(&cluster, store(&cluster));
    let members = members(&world);
    let mut sent = BTreeMap::new();
    send_under(&world, &mut sent, || thread::sleep(Duration::from_secs(1)));
    cluster.signal(Kind::Cassandra, 3, "STOP");
    send_under(&world, &mut sent, || thread::sleep(Duration::from_secs(3)));
    let began = Instant::now();
    world.drain();
    println!("drained {:?} after the last pulse, with a node asleep", began.elapsed());
    assert_all_went_on(&members);
    cluster.signal(Kind::Cassandra, 3, "CONT");
    world.drain();
    assert_all_went_on(&members);
    members.into_iter().for_each(drop);
    world.assert_totals(&sent);
}
