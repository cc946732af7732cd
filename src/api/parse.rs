//! From a spec to what it asks for. Everything that the schema checks is checked again: an object
//! may be older than the schema.

use std::collections::BTreeSet;
use std::fmt;

use jiff::SignedDuration;

use super::contact_policy::{
    self, COVERAGE_MAX, ContactPolicySpec, DIRECTORIES_MAX, DOMAINS_MAX, EmailDomains, MIN_MAX,
    MessageTypeRules, NO_MINIMUM, NOTHING_DEMANDED, PolicyMatch, REQUIRED_NOT_ALLOWED,
    RULE_NAME_ADVICE, RULE_NAME_TWICE, UNMANAGED_MAX,
};
use super::message_contact::{
    ADOPTION_POLICIES, ChannelStatus, DELETION_POLICIES, DriftStatus, EMAIL_MISSING, EMAIL_TWICE,
    MAX_SENDS, MEMBERS_ADVICE, MEMBERS_MAX, MEMBERS_TWICE, MessageContactSpec,
    MessageContactStatus, PHONE_TWICE, Private, READY_WHENS, RECONCILE_POLICIES, SECRET_KEY_ADVICE,
    SENDS, SecretKeyRef, ValueFrom, Verification, VerificationStatus,
};
use super::names::{LABEL_CHARS_MAX, is_label_value, is_object_name, is_qualified_name};
use super::resource_directory::{
    ALLOWED_MEMBERS_MAX, AssumeRole, Credentials, DIRECTORY_ID_ADVICE, ENDPOINT_ADVICE,
    ENDPOINT_CHARS_MAX, EXTERNAL_ID_ADVICE, LABEL_KEY_ADVICE, LABEL_VALUE_ADVICE, MANAGEMENTS,
    NamespaceSelector, OPERATORS, ROLE_ARN_ADVICE, ResourceDirectorySpec, SECRET_MISSING,
    SECRET_UNUSED, SELECTOR_WORDS_MAX, SESSION_NAME_ADVICE, SITE_TWICE, SITES, SOURCES,
    VALUES_MISSING, VALUES_UNUSED, VerificationSends,
};
use super::schema::{
    DURATION_ADVICE, ECHO_BYTES_MAX, ID_CHARS_MAX, OBJECT_NAME_ADVICE, OBJECT_NAME_CHARS_MAX,
    WORD_CHARS_MAX,
};
use super::values::{Value, Values};
use crate::domain::access::{Endpoint, Hidden, NotAllowed};
use crate::domain::channel::{EmailAddress, Malformed, PhoneNumber};
use crate::domain::contact::{
    Adoption, ContactId, ContactName, Creation, DesiredContact, Difference, DirectoryId, Field,
    LastError, LastWrite, MemberId, MessageType, Mode, ReadyWhen, Recorded, Removal, Revert, Title,
};
use crate::domain::directory::{
    AssumedRole, CredentialSource, DesiredCredentials, DesiredDirectory, LabelExpression,
    LabelOperator, LabelSelector, Management, NamespaceRule,
};
use crate::domain::ledger::{Ledger, TargetSends};
use crate::domain::policy::{
    Candidate, ContactRules, CoverageRule, DomainPattern, Enforcement, PhoneRule, Policy, Scope,
};
use crate::domain::verdict::Reason;
use crate::domain::verification::{
    self, ChannelRecord, ChannelState, Evidence, VerificationPolicy,
};

/// The directory of a contact that names none.
const DEFAULT_DIRECTORY: &str = "default";

/// Why a spec was refused: where, and what to write instead. Never holds the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The field, such as `spec.emailAddress`.
    pub field_path: String,
    /// What to write instead.
    pub message: String,
}

impl Problem {
    fn at(field: &str, message: impl fmt::Display) -> Self {
        Self { field_path: format!("spec.{field}"), message: message.to_string() }
    }

    fn not_one_of(field: &str, words: &[&str]) -> Self {
        Self::at(field, format_args!("write one of {}", words.join(", ")))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field_path, self.message)
    }
}

impl std::error::Error for Problem {}

/// Why the spec of a contact cannot be followed, by who ends it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContactProblem {
    /// A field, or the value that it names, is not acceptable: a person changes it.
    #[error("{0}")]
    Invalid(Problem),
    /// A Secret, or its key, is missing or may not be read: it may come by itself.
    #[error("{0}")]
    SecretNotFound(Problem),
    /// A Secret was not read yet, and everything else is acceptable.
    #[error("a value from a Secret is not known yet")]
    Unread,
}

impl From<Problem> for ContactProblem {
    fn from(problem: Problem) -> Self {
        Self::Invalid(problem)
    }
}

/// What the spec of a contact asks for. `values` holds what is known of what it takes from Secrets.
///
/// # Errors
/// The first field that is not acceptable; or if all are, the first value that is not there.
pub fn contact(
    spec: &MessageContactSpec,
    values: &Values,
) -> Result<DesiredContact, ContactProblem> {
    if !is_object_name(directory_name(spec)) {
        return Err(Problem::at("directoryRef.name", OBJECT_NAME_ADVICE).into());
    }
    one_of("deletionPolicy", spec.deletion_policy.as_deref(), &DELETION_POLICIES)?;
    let ready_when = one_of("readyWhen", spec.ready_when.as_deref(), &READY_WHENS)?;
    let (email, phone) = (email(spec, &values.email), phone(spec, &values.phone));
    let of_values = [email.as_ref().err(), phone.as_ref().err()];
    let is_invalid = |problem: &&ContactProblem| matches!(problem, ContactProblem::Invalid(_));
    if let Some(problem) = of_values.into_iter().flatten().find(is_invalid) {
        return Err(problem.clone());
    }
    Ok(DesiredContact {
        name: ContactName::parse(spec.name.reveal()).map_err(at("name"))?,
        title: title(&spec.title)?,
        message_types: message_types("messageTypes", &spec.message_types)?,
        members: members(spec.members.as_deref())?,
        mode: mode(spec)?,
        adoption: adoption("adoptionPolicy", spec.adoption_policy.as_deref())?,
        verification: verification(spec.verification.as_ref())?,
        ready_when: match ready_when {
            Some("Synced") => ReadyWhen::Synced,
            _ => ReadyWhen::Verified,
        },
        // Last: who waits for a Secret has nothing else to put right.
        email: email?,
        phone: phone?,
    })
}

/// What policies judge of a contact. A mailbox in a Secret counts as far as `values` knows it;
/// whatever else is not acceptable about the spec is not looked at.
///
/// # Errors
/// The first field that policies look at and that is not acceptable.
pub fn candidate(spec: &MessageContactSpec, values: &Values) -> Result<Candidate, Problem> {
    let email = match email(spec, &values.email) {
        Ok(email) => Some(email),
        Err(ContactProblem::Invalid(problem)) if spec.email_address_from.is_none() => {
            return Err(problem);
        }
        Err(_) => None,
    };
    Ok(Candidate {
        email,
        // A number in a Secret is one, whatever it is.
        has_phone: spec.phone_number.is_some() || spec.phone_number_from.is_some(),
        title: title(&spec.title)?,
        message_types: message_types("messageTypes", &spec.message_types)?,
        members: members(spec.members.as_deref())?,
        mode: mode(spec)?,
    })
}

/// What may be written to the cloud for a contact.
///
/// # Errors
/// The word is not one of those that the schema allows.
pub fn mode(spec: &MessageContactSpec) -> Result<Mode, Problem> {
    let word = one_of("reconcilePolicy", spec.reconcile_policy.as_deref(), &RECONCILE_POLICIES)?;
    Ok(if word == Some("ReportOnly") { Mode::ReportOnly } else { Mode::Enforce })
}

/// What deleting the object does in the cloud. Works for every spec: an object that can not be
/// parsed can still be deleted, and a word that this version does not know deletes nothing.
#[must_use]
pub fn removal(spec: &MessageContactSpec) -> Removal {
    let report_only = !matches!(spec.reconcile_policy.as_deref(), None | Some("Enforce"));
    match spec.deletion_policy.as_deref() {
        None | Some("Delete") if !report_only => {
            Removal::Delete { retain_in_members: spec.retain_in_members.unwrap_or(false) }
        }
        _ => Removal::Retain,
    }
}

/// The last generation of the spec that was brought into sync; -1 before the first.
#[must_use]
pub fn settled_generation(status: &MessageContactStatus) -> i64 {
    let synced = status.conditions.iter().find(|condition| condition.type_ == "Synced");
    let settled = synced.filter(|condition| condition.status == "True");
    settled.and_then(|condition| condition.observed_generation).unwrap_or(-1)
}

/// What our own status says about a contact.
#[must_use]
pub fn recorded(status: &MessageContactStatus) -> Recorded {
    Recorded {
        directory_id: status.directory_id.as_deref().map(DirectoryId::from),
        contact_id: status.contact_id.as_deref().map(ContactId::from),
        creation: status.creation.as_ref().map(|creation| Creation {
            name: ContactName::observed(creation.name.reveal().to_owned()),
            hash: creation.hash.clone(),
            at: creation.at,
        }),
        last_write: status.last_write.as_ref().map(|write| LastWrite {
            hash: write.hash.clone(),
            mismatches: u32::try_from(write.mismatches.max(0)).unwrap_or(u32::MAX),
        }),
        last_error: status.last_error.as_ref().map(|error| LastError {
            code: error.code.clone(),
            action: error.action.clone(),
            generation: error.generation,
        }),
        verification: status.verification.as_ref().map(recorded_verification).unwrap_or_default(),
        reverts: status.drift.iter().filter_map(recorded_revert).collect(),
    }
}

/// The verification messages that the status of a directory tells of.
#[must_use]
pub fn ledger(status: &VerificationSends) -> Ledger {
    let count = |count: i64| u32::try_from(count.max(0)).unwrap_or(u32::MAX);
    let VerificationSends {
        day,
        count: sent,
        exhausted_until,
        recent,
        hash_key,
        hash_key_lost_time,
    } = status;
    Ledger {
        day: day.parse().ok(),
        count: count(*sent),
        exhausted_until: exhausted_until.as_ref().map(|time| time.0),
        recent: recent
            .iter()
            .filter_map(|sends| {
                Some(TargetSends {
                    target: sends.target.clone(),
                    contact: sends.contact.clone(),
                    count: count(sends.count),
                    last: sends.last_time.as_ref()?.0,
                })
            })
            .collect(),
        key: hash_key.clone(),
        lost_at: hash_key_lost_time.as_ref().map(|time| time.0),
    }
}

fn recorded_verification(status: &VerificationStatus) -> verification::Verification {
    let channel = |channel: &ChannelStatus| {
        Some(ChannelRecord {
            target: channel.target.clone()?,
            // A word that this version does not know owes nothing before the next slot.
            state: ChannelState::from_word(&channel.state).unwrap_or(ChannelState::Sent),
            sends: u32::try_from(channel.sends.max(0)).unwrap_or(u32::MAX),
            last_sent: channel.last_sent_time.as_ref().map(|time| time.0),
            evidence: channel.evidence.as_deref().and_then(Evidence::from_word),
            verified_target: channel.verified_target.clone(),
        })
    };
    let VerificationStatus { email, phone } = status;
    let (email, phone) = (email.as_ref().and_then(channel), phone.as_ref().and_then(channel));
    verification::Verification { email, phone }
}

fn recorded_revert(status: &DriftStatus) -> Option<Revert> {
    let field = Field::from_word(&status.field).filter(|_| !status.reverts.is_empty())?;
    let (desired, observed) = (status.desired.reveal(), status.observed.reveal());
    Some(Revert {
        difference: Difference {
            field,
            desired: desired.to_owned(),
            observed: observed.to_owned(),
        },
        since: status.since.0,
        times: status.reverts.iter().map(|time| time.0).collect(),
    })
}

/// The ResourceDirectory that a contact lives in.
#[must_use]
pub fn directory_name(spec: &MessageContactSpec) -> &str {
    spec.directory_ref.as_ref().map_or(DEFAULT_DIRECTORY, |reference| &reference.name)
}

/// The name that a contact wants, whether it is acceptable or not: for finding others that want it.
#[must_use]
pub fn wanted_name(spec: &MessageContactSpec) -> ContactName {
    ContactName::observed(spec.name.reveal().to_owned())
}

/// The part of an annotation's text that is echoed in status: its first 128 bytes, cut where a
/// character begins.
#[must_use]
pub fn echo(text: &str) -> &str {
    let mut end = text.len().min(ECHO_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Why the spec of a directory was refused, by what is said about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DirectoryProblem {
    /// The endpoint is neither built in nor allowed.
    #[error("spec.endpoint: {0}")]
    EndpointNotAllowed(NotAllowed),
    /// A field is not acceptable.
    #[error("{0}")]
    Invalid(Problem),
}

impl DirectoryProblem {
    /// The reason of `Ready`.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::EndpointNotAllowed(_) => Reason::EndpointNotAllowed,
            Self::Invalid(problem) => {
                if problem.field_path.starts_with("spec.credentials") {
                    Reason::Unauthorized
                } else if ["spec.endpoint", "spec.site"].contains(&problem.field_path.as_str()) {
                    Reason::EndpointNotAllowed
                } else {
                    Reason::Unreachable
                }
            }
        }
    }
}

impl From<Problem> for DirectoryProblem {
    fn from(problem: Problem) -> Self {
        Self::Invalid(problem)
    }
}

/// What the spec of a directory asks for. `allow_list` holds the origins of `--allow-endpoint`.
///
/// # Errors
/// The first field that is not acceptable.
pub fn directory(
    spec: &ResourceDirectorySpec,
    allow_list: &[String],
) -> Result<DesiredDirectory, DirectoryProblem> {
    let pin = spec.directory_id.as_deref();
    if pin.is_some_and(|id| !DirectoryId::is_formed(id)) {
        return Err(Problem::at("directoryId", DIRECTORY_ID_ADVICE).into());
    }
    let poll_interval = match spec.poll_interval.as_deref() {
        None => DesiredDirectory::POLL_INTERVAL,
        Some(text) => duration(text).ok_or_else(|| Problem::at("pollInterval", DURATION_ADVICE))?,
    };
    if poll_interval < DesiredDirectory::POLL_INTERVAL_MIN {
        return Err(Problem::at("pollInterval", "write a duration of at least 10s").into());
    }
    let requests_per_second = match spec.requests_per_second {
        None => DesiredDirectory::REQUESTS_PER_SECOND,
        Some(given) => u32::try_from(given)
            .ok()
            .filter(|given| (1..=DesiredDirectory::REQUESTS_PER_SECOND_MAX).contains(given))
            .ok_or_else(|| Problem::at("requestsPerSecond", "write a number from 1 to 100"))?,
    };
    Ok(DesiredDirectory {
        endpoint: endpoint(spec, allow_list)?,
        pin: pin.map(DirectoryId::from),
        credentials: credentials(spec.credentials.as_ref())?,
        namespaces: namespaces(spec.namespaces.as_ref())?,
        allowed_members: allowed_members(spec.allowed_members.as_deref())?,
        adoption: adoption("adoption", spec.adoption.as_deref())?,
        management: management(spec.management.as_deref())?,
        poll_interval,
        requests_per_second,
        suspended: spec.suspend.unwrap_or(false),
    })
}

/// What the spec of a policy of that name asks for.
///
/// # Errors
/// The first field that is not acceptable.
pub fn policy(name: &str, spec: &ContactPolicySpec) -> Result<Policy, Problem> {
    let ContactPolicySpec { enforcement, matches, contact, coverage, unmanaged_contacts } = spec;
    if contact.is_none() && coverage.is_none() && unmanaged_contacts.is_none() {
        return Err(Problem::at("contact", NOTHING_DEMANDED));
    }
    let words = Enforcement::ALL.map(Enforcement::as_str);
    let enforcement = one_of("enforcement", enforcement.as_deref(), &words)?;
    let coverage = coverage.as_deref().unwrap_or_default();
    if coverage.len() > COVERAGE_MAX {
        return Err(Problem::at("coverage", "write at most 32 rules"));
    }
    let names: BTreeSet<_> = coverage.iter().map(|rule| &rule.name).collect();
    if names.len() < coverage.len() {
        return Err(Problem::at("coverage", RULE_NAME_TWICE));
    }
    Ok(Policy {
        name: name.to_owned(),
        enforcement: enforcement.and_then(Enforcement::from_word).unwrap_or(Enforcement::Audit),
        scope: matches.as_ref().map(scope).transpose()?.unwrap_or_default(),
        contact: contact.as_ref().map(contact_rules).transpose()?.unwrap_or_default(),
        coverage: coverage.iter().enumerate().map(coverage_rule).collect::<Result<_, _>>()?,
        unmanaged_max: unmanaged_contacts
            .as_ref()
            .map(|unmanaged| {
                let max = u32::try_from(unmanaged.max).ok().filter(|max| *max <= UNMANAGED_MAX);
                let advice = "write a number from 0 to 10000";
                max.ok_or_else(|| Problem::at("unmanagedContacts.max", advice))
            })
            .transpose()?,
    })
}

fn scope(spec: &PolicyMatch) -> Result<Scope, Problem> {
    let PolicyMatch { directories, namespace_selector } = spec;
    let directories = directories.as_deref().unwrap_or_default();
    if directories.len() > DIRECTORIES_MAX || !directories.iter().all(|name| is_object_name(name)) {
        return Err(Problem::at("match.directories", OBJECT_NAME_ADVICE));
    }
    let namespaces = namespace_selector
        .as_ref()
        .map(|selecting| selector("match.namespaceSelector", selecting))
        .transpose()?;
    Ok(Scope {
        directories: directories.iter().cloned().collect(),
        namespaces: namespaces.unwrap_or_default(),
    })
}

fn contact_rules(spec: &contact_policy::ContactRules) -> Result<ContactRules, Problem> {
    let contact_policy::ContactRules {
        email_domains,
        phone_number,
        titles,
        message_types,
        members,
    } = spec;
    let EmailDomains { allowed, denied } = email_domains.clone().unwrap_or_default();
    let phone = one_of(
        "contact.phoneNumber",
        phone_number.as_deref(),
        &PhoneRule::ALL.map(PhoneRule::as_str),
    )?;
    let titles = titles.as_ref().map(|titles| titles.allowed.as_slice()).unwrap_or_default();
    let MessageTypeRules { allowed: types_allowed, required } =
        message_types.clone().unwrap_or_default();
    let message_types_allowed = types_of("contact.messageTypes.allowed", types_allowed)?;
    let message_types_required = types_of("contact.messageTypes.required", required)?;
    let is_allowed =
        |word| message_types_allowed.is_empty() || message_types_allowed.contains(word);
    if !message_types_required.iter().all(is_allowed) {
        return Err(Problem::at("contact.messageTypes.required", REQUIRED_NOT_ALLOWED));
    }
    let members = members.as_ref().map(|members| members.allowed.as_slice()).unwrap_or_default();
    if members.len() > ALLOWED_MEMBERS_MAX || !members.iter().all(|id| is_member_id(id)) {
        return Err(Problem::at("contact.members.allowed", MEMBERS_ADVICE));
    }
    Ok(ContactRules {
        domains_allowed: domains("contact.emailDomains.allowed", allowed)?,
        domains_denied: domains("contact.emailDomains.denied", denied)?,
        phone: phone.and_then(PhoneRule::from_word).unwrap_or_default(),
        titles_allowed: titles
            .iter()
            .map(|word| title_at("contact.titles.allowed", word))
            .collect::<Result<_, _>>()?,
        message_types_allowed,
        message_types_required,
        members_allowed: members.iter().map(|id| MemberId::from(id.as_str())).collect(),
    })
}

fn domains(field: &str, texts: Option<Vec<String>>) -> Result<Vec<DomainPattern>, Problem> {
    let texts = texts.unwrap_or_default();
    let parsed = texts.iter().map(|text| DomainPattern::parse(text)).collect::<Option<Vec<_>>>();
    parsed
        .filter(|patterns| patterns.len() <= DOMAINS_MAX)
        .ok_or_else(|| Problem::at(field, DomainPattern::ADVICE))
}

fn types_of(field: &str, words: Option<Vec<String>>) -> Result<Vec<MessageType>, Problem> {
    words.map_or(Ok(Vec::new()), |words| message_types(field, &words))
}

fn coverage_rule(
    (index, spec): (usize, &contact_policy::CoverageRule),
) -> Result<CoverageRule, Problem> {
    let contact_policy::CoverageRule {
        name,
        message_types: types,
        titles,
        members,
        min_contacts,
        min_verified,
        distinct_mailboxes,
    } = spec;
    let field = |part: &str| format!("coverage[{index}].{part}");
    let is_name = is_object_name(name) && !name.contains('.') && name.len() <= LABEL_CHARS_MAX;
    if !is_name {
        return Err(Problem::at(&field("name"), RULE_NAME_ADVICE));
    }
    if min_contacts.is_none() && min_verified.is_none() {
        return Err(Problem::at(&field("minContacts"), NO_MINIMUM));
    }
    let least = |part: &str, given: &Option<i64>| match given {
        None => Ok(0),
        Some(given) => u32::try_from(*given)
            .ok()
            .filter(|given| (1..=MIN_MAX).contains(given))
            .ok_or_else(|| Problem::at(&field(part), "write a number from 1 to 1000")),
    };
    let titles = titles.as_deref().unwrap_or_default().iter();
    let members = members.as_deref().unwrap_or_default();
    if members.len() > MEMBERS_MAX || !members.iter().all(|id| is_member_id(id)) {
        return Err(Problem::at(&field("members"), MEMBERS_ADVICE));
    }
    Ok(CoverageRule {
        name: name.clone(),
        message_types: match types {
            Some(words) => message_types(&field("messageTypes"), words)?,
            None => MessageType::ALL.iter().copied().collect(),
        },
        titles: titles.map(|word| title_at(&field("titles"), word)).collect::<Result<_, _>>()?,
        members: members.iter().map(|id| MemberId::from(id.as_str())).collect(),
        min_contacts: least("minContacts", min_contacts)?,
        min_verified: least("minVerified", min_verified)?,
        distinct_mailboxes: distinct_mailboxes.unwrap_or(false),
    })
}

fn at(field: &'static str) -> impl Fn(Malformed) -> Problem {
    move |malformed| Problem::at(field, malformed)
}

fn one_of<'a>(
    field: &str,
    word: Option<&'a str>,
    words: &[&str],
) -> Result<Option<&'a str>, Problem> {
    match word {
        Some(word) if !words.contains(&word) => Err(Problem::not_one_of(field, words)),
        word => Ok(word),
    }
}

fn members(ids: Option<&[String]>) -> Result<Option<BTreeSet<MemberId>>, Problem> {
    if ids.is_some_and(|ids| ids.len() > MEMBERS_MAX) {
        return Err(Problem::at("members", "write at most 50 ids"));
    }
    member_ids("members", ids)
}

fn allowed_members(ids: Option<&[String]>) -> Result<Option<BTreeSet<MemberId>>, Problem> {
    member_ids("allowedMembers", ids)
}

fn member_ids(field: &str, ids: Option<&[String]>) -> Result<Option<BTreeSet<MemberId>>, Problem> {
    let Some(ids) = ids else { return Ok(None) };
    if !ids.iter().all(|id| is_member_id(id)) {
        return Err(Problem::at(field, MEMBERS_ADVICE));
    }
    let members: BTreeSet<_> = ids.iter().map(|id| MemberId::from(id.as_str())).collect();
    if members.len() < ids.len() {
        return Err(Problem::at(field, MEMBERS_TWICE));
    }
    Ok(Some(members))
}

fn is_member_id(id: &str) -> bool {
    id.len() <= ID_CHARS_MAX
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && id.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
}

fn adoption(field: &str, word: Option<&str>) -> Result<Adoption, Problem> {
    Ok(match one_of(field, word, &ADOPTION_POLICIES)? {
        Some("Always") => Adoption::Always,
        Some("Never") => Adoption::Never,
        _ => Adoption::IfIdentical,
    })
}

fn management(word: Option<&str>) -> Result<Management, Problem> {
    Ok(match one_of("management", word, &MANAGEMENTS)? {
        Some("NoDelete") => Management::NoDelete,
        Some("ReportOnly") => Management::ReportOnly,
        _ => Management::Full,
    })
}

fn verification(spec: Option<&Verification>) -> Result<VerificationPolicy, Problem> {
    let mut policy = VerificationPolicy::default();
    let Some(Verification { send, resend_after, max_sends }) = spec else { return Ok(policy) };
    policy.send = one_of("verification.send", send.as_deref(), &SENDS)? != Some("Never");
    if let Some(text) = resend_after {
        let at = |message: &str| Problem::at("verification.resendAfter", message);
        policy.resend_after = duration(text).ok_or_else(|| at(DURATION_ADVICE))?;
        if policy.resend_after < VerificationPolicy::RESEND_AFTER_MIN {
            return Err(at("write a duration of at least 10m"));
        }
    }
    if let Some(given) = *max_sends {
        let sends = u32::try_from(given).ok().filter(|_| MAX_SENDS.contains(&given));
        policy.max_sends = sends
            .ok_or_else(|| Problem::at("verification.maxSends", "write a number from 1 to 20"))?;
    }
    Ok(policy)
}

fn title(word: &str) -> Result<Title, Problem> {
    title_at("title", word)
}

fn title_at(field: &str, word: &str) -> Result<Title, Problem> {
    Title::from_word(word).ok_or_else(|| {
        let words: Vec<_> = Title::ALL.iter().map(|title| title.as_str()).collect();
        Problem::not_one_of(field, &words)
    })
}

fn message_types<Types>(field: &str, words: &[String]) -> Result<Types, Problem>
where
    Types: FromIterator<MessageType>,
{
    if words.is_empty() {
        return Err(Problem::at(field, "write at least one type"));
    }
    let parsed = words.iter().map(|word| MessageType::from_word(word)).collect::<Option<_>>();
    parsed.ok_or_else(|| {
        let words: Vec<_> = MessageType::ALL.iter().map(|word| word.as_str()).collect();
        Problem::at(field, format_args!("write only {}", words.join(", ")))
    })
}

fn email(
    spec: &MessageContactSpec,
    known: &Value<EmailAddress>,
) -> Result<EmailAddress, ContactProblem> {
    match (&spec.email_address, &spec.email_address_from) {
        (None, None) => Err(Problem::at("emailAddress", EMAIL_MISSING).into()),
        (Some(_), Some(_)) => Err(Problem::at("emailAddressFrom", EMAIL_TWICE).into()),
        (None, Some(from)) => from_secret("emailAddressFrom", from, known),
        (Some(text), None) => Ok(EmailAddress::parse(text.reveal()).map_err(at("emailAddress"))?),
    }
}

fn phone(
    spec: &MessageContactSpec,
    known: &Value<PhoneNumber>,
) -> Result<Option<PhoneNumber>, ContactProblem> {
    match (&spec.phone_number, &spec.phone_number_from) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(Problem::at("phoneNumberFrom", PHONE_TWICE).into()),
        (None, Some(from)) => from_secret("phoneNumberFrom", from, known).map(Some),
        (Some(text), None) => {
            Ok(Some(PhoneNumber::parse(text.reveal()).map_err(at("phoneNumber"))?))
        }
    }
}

/// A value that stands in a Secret, or why it cannot be had. Secret and key are named, the value
/// never is.
fn from_secret<T: Clone>(
    field: &str,
    from: &ValueFrom,
    known: &Value<T>,
) -> Result<T, ContactProblem> {
    let SecretKeyRef { name, key } = &from.secret_key_ref;
    let malformed = |part: &str, advice: &str| {
        Err(Problem::at(&format!("{field}.secretKeyRef.{part}"), advice).into())
    };
    if !is_object_name(name) {
        return malformed("name", OBJECT_NAME_ADVICE);
    }
    if !is_secret_key(key) {
        return malformed("key", SECRET_KEY_ADVICE);
    }
    let missing = |what: String| Err(ContactProblem::SecretNotFound(Problem::at(field, what)));
    match known {
        Value::Unread => Err(ContactProblem::Unread),
        Value::Forbidden => missing(format!(
            "the operator may not read the Secret `{name}` of this namespace; grant its service \
             account `get` on it"
        )),
        Value::NoSecret => missing(format!(
            "there is no Secret `{name}` in this namespace; create it, with the key `{key}`"
        )),
        Value::NoKey => missing(format!("the Secret `{name}` has no key `{key}`; add it")),
        Value::Malformed(advice) => {
            let what = format!("the value of `{key}` in the Secret `{name}`: {advice}");
            Err(Problem::at(field, what).into())
        }
        Value::Known(value) => Ok(value.clone()),
    }
}

/// As the pattern in the schema: the key of a Secret.
fn is_secret_key(text: &str) -> bool {
    (1..=OBJECT_NAME_CHARS_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
}

fn endpoint(
    spec: &ResourceDirectorySpec,
    allow_list: &[String],
) -> Result<Endpoint, DirectoryProblem> {
    let site = one_of("site", spec.site.as_deref(), &SITES)?;
    match (site, spec.endpoint.as_deref()) {
        (Some(_), Some(_)) => Err(Problem::at("endpoint", SITE_TWICE).into()),
        (Some("International"), None) => Ok(Endpoint::international()),
        (_, None) => Ok(Endpoint::china()),
        (None, Some(text)) if !is_origin(text) => {
            Err(Problem::at("endpoint", ENDPOINT_ADVICE).into())
        }
        (None, Some(text)) => {
            Endpoint::allowed(text, allow_list).map_err(DirectoryProblem::EndpointNotAllowed)
        }
    }
}

/// Whether a text is scheme, host and port of an http or https server, and nothing else.
#[must_use]
pub fn is_origin(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let Some(rest) = rest.map(|rest| rest.strip_suffix('/').unwrap_or(rest)) else { return false };
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (rest, None),
    };
    let alphanumeric = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    let bytes = host.as_bytes();
    let is_name = alphanumeric(bytes.first().copied())
        && alphanumeric(bytes.last().copied())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(byte));
    let is_address =
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).is_some_and(|host| {
            !host.is_empty()
                && host.bytes().all(|byte| byte.is_ascii_hexdigit() || b":.".contains(&byte))
        });
    let is_port = |port: &str| {
        (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit())
    };
    text.len() <= ENDPOINT_CHARS_MAX && (is_name || is_address) && port.is_none_or(is_port)
}

fn credentials(spec: Option<&Credentials>) -> Result<DesiredCredentials, DirectoryProblem> {
    let Some(Credentials { source, secret_ref, assume_role }) = spec else {
        return Ok(DesiredCredentials { source: CredentialSource::Ambient, assume_role: None });
    };
    let source = one_of("credentials.source", source.as_deref(), &SOURCES)?;
    let source = match (source, secret_ref) {
        (Some("Secret"), None) => {
            return Err(Problem::at("credentials.secretRef", SECRET_MISSING).into());
        }
        (Some("Secret"), Some(secret)) if is_object_name(&secret.name) => {
            CredentialSource::Secret { name: secret.name.clone() }
        }
        (Some("Secret"), Some(_)) => {
            return Err(Problem::at("credentials.secretRef.name", OBJECT_NAME_ADVICE).into());
        }
        (_, Some(_)) => return Err(Problem::at("credentials.secretRef", SECRET_UNUSED).into()),
        (Some("Environment"), None) => CredentialSource::Environment,
        (Some("RRSA"), None) => CredentialSource::Rrsa,
        (Some("InstanceRole"), None) => CredentialSource::InstanceRole,
        (_, None) => CredentialSource::Ambient,
    };
    let assume_role = assume_role.as_ref().map(assumed_role).transpose()?;
    Ok(DesiredCredentials { source, assume_role })
}

fn assumed_role(spec: &AssumeRole) -> Result<AssumedRole, Problem> {
    let AssumeRole { role_arn, session_name, external_id, duration_seconds } = spec;
    let at =
        |field: &str, advice: &str| Problem::at(&format!("credentials.assumeRole.{field}"), advice);
    let is_role = |arn: &str| {
        let parts = arn.strip_prefix("acs:ram::").and_then(|rest| rest.split_once(":role/"));
        parts.is_some_and(|(account, role)| {
            !account.is_empty()
                && account.bytes().all(|byte| byte.is_ascii_digit())
                && !role.is_empty()
                && !role.contains(' ')
        })
    };
    if role_arn.chars().count() > WORD_CHARS_MAX || !is_role(role_arn) {
        return Err(at("roleArn", ROLE_ARN_ADVICE));
    }
    if !session_name.as_deref().is_none_or(AssumedRole::is_session_name) {
        return Err(at("sessionName", SESSION_NAME_ADVICE));
    }
    let external_id = external_id.as_ref().map(Private::reveal);
    let fits = |id: &str| AssumedRole::EXTERNAL_ID_CHARS.contains(&id.chars().count());
    if !external_id.is_none_or(fits) {
        return Err(at("externalId", EXTERNAL_ID_ADVICE));
    }
    let duration_seconds = match *duration_seconds {
        None => None,
        Some(given) => {
            let seconds = u32::try_from(given).ok();
            let fits = |seconds: &u32| AssumedRole::DURATION_SECONDS.contains(seconds);
            let advice = "write a number from 900 to 43200";
            Some(seconds.filter(fits).ok_or_else(|| at("durationSeconds", advice))?)
        }
    };
    Ok(AssumedRole {
        role_arn: role_arn.clone(),
        session_name: session_name.clone(),
        external_id: external_id.map(|id| Hidden::new(id.to_owned())),
        duration_seconds,
    })
}

fn namespaces(spec: Option<&NamespaceSelector>) -> Result<NamespaceRule, Problem> {
    match spec {
        None => Ok(NamespaceRule::OwnOnly),
        Some(spec) => Ok(NamespaceRule::Selector(selector("namespaces", spec)?)),
    }
}

/// The selector in that field.
fn selector(field: &str, spec: &NamespaceSelector) -> Result<LabelSelector, Problem> {
    let NamespaceSelector { match_labels, match_expressions } = spec;
    let labels = match_labels.clone().unwrap_or_default();
    let at_labels = |message: &str| Problem::at(&format!("{field}.matchLabels"), message);
    if !labels.keys().all(|key| is_qualified_name(key)) {
        return Err(at_labels(LABEL_KEY_ADVICE));
    }
    if !labels.values().all(|value| is_label_value(value)) {
        return Err(at_labels(LABEL_VALUE_ADVICE));
    }
    let given = match_expressions.as_deref().unwrap_or_default();
    if labels.len().max(given.len()) > SELECTOR_WORDS_MAX {
        return Err(Problem::at(field, "write at most 64 labels and expressions"));
    }
    let mut expressions = Vec::new();
    for (index, expression) in given.iter().enumerate() {
        let at = |part: &str, message: &str| {
            let path = format!("{field}.matchExpressions[{index}].{part}");
            Err(Problem::at(&path, message))
        };
        if !is_qualified_name(&expression.key) {
            return at("key", LABEL_KEY_ADVICE);
        }
        let values: BTreeSet<String> = expression.values.iter().flatten().cloned().collect();
        if !values.iter().all(|value| is_label_value(value)) {
            return at("values", LABEL_VALUE_ADVICE);
        }
        let operator = match (expression.operator.as_str(), values.is_empty()) {
            ("In" | "NotIn", true) => return at("values", VALUES_MISSING),
            ("In", false) => LabelOperator::In(values),
            ("NotIn", false) => LabelOperator::NotIn(values),
            ("Exists" | "DoesNotExist", false) => return at("values", VALUES_UNUSED),
            ("Exists", true) => LabelOperator::Exists,
            ("DoesNotExist", true) => LabelOperator::DoesNotExist,
            _ => return at("operator", &format!("write one of {}", OPERATORS.join(", "))),
        };
        expressions.push(LabelExpression { key: expression.key.clone(), operator });
    }
    Ok(LabelSelector { match_labels: labels, match_expressions: expressions })
}

/// A duration as the schema has it: hours, minutes, seconds, in this order.
#[must_use]
pub fn duration(text: &str) -> Option<SignedDuration> {
    let mut rest = text;
    let mut seconds = 0_i64;
    for (unit, digits_max, factor) in [('h', 5, 3600), ('m', 6, 60), ('s', 7, 1)] {
        if let Some((number, after)) = rest.split_once(unit) {
            let formed = (1..=digits_max).contains(&number.len())
                && number.bytes().all(|byte| byte.is_ascii_digit());
            seconds += number.parse::<i64>().ok().filter(|_| formed)? * factor;
            rest = after;
        }
    }
    (rest.is_empty() && !text.is_empty()).then(|| SignedDuration::from_secs(seconds))
}
