//! One integration binary: one file a user story, on a real apiserver and over the cloud's wire.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on is a failed test")]
#![allow(clippy::disallowed_methods, reason = "tests start programs and read the environment")]
#![allow(missing_docs, unreachable_pub, reason = "the names of the stories say what they are")]

mod stand;

mod create;
mod drift;
mod gone;
mod hostile;
mod report_only;
mod requested_at;
mod suspend;
mod update;

mod architecture;
mod generated;
