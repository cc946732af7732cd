//! What policies say of one contact: pure, and the same verdict as the apiserver's rules, in the
//! same words. All that match count, and the strictest decides.

use std::collections::BTreeMap;

use super::Plan;
use crate::domain::contact::Mode;
use crate::domain::policy::{
    Candidate, ContactRules, DomainPattern, Enforcement, PhoneRule, Policy, RuleName, Scope,
};
use crate::domain::verdict::{Finding, Reason, Verdict};

/// Where a contact stands, as policies look at it.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The name of its ResourceDirectory.
    pub directory: &'a str,
    /// The labels of its namespace.
    pub namespace_labels: &'a BTreeMap<String, String>,
}

/// What a policy demands and a contact is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The rule.
    pub rule: RuleName,
    /// The rule, and what it would accept. Holds nothing of the contact.
    pub message: String,
}

/// What one policy says of a contact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opinion {
    /// The name of the ContactPolicy.
    pub policy: String,
    /// What happens to a contact that violates it.
    pub enforcement: Enforcement,
    /// What it demands and the contact is not, in the order of [`RuleName::ALL`]; empty: nothing.
    pub violations: Vec<Violation>,
    /// The policy speaks of the mailbox, and that is not known.
    pub waits_for_email: bool,
}

impl Opinion {
    /// Everything that is violated, in the apiserver's words.
    #[must_use]
    pub fn message(&self) -> String {
        format!("ContactPolicy `{}`: {}", self.policy, self.rules())
    }

    fn rules(&self) -> String {
        let rules: Vec<_> = self.violations.iter().map(|found| found.message.as_str()).collect();
        rules.join("; ")
    }
}

/// What one policy finds of a contact, without its texts: few bytes for each of thousands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Judged {
    /// The rules that are violated, in the order of [`RuleName::ALL`]; empty: none.
    pub violated: Vec<RuleName>,
    /// The policy speaks of the mailbox, and that is not known.
    pub waits_for_email: bool,
}

/// What a policy finds of a contact; `None` if it does not judge it: it speaks of others, or the
/// contact writes nothing to the cloud.
#[must_use]
pub fn judged_by(policy: &Policy, candidate: &Candidate, place: Place<'_>) -> Option<Judged> {
    let rules = &policy.contact;
    let judges = candidate.mode == Mode::Enforce && concerns(policy, place);
    judges.then(|| Judged {
        violated: RuleName::ALL
            .into_iter()
            .filter(|rule| violates(*rule, rules, candidate))
            .collect(),
        waits_for_email: candidate.email.is_none() && speaks_of_email(rules),
    })
}

/// What the policies that match say of a contact, in their order. Whoever writes nothing to the
/// cloud is not judged.
#[must_use]
pub fn judge<'a>(
    policies: impl IntoIterator<Item = &'a Policy>,
    candidate: &Candidate,
    place: Place<'_>,
) -> Vec<Opinion> {
    let opinion = |policy: &Policy| {
        let Judged { violated, waits_for_email } = judged_by(policy, candidate, place)?;
        let told = |rule| Violation { rule, message: message(rule, &policy.contact) };
        Some(Opinion {
            policy: policy.name.clone(),
            enforcement: policy.enforcement,
            violations: violated.into_iter().map(told).collect(),
            waits_for_email,
        })
    };
    policies.into_iter().filter_map(opinion).collect()
}

/// The plan, with what policies say of the contact.
#[must_use]
pub fn beside(plan: Plan, opinions: &[Opinion]) -> Plan {
    let verdict = Verdict { policy_compliant: compliance(opinions), ..plan.verdict };
    Plan { verdict, ..plan }
}

/// Whether all that match are met; `None` if none matches.
fn compliance(opinions: &[Opinion]) -> Option<Finding> {
    let waits = |opinion: &Opinion| opinion.waits_for_email;
    if opinions.is_empty() {
        None
    } else if let Some(violated) = violated(opinions, Enforcement::Audit) {
        Some(Finding::unmet(Reason::PolicyViolation, violated))
    } else if opinions.iter().any(waits) {
        let message = "a ContactPolicy speaks of the address, and that is not known: see `Synced`";
        Some(Finding::unknown(Reason::SecretNotFound, message))
    } else {
        Some(Finding::met(Reason::Compliant, "every ContactPolicy that speaks of it is met"))
    }
}

/// Why nothing may be created or updated: a policy under `Deny` is violated.
#[must_use]
pub fn denial(opinions: &[Opinion]) -> Option<Finding> {
    let violated = violated(opinions, Enforcement::Deny)?;
    let message = format!("{violated}; nothing is created or updated in the cloud until then");
    Some(Finding::unmet(Reason::PolicyViolation, message))
}

/// What is violated of policies that are at least so strict, the strictest first; each is named.
fn violated(opinions: &[Opinion], least: Enforcement) -> Option<String> {
    let violated =
        |opinion: &&Opinion| opinion.enforcement >= least && !opinion.violations.is_empty();
    let mut violated: Vec<_> = opinions.iter().filter(violated).collect();
    violated.sort_by_key(|opinion| std::cmp::Reverse(opinion.enforcement));
    let texts = violated.into_iter().map(|opinion| {
        let enforcement = opinion.enforcement.as_str();
        format!("ContactPolicy `{}` ({enforcement}): {}", opinion.policy, opinion.rules())
    });
    let texts: Vec<_> = texts.collect();
    (!texts.is_empty()).then(|| texts.join("; "))
}

/// Whether a policy speaks of contacts in that place.
#[must_use]
pub fn concerns(policy: &Policy, place: Place<'_>) -> bool {
    let Scope { directories, namespaces } = &policy.scope;
    (directories.is_empty() || directories.contains(place.directory))
        && namespaces.matches(place.namespace_labels)
}

/// The rules that demand something, in the order of [`RuleName::ALL`].
#[must_use]
pub fn demanded(rules: &ContactRules) -> Vec<RuleName> {
    RuleName::ALL.into_iter().filter(|rule| demands(*rule, rules)).collect()
}

fn demands(rule: RuleName, rules: &ContactRules) -> bool {
    match rule {
        RuleName::DomainsAllowed => !rules.domains_allowed.is_empty(),
        RuleName::DomainsDenied => !rules.domains_denied.is_empty(),
        RuleName::PhoneRequired => rules.phone == PhoneRule::Required,
        RuleName::PhoneForbidden => rules.phone == PhoneRule::Forbidden,
        RuleName::TitlesAllowed => !rules.titles_allowed.is_empty(),
        RuleName::MessageTypesAllowed => !rules.message_types_allowed.is_empty(),
        RuleName::MessageTypesRequired => !rules.message_types_required.is_empty(),
        RuleName::MembersAllowed => !rules.members_allowed.is_empty(),
    }
}

/// Whether a rule speaks of the mailbox.
#[must_use]
pub fn is_of_email(rule: RuleName) -> bool {
    matches!(rule, RuleName::DomainsAllowed | RuleName::DomainsDenied)
}

/// Whether a contact is not what a rule demands. A rule that demands nothing is never violated.
fn violates(rule: RuleName, rules: &ContactRules, candidate: &Candidate) -> bool {
    let Candidate { email, has_phone, title, message_types, members, mode: _ } = candidate;
    let ContactRules {
        domains_allowed,
        domains_denied,
        phone,
        titles_allowed,
        message_types_allowed,
        message_types_required,
        members_allowed,
    } = rules;
    let is_of = |patterns: &[DomainPattern]| {
        email.as_ref().map(|email| patterns.iter().any(|pattern| pattern.covers(email.domain())))
    };
    match rule {
        RuleName::DomainsAllowed => {
            !domains_allowed.is_empty() && is_of(domains_allowed) == Some(false)
        }
        RuleName::DomainsDenied => is_of(domains_denied) == Some(true),
        RuleName::PhoneRequired => *phone == PhoneRule::Required && !has_phone,
        RuleName::PhoneForbidden => *phone == PhoneRule::Forbidden && *has_phone,
        RuleName::TitlesAllowed => !titles_allowed.is_empty() && !titles_allowed.contains(title),
        RuleName::MessageTypesAllowed => {
            !message_types_allowed.is_empty()
                && !message_types.iter().all(|wanted| message_types_allowed.contains(wanted))
        }
        RuleName::MessageTypesRequired => {
            !message_types_required.iter().all(|required| message_types.contains(required))
        }
        RuleName::MembersAllowed => {
            !members_allowed.is_empty()
                && !members.iter().flatten().all(|wanted| members_allowed.contains(wanted))
        }
    }
}

fn speaks_of_email(rules: &ContactRules) -> bool {
    demanded(rules).into_iter().any(is_of_email)
}

/// The rule, and what it would accept. Holds nothing of any contact.
#[must_use]
pub fn message(rule: RuleName, rules: &ContactRules) -> String {
    let list = match rule {
        RuleName::DomainsAllowed => told(rule, &rules.domains_allowed, DomainPattern::as_str),
        RuleName::DomainsDenied => told(rule, &rules.domains_denied, DomainPattern::as_str),
        RuleName::PhoneRequired | RuleName::PhoneForbidden => String::new(),
        RuleName::TitlesAllowed => told(rule, &rules.titles_allowed, |title| title.as_str()),
        RuleName::MessageTypesAllowed => {
            told(rule, &rules.message_types_allowed, |word| word.as_str())
        }
        RuleName::MessageTypesRequired => {
            told(rule, &rules.message_types_required, |word| word.as_str())
        }
        RuleName::MembersAllowed => told(rule, &rules.members_allowed, |id| id.as_str()),
    };
    format!("{rule}: {}{list}", rule.advice())
}

/// The first entries of a list, and how many more there are, as a part of a sentence.
fn told<T>(rule: RuleName, list: &[T], text: impl Fn(&T) -> &str) -> String {
    let shown: Vec<_> = list.iter().take(rule.told_max()).map(text).collect();
    let more = list.len() - shown.len();
    let rest = if more > 0 { format!(", and {more} more") } else { String::new() };
    format!(" {}{rest}", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::domain::channel::EmailAddress;
    use crate::domain::contact::{MemberId, MessageType, Title};
    use crate::domain::directory::{LabelExpression, LabelOperator, LabelSelector};

    fn policy(contact: ContactRules) -> Policy {
        Policy {
            name: "ours".into(),
            enforcement: Enforcement::Deny,
            scope: Scope::default(),
            contact,
            coverage: Vec::new(),
            unmanaged_max: None,
        }
    }

    fn candidate() -> Candidate {
        Candidate {
            email: Some(EmailAddress::parse("somebody@Mail.Example.COM").unwrap()),
            has_phone: false,
            title: Title::CEO,
            message_types: BTreeSet::from([MessageType::FaultMessage]),
            members: None,
            mode: Mode::Enforce,
        }
    }

    fn judged(policy: &Policy, candidate: &Candidate) -> Vec<Opinion> {
        let place = Place { directory: "default", namespace_labels: &BTreeMap::new() };
        judge([policy], candidate, place)
    }

    /// Asserts what a policy with these rules says of a contact; empty: nothing is violated.
    #[track_caller]
    fn check(rules: ContactRules, candidate: &Candidate, expected: &str) {
        let opinions = judged(&policy(rules), candidate);
        assert_eq!(opinions.len(), 1, "every policy that matches is told");
        let said = if opinions[0].violations.is_empty() { "" } else { &opinions[0].message() };
        let whole = format!("ContactPolicy `ours`: {expected}");
        assert_eq!(said, if expected.is_empty() { "" } else { &whole });
    }

    fn domains(patterns: &[&str]) -> Vec<DomainPattern> {
        patterns.iter().map(|pattern| DomainPattern::parse(pattern).unwrap()).collect()
    }

    #[test]
    fn a_domain_is_itself_and_a_star_is_everything_below() {
        let covers =
            |pattern: &str, domain: &str| DomainPattern::parse(pattern).unwrap().covers(domain);
        for (pattern, domain, expected) in [
            ("example.com", "example.com", true),
            ("example.com", "EXAMPLE.Com", true),
            ("Example.COM", "example.com", true),
            ("example.com", "mail.example.com", false),
            ("example.com", "badexample.com", false),
            ("example.com", "example.com.cn", false),
            ("*.example.com", "mail.example.com", true),
            ("*.Example.com", "a.b.c.EXAMPLE.com", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", "badexample.com", false),
            ("*.example.com", "mail.example.com.cn", false),
            ("*.cn", "example.cn", true),
            ("*.xn--fiqs8s", "example.xn--fiqs8s", true),
        ] {
            assert_eq!(covers(pattern, domain), expected, "{pattern} {domain}");
        }
        for bad in
            ["", "com", "*", "*.", "*example.com", "a.*.com", "a..b", ".a.b", "a.b.", "例子.中国"]
        {
            assert_eq!(DomainPattern::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_rules_that_demand_something_are_told_as_demanded() {
        let none = ContactRules::default;
        assert_eq!(demanded(&none()), []);
        let rules = ContactRules {
            domains_allowed: domains(&["example.com"]),
            domains_denied: domains(&["example.org"]),
            titles_allowed: vec![Title::CEO],
            message_types_allowed: vec![MessageType::FaultMessage],
            message_types_required: vec![MessageType::FaultMessage],
            members_allowed: vec![MemberId::from("fd-1")],
            phone: PhoneRule::Required,
        };
        let but = |rule| RuleName::ALL.into_iter().filter(|it| *it != rule).collect::<Vec<_>>();
        assert_eq!(demanded(&rules), but(RuleName::PhoneForbidden));
        let forbidden = ContactRules { phone: PhoneRule::Forbidden, ..rules };
        assert_eq!(demanded(&forbidden), but(RuleName::PhoneRequired));
        let none_demands = |rule: RuleName| !violates(rule, &none(), &candidate());
        assert!(RuleName::ALL.into_iter().all(none_demands));
    }

    #[test]
    fn each_rule_is_told_with_what_it_would_accept_and_nothing_of_the_contact() {
        let none = ContactRules::default;
        let known = candidate();
        check(none(), &known, "");
        check(
            ContactRules { domains_allowed: domains(&["example.com", "*.example.org"]), ..none() },
            &known,
            "contact.emailDomains.allowed: write an address of one of these domains: \
             example.com, *.example.org",
        );
        check(
            ContactRules { domains_denied: domains(&["*.example.com"]), ..none() },
            &known,
            "contact.emailDomains.denied: write an address of none of these domains: \
             *.example.com",
        );
        check(
            ContactRules { phone: PhoneRule::Required, ..none() },
            &known,
            "contact.phoneNumber: write phoneNumber or phoneNumberFrom",
        );
        let phoned = Candidate { has_phone: true, ..candidate() };
        check(ContactRules { phone: PhoneRule::Required, ..none() }, &phoned, "");
        check(
            ContactRules { phone: PhoneRule::Forbidden, ..none() },
            &phoned,
            "contact.phoneNumber: leave phoneNumber and phoneNumberFrom out",
        );
        let rules = ContactRules {
            titles_allowed: vec![Title::Other],
            message_types_allowed: vec![MessageType::SecurityMessage],
            message_types_required: vec![MessageType::SecurityMessage],
            ..none()
        };
        check(
            rules,
            &known,
            "contact.titles.allowed: write one of these titles: Other; \
             contact.messageTypes.allowed: write only these message types: SecurityMessage; \
             contact.messageTypes.required: write all of these message types: SecurityMessage",
        );
    }

    #[test]
    fn members_that_are_not_asked_for_violate_nothing() {
        let ids: Vec<_> = (0..12).map(|n| MemberId(format!("fd-{n}"))).collect();
        let rules = ContactRules { members_allowed: ids, ..ContactRules::default() };
        let bound_to = |ids: &[&str]| {
            let ids = ids.iter().map(|id| MemberId::from(*id)).collect();
            Candidate { members: Some(ids), ..candidate() }
        };
        check(rules.clone(), &candidate(), "");
        check(rules.clone(), &bound_to(&[]), "");
        check(rules.clone(), &bound_to(&["fd-1", "fd-11"]), "");
        check(
            rules,
            &bound_to(&["fd-1", "fd-12"]),
            "contact.members.allowed: write only these members: fd-0, fd-1, fd-2, fd-3, fd-4, \
             fd-5, fd-6, fd-7, fd-8, fd-9, and 2 more",
        );
    }

    #[test]
    fn an_address_that_is_not_known_violates_nothing_and_is_waited_for() {
        let unknown = Candidate { email: None, ..candidate() };
        for (rules, waits) in [
            (ContactRules { domains_allowed: domains(&["a.cn"]), ..Default::default() }, true),
            (ContactRules { domains_denied: domains(&["a.cn"]), ..Default::default() }, true),
            (ContactRules { titles_allowed: vec![Title::CEO], ..Default::default() }, false),
        ] {
            let opinions = judged(&policy(rules.clone()), &unknown);
            assert_eq!((opinions[0].violations.len(), opinions[0].waits_for_email), (0, waits));
            let opinions = judged(&policy(rules), &candidate());
            assert!(!opinions[0].waits_for_email);
        }
    }

    #[test]
    fn only_policies_that_match_are_asked_and_all_of_them() {
        let scoped = |directories: &[&str], operator: Option<LabelOperator>| {
            let expression =
                operator.map(|operator| LabelExpression { key: "tier".into(), operator });
            let namespaces = LabelSelector {
                match_expressions: expression.into_iter().collect(),
                ..LabelSelector::default()
            };
            let directories = directories.iter().map(|name| (*name).to_owned()).collect();
            let rules = ContactRules { phone: PhoneRule::Required, ..ContactRules::default() };
            Policy { scope: Scope { directories, namespaces }, ..policy(rules) }
        };
        let labels = BTreeMap::from([("tier".to_owned(), "one".to_owned())]);
        let place = Place { directory: "main", namespace_labels: &labels };
        for (policy, expected) in [
            (scoped(&[], None), true),
            (scoped(&["other", "main"], None), true),
            (scoped(&["other"], None), false),
            (scoped(&["main"], Some(LabelOperator::Exists)), true),
            (scoped(&["main"], Some(LabelOperator::DoesNotExist)), false),
            (scoped(&["other"], Some(LabelOperator::Exists)), false),
        ] {
            assert_eq!(judge([&policy], &candidate(), place).len(), usize::from(expected));
        }
        let two = [scoped(&[], None), scoped(&["main"], None), scoped(&["other"], None)];
        assert_eq!(judge(&two, &candidate(), place).len(), 2);
        // Who writes nothing is judged by nobody.
        let reporting = Candidate { mode: Mode::ReportOnly, ..candidate() };
        assert_eq!(judge(&two, &reporting, place), []);
    }

    #[test]
    fn all_that_match_count_and_the_strictest_decides() {
        let named = |name: &str, enforcement, phone| Policy {
            name: name.into(),
            enforcement,
            ..policy(ContactRules { phone, ..ContactRules::default() })
        };
        let said = |policies: &[Policy]| {
            let place = Place { directory: "default", namespace_labels: &BTreeMap::new() };
            let opinions = judge(policies, &candidate(), place);
            let text = |finding: Finding| format!("{}: {}", finding.reason, finding.message);
            let compliance = compliance(&opinions).map(text);
            (compliance.unwrap_or_default(), denial(&opinions).map(text).unwrap_or_default())
        };
        let (required, optional) = (PhoneRule::Required, PhoneRule::Optional);
        let met = "Compliant: every ContactPolicy that speaks of it is met";
        assert_eq!(said(&[]), (String::new(), String::new()));
        let strict = named("strict", Enforcement::Deny, optional);
        assert_eq!(said(std::slice::from_ref(&strict)), (met.into(), String::new()));

        let write = "contact.phoneNumber: write phoneNumber or phoneNumberFrom";
        let [noted, warned, denied] = Enforcement::ALL
            .map(|enforcement| named(&enforcement.as_str().to_lowercase(), enforcement, required));
        let (compliance, denial) = said(&[noted.clone(), strict.clone(), warned.clone()]);
        let expected = format!(
            "PolicyViolation: ContactPolicy `warn` (Warn): {write}; \
             ContactPolicy `audit` (Audit): {write}"
        );
        assert_eq!((compliance, denial), (expected, String::new()));
        let (compliance, denial) = said(&[noted, strict, denied, warned]);
        assert!(compliance.starts_with("PolicyViolation: ContactPolicy `deny` (Deny): "));
        assert!(compliance.contains("`warn`") && compliance.contains("`audit`"), "{compliance}");
        let expected = format!(
            "PolicyViolation: ContactPolicy `deny` (Deny): {write}; nothing is created or updated \
             in the cloud until then"
        );
        assert_eq!(denial, expected);
    }

    #[test]
    fn an_unknown_address_is_no_violation_and_not_compliant_either() {
        let unknown = Candidate { email: None, ..candidate() };
        let rules = |phone| ContactRules {
            domains_denied: domains(&["a.cn"]),
            phone,
            ..ContactRules::default()
        };
        let reason = |policy: &Policy| compliance(&judged(policy, &unknown)).unwrap().reason;
        assert_eq!(reason(&policy(rules(PhoneRule::Optional))), Reason::SecretNotFound);
        assert_eq!(reason(&policy(rules(PhoneRule::Required))), Reason::PolicyViolation);
        assert_eq!(denial(&judged(&policy(rules(PhoneRule::Optional)), &unknown)), None);
    }

    #[test]
    fn the_longest_text_fits_into_what_the_apiserver_tells() {
        let long = |pattern: &str| {
            let text = format!("{}.{pattern}", "x".repeat(DomainPattern::CHARS_MAX - 7));
            DomainPattern::parse(&text).unwrap()
        };
        let rules = ContactRules {
            domains_allowed: (10..74).map(|n| long(&format!("com{n}")[1..])).collect(),
            domains_denied: (10..74).map(|n| long(&format!("com{n}")[1..])).collect(),
            phone: PhoneRule::Required,
            titles_allowed: Title::ALL.to_vec(),
            message_types_allowed: MessageType::ALL.to_vec(),
            message_types_required: MessageType::ALL.to_vec(),
            members_allowed: (100..600).map(|n| MemberId(format!("{n}{n:061}"))).collect(),
        };
        let told = RuleName::ALL.map(|rule| message(rule, &rules).len() + "; ".len());
        // An object's name has 253 characters at most, an answer of the apiserver 5 KiB.
        let longest = "ContactPolicy ``: ".len() + 253 + told.iter().sum::<usize>();
        assert!((3_500..=5 * 1024).contains(&longest), "{longest}");
    }
}
