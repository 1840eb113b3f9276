//! The whole product inside the simulated world.
//!
//! **What lives here.** A Kafka client over the seam ([`client`]); what clients saw, and what must
//! be true of it ([`history`]); clients that work and check (`bots`); and the scenario that puts a
//! broker and its clients into one world and strikes the broker down again and again ([`broker`]).
//! The log ([`log`]) and the store ([`store`]) by themselves have scenarios of their own.
//! Besides, a small service that shows how another one is tested ([`register`]).
//!
//! **How data flows.** A seed gives a world and a plan. Bots tell the history what they sent, what
//! was acknowledged and what they read; the first contradiction is reported as a property by its
//! name, and in the end the simulator's checkers judge the whole. Bots also tell the chronicle what
//! they ask and are answered.
//!
//! **What must never be here.** Knowledge of the engine's insides: what is checked is what a client
//! can see.

mod bots;
pub mod broker;
pub mod client;
pub mod history;
pub mod log;
pub mod register;
pub mod store;

use woodchuck_sim::scenario::Scenario;

/// All scenarios, the product's first.
#[must_use]
pub fn all() -> Vec<Scenario> {
    vec![broker::scenario(), register::scenario(), log::scenario(), store::scenario()]
}
