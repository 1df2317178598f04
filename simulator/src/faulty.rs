//! The store's driver under faults: a flush is a row of effects, and a fault may strike at the border of any two.
//!
//! Effects are sent stage by stage, as [`Flush`] demands: cells in any order, then lists, then the checkpoint. Within a
//! stage nothing is atomic.

use pulso_domain::position::{Rank, partition_number};
use pulso_ingestor_consumer::fold::state::FoldState;
use pulso_platform::store::{Cell, CompareAndSet, Flush, Flushed, Key, StoreError, Table, keys};

use crate::dice::Dice;
use crate::history::{INDEX, LAYOUTS};
use crate::mutant::Mutant;
use crate::replicas::{Held, Reach, Replicas};
use crate::tally::Tally;
use crate::weather::Weather;

/// Replicas, faults and the count of what happened.
#[derive(Debug)]
pub struct FaultyStore {
    /// The replicas.
    pub replicas: Replicas,
    /// All choices.
    pub dice: Dice,
    /// How often faults strike.
    pub weather: Weather,
    /// What happened.
    pub tally: Tally,
    /// The sender that died within its last call.
    pub crashed: Option<u32>,
    /// The greatest confirmed progress of each generation.
    pub confirmed: [u64; 2],
    /// How many effects were sent, the answers of flushes counted too.
    pub effects_sent: u64,
    /// The sender dies exactly at these.
    pub crash_at: Option<[u64; 2]>,
    mutant: Option<Mutant>,
    clock: u64,
    /// Whether the present quorum loss has been felt.
    loss_felt: bool,
}

/// One write or change.
enum Effect {
    Write(Key, Held),
    Set(CompareAndSet),
    /// Nothing behind this is sent unless all before it is confirmed.
    Border,
}

/// What strikes a flush.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Strike {
    Nothing,
    /// Some writes reach no quorum.
    Trouble,
    /// The sender dies when this many effects are done, the next one half done.
    Crash(usize),
    LostAck,
}

/// The sender of whatever no owner sends: background work and operators.
pub const NOBODY: u32 = u32::MAX;

fn unavailable(why: &str) -> StoreError {
    StoreError::Unavailable(why.to_owned())
}

impl FaultyStore {
    /// An empty store.
    #[must_use]
    pub fn new(dice: Dice, weather: Weather, mutant: Option<Mutant>) -> Self {
        Self {
            replicas: Replicas::new(),
            dice,
            weather,
            tally: Tally::default(),
            crashed: None,
            confirmed: [0; 2],
            effects_sent: 0,
            crash_at: None,
            mutant,
            clock: 1 << 42,
            loss_felt: false,
        }
    }

    /// The other partition of the first generation is folded past its seal from the beginning: what this simulates is one.
    pub fn know_quiet_partition(&mut self) {
        let layout = LAYOUTS[0];
        let mut state = FoldState::first(layout.generation, layout.log_id);
        state.sealed_at = Some(0);
        let held = Held { version: state.rank().as_u64(), value: Some(state.encode()) };
        let key = keys::progress(partition_number(layout.generation, INDEX + 1));
        let everywhere = Reach { troubled: false, laggard: 0, late: 0 };
        self.replicas.write(&mut self.dice, everywhere, NOBODY, (&key, &held));
    }

    /// Ends all faults: what is under way stays under way.
    pub fn calm_down(&mut self) {
        self.weather = Weather { interleave: self.weather.interleave, ..Weather::calm() };
        self.replicas.down = [false; 3];
        self.loss_felt = false;
    }

    /// A replica goes down, or comes back.
    pub fn toggle_replica(&mut self) {
        let replica = self.dice.below(3);
        self.replicas.down[replica] ^= true;
        self.loss_felt &= !self.replicas.has_quorum();
    }

    fn feel_loss(&mut self) -> bool {
        let lost = !self.replicas.has_quorum();
        if lost && !self.loss_felt {
            self.loss_felt = true;
            self.tally.quorum_losses += 1;
        }
        lost
    }

    /// Reads cells.
    ///
    /// # Errors
    /// Without a quorum, and now and then.
    pub fn get(&mut self, keys: &[Key]) -> Result<Vec<Option<Cell>>, StoreError> {
        if self.feel_loss() || self.dice.chance(self.weather.read_fails) {
            return Err(unavailable("no quorum to read"));
        }
        let (replicas, dice) = (&self.replicas, &mut self.dice);
        Ok(keys.iter().map(|key| replicas.read(dice, key)).collect())
    }

    /// Sends a flush.
    ///
    /// # Errors
    /// When any of it is not confirmed, whatever was done; also when the sender died.
    pub fn flush(&mut self, sender: u32, flush: Flush) -> Result<Flushed, StoreError> {
        self.clock += 1 + self.dice.below(3) as u64;
        let progress = flush.checkpoint.iter().find(|(key, _)| key.table == Table::Progress);
        let progress = progress.map(|(_, cell)| cell.version);
        let effects = self.effects(sender, flush);
        let strike = self.strike(effects.len());
        let mut confirmed = true;
        for (place, effect) in effects.iter().enumerate() {
            let last = self.is_crash_due() || strike == Strike::Crash(place);
            match effect {
                Effect::Border if !confirmed && !last => return Err(unavailable("no quorum to write")),
                Effect::Border => {}
                Effect::Write(key, held) => {
                    let troubled = last || strike == Strike::Trouble;
                    let reach = Reach { troubled, laggard: self.weather.laggard, late: self.weather.late };
                    confirmed &= self.replicas.write(&mut self.dice, reach, sender, (key, held));
                }
                Effect::Set(set) => match self.change(set, last || strike == Strike::Trouble) {
                    Some(true) => {}
                    Some(false) => return Ok(Flushed::Lost(set.key.clone())),
                    None => confirmed = false,
                },
            }
            if last {
                self.die(sender);
                return Err(unavailable("the sender died"));
            }
        }
        if self.is_crash_due() || matches!(strike, Strike::Crash(_)) {
            // Behind the last effect and before the answer.
            self.confirm(sender, progress.filter(|_| confirmed));
            self.die(sender);
            return Err(unavailable("the sender died"));
        }
        if !confirmed || self.feel_loss() {
            return Err(unavailable("no quorum to write"));
        }
        self.confirm(sender, progress);
        if strike == Strike::LostAck { Err(unavailable("the answer is lost")) } else { Ok(Flushed::Done) }
    }

    /// Counts one effect; whether the sender is to die at it.
    fn is_crash_due(&mut self) -> bool {
        self.effects_sent += 1;
        self.crash_at.is_some_and(|due| due.contains(&self.effects_sent))
    }

    fn confirm(&mut self, sender: u32, progress: Option<u64>) {
        let Some(progress) = progress else { return };
        let confirmed = &mut self.confirmed[Rank::from_u64(progress).generation() as usize - 1];
        if progress > *confirmed {
            *confirmed = progress;
            self.replicas.newest_confirmed = self.replicas.newest_confirmed.max(sender);
        }
    }

    fn die(&mut self, sender: u32) {
        self.crashed = Some(sender);
        self.tally.crashes += 1;
    }

    fn strike(&mut self, effects: usize) -> Strike {
        if self.dice.chance(self.weather.crash) {
            return Strike::Crash(self.dice.below(effects + 1));
        }
        if self.dice.chance(self.weather.trouble) {
            return Strike::Trouble;
        }
        if self.dice.chance(self.weather.lost_ack) { Strike::LostAck } else { Strike::Nothing }
    }

    fn effects(&mut self, sender: u32, flush: Flush) -> Vec<Effect> {
        // Clocks differ by some ticks, and no two writers ever write at the same nanosecond.
        let clock = (self.clock + u64::from(sender.wrapping_mul(7) % 5)) << 8 | u64::from(sender & 0xff);
        let wall = self.mutant == Some(Mutant::WallClockTimestamps);
        let write = |(key, cell): (Key, Cell)| {
            let version = if wall && key.table == Table::Usage { clock } else { cell.version };
            Effect::Write(key, Held { version, value: Some(cell.value) })
        };
        let mut cells: Vec<Effect> = flush.cells.into_iter().map(write).collect();
        self.dice.shuffle(&mut cells);
        let mut checkpoint: Vec<Effect> = flush.checkpoint.into_iter().map(write).collect();
        let mut effects = Vec::with_capacity(cells.len() + checkpoint.len() + flush.removals.len() + 6);
        if self.mutant == Some(Mutant::CheckpointBeforeFlush) {
            effects.append(&mut checkpoint);
            effects.push(Effect::Border);
        }
        effects.append(&mut cells);
        effects.push(Effect::Border);
        effects.extend(flush.sets.into_iter().map(Effect::Set));
        effects.push(Effect::Border);
        effects.append(&mut checkpoint);
        effects.push(Effect::Border);
        let removal = |(key, version)| Effect::Write(key, Held { version, value: None });
        effects.extend(flush.removals.into_iter().map(removal));
        effects
    }

    /// Changes a register; nothing when it is not sure.
    fn change(&mut self, set: &CompareAndSet, troubled: bool) -> Option<bool> {
        let blindly = self.mutant == Some(Mutant::ListWithoutCompareAndSet);
        if troubled || !self.replicas.has_quorum() {
            self.replicas.set_maybe(&mut self.dice, set, blindly);
            return None;
        }
        Some(self.replicas.set(set, blindly))
    }
}
