//! The logs of a life: the first generation's is there from its beginning, the second's grows by what clients append and by
//! what is moved there.

use std::sync::Arc;

use prost::Message;
use pulso_ingestor_consumer::fold::halt::Stop;
use pulso_ingestor_consumer::fold::moved::Stray;
use pulso_platform::log::LogRecord;
use pulso_proto::v1;

use crate::faulty::FaultyStore;
use crate::history::{Entry, History, LAYOUTS};
use crate::oracle::{Truth, truth};
use crate::world::{SHAPE, World};

/// The logs of all generations.
pub(crate) struct Logs {
    pub(crate) histories: Vec<History>,
    /// The truth of the logs as they were when they had so many records together.
    truth: Option<(usize, Arc<Truth>)>,
}

impl Logs {
    pub(crate) const fn new(histories: Vec<History>) -> Self {
        Self { histories, truth: None }
    }

    fn truth(&mut self) -> Arc<Truth> {
        let records = self.histories.iter().map(|history| history.records.len()).sum();
        if let Some((then, truth)) = &self.truth
            && *then == records
        {
            return Arc::clone(truth);
        }
        let now = Arc::new(truth(&self.histories, &SHAPE));
        self.truth = Some((records, Arc::clone(&now)));
        now
    }

    /// A record of the first generation goes into the second, as far as it is this partition's.
    fn append_stray(&mut self, stray: &Stray) {
        let [first, second] = &mut self.histories[..] else { return };
        let Entry::Pulses(specs) = &first.entries[stray.rank.offset() as usize] else { return };
        let parcels = stray.parcels(&LAYOUTS[1]).into_iter();
        let partition = second.partition();
        for (_, value) in parcels.filter(|(to, _)| *to == partition) {
            let batch = v1::PulseBatch::decode(value.clone()).unwrap_or_default();
            let indexes = batch.moved_from.unwrap_or_default().indexes;
            let moved = indexes.iter().map(|index| specs[*index as usize].clone()).collect();
            let from = (stray.rank, indexes.first().copied().unwrap_or(0));
            second.append(Entry::Moved { specs: moved, from }, value, i64::MIN);
        }
    }
}

impl World {
    /// How many generations the log has.
    #[must_use]
    pub fn generations(&self) -> usize {
        self.logs.lock().histories.len()
    }

    /// How many records a generation has.
    #[must_use]
    pub fn records(&self, place: usize) -> u64 {
        self.logs.lock().histories[place].records.len() as u64
    }

    /// What must come out of the logs as they are.
    #[must_use]
    pub fn truth(&self) -> Arc<Truth> {
        self.logs.lock().truth()
    }

    /// One record of a generation.
    pub(crate) fn record(&self, place: usize, offset: u64) -> Option<LogRecord> {
        self.logs.lock().histories[place].records.get(offset as usize).cloned()
    }

    /// Whether all clients are done.
    pub(crate) fn is_all_sent(&self) -> bool {
        self.logs.lock().histories.iter().all(|history| history.coming.is_empty())
    }

    /// The records that cannot be read until someone mends the log.
    pub(crate) fn damage(&self) -> Option<(u64, u64)> {
        self.logs.lock().histories[0].damage
    }

    /// A client appends to the newest generation.
    pub(crate) fn append(&self) {
        let mut logs = self.logs.lock();
        if let Some(newest) = logs.histories.last_mut() {
            newest.append_coming(&mut self.store().dice);
        }
    }

    /// Appends strays to the second generation. It may fail half way, and the answer may be lost.
    pub(crate) fn take_strays(&self, strays: &[Stray]) -> Result<(), Stop> {
        let lost = || Stop::Retry("the log does not answer".to_owned());
        let (fails_at, answer_lost) = {
            let FaultyStore { dice, weather, .. } = &mut *self.store();
            let fails_at = dice.chance(weather.trouble).then(|| dice.below(strays.len()));
            (fails_at, dice.chance(weather.lost_ack))
        };
        for (number, stray) in strays.iter().enumerate() {
            if fails_at == Some(number) {
                return Err(lost());
            }
            self.logs.lock().append_stray(stray);
            self.store().tally.moved += 1;
        }
        if answer_lost { Err(lost()) } else { Ok(()) }
    }
}
