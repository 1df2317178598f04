//! A proven connection to the brokers: what they say of a topic, as it is and as it is set.

use std::collections::HashMap;

use futures::executor::block_on;
use rdkafka::ClientConfig;
use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigSource, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::MetadataTopic;
use rdkafka::producer::Producer as _;
use rdkafka::types::RDKafkaRespErr;

use super::client::{ASK_TIMEOUT, Complaints, Talk};
use super::producer::{self, Client, Producer, ProducerSettings};
use super::settings::KafkaSettings;
use crate::log::LogError;

/// What the topic of a next generation has as the one before, also where that left it to the brokers.
const COPIED_ALWAYS: [&str; 5] =
    ["cleanup.policy", "max.message.bytes", "message.timestamp.type", "min.insync.replicas", "retention.ms"];

/// Brokers that have answered.
pub(super) struct Brokers {
    settings: KafkaSettings,
    pub(super) config: ClientConfig,
    pub(super) complaints: Complaints,
    client: Client,
}

/// One partition of a topic, as the brokers have it now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct PartitionFacts {
    /// Whether some broker leads it.
    pub(super) has_leader: bool,
    /// How many replicas hold all of it.
    pub(super) in_sync: usize,
    /// How many there shall be.
    pub(super) replicas: usize,
}

/// How a topic is set.
pub(super) struct TopicSettings {
    topic: String,
    values: HashMap<String, String>,
    /// What was set on the topic itself.
    own: Vec<(String, String)>,
}

/// A topic to be made.
pub(super) struct WantedTopic<'a> {
    pub(super) name: &'a str,
    pub(super) partitions: u32,
    pub(super) replication_factor: u16,
    pub(super) settings: Vec<(&'a str, String)>,
}

impl Brokers {
    /// Connects, and proves it by a question.
    ///
    /// # Errors
    /// [`LogError::Misconfigured`] or [`LogError::Unreachable`], with what to look at.
    pub(super) fn connect(settings: &KafkaSettings) -> Result<Self, LogError> {
        let config = settings.client()?;
        let complaints = Complaints::default();
        let client = producer::create(&config, &complaints)?;
        if let Err(error) = client.client().fetch_metadata(None, ASK_TIMEOUT) {
            return Err(complaints.sentence(settings, &error));
        }
        Ok(Self { settings: settings.clone(), config, complaints, client })
    }

    /// The topic's partitions in order; `None` when there is no such topic.
    pub(super) fn partitions(&self, topic: &str) -> Result<Option<Vec<PartitionFacts>>, LogError> {
        partitions_of(&self.client, topic).map_err(|error| self.complaints.sentence(&self.settings, &error))
    }

    /// How the topic is set, also where it leaves that to the brokers.
    pub(super) fn topic_settings(&self, topic: &str) -> Result<TopicSettings, LogError> {
        let refused = |error: &dyn std::fmt::Display| {
            LogError::Misconfigured(format!(
                "the settings of topic {topic} cannot be read ({error}); the user needs DescribeConfigs on it"
            ))
        };
        let asked = [ResourceSpecifier::Topic(topic)];
        let answer = block_on(self.admin()?.describe_configs(&asked, &options()));
        let mut found = answer.map_err(|error| self.complaints.sentence(&self.settings, &error))?;
        let resource = found.pop().ok_or_else(|| refused(&"no answer"))?.map_err(|error| refused(&error))?;
        let (mut values, mut own) = (HashMap::new(), Vec::new());
        for entry in resource.entries {
            let Some(value) = entry.value else { continue };
            // A throttle names replicas of this topic alone.
            if entry.source == ConfigSource::DynamicTopic && !entry.name.contains("throttled") {
                own.push((entry.name.clone(), value.clone()));
            }
            values.insert(entry.name, value);
        }
        Ok(TopicSettings { topic: topic.to_owned(), values, own })
    }

    /// Makes a topic; false when it is there already.
    pub(super) fn create_topic(&self, wanted: &WantedTopic<'_>) -> Result<bool, LogError> {
        let copies = TopicReplication::Fixed(wanted.replication_factor.into());
        let topic = NewTopic::new(wanted.name, wanted.partitions.cast_signed(), copies);
        let settings = wanted.settings.iter();
        let topic = settings.fold(topic, |topic, (name, value)| topic.set(name, value));
        let answer = block_on(self.admin()?.create_topics([&topic], &options()));
        let made = answer.map_err(|error| self.complaints.sentence(&self.settings, &error))?;
        match made.into_iter().next() {
            Some(Ok(_)) => Ok(true),
            Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(false),
            Some(Err((_, RDKafkaErrorCode::InvalidReplicationFactor))) => {
                Err(LogError::Misconfigured(format!(
                    "topic {} cannot have {} copies on the brokers there are; give a smaller --replication-factor",
                    wanted.name, wanted.replication_factor
                )))
            }
            Some(Err((_, code))) => Err(LogError::Misconfigured(format!(
                "topic {} cannot be made ({code}); the user needs Create on the cluster",
                wanted.name
            ))),
            None => {
                Err(LogError::Unreachable("the brokers did not say whether the topic was made".to_owned()))
            }
        }
    }

    /// A producer for one topic.
    pub(super) fn producer(&self, settings: ProducerSettings) -> Result<Producer, LogError> {
        let mut config = self.config.clone();
        config.set("compression.type", self.settings.kafka_compression.name());
        Producer::new(config, settings, self.complaints.clone())
    }

    fn admin(&self) -> Result<AdminClient<Talk>, LogError> {
        AdminClient::from_config_and_context(&self.config, Talk::default())
            .map_err(|error| LogError::Misconfigured(error.to_string()))
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(ASK_TIMEOUT)).operation_timeout(Some(ASK_TIMEOUT))
}

/// The topic's partitions in order; `None` when there is no such topic.
pub(super) fn partitions_of(client: &Client, topic: &str) -> Result<Option<Vec<PartitionFacts>>, KafkaError> {
    let metadata = client.client().fetch_metadata(Some(topic), ASK_TIMEOUT)?;
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else { return Ok(None) };
    match found.error() {
        None => Ok(Some(facts(found))),
        Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART) => Ok(None),
        Some(error) => Err(KafkaError::MetadataFetch(error.into())),
    }
}

fn facts(topic: &MetadataTopic) -> Vec<PartitionFacts> {
    let mut numbered: Vec<(i32, PartitionFacts)> = topic
        .partitions()
        .iter()
        .map(|found| {
            let (in_sync, replicas) = (found.isr().len(), found.replicas().len());
            (found.id(), PartitionFacts { has_leader: found.leader() >= 0, in_sync, replicas })
        })
        .collect();
    numbered.sort_unstable_by_key(|(id, _)| *id);
    numbered.into_iter().map(|(_, facts)| facts).collect()
}

impl TopicSettings {
    /// A setting by Kafka's name; empty when the brokers do not tell.
    pub(super) fn text(&self, name: &str) -> &str {
        self.values.get(name).map_or("", String::as_str)
    }

    /// A setting that is a number.
    pub(super) fn number(&self, name: &str) -> i64 {
        self.text(name).parse().unwrap_or(-1)
    }

    /// What a topic must be given to be set as this one: whatever was set on it, and what the log relies on.
    pub(super) fn to_copy(&self) -> Vec<(&str, String)> {
        let mut copied: Vec<(&str, String)> =
            self.own.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        for name in COPIED_ALWAYS {
            let value = self.text(name);
            if !value.is_empty() && copied.iter().all(|(known, _)| *known != name) {
                copied.push((name, value.to_owned()));
            }
        }
        copied
    }

    /// Fails with what must be changed when a setting is not as it must be.
    pub(super) fn must(&self, name: &str, is_good: bool, wish: &str) -> Result<(), LogError> {
        if is_good {
            return Ok(());
        }
        let (topic, found) = (&self.topic, self.text(name));
        Err(LogError::Misconfigured(format!("topic {topic} has {name}={found}; set {name}={wish} on it")))
    }

    /// What the log demands of a generation's topic.
    pub(super) fn check_log(&self) -> Result<(), LogError> {
        let bytes = self.number("max.message.bytes");
        let least = producer::BATCH_BYTES_MAX as i64;
        self.must("max.message.bytes", bytes >= least, &least.to_string())?;
        // Time stands still for no client, and the id horizon must not follow a client's clock.
        let stamp = "message.timestamp.type";
        self.must(stamp, self.text(stamp) == "LogAppendTime", "LogAppendTime")?;
        // A replica that lacks records must not lead: what was acknowledged would be gone. Some brokers do not know the setting.
        let unclean = "unclean.leader.election.enable";
        self.must(unclean, self.text(unclean) != "true", "false")?;
        // Compaction makes holes.
        let policy = "cleanup.policy";
        self.must(policy, self.text(policy) == "delete", "delete")
    }
}
