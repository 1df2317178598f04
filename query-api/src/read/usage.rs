//! Usage rows of a tenant as the API groups them, read in order from where a page begins.

use pulso_domain::time::Instant;
use pulso_domain::usage::{RowKey, UsageRow, usage_clustering_prefix, usage_partition_key};
use pulso_domain::window::Window;
use pulso_platform::store::{Range, Table};

use super::sources::Sources;
use super::span::Span;
use crate::problem::Problem;

/// Rows read at a time.
const ROWS_PER_READ: usize = 1024;

/// How rows are split beyond SKU, unit and window.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct GroupBy {
    /// By region.
    pub(crate) region: bool,
    /// By resource, which only the archive knows.
    pub(crate) resource_id: bool,
}

/// Which usage is wanted.
#[derive(Clone, Debug)]
pub(crate) struct UsageQuery {
    /// Whose.
    pub(crate) tenant_id: String,
    /// When.
    pub(crate) span: Span,
    /// Of which SKU; all when `None`.
    pub(crate) product_sku: Option<String>,
    /// How it is split.
    pub(crate) group_by: GroupBy,
}

/// Names one row of an answer. Ordered as answers are.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct GroupKey {
    /// The window.
    pub(crate) window: Window,
    /// The SKU.
    pub(crate) product_sku: String,
    /// The unit.
    pub(crate) use_unit: String,
    /// The region; empty unless split by it.
    pub(crate) region: String,
    /// The resource; empty unless split by it.
    pub(crate) resource_id: String,
}

impl GroupKey {
    /// The place of this row for a page token.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = self.window.index().to_be_bytes().to_vec();
        for text in [&self.product_sku, &self.use_unit, &self.region, &self.resource_id] {
            bytes.extend_from_slice(text.as_bytes());
            bytes.push(0);
        }
        bytes
    }

    /// Reads [`GroupKey::encode`] back, for rows of the span's level.
    pub(crate) fn decode(span: &Span, bytes: &[u8]) -> Option<Self> {
        let (index, texts) = bytes.split_first_chunk::<4>()?;
        let mut texts = texts.split(|byte| *byte == 0).map(|text| String::from_utf8(text.to_vec()).ok());
        let mut next = || texts.next().flatten();
        Some(Self {
            window: Window::from_index(span.level(), i32::from_be_bytes(*index)),
            product_sku: next()?,
            use_unit: next()?,
            region: next()?,
            resource_id: next()?,
        })
    }
}

/// One row of an answer.
pub(crate) type Group = (GroupKey, UsageRow);

impl Sources {
    /// Rows behind `after`, in order, `most` at most.
    pub(crate) fn usage(
        &self,
        query: &UsageQuery,
        after: Option<&GroupKey>,
        most: usize,
    ) -> Result<Vec<Group>, Problem> {
        if query.group_by.resource_id {
            return self.usage_by_resource(query, after, most);
        }
        let mut groups = Groups { after, most, rows: Vec::new() };
        self.visit_rows(query, after.map(|after| after.window), |key, row| {
            let region = if query.group_by.region { key.region } else { "" };
            groups.add(key, region, row)
        })?;
        groups.rows.truncate(most);
        Ok(groups.rows)
    }

    /// Shows the stored rows of the query in order, from this window on, until `visit` has enough.
    pub(crate) fn visit_rows(
        &self,
        query: &UsageQuery,
        from: Option<Window>,
        mut visit: impl FnMut(&RowKey<'_>, &UsageRow) -> bool,
    ) -> Result<(), Problem> {
        let first = from.unwrap_or(query.span.first).max(query.span.first);
        let rest = Span { first, end: query.span.end };
        for month in rest.months() {
            let name = usage_partition_key(&query.tenant_id, month);
            let mut range =
                Range::between(usage_clustering_prefix(rest.first), usage_clustering_prefix(rest.end));
            loop {
                let found = self.store.scan(Table::Usage, &name, &range, ROWS_PER_READ)?;
                for (clustering, cell) in &found {
                    let (key, row) = RowKey::decode(&name, clustering)
                        .zip(UsageRow::decode(&cell.value))
                        .ok_or_else(|| Problem::internal(&"a usage row cannot be read"))?;
                    let wanted = query.product_sku.as_ref().is_none_or(|sku| sku == key.product_sku);
                    if wanted && !visit(&key, &row) {
                        return Ok(());
                    }
                }
                let Some((last, _)) = found.last().filter(|_| found.len() == ROWS_PER_READ) else { break };
                range.from = [last.as_slice(), &[0]].concat();
            }
        }
        Ok(())
    }

    /// Now, for what is "to date".
    pub(crate) fn now(&self) -> Instant {
        self.clock.now()
    }
}

/// Rows that come in order, grouped as they come.
struct Groups<'a> {
    after: Option<&'a GroupKey>,
    most: usize,
    rows: Vec<Group>,
}

impl Groups<'_> {
    /// Adds a stored row; false when there are enough groups, all complete.
    fn add(&mut self, key: &RowKey<'_>, region: &str, row: &UsageRow) -> bool {
        if let Some((last, sum)) = self.rows.last_mut() {
            let same = (last.window, last.product_sku.as_str(), last.use_unit.as_str(), last.region.as_str());
            if same == (key.window, key.product_sku, key.use_unit, region) {
                sum.merge(row);
                return true;
            }
        }
        let group = GroupKey {
            window: key.window,
            product_sku: key.product_sku.to_owned(),
            use_unit: key.use_unit.to_owned(),
            region: region.to_owned(),
            resource_id: String::new(),
        };
        if self.after.is_some_and(|after| group <= *after) {
            return true;
        }
        if self.rows.len() == self.most {
            return false;
        }
        self.rows.push((group, *row));
        true
    }
}
