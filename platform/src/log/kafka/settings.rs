//! Where Kafka is and how to speak to it: flags and environment variables that every role of the cluster takes.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use rdkafka::ClientConfig;
use serde::Serialize;

use crate::log::LogError;
use crate::service::secret::{Secret, resolve};

/// How to reach the brokers.
#[derive(Args, Clone, PartialEq, Eq, Debug, Serialize)]
pub struct KafkaSettings {
    /// Kafka brokers to begin with, separated by commas; the others are learnt from them
    #[arg(long, env = "PULSO_KAFKA_BROKERS", value_name = "HOST:PORT,...", value_parser = parse_brokers)]
    pub kafka_brokers: String,

    /// How the brokers are spoken to
    #[arg(long, env = "PULSO_KAFKA_SECURITY", value_name = "PROTOCOL", default_value = "plaintext")]
    pub kafka_security: KafkaSecurity,

    /// How the password is proven, with a sasl protocol
    #[arg(long, env = "PULSO_KAFKA_MECHANISM", value_name = "MECHANISM", default_value = "scram-sha-512")]
    pub kafka_mechanism: KafkaMechanism,

    /// User, with a sasl protocol
    #[arg(long, env = "PULSO_KAFKA_USER", value_name = "NAME")]
    pub kafka_user: Option<String>,

    /// Password of the user; better given by its variable or in a file, since flags are seen by everyone on the machine
    #[arg(long, env = "PULSO_KAFKA_PASSWORD", value_name = "TEXT", hide_env_values = true)]
    pub kafka_password: Option<Secret>,

    /// File that holds the password
    #[arg(long, env = "PULSO_KAFKA_PASSWORD_FILE", value_name = "FILE")]
    pub kafka_password_file: Option<PathBuf>,

    /// Certificates (PEM) that the brokers' own must lead to; the system's when not given
    #[arg(long, env = "PULSO_KAFKA_CA", value_name = "FILE")]
    pub kafka_ca: Option<PathBuf>,

    /// How records of pulses are compressed before they are sent: less for brokers and network, or less for the sender's CPU
    #[arg(long, env = "PULSO_KAFKA_COMPRESSION", value_name = "CODEC", default_value = "lz4")]
    pub kafka_compression: KafkaCompression,
}

/// How records are compressed, by Kafka's names.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum KafkaCompression {
    /// Not at all.
    None,
    /// Fast: about half the bytes.
    Lz4,
    /// Slower, and fewer bytes.
    Zstd,
}

impl KafkaCompression {
    /// Its name in Kafka.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// Kafka's security protocols, by Kafka's names.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum KafkaSecurity {
    /// Neither encrypted nor with a user.
    Plaintext,
    /// Encrypted.
    Ssl,
    /// With a user, not encrypted.
    SaslPlaintext,
    /// With a user, encrypted.
    SaslSsl,
}

/// How a user proves the password.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum KafkaMechanism {
    /// SCRAM-SHA-512.
    #[value(name = "scram-sha-512")]
    #[serde(rename = "scram-sha-512")]
    ScramSha512,
    /// SCRAM-SHA-256.
    #[value(name = "scram-sha-256")]
    #[serde(rename = "scram-sha-256")]
    ScramSha256,
    /// The password as it is; only over an encrypted connection.
    Plain,
}

impl KafkaSecurity {
    const fn name(self) -> &'static str {
        match self {
            Self::Plaintext => "plaintext",
            Self::Ssl => "ssl",
            Self::SaslPlaintext => "sasl_plaintext",
            Self::SaslSsl => "sasl_ssl",
        }
    }

    const fn has_user(self) -> bool {
        matches!(self, Self::SaslPlaintext | Self::SaslSsl)
    }

    const fn is_encrypted(self) -> bool {
        matches!(self, Self::Ssl | Self::SaslSsl)
    }
}

impl KafkaMechanism {
    const fn name(self) -> &'static str {
        match self {
            Self::ScramSha512 => "SCRAM-SHA-512",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::Plain => "PLAIN",
        }
    }
}

impl KafkaSettings {
    /// Brokers that are spoken to in the clear and without a user.
    #[must_use]
    pub fn plaintext(brokers: &str) -> Self {
        Self {
            kafka_brokers: brokers.to_owned(),
            kafka_security: KafkaSecurity::Plaintext,
            kafka_mechanism: KafkaMechanism::ScramSha512,
            kafka_user: None,
            kafka_password: None,
            kafka_password_file: None,
            kafka_ca: None,
            kafka_compression: KafkaCompression::Lz4,
        }
    }

    /// What every client of these brokers is made with.
    ///
    /// # Errors
    /// [`LogError::Misconfigured`] with the setting that does not fit the others.
    pub(super) fn client(&self) -> Result<ClientConfig, LogError> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.kafka_brokers)
            .set("client.id", "pulso")
            .set("security.protocol", self.kafka_security.name())
            // Asking for a topic must not make it, with whatever settings the brokers find right.
            .set("allow.auto.create.topics", "false")
            // A broker that comes back is found within a second, not within ten.
            .set("reconnect.backoff.max.ms", "1000")
            .set("socket.keepalive.enable", "true");
        self.set_encryption(&mut config)?;
        self.set_user(&mut config)?;
        Ok(config)
    }

    fn set_encryption(&self, config: &mut ClientConfig) -> Result<(), LogError> {
        let Some(path) = &self.kafka_ca else { return Ok(()) };
        if !self.kafka_security.is_encrypted() {
            return Err(misconfigured("--kafka-ca is only used with --kafka-security ssl or sasl_ssl"));
        }
        if let Err(error) = std::fs::metadata(path) {
            return Err(misconfigured(&format!("--kafka-ca {} cannot be read: {error}", path.display())));
        }
        config.set("ssl.ca.location", path.to_string_lossy());
        Ok(())
    }

    fn set_user(&self, config: &mut ClientConfig) -> Result<(), LogError> {
        let (password, file) = (self.kafka_password.as_ref(), self.kafka_password_file.as_deref());
        let password = resolve("--kafka-password", password, file).map_err(|error| misconfigured(&error))?;
        match (self.kafka_security.has_user(), &self.kafka_user, password) {
            (false, None, None) => Ok(()),
            (false, ..) => Err(misconfigured(
                "--kafka-user and --kafka-password are only used with --kafka-security sasl_plaintext or sasl_ssl",
            )),
            (true, Some(user), Some(password)) => {
                config
                    .set("sasl.mechanism", self.kafka_mechanism.name())
                    .set("sasl.username", user)
                    .set("sasl.password", password.expose());
                Ok(())
            }
            (true, ..) => Err(misconfigured(&format!(
                "--kafka-security {} needs --kafka-user and --kafka-password",
                self.kafka_security.name()
            ))),
        }
    }
}

fn misconfigured(sentence: &str) -> LogError {
    LogError::Misconfigured(sentence.to_owned())
}

/// Brokers as `host:port`, separated by commas.
fn parse_brokers(text: &str) -> Result<String, String> {
    let brokers: Vec<&str> = text.split(',').map(str::trim).collect();
    let is_broker = |broker: &&str| {
        broker.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
    };
    match brokers.iter().find(|broker| !is_broker(broker)) {
        None => Ok(brokers.join(",")),
        Some(broker) => Err(format!("'{broker}' is no HOST:PORT; write kafka-1:9092,kafka-2:9092")),
    }
}

#[cfg(test)]
mod unit {
    use clap::{CommandFactory, Parser};

    use super::*;
    use crate::service::settings::print_config;

    #[derive(Parser, Debug, Serialize)]
    struct Role {
        #[command(flatten)]
        #[serde(flatten)]
        kafka: KafkaSettings,
    }

    fn role(arguments: &[&str]) -> KafkaSettings {
        let all = ["role", "--kafka-brokers", "a:9092, b:9093"].iter().chain(arguments);
        Role::try_parse_from(all).unwrap().kafka
    }

    fn refused(arguments: &[&str]) -> String {
        role(arguments).client().unwrap_err().to_string()
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
    fn settings_that_fit_make_a_client() {
        let config = role(&[]).client().unwrap();
        assert_eq!(config.get("bootstrap.servers"), Some("a:9092,b:9093"));
        assert_eq!(config.get("security.protocol"), Some("plaintext"));
        let user = ["--kafka-security", "sasl_ssl", "--kafka-user", "u", "--kafka-password", "hunter2"];
        let config = role(&user).client().unwrap();
        assert_eq!(config.get("sasl.mechanism"), Some("SCRAM-SHA-512"));
        assert_eq!(config.get("sasl.password"), Some("hunter2"));
    }

    #[test]
    fn settings_that_do_not_fit_are_told_in_one_sentence() {
        assert!(refused(&["--kafka-security", "sasl_ssl"]).contains("needs --kafka-user"));
        assert!(refused(&["--kafka-user", "u"]).contains("only used with"));
        assert!(refused(&["--kafka-ca", "/ca.pem"]).contains("only used with"));
        assert!(refused(&["--kafka-security", "ssl", "--kafka-ca", "/no/ca.pem"]).contains("cannot be read"));
        for brokers in ["", "a", "a:b", ":1", "a:9092,,b:9092", "a:99999"] {
            assert!(Role::try_parse_from(["role", "--kafka-brokers", brokers]).is_err(), "{brokers}");
        }
    }

    #[test]
    fn the_password_is_shown_nowhere() {
        let settings = role(&["--kafka-password", "hunter2"]);
        let shown = [format!("{settings:?}"), print_config(&Role { kafka: settings })];
        assert!(shown.iter().all(|text| !text.contains("hunter2") && text.contains("***")), "{shown:?}");
    }
}
