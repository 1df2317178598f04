//! The frame that every server stands in: its tasks and their ordered end, its health, its metrics, its admin listener.

use std::net::SocketAddr;
use std::time::Duration;

use pulso_platform::service::admin::{self, Admin};
use pulso_platform::service::health::Health;
use pulso_platform::service::listen;
use pulso_platform::service::settings::ProcessSettings;
use pulso_platform::service::tasks::{Exit as End, Signals, Stage, Supervisor, Tasks};
use pulso_platform::service::telemetry;
use serde_json::json;
use tokio::net::TcpListener;

use crate::cli::exit::Failure;

/// A process that serves something.
pub struct Host {
    /// Spawns supervised tasks, and asks for the end.
    pub tasks: Tasks,
    /// What `/readyz` answers.
    pub health: Health,
    /// How long a stop may take.
    pub grace: Duration,
    supervisor: Supervisor,
    /// What it listens on, by the name that the ready line gives it.
    listens: Vec<(&'static str, SocketAddr)>,
}

impl Host {
    /// Takes signals and serves the admin listener, which is named last in the ready line.
    ///
    /// # Errors
    /// When a port is taken.
    pub async fn start(
        process: &ProcessSettings,
        listens: &[(&'static str, &TcpListener)],
    ) -> Result<Self, Failure> {
        let signals = Signals::of_process().map_err(Failure::failed)?;
        let (tasks, supervisor) = Tasks::new(signals);
        let metrics = telemetry::install_metrics().map_err(Failure::failed)?;
        let health = Health::new();
        let listener = bind(process.admin_addr, "--admin-addr").await?;
        let mut named = listens.to_vec();
        named.push(("admin", &listener));
        let listens = named.into_iter().map(|(name, listener)| Ok((name, address(listener)?)));
        let listens = listens.collect::<Result<_, Failure>>()?;
        let admin = Admin { metrics, health: health.clone() };
        let stop = tasks.stop_of(Stage::Close);
        tasks.spawn(Stage::Close, "admin", async { Ok(admin::serve(listener, admin, stop).await?) });
        Ok(Self { tasks, health, grace: process.grace, supervisor, listens })
    }

    /// One more listener, named behind the others in the ready line.
    ///
    /// # Errors
    /// When the system does not know its address.
    pub fn also_listens(&mut self, name: &'static str, listener: &TcpListener) -> Result<(), Failure> {
        self.listens.push((name, address(listener)?));
        Ok(())
    }

    /// The line that says that it can serve, and where.
    #[must_use]
    pub fn ready_line(&self) -> String {
        // By hand, since the order of the fields is part of the interface.
        let listens = self.listens.iter();
        let listens = listens.map(|(name, address)| format!(r#","{name}":{}"#, json!(address.to_string())));
        format!(r#"{{"event":"ready"{}}}"#, listens.collect::<String>())
    }

    /// Where it listens under a name; `None` when it has no such listener.
    #[must_use]
    pub fn address_of(&self, name: &str) -> Option<SocketAddr> {
        self.listens.iter().find(|(listens, _)| *listens == name).map(|(_, address)| *address)
    }

    /// Serves until the end is asked for or a task fails, then stops stage by stage.
    pub async fn run(self) -> End {
        self.supervisor.run(&self.health, self.grace).await
    }
}

/// Listens. `flag` sets the address, for the sentence when it is taken.
///
/// # Errors
/// When the address is taken or cannot be had.
pub async fn bind(address: SocketAddr, flag: &'static str) -> Result<TcpListener, Failure> {
    listen::bind(address, flag).await.map_err(Failure::failed)
}

fn address(listener: &TcpListener) -> Result<SocketAddr, Failure> {
    listener.local_addr().map_err(Failure::failed)
}
