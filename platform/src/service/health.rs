//! What `/readyz` says: every part of a role that can be not ready, by name, with its reason.
//!
//! A part is not ready from its registration until it says otherwise, and nothing is ready once a shutdown has begun.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::RwLock;
use serde::Serialize;

/// The parts of a role. A clone is the same registry.
#[derive(Clone, Default, Debug)]
pub struct Health {
    state: Arc<RwLock<State>>,
}

#[derive(Default, Debug)]
struct State {
    /// Each part with the reason why it is not ready.
    parts: BTreeMap<String, Option<String>>,
    stopping: bool,
}

/// One part's own handle.
#[derive(Clone, Debug)]
pub struct Part {
    name: String,
    health: Health,
}

/// What stands in the way of being ready.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct NotReady {
    /// The part.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// The answer of `/readyz`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Readiness {
    /// Whether everything is ready.
    pub ready: bool,
    /// What is not, by name.
    pub not_ready: Vec<NotReady>,
}

impl Health {
    /// A registry without parts.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers a part, not ready while it starts. Registering a name again gives the same part.
    #[must_use]
    pub fn part(&self, name: impl Into<String>) -> Part {
        let name = name.into();
        self.state.write().parts.entry(name.clone()).or_insert_with(|| Some("starting".to_owned()));
        Part { name, health: self.clone() }
    }

    /// From now on nothing is ready: load balancers look elsewhere while the work in flight ends.
    pub fn begin_shutdown(&self) {
        self.state.write().stopping = true;
    }

    /// Whether everything is ready, and what is not.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let state = self.state.read();
        let process = state.stopping.then_some(("process", "shutting down"));
        let parts = state.parts.iter().filter_map(|(name, reason)| Some((name.as_str(), reason.as_deref()?)));
        let not_ready: Vec<NotReady> = process
            .into_iter()
            .chain(parts)
            .map(|(name, reason)| NotReady { name: name.to_owned(), reason: reason.to_owned() })
            .collect();
        Readiness { ready: not_ready.is_empty(), not_ready }
    }
}

impl Part {
    /// The part can do its work.
    pub fn ready(&self) {
        self.set(None);
    }

    /// The part cannot do its work, for this reason.
    pub fn not_ready(&self, reason: impl Into<String>) {
        self.set(Some(reason.into()));
    }

    fn set(&self, reason: Option<String>) {
        self.health.state.write().parts.insert(self.name.clone(), reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_ready_is_named_with_its_reason() {
        let health = Health::new();
        assert!(health.readiness().ready);
        let (log, store) = (health.part("log"), health.part("store"));
        log.ready();
        let starting = NotReady { name: "store".to_owned(), reason: "starting".to_owned() };
        assert_eq!(health.readiness(), Readiness { ready: false, not_ready: vec![starting] });
        store.ready();
        assert!(health.readiness().ready);
        log.not_ready("the disk is full");
        assert_eq!(health.readiness().not_ready[0].reason, "the disk is full");
        let _same = health.part("store");
        assert_eq!(health.readiness().not_ready.len(), 1, "a second registration changes nothing");
    }

    #[test]
    fn nothing_is_ready_once_a_shutdown_has_begun() {
        let health = Health::new();
        health.part("log").ready();
        health.begin_shutdown();
        assert_eq!(health.readiness().not_ready[0].name, "process");
    }
}
