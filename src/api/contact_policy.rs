//! The kind ContactPolicy.

#![expect(clippy::duplicated_attributes, reason = "each printer column has a `type_` of its own")]

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use kube::core::{Reason as FieldReason, Rule};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::message_contact::{MEMBERS_ADVICE, MEMBERS_MAX, message_types, titles};
use super::resource_directory::{ALLOWED_MEMBERS_MAX, NamespaceSelector};
use super::schema::{
    self, ECHO_BYTES_MAX, ID_CHARS_MAX, MESSAGE_CHARS_MAX, OBJECT_NAME_CHARS_MAX, WORD_CHARS_MAX,
    each, rule, shape, text,
};
use crate::domain::contact::{MessageType, Title};
use crate::domain::policy::{DomainPattern, Enforcement, PhoneRule};

/// What must hold for contacts across the whole cluster.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "message-contacts.dev",
    version = "v1alpha1",
    kind = "ContactPolicy",
    plural = "contactpolicies",
    shortname = "cpol",
    category = "message-contacts",
    status = "ContactPolicyStatus",
    schema = "manual",
    derive = "PartialEq",
    derive = "Default",
    selectable = ".spec.enforcement",
    printcolumn(
        name = "Enforcement",
        type_ = "string",
        json_path = ".spec.enforcement",
        description = "What happens to a contact that violates the policy; empty: Audit"
    ),
    printcolumn(
        name = "Matched",
        type_ = "integer",
        json_path = ".status.contacts.matched",
        description = "Contacts that the policy speaks of"
    ),
    printcolumn(
        name = "Violating",
        type_ = "integer",
        json_path = ".status.contacts.violating",
        description = "Those of them that violate it"
    ),
    printcolumn(
        name = "Compliant",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Compliant\")].status",
        description = "Whether everything that the policy demands holds"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether the policy was evaluated"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "When the object was created"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Compliant\")].reason",
        priority = 1,
        description = "Why it is compliant or not"
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Compliant\")].message",
        priority = 1,
        description = "What is not as demanded, in a sentence"
    )
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules()))]
pub struct ContactPolicySpec {
    /// What happens to a contact that is not what `contact` demands: it is reported (`Audit`);
    /// whoever writes it is warned as well (`Warn`); it is refused when it is written, and nothing
    /// is created or updated for it in the cloud (`Deny`). Deleting always works, and contacts with
    /// `reconcilePolicy: ReportOnly` are not judged. Left out, it is `Audit`. Example: `Deny`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = enforcements()))]
    pub enforcement: Option<String>,

    /// Which contacts the policy speaks of. Left out, all.
    /// Example: `{directories: [default], namespaceSelector: {matchLabels: {tier: production}}}`.
    #[serde(default, rename = "match", skip_serializing_if = "Option::is_none")]
    pub matches: Option<PolicyMatch>,

    /// What each of these contacts must be like. Example: `{phoneNumber: Required}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contact: Option<ContactRules>,

    /// What all of these contacts together must give. It is reported, and refuses nothing.
    /// Example: `[{name: security, messageTypes: [SecurityMessage], minVerified: 2}]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        extend("minItems" = 1),
        extend("maxItems" = COVERAGE_MAX),
        extend("x-kubernetes-list-type" = "atomic")
    )]
    pub coverage: Option<Vec<CoverageRule>>,

    /// How many contacts may be in the cloud that no MessageContact holds. It is reported, and
    /// deletes nothing. Example: `{max: 0}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unmanaged_contacts: Option<UnmanagedContacts>,
}

/// Most directories that a policy may name.
pub(super) const DIRECTORIES_MAX: usize = 64;
/// Most patterns of a list of domains.
pub(super) const DOMAINS_MAX: usize = 64;
/// Most rules of `coverage`.
pub(super) const COVERAGE_MAX: usize = 32;
/// Most that `minContacts` and `minVerified` may ask for.
pub(super) const MIN_MAX: u32 = 1000;
/// Most that `unmanagedContacts.max` may allow.
pub(super) const UNMANAGED_MAX: u32 = 10_000;
/// Most characters of the name of a rule of `coverage`.
const RULE_NAME_CHARS_MAX: usize = 63;
/// Most entries of `status.violations`.
pub(crate) const VIOLATIONS_MAX: usize = 50;
/// Most entries of `status.coverage`: each rule for each message type, of contacts and of verified.
const COVERAGE_STATUS_MAX: usize = COVERAGE_MAX * 6 * 2;

/// What to write when a policy demands nothing.
pub(super) const NOTHING_DEMANDED: &str =
    "write contact, coverage or unmanagedContacts; without them the policy demands nothing";
/// What to write when a required message type is not an allowed one.
pub(super) const REQUIRED_NOT_ALLOWED: &str =
    "write only message types in required that stand in allowed, or leave allowed out";
/// What to write when a rule of `coverage` asks for nothing.
pub(super) const NO_MINIMUM: &str = "write minContacts or minVerified, or both";
/// What to write when two rules of `coverage` have the same name.
pub(super) const RULE_NAME_TWICE: &str = "write each name once";
/// The name of a rule of `coverage`, as a regular expression.
const RULE_NAME: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
/// What to write instead of a malformed name of a rule.
pub(super) const RULE_NAME_ADVICE: &str =
    "write up to 63 lower case letters, digits and hyphens, with a letter or digit at both ends";

fn enforcements() -> [&'static str; 3] {
    Enforcement::ALL.map(Enforcement::as_str)
}

fn title_words() -> Value {
    schema::words(&titles())
}

fn rules() -> [Rule; 2] {
    [
        rule(
            "has(self.contact) || has(self.coverage) || has(self.unmanagedContacts)",
            NOTHING_DEMANDED,
            FieldReason::FieldValueRequired,
            ".contact",
        ),
        rule(
            "!has(self.coverage) || \
             self.coverage.all(c, self.coverage.exists_one(d, d.name == c.name))",
            RULE_NAME_TWICE,
            FieldReason::FieldValueInvalid,
            ".coverage",
        ),
    ]
}

/// Which contacts a policy speaks of. Both must hold. The labels of a contact do not count: its
/// author writes them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(
    extend("minProperties" = 1),
    extend("x-kubernetes-validations" =
        [each("directories", schema::OBJECT_NAME, schema::OBJECT_NAME_ADVICE)])
)]
pub struct PolicyMatch {
    /// The names of ResourceDirectories. Left out, all. Example: `[default]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        extend("items" = text(OBJECT_NAME_CHARS_MAX)),
        extend("minItems" = 1),
        extend("maxItems" = DIRECTORIES_MAX),
        extend("x-kubernetes-list-type" = "atomic")
    )]
    pub directories: Option<Vec<String>>,
    /// The namespaces of contacts, by their labels; `{}` is all of them, as if it were left out.
    /// Example: `{matchLabels: {tier: production}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub namespace_selector: Option<NamespaceSelector>,
}

/// What a contact must be like.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("minProperties" = 1))]
pub struct ContactRules {
    /// The domains of its mailbox. An address from a Secret is judged when the operator has read
    /// it. Example: `{allowed: [example.com]}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email_domains: Option<EmailDomains>,
    /// Whether it must have a phone number. Left out, it is `Optional`. Example: `Required`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = PhoneRule::ALL.map(PhoneRule::as_str)))]
    pub phone_number: Option<String>,
    /// Its title. Example: `{allowed: [TechnicalDirector, Other]}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub titles: Option<AllowedTitles>,
    /// What it is told about. Example: `{required: [SecurityMessage]}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_types: Option<MessageTypeRules>,
    /// What it may be bound to. Example: `{allowed: [fd-a1b2c3d4e5]}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub members: Option<AllowedMembers>,
}

/// The domains of mailboxes. `example.com` is that domain only, `*.example.com` everything below
/// it, at any depth, and not itself. Letter case does not count.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(
    extend("minProperties" = 1),
    extend("x-kubernetes-validations" = [
        each("allowed", DomainPattern::PATTERN, DomainPattern::ADVICE),
        each("denied", DomainPattern::PATTERN, DomainPattern::ADVICE),
    ])
)]
pub struct EmailDomains {
    /// The mailbox must be of one of these. Left out, of any.
    /// Example: `[example.com, "*.example.com"]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        extend("items" = text(DomainPattern::CHARS_MAX)),
        extend("minItems" = 1),
        extend("maxItems" = DOMAINS_MAX),
        extend("x-kubernetes-list-type" = "atomic")
    )]
    pub allowed: Option<Vec<String>>,
    /// The mailbox must be of none of these, even if it is of an allowed one.
    /// Example: `[legacy.example.com]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        extend("items" = text(DomainPattern::CHARS_MAX)),
        extend("minItems" = 1),
        extend("maxItems" = DOMAINS_MAX),
        extend("x-kubernetes-list-type" = "atomic")
    )]
    pub denied: Option<Vec<String>>,
}

/// The titles of contacts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("required" = ["allowed"]), extend("minProperties" = 1))]
pub struct AllowedTitles {
    /// The title must be one of these. Example: `[TechnicalDirector, Other]`.
    #[serde(default)]
    #[schemars(
        extend("items" = title_words()),
        extend("minItems" = 1),
        extend("maxItems" = Title::ALL.len()),
        extend("x-kubernetes-list-type" = "atomic")
    )]
    pub allowed: Vec<String>,
}

/// What contacts are told about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(
    extend("minProperties" = 1),
    extend("x-kubernetes-validations" = [rule(
        "!has(self.allowed) || !has(self.required) || self.required.all(t, t in self.allowed)",
        REQUIRED_NOT_ALLOWED,
        FieldReason::FieldValueInvalid,
        ".required",
    )])
)]
pub struct MessageTypeRules {
    /// A contact may have only these. Left out, any. Example: `[SecurityMessage, FaultMessage]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        extend("items" = message_types()),
        extend("minItems" = 1),
        extend("maxItems" = MessageType::ALL.len()),
        extend("x-kubernetes-list-type" = "atomic")
    )]
    pub allowed: Option<Vec<String>>,
    /// A contact must have all of these. Example: `[SecurityMessage]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        extend("items" = message_types()),
        extend("minItems" = 1),
        extend("maxItems" = MessageType::ALL.len()),
        extend("x-kubernetes-list-type" = "atomic")
    )]
    pub required: Option<Vec<String>>,
}

/// What contacts are bound to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(
    extend("required" = ["allowed"]),
    extend("minProperties" = 1),
    extend("x-kubernetes-validations" = [each("allowed", schema::MEMBER, MEMBERS_ADVICE)])
)]
pub struct AllowedMembers {
    /// A contact may name only these ids in `members`, to the letter: a folder does not let in the
    /// accounts in it. A contact without `members` asks for none. Example: `[fd-a1b2c3d4e5]`.
    #[serde(default)]
    #[schemars(
        extend("items" = text(ID_CHARS_MAX)),
        extend("minItems" = 1),
        extend("maxItems" = ALLOWED_MEMBERS_MAX),
        extend("x-kubernetes-list-type" = "atomic")
    )]
    pub allowed: Vec<String>,
}

/// What all contacts of a policy together must give: so many of them for each message type.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(
    extend("required" = ["name"]),
    extend("x-kubernetes-validations" = [
        shape("name", RULE_NAME, RULE_NAME_ADVICE),
        each("members", schema::MEMBER, MEMBERS_ADVICE),
        rule(
            "has(self.minContacts) || has(self.minVerified)",
            NO_MINIMUM,
            FieldReason::FieldValueRequired,
            ".minContacts",
        ),
    ])
)]
pub struct CoverageRule {
    /// The name of the rule, unique in the policy. Example: `security`.
    #[serde(default)]
    #[schemars(extend("maxLength" = RULE_NAME_CHARS_MAX))]
    pub name: String,
    /// The message types of which somebody must hear, each of them. Left out, all six.
    /// Example: `[SecurityMessage]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        extend("items" = message_types()),
        extend("minItems" = 1),
        extend("maxItems" = MessageType::ALL.len()),
        extend("x-kubernetes-list-type" = "atomic")
    )]
    pub message_types: Option<Vec<String>>,
    /// Only contacts with one of these titles count. Left out, all.
    /// Example: `[TechnicalDirector]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        extend("items" = title_words()),
        extend("minItems" = 1),
        extend("maxItems" = Title::ALL.len()),
        extend("x-kubernetes-list-type" = "atomic")
    )]
    pub titles: Option<Vec<String>>,
    /// The ids that must be covered, each of them: by contacts that are bound to it, to a folder
    /// above it, or to the directory. Left out, it does not matter what contacts are bound to.
    /// Example: `["1234567890123456"]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        extend("items" = text(ID_CHARS_MAX)),
        extend("minItems" = 1),
        extend("maxItems" = MEMBERS_MAX),
        extend("x-kubernetes-list-type" = "atomic")
    )]
    pub members: Option<Vec<String>>,
    /// Fewest contacts, at most 1000. Example: `2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minimum" = 1), extend("maximum" = MIN_MAX))]
    pub min_contacts: Option<i64>,
    /// Fewest contacts whose mailbox was confirmed by its owner, at most 1000. Example: `2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minimum" = 1), extend("maximum" = MIN_MAX))]
    pub min_verified: Option<i64>,
    /// Whether contacts with the same mailbox count once. Left out, it is false. Example: `true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distinct_mailboxes: Option<bool>,
}

/// Contacts in the cloud that no MessageContact holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("required" = ["max"]), extend("minProperties" = 1))]
pub struct UnmanagedContacts {
    /// Most of them in each directory of the policy, from 0 to 10000. Example: `0`.
    #[serde(default)]
    #[schemars(extend("minimum" = 0), extend("maximum" = UNMANAGED_MAX))]
    pub max: i64,
}

/// Where a policy stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContactPolicyStatus {
    /// The generation of the spec that this status speaks of; -1 before the operator has looked.
    /// Example: `3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The last handled text of the annotation `message-contacts.dev/requestedAt`, its first 128
    /// bytes. Example: `2026-01-15T09:30:00Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = ECHO_BYTES_MAX))]
    pub last_handled_reconcile_at: Option<String>,
    /// How many contacts the policy speaks of.
    /// Example: `{matched: 12, compliant: 11, violating: 1}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contacts: Option<PolicyCounts>,
    /// What is not as `contact` demands, the first 50.
    /// Example: `[{namespace: shop, name: desk, rule: contact.phoneNumber}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = VIOLATIONS_MAX), extend("x-kubernetes-list-type" = "atomic"))]
    pub violations: Vec<ViolationStatus>,
    /// What `coverage` demands and what there is.
    /// Example: `[{rule: security, messageType: SecurityMessage, required: 2, actual: 1}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        extend("maxItems" = COVERAGE_STATUS_MAX),
        extend("x-kubernetes-list-type" = "atomic")
    )]
    pub coverage: Vec<CoverageStatus>,
    /// What is judged about the policy: `Ready`, `Compliant`, and `Reconciling` and `Stalled` while
    /// they are true. Example: `[{type: Compliant, status: "False", reason: Violated}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// How many contacts a policy speaks of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyCounts {
    /// All of them. Example: `12`.
    #[serde(default)]
    pub matched: i64,
    /// Those that are as `contact` demands. One whose address stands in a Secret and is not known is
    /// neither. Example: `11`.
    #[serde(default)]
    pub compliant: i64,
    /// Those that are not. Example: `1`.
    #[serde(default)]
    pub violating: i64,
}

/// A contact that is not as a rule demands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ViolationStatus {
    /// The namespace of the MessageContact. Example: `shop`.
    #[serde(default)]
    #[schemars(extend("maxLength" = OBJECT_NAME_CHARS_MAX))]
    pub namespace: String,
    /// The name of the MessageContact. Example: `desk`.
    #[serde(default)]
    #[schemars(extend("maxLength" = OBJECT_NAME_CHARS_MAX))]
    pub name: String,
    /// The field of the policy that demands it. Example: `contact.phoneNumber`.
    #[serde(default)]
    #[schemars(extend("maxLength" = WORD_CHARS_MAX))]
    pub rule: String,
    /// What would be accepted. Example: `write phoneNumber or phoneNumberFrom`.
    #[serde(default)]
    #[schemars(extend("maxLength" = MESSAGE_CHARS_MAX))]
    pub message: String,
}

/// What a rule of `coverage` demands for one message type, and what there is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CoverageStatus {
    /// The name of the rule. Example: `security`.
    #[serde(default)]
    #[schemars(extend("maxLength" = WORD_CHARS_MAX))]
    pub rule: String,
    /// The message type. Example: `SecurityMessage`.
    #[serde(default)]
    #[schemars(extend("maxLength" = WORD_CHARS_MAX))]
    pub message_type: String,
    /// Which contacts are counted: all (`Contacts`), or those whose mailbox was confirmed
    /// (`Verified`). Example: `Verified`.
    #[serde(default)]
    #[schemars(extend("maxLength" = WORD_CHARS_MAX))]
    pub counted: String,
    /// How many are demanded. Example: `2`.
    #[serde(default)]
    pub required: i64,
    /// How many there are. Example: `1`.
    #[serde(default)]
    pub actual: i64,
    /// Whether these are enough. Example: `false`.
    #[serde(default)]
    pub satisfied: bool,
}

impl JsonSchema for ContactPolicy {
    fn schema_name() -> Cow<'static, str> {
        "ContactPolicy".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        schema::kind::<ContactPolicySpec, ContactPolicyStatus>(
            generator,
            "What must hold for the message contacts of the whole cluster: what each of them must \
             be like, and what all of them together must give.",
        )
    }
}
