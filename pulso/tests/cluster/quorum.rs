//! An ingestor on three brokers of which two go away: what its clients hear meanwhile, and that nothing of it is lost.

use std::time::Instant;

use pulso_proto::v1::ingest_service_client::IngestServiceClient;
use pulso_proto::v1::pulse_result::Status as Fate;
use pulso_proto::v1::{Pulse, SendPulsesRequest};
use tokio::runtime::Runtime;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::fixture::{Cluster, SOON, Servers, until};
use crate::harness::now;

const TENANT: &str = "quorum";

/// A client that sends one pulse at a time.
struct Sender {
    runtime: Runtime,
    client: IngestServiceClient<Channel>,
}

impl Sender {
    fn connect(address: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let door = Channel::from_shared(format!("http://{address}")).expect("an address");
        let channel = runtime.block_on(door.connect()).expect("it listens");
        Self { runtime, client: IngestServiceClient::new(channel) }
    }

    /// What becomes of a pulse that is sent with this id.
    fn send(&mut self, id: &str) -> Result<Fate, Status> {
        let pulse = Pulse {
            id: id.to_owned(),
            tenant_id: TENANT.to_owned(),
            product_sku: "compute-vm".to_owned(),
            used_amount: "1.5".to_owned(),
            use_unit: "Hours".to_owned(),
            occurred_at: Some(now().parse().expect("a time")),
            ..Pulse::default()
        };
        let request = SendPulsesRequest { pulses: vec![pulse], ..SendPulsesRequest::default() };
        let answer = self.runtime.block_on(self.client.send_pulses(request))?;
        Ok(answer.into_inner().results[0].status())
    }
}

/// The first calls may not be known: they were under way as the brokers went. Then clients hear at once that nothing was taken,
/// until the brokers are back; and the ingestor says of itself that it is not ready.
#[test]
fn g05_g12_without_a_quorum_of_brokers_clients_hear_unavailable_and_acks_resume_by_themselves() {
    let cluster = Cluster::start_on(Servers::take_own_three("quorum"), 1, "topic");
    let mut sender = Sender::connect(cluster.ingestor.address("ingest"));
    assert_eq!(sender.send("before").expect("it is taken"), Fate::Accepted);
    let is_ready = || cluster.ingestor.admin("/readyz").0 == 200;
    assert!(is_ready());

    [1, 2].into_iter().for_each(|broker| cluster.servers.signal_broker(broker, "KILL"));
    let (mut ids, since) = (vec!["before".to_owned()], Instant::now());
    let refusal = loop {
        assert!(since.elapsed() < SOON, "nobody says that nothing is taken");
        let id = format!("meanwhile-{}", ids.len());
        let fate = sender.send(&id);
        ids.push(id);
        match fate {
            Ok(fate) => assert_eq!(fate, Fate::Unknown, "two of three brokers are away"),
            Err(refusal) => break refusal,
        }
    };
    assert_eq!(refusal.code(), Code::Unavailable, "{refusal:?}");
    until("the ingestor is not ready", || !is_ready());
    let unknown = ids.len() - 2;

    cluster.servers.start_brokers();
    ids.push("after".to_owned());
    for id in &ids {
        let since = Instant::now();
        while sender.send(id).ok() != Some(Fate::Accepted) {
            assert!(since.elapsed() < SOON, "{id} is not taken\n{}", cluster.ingestor.stderr());
        }
    }
    until("the ingestor is ready again", is_ready);
    cluster.drain();
    let count = cluster.counted(TENANT);
    assert_eq!(count, ids.len() as u64, "lost or doubled");
    println!("quorum: {count} pulses, {unknown} unknown, then {:?}; lost 0, doubled 0", refusal.code());
    cluster.stop().audit();
}
