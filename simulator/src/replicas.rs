//! A store as `ScyllaDB` or Apache Cassandra would be: three replicas of each cell, the last write wins by version, writes
//! and reads by quorum, no read repair. A write may miss a replica, land there late, or be done though its answer is lost.
//!
//! It knows nothing of the protocol but its one demand: equal versions carry equal bytes, which it checks.

use bytes::Bytes;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use pulso_platform::store::{Cell, CompareAndSet, Key, Table};

use crate::dice::Dice;

/// What one replica has of a cell; no value is a removal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Held {
    /// Its version.
    pub version: u64,
    /// Its bytes, or none for a removal.
    pub value: Option<Bytes>,
}

/// A write under way to one replica, or a change of a list that may still take place.
#[derive(Debug)]
enum Late {
    Write { replica: usize, key: Key, held: Held, sender: u32 },
    Set(CompareAndSet),
}

/// The three replicas.
#[derive(Debug)]
pub struct Replicas {
    cells: HashMap<Key, [Option<Held>; 3], FixedState>,
    /// Cells that change by compare-and-set: linearizable registers.
    registers: HashMap<Key, Cell, FixedState>,
    late: Vec<Late>,
    /// Replicas that are down.
    pub down: [bool; 3],
    /// The newest owner that has a confirmed checkpoint: writes of older ones are zombie writes.
    pub newest_confirmed: u32,
    /// Zombie writes that landed and changed a replica.
    pub zombie_writes: u64,
    /// Writes that landed late and changed a replica.
    pub late_writes: u64,
    /// The first time that equal versions had unequal bytes.
    pub violation: Option<String>,
}

/// How one write reaches the replicas.
#[derive(Clone, Copy, Debug)]
pub struct Reach {
    /// No quorum is insisted on: each replica is left to chance.
    pub troubled: bool,
    /// Chance, in permille, that a third replica misses a write.
    pub laggard: u32,
    /// Chance, in permille, that a missed write lands later.
    pub late: u32,
}

impl Replicas {
    /// Empty ones.
    #[must_use]
    pub fn new() -> Self {
        Self {
            cells: HashMap::with_hasher(FixedState::with_seed(1)),
            registers: HashMap::with_hasher(FixedState::with_seed(2)),
            late: Vec::new(),
            down: [false; 3],
            newest_confirmed: 0,
            zombie_writes: 0,
            late_writes: 0,
            violation: None,
        }
    }

    /// Whether two replicas are there.
    #[must_use]
    pub fn has_quorum(&self) -> bool {
        self.down.iter().filter(|down| **down).count() < 2
    }

    /// Sends a write to the replicas; whether a quorum has it.
    pub fn write(&mut self, dice: &mut Dice, reach: Reach, sender: u32, (key, held): (&Key, &Held)) -> bool {
        let up = self.down.iter().filter(|down| !**down).count();
        let spared = if up == 3 && !reach.troubled && dice.chance(reach.laggard) { dice.below(3) } else { 3 };
        let mut got = 0;
        for replica in 0..3 {
            let lost = self.down[replica] || replica == spared || (reach.troubled && dice.chance(500));
            if !lost {
                self.land(replica, key, held.clone(), sender);
                got += 1;
            } else if dice.chance(reach.late) {
                self.late.push(Late::Write { replica, key: key.clone(), held: held.clone(), sender });
            }
        }
        got >= 2
    }

    fn land(&mut self, replica: usize, key: &Key, held: Held, sender: u32) -> bool {
        if !self.cells.contains_key(key) {
            self.cells.insert(key.clone(), [None, None, None]);
        }
        let Some(cell) = self.cells.get_mut(key) else { return false };
        for other in cell.iter().flatten() {
            let differs = other.version == held.version
                && other.value.is_some()
                && held.value.is_some()
                && other.value != held.value;
            if differs && self.violation.is_none() {
                self.violation = Some(format!("two values at version {} of {key:?}", held.version));
            }
        }
        // A removal beats a value of its version, and the larger of two values wins, as in Scylla.
        let order = |held: &Held| (held.version, held.value.is_none(), held.value.clone());
        if cell[replica].as_ref().is_some_and(|old| order(old) >= order(&held)) {
            return false;
        }
        cell[replica] = Some(held);
        self.zombie_writes += u64::from(sender < self.newest_confirmed);
        true
    }

    /// Lets up to `most` late writes land, in any order.
    pub fn land_late(&mut self, dice: &mut Dice, most: usize) {
        for _ in 0..most {
            if self.late.is_empty() {
                return;
            }
            let place = dice.below(self.late.len());
            match self.late.swap_remove(place) {
                Late::Write { replica, key, held, sender } => {
                    self.late_writes += u64::from(self.land(replica, &key, held, sender));
                }
                Late::Set(set) => {
                    self.set(&set, false);
                }
            }
        }
    }

    /// How many late writes are under way.
    #[must_use]
    pub fn late_len(&self) -> usize {
        self.late.len()
    }

    /// Changes a register if its version is the expected one, or at any rate; whether it did.
    pub fn set(&mut self, set: &CompareAndSet, blindly: bool) -> bool {
        let version = self.registers.get(&set.key).map_or(0, |cell| cell.version);
        if version != set.expected && !blindly {
            return false;
        }
        let cell = Cell { version: version.max(set.expected) + 1, value: set.value.clone() };
        self.registers.insert(set.key.clone(), cell);
        true
    }

    /// Leaves a change of a register to chance: whether it takes place, and when.
    pub fn set_maybe(&mut self, dice: &mut Dice, set: &CompareAndSet, blindly: bool) {
        match dice.below(3) {
            0 => drop(self.set(set, blindly)),
            1 if !blindly => self.late.push(Late::Set(set.clone())),
            _ => {}
        }
    }

    /// Reads a cell from two replicas that are up.
    #[must_use]
    pub fn read(&self, dice: &mut Dice, key: &Key) -> Option<Cell> {
        if key.table == Table::RunLists {
            return self.registers.get(key).cloned();
        }
        let cell = self.cells.get(key)?;
        let spared = self.down.iter().position(|down| *down).unwrap_or_else(|| dice.below(3));
        let held = (0..3).filter(|replica| *replica != spared).filter_map(|replica| cell[replica].as_ref());
        let newest = held.max_by_key(|held| (held.version, held.value.is_none(), held.value.as_ref()))?;
        Some(Cell { version: newest.version, value: newest.value.clone()? })
    }

    /// Every key of a table, in order.
    #[must_use]
    pub fn keys(&self, table: Table) -> Vec<Key> {
        let mut keys: Vec<Key> = self.cells.keys().filter(|key| key.table == table).cloned().collect();
        keys.sort_unstable();
        keys
    }
}

impl Default for Replicas {
    fn default() -> Self {
        Self::new()
    }
}
