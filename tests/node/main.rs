//! The operator on a real node: its image, its chart, as its users install, upgrade and remove it.
//!
//! Needs root, `runc` and Debian's packages. Elsewhere one line says that it was left out, unless
//! `MCO_NODE=required`, as in CI: then that is a failure.
#![allow(
    clippy::disallowed_methods,
    reason = "the environment says what must run: this is the shell of a test"
)]

mod helm;

mod image;

mod story;

mod stand;
