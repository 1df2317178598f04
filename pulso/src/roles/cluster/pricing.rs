//! `pulso pricing`: rates what consumers hand over, by the topic or directly, and finds in the store what got lost on the way.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::bounded;
use prost::Message;
use pulso_platform::log::LayoutBook;
use pulso_platform::log::kafka::KafkaSettings;
use pulso_platform::log::kafka::usage::{UsageRead, UsageReader};
use pulso_platform::service::settings::ProcessSettings;
use pulso_platform::service::tasks::Stage;
use pulso_pricing::door::{self, Gather, Intake};
use pulso_pricing::service::{PricingService, Settings as PricingSettings};
use pulso_proto::v1;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::settings::{ClusterFlags, NetworkFlags};
use super::shared::{Cluster, Opened, blocking, log_failure, open};
use crate::cli::exit::Failure;
use crate::roles::host::{Host, bind};

/// Checkpoints that wait to be rated before those who hand over have to wait.
const CHANGES_MAX: usize = 256;
/// How long folded usage may lie that nobody handed over.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// How soon a stop is seen.
const POLL_WAIT: Duration = Duration::from_millis(100);
/// Those who rate share the topic.
const GROUP: &str = "pulso-pricing";

/// Flags of `pulso pricing`.
#[derive(clap::Args, Clone, Debug, Serialize)]
#[command(after_help = "\
Prints one line of JSON on stdout when it can serve. Ctrl-C stops it cleanly, a second one forces.
Usage comes in by the topic usage-aggregates, by gRPC (pulso.v1.PricingService) and by HTTP (POST /v1/usage-records).

Examples:
  pulso pricing --kafka-brokers 127.0.0.1:9092 --cql-nodes 127.0.0.1:9042")]
pub struct PricingArgs {
    /// Where log and store are.
    #[command(flatten)]
    #[serde(flatten)]
    pub cluster: ClusterFlags,
    /// Address that takes usage by gRPC and HTTP; port 0 takes a free one
    #[arg(long, env = "PULSO_PRICING_ADDR", value_name = "IP:PORT", default_value = "127.0.0.1:7072")]
    pub pricing_addr: SocketAddr,
    /// What every server has.
    #[command(flatten)]
    #[serde(flatten)]
    pub process: ProcessSettings,
    /// Who may reach it.
    #[command(flatten)]
    #[serde(flatten)]
    pub network: NetworkFlags,
}

/// Binds, opens log and store, and rates.
pub(super) async fn start(args: &PricingArgs) -> Result<(Host, Cluster), Failure> {
    let listener = bind(args.pricing_addr, "--pricing-addr").await?;
    let host = Host::start(&args.process, &[("pricing", &listener)]).await?;
    let Opened { cluster, log, store, .. } = open(&args.cluster).await?;
    let layouts = LayoutBook::of(log);
    let settings = PricingSettings {
        store: Arc::clone(&store),
        log: None,
        layouts: layouts.clone(),
        fold_wait: Duration::ZERO,
        sweep_every: Some(SWEEP_EVERY),
        rates: true,
    };
    let pricing = blocking(move || PricingService::open(settings)).await?.map_err(Failure::failed)?;
    let (changed, changes) = bounded(CHANGES_MAX);
    let intake = Intake::new(changed, layouts);
    host.start_store_watch(store)?;
    host.start_pricing(pricing, changes)?;
    start_topic(&host, args.cluster.kafka.clone(), intake.clone()).await?;
    let stop = host.tasks.stop_of(Stage::Accept);
    host.tasks.spawn(Stage::Accept, "usage", async { Ok(door::serve(intake, listener, stop).await?) });
    Ok((host, cluster))
}

/// Reads usage from the topic, until the role is to take nothing more.
async fn start_topic(host: &Host, kafka: KafkaSettings, intake: Intake) -> Result<(), Failure> {
    let reader = blocking(move || UsageReader::join(&kafka, GROUP)).await?;
    let mut reader = reader.map_err(|error| log_failure(&error))?;
    let stop = host.tasks.stop_of(Stage::Work);
    let read = move || {
        read_topic(&mut reader, &intake, &stop);
        Ok(())
    };
    host.tasks.spawn_blocking(Stage::Work, "usage-topic", read).map_err(Failure::failed)
}

/// What is committed is what was queued: what is lost with this process is found in the store.
fn read_topic(reader: &mut UsageReader, intake: &Intake, stop: &CancellationToken) {
    let mut gather = Gather::default();
    while !stop.is_cancelled() {
        for UsageRead { partition, offset, value } in reader.poll(POLL_WAIT) {
            let update = match v1::UsageUpdate::decode(value) {
                Ok(update) => update,
                Err(error) => {
                    // Foreign bytes: nothing of ours is lost with them.
                    tracing::warn!(partition, offset, %error, "a message of the usage topic is no usage");
                    continue;
                }
            };
            let Some(whole) = gather.take(partition, update) else { continue };
            match intake.take_waiting(&whole) {
                Ok(true) => reader.done(partition, offset + 1),
                Ok(false) => return,
                Err(refusal) => tracing::warn!(partition, offset, %refusal, "usage is not taken"),
            }
        }
    }
}
