//! The words of this project: values without behaviour of the outside world.
//!
//! *Desired* comes from a spec, *recorded* from our own status, *observed* from the cloud.

pub mod contact;

pub mod channel;

pub mod verification;

pub mod ledger;

pub mod access;

pub mod call;

pub mod snapshot;

pub mod directory;

pub mod policy;

pub mod verdict;

#[cfg(test)]
mod tests;
