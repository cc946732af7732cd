//! The cloud's side of a resource directory's message contacts, on one machine.
//!
//! Speaks the wire protocol of `ResourceDirectoryMaster` 2022-04-19 and Sts 2015-04-01 (signatures
//! V1 and V3), keeps one directory in memory, and lets a test decide everything that is not
//! documented ([`Switches`]) and everything that can go wrong ([`Fault`]). Shares no code with the
//! operator: what both believe is checked against requests of the official SDKs.
//!
//! ```text
//! http ── server ── world ─┬─ keys, sign   who calls
//!            │             ├─ traffic      lane, throttling, counts
//!         handle           ├─ wire         bytes to operations and back
//!            │             ├─ model        the directory
//!         control          └─ sts, faults
//! ```
//!
//! Only `http`, `server` and `control` know sockets; `world` and all below it get the time as an
//! argument.
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! use directory_simulator::{Fault, FaultKind, Options, Simulator};
//!
//! let simulator = Simulator::start(Options::default()).await?;
//! simulator.fault(Fault::on("AddMessageContact", FaultKind::Drop { executed: true }));
//! // ... let a client call simulator.endpoint() ...
//! assert_eq!(simulator.counts().of("AddMessageContact"), 1);
//! # Ok(())
//! # }
//! ```

mod control;
mod faults;
mod handle;
mod http;
mod keys;
mod model;
mod server;
mod sign;
mod sts;
pub mod switches;
mod traffic;
mod wire;
mod world;

#[cfg(test)]
mod tests;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::ListenerExt as _;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub use crate::faults::{Fault, FaultKind};
pub use crate::handle::{ContactState, Handle, State};
pub use crate::keys::{Key, Owner, Session, Signature, TIME_WINDOW};
pub use crate::model::{
    Account, Channel, ChannelKind, Click, Contact, ContactChange, Deletion, DeletionPlan,
    FailReason, Folder, MESSAGE_TYPES, Message, MessageState, NewContact, Pending, Quotas, TITLES,
    Tree,
};
pub use crate::sts::Role;
pub use crate::switches::Switches;
pub use crate::traffic::{CallRecord, Counts, Hold, RetryAfter, Throttle};

/// The id of the access key that every simulator knows.
pub const ACCESS_KEY_ID: &str = "FakeAccessKeyId0001";
/// Its secret.
pub const ACCESS_KEY_SECRET: &str = "FakeAccessKeySecret0001";
/// The directory's id.
pub const DIRECTORY_ID: &str = "rd-sim001";
/// The id of the directory's root folder.
pub const ROOT_FOLDER_ID: &str = "r-sim001";
/// The account that owns the directory.
pub const MANAGEMENT_ACCOUNT_ID: &str = "1000000000000001";
/// The role that may be taken, and that the simulated instance has.
pub const ROLE_NAME: &str = "message-contact-operator";

/// How a simulator starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where the API listens. Port 0: any free one.
    pub listen: SocketAddr,
    /// Where the control port listens.
    pub control: SocketAddr,
    /// The first access key.
    pub access_key_id: String,
    /// Its secret.
    pub access_key_secret: String,
    /// Ids, folders and accounts.
    pub tree: Tree,
    /// Limits.
    pub quotas: Quotas,
    /// How open questions are answered.
    pub switches: Switches,
    /// How many calls are let through.
    pub throttle: Throttle,
    /// How long each call takes.
    pub latency: Duration,
}

impl Default for Options {
    fn default() -> Self {
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            listen: any_port,
            control: any_port,
            access_key_id: ACCESS_KEY_ID.to_owned(),
            access_key_secret: ACCESS_KEY_SECRET.to_owned(),
            tree: Tree::default(),
            quotas: Quotas::default(),
            switches: Switches::default(),
            throttle: Throttle::default(),
            latency: Duration::ZERO,
        }
    }
}

/// A running simulator. Ends when dropped.
#[derive(Debug)]
pub struct Simulator {
    handle: Handle,
    listen: SocketAddr,
    control: SocketAddr,
    tasks: [JoinHandle<()>; 2],
}

impl Simulator {
    /// Starts both listeners as tasks of the current runtime.
    ///
    /// # Errors
    /// If an address is taken.
    pub async fn start(options: Options) -> io::Result<Self> {
        let api = TcpListener::bind(options.listen).await?;
        let control = TcpListener::bind(options.control).await?;
        let (listen_at, control_at) = (api.local_addr()?, control.local_addr()?);
        let handle = Handle::new(options);
        let router = control::router(handle.clone());
        let control = control.tap_io(|stream| {
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "small answers may be late");
            }
        });
        let tasks = [
            tokio::spawn(server::serve(api, Arc::clone(&handle.shared))),
            tokio::spawn(async move {
                if let Err(error) = axum::serve(control, router).await {
                    tracing::error!(%error, "the control port has ended");
                }
            }),
        ];
        Ok(Self { handle, listen: listen_at, control: control_at, tasks })
    }

    /// The API's origin, such as `http://127.0.0.1:8443`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.listen)
    }

    /// The control port's origin.
    #[must_use]
    pub fn control(&self) -> String {
        format!("http://{}", self.control)
    }

    /// A handle that outlives a borrow.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }
}

impl Deref for Simulator {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}
