//! One integration binary: one file a user story, on a real apiserver and over the cloud's wire.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on is a failed test")]
#![allow(clippy::disallowed_methods, reason = "tests start programs and read the environment")]
#![allow(missing_docs, unreachable_pub, reason = "the names of the stories say what they are")]

mod many;
mod privacy;
mod stand;

mod canary;
mod create;
mod rest;
mod validate;

mod architecture;
mod generated;
