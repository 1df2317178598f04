//! Going on after a log on Kafka was lost: a topic that was deleted, made again, or cut, so that ranks would fall.
//!
//! What is lost is given up from where it is folded on, with who said so, when and why; the rest is sealed. A next generation
//! begins, so that no rank is taken twice, and its ids are looked up in the old ones, so that nothing counted before is counted
//! again. Every step looks at what is there: a run that was cut off is brought to its end by the next.
//!
//! Nobody may fold a partition while it is given up. Consumers halt one whose log is not what it was by themselves.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use pulso_domain::fingerprint::HashKey;
use pulso_domain::position::partition_generation;
use pulso_platform::log::kafka::{self, GrowStep, Growth, KafkaGenerations, KafkaLogOptions, KafkaSettings};
use pulso_platform::log::{Log, LogError, LogLayout};
use pulso_platform::service::clock::Clock;
use pulso_platform::store::{Flush, Store, keys};
use pulso_proto::v1;

use crate::admin::{Actor, AdminError};
use crate::fold::halt::{Halt, Stop};
use crate::fold::state::FoldState;
use crate::halts::Halts;
use crate::opening::{fold_config, verify};
use crate::worker::PartitionWorker;
use crate::{generations, lookup};

/// How often a partition must be seen lost before it is given up, as often as the watch over an open log looks.
const LOOKS: u32 = 3;
/// Time between two looks.
const BETWEEN_LOOKS: Duration = Duration::from_secs(2);

/// What a log is mended with.
pub struct Mending<'a> {
    /// Where the brokers are.
    pub settings: &'a KafkaSettings,
    /// The log's topic.
    pub topic: &'a str,
    /// The store of the log.
    pub store: Arc<dyn Store>,
    /// The store's secret for id hashes.
    pub hash_key: HashKey,
    /// Who does it.
    pub actor: Actor,
    /// Why, for whoever reads the ledger later.
    pub note: &'a str,
}

/// One partition whose rest was given up.
#[derive(Clone, PartialEq, Debug)]
pub struct GivenUp {
    /// Its number over all generations.
    pub partition: u32,
    /// What was wrong with it.
    pub reason: String,
    /// The gap that the ledger shows.
    pub gap: v1::Gap,
}

/// What mending did.
#[derive(Clone, PartialEq, Debug)]
pub struct Mended {
    /// The newest generation now.
    pub layout: LogLayout,
    /// Whether it was begun now.
    pub begun: bool,
    /// What was given up now.
    pub given_up: Vec<GivenUp>,
}

/// Mends the log. `told` hears of each step of the next generation. Blocks.
///
/// # Errors
/// When nothing is lost, the note is empty, or log or store cannot be used.
pub fn mend(mending: &Mending<'_>, told: &mut dyn FnMut(GrowStep)) -> Result<Mended, AdminError> {
    if mending.note.trim().is_empty() {
        return Err(AdminError::NoNote);
    }
    let (log, losses) = mending.look()?;
    let newest = log.layout();
    let is_hurt = mending.is_hurt(&newest, &losses)?;
    if losses.is_empty() && !is_hurt && mending.unsealed()? == 0 {
        return Err(AdminError::NothingLost);
    }
    // First, so that ingestors go on there as soon as can be.
    let (layout, begun) = if is_hurt { mending.succeed(newest, told)? } else { (newest, false) };
    let layouts = log.generations();
    let given_up = losses.into_iter().map(|(partition, reason)| mending.give_up(&layouts, partition, reason));
    let given_up = given_up.collect::<Result<Vec<_>, _>>()?;
    mending.seal(told)?;
    Ok(Mended { layout, begun, given_up })
}

/// The partitions whose log is not the one that was folded, and why: reading on there would take ranks a second time.
fn losses(log: &KafkaGenerations, store: &dyn Store) -> Result<Vec<(u32, String)>, AdminError> {
    let layouts = log.generations();
    let mut losses = Vec::new();
    for partition in log.partitions() {
        let stored = lookup::load_state(store, partition)?;
        let layout = generations::layout_of(&layouts, partition);
        let log_id = layout.map_or([0; 16], |layout| layout.log_id);
        let state = stored.unwrap_or_else(|| FoldState::first(partition_generation(partition), log_id));
        if !state.is_given_up()
            && let Some(reason) = loss(log, partition, &state)?
        {
            losses.push((partition, reason));
        }
    }
    Ok(losses)
}

fn loss(log: &KafkaGenerations, partition: u32, state: &FoldState) -> Result<Option<String>, Stop> {
    if let Some(sentence) = log.changed(partition) {
        return Ok(Some(sentence));
    }
    match verify(log, partition, state) {
        Ok(()) => Ok(None),
        // Retention has passed the progress: no rank falls, and skipping up to the start is enough.
        Err(Stop::Halt(Halt::LogCut { start, wanted, .. })) if wanted < start => Ok(None),
        Err(Stop::Halt(halt @ (Halt::LogCut { .. } | Halt::LogChanged(_)))) => Ok(Some(halt.to_string())),
        Err(stop) => Err(stop),
    }
}

impl Mending<'_> {
    /// The log as it is, with what was lost of it in each of several looks: a broker that starts, or a leader that has just
    /// woken, may say for a moment what is not so, and what is given up is given up for good.
    fn look(&self) -> Result<(KafkaGenerations, Vec<(u32, String)>), AdminError> {
        let open = || {
            let options =
                KafkaLogOptions { topic: self.topic.to_owned(), to_mend: true, ..KafkaLogOptions::default() };
            KafkaGenerations::open(self.settings, options)
        };
        let mut log = open()?;
        let mut lost = losses(&log, &*self.store)?;
        for _ in 1..LOOKS {
            if lost.is_empty() {
                break;
            }
            thread::sleep(BETWEEN_LOOKS);
            log = open()?;
            let again = losses(&log, &*self.store)?;
            lost.retain(|(partition, _)| again.iter().any(|(other, _)| other == partition));
        }
        Ok((log, lost))
    }

    fn is_folded(&self, partition: u32) -> bool {
        lookup::is_folded_past_its_seal(&*self.store, partition)
    }

    /// Whether anything of the newest generation is lost, now or as an earlier run saw it.
    fn is_hurt(&self, newest: &LogLayout, losses: &[(u32, String)]) -> Result<bool, Stop> {
        if losses.iter().any(|(partition, _)| partition_generation(*partition) == newest.generation) {
            return Ok(true);
        }
        for partition in generations::partitions_of(newest) {
            if lookup::load_state(&*self.store, partition)?.is_some_and(|state| state.is_given_up()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn unsealed(&self) -> Result<usize, LogError> {
        let unfinished = kafka::unfinished(self.settings, self.topic, &|partition| self.is_folded(partition));
        Ok(unfinished?.unsealed.len())
    }

    /// Begins the generation behind this one.
    fn succeed(
        &self,
        newest: LogLayout,
        told: &mut dyn FnMut(GrowStep),
    ) -> Result<(LogLayout, bool), LogError> {
        let report = self.growing(told, |settings, growth| kafka::succeed(settings, growth, newest))?;
        Ok((report.layout, report.begun))
    }

    fn seal(&self, told: &mut dyn FnMut(GrowStep)) -> Result<(), LogError> {
        self.growing(told, kafka::seal_all)
    }

    fn growing<T>(
        &self,
        told: &mut dyn FnMut(GrowStep),
        step: impl FnOnce(&KafkaSettings, Growth<'_>) -> Result<T, LogError>,
    ) -> Result<T, LogError> {
        let is_folded = |partition| self.is_folded(partition);
        let told = &mut |step| {
            told(step);
            Ok(())
        };
        step(self.settings, Growth { topic: self.topic, clock: &Clock::System, is_folded: &is_folded, told })
    }

    /// Gives up the rest of a partition. A rewind of it, which could never come to its end, is dropped.
    fn give_up(&self, layouts: &[LogLayout], partition: u32, reason: String) -> Result<GivenUp, AdminError> {
        self.drop_rewind(partition)?;
        let waits = || Stop::Retry("the generation before it is not folded past its seal".to_owned());
        let first = generations::first_state(&*self.store, layouts, partition)?.ok_or_else(waits)?;
        let config = fold_config(layouts, partition, self.topic, self.hash_key);
        let mut worker = PartitionWorker::open(Arc::clone(&self.store), config, &first)?;
        let from = worker.fold().state().offset;
        let gap = v1::Gap {
            from,
            to: from + 1,
            actor: self.actor.name.clone(),
            at_nanos: self.actor.at_nanos,
            note: self.note.to_owned(),
            rest: true,
        };
        worker.give_up(gap.clone());
        worker.flush()?;
        Halts::default().clear(&*self.store, partition);
        Ok(GivenUp { partition, reason, gap })
    }

    fn drop_rewind(&self, partition: u32) -> Result<(), Stop> {
        let key = keys::rewind(partition);
        let Some(cell) = self.store.get(std::slice::from_ref(&key))?.pop().flatten() else { return Ok(()) };
        let removals = vec![(key, cell.version)];
        self.store.flush(Flush { removals, ..Flush::default() })?;
        Ok(())
    }
}
