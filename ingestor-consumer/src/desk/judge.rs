//! What a replay would become, before anything happens: counted, or refused and why. It asks what the fold will ask,
//! as of what is folded now, and what the door asks of any pulse; only the limit on the past is open down to the
//! horizon's floor.

use std::collections::HashMap;

use bytes::Bytes;
use pulso_domain::fingerprint::{IdHash, PayloadHash};
use pulso_domain::position::Position;
use pulso_domain::pulse::{Pulse, check};
use pulso_domain::quantity::Quantity;
use pulso_domain::reason::Reason;
use pulso_domain::time::{Instant, SECONDS_MAX};
use pulso_proto::walk;

use super::Desk;
use super::case::{Case, LetterState};
use crate::fold::halt::Stop;
use crate::fold::ids::RunShape;
use crate::fold::state::FoldState;
use crate::{generations, halts, lookup};

/// A pulse that would be counted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Accepted {
    /// Its tenant's partition.
    pub partition: u32,
    /// Its bytes.
    pub bytes: Bytes,
    /// Whose use.
    pub tenant_id: String,
    /// Of what.
    pub product_sku: String,
    /// In which unit.
    pub use_unit: String,
    /// Where; empty when not given.
    pub region: String,
    /// How much.
    pub used_amount: Quantity,
    /// When.
    pub occurred_at: Instant,
}

/// Why a replay would not count.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// The reason's code, or `DUPLICATE`, `ALREADY_REPLAYED`, `PARTITION_HALTED`.
    pub code: &'static str,
    /// The field at fault, by its proto name.
    pub field: Option<&'static str>,
    /// What is wrong and how to go on.
    pub detail: String,
    /// Where the counted one stands, or the replay that was before: the partition and the position.
    pub position: Option<(u32, Position)>,
}

/// What a replay would become.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It would be counted.
    Counts(Box<Accepted>),
    /// It would not, and so is not sent.
    Refused(Refusal),
}

/// Judges the letters of one request: what it let pass is known to the ones behind.
pub struct Judge<'a> {
    desk: Desk<'a>,
    passed: HashMap<IdHash, PayloadHash>,
    partitions: HashMap<u32, Grounds>,
}

/// What is known of a partition.
struct Grounds {
    halted: Option<String>,
    floor_seconds: Option<i64>,
}

impl<'a> Judge<'a> {
    /// A judge who has let nothing pass.
    #[must_use]
    pub fn new(desk: Desk<'a>) -> Self {
        Self { desk, passed: HashMap::new(), partitions: HashMap::new() }
    }

    /// Says what a replay of the letter would become.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn judge(&mut self, case: &Case) -> Result<Verdict, Stop> {
        if case.state() == LetterState::Replayed {
            return Ok(Verdict::Refused(already(case)));
        }
        let Some(bytes) = case.pulse() else {
            let detail =
                "the bytes are no pulse; write one from what can be read of them with a fix, or drop it";
            return Ok(refused(Reason::Undecodable.code(), None, detail));
        };
        let Ok(raw) = walk::pulse(&bytes) else {
            let detail = "the bytes are no pulse; set its fields with a fix, or drop it";
            return Ok(refused(Reason::Undecodable.code(), None, detail));
        };
        match check(&raw) {
            Ok(pulse) => self.judge_good(&pulse, &bytes),
            Err(rejection) => {
                let detail = format!("still invalid: {}; set it with a fix", rejection.message);
                Ok(refused(rejection.reason.code(), Some(rejection.field), detail))
            }
        }
    }

    fn judge_good(&mut self, pulse: &Pulse<'_>, bytes: &Bytes) -> Result<Verdict, Stop> {
        let layouts = self.desk.log.generations();
        let tenants = generations::partitions_of_tenant(&layouts, pulse.tenant_id);
        let partition = tenants.last().copied().unwrap_or(0);
        let grounds = self.grounds(partition)?;
        if let Some(sentence) = &grounds.halted {
            let detail = format!("partition {partition} is halted: {sentence}");
            return Ok(refused("PARTITION_HALTED", None, detail));
        }
        if grounds.floor_seconds.is_some_and(|floor| pulse.occurred_at.seconds() < floor) {
            let detail = "it is older than ids are remembered, so a duplicate could not be told; drop it";
            return Ok(refused(Reason::BeyondHorizon.code(), Some("occurred_at"), detail));
        }
        if let Some(refusal) = self.refused_at_door(pulse) {
            return Ok(refusal);
        }
        let id = self.desk.hash_key.id_hash(pulse.tenant_id, pulse.id);
        let payload = self.desk.hash_key.payload_hash(pulse);
        let found = lookup::find_id_in(self.desk.store, &RunShape::FORMAT, &tenants, (pulse.id, id))?;
        if let Some((partition, entry)) = found {
            return Ok(taken(entry.payload == payload, Some((partition, entry.first))));
        }
        if let Some(earlier) = self.passed.insert(id, payload) {
            self.passed.insert(id, earlier);
            return Ok(taken(earlier == payload, None));
        }
        let text = |text: &str| text.to_owned();
        Ok(Verdict::Counts(Box::new(Accepted {
            partition,
            bytes: bytes.clone(),
            tenant_id: text(pulse.tenant_id),
            product_sku: text(pulse.product_sku),
            use_unit: text(pulse.use_unit),
            region: text(pulse.region),
            used_amount: pulse.used_amount,
            occurred_at: pulse.occurred_at,
        })))
    }

    fn refused_at_door(&self, pulse: &Pulse<'_>) -> Option<Verdict> {
        let ahead = i64::try_from(self.desk.accept_future.as_secs()).unwrap_or(i64::MAX);
        let newest = self.desk.now().seconds().saturating_add(ahead).min(SECONDS_MAX);
        if pulse.occurred_at.seconds() > newest {
            let detail = "it lies too far ahead; set the time it happened with a fix";
            return Some(refused(Reason::TooNew.code(), Some("occurred_at"), detail));
        }
        if (self.desk.units)(pulse.product_sku, pulse.use_unit) == Some(false) {
            let detail = "set a unit that converts to the one the catalog has for this SKU with a fix";
            return Some(refused(Reason::UnitMismatch.code(), Some("use_unit"), detail));
        }
        None
    }

    fn grounds(&mut self, partition: u32) -> Result<&Grounds, Stop> {
        if !self.partitions.contains_key(&partition) {
            let state = lookup::load_state(self.desk.store, partition)?;
            let floor = |state: FoldState| state.floor_at(self.desk.now_nanos);
            let grounds = Grounds {
                halted: halts::read(self.desk.store, partition)?,
                floor_seconds: state.and_then(floor),
            };
            self.partitions.insert(partition, grounds);
        }
        Ok(&self.partitions[&partition])
    }
}

/// The id was counted, or another letter of the request has it.
fn taken(same: bool, position: Option<(u32, Position)>) -> Verdict {
    let (code, detail) = match (same, position.is_some()) {
        (true, true) => ("DUPLICATE", "the same pulse is counted already; drop it"),
        (true, false) => ("DUPLICATE", "another dead letter of this request is the same pulse; drop one"),
        (false, true) => (
            Reason::IdConflict.code(),
            "its id is counted with another payload; give it a new id with a fix, or drop it",
        ),
        (false, false) => (
            Reason::IdConflict.code(),
            "another dead letter of this request has its id; give it a new one with a fix",
        ),
    };
    Verdict::Refused(Refusal { code, field: Some("id"), detail: detail.to_owned(), position })
}

fn already(case: &Case) -> Refusal {
    Refusal {
        code: "ALREADY_REPLAYED",
        field: None,
        detail: "it was sent again before, which counts once".to_owned(),
        position: case.replay().map(|place| (place.partition, place.position)),
    }
}

fn refused(code: &'static str, field: Option<&'static str>, detail: impl Into<String>) -> Verdict {
    Verdict::Refused(Refusal { code, field, detail: detail.into(), position: None })
}
