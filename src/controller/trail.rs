//! The audit trail: one line for each change that was asked of the cloud, with the object it was
//! asked for and who changed its spec last. No value of a contact is in it.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::ResourceExt as _;

use super::gather::Judgement;
use crate::api::MessageContact;
use crate::directory::Priority;
use crate::domain::call::{self, Call, CallError, Changes, ErrorCode, Reply, RequestId};

/// Writes the line once the call has ended, whoever still waits for that. What only reads leaves
/// none.
pub(super) fn line(
    judgement: &Judgement,
    priority: Priority,
) -> impl FnOnce(&Call, &Result<Reply, CallError>) + Send + 'static {
    let object = &judgement.object;
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let generation = object.metadata.generation;
    let directory = judgement.directory_name.clone();
    let changed_by = author(object).map(str::to_owned);
    move |call, result| {
        if call.action().is_read() {
            return;
        }
        let error = result.as_ref().err();
        tracing::info!(
            kind = "MessageContact",
            namespace,
            name,
            generation,
            directory,
            action = call.action().as_str(),
            fields = fields_of(call).join(","),
            cause = priority.as_str(),
            changed_by,
            outcome = call::outcome(result),
            code = error.and_then(|error| error.code.as_ref()).map(ErrorCode::as_str),
            request_id = error.and_then(|error| error.request_id.as_ref()).map(RequestId::as_str),
            "a change was asked of the cloud"
        );
    }
}

/// The fields of the spec that a call carries into the cloud.
fn fields_of(call: &Call) -> Vec<&'static str> {
    let given = |fields: &[(&'static str, bool)]| {
        let given = fields.iter().filter_map(|(field, given)| given.then_some(*field));
        given.collect()
    };
    match call {
        Call::AddMessageContact(new) => given(&[
            ("name", true),
            ("title", true),
            ("emailAddress", true),
            ("phoneNumber", new.phone.is_some()),
            ("messageTypes", true),
        ]),
        Call::UpdateMessageContact(_, changes) => fields(changes),
        Call::SendEmailVerificationForMessageContact(..) => vec!["emailAddress"],
        Call::SendPhoneVerificationForMessageContact(..) => vec!["phoneNumber"],
        Call::CancelMessageContactUpdate { id: _, email, phone } => {
            given(&[("emailAddress", email.is_some()), ("phoneNumber", phone.is_some())])
        }
        Call::AssociateMembers(..) | Call::DisassociateMembers(..) => vec!["members"],
        Call::DeleteMessageContact { .. }
        | Call::GetMessageContact(_)
        | Call::ListMessageContacts { .. }
        | Call::GetMessageContactDeletionStatus(_)
        | Call::ListMessageContactVerifications { .. }
        | Call::GetResourceDirectory
        | Call::ListAccounts { .. } => Vec::new(),
    }
}

/// The fields that an update changes.
pub(super) fn fields(changes: &Changes) -> Vec<&'static str> {
    let Changes { name, title, email, phone, message_types } = changes;
    [
        ("name", name.is_some()),
        ("title", title.is_some()),
        ("emailAddress", email.is_some()),
        ("phoneNumber", phone.is_some()),
        ("messageTypes", message_types.is_some()),
    ]
    .into_iter()
    .filter_map(|(field, changed)| changed.then_some(field))
    .collect()
}

/// Keeps of the managed fields who changed the spec last and when, and nothing else.
///
/// The apiserver notes whole seconds, and one time for everything that a manager has set: who only
/// changes a label after having set the spec counts as well.
pub(super) fn keep_author(object: &mut MessageContact) {
    let managed = object.metadata.managed_fields.take().unwrap_or_default();
    let sets_spec = |entry: &ManagedFieldsEntry| {
        let fields = entry.fields_v1.as_ref().and_then(|fields| fields.0.as_object());
        entry.subresource.as_deref().unwrap_or_default().is_empty()
            && fields.is_some_and(|fields| fields.contains_key("f:spec"))
    };
    let last = managed
        .into_iter()
        .filter(sets_spec)
        .max_by_key(|entry| entry.time.as_ref().map(|time| time.0));
    object.metadata.managed_fields = last.map(|entry| {
        let ManagedFieldsEntry { manager, time, .. } = entry;
        vec![ManagedFieldsEntry { manager, time, ..ManagedFieldsEntry::default() }]
    });
}

/// The field manager that changed the spec last, as [`keep_author`] has left it.
fn author(object: &MessageContact) -> Option<&str> {
    object.metadata.managed_fields.as_ref()?.first()?.manager.as_deref()
}

/// When the spec was changed last, in whole seconds, as [`keep_author`] has left it.
pub(super) fn changed_at(object: &MessageContact) -> Option<Timestamp> {
    Some(object.metadata.managed_fields.as_ref()?.first()?.time.as_ref()?.0)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn managed_by(entries: Value) -> MessageContact {
        let object = json!({
            "apiVersion": "message-contacts.dev/v1alpha1", "kind": "MessageContact",
            "metadata": { "name": "desk", "managedFields": entries },
            "spec": { "name": "Baiqi", "title": "CEO", "messageTypes": ["FaultMessage"] },
        });
        let mut object = serde_json::from_value(object).expect("it is a contact");
        keep_author(&mut object);
        object
    }

    fn entry(manager: &str, time: &str, subresource: &str, fields: Value) -> Value {
        json!({ "manager": manager, "operation": "Update", "time": time,
            "subresource": subresource, "fieldsType": "FieldsV1", "fieldsV1": fields })
    }

    #[test]
    fn of_the_managed_fields_the_last_author_of_the_spec_is_kept() {
        let spec = || json!({ "f:spec": { "f:title": {} } });
        let object = managed_by(json!([
            entry("argocd", "2026-01-15T09:00:00Z", "", spec()),
            entry("kubectl-edit", "2026-01-15T09:30:00Z", "", spec()),
            entry("labeller", "2026-01-15T10:00:00Z", "", json!({ "f:metadata": {} })),
            entry("operator", "2026-01-15T11:00:00Z", "status", spec()),
        ]));
        assert_eq!(author(&object), Some("kubectl-edit"));
        assert_eq!(changed_at(&object), Some("2026-01-15T09:30:00Z".parse().expect("a time")));
        let kept = object.metadata.managed_fields.clone().unwrap_or_default();
        assert!(kept.len() == 1 && kept[0].fields_v1.is_none(), "{kept:?}");
        let unknown = managed_by(json!([]));
        assert_eq!((author(&unknown), changed_at(&unknown)), (None, None));
    }
}
