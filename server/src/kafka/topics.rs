//! Metadata, CreateTopics and DeleteTopics; and FindCoordinator, which finds none yet.

use woodchuck::EngineError;
use woodchuck_io::Env;
use woodchuck_stream::{Topic, TopicId, TopicName};

use super::{Broker, NODE_ID, errors};
use crate::protocol::create_topics::{CreatableTopic, CreatableTopicResult};
use crate::protocol::delete_topics::{DeletableTopicResult, DeleteTopicState};
use crate::protocol::metadata::{
    MetadataBroker, MetadataPartition, MetadataRequestTopic, MetadataTopic,
};
use crate::protocol::{
    CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest, DeleteTopicsResponse,
    ErrorCode, FindCoordinatorResponse, MetadataRequest, MetadataResponse, Uuid,
};

impl<E: Env> Broker<E> {
    pub(super) async fn metadata(&self, request: MetadataRequest) -> MetadataResponse {
        let mut topics = Vec::new();
        match request.topics {
            None => topics.extend(self.inner.engine.topics().iter().map(describe)),
            Some(wanted) => {
                for topic in wanted {
                    let create = request.allow_auto_topic_creation && self.inner.auto_create_topics;
                    topics.push(self.find_topic(topic, create).await);
                }
            }
        }
        MetadataResponse {
            brokers: vec![MetadataBroker {
                node_id: NODE_ID,
                host: self.inner.advertised_host.clone(),
                port: i32::from(self.inner.advertised_port),
                rack: None,
            }],
            cluster_id: Some(format!("{:032x}", self.inner.engine.identity().cluster_id)),
            controller_id: NODE_ID,
            topics,
            ..Default::default()
        }
    }

    async fn find_topic(&self, wanted: MetadataRequestTopic, create: bool) -> MetadataTopic {
        let Some(name) = wanted.name else {
            let topics = self.inner.engine.topics();
            return topics.by_id(topic_id(wanted.topic_id)).map_or_else(
                || MetadataTopic {
                    error_code: ErrorCode::UNKNOWN_TOPIC_ID,
                    topic_id: wanted.topic_id,
                    ..Default::default()
                },
                describe,
            );
        };
        if let Some(topic) = self.inner.engine.topics().by_name(&name) {
            return describe(topic);
        }
        let error_code = match TopicName::new(&name) {
            Err(_) => ErrorCode::INVALID_TOPIC_EXCEPTION,
            Ok(_) if !create => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            Ok(valid) => match self.auto_create(valid).await {
                Ok(topic) => return describe(&topic),
                Err(error) => {
                    tracing::warn!("cannot create topic {name}: {error}");
                    errors::code(&error)
                }
            },
        };
        MetadataTopic { error_code, name: Some(name), ..Default::default() }
    }

    async fn auto_create(&self, name: TopicName) -> Result<Topic, EngineError> {
        let engine = &self.inner.engine;
        match engine.create_topic(name.clone(), self.inner.default_partitions).await {
            // Somebody else was quicker.
            Err(EngineError::TopicExists) => {
                let topics = engine.topics();
                topics.by_name(name.as_str()).cloned().ok_or(EngineError::UnknownPartition)
            }
            created => created,
        }
    }

    pub(super) async fn create_topics(&self, request: CreateTopicsRequest) -> CreateTopicsResponse {
        let mut response = CreateTopicsResponse::default();
        for topic in request.topics {
            let name = topic.name.clone();
            let result = match self.check_creation(&topic) {
                Err((code, why)) => Err((code, why)),
                Ok((_, partitions)) if request.validate_only => Ok((Uuid::ZERO, partitions)),
                Ok((valid, partitions)) => self
                    .inner
                    .engine
                    .create_topic(valid, partitions)
                    .await
                    .map(|topic| (uuid(topic.id), partitions))
                    .map_err(|error| (creation_code(&error), error.to_string())),
            };
            response.topics.push(match result {
                Ok((topic_id, partitions)) => CreatableTopicResult {
                    name,
                    topic_id,
                    num_partitions: i32::try_from(partitions).unwrap_or(i32::MAX),
                    replication_factor: 1,
                    configs: Some(Vec::new()),
                    ..Default::default()
                },
                Err((error_code, why)) => CreatableTopicResult {
                    name,
                    error_code,
                    error_message: Some(why),
                    ..Default::default()
                },
            });
        }
        response
    }

    /// Checks what a client wants created, and gives its name and number of partitions.
    fn check_creation(
        &self,
        topic: &CreatableTopic,
    ) -> Result<(TopicName, u32), (ErrorCode, String)> {
        let name = TopicName::new(&topic.name)
            .map_err(|error| (ErrorCode::INVALID_TOPIC_EXCEPTION, error.to_string()))?;
        if self.inner.engine.topics().by_name(&topic.name).is_some() {
            let error = EngineError::TopicExists;
            return Err((errors::code(&error), error.to_string()));
        }
        if !matches!(topic.replication_factor, -1 | 1) {
            let why =
                format!("there is one broker; {} replicas need more", topic.replication_factor);
            return Err((ErrorCode::INVALID_REPLICATION_FACTOR, why));
        }
        if let Some(config) = topic.configs.first() {
            // Taking a setting without following it would be worse than refusing it.
            let why = format!("topic setting {} is not supported yet; leave it out", config.name);
            return Err((ErrorCode::INVALID_CONFIG, why));
        }
        let partitions = if topic.assignments.is_empty() {
            match topic.num_partitions {
                -1 => Some(self.inner.default_partitions),
                count => u32::try_from(count).ok().filter(|&count| count > 0),
            }
        } else {
            check_assignments(topic)?
        };
        let partitions = partitions.ok_or_else(|| {
            let why = format!("{} is not a number of partitions", topic.num_partitions);
            (ErrorCode::INVALID_PARTITIONS, why)
        })?;
        Ok((name, partitions))
    }

    pub(super) async fn delete_topics(&self, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
        let mut response = DeleteTopicsResponse::default();
        for wanted in request.topics {
            response.responses.push(self.delete_topic(wanted).await);
        }
        response
    }

    async fn delete_topic(&self, wanted: DeleteTopicState) -> DeletableTopicResult {
        let topics = self.inner.engine.topics();
        let (topic, unknown) = match &wanted.name {
            Some(name) => (topics.by_name(name), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            None => (topics.by_id(topic_id(wanted.topic_id)), ErrorCode::UNKNOWN_TOPIC_ID),
        };
        let mut result = DeletableTopicResult {
            name: wanted.name.clone(),
            topic_id: wanted.topic_id,
            ..Default::default()
        };
        let Some(topic) = topic else {
            result.error_code = unknown;
            return result;
        };
        result.name = Some(topic.name.as_str().to_owned());
        result.topic_id = uuid(topic.id);
        if let Err(error) = self.inner.engine.delete_topic(topic.id).await {
            result.error_code = errors::code(&error);
            result.error_message = Some(error.to_string());
        }
        result
    }
}

/// The partitions that a manual assignment asks for: 0, 1, 2, … all on this broker.
fn check_assignments(topic: &CreatableTopic) -> Result<Option<u32>, (ErrorCode, String)> {
    let mut indexes: Vec<i32> =
        topic.assignments.iter().map(|assignment| assignment.partition_index).collect();
    indexes.sort_unstable();
    let consecutive = (0_i32..).zip(&indexes).all(|(expected, index)| expected == *index);
    let here = topic.assignments.iter().all(|assignment| assignment.broker_ids == [NODE_ID]);
    if consecutive && here {
        return Ok(u32::try_from(indexes.len()).ok());
    }
    let why = format!("assign partitions 0, 1, 2, … each to broker {NODE_ID} alone");
    Err((ErrorCode::INVALID_REPLICA_ASSIGNMENT, why))
}

fn creation_code(error: &EngineError) -> ErrorCode {
    match error {
        EngineError::Invalid(_) => ErrorCode::INVALID_PARTITIONS,
        error => errors::code(error),
    }
}

fn describe(topic: &Topic) -> MetadataTopic {
    let partition = |partition_index| MetadataPartition {
        partition_index,
        leader_id: NODE_ID,
        leader_epoch: 0,
        replica_nodes: vec![NODE_ID],
        isr_nodes: vec![NODE_ID],
        ..Default::default()
    };
    let partitions = i32::try_from(topic.partitions).unwrap_or(i32::MAX);
    MetadataTopic {
        name: Some(topic.name.as_str().to_owned()),
        topic_id: uuid(topic.id),
        partitions: (0..partitions).map(partition).collect(),
        ..Default::default()
    }
}

fn uuid(id: TopicId) -> Uuid {
    Uuid(id.0.to_be_bytes())
}

fn topic_id(uuid: Uuid) -> TopicId {
    TopicId(u128::from_be_bytes(uuid.0))
}

/// There are no consumer groups and no transactions yet, and so no coordinators.
pub(super) fn no_coordinator() -> FindCoordinatorResponse {
    FindCoordinatorResponse {
        error_code: ErrorCode::COORDINATOR_NOT_AVAILABLE,
        error_message: Some(
            "consumer groups are not served yet; assign partitions to consumers".to_owned(),
        ),
        ..Default::default()
    }
}
