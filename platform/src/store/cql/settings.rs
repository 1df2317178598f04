//! Where the cluster's store is and who may use it: the same settings for every role.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::service::secret::{self, Secret};
use crate::service::settings::{duration_as_text, parse_duration};
use crate::store::StoreError;

/// The longest name of a keyspace that Apache Cassandra takes.
const KEYSPACE_BYTES_MAX: usize = 48;

/// How to reach ScyllaDB or Apache Cassandra.
#[derive(Args, Clone, PartialEq, Eq, Debug, Serialize)]
pub struct CqlSettings {
    /// Nodes of ScyllaDB or Apache Cassandra to begin with; the others are found through them
    #[arg(
        long,
        env = "PULSO_CQL_NODES",
        value_name = "HOST:PORT",
        value_delimiter = ',',
        default_value = "127.0.0.1:9042"
    )]
    pub cql_nodes: Vec<String>,

    /// Keyspace of Pulso's tables
    #[arg(long, env = "PULSO_CQL_KEYSPACE", value_name = "NAME", default_value = "pulso")]
    pub cql_keyspace: String,

    /// The data center whose nodes are used; any when there is only one
    #[arg(long, env = "PULSO_CQL_DATACENTER", value_name = "NAME")]
    pub cql_datacenter: Option<String>,

    /// User of the store, when it wants one
    #[arg(long, env = "PULSO_CQL_USER", value_name = "NAME")]
    pub cql_user: Option<String>,

    /// Password of that user
    #[arg(long, env = "PULSO_CQL_PASSWORD", value_name = "PASSWORD", hide_env_values = true)]
    pub cql_password: Option<Secret>,

    /// File that holds the password, instead of giving it here
    #[arg(long, env = "PULSO_CQL_PASSWORD_FILE", value_name = "FILE")]
    pub cql_password_file: Option<PathBuf>,

    /// Certificates (PEM) that the nodes' own are checked against; given, every connection is TLS
    #[arg(long, env = "PULSO_CQL_CA", value_name = "FILE")]
    pub cql_ca: Option<PathBuf>,

    /// How long one request may take; not less than the servers' own time limits
    #[arg(long, env = "PULSO_CQL_TIMEOUT", value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    #[serde(serialize_with = "duration_as_text")]
    pub cql_timeout: Duration,
}

impl CqlSettings {
    /// The nodes and the keyspace, everything else as it is by default.
    #[must_use]
    pub fn new(nodes: &[&str], keyspace: &str) -> Self {
        Self {
            cql_nodes: nodes.iter().map(|node| (*node).to_owned()).collect(),
            cql_keyspace: keyspace.to_owned(),
            cql_datacenter: None,
            cql_user: None,
            cql_password: None,
            cql_password_file: None,
            cql_ca: None,
            cql_timeout: Duration::from_secs(10),
        }
    }

    /// Checks what can be checked without the store. The keyspace's name stands in statements, so it is a plain one.
    ///
    /// # Errors
    /// A sentence that names the setting.
    pub fn validate(&self) -> Result<(), StoreError> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let name = self.cql_keyspace.as_bytes();
        let good = name.first().is_some_and(u8::is_ascii_lowercase) && name.iter().all(|byte| plain(*byte));
        if !good || name.len() > KEYSPACE_BYTES_MAX {
            return Err(StoreError::Refused(format!(
                "--cql-keyspace {}: give a name of a-z, 0-9 and _ that begins with a letter",
                self.cql_keyspace
            )));
        }
        if self.cql_nodes.iter().all(|node| node.trim().is_empty()) {
            return Err(StoreError::Refused("--cql-nodes names no node; give HOST:PORT".to_owned()));
        }
        if self.cql_timeout.is_zero() {
            return Err(StoreError::Refused("--cql-timeout is 0s; give at least 1s".to_owned()));
        }
        let password = self.cql_password.is_some() || self.cql_password_file.is_some();
        if self.cql_user.is_some() != password {
            return Err(StoreError::Refused(
                "--cql-user and --cql-password (or --cql-password-file) come together; one is missing"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    /// User and password, when there are any.
    pub(super) fn credentials(&self) -> Result<Option<(&str, Secret)>, StoreError> {
        let (value, file) = (self.cql_password.as_ref(), self.cql_password_file.as_deref());
        let password = secret::resolve("--cql-password", value, file).map_err(StoreError::Refused)?;
        Ok(self.cql_user.as_deref().zip(password))
    }

    /// The nodes, for an error.
    pub(super) fn place(&self) -> String {
        self.cql_nodes.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Parser, Debug, Serialize)]
    struct Role {
        #[command(flatten)]
        #[serde(flatten)]
        cql: CqlSettings,
    }

    #[test]
    fn every_flag_is_an_environment_variable_of_the_same_name() {
        Role::command().debug_assert();
        for argument in Role::command().get_arguments() {
            let Some(long) = argument.get_long() else { continue };
            let name = format!("PULSO_{}", long.replace('-', "_").to_uppercase());
            assert_eq!(argument.get_env().and_then(|env| env.to_str()), Some(name.as_str()), "{long}");
        }
    }

    #[test]
    fn the_settings_are_printed_without_the_password() {
        let words = ["role", "--cql-nodes", "a:1,b:2", "--cql-user", "pulso", "--cql-password", "hunter2"];
        let role = Role::parse_from(words);
        assert_eq!(role.cql.cql_nodes, ["a:1", "b:2"]);
        let printed = serde_json::to_string(&role).unwrap();
        assert!(!printed.contains("hunter2") && printed.contains("\"cql_timeout\":\"10s\""), "{printed}");
        assert!(!format!("{role:?}").contains("hunter2"));
        role.cql.validate().unwrap();
    }

    #[test]
    fn what_cannot_work_is_refused_with_the_setting_to_mend() {
        let good = CqlSettings::new(&["127.0.0.1:9042"], "pulso");
        good.validate().unwrap();
        let refused = |change: &dyn Fn(&mut CqlSettings), flag: &str| {
            let mut settings = good.clone();
            change(&mut settings);
            let error = settings.validate().unwrap_err();
            assert!(error.to_string().contains(flag) && !error.is_retryable(), "{error}");
        };
        for name in ["", "Pulso", "1pulso", "pul so", "pulso; DROP", &"p".repeat(49)] {
            refused(&|settings| name.clone_into(&mut settings.cql_keyspace), "--cql-keyspace");
        }
        refused(&|settings| settings.cql_nodes.clear(), "--cql-nodes");
        refused(&|settings| settings.cql_user = Some("pulso".to_owned()), "--cql-password");
        refused(&|settings| settings.cql_timeout = Duration::ZERO, "--cql-timeout");
    }
}
