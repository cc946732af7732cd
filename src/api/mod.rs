//! The Kubernetes types: what users write, what they read, and the way between them and `domain`.
//!
//! The docs of the structs are what `kubectl explain` prints.

pub mod message_contact;

pub mod resource_directory;

pub mod contact_policy;

pub mod admission;

pub mod open_report;

pub mod parse;

pub mod values;

pub mod names;

pub mod status;

mod schema;

pub use contact_policy::{ContactPolicy, ContactPolicySpec, ContactPolicyStatus};
pub use message_contact::{MessageContact, MessageContactSpec, MessageContactStatus, Private};
pub use resource_directory::{ResourceDirectory, ResourceDirectorySpec, ResourceDirectoryStatus};

pub use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;

/// The API group of all kinds.
pub const GROUP: &str = "message-contacts.dev";

/// On any object: asks for a reconcile now. Any text; a new text is a new request.
pub const REQUESTED_AT: &str = "message-contacts.dev/requestedAt";

/// On a MessageContact: asks for one more verification message.
pub const RESEND_REQUESTED_AT: &str = "message-contacts.dev/resendRequestedAt";

/// Keeps a MessageContact until its contact is settled in the cloud.
pub const FINALIZER: &str = "message-contacts.dev/contact";

/// Keeps a ResourceDirectory while MessageContacts need it to be deleted.
pub const DIRECTORY_FINALIZER: &str = "message-contacts.dev/directory";

/// The field manager under which status is written.
pub const FIELD_MANAGER: &str = "message-contact-operator";

/// The definitions of all kinds, as the cluster gets them.
#[must_use]
pub fn crds() -> Vec<CustomResourceDefinition> {
    vec![MessageContact::crd(), ResourceDirectory::crd(), ContactPolicy::crd()]
}

#[cfg(test)]
mod tests;
