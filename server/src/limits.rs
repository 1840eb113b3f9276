//! Every bound of this crate, in one place.

use std::time::Duration;

/// The largest request that is read, in bytes without its length prefix. A client that announces a
/// larger one is disconnected before anything is reserved for it.
pub const REQUEST_BYTES: usize = 64 << 20;

/// What a connection's receive buffer starts with, and goes back to.
pub const RECEIVE_BYTES: usize = 4 << 10;

/// What a connection may always receive, whatever the others hold.
pub const RECEIVE_FREE_BYTES: usize = 64 << 10;

/// What all connections of one shard may hold beyond [`RECEIVE_FREE_BYTES`] each: requests that
/// are arriving and requests that are not answered yet.
pub const RECEIVE_BUDGET_BYTES: usize = 256 << 20;

/// What the answers of all connections of one shard may hold in records, beyond
/// [`ANSWER_FREE_BYTES`], or one batch, each.
pub const ANSWER_BUDGET_BYTES: usize = 256 << 20;

/// What an answer may hold in records, whatever the others hold.
pub const ANSWER_FREE_BYTES: usize = 64 << 10;

/// How long a request that has begun may go without a byte arriving.
pub const RECEIVE_STALL: Duration = Duration::from_secs(30);

/// How long a connection may wait for more of the budget. It holds what it has received meanwhile,
/// and is not read from, so that nobody sees whether its client is still there.
pub const RECEIVE_BUDGET_WAIT: Duration = Duration::from_secs(2);

/// Requests of one connection that may wait for their answers. Beyond it the connection is not
/// read from.
pub const REQUESTS_IN_FLIGHT: usize = 256;

/// Connections one shard serves at a time. One more is closed as soon as it is accepted.
pub const CONNECTIONS: usize = 20_000;

/// How long connections get to finish what they began when the broker is asked to stop.
pub const STOP_GRACE: Duration = Duration::from_secs(5);

/// How long to wait before accepting again after accepting failed.
pub const ACCEPT_RETRY: Duration = Duration::from_millis(100);

const _: () = assert!(RECEIVE_BYTES <= RECEIVE_FREE_BYTES, "the free part holds the first buffer");
const _: () = assert!(
    RECEIVE_BUDGET_BYTES >= 2 * REQUEST_BYTES,
    "two requests of the largest size fit the budget while one of them is being answered"
);
