//! Reports of `openreports.io/v1alpha1`, in which policy engines tell what they have found, for
//! tools that show those of all engines together.
//!
//! Source: the definitions of github.com/openreports/reports-api v0.2.1 (`config/crd`).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource as _;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ObjectMeta, TypeMeta};
use serde::Serialize;

use super::{ContactPolicy, FIELD_MANAGER, MessageContact};
use crate::domain::policy::Enforcement;

/// The API group and version, as discovery is asked for it.
pub const GROUP_VERSION: &str = "openreports.io/v1alpha1";

/// The resources of that group that must be there.
pub const RESOURCES: [&str; 2] = ["reports", "clusterreports"];

/// On a report: the uid of its ContactPolicy.
pub const POLICY_UID: &str = "message-contacts.dev/policy-uid";

/// Most results of one report; the summary counts the rest as well. An object of etcd has at most
/// 1.5 MiB, and a result about 2 KiB at most.
pub const RESULTS_MAX: usize = 500;

/// Most characters of a message; all are ASCII but for names that people chose.
const MESSAGE_CHARS_MAX: usize = 1000;

/// Longest name of an object. Source: Kubernetes, "Object Names and IDs", DNS subdomain names.
const NAME_BYTES_MAX: usize = 253;

/// One report: the results of a policy in a namespace, or for the cluster as a whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Its namespace; `None`: it is a `ClusterReport`.
    pub namespace: Option<String>,
    /// Its name, labels and owner.
    pub metadata: ObjectMeta,
    /// What it says.
    pub body: Body,
}

impl Report {
    /// The whole object, as the apiserver takes it.
    #[must_use]
    pub fn object(&self) -> DynamicObject {
        let kind = resource(self.namespace.is_some());
        let types = Some(TypeMeta { api_version: kind.api_version, kind: kind.kind });
        let data = serde_json::to_value(&self.body).unwrap_or_default();
        DynamicObject { types, metadata: self.metadata.clone(), data }
    }
}

/// What a report says.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Body {
    /// Which program found it.
    source: &'static str,
    /// What all results are about that name no object of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<ObjectReference>,
    configuration: Configuration,
    /// How many results there are of each outcome, those that are left out as well.
    pub summary: Summary,
    /// What failed comes first.
    pub results: Vec<Finding>,
}

/// The contract with whoever reads it.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Configuration {
    limits: Limits,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Limits {
    max_results: usize,
}

/// How many results there are of each outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// As demanded.
    pub pass: usize,
    /// Not as a policy of `Deny` demands.
    pub fail: usize,
    /// Not as another policy demands.
    pub warn: usize,
    /// What could not be told.
    pub error: usize,
    /// Always 0: what is not judged has no result.
    pub skip: usize,
}

/// What became of a demand. The order is that in which they are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Not as a policy of `Deny` demands.
    Fail,
    /// Not as another policy demands.
    Warn,
    /// It cannot be told.
    Error,
    /// As demanded.
    Pass,
}

/// One result.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    policy: String,
    rule: String,
    category: &'static str,
    /// What became of the demand.
    pub result: Outcome,
    severity: &'static str,
    scored: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    resources: Vec<ObjectReference>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    properties: BTreeMap<&'static str, String>,
}

/// The ContactPolicy that a report is about.
#[derive(Debug, Clone, Copy)]
pub struct Author<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its uid.
    pub uid: &'a str,
    /// How much it insists.
    pub enforcement: Enforcement,
}

impl Author<'_> {
    /// What becomes of a demand that is not met.
    #[must_use]
    pub fn unmet(&self) -> Outcome {
        if self.insists() { Outcome::Fail } else { Outcome::Warn }
    }

    fn insists(&self) -> bool {
        self.enforcement == Enforcement::Deny
    }

    /// A result about a contact. `message` MUST hold nothing of it; empty: nothing is to be said.
    #[must_use]
    pub fn of_contact(
        &self,
        (namespace, name): (&str, &str),
        uid: &str,
        rule: &str,
        result: Outcome,
        message: String,
    ) -> Finding {
        let contact = ObjectReference {
            api_version: Some(MessageContact::api_version(&()).into_owned()),
            kind: Some(MessageContact::kind(&()).into_owned()),
            namespace: Some(namespace.to_owned()),
            name: Some(name.to_owned()),
            uid: Some(uid.to_owned()),
            ..ObjectReference::default()
        };
        let resources = vec![contact];
        Finding { resources, ..self.finding("Message contacts", rule, result, message) }
    }

    /// A result about all contacts of the policy together.
    #[must_use]
    pub fn of_all(
        &self,
        rule: &str,
        result: Outcome,
        message: String,
        properties: BTreeMap<&'static str, String>,
    ) -> Finding {
        Finding { properties, ..self.finding("Message contacts together", rule, result, message) }
    }

    fn finding(
        &self,
        category: &'static str,
        rule: &str,
        result: Outcome,
        message: String,
    ) -> Finding {
        Finding {
            policy: self.name.to_owned(),
            rule: rule.to_owned(),
            category,
            result,
            severity: match self.enforcement {
                Enforcement::Deny => "high",
                Enforcement::Warn => "medium",
                Enforcement::Audit => "low",
            },
            scored: self.insists(),
            message: message.chars().take(MESSAGE_CHARS_MAX).collect(),
            resources: Vec::new(),
            properties: BTreeMap::new(),
        }
    }

    /// The report of what was found in a namespace; `None`: for the cluster as a whole.
    #[must_use]
    pub fn report(&self, namespace: Option<&str>, mut results: Vec<Finding>) -> Report {
        let summary = summary(&results);
        results.sort_by_key(|finding| finding.result);
        results.truncate(RESULTS_MAX);
        let of_cluster = namespace.is_none();
        let body = Body {
            source: FIELD_MANAGER,
            scope: of_cluster.then(|| self.reference()),
            configuration: Configuration { limits: Limits { max_results: RESULTS_MAX } },
            summary,
            results,
        };
        let labels = [("app.kubernetes.io/managed-by", FIELD_MANAGER), (POLICY_UID, self.uid)];
        let metadata = ObjectMeta {
            name: Some(Self::report_name(self.name, self.uid)),
            namespace: namespace.map(str::to_owned),
            labels: Some(labels.map(|(key, text)| (key.to_owned(), text.to_owned())).into()),
            owner_references: Some(vec![self.owner()]),
            ..ObjectMeta::default()
        };
        Report { namespace: namespace.map(str::to_owned), metadata, body }
    }

    /// The name of all reports of a policy. Other engines have reports in the same namespaces.
    #[must_use]
    pub fn report_name(name: &str, uid: &str) -> String {
        let whole = format!("contactpolicy-{name}");
        if whole.len() > NAME_BYTES_MAX { format!("contactpolicy-{uid}") } else { whole }
    }

    /// The cluster removes the report when the policy is deleted.
    fn owner(&self) -> OwnerReference {
        OwnerReference {
            api_version: ContactPolicy::api_version(&()).into_owned(),
            kind: ContactPolicy::kind(&()).into_owned(),
            name: self.name.to_owned(),
            uid: self.uid.to_owned(),
            ..OwnerReference::default()
        }
    }

    fn reference(&self) -> ObjectReference {
        let OwnerReference { api_version, kind, name, uid, .. } = self.owner();
        ObjectReference {
            api_version: Some(api_version),
            kind: Some(kind),
            name: Some(name),
            uid: Some(uid),
            ..ObjectReference::default()
        }
    }
}

fn summary(results: &[Finding]) -> Summary {
    let mut summary = Summary::default();
    for finding in results {
        let count = match finding.result {
            Outcome::Fail => &mut summary.fail,
            Outcome::Warn => &mut summary.warn,
            Outcome::Error => &mut summary.error,
            Outcome::Pass => &mut summary.pass,
        };
        *count += 1;
    }
    summary
}

/// How to reach reports: those of namespaces, or those for the cluster as a whole.
#[must_use]
pub fn resource(of_namespaces: bool) -> ApiResource {
    let [reports, cluster_reports] = RESOURCES;
    let (kind, plural) =
        if of_namespaces { ("Report", reports) } else { ("ClusterReport", cluster_reports) };
    let (group, version) = GROUP_VERSION.split_once('/').unwrap_or_default();
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AUTHOR: Author<'_> =
        Author { name: "phones", uid: "uid-1", enforcement: Enforcement::Deny };

    fn results(number: usize, result: Outcome) -> Vec<Finding> {
        let one = |index| {
            let name = format!("contact-{index}");
            AUTHOR.of_contact(("team-a", &name), "uid-2", "contact.phoneNumber", result, "m".into())
        };
        (0..number).map(one).collect()
    }

    #[test]
    fn what_is_too_much_for_an_object_is_counted_and_what_fails_comes_first() {
        let mut all = results(RESULTS_MAX, Outcome::Pass);
        all.extend(results(2, Outcome::Error));
        all.extend(results(3, Outcome::Fail));
        let Report { body, .. } = AUTHOR.report(Some("team-a"), all);
        let expected = Summary { pass: RESULTS_MAX, fail: 3, warn: 0, error: 2, skip: 0 };
        assert_eq!((body.summary, body.results.len()), (expected, RESULTS_MAX));
        let shown: Vec<_> = body.results.iter().map(|finding| finding.result).collect();
        assert_eq!(shown[..3], [Outcome::Fail; 3]);
        assert_eq!(shown[3..6], [Outcome::Error, Outcome::Error, Outcome::Pass]);
    }

    #[test]
    fn the_largest_report_fits_into_an_object() {
        let (name, rule) = ("n".repeat(253), "contact.messageTypes.required");
        let author = Author { name: &name, uid: &"u".repeat(36), ..AUTHOR };
        let namespace = "s".repeat(63);
        let one = |_| {
            let contact = (namespace.as_str(), name.as_str());
            author.of_contact(contact, author.uid, rule, Outcome::Fail, "m".repeat(9_999))
        };
        let report = author.report(Some(&namespace), (0..9_999).map(one).collect());
        let bytes = serde_json::to_string(&report.body).unwrap().len();
        assert!(bytes < 1_400_000, "{bytes}");
        assert_eq!(report.metadata.name, Some(format!("contactpolicy-{}", author.uid)));
    }

    #[test]
    fn how_much_a_policy_insists_is_what_becomes_of_a_demand() {
        let of = |enforcement| {
            let author = Author { enforcement, ..AUTHOR };
            let finding = author.of_all("any", author.unmet(), String::new(), BTreeMap::new());
            (finding.result, finding.severity, finding.scored)
        };
        assert_eq!(of(Enforcement::Deny), (Outcome::Fail, "high", true));
        assert_eq!(of(Enforcement::Warn), (Outcome::Warn, "medium", false));
        assert_eq!(of(Enforcement::Audit), (Outcome::Warn, "low", false));
    }
}
