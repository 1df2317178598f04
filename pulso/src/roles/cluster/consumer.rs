//! `pulso consumer`: folds the partitions that its group gives it.

use std::sync::Arc;
use std::time::Duration;

use pulso_ingestor_consumer::archive::Kept;
use pulso_ingestor_consumer::halts::Halts;
use pulso_ingestor_consumer::handoff::direct::Direct;
use pulso_ingestor_consumer::handoff::grpc::GrpcPush;
use pulso_ingestor_consumer::handoff::http::HttpPush;
use pulso_ingestor_consumer::handoff::topic::TopicHandoff;
use pulso_ingestor_consumer::handoff::{Handoff, Outlet};
use pulso_ingestor_consumer::letter_topic;
use pulso_ingestor_consumer::pipeline::{ConsumerConfig, ConsumerDeps};
use pulso_ingestor_consumer::schedule::Schedule;
use pulso_platform::log::kafka::{DEFAULT_TOPIC, KafkaSettings};
use pulso_platform::service::settings::{ProcessSettings, parse_duration};
use serde::{Serialize, Serializer};

use super::settings::{ClusterFlags, NetworkFlags};
use super::shared::{Cluster, Opened, blocking, log_failure, open};
use crate::cli::exit::Failure;
use crate::roles::host::Host;
use crate::roles::settings::{ConsumerFlags, as_text};

/// Flags of `pulso consumer`.
#[derive(clap::Args, Clone, Debug, Serialize)]
#[command(after_help = "\
Prints one line of JSON on stdout when it can work. Ctrl-C stops it cleanly, a second one forces.
With --every and --online-for it reads in bursts, all consumers at the same time; while it is offline the log keeps what
comes, and pulso_consumer_backlog_records and pulso_consumer_backlog_age_seconds say how much and how old.

Examples:
  pulso consumer --kafka-brokers 127.0.0.1:9092 --cql-nodes 127.0.0.1:9042 --workers 4
  pulso consumer --kafka-brokers 127.0.0.1:9092 --handoff grpc --pricing http://pricing:7072
  pulso consumer --kafka-brokers 127.0.0.1:9092 --every 1h --online-for 5m")]
pub struct ConsumerArgs {
    /// Where log and store are.
    #[command(flatten)]
    #[serde(flatten)]
    pub cluster: ClusterFlags,
    /// What every server has.
    #[command(flatten)]
    #[serde(flatten)]
    pub process: ProcessSettings,
    /// How it folds.
    #[command(flatten)]
    #[serde(flatten)]
    pub folding: ConsumerFlags,
    /// How usage goes to pricing.
    #[command(flatten)]
    #[serde(flatten)]
    pub handing: HandoffFlags,
    /// Reads in bursts, one in each span of this length; always when it is not given
    #[arg(long, env = "PULSO_EVERY", value_name = "DURATION", value_parser = parse_duration, requires = "online_for")]
    #[serde(serialize_with = "as_text_or_null")]
    pub every: Option<Duration>,
    /// How long a burst lasts
    #[arg(long, env = "PULSO_ONLINE_FOR", value_name = "DURATION", value_parser = parse_duration, requires = "every")]
    #[serde(serialize_with = "as_text_or_null")]
    pub online_for: Option<Duration>,
    /// Who may reach it.
    #[command(flatten)]
    #[serde(flatten)]
    pub network: NetworkFlags,
}

/// How usage goes to pricing.
#[derive(clap::Args, Clone, Debug, Serialize)]
pub struct HandoffFlags {
    /// The way that usage records go to pricing
    #[arg(long, env = "PULSO_HANDOFF", value_name = "WAY", default_value = "topic", value_enum)]
    pub handoff: HandoffWay,
    /// Where pricing is, with --handoff grpc or http
    #[arg(long, env = "PULSO_PRICING", value_name = "URL", default_value = "http://127.0.0.1:7072")]
    pub pricing: String,
}

/// The ways.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HandoffWay {
    /// By the topic usage-aggregates.
    Topic,
    /// By `pulso.v1.PricingService`.
    Grpc,
    /// By `POST /v1/usage-records`.
    Http,
}

impl HandoffFlags {
    /// The hand-off that they ask for. Blocks while brokers are asked; within a run time.
    ///
    /// # Errors
    /// When the address is none, or the topic is not there.
    pub fn to(&self, kafka: &KafkaSettings) -> Result<Arc<dyn Handoff>, Failure> {
        let address = |error: String| Failure::usage(format!("--pricing {}: {error}", self.pricing));
        Ok(match self.handoff {
            HandoffWay::Topic => Arc::new(TopicHandoff::open(kafka).map_err(|error| log_failure(&error))?),
            HandoffWay::Grpc => Arc::new(Direct::new(GrpcPush::new(&self.pricing).map_err(address)?)),
            HandoffWay::Http => Arc::new(Direct::new(HttpPush::new(&self.pricing).map_err(address)?)),
        })
    }
}

/// Opens log and store, and folds.
pub(super) async fn start(args: &ConsumerArgs) -> Result<(Host, Cluster), Failure> {
    let schedule =
        args.every.zip(args.online_for).map(|(every, online_for)| Schedule::new(every, online_for));
    let schedule = schedule.transpose().map_err(Failure::usage)?;
    let host = Host::start(&args.process, &[]).await?;
    let Opened { cluster, log, store, hash_key } = open(&args.cluster).await?;
    let (handing, kafka) = (args.handing.clone(), args.cluster.kafka.clone());
    let handoff = blocking(move || handing.to(&kafka)).await??;
    let kafka = args.cluster.kafka.clone();
    let letters = blocking(move || letter_topic::open(&kafka, DEFAULT_TOPIC)).await?;
    let letters = Some(letters.map_err(|error| log_failure(&error))?);
    let halts: Arc<Halts> = Arc::default();
    host.start_store_watch(Arc::clone(&store))?;
    host.start_watch(Arc::clone(&log), Arc::clone(&halts));
    let config = ConsumerConfig { archive: Kept::InStore, schedule, ..args.folding.config() };
    let handoff = Outlet::Confirmed(handoff);
    host.start_consumer(config, ConsumerDeps { log, store, hash_key, handoff, letters, halts })?;
    Ok((host, cluster))
}

fn as_text_or_null<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => as_text(duration, serializer),
        None => serializer.serialize_none(),
    }
}
