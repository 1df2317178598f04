//! A bill as a whole: the first reading of the file, which finds its currencies, tenants, SKUs and costs; and the
//! second, which gives the pulses one by one, so that a file of any length is imported in little memory.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};

use pulso_domain::quantity::Quantity;
use pulso_domain::window::Window;

use super::exact::Exact;
use super::identity::RowIds;
use super::row::{Columns, Move, Row, Skip};
use crate::cli::exit::Failure;
use crate::client::ingest::{Outgoing, PulseSource};

/// Large reads: a bill may have gigabytes.
const BUFFER_BYTES: usize = 256 * 1024;

/// A file and how it is read.
#[derive(Clone, Debug)]
pub struct BillFile {
    /// Where it is.
    pub path: PathBuf,
    /// Where its rows move to.
    pub moved: Move,
}

/// What the first reading found.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Bill {
    /// Rows of the file.
    pub rows: u64,
    /// Rows that are no pulse, by reason.
    pub skipped: BTreeMap<Skip, u64>,
    /// Tenant ids by the names of the file.
    pub tenants: BTreeMap<String, String>,
    /// What the rows add up to.
    pub groups: HashMap<GroupKey, Group>,
    /// What is known of each SKU.
    pub skus: BTreeMap<String, Sku>,
    /// The oldest row taken.
    pub oldest_seconds: Option<i64>,
}

/// Rows that are added up together.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct GroupKey {
    /// The currency.
    pub currency: String,
    /// The tenant id.
    pub tenant_id: String,
    /// The month.
    pub month: Window,
    /// The SKU.
    pub product_sku: String,
    /// The unit.
    pub use_unit: String,
}

/// What the rows of a group add up to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Group {
    /// Rows.
    pub rows: u64,
    /// Rows whose list cost is there and is not quantity times price.
    pub disagreeing_rows: u64,
    /// The list cost of the file.
    pub file: Exact,
    /// Quantity times price.
    pub product: Exact,
    /// Quantity times price of the rows whose list cost is just that.
    pub agreeing: Exact,
}

/// A SKU as the file has it. Where rows differ, the smallest text is taken, so that the order of rows makes no difference.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sku {
    /// Its name in the file.
    pub sku_name: String,
    /// Its list price.
    pub price: Quantity,
    /// Its unit.
    pub use_unit: String,
    /// What people call it.
    pub description: String,
    /// The service it belongs to.
    pub service_name: String,
    /// The service's category.
    pub service_category: String,
}

impl BillFile {
    fn open(&self) -> Result<(csv::Reader<File>, Columns, RowIds), Failure> {
        let mut reader = open(&self.path)?;
        let header = reader.headers().map_err(|error| unreadable(&self.path, error))?.clone();
        let ids = RowIds::new(&header, &self.moved.salt());
        Ok((reader, Columns::of(&header)?, ids))
    }

    /// Reads the whole file once and adds it up.
    ///
    /// # Errors
    /// When it cannot be read, is no FOCUS file, or its sums do not fit.
    pub fn read(&self) -> Result<Bill, Failure> {
        let (mut reader, columns, _) = self.open()?;
        let mut bill = Bill::default();
        for record in reader.records() {
            let record = record.map_err(|error| unreadable(&self.path, error))?;
            bill.rows += 1;
            match columns.read(&record, self.moved) {
                Ok(row) => bill.add(&row).ok_or_else(|| {
                    Failure::failed(format!(
                        "the costs of {} add up to more digits than fit",
                        self.path.display()
                    ))
                })?,
                Err(skip) => *bill.skipped.entry(skip).or_default() += 1,
            }
        }
        Ok(bill)
    }

    /// The pulses of the rows that the filter takes.
    ///
    /// # Errors
    /// When it cannot be read again.
    pub fn pulses(&self, taken: Taken) -> Result<Pulses, Failure> {
        let (reader, columns, ids) = self.open()?;
        Ok(Pulses { file: self.clone(), rows: reader.into_records(), columns, ids, taken, line: 0 })
    }
}

fn open(path: &Path) -> Result<csv::Reader<File>, Failure> {
    let file = File::open(path)
        .map_err(|error| Failure::usage(format!("cannot read {}: {error}", path.display())))?;
    Ok(csv::ReaderBuilder::new().buffer_capacity(BUFFER_BYTES).from_reader(file))
}

fn unreadable(path: &Path, error: csv::Error) -> Failure {
    Failure::usage(format!("{} is no CSV: {error}", path.display()))
}

impl Bill {
    fn add(&mut self, row: &Row) -> Option<()> {
        let pulse = &row.pulse;
        let key = GroupKey {
            currency: row.currency.clone(),
            tenant_id: pulse.tenant_id.clone(),
            month: row.month,
            product_sku: pulse.product_sku.clone(),
            use_unit: pulse.use_unit.clone(),
        };
        let group = self.groups.entry(key).or_default();
        group.rows += 1;
        group.product = group.product.plus(row.product)?;
        if let Some(list_cost) = row.list_cost {
            group.file = group.file.plus(list_cost)?;
            if list_cost == row.product {
                group.agreeing = group.agreeing.plus(row.product)?;
            } else {
                group.disagreeing_rows += 1;
            }
        }
        self.tenants.insert(row.tenant_name.clone(), pulse.tenant_id.clone());
        self.skus
            .entry(pulse.product_sku.clone())
            .and_modify(|sku| sku.meet(row))
            .or_insert_with(|| Sku::of(row));
        let seconds = pulse.occurred_at.map(|at| at.seconds);
        self.oldest_seconds = self.oldest_seconds.min(seconds).or(seconds);
        Some(())
    }

    /// The currencies of the rows that could be taken.
    #[must_use]
    pub fn currencies(&self) -> BTreeSet<&str> {
        self.groups.keys().map(|key| key.currency.as_str()).collect()
    }

    /// Leaves out what the filter does not take, and counts it under its reason.
    #[must_use]
    pub fn filtered(mut self, taken: &Taken) -> Self {
        let skipped = &mut self.skipped;
        self.groups.retain(|key, group| match taken.skip(&key.currency, &key.product_sku, &key.use_unit) {
            None => true,
            Some(skip) => {
                *skipped.entry(skip).or_default() += group.rows;
                false
            }
        });
        let tenants: BTreeSet<&str> = self.groups.keys().map(|key| key.tenant_id.as_str()).collect();
        let skus: BTreeSet<&str> = self.groups.keys().map(|key| key.product_sku.as_str()).collect();
        self.tenants.retain(|_, tenant_id| tenants.contains(tenant_id.as_str()));
        self.skus.retain(|product_sku, _| skus.contains(product_sku.as_str()));
        self
    }

    /// Rows that become pulses.
    #[must_use]
    pub fn pulses(&self) -> u64 {
        self.groups.values().map(|group| group.rows).sum()
    }

    /// Rows taken whose list cost is there and is not quantity times price.
    #[must_use]
    pub fn disagreeing_rows(&self) -> u64 {
        self.groups.values().map(|group| group.disagreeing_rows).sum()
    }
}

impl Sku {
    fn of(row: &Row) -> Self {
        Self {
            sku_name: row.sku_name.clone(),
            price: row.price,
            use_unit: row.pulse.use_unit.clone(),
            description: row.description.clone(),
            service_name: row.service_name.clone(),
            service_category: row.service_category.clone(),
        }
    }

    fn meet(&mut self, row: &Row) {
        let smaller = |kept: &mut String, other: &str| {
            if kept.is_empty() || (!other.is_empty() && other < kept.as_str()) {
                other.clone_into(kept);
            }
        };
        smaller(&mut self.use_unit, &row.pulse.use_unit);
        smaller(&mut self.description, &row.description);
        smaller(&mut self.service_name, &row.service_name);
        smaller(&mut self.service_category, &row.service_category);
    }
}

/// Which rows are taken, of those that could be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Taken {
    /// The one currency.
    pub currency: String,
    /// The one unit of each SKU.
    pub units: HashMap<String, String>,
}

impl Taken {
    fn skip(&self, currency: &str, product_sku: &str, use_unit: &str) -> Option<Skip> {
        if currency != self.currency {
            return Some(Skip::OtherCurrency);
        }
        let known = self.units.get(product_sku).is_none_or(|unit| unit == use_unit);
        (!known).then_some(Skip::UnitMismatch)
    }
}

/// The pulses of a file, one by one.
pub struct Pulses {
    file: BillFile,
    rows: csv::StringRecordsIntoIter<File>,
    columns: Columns,
    ids: RowIds,
    taken: Taken,
    line: u64,
}

impl PulseSource for Pulses {
    fn next_pulse(&mut self) -> Result<Option<Outgoing>, Failure> {
        loop {
            let Some(record) = self.rows.next() else { return Ok(None) };
            let record = record.map_err(|error| unreadable(&self.file.path, error))?;
            self.line = record.position().map_or(self.line + 1, csv::Position::line);
            let Ok(row) = self.columns.read(&record, self.file.moved) else { continue };
            let mut pulse = row.pulse;
            if self.taken.skip(&row.currency, &pulse.product_sku, &pulse.use_unit).is_none() {
                pulse.id = self.ids.id_of(&record);
                return Ok(Some(Outgoing { line: self.line, pulse }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> BillFile {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/data/focus-1.0-sample.csv");
        BillFile { path: path.into(), moved: Move::Stay }
    }

    fn everything() -> Taken {
        Taken { currency: "USD".to_owned(), units: HashMap::new() }
    }

    #[test]
    fn the_sample_bill_has_the_facts_that_its_source_counts() {
        let bill = sample().read().expect("reads");
        assert_eq!((bill.rows, bill.pulses(), bill.disagreeing_rows()), (1000, 985, 482));
        let skipped: Vec<_> = bill.skipped.iter().map(|(skip, rows)| (skip.code(), *rows)).collect();
        assert_eq!(skipped, [("NOT_USAGE", 3), ("NEGATIVE_QUANTITY", 12)]);
        assert_eq!(bill.currencies().into_iter().collect::<Vec<_>>(), ["USD"]);
        let mapped = bill.tenants.iter().filter(|(name, tenant_id)| name != tenant_id).count();
        assert!(mapped > 0 && bill.tenants.values().collect::<BTreeSet<_>>().len() == bill.tenants.len());
    }

    #[test]
    fn the_second_reading_gives_each_row_one_pulse_with_its_own_id() {
        let mut pulses = sample().pulses(everything()).expect("opens");
        let mut ids = BTreeSet::new();
        while let Some(outgoing) = pulses.next_pulse().expect("reads") {
            ids.insert(outgoing.pulse.id);
        }
        assert_eq!(ids.len(), 985);
    }

    #[test]
    fn rows_of_another_currency_or_unit_are_left_out_and_counted() {
        let bill = sample().read().expect("reads");
        let none = bill.clone().filtered(&Taken { currency: "EUR".to_owned(), units: HashMap::new() });
        assert_eq!((none.pulses(), none.skipped[&Skip::OtherCurrency], none.tenants.len()), (0, 985, 0));
        let product_sku = bill.skus.keys().next().expect("has SKUs").clone();
        let rows: u64 = bill
            .groups
            .iter()
            .filter(|(key, _)| key.product_sku == product_sku)
            .map(|(_, group)| group.rows)
            .sum();
        let units = HashMap::from([(product_sku.clone(), "another".to_owned())]);
        let other = bill.filtered(&Taken { currency: "USD".to_owned(), units });
        assert_eq!(other.skipped[&Skip::UnitMismatch], rows);
        assert!(!other.skus.contains_key(&product_sku));
    }
}
