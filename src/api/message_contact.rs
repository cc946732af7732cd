//! The kind MessageContact.

#![expect(clippy::duplicated_attributes, reason = "each printer column has a `type_` of its own")]

use std::borrow::Cow;
use std::fmt;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use kube::core::{Reason as FieldReason, Rule};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::schema::{
    self, ECHO_BYTES_MAX, ID_CHARS_MAX, OBJECT_NAME_CHARS_MAX, WORD_CHARS_MAX, rule, shape, text,
};
use crate::domain::channel::{EmailAddress, PhoneNumber};
use crate::domain::contact::{ContactName, MessageType, Title};

/// A text that tells who somebody is. `Debug` shows nothing of it.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Private(String);

impl Private {
    /// The clear text, for parsing only.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Private {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<String> for Private {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Private {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[private]")
    }
}

impl JsonSchema for Private {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Private".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        String::json_schema(generator)
    }
}

/// What a contact should be.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "message-contacts.dev",
    version = "v1alpha1",
    kind = "MessageContact",
    plural = "messagecontacts",
    shortname = "mc",
    category = "message-contacts",
    namespaced,
    status = "MessageContactStatus",
    schema = "manual",
    derive = "PartialEq",
    derive = "Default",
    selectable = ".spec.name",
    selectable = ".spec.title",
    selectable = ".status.directory",
    printcolumn(
        name = "Contact",
        type_ = "string",
        json_path = ".spec.name",
        description = "The contact's name in the cloud"
    ),
    printcolumn(
        name = "Title",
        type_ = "string",
        json_path = ".spec.title",
        description = "The contact's title"
    ),
    printcolumn(
        name = "Synced",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Synced\")].status",
        description = "Whether the cloud has what the spec says"
    ),
    printcolumn(
        name = "Verified",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"EmailVerified\")].status",
        description = "Whether the mailbox was confirmed by its owner"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether everything is as it should be"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        description = "Why it is ready or not"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "When the object was created"
    ),
    printcolumn(
        name = "Directory",
        type_ = "string",
        json_path = ".status.directory",
        priority = 1,
        description = "The ResourceDirectory in which the contact lives"
    ),
    printcolumn(
        name = "Contact ID",
        type_ = "string",
        json_path = ".status.contactId",
        priority = 1,
        description = "The contact's id in the cloud"
    ),
    printcolumn(
        name = "Message Types",
        type_ = "string",
        json_path = ".spec.messageTypes",
        priority = 1,
        description = "What the contact is told about"
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1,
        description = "What is going on, in a sentence"
    )
)]
#[serde(rename_all = "camelCase")]
#[schemars(
    extend("required" = ["messageTypes", "name", "title"]),
    extend("x-kubernetes-validations" = rules())
)]
pub struct MessageContactSpec {
    /// The ResourceDirectory in which the contact lives. Cannot be changed; left out, it is the
    /// one named `default`. Example: `{name: default}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory_ref: Option<DirectoryRef>,

    /// The contact's name in the cloud, unique in its directory: 2 to 12 letters or Chinese
    /// characters. May be changed. Example: `SecurityDesk`.
    #[serde(default)]
    #[schemars(extend("maxLength" = ContactName::CHARS_MAX))]
    pub name: Private,

    /// What the contact is in the organisation. Example: `TechnicalDirector`.
    #[serde(default)]
    #[schemars(extend("enum" = titles()))]
    pub title: String,

    /// The mailbox, in clear text. Either this or `emailAddressFrom`.
    /// Example: `security@example.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = EmailAddress::CHARS_MAX))]
    pub email_address: Option<Private>,

    /// Where the mailbox stands when it should not stand in git: a key of a Secret in the object's
    /// own namespace, which the operator must be allowed to `get`. A change of the Secret is noticed
    /// within a minute, with more than 1200 Secrets in use within a twentieth of a second for each;
    /// at once when this object is edited or asked to reconcile. Nothing is changed in the cloud
    /// while the Secret is missing. Either this or `emailAddress`.
    /// Example: `{secretKeyRef: {name: security-desk, key: email}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email_address_from: Option<ValueFrom>,

    /// The phone, as country code, hyphen, number. At most one of this and `phoneNumberFrom`.
    /// Example: `86-13800000000`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = PHONE_CHARS_MAX))]
    pub phone_number: Option<Private>,

    /// Where the phone stands when it should not stand in git, as `emailAddressFrom` says. At most
    /// one of this and `phoneNumber`.
    /// Example: `{secretKeyRef: {name: security-desk, key: phone}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone_number_from: Option<ValueFrom>,

    /// What the contact is told about, at least one type.
    /// Example: `[SecurityMessage, FaultMessage]`.
    #[serde(default)]
    #[schemars(
        extend("items" = message_types()),
        extend("minItems" = 1),
        extend("maxItems" = MessageType::ALL.len()),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub message_types: Vec<String>,

    /// The ids the contact is bound to, exactly these: the directory, folders, member accounts.
    /// Left out, bindings are left alone; an empty list binds it to nothing. The API allows
    /// 10 today. Example: `[rd-a1b2c3, "1234567890123456"]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        extend("items" = text(ID_CHARS_MAX)),
        extend("maxItems" = MEMBERS_MAX),
        extend("x-kubernetes-list-type" = "atomic")
    )]
    pub members: Option<Vec<String>>,

    /// Whether differences are put right (`Enforce`) or only reported in `status.drift`
    /// (`ReportOnly`: no write to the cloud, ever). Left out, it is `Enforce`.
    /// Example: `ReportOnly`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = RECONCILE_POLICIES))]
    pub reconcile_policy: Option<String>,

    /// Whether a contact of that name that is in the cloud already, and that no MessageContact
    /// holds, may be taken over: only when nothing would have to be written (`IfIdentical`),
    /// always, or never. The ResourceDirectory caps it with `adoption`. Left out, it is
    /// `IfIdentical`. Example: `Never`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ADOPTION_POLICIES))]
    pub adoption_policy: Option<String>,

    /// What deleting this object does in the cloud: delete the contact, or leave it (`Retain`).
    /// May be changed while the object is being deleted. Left out, it is `Delete`.
    /// Example: `Retain`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = DELETION_POLICIES))]
    pub deletion_policy: Option<String>,

    /// When the contact is deleted: whether the person keeps getting the messages of the member
    /// accounts. Left out, it is false. Example: `true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retain_in_members: Option<bool>,

    /// How the owner is asked to confirm.
    /// Example: `{resendAfter: 48h, maxSends: 3}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<Verification>,

    /// Whether `Ready` waits for the person who has to confirm (`Verified`) or only for the
    /// cloud's data (`Synced`). Left out, it is `Verified`. Example: `Synced`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = READY_WHENS))]
    pub ready_when: Option<String>,

    /// Nothing is read or written for this object; deleting it still works. Left out, it is
    /// false. Example: `true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
}

/// Most characters of a phone number: 4 of the country, a hyphen, 20 of the number.
pub(super) const PHONE_CHARS_MAX: usize = 25;
/// Most members of one contact that a spec may name; the API allows 10 today.
pub(super) const MEMBERS_MAX: usize = 50;
/// The words of `reconcilePolicy`.
pub(super) const RECONCILE_POLICIES: [&str; 2] = ["Enforce", "ReportOnly"];
/// The words of `adoptionPolicy`, and of a directory's `adoption`.
pub(super) const ADOPTION_POLICIES: [&str; 3] = ["IfIdentical", "Always", "Never"];
/// The words of `deletionPolicy`.
pub(super) const DELETION_POLICIES: [&str; 2] = ["Delete", "Retain"];
/// The words of `readyWhen`.
pub(super) const READY_WHENS: [&str; 2] = ["Verified", "Synced"];
/// The words of `verification.send`.
pub(super) const SENDS: [&str; 2] = ["Automatic", "Never"];
/// Bounds of `verification.maxSends`.
pub(super) const MAX_SENDS: std::ops::RangeInclusive<i64> = 1..=20;
/// Shortest `verification.resendAfter`, as a duration of CEL.
const RESEND_AFTER_MIN: &str = "10m";
/// The key of a Secret, as a regular expression.
pub(super) const SECRET_KEY: &str = "^[-._A-Za-z0-9]+$";
/// What to write instead of a malformed key of a Secret.
pub(super) const SECRET_KEY_ADVICE: &str =
    "write a key of the Secret: letters, digits, hyphens, underscores and dots";
/// What to write when neither form of the mailbox is there.
pub(super) const EMAIL_MISSING: &str =
    "write emailAddress, or emailAddressFrom to take it from a Secret";
/// What to write when both forms of the mailbox are there.
pub(super) const EMAIL_TWICE: &str = "write either emailAddress or emailAddressFrom, not both";
/// What to write when both forms of the phone are there.
pub(super) const PHONE_TWICE: &str = "write either phoneNumber or phoneNumberFrom, not both";
/// What to write instead of a malformed list of members.
pub(super) const MEMBERS_ADVICE: &str = "write ids as the cloud spells them: a directory (rd-), a \
                                         folder (r- or fd-) or an account (16 digits)";
/// What to write instead of a list with repetitions.
pub(super) const MEMBERS_TWICE: &str = "write each id once";

/// The words of `title`.
pub(super) fn titles() -> Vec<&'static str> {
    Title::ALL.iter().map(|title| title.as_str()).collect()
}

/// The schema of one of `messageTypes`.
pub(super) fn message_types() -> Value {
    let words: Vec<_> = MessageType::ALL.iter().map(|word| word.as_str()).collect();
    schema::words(&words)
}

/// The rules of a contact. They stand on the whole spec because the apiserver repeats the value
/// on which a rule stands, and of an object it repeats nothing.
fn rules() -> Vec<Rule> {
    let invalid = FieldReason::FieldValueInvalid;
    let directory =
        |of: &str| format!("(has({of}.directoryRef) ? {of}.directoryRef.name : 'default')");
    vec![
        shape("name", ContactName::PATTERN, ContactName::ADVICE),
        rule(
            "has(self.emailAddress) || has(self.emailAddressFrom)",
            EMAIL_MISSING,
            FieldReason::FieldValueRequired,
            ".emailAddress",
        ),
        rule(
            "!(has(self.emailAddress) && has(self.emailAddressFrom))",
            EMAIL_TWICE,
            invalid.clone(),
            ".emailAddressFrom",
        ),
        shape("emailAddress", EmailAddress::PATTERN, EmailAddress::ADVICE),
        rule(
            "!(has(self.phoneNumber) && has(self.phoneNumberFrom))",
            PHONE_TWICE,
            invalid.clone(),
            ".phoneNumberFrom",
        ),
        shape("phoneNumber", PhoneNumber::PATTERN, PhoneNumber::ADVICE),
        rule(
            format!(
                "!has(self.members) || self.members.all(m, m.matches(r\"{}\"))",
                schema::MEMBER
            ),
            MEMBERS_ADVICE,
            invalid.clone(),
            ".members",
        ),
        rule(
            "!has(self.members) || self.members.all(m, self.members.exists_one(n, n == m))",
            MEMBERS_TWICE,
            invalid,
            ".members",
        ),
        rule(
            format!("{} == {}", directory("self"), directory("oldSelf")),
            "a contact cannot move to another directory; delete this object and create a new one",
            FieldReason::FieldValueForbidden,
            ".directoryRef",
        ),
    ]
}

/// Names a ResourceDirectory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(
    extend("required" = ["name"]),
    extend("minProperties" = 1),
    extend("x-kubernetes-validations" =
        [shape("name", schema::OBJECT_NAME, schema::OBJECT_NAME_ADVICE)])
)]
pub struct DirectoryRef {
    /// The name of the ResourceDirectory. Example: `default`.
    #[serde(default)]
    #[schemars(extend("maxLength" = OBJECT_NAME_CHARS_MAX))]
    pub name: String,
}

/// Where a value stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("required" = ["secretKeyRef"]), extend("minProperties" = 1))]
pub struct ValueFrom {
    /// A key of a Secret in the object's own namespace. Its value is what the field itself would
    /// hold; one line end behind it, as `echo` leaves it, is no part of it.
    /// Example: `{name: security-desk, key: email}`.
    #[serde(default)]
    pub secret_key_ref: SecretKeyRef,
}

/// A key of a Secret in the object's own namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(
    extend("required" = ["key", "name"]),
    extend("minProperties" = 1),
    extend("x-kubernetes-validations" = [
        shape("name", schema::OBJECT_NAME, schema::OBJECT_NAME_ADVICE),
        shape("key", SECRET_KEY, SECRET_KEY_ADVICE),
    ])
)]
pub struct SecretKeyRef {
    /// The name of the Secret. Example: `security-desk`.
    #[serde(default)]
    #[schemars(extend("maxLength" = OBJECT_NAME_CHARS_MAX))]
    pub name: String,
    /// The key in it. Example: `email`.
    #[serde(default)]
    #[schemars(extend("maxLength" = OBJECT_NAME_CHARS_MAX))]
    pub key: String,
}

/// How the owner is asked to confirm.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(
    extend("minProperties" = 1),
    extend("x-kubernetes-validations" = schema::duration("resendAfter", RESEND_AFTER_MIN))
)]
pub struct Verification {
    /// Whether the operator asks the cloud to send the verification message. Left out, it is
    /// `Automatic`. Example: `Never`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = SENDS))]
    pub send: Option<String>,
    /// The wait between two messages for one channel, at least `10m`. Left out, it is `24h`.
    /// Example: `48h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = 32))]
    pub resend_after: Option<String>,
    /// How many messages are sent before a person must act, from 1 to 20. Left out, it is 5.
    /// Example: `3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        extend("minimum" = MAX_SENDS.start()),
        extend("maximum" = MAX_SENDS.end())
    )]
    pub max_sends: Option<i64>,
}

/// Where a contact stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MessageContactStatus {
    /// The generation of the spec that this status speaks of; -1 before the operator has looked.
    /// Example: `3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The last handled text of the annotation `message-contacts.dev/requestedAt`, its first 128
    /// bytes. Example: `2026-01-15T09:30:00Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = ECHO_BYTES_MAX))]
    pub last_handled_reconcile_at: Option<String>,
    /// The last handled text of the annotation `message-contacts.dev/resendRequestedAt`, its
    /// first 128 bytes.
    /// Example: `2026-01-15T09:30:00Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = ECHO_BYTES_MAX))]
    pub last_handled_resend_at: Option<String>,
    /// The ResourceDirectory in which the contact lives. Example: `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = OBJECT_NAME_CHARS_MAX))]
    pub directory: Option<String>,
    /// The id of that directory in the cloud. When another one answers, nothing is written.
    /// Example: `rd-a1b2c3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = ID_CHARS_MAX))]
    pub directory_id: Option<String>,
    /// The contact's id in the cloud. Example: `c-a1b2c3d4e5f6a7b8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = ID_CHARS_MAX))]
    pub contact_id: Option<String>,
    /// An open intent to create the contact; gone when it is settled.
    /// Example: `{name: SecurityDesk, hash: 5f2b, at: "2026-01-15T09:30:00Z"}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creation: Option<CreationStatus>,
    /// The contact as the cloud has it, address and phone masked. Example: `{status: Active}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed: Option<ObservedStatus>,
    /// What differs between spec and cloud; left out when nothing does.
    /// Example: `[{field: title, desired: CEO, observed: Other}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = DRIFT_MAX), extend("x-kubernetes-list-type" = "atomic"))]
    pub drift: Vec<DriftStatus>,
    /// The last write of fields, for noticing one that reads back differently.
    /// Example: `{hash: 5f2b, mismatches: 1}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_write: Option<LastWriteStatus>,
    /// How the confirmation of each channel stands. Example: `{email: {state: Sent, sends: 1}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<VerificationStatus>,
    /// The cloud's answer that stopped this object. Holds no time and no request id, so that an
    /// unchanged failure writes nothing.
    /// Example: `{code: InvalidParameter.Name, action: AddMessageContact, generation: 3}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<LastErrorStatus>,
    /// What is judged about the contact: `Synced`, `EmailVerified`, `PhoneVerified`, `Bound`,
    /// `PolicyCompliant`, `Ready`, and `Reconciling` and `Stalled` while they are true.
    /// Example: `[{type: Ready, status: "True", reason: InSync}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// Most entries of `status.drift`.
pub(super) const DRIFT_MAX: usize = 16;
/// Most times of `status.drift[].reverts`.
pub(super) const REVERTS_MAX: usize = 5;
/// Most entries of a list that the cloud made.
pub(super) const OBSERVED_LIST_MAX: usize = 100;
/// Most characters of one side of a difference.
pub(super) const DIFFERENCE_CHARS_MAX: usize = 1024;

/// An open intent to create a contact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreationStatus {
    /// The name under which the intent is settled. Example: `SecurityDesk`.
    #[serde(default)]
    #[schemars(extend("maxLength" = WORD_CHARS_MAX))]
    pub name: Private,
    /// A keyed hash of the object, the directory and what is sent. Example: `5f2b9c`.
    #[serde(default)]
    #[schemars(extend("maxLength" = WORD_CHARS_MAX))]
    pub hash: String,
    /// When the intent was written. Example: `2026-01-15T09:30:00.123Z`.
    #[serde(default)]
    #[schemars(with = "Time")]
    pub at: Timestamp,
}

/// A contact as the cloud has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObservedStatus {
    /// Its name. Example: `SecurityDesk`.
    #[serde(default)]
    #[schemars(extend("maxLength" = WORD_CHARS_MAX))]
    pub name: Private,
    /// Its title. Example: `TechnicalDirector`.
    #[serde(default)]
    #[schemars(extend("maxLength" = WORD_CHARS_MAX))]
    pub title: String,
    /// Its mailbox, masked. Example: `s***@example.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = WORD_CHARS_MAX))]
    pub email_address: Option<String>,
    /// Its phone, masked. Example: `86-138****0000`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = WORD_CHARS_MAX))]
    pub phone_number: Option<String>,
    /// What it is told about. Example: `[SecurityMessage]`.
    #[serde(default)]
    #[schemars(
        extend("items" = text(WORD_CHARS_MAX)),
        extend("maxItems" = OBSERVED_LIST_MAX),
        extend("x-kubernetes-list-type" = "atomic")
    )]
    pub message_types: Vec<String>,
    /// What it is bound to. Example: `[rd-a1b2c3]`.
    #[serde(default)]
    #[schemars(
        extend("items" = text(WORD_CHARS_MAX)),
        extend("maxItems" = OBSERVED_LIST_MAX),
        extend("x-kubernetes-list-type" = "atomic")
    )]
    pub members: Vec<String>,
    /// Where it stands, in the cloud's word. Example: `Verifying`.
    #[serde(default)]
    #[schemars(extend("maxLength" = WORD_CHARS_MAX))]
    pub status: String,
}

/// One field that differs between spec and cloud.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DriftStatus {
    /// The field, as the spec spells it. Example: `title`.
    #[serde(default)]
    #[schemars(extend("maxLength" = WORD_CHARS_MAX))]
    pub field: String,
    /// What the spec wants, masked if private. Example: `CEO`.
    #[serde(default)]
    #[schemars(extend("maxLength" = DIFFERENCE_CHARS_MAX))]
    pub desired: Private,
    /// What the cloud has, masked if private. Example: `Other`.
    #[serde(default)]
    #[schemars(extend("maxLength" = DIFFERENCE_CHARS_MAX))]
    pub observed: Private,
    /// Since when the field differs. Example: `2026-01-15T09:30:00Z`.
    #[serde(default = "long_ago")]
    pub since: Time,
    /// When the field was put right, the last five times. Example: `["2026-01-15T09:30:00Z"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = REVERTS_MAX), extend("x-kubernetes-list-type" = "atomic"))]
    pub reverts: Vec<Time>,
}

/// Stands in for a time that is missing, which the operator never writes: an object that cannot be
/// read would hold up all others.
fn long_ago() -> Time {
    Time(Timestamp::UNIX_EPOCH)
}

/// The last write of fields.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastWriteStatus {
    /// A keyed hash of what was wanted. Example: `5f2b9c`.
    #[serde(default)]
    #[schemars(extend("maxLength" = WORD_CHARS_MAX))]
    pub hash: String,
    /// How often the fields were written and then still differed. Example: `1`.
    #[serde(default)]
    pub mismatches: i64,
}

/// How the confirmation of the channels stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VerificationStatus {
    /// The mailbox. Example: `{state: Sent, sends: 1}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<ChannelStatus>,
    /// The phone. Example: `{state: Verified, sends: 2}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone: Option<ChannelStatus>,
}

/// How the confirmation of one channel stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChannelStatus {
    /// `Pending`, `Sent`, `Verified`, `Exhausted` or `QuotaExhausted`. Example: `Sent`.
    #[serde(default)]
    #[schemars(extend("maxLength" = WORD_CHARS_MAX))]
    pub state: String,
    /// How many messages were sent for the value. Example: `1`.
    #[serde(default)]
    pub sends: i64,
    /// When the last message was sent. Example: `2026-01-15T09:30:00Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_sent_time: Option<Time>,
    /// When the next message is sent at the earliest. Example: `2026-01-16T09:30:00Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_send_time: Option<Time>,
    /// A keyed hash of the value, never the value. Example: `5f2b9c`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = WORD_CHARS_MAX))]
    pub target: Option<String>,
    /// What shows, once the value no longer waits, that it was confirmed since it was last written:
    /// `SeenPending`, `SendAnswered`, `NothingPending` or `Active`; or `WriteAnswered`: nothing
    /// yet. Example: `SeenPending`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = WORD_CHARS_MAX))]
    pub evidence: Option<String>,
    /// A keyed hash of the value that was last known to be confirmed. Example: `5f2b9c`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = WORD_CHARS_MAX))]
    pub verified_target: Option<String>,
    /// The value that waits for its owner while another one is in force, masked.
    /// Example: `n***@example.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = WORD_CHARS_MAX))]
    pub waiting: Option<String>,
}

/// The cloud's answer that stopped an object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastErrorStatus {
    /// The error code. Example: `InvalidParameter.Name`.
    #[serde(default)]
    #[schemars(extend("maxLength" = WORD_CHARS_MAX))]
    pub code: String,
    /// The API operation. Example: `AddMessageContact`.
    #[serde(default)]
    #[schemars(extend("maxLength" = WORD_CHARS_MAX))]
    pub action: String,
    /// The generation of the spec for which it was given. Example: `3`.
    #[serde(default)]
    pub generation: i64,
}

impl JsonSchema for MessageContact {
    fn schema_name() -> Cow<'static, str> {
        "MessageContact".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        schema::kind::<MessageContactSpec, MessageContactStatus>(
            generator,
            "A message contact of an Alibaba Cloud resource directory: who is told what. The \
             operator makes the cloud agree and says in status where the contact stands.",
        )
    }
}
