//! The kind ResourceDirectory.

#![expect(clippy::duplicated_attributes, reason = "each printer column has a `type_` of its own")]

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use kube::core::{Reason as FieldReason, Rule};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::message_contact::{ADOPTION_POLICIES, Private};
use super::schema::{
    self, ECHO_BYTES_MAX, ID_CHARS_MAX, OBJECT_NAME_CHARS_MAX, WORD_CHARS_MAX, rule, shape, text,
};
use crate::domain::directory::DesiredDirectory;
use crate::domain::ledger::Ledger;

/// How a resource directory is reached, and what contacts may do in it.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "message-contacts.dev",
    version = "v1alpha1",
    kind = "ResourceDirectory",
    plural = "resourcedirectories",
    shortname = "rdir",
    category = "message-contacts",
    status = "ResourceDirectoryStatus",
    schema = "manual",
    derive = "PartialEq",
    derive = "Default",
    selectable = ".status.directoryId",
    printcolumn(
        name = "Directory ID",
        type_ = "string",
        json_path = ".status.directoryId",
        description = "The directory's id in the cloud"
    ),
    printcolumn(
        name = "Contacts",
        type_ = "integer",
        json_path = ".status.contacts.observed",
        description = "Contacts in the cloud"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether the directory answers"
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
        name = "Managed",
        type_ = "integer",
        json_path = ".status.contacts.managed",
        priority = 1,
        description = "Contacts that a MessageContact holds"
    ),
    printcolumn(
        name = "Unmanaged",
        type_ = "integer",
        json_path = ".status.contacts.unmanaged",
        priority = 1,
        description = "Contacts that no MessageContact holds"
    ),
    printcolumn(
        name = "Verified",
        type_ = "integer",
        json_path = ".status.contacts.verified",
        priority = 1,
        description = "Contacts whose mailbox was confirmed"
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
#[schemars(extend("x-kubernetes-validations" = rules()))]
pub struct ResourceDirectorySpec {
    /// Whose public endpoint is called: that of accounts opened on the China site or on the
    /// international site. Left out, it is `China`. Not together with `endpoint`.
    /// Example: `International`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = SITES))]
    pub site: Option<String>,

    /// The origin of the API, instead of `site`. One that is not built in must be allowed by the
    /// operator's flag `--allow-endpoint`.
    /// Example: `https://resourcedirectory.vpc-proxy.aliyuncs.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = ENDPOINT_CHARS_MAX))]
    pub endpoint: Option<String>,

    /// The id of the directory that must answer; checked before the first write. Left out, any
    /// directory is accepted. Example: `rd-a1b2c3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = ID_CHARS_MAX))]
    pub directory_id: Option<String>,

    /// Where the access keys come from. Left out: the operator's environment variables with keys,
    /// or without them the OIDC token of its service account.
    /// Example: `{source: Secret, secretRef: {name: alibaba-cloud}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<Credentials>,

    /// Which namespaces may hold contacts of this directory, by their labels; `{}` is all of
    /// them. Left out, it is only the operator's own namespace.
    /// Example: `{matchLabels: {contacts: allowed}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub namespaces: Option<NamespaceSelector>,

    /// The ids that contacts may name in `members`, to the letter: a folder that stands here does
    /// not let in the accounts in it. A contact that is bound to another one is not taken over.
    /// Left out, any. Example: `[fd-a1b2c3d4e5]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        extend("items" = text(ID_CHARS_MAX)),
        extend("minItems" = 1),
        extend("maxItems" = ALLOWED_MEMBERS_MAX),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub allowed_members: Option<Vec<String>>,

    /// The most that `adoptionPolicy` of a contact may ask for. Left out, it is `IfIdentical`.
    /// Example: `Never`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ADOPTION_POLICIES))]
    pub adoption: Option<String>,

    /// The most that is done for any contact: everything (`Full`), everything but deleting
    /// (`NoDelete`: an object that is deleted leaves its contact in the cloud), or nothing but
    /// looking (`ReportOnly`). Left out, it is `Full`. Example: `NoDelete`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = MANAGEMENTS))]
    pub management: Option<String>,

    /// How often all contacts are read, at least `10s`. Left out, it is `5m`. Example: `1m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = 32))]
    pub poll_interval: Option<String>,

    /// Ceiling of calls per second, from 1 to 100. Left out, it is 10. Example: `5`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        extend("minimum" = 1),
        extend("maximum" = DesiredDirectory::REQUESTS_PER_SECOND_MAX)
    )]
    pub requests_per_second: Option<i64>,

    /// Nothing is read or written for this directory. Left out, it is false. Example: `true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
}

/// The words of `site`.
pub(super) const SITES: [&str; 2] = ["China", "International"];
/// The words of `management`.
pub(super) const MANAGEMENTS: [&str; 3] = ["Full", "NoDelete", "ReportOnly"];
/// The words of `credentials.source`.
pub(super) const SOURCES: [&str; 4] = ["Environment", "RRSA", "InstanceRole", "Secret"];
/// The operators of `namespaces.matchExpressions`.
pub(super) const OPERATORS: [&str; 4] = ["In", "NotIn", "Exists", "DoesNotExist"];
/// Most characters of an endpoint: a host name of 253 and what stands around it.
pub(super) const ENDPOINT_CHARS_MAX: usize = 270;
/// Most ids of `allowedMembers`, and of what a policy allows.
pub(super) const ALLOWED_MEMBERS_MAX: usize = 500;
/// Most labels, expressions, and values of an expression, of a selector.
pub(super) const SELECTOR_WORDS_MAX: usize = 64;
/// Most characters of the key of a label: a prefix of 253, a slash, a name of 63.
pub(super) const LABEL_KEY_CHARS_MAX: usize = 317;
/// Most characters of the value of a label.
pub(super) const LABEL_VALUE_CHARS_MAX: usize = 63;
/// Most entries of `status.unmanaged`.
pub(super) const UNMANAGED_MAX: usize = 50;

/// An origin: scheme, host, port. As a regular expression.
pub(super) const ENDPOINT: &str =
    r"^https?://([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?/?$";
/// What to write instead of a malformed endpoint.
pub(super) const ENDPOINT_ADVICE: &str = "write scheme, host and port only, such as \
     https://resourcedirectory.aliyuncs.com, without user, path or query";
/// What to write when both `site` and `endpoint` are there.
pub(super) const SITE_TWICE: &str = "write either site or endpoint, not both";
/// The id of a directory, as a regular expression.
pub(super) const DIRECTORY_ID: &str = "^rd-[A-Za-z0-9]+$";
/// What to write instead of a malformed id of a directory.
pub(super) const DIRECTORY_ID_ADVICE: &str = "write the id of the directory, such as rd-a1b2c3";
/// What to write when the Secret is missing.
pub(super) const SECRET_MISSING: &str = "write secretRef, the Secret that holds the access keys";
/// What to write when a Secret stands beside another source.
pub(super) const SECRET_UNUSED: &str = "write source: Secret, or leave secretRef out";
/// What to write instead of a malformed role.
pub(super) const ROLE_ARN_ADVICE: &str =
    "write the ARN of the role, such as acs:ram::1234567890123456:role/contacts";
/// What to write instead of a malformed name of a session.
pub(super) const SESSION_NAME_ADVICE: &str =
    "write 2 to 64 letters, digits, dots, @, underscores or hyphens";
/// What to write instead of an external id that is too short or too long.
pub(super) const EXTERNAL_ID_ADVICE: &str = "write 2 to 1224 characters";
/// Shortest `pollInterval`, as a duration of CEL.
const POLL_INTERVAL_MIN: &str = "10s";
/// What to write when an operator lacks its values.
pub(super) const VALUES_MISSING: &str = "write values, at least one";
/// What to write when an operator takes no values.
pub(super) const VALUES_UNUSED: &str = "leave values out: Exists and DoesNotExist take none";
/// The key of a label, as a regular expression.
pub(super) const LABEL_KEY: &str =
    "^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$";
/// What to write instead of a malformed key of a label.
pub(super) const LABEL_KEY_ADVICE: &str =
    "write the key of a label, such as team or example.com/team";
/// The value of a label, as a regular expression.
pub(super) const LABEL_VALUE: &str = "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$";
/// What to write instead of a malformed value of a label.
pub(super) const LABEL_VALUE_ADVICE: &str =
    "write values of labels: up to 63 letters, digits, hyphens, underscores and dots";

fn rules() -> Vec<Rule> {
    let mut rules = vec![
        rule(
            "!(has(self.site) && has(self.endpoint))",
            SITE_TWICE,
            FieldReason::FieldValueInvalid,
            ".endpoint",
        ),
        shape("endpoint", ENDPOINT, ENDPOINT_ADVICE),
        shape("directoryId", DIRECTORY_ID, DIRECTORY_ID_ADVICE),
    ];
    rules.extend(schema::duration("pollInterval", POLL_INTERVAL_MIN));
    rules
}

/// Where the access keys come from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(
    extend("minProperties" = 1),
    extend("x-kubernetes-validations" = [
        rule(
            "!has(self.source) || self.source != 'Secret' || has(self.secretRef)",
            SECRET_MISSING,
            FieldReason::FieldValueRequired,
            ".secretRef",
        ),
        rule(
            "!has(self.secretRef) || (has(self.source) && self.source == 'Secret')",
            SECRET_UNUSED,
            FieldReason::FieldValueInvalid,
            ".secretRef",
        ),
    ])
)]
pub struct Credentials {
    /// The one place to look at: the operator's environment variables, the OIDC token of its
    /// service account (`RRSA`), the role of the node (`InstanceRole`), or a Secret. Left out:
    /// the environment's keys, or without them `RRSA`; never the role of the node.
    /// Example: `Secret`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = SOURCES))]
    pub source: Option<String>,
    /// The Secret, in the operator's own namespace, with `accessKeyId`, `accessKeySecret` and,
    /// for temporary keys, `securityToken`. Example: `{name: alibaba-cloud}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
    /// A role to take on with these keys, whatever their source. Example:
    /// `{roleArn: "acs:ram::1234567890123456:role/contacts"}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assume_role: Option<AssumeRole>,
}

/// A Secret in the operator's own namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(
    extend("required" = ["name"]),
    extend("minProperties" = 1),
    extend("x-kubernetes-validations" =
        [shape("name", schema::OBJECT_NAME, schema::OBJECT_NAME_ADVICE)])
)]
pub struct SecretRef {
    /// The name of the Secret. Example: `alibaba-cloud`.
    #[serde(default)]
    #[schemars(extend("maxLength" = OBJECT_NAME_CHARS_MAX))]
    pub name: String,
}

/// A role to take on. Bounds are those of `AssumeRole` of STS 2015-04-01.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(
    extend("required" = ["roleArn"]),
    extend("minProperties" = 1),
    extend("x-kubernetes-validations" = [
        shape(
            "roleArn",
            "^acs:ram::[0-9]+:role/[^ ]+$",
            ROLE_ARN_ADVICE,
        ),
        shape(
            "sessionName",
            "^[A-Za-z0-9.@_-]{2,64}$",
            SESSION_NAME_ADVICE,
        ),
        // Not `size`: the evaluator in `validate` counts bytes, the apiserver characters.
        shape("externalId", "(?s)^..", EXTERNAL_ID_ADVICE),
    ])
)]
pub struct AssumeRole {
    /// The role. Example: `acs:ram::1234567890123456:role/contacts`.
    #[serde(default)]
    #[schemars(extend("maxLength" = WORD_CHARS_MAX))]
    pub role_arn: String,
    /// The name of the session, seen in audit logs. Left out, it is
    /// `ALIBABA_CLOUD_ROLE_SESSION_NAME` of the operator's environment, or
    /// `message-contact-operator`.
    /// Example: `message-contacts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = 64))]
    pub session_name: Option<String>,
    /// The external id that the role asks for, 2 to 1224 characters. Example: `team-42`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = 1224))]
    pub external_id: Option<Private>,
    /// Life of the temporary keys in seconds, from 900 to what the role allows, 43200 at most.
    /// Left out, it is 3600. Example: `900`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minimum" = 900), extend("maximum" = 43_200))]
    pub duration_seconds: Option<i64>,
}

/// Selects namespaces by their labels; all of its words must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    rule(
        format!("!has(self.matchLabels) || self.matchLabels.all(k, k.matches(r\"{LABEL_KEY}\"))"),
        LABEL_KEY_ADVICE,
        FieldReason::FieldValueInvalid,
        ".matchLabels",
    ),
    rule(
        format!(
            "!has(self.matchLabels) || \
             self.matchLabels.all(k, self.matchLabels[k].matches(r\"{LABEL_VALUE}\"))"
        ),
        LABEL_VALUE_ADVICE,
        FieldReason::FieldValueInvalid,
        ".matchLabels",
    ),
]))]
pub struct NamespaceSelector {
    /// Labels that a namespace must have with exactly this value. Example: `{contacts: allowed}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        extend("additionalProperties" = text(LABEL_VALUE_CHARS_MAX)),
        extend("minProperties" = 1),
        extend("maxProperties" = SELECTOR_WORDS_MAX)
    )]
    pub match_labels: Option<BTreeMap<String, String>>,
    /// Further demands. Example: `[{key: team, operator: In, values: [red, blue]}]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        extend("minItems" = 1),
        extend("maxItems" = SELECTOR_WORDS_MAX),
        extend("x-kubernetes-list-type" = "atomic")
    )]
    pub match_expressions: Option<Vec<NamespaceExpression>>,
}

/// One demand on one label.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(
    extend("required" = ["key", "operator"]),
    extend("x-kubernetes-validations" = [
        shape("key", LABEL_KEY, LABEL_KEY_ADVICE),
        rule(
            "!(self.operator in ['In', 'NotIn']) || has(self.values)",
            VALUES_MISSING,
            FieldReason::FieldValueRequired,
            ".values",
        ),
        rule(
            "!(self.operator in ['Exists', 'DoesNotExist']) || !has(self.values)",
            VALUES_UNUSED,
            FieldReason::FieldValueInvalid,
            ".values",
        ),
        rule(
            format!("!has(self.values) || self.values.all(v, v.matches(r\"{LABEL_VALUE}\"))"),
            LABEL_VALUE_ADVICE,
            FieldReason::FieldValueInvalid,
            ".values",
        ),
    ])
)]
pub struct NamespaceExpression {
    /// The key of the label. Example: `team`.
    #[serde(default)]
    #[schemars(extend("maxLength" = LABEL_KEY_CHARS_MAX))]
    pub key: String,
    /// What is demanded. Example: `In`.
    #[serde(default)]
    #[schemars(extend("enum" = OPERATORS))]
    pub operator: String,
    /// The values that `In` and `NotIn` speak of. Example: `[red, blue]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        extend("items" = text(LABEL_VALUE_CHARS_MAX)),
        extend("minItems" = 1),
        extend("maxItems" = SELECTOR_WORDS_MAX),
        extend("x-kubernetes-list-type" = "atomic")
    )]
    pub values: Option<Vec<String>>,
}

/// Where a directory stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceDirectoryStatus {
    /// The generation of the spec that this status speaks of; -1 before the operator has looked.
    /// Example: `3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The last handled text of the annotation `message-contacts.dev/requestedAt`, its first 128
    /// bytes. Example: `2026-01-15T09:30:00Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = ECHO_BYTES_MAX))]
    pub last_handled_reconcile_at: Option<String>,
    /// The id of the directory that the keys belong to. Example: `rd-a1b2c3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = WORD_CHARS_MAX))]
    pub directory_id: Option<String>,
    /// Its management account. Example: `1234567890123456`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = WORD_CHARS_MAX))]
    pub management_account_id: Option<String>,
    /// Its root folder. Example: `r-a1b2c3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = WORD_CHARS_MAX))]
    pub root_folder_id: Option<String>,
    /// How many contacts there are. Example: `{observed: 12, managed: 10, unmanaged: 2}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contacts: Option<ContactCounts>,
    /// Contacts in the cloud that no MessageContact holds, the first 50.
    /// Example: `[{contactId: c-a1b2c3d4e5f6a7b8, name: OldDesk}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = UNMANAGED_MAX), extend("x-kubernetes-list-type" = "atomic"))]
    pub unmanaged: Vec<UnmanagedContact>,
    /// The verification messages of the day. Example: `{day: "2026-01-15", count: 3}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification_sends: Option<VerificationSends>,
    /// What is judged about the directory: `Ready`, `Throttled`, and `Reconciling` and `Stalled`
    /// while they are true. Example: `[{type: Ready, status: "True", reason: Connected}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// How many contacts a directory has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContactCounts {
    /// In the cloud. Example: `12`.
    #[serde(default)]
    pub observed: i64,
    /// Held by a MessageContact. Example: `10`.
    #[serde(default)]
    pub managed: i64,
    /// Held by none. Example: `2`.
    #[serde(default)]
    pub unmanaged: i64,
    /// With a confirmed mailbox. Example: `9`.
    #[serde(default)]
    pub verified: i64,
}

/// A contact in the cloud that no MessageContact holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UnmanagedContact {
    /// Its id. Example: `c-a1b2c3d4e5f6a7b8`.
    #[serde(default)]
    #[schemars(extend("maxLength" = WORD_CHARS_MAX))]
    pub contact_id: String,
    /// Its name. Example: `OldDesk`.
    #[serde(default)]
    #[schemars(extend("maxLength" = WORD_CHARS_MAX))]
    pub name: Private,
}

/// The verification messages of one day.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VerificationSends {
    /// The day, in the zone of the API's quota. Example: `2026-01-15`.
    #[serde(default)]
    #[schemars(extend("maxLength" = 32))]
    pub day: String,
    /// How many were sent on it. Example: `3`.
    #[serde(default)]
    pub count: i64,
    /// Until when the API sends no more. Example: `2026-01-15T16:00:00Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exhausted_until: Option<Time>,
    /// Who was written to. Example: `[{target: 5f2b9c, count: 1}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = Ledger::RECENT_MAX), extend("x-kubernetes-list-type" = "atomic"))]
    pub recent: Vec<TargetSends>,
    /// Tells the key of the hashes in `recent` from others. Example: `9d3c5a`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = WORD_CHARS_MAX))]
    pub hash_key: Option<String>,
    /// When the key was found to be lost: everybody counts as just asked then. Example:
    /// `2026-01-15T09:30:00Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash_key_lost_time: Option<Time>,
}

/// The verification messages to one target for one contact.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetSends {
    /// A keyed hash of the address or number. Example: `5f2b9c`.
    #[serde(default)]
    #[schemars(extend("maxLength" = WORD_CHARS_MAX))]
    pub target: String,
    /// A keyed hash of the contact's name. Example: `7c1a0e`.
    #[serde(default)]
    #[schemars(extend("maxLength" = WORD_CHARS_MAX))]
    pub contact: String,
    /// How many were sent on the day of the last one. Example: `1`.
    #[serde(default)]
    pub count: i64,
    /// When the last one was sent. Example: `2026-01-15T09:30:00Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_time: Option<Time>,
}

impl JsonSchema for ResourceDirectory {
    fn schema_name() -> Cow<'static, str> {
        "ResourceDirectory".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        schema::kind::<ResourceDirectorySpec, ResourceDirectoryStatus>(
            generator,
            "An Alibaba Cloud resource directory, reached with one identity: where its API is, \
             where the access keys come from, and what contacts may do in it.",
        )
    }
}
