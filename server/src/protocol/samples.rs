//! A request and a response of every API, filled in as far as a version goes: every field that the
//! version has differs from its default, and every field that it lacks is at its default. A third
//! statement of the version tables, next to decoding and encoding, that holds both to it.

use bytes::Bytes;

use super::api_versions::ApiVersion;
use super::create_topics::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreatableTopicResult,
    CreatedTopicConfig,
};
use super::delete_topics::{DeletableTopicResult, DeleteTopicState};
use super::fetch::{
    AbortedTransaction, EpochEndOffset, FetchPartition, FetchPartitionResponse, FetchTopic,
    FetchTopicResponse, ForgottenTopic, LeaderIdAndEpoch,
};
use super::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsTopic, ListOffsetsTopicResponse,
};
use super::metadata::{
    AUTHORIZED_OPERATIONS_OMITTED, MetadataBroker, MetadataPartition, MetadataRequestTopic,
    MetadataTopic,
};
use super::produce::{
    ProducePartition, ProducePartitionResponse, ProduceTopic, ProduceTopicResponse, RecordError,
};
use super::*;

const TOPIC: &str = "büch-log";

fn id() -> Uuid {
    0x1122_3344_5566_7788_99aa_bbcc_ddee_ff00.into()
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// In place of a version: a message filled in altogether, those fields included that went away.
pub(super) const ALL_FIELDS: i16 = i16::MAX;

/// `value` from version `since` on, `default` before.
struct Since(i16);

impl Since {
    fn of<T>(&self, since: i16, value: T, default: T) -> T {
        if self.0 >= since { value } else { default }
    }

    fn in_8_to_10(&self) -> bool {
        (8..=10).contains(&self.0) || self.0 == ALL_FIELDS
    }
}

/// A request of an API as a version can carry it.
pub(super) fn request(api_key: ApiKey, version: i16) -> Request {
    let at = Since(version);
    match api_key {
        ApiKey::Produce => Request::Produce(produce_request()),
        ApiKey::Fetch => Request::Fetch(fetch_request(&at)),
        ApiKey::ListOffsets => Request::ListOffsets(list_offsets_request(&at)),
        ApiKey::Metadata => Request::Metadata(metadata_request(&at)),
        ApiKey::FindCoordinator => Request::FindCoordinator(FindCoordinatorRequest {
            key: "readers".to_owned(),
            key_type: at.of(1, 1, 0),
        }),
        ApiKey::ApiVersions => Request::ApiVersions(ApiVersionsRequest {
            client_software_name: at.of(3, "client".to_owned(), String::new()),
            client_software_version: at.of(3, "1.2.3".to_owned(), String::new()),
        }),
        ApiKey::CreateTopics => Request::CreateTopics(create_topics_request()),
        ApiKey::DeleteTopics => Request::DeleteTopics(DeleteTopicsRequest {
            topics: vec![
                DeleteTopicState { name: text(TOPIC), topic_id: Uuid::ZERO },
                DeleteTopicState {
                    name: at.of(6, None, text("")),
                    topic_id: at.of(6, id(), Uuid::ZERO),
                },
            ],
            timeout_ms: 1000,
        }),
        ApiKey::InitProducerId => Request::InitProducerId(InitProducerIdRequest {
            transactional_id: text("tx"),
            transaction_timeout_ms: 1000,
            producer_id: at.of(3, 21, -1),
            producer_epoch: at.of(3, 2, -1),
        }),
    }
}

fn produce_request() -> ProduceRequest {
    let partition = |partition_index, records| ProducePartition { partition_index, records };
    let topic = ProduceTopic {
        name: TOPIC.to_owned(),
        partitions: vec![
            partition(0, Some(Bytes::from(vec![0xab; 300]))),
            partition(1, None),
            partition(2, Some(Bytes::new())),
        ],
    };
    let nothing = ProduceTopic { name: "empty".to_owned(), partitions: Vec::new() };
    let topics = vec![topic, nothing];
    ProduceRequest { transactional_id: text("tx"), acks: -1, timeout_ms: 1000, topics }
}

fn fetch_request(at: &Since) -> FetchRequest {
    let partition = FetchPartition {
        partition: 3,
        current_leader_epoch: at.of(9, 5, -1),
        fetch_offset: 77,
        last_fetched_epoch: at.of(12, 4, -1),
        log_start_offset: at.of(5, 6, -1),
        partition_max_bytes: 1 << 20,
    };
    let partitions = vec![partition.clone(), partition];
    let forgotten = ForgottenTopic { topic: "old".to_owned(), partitions: vec![1, 2] };
    FetchRequest {
        cluster_id: at.of(12, text("cluster"), None),
        replica_id: 4,
        max_wait_ms: 500,
        min_bytes: 1,
        max_bytes: 1 << 25,
        isolation_level: IsolationLevel::ReadCommitted,
        session_id: at.of(7, 11, 0),
        session_epoch: at.of(7, 12, -1),
        topics: vec![FetchTopic { topic: TOPIC.to_owned(), partitions }],
        forgotten_topics: at.of(7, vec![forgotten], Vec::new()),
        rack_id: at.of(11, "rack".to_owned(), String::new()),
    }
}

fn list_offsets_request(at: &Since) -> ListOffsetsRequest {
    let partition = ListOffsetsPartition {
        partition_index: 3,
        current_leader_epoch: at.of(4, 5, -1),
        timestamp_ms: 1_700_000_000_000,
    };
    ListOffsetsRequest {
        replica_id: 4,
        isolation_level: at.of(2, IsolationLevel::ReadCommitted, IsolationLevel::ReadUncommitted),
        topics: vec![ListOffsetsTopic { name: TOPIC.to_owned(), partitions: vec![partition] }],
    }
}

fn metadata_request(at: &Since) -> MetadataRequest {
    let by_name = MetadataRequestTopic { topic_id: Uuid::ZERO, name: text(TOPIC) };
    let by_id = MetadataRequestTopic {
        topic_id: at.of(10, id(), Uuid::ZERO),
        name: at.of(10, None, text("")),
    };
    MetadataRequest {
        topics: Some(vec![by_name, by_id]),
        allow_auto_topic_creation: at.of(4, false, true),
        include_cluster_authorized_operations: at.in_8_to_10(),
        include_topic_authorized_operations: at.of(8, true, false),
    }
}

fn create_topics_request() -> CreateTopicsRequest {
    let config = |name: &str, value| CreatableTopicConfig { name: name.to_owned(), value };
    let topic = CreatableTopic {
        name: TOPIC.to_owned(),
        num_partitions: 4,
        replication_factor: 3,
        assignments: vec![CreatableReplicaAssignment {
            partition_index: 1,
            broker_ids: vec![1, 2, 3],
        }],
        configs: vec![config("retention.ms", text("5")), config("cleanup.policy", None)],
    };
    CreateTopicsRequest { topics: vec![topic], timeout_ms: 1000, validate_only: true }
}

/// A response of an API as a version can carry it.
pub(super) fn response(api_key: ApiKey, version: i16) -> Response {
    let at = Since(version);
    match api_key {
        ApiKey::Produce => Response::Produce(produce_response(&at)),
        ApiKey::Fetch => Response::Fetch(fetch_response(&at)),
        ApiKey::ListOffsets => Response::ListOffsets(list_offsets_response(&at)),
        ApiKey::Metadata => Response::Metadata(metadata_response(&at)),
        ApiKey::FindCoordinator => Response::FindCoordinator(FindCoordinatorResponse {
            throttle_time_ms: at.of(1, 9, 0),
            error_code: ErrorCode::COORDINATOR_NOT_AVAILABLE,
            error_message: at.of(1, text("wait"), None),
            node_id: 1,
            host: "127.0.0.1".to_owned(),
            port: 9092,
        }),
        ApiKey::ApiVersions => Response::ApiVersions(ApiVersionsResponse {
            error_code: ErrorCode::INVALID_REQUEST,
            api_keys: vec![ApiVersion { api_key: 18, min_version: 1, max_version: 3 }],
            throttle_time_ms: at.of(1, 9, 0),
        }),
        ApiKey::CreateTopics => Response::CreateTopics(create_topics_response(&at)),
        ApiKey::DeleteTopics => Response::DeleteTopics(delete_topics_response(&at)),
        ApiKey::InitProducerId => Response::InitProducerId(InitProducerIdResponse {
            throttle_time_ms: 9,
            error_code: ErrorCode::INVALID_PRODUCER_EPOCH,
            producer_id: 21,
            producer_epoch: 2,
        }),
    }
}

fn produce_response(at: &Since) -> ProduceResponse {
    let record_errors = vec![
        RecordError { batch_index: 4, batch_index_error_message: text("no key") },
        RecordError { batch_index: 5, batch_index_error_message: None },
    ];
    let partition = ProducePartitionResponse {
        partition_index: 3,
        error_code: ErrorCode::INVALID_RECORD,
        base_offset: 88,
        log_append_time_ms: 1_700_000_000_000,
        log_start_offset: at.of(5, 6, -1),
        record_errors: at.of(8, record_errors, Vec::new()),
        error_message: at.of(8, text("bad batch"), None),
    };
    let partitions = vec![partition];
    let topics = vec![ProduceTopicResponse { name: TOPIC.to_owned(), partitions }];
    ProduceResponse { topics, throttle_time_ms: 9 }
}

fn fetch_response(at: &Since) -> FetchResponse {
    let diverging = EpochEndOffset { epoch: 4, end_offset: 32 };
    let leader = LeaderIdAndEpoch { leader_id: 1, leader_epoch: 5 };
    let full = FetchPartitionResponse {
        partition_index: 3,
        error_code: ErrorCode::FENCED_LEADER_EPOCH,
        high_watermark: 64,
        last_stable_offset: 63,
        log_start_offset: at.of(5, 6, -1),
        diverging_epoch: at.of(12, Some(diverging), None),
        current_leader: at.of(12, Some(leader), None),
        aborted_transactions: Some(vec![AbortedTransaction { producer_id: 21, first_offset: 31 }]),
        preferred_read_replica: at.of(11, 6, -1),
        records: vec![Bytes::from(vec![0xcd; 200])],
    };
    let empty = FetchPartitionResponse::default();
    let partitions = vec![full, empty];
    FetchResponse {
        throttle_time_ms: 9,
        error_code: at.of(7, ErrorCode::FETCH_SESSION_ID_NOT_FOUND, ErrorCode::NONE),
        session_id: at.of(7, 11, 0),
        topics: vec![FetchTopicResponse { topic: TOPIC.to_owned(), partitions }],
    }
}

fn list_offsets_response(at: &Since) -> ListOffsetsResponse {
    let partition = ListOffsetsPartitionResponse {
        partition_index: 3,
        error_code: ErrorCode::UNKNOWN_LEADER_EPOCH,
        timestamp_ms: 1_700_000_000_000,
        offset: 64,
        leader_epoch: at.of(4, 5, -1),
    };
    let partitions = vec![partition];
    ListOffsetsResponse {
        throttle_time_ms: at.of(2, 9, 0),
        topics: vec![ListOffsetsTopicResponse { name: TOPIC.to_owned(), partitions }],
    }
}

fn metadata_response(at: &Since) -> MetadataResponse {
    let partition = MetadataPartition {
        error_code: ErrorCode::LEADER_NOT_AVAILABLE,
        partition_index: 3,
        leader_id: 1,
        leader_epoch: at.of(7, 5, -1),
        replica_nodes: vec![1, 2, 3],
        isr_nodes: vec![1, 2],
        offline_replicas: at.of(5, vec![3], Vec::new()),
    };
    let topic = MetadataTopic {
        error_code: ErrorCode::UNKNOWN_TOPIC_ID,
        name: at.of(12, None, text("")),
        topic_id: at.of(10, id(), Uuid::ZERO),
        is_internal: at.of(1, true, false),
        partitions: vec![partition],
        topic_authorized_operations: at.of(8, 0xf0, AUTHORIZED_OPERATIONS_OMITTED),
    };
    let broker = MetadataBroker {
        node_id: 1,
        host: "127.0.0.1".to_owned(),
        port: 9092,
        rack: at.of(1, text("rack"), None),
    };
    let known = MetadataTopic { name: text(TOPIC), ..topic.clone() };
    let cluster_operations = if at.in_8_to_10() { 0xff } else { AUTHORIZED_OPERATIONS_OMITTED };
    MetadataResponse {
        throttle_time_ms: at.of(3, 9, 0),
        brokers: vec![broker],
        cluster_id: at.of(2, text("cluster"), None),
        controller_id: at.of(1, 1, -1),
        topics: vec![topic, known],
        cluster_authorized_operations: cluster_operations,
    }
}

fn create_topics_response(at: &Since) -> CreateTopicsResponse {
    let config = CreatedTopicConfig {
        name: "retention.ms".to_owned(),
        value: None,
        read_only: true,
        config_source: 5,
        is_sensitive: true,
    };
    let topic = CreatableTopicResult {
        name: TOPIC.to_owned(),
        topic_id: at.of(7, id(), Uuid::ZERO),
        error_code: ErrorCode::INVALID_CONFIG,
        error_message: text("no such configuration"),
        topic_config_error_code: at.of(5, ErrorCode::POLICY_VIOLATION, ErrorCode::NONE),
        num_partitions: at.of(5, 4, -1),
        replication_factor: at.of(5, 3, -1),
        configs: at.of(5, Some(vec![config]), None),
    };
    let bare = CreatableTopicResult { name: "bare".to_owned(), ..CreatableTopicResult::default() };
    CreateTopicsResponse { throttle_time_ms: 9, topics: vec![topic, bare] }
}

fn delete_topics_response(at: &Since) -> DeleteTopicsResponse {
    let topic = DeletableTopicResult {
        name: at.of(6, None, text("")),
        topic_id: at.of(6, id(), Uuid::ZERO),
        error_code: ErrorCode::UNKNOWN_TOPIC_ID,
        error_message: at.of(5, text("no such topic"), None),
    };
    let known = DeletableTopicResult { name: text(TOPIC), ..topic.clone() };
    DeleteTopicsResponse { throttle_time_ms: 9, responses: vec![topic, known] }
}
