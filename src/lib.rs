//! Keeps the message contacts of an Alibaba Cloud resource directory in git.
//!
//! One walk: gather, parse, plan, execute, report. `ARCHITECTURE.md` draws the map.

pub mod domain;

pub mod plan;

pub mod api;

pub mod cloud;

pub mod directory;

pub mod controller;

pub mod lease;

pub mod clock;

pub mod uptime;

pub mod telemetry;

pub mod cli;
