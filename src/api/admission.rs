//! The rules of policies as the apiserver evaluates them: a `ValidatingAdmissionPolicy` and its
//! binding for each enforcement. `plan::policy` is the same in Rust; a corpus proves that they agree.

use k8s_openapi::api::admissionregistration::v1::{
    AuditAnnotation, MatchCondition, MatchResources, NamedRuleWithOperations, ParamKind, ParamRef,
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
    ValidatingAdmissionPolicyBindingSpec, ValidatingAdmissionPolicySpec, Validation, Variable,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use super::GROUP;
use crate::domain::policy::{Enforcement, RuleName};

/// What the apiserver evaluates for the policies of each enforcement, and that it does.
///
/// Every policy is asked about every contact: what it speaks of is a part of the rule. A request is
/// let through when a rule cannot be evaluated (`failurePolicy: Ignore`): otherwise an apiserver
/// that does not know the kind ContactPolicy, while it is being uninstalled say, would refuse every
/// change of a contact, its finalizer included. The operator judges again whatever got through.
#[must_use]
pub fn rules() -> Vec<(ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding)> {
    Enforcement::ALL.map(|enforcement| (policy(enforcement), binding(enforcement))).into()
}

/// The name of both objects of an enforcement.
fn name(enforcement: Enforcement) -> String {
    format!("{}.contactpolicies.{GROUP}", enforcement.as_str().to_lowercase())
}

fn policy(enforcement: Enforcement) -> ValidatingAdmissionPolicy {
    let version = "v1alpha1";
    let contacts = NamedRuleWithOperations {
        api_groups: Some(vec![GROUP.to_owned()]),
        api_versions: Some(vec![version.to_owned()]),
        operations: Some(vec!["CREATE".to_owned(), "UPDATE".to_owned()]),
        resources: Some(vec!["messagecontacts".to_owned()]),
        scope: Some("Namespaced".to_owned()),
        ..NamedRuleWithOperations::default()
    };
    let violated = "variables.matches && variables.violations.size() > 0";
    let message = format!(
        "'ContactPolicy `' + params.metadata.name + '`: ' + {}",
        "variables.violations.join('; ')"
    );
    let audit = AuditAnnotation {
        key: "violation".to_owned(),
        value_expression: format!("{violated} ? {message} : ''"),
    };
    ValidatingAdmissionPolicy {
        metadata: ObjectMeta { name: Some(name(enforcement)), ..ObjectMeta::default() },
        spec: Some(ValidatingAdmissionPolicySpec {
            failure_policy: Some("Ignore".to_owned()),
            param_kind: Some(ParamKind {
                api_version: Some(format!("{GROUP}/{version}")),
                kind: Some("ContactPolicy".to_owned()),
            }),
            match_constraints: Some(MatchResources {
                resource_rules: Some(vec![contacts]),
                ..MatchResources::default()
            }),
            match_conditions: Some(match_conditions(enforcement)),
            variables: Some(variables()),
            validations: Some(vec![Validation {
                expression: format!("!({violated})"),
                // Evaluated for every contact, a good one too.
                message_expression: Some(format!("{violated} ? {message} : ''")),
                message: Some("a ContactPolicy does not allow this contact".to_owned()),
                reason: Some("Forbidden".to_owned()),
            }]),
            // The apiserver itself notes the first violated policy of a request only.
            audit_annotations: (enforcement == Enforcement::Audit).then(|| vec![audit]),
        }),
        status: None,
    }
}

fn binding(enforcement: Enforcement) -> ValidatingAdmissionPolicyBinding {
    ValidatingAdmissionPolicyBinding {
        metadata: ObjectMeta { name: Some(name(enforcement)), ..ObjectMeta::default() },
        spec: Some(ValidatingAdmissionPolicyBindingSpec {
            policy_name: Some(name(enforcement)),
            param_ref: Some(ParamRef {
                selector: Some(LabelSelector::default()),
                parameter_not_found_action: Some("Allow".to_owned()),
                ..ParamRef::default()
            }),
            validation_actions: Some(vec![enforcement.as_str().to_owned()]),
            match_resources: None,
        }),
    }
}

/// When the apiserver looks at all.
fn match_conditions(enforcement: Enforcement) -> Vec<MatchCondition> {
    let condition =
        |name: &str, expression: String| MatchCondition { name: name.to_owned(), expression };
    let word = format!("params.spec.enforcement == '{}'", enforcement.as_str());
    let enforced = match enforcement {
        Enforcement::Audit => format!("!has(params.spec.enforcement) || {word}"),
        Enforcement::Warn | Enforcement::Deny => format!("has(params.spec.enforcement) && {word}"),
    };
    vec![
        condition("enforcement", enforced),
        condition("spec-is-new", "oldObject == null || object.spec != oldObject.spec".to_owned()),
        // Nothing but the deletion is done for it, and `deletionPolicy` is the way out of a deletion
        // that cannot be done. The old object: a new one can claim anything.
        condition(
            "is-not-being-deleted",
            "oldObject == null || !has(oldObject.metadata.deletionTimestamp)".to_owned(),
        ),
        condition(
            "is-enforced",
            "!has(object.spec.reconcilePolicy) || object.spec.reconcilePolicy != 'ReportOnly'"
                .to_owned(),
        ),
    ]
}

/// The names that the validation is made of. Each is evaluated once, when it is used.
fn variables() -> Vec<Variable> {
    let variable = |name: &str, expression: String| Variable { name: name.to_owned(), expression };
    let list = |path: &str| format!("params.spec.{path}.orValue([])");
    let mut variables = vec![
        variable("directory", "object.spec.?directoryRef.?name.orValue('default')".to_owned()),
        variable("labels", "namespaceObject.metadata.?labels.orValue({})".to_owned()),
        variable("directories", list("?match.?directories")),
        variable(
            "matchLabels",
            "params.spec.?match.?namespaceSelector.?matchLabels.orValue({})".to_owned(),
        ),
        variable("matchExpressions", list("?match.?namespaceSelector.?matchExpressions")),
        variable("matches", MATCHES.to_owned()),
        // Behind the last `@`, in lower case; empty as long as it stands in a Secret.
        variable(
            "domain",
            "has(object.spec.emailAddress) \
             ? object.spec.emailAddress.split('@')[object.spec.emailAddress.split('@').size() - 1]\
             .lowerAscii() : ''"
                .to_owned(),
        ),
        variable(
            "hasPhone",
            "has(object.spec.phoneNumber) || has(object.spec.phoneNumberFrom)".to_owned(),
        ),
        variable("phone", "params.spec.?contact.?phoneNumber.orValue('Optional')".to_owned()),
    ];
    for rule in RuleName::ALL {
        let Some((name, path)) = listed(rule) else { continue };
        let places: Vec<_> = (0..rule.told_max()).map(|at| at.to_string()).collect();
        let told = format!(
            "[{}].map(at, at < variables.{name}.size(), variables.{name}[at])",
            places.join(", ")
        );
        variables.push(variable(name, list(path)));
        variables.push(variable(&format!("{name}Told"), told));
    }
    let texts: Vec<_> = RuleName::ALL.iter().map(|rule| violation(*rule)).collect();
    let violations = format!("[\n{}\n].filter(text, text != '')", texts.join(",\n"));
    variables.push(variable("violations", violations));
    variables
}

/// Whether a policy speaks of the contact: its directory, and the labels of its namespace.
const MATCHES: &str = "\
(variables.directories.size() == 0 || variables.directory in variables.directories)
&& variables.matchLabels.all(key,
  key in variables.labels && variables.labels[key] == variables.matchLabels[key])
&& variables.matchExpressions.all(word,
  word.operator == 'Exists' ? word.key in variables.labels
  : word.operator == 'DoesNotExist' ? !(word.key in variables.labels)
  : word.operator == 'In'
    ? word.key in variables.labels && has(word.values) && variables.labels[word.key] in word.values
  : word.operator == 'NotIn'
    ? !(word.key in variables.labels && has(word.values)
      && variables.labels[word.key] in word.values)
  : false)";

/// The variable of a rule's list, and where the list stands.
fn listed(rule: RuleName) -> Option<(&'static str, &'static str)> {
    match rule {
        RuleName::DomainsAllowed => Some(("domainsAllowed", "?contact.?emailDomains.?allowed")),
        RuleName::DomainsDenied => Some(("domainsDenied", "?contact.?emailDomains.?denied")),
        RuleName::PhoneRequired | RuleName::PhoneForbidden => None,
        RuleName::TitlesAllowed => Some(("titlesAllowed", "?contact.?titles.?allowed")),
        RuleName::MessageTypesAllowed => Some(("typesAllowed", "?contact.?messageTypes.?allowed")),
        RuleName::MessageTypesRequired => {
            Some(("typesRequired", "?contact.?messageTypes.?required"))
        }
        RuleName::MembersAllowed => Some(("membersAllowed", "?contact.?members.?allowed")),
    }
}

/// What is said of a rule: nothing, or the rule and what it would accept.
fn violation(rule: RuleName) -> String {
    let list = listed(rule).map(|(name, _)| format!("variables.{name}")).unwrap_or_default();
    let is_of = format!(
        "{list}.exists(domain, domain.startsWith('*.') \
         ? variables.domain.endsWith(domain.substring(1).lowerAscii()) \
         : variables.domain == domain.lowerAscii())"
    );
    let violated = match rule {
        RuleName::DomainsAllowed => {
            format!("{list}.size() > 0 && variables.domain != '' && !{is_of}")
        }
        RuleName::DomainsDenied => format!("variables.domain != '' && {is_of}"),
        RuleName::PhoneRequired => {
            "variables.phone == 'Required' && !variables.hasPhone".to_owned()
        }
        RuleName::PhoneForbidden => {
            "variables.phone == 'Forbidden' && variables.hasPhone".to_owned()
        }
        RuleName::TitlesAllowed => format!("{list}.size() > 0 && !(object.spec.title in {list})"),
        RuleName::MessageTypesAllowed => {
            format!("{list}.size() > 0 && !object.spec.messageTypes.all(word, word in {list})")
        }
        RuleName::MessageTypesRequired => {
            format!("!{list}.all(word, word in object.spec.messageTypes)")
        }
        RuleName::MembersAllowed => format!(
            "{list}.size() > 0 && has(object.spec.members) \
             && !object.spec.members.all(member, member in {list})"
        ),
    };
    let told = match listed(rule) {
        None => format!("'{rule}: {}'", rule.advice()),
        Some((name, _)) => {
            let (list, told) = (format!("variables.{name}"), format!("variables.{name}Told"));
            format!(
                "'{rule}: {} ' + {told}.join(', ')\n      + ({list}.size() > {told}.size() \
                 ? ', and ' + string({list}.size() - {told}.size()) + ' more' : '')",
                rule.advice()
            )
        }
    };
    format!("  {violated}\n    ? {told} : ''")
}
