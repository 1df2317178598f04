//! `pulso query`: serves the REST API and its start page from what the others wrote.

use std::sync::Arc;
use std::time::Duration;

use pulso_ingestor_consumer::archive::Kept;
use pulso_platform::log::LayoutBook;
use pulso_platform::service::clock::Clock;
use pulso_platform::service::settings::{ApiListener, ProcessSettings};
use pulso_platform::service::tasks::Stage;
use pulso_pricing::service::{PricingService, Settings as PricingSettings};
use pulso_query_api::Sources;
use serde::Serialize;

use super::settings::{ClusterFlags, NetworkFlags};
use super::shared::{Cluster, Opened, blocking, open};
use crate::cli::exit::Failure;
use crate::roles::host::{Host, bind};
use crate::roles::settings::QueryFlags;

/// Flags of `pulso query`.
#[derive(clap::Args, Clone, Debug, Serialize)]
#[command(after_help = "\
Prints one line of JSON on stdout when it can serve. Ctrl-C stops it cleanly, a second one forces.

Examples:
  pulso query --kafka-brokers 127.0.0.1:9092 --cql-nodes 127.0.0.1:9042")]
pub struct QueryArgs {
    /// Where log and store are.
    #[command(flatten)]
    #[serde(flatten)]
    pub cluster: ClusterFlags,
    /// Where the REST API is.
    #[command(flatten)]
    #[serde(flatten)]
    pub api: ApiListener,
    /// What every server has.
    #[command(flatten)]
    #[serde(flatten)]
    pub process: ProcessSettings,
    /// What it answers.
    #[command(flatten)]
    #[serde(flatten)]
    pub answering: QueryFlags,
    /// Who may reach it.
    #[command(flatten)]
    #[serde(flatten)]
    pub network: NetworkFlags,
}

/// Binds, opens log and store, and answers.
pub(super) async fn start(args: &QueryArgs) -> Result<(Host, Cluster), Failure> {
    let listener = bind(args.api.api_addr, "--api-addr").await?;
    let host = Host::start(&args.process, &[("api", &listener)]).await?;
    let Opened { cluster, log, store, hash_key } = open(&args.cluster).await?;
    let settings = PricingSettings {
        store: Arc::clone(&store),
        log: None,
        layouts: LayoutBook::of(Arc::clone(&log)),
        fold_wait: Duration::ZERO,
        sweep_every: None,
        rates: false,
    };
    let pricing = blocking(move || PricingService::open(settings)).await?.map_err(Failure::failed)?;
    let (following, stop) = (pricing.clone(), host.tasks.stop_of(Stage::Close));
    let follow = move || {
        following.follow(&stop);
        Ok(())
    };
    host.tasks.spawn_blocking(Stage::Close, "catalog", follow).map_err(Failure::failed)?;
    host.start_store_watch(Arc::clone(&store))?;
    let sources = Sources { log, archive: Kept::InStore, store, clock: Clock::System, hash_key, pricing };
    host.start_api(listener, args.answering.settings(host.grace), sources);
    Ok((host, cluster))
}
