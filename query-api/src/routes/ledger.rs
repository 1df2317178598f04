//! `GET /v1/ledger`: every pulse of the log accounted for, per partition (G2).

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use pulso_domain::fate::FateCounts;
use pulso_domain::position::{partition_generation, partition_index};
use pulso_domain::time::Instant;
use pulso_ingestor_consumer::{halts, lookup};
use pulso_proto::v1;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::Api;
use crate::http::format::json;
use crate::http::params::{Parameters, Strict};
use crate::problem::Problem;
use crate::read::sources::Sources;
use crate::read::wait::Until;

/// Parameters of the ledger.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct LedgerParams {
    /// Waits until this position, a receipt as `[generation:]partition:offset`, is folded.
    #[param(pattern = r"^([0-9]{1,7}:)?[0-9]{1,5}:[0-9]{1,12}$", example = "0:0")]
    wait_for: Option<String>,
}

impl Parameters for LedgerParams {}

/// What became of every pulse.
#[derive(Serialize, ToSchema)]
pub(crate) struct Ledger {
    /// Each partition.
    partitions: Vec<PartitionLedger>,
    /// Their sums.
    total: LedgerTotal,
}

/// One partition. Both offsets are exclusive: equal means that everything is folded.
#[derive(Serialize, ToSchema)]
pub(crate) struct PartitionLedger {
    /// The partition.
    partition: u32,
    /// Its generation.
    generation: u32,
    /// One above the highest durable offset; absent when the log cannot say.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    end_offset: Option<u64>,
    /// One above the highest folded offset.
    folded_offset: u64,
    /// Every fate.
    #[serde(flatten)]
    counts: Counts,
    /// Whether it goes on.
    state: PartitionState,
    /// Why it is halted, and the way out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    halt_reason: Option<String>,
    /// What an operator skipped, for good.
    gaps: Vec<Gap>,
}

/// The sums over all partitions.
#[derive(Serialize, ToSchema)]
pub(crate) struct LedgerTotal {
    /// The sum of the end offsets; absent when one is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    end_offset: Option<u64>,
    /// The sum of the folded offsets.
    folded_offset: u64,
    /// Every fate.
    #[serde(flatten)]
    counts: Counts,
}

/// Pulses by fate: `pulses = counted + duplicate + conflict + dead_lettered`.
#[derive(Serialize, ToSchema)]
pub(crate) struct Counts {
    /// Pulses that have a fate.
    pulses: u64,
    /// Part of totals.
    counted: u64,
    /// Sent again.
    duplicate: u64,
    /// Sent again with another payload.
    conflict: u64,
    /// Kept as dead letters for another reason.
    dead_lettered: u64,
    /// Behind a seal: their fate comes in the next generation.
    moved: u64,
}

/// Whether a partition goes on.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PartitionState {
    /// It folds what comes.
    Ok,
    /// It folds nothing more until someone acts.
    Halted,
}

/// Records that will never be folded.
#[derive(Serialize, ToSchema)]
pub(crate) struct Gap {
    /// The first offset skipped.
    from: u64,
    /// The first offset not skipped.
    to: u64,
    /// Who said so.
    actor: String,
    /// When.
    #[schema(format = "date-time")]
    at: String,
    /// Why.
    note: String,
    /// Everything from the first offset on is given up: the partition's log was lost.
    rest: bool,
}

/// Shows what became of every pulse, per partition.
///
/// The equation `pulses = counted + duplicate + conflict + dead_lettered` holds on every line.
#[utoipa::path(
    get,
    path = "/v1/ledger",
    operation_id = "getLedger",
    tag = "operations",
    params(LedgerParams),
    responses((status = 200, description = "Each partition, and their sums.", body = Ledger)),
)]
pub(crate) async fn get_ledger(
    State(api): State<Arc<Api>>,
    asked: Strict<LedgerParams>,
) -> Result<Response, Problem> {
    api.wait_for(asked.params.wait_for.as_deref(), Until::Folded).await?;
    api.read(|api| {
        let sources = &api.sources;
        let read = sources.log.partitions().into_iter().map(|partition| read(sources, partition));
        let read = read.collect::<Result<Vec<_>, Problem>>()?;
        let mut counts = FateCounts::default();
        read.iter().for_each(|(_, of_partition)| counts.add_counts(of_partition));
        let partitions: Vec<_> = read.into_iter().map(|(partition, _)| partition).collect();
        let total = LedgerTotal {
            end_offset: partitions.iter().map(|partition| partition.end_offset).sum(),
            folded_offset: partitions.iter().map(|partition| partition.folded_offset).sum(),
            counts: shown(&counts),
        };
        json(&Ledger { partitions, total })
    })
    .await
}

fn read(sources: &Sources, partition: u32) -> Result<(PartitionLedger, FateCounts), Problem> {
    let state = lookup::load_state(&*sources.store, partition)?;
    let halt_reason = halts::read(&*sources.store, partition)?;
    // Asked after the state, so that it is never below what is folded. A damaged log is told by the halt.
    let end_offset = match &state {
        // Whatever the log has there now is another one's.
        Some(state) if state.is_given_up() => Some(state.offset),
        _ => sources.log.watermarks(partition).ok().map(|marks| marks.end_offset),
    };
    let counts = state.as_ref().map(|state| state.counts).unwrap_or_default();
    let gaps = state.as_ref().map(|state| state.gaps.iter().map(gap).collect()).unwrap_or_default();
    let ledger = PartitionLedger {
        partition: partition_index(partition),
        generation: partition_generation(partition),
        end_offset,
        folded_offset: state.as_ref().map_or(0, |state| state.offset),
        counts: shown(&counts),
        state: if halt_reason.is_some() { PartitionState::Halted } else { PartitionState::Ok },
        halt_reason,
        gaps,
    };
    Ok((ledger, counts))
}

fn gap(gap: &v1::Gap) -> Gap {
    let seconds = gap.at_nanos.div_euclid(1_000_000_000);
    let at = Instant::new(seconds, 0).unwrap_or(Instant::EPOCH).to_string();
    Gap { from: gap.from, to: gap.to, actor: gap.actor.clone(), at, note: gap.note.clone(), rest: gap.rest }
}

fn shown(counts: &FateCounts) -> Counts {
    Counts {
        pulses: counts.pulses(),
        counted: counts.counted,
        duplicate: counts.duplicate,
        conflict: counts.conflict,
        dead_lettered: counts.dead_lettered,
        moved: counts.moved,
    }
}
