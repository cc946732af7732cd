//! The operator on a real node: its image, its chart, as its users install, upgrade and remove it.
//!
//! Needs root, `runc` and Debian's packages. Elsewhere one line says that it was left out, unless
//! `MCO_NODE=required`, as in CI: then that is a failure.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on is a failed test")]
#![allow(clippy::disallowed_methods, reason = "tests start programs and read the environment")]
#![allow(missing_docs, unreachable_pub, reason = "the names of the stories say what they are")]

mod helm;

mod image;

mod story;

mod stand;
