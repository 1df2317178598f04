//! Views by resource: read from the archive of that tenant, SKU and window, since no total is kept by resource.

use std::collections::BTreeMap;

use pulso_domain::fate::Fate;
use pulso_domain::pulse::{Pulse, check};
use pulso_domain::usage::UsageRow;
use pulso_domain::window::Window;
use pulso_ingestor_consumer::archive::{Next, PulseFilter};
use pulso_proto::walk;

use super::sources::Sources;
use super::usage::{Group, GroupKey, UsageQuery};
use crate::problem::Problem;

impl Sources {
    /// As [`Sources::usage`], split by resource: window by window, so that memory holds the resources of one window.
    pub(super) fn usage_by_resource(
        &self,
        query: &UsageQuery,
        after: Option<&GroupKey>,
        most: usize,
    ) -> Result<Vec<Group>, Problem> {
        let mut rows = Vec::new();
        // Only windows with totals have pulses to look for.
        let mut windows: Vec<Window> = Vec::new();
        self.visit_rows(query, after.map(|after| after.window), |key, _| {
            if windows.last() != Some(&key.window) {
                windows.push(key.window);
            }
            windows.len() <= most
        })?;
        for window in windows {
            let groups = self.resources_of(query, window)?;
            rows.extend(groups.into_iter().filter(|(key, _)| after.is_none_or(|after| key > after)));
            if rows.len() >= most {
                break;
            }
        }
        rows.truncate(most);
        Ok(rows)
    }

    fn resources_of(
        &self,
        query: &UsageQuery,
        window: Window,
    ) -> Result<BTreeMap<GroupKey, UsageRow>, Problem> {
        let mut groups: BTreeMap<GroupKey, UsageRow> = BTreeMap::new();
        let filter = PulseFilter {
            product_sku: query.product_sku.as_deref(),
            ..PulseFilter::window(&query.tenant_id, window)
        };
        self.counted_pulses(&filter, window, |pulse, position| {
            let key = GroupKey {
                window,
                product_sku: pulse.product_sku.to_owned(),
                use_unit: pulse.use_unit.to_owned(),
                region: if query.group_by.region { pulse.region.to_owned() } else { String::new() },
                resource_id: pulse.resource_id.to_owned(),
            };
            let (amount, at) = (pulse.used_amount, pulse.occurred_at);
            groups
                .entry(key)
                .and_modify(|row| row.add(amount, at, position))
                .or_insert_with(|| UsageRow::first(amount, at, position));
            Next::More
        })?;
        Ok(groups)
    }

    /// Shows the counted pulses of the filter that lie in the window, in order of position.
    pub(crate) fn counted_pulses(
        &self,
        filter: &PulseFilter<'_>,
        window: Window,
        mut visit: impl FnMut(&Pulse<'_>, pulso_domain::position::Position) -> Next,
    ) -> Result<(), Problem> {
        self.archive().visit(filter, |archived| {
            if archived.fate != Fate::Counted {
                return Next::More;
            }
            let Ok(raw) = walk::pulse(archived.bytes) else { return Next::More };
            let Ok(pulse) = check(&raw) else { return Next::More };
            let wanted = pulse.tenant_id == filter.tenant_id
                && filter.product_sku.is_none_or(|sku| sku == pulse.product_sku)
                && filter.region.is_none_or(|region| region == pulse.region)
                && Window::containing(window.level(), pulse.occurred_at) == window;
            if wanted { visit(&pulse, archived.position) } else { Next::More }
        })?;
        Ok(())
    }
}
