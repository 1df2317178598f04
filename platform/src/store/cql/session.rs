//! The connection: nodes, credentials, TLS, time limits; and what the driver's errors mean to a reader.

use std::error::Error;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::policies::load_balancing::DefaultPolicy;
use scylla::policies::speculative_execution::SimpleSpeculativeExecutionPolicy;
use scylla::statement::{Consistency, SerialConsistency};
use tokio::runtime::{Builder, Handle, Runtime};

use super::settings::CqlSettings;
use crate::store::StoreError;

/// How long one attempt to connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A node that takes requests and does not answer, as in a long collection of garbage, holds an idempotent one up for so long:
/// then it is also sent to the next node, and whichever answers first is taken.
const TRY_NEXT_NODE_AFTER: Duration = Duration::from_secs(1);
/// Nodes that are tried so beside the first: with three copies, all of them.
const NEXT_NODES: usize = 2;
/// A connection is asked for a sign of life so often, and given up when none comes in this time.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);
/// The driver's own tasks only move bytes, so two threads serve any number of callers.
const THREADS: usize = 2;

/// The driver's own runtime, so that the store works from any thread.
pub(super) fn runtime() -> Result<Runtime, StoreError> {
    Builder::new_multi_thread()
        .worker_threads(THREADS)
        .thread_name("pulso-cql")
        .enable_all()
        .build()
        .map_err(|error| StoreError::Unavailable(format!("no thread could be started: {error}")))
}

/// Waits for what a runtime does, from any thread: also from one that belongs to another runtime, which it then blocks.
pub(super) fn wait<T>(handle: &Handle, work: impl Future<Output = T>) -> T {
    let _entered = handle.enter();
    futures::executor::block_on(work)
}

/// Connects. Every request has the same consistency: a quorum of the data center, both ways.
pub(super) async fn connect(settings: &CqlSettings, keyspace: Option<&str>) -> Result<Session, StoreError> {
    let mut policy = DefaultPolicy::builder().token_aware(true);
    if let Some(datacenter) = &settings.cql_datacenter {
        policy = policy.prefer_datacenter(datacenter.clone());
    }
    let next_node =
        SimpleSpeculativeExecutionPolicy { max_retry_count: NEXT_NODES, retry_interval: TRY_NEXT_NODE_AFTER };
    let profile = ExecutionProfile::builder()
        .consistency(Consistency::LocalQuorum)
        .serial_consistency(Some(SerialConsistency::LocalSerial))
        .request_timeout(Some(settings.cql_timeout))
        .load_balancing_policy(policy.build())
        .speculative_execution_policy(Some(Arc::new(next_node)))
        .build();
    let mut builder = SessionBuilder::new()
        .known_nodes(&settings.cql_nodes)
        .connection_timeout(CONNECT_TIMEOUT)
        .keepalive_interval(SIGN_OF_LIFE)
        .keepalive_timeout(SIGN_OF_LIFE)
        .fetch_full_schema_metadata(false)
        .default_execution_profile_handle(profile.into_handle());
    if let Some((user, password)) = settings.credentials()? {
        builder = builder.user(user, password.expose());
    }
    if settings.cql_ca.is_some() {
        builder = builder.tls_context(Some(tls(settings)?));
    }
    if let Some(keyspace) = keyspace {
        builder = builder.use_keyspace(keyspace, false);
    }
    builder.build().await.map_err(|error| explain(settings, &error))
}

/// TLS that trusts the given certificates and nothing else; the crypto is named, since a process may hold more than one.
fn tls(settings: &CqlSettings) -> Result<Arc<ClientConfig>, StoreError> {
    let Some(path) = &settings.cql_ca else {
        return Err(StoreError::Refused("--cql-ca names no file".to_owned()));
    };
    let wrong = |error: &dyn std::fmt::Display| {
        StoreError::Refused(format!(
            "--cql-ca {} holds no certificates in PEM that can be used: {error}",
            path.display()
        ))
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| wrong(&error))? {
        let certificate = certificate.map_err(|error| wrong(&error))?;
        roots.add(certificate).map_err(|error| wrong(&error))?;
    }
    if roots.is_empty() {
        return Err(wrong(&"the file has none"));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(&error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Why a session could not be had, as a sentence with its mend. The driver wraps an error of one connection several times
/// and differently from place to place, so that its text is what can be relied on.
fn explain(settings: &CqlSettings, error: &dyn Error) -> StoreError {
    let text = whole_text(error);
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let place = settings.place();
    if says(&["Authentication", "credentials", "uthenticat"]) {
        return StoreError::Refused(format!(
            "{place} does not take the credentials; check --cql-user and --cql-password ({text})"
        ));
    }
    if says(&["certificate", "TLS", "tls", "InvalidContentType", "corrupt message"]) {
        return StoreError::Refused(format!("no TLS with {place}; check --cql-ca ({text})"));
    }
    if says(&["does not exist", "USE KEYSPACE"]) {
        let keyspace = &settings.cql_keyspace;
        return StoreError::Refused(format!("{place} has no keyspace {keyspace}; run `pulso init`"));
    }
    StoreError::Unavailable(format!(
        "no node of {place} answers; check --cql-nodes, that ScyllaDB or Cassandra runs there, and --cql-ca if it demands TLS ({text})"
    ))
}

/// What an error of a request means: not now. Whatever the servers say can be mended there while this process waits.
pub(super) fn unavailable(error: &dyn Error) -> StoreError {
    StoreError::Unavailable(whole_text(error))
}

/// An error with all that caused it, where the cause is not in its own text.
fn whole_text(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = cause.source();
    }
    text
}
