//! Kubernetes in, Kubernetes out: gather, parse, plan, execute, report.

mod message_contact;

mod resource_directory;

mod gather;

mod secrets;

mod keys;

mod execute;

mod report;

mod trail;

mod measured;

mod claims;

mod ledgers;

mod policies;

mod standings;

mod contact_policy;

mod open_reports;

mod triggers;

mod shown;

mod scope;

mod readiness;

mod watches;

pub use gather::{Environment, World, member_not_allowed, not_admitted, not_allowed};
pub use keys::not_connected;
pub use measured::ContactState;
pub use readiness::Readiness;
pub use report::kind_of;
pub use scope::Scope;
pub use secrets::{
    PACE as SECRETS_PACE, READ_AGAIN_AFTER as SECRETS_READ_AGAIN_AFTER,
    READ_EVERY as SECRETS_READ_EVERY,
};
pub use watches::run;
