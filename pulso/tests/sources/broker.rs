//! The brokers that `deploy/local` started: where they are, and how one is killed and comes back.

use std::process::Command;

use parking_lot::{Mutex, MutexGuard};

use crate::record::wait_until;

/// One test at a time for each broker, since a test kills it.
static REDIS: Mutex<()> = Mutex::new(());
static RABBITMQ: Mutex<()> = Mutex::new(());

/// A broker that this test has for itself.
pub(crate) struct Broker {
    script: &'static str,
    port: String,
    data: String,
    _alone: MutexGuard<'static, ()>,
}

impl Broker {
    /// Redis.
    pub(crate) fn redis() -> Self {
        Self::of("redis.sh", ["REDIS_PORT", "PULSO_TEST_REDIS_DATA"], REDIS.lock())
    }

    /// RabbitMQ.
    pub(crate) fn rabbitmq() -> Self {
        Self::of("rabbitmq.sh", ["RABBITMQ_PORT", "PULSO_TEST_RABBITMQ_DATA"], RABBITMQ.lock())
    }

    fn of(script: &'static str, names: [&str; 2], alone: MutexGuard<'static, ()>) -> Self {
        let [port, data] = names.map(|name| {
            std::env::var(name)
                .unwrap_or_else(|_| panic!("{name} is not set; run scripts/test-cluster sources"))
        });
        Self { script, port, data, _alone: alone }
    }

    /// Its address.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// kill -9, and starts it again on what it kept. The system may need a moment to give its port free.
    pub(crate) fn kill_and_start(&self) {
        assert!(self.run(&["signal", "KILL"]), "{} was not there to be killed", self.script);
        wait_until("the broker does not come back", || self.run(&["start"]));
    }

    /// Stops it in order and starts it again: all that it was told is on its disk then.
    pub(crate) fn restart(&self) {
        assert!(self.run(&["stop"]), "{} does not stop", self.script);
        wait_until("the broker does not come back", || self.run(&["start"]));
    }

    fn run(&self, arguments: &[&str]) -> bool {
        let script = format!("{}/../deploy/local/{}", env!("CARGO_MANIFEST_DIR"), self.script);
        let ran = Command::new(&script).args(arguments).args(["--data", &self.data]).output();
        ran.expect("the script runs").status.success()
    }
}
