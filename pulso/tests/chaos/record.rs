//! The test's own record: what was sent, what was answered, and what every total must therefore be.

use std::collections::{BTreeMap, HashMap};

use pulso_proto::v1::pulse_result::Status;
use pulso_proto::v1::{Pulse, PulseResult, Receipt};

/// Amounts are whole thousandths, so that sums stay in a plain integer that shares nothing with the code under test.
pub(crate) const THOUSANDTHS: i64 = 1000;

/// One pulse as the test made it.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    /// Its tenant and id.
    pub(crate) name: (String, String),
    /// Its SKU.
    pub(crate) product_sku: String,
    /// Its resource.
    pub(crate) resource_id: String,
    /// Its amount in thousandths.
    pub(crate) thousandths: i64,
    /// When it occurred, in seconds.
    pub(crate) occurred_at: i64,
}

impl Made {
    /// As it goes over the wire.
    pub(crate) fn pulse(&self) -> Pulse {
        Pulse {
            id: self.name.1.clone(),
            tenant_id: self.name.0.clone(),
            product_sku: self.product_sku.clone(),
            used_amount: decimal(self.thousandths),
            use_unit: "Hours".into(),
            occurred_at: Some(prost_types::Timestamp { seconds: self.occurred_at, nanos: 0 }),
            region: String::new(),
            resource_id: self.resource_id.clone(),
            tags: HashMap::new(),
        }
    }
}

/// A decimal without superfluous zeros.
pub(crate) fn decimal(thousandths: i64) -> String {
    let text = format!("{}.{:03}", thousandths / THOUSANDTHS, thousandths % THOUSANDTHS);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// What one sending of a pulse is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Copy {
    /// The first, or a retry whose answer never came.
    Original,
    /// Sent again though it was accepted, perhaps with another time.
    Duplicate,
    /// Sent again with another amount.
    Conflict,
}

/// What became of the pulses of one tenant x SKU (x resource) in one window.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Total {
    /// The sum in thousandths.
    pub(crate) thousandths: i64,
    /// How many.
    pub(crate) count: u64,
    /// The smallest.
    pub(crate) min: i64,
    /// The largest.
    pub(crate) max: i64,
}

impl Total {
    fn add(&mut self, thousandths: i64) {
        (self.min, self.max) = if self.count == 0 {
            (thousandths, thousandths)
        } else {
            (self.min.min(thousandths), self.max.max(thousandths))
        };
        self.thousandths += thousandths;
        self.count += 1;
    }
}

/// All that was sent and answered.
#[derive(Default)]
pub(crate) struct Record {
    /// Originals that were answered ACCEPTED, in that order, with their receipts.
    pub(crate) accepted: Vec<(Made, Receipt)>,
    /// Originals whose answer never came, or was UNKNOWN.
    pub(crate) open: Vec<Made>,
    /// Answered copies: their receipts and what they are.
    pub(crate) copies: Vec<(Made, Copy, Receipt)>,
    /// Sendings whose answer never came: each may stand in the log, or not.
    pub(crate) unanswered: u64,
}

impl Record {
    /// Notes the answers to one batch; `None` when the call had none.
    pub(crate) fn answered(&mut self, batch: Vec<(Made, Copy)>, results: Option<Vec<PulseResult>>) {
        let Some(results) = results else {
            batch.into_iter().for_each(|(made, copy)| self.unanswered(made, copy));
            return;
        };
        assert_eq!(results.len(), batch.len(), "one result per pulse");
        for ((made, copy), result) in batch.into_iter().zip(results) {
            match (result.status(), result.receipt, copy) {
                (Status::Accepted, Some(receipt), Copy::Original) => self.accepted.push((made, receipt)),
                (Status::Accepted, Some(receipt), copy) => self.copies.push((made, copy, receipt)),
                (Status::Unknown, _, copy) => self.unanswered(made, copy),
                (status, ..) => {
                    panic!("a good pulse was answered {status:?}: {} {}", result.reason, result.message)
                }
            }
        }
    }

    fn unanswered(&mut self, made: Made, copy: Copy) {
        self.unanswered += 1;
        if copy == Copy::Original {
            self.open.push(made);
        }
    }

    /// Totals by tenant, SKU, resource (empty: all) and window start in seconds, for windows that `start` cuts.
    pub(crate) fn totals(
        &self,
        start: impl Fn(i64) -> i64,
        by_resource: bool,
    ) -> BTreeMap<(String, String, String, i64), Total> {
        let mut totals: BTreeMap<_, Total> = BTreeMap::new();
        for (made, _) in &self.accepted {
            let resource = if by_resource { made.resource_id.clone() } else { String::new() };
            let key = (made.name.0.clone(), made.product_sku.clone(), resource, start(made.occurred_at));
            totals.entry(key).or_default().add(made.thousandths);
        }
        totals
    }

    /// How many answered copies are of this kind.
    pub(crate) fn copies_of(&self, kind: Copy) -> u64 {
        self.copies.iter().filter(|(_, copy, _)| *copy == kind).count() as u64
    }
}
