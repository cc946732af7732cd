//! One integration binary: one file a user story, on a real apiserver and over the cloud's wire.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on is a failed test")]
#![allow(clippy::print_stdout, reason = "what a story counts is shown with --nocapture")]
#![allow(clippy::disallowed_methods, reason = "tests start programs and read the environment")]
#![allow(missing_docs, unreachable_pub, reason = "the names of the stories say what they are")]
#![allow(clippy::similar_names, clippy::too_many_lines, reason = "a story is told in one go")]

mod dice;
mod gate;
mod judges;
mod many;
mod privacy;
mod process;
mod proxy;
mod stand;
mod walk;

mod adoption;
mod bad_input;
mod bindings;
mod browser;
mod busy;
mod canary;
mod chart;
mod crashes;
mod create;
mod credentials;
mod definition_deleted;
mod delete;
mod deletion_table;
mod directory;
mod directory_deleted;
mod doctor;
mod drift;
mod drift_contested;
mod endpoints;
mod export;
mod first_ten_minutes;
mod gitops_actions;
mod gitops_apply;
mod gitops_flux_full;
mod gitops_health;
mod gitops_helm;
mod gitops_sample;
mod gone;
mod hand_over;
mod hostile;
mod killed;
mod leader;
mod lost_answers;
mod management;
mod matrix;
mod message_limits;
mod metrics;
mod moving;
mod name_taken;
mod namespace_deleted;
mod not_green_early;
mod one_mail;
mod plan_command;
mod policy;
mod policy_admission;
mod policy_agreement;
mod policy_evasion;
mod policy_examples;
mod policy_reports;
mod policy_status;
mod relists;
mod report;
mod report_only;
mod requested_at;
mod rest;
mod rights;
mod same_name;
mod secrets;
mod server_errors;
mod shells;
mod stops;
mod suspend;
mod throttled;
mod unreachable;
mod untouched_spec;
mod update;
mod validate;
mod values_from_secrets;
mod verification;
mod watch_namespace;

mod alerts;
mod architecture;
mod assumptions;
mod documented_commands;
mod generated;
mod golden;
mod reference;
