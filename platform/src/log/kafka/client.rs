//! What all clients of the brokers share: how their talk is logged, and how a failed connection becomes one sentence.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::settings::KafkaSettings;
use crate::log::LogError;

/// How long one question to the brokers may take: a leader election is over by then, or it is a real outage.
pub(super) const ASK_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a client whose topic nobody watches asks for it: once it was told that there is none, as by a broker that starts,
/// it believes that until it asks again, by default for five minutes.
pub(super) const ASK_ANEW_EVERY_MS: &str = "3000";

/// What OpenSSL begins an error of a handshake with, behind its number.
const OPENSSL_SAYS: &str = ":SSL routines:";

/// Remembers what the brokers last complained about, since the error of a call mostly says no more than "timed out".
#[derive(Clone, Default, Debug)]
pub(super) struct Complaints(Arc<Mutex<Option<Complaint>>>);

#[derive(Clone, Debug)]
struct Complaint {
    code: Option<RDKafkaErrorCode>,
    reason: String,
}

impl Complaints {
    fn note(&self, code: Option<RDKafkaErrorCode>, reason: &str) {
        // That all are down follows from the reason noted before it.
        if code != Some(RDKafkaErrorCode::AllBrokersDown) {
            *self.0.lock() = Some(Complaint { code, reason: reason.to_owned() });
        }
    }

    /// Why the brokers could not be asked, with what to look at.
    ///
    /// A handshake that fails within the client's first look at it is reported as a broken transport, with OpenSSL's words in
    /// the reason; one that fails later as an error of the encryption. Which of the two it is depends on the load alone.
    pub(super) fn sentence(&self, settings: &KafkaSettings, error: &KafkaError) -> LogError {
        let brokers = &settings.kafka_brokers;
        let Some(Complaint { code, reason }) = self.0.lock().clone() else {
            return LogError::Unreachable(format!(
                "no broker of {brokers} answers ({error}); check --kafka-brokers"
            ));
        };
        let code = if reason.contains(OPENSSL_SAYS) { Some(RDKafkaErrorCode::SSL) } else { code };
        match code {
            Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed) => {
                LogError::Misconfigured(format!(
                    "the brokers refused the user ({reason}); check --kafka-user, --kafka-password and --kafka-mechanism"
                ))
            }
            Some(RDKafkaErrorCode::SSL) => LogError::Misconfigured(format!(
                "no encrypted connection to {brokers} ({reason}); check --kafka-security and --kafka-ca"
            )),
            _ => LogError::Unreachable(format!(
                "no broker of {brokers} answers ({reason}); check --kafka-brokers and --kafka-security"
            )),
        }
    }
}

/// The context of a client without deliveries or a group.
#[derive(Default, Debug)]
pub(super) struct Talk {
    pub(super) complaints: Complaints,
}

impl ClientContext for Talk {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        complain(&self.complaints, &error, reason);
    }
}

impl ConsumerContext for Talk {}

/// A connection that fails is tried again by the client itself, so none of its lines is an error that someone must act on:
/// that is said by whoever cannot go on.
pub(super) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error => {
            tracing::warn!(facility, message, "the kafka client says");
        }
        _ => tracing::debug!(facility, message, "the kafka client says"),
    }
}

pub(super) fn complain(complaints: &Complaints, error: &KafkaError, reason: &str) {
    tracing::debug!(%error, reason, "the kafka client complains");
    complaints.note(error.rdkafka_error_code(), reason);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(code: RDKafkaErrorCode, reason: &str) -> LogError {
        let complaints = Complaints::default();
        complain(&complaints, &KafkaError::Global(code), reason);
        complain(&complaints, &KafkaError::Global(RDKafkaErrorCode::AllBrokersDown), "1/1 brokers are down");
        complaints.sentence(
            &KafkaSettings::plaintext("b:9093"),
            &KafkaError::Global(RDKafkaErrorCode::OperationTimedOut),
        )
    }

    #[test]
    fn a_certificate_that_is_not_trusted_is_a_wrong_setting_however_early_it_is_seen() {
        let early = "sasl_ssl://b:9093/bootstrap: error:0A000086:SSL routines::certificate verify failed (after 3ms in state SSL_HANDSHAKE)";
        let late = "sasl_ssl://b:9093/bootstrap: SSL handshake failed: error:0A000086:SSL routines::certificate verify failed: broker certificate could not be verified";
        for (code, reason) in
            [(RDKafkaErrorCode::BrokerTransportFailure, early), (RDKafkaErrorCode::SSL, late)]
        {
            let error = told(code, reason);
            assert!(
                matches!(&error, LogError::Misconfigured(said) if said.contains("--kafka-ca")),
                "{error:?}"
            );
        }
    }

    #[test]
    fn a_broker_that_does_not_answer_is_unreachable_and_not_a_wrong_setting() {
        let error = told(
            RDKafkaErrorCode::BrokerTransportFailure,
            "sasl_ssl://b:9093/bootstrap: Connect to ipv4#127.0.0.1:9093 failed: Connection refused",
        );
        assert!(
            matches!(&error, LogError::Unreachable(said) if said.contains("Connection refused")),
            "{error:?}"
        );
    }
}
