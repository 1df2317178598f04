//! A broker that demands a user over an encrypted connection.

use super::{fresh, named_brokers};
use crate::log::conformance::{append, read_all};
use crate::log::kafka::{KafkaLog, KafkaLogOptions, KafkaSecurity, KafkaSettings};
use crate::log::{Log as _, LogError};

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set; run make test-cluster"))
}

fn secured() -> KafkaSettings {
    KafkaSettings {
        kafka_security: KafkaSecurity::SaslSsl,
        kafka_user: Some("pulso".to_owned()),
        kafka_password: Some("hunter2".into()),
        kafka_ca: Some(variable("PULSO_TEST_KAFKA_SASL_CA").into()),
        ..named_brokers("PULSO_TEST_KAFKA_SASL")
    }
}

fn refused(settings: &KafkaSettings) -> String {
    let error = KafkaLog::open(settings, KafkaLogOptions::default()).map(|_| ()).unwrap_err();
    assert!(matches!(error, LogError::Misconfigured(_)), "{error:?}");
    error.to_string()
}

#[test]
fn a_user_with_the_right_password_has_a_log() {
    let (_, log) = fresh(&secured());
    append(&*log, 0, b"over tls").unwrap();
    assert_eq!(read_all(&*log, &[(0, 1)])[0].value, "over tls");
    assert!(log.is_appendable());
}

#[test]
fn wrong_credentials_are_told_in_one_sentence() {
    let wrong = refused(&KafkaSettings { kafka_password: Some("wrong".into()), ..secured() });
    assert!(wrong.contains("refused the user") && wrong.contains("--kafka-password"), "{wrong}");
    assert!(!wrong.contains("wrong\""), "{wrong}");
    let unknown = refused(&KafkaSettings { kafka_user: Some("nobody".to_owned()), ..secured() });
    assert!(unknown.contains("refused the user"), "{unknown}");
    let untrusted = refused(&KafkaSettings { kafka_ca: None, ..secured() });
    assert!(untrusted.contains("--kafka-ca"), "{untrusted}");
}
