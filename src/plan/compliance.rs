//! What a policy comes to: whether it could be evaluated, and whether all that it demands holds.

use super::coverage::Row;
use crate::domain::policy::Policy;
use crate::domain::verdict::{Finding, Reason};

/// Rules of `coverage` that a message names; the rest is counted.
const SHORTAGES_SHOWN: usize = 3;

/// Everything that was found for a policy.
#[derive(Debug, Clone)]
pub struct Found<'a> {
    /// How many contacts are in its directories and namespaces.
    pub looked_at: usize,
    /// How many of them are judged.
    pub matched: usize,
    /// How many of these are not as `contact` demands.
    pub violating: usize,
    /// How many of these have an address that is not known, and that matters.
    pub unknown: usize,
    /// What its rules of `coverage` demand, and what there is.
    pub rows: &'a [Row<'a>],
    /// Why it is not known where accounts stand, if that matters and is not.
    pub no_tree: Option<Finding>,
    /// How many contacts of each of its directories no object holds; `None`: that is not known.
    /// Empty if the policy does not ask.
    pub unmanaged: &'a [(String, Option<i64>)],
}

/// What is said about a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evaluation {
    /// Whether it could be evaluated.
    pub ready: Finding,
    /// Whether all that it demands holds.
    pub compliant: Finding,
}

/// What a policy comes to.
#[must_use]
pub fn evaluate(policy: &Policy, found: &Found<'_>) -> Evaluation {
    let Found { looked_at, matched, unknown, unmanaged, .. } = found;
    let missing = found.no_tree.clone().or_else(|| not_listed(unmanaged));
    let failings: Vec<_> = [
        violations(found),
        shortages(found.rows).filter(|_| missing.is_none()),
        too_many(policy, unmanaged),
    ]
    .into_iter()
    .flatten()
    .collect();
    let demands_nothing_else = policy.coverage.is_empty() && unmanaged.is_empty();
    let compliant = match (failings.first(), &missing) {
        (Some((reason, _)), _) => {
            let texts: Vec<_> = failings.iter().map(|(_, text)| text.as_str()).collect();
            Finding::unmet(*reason, texts.join("; "))
        }
        (None, Some(missing)) => Finding::unknown(missing.reason, &*missing.message),
        (None, None) if *unknown > 0 => Finding::unknown(
            Reason::SecretNotFound,
            format!("the addresses of {unknown} contacts stand in Secrets and are not known"),
        ),
        (None, None) if *matched == 0 && demands_nothing_else => Finding::unknown(
            Reason::NothingMatches,
            "no MessageContact is in the directories and namespaces of `match`: nothing is demanded \
             of anybody",
        ),
        (None, None) => Finding::met(Reason::Compliant, "everything that the policy demands holds"),
    };
    let evaluated =
        || Finding::met(Reason::Evaluated, format!("evaluated on {looked_at} contacts"));
    Evaluation { ready: missing.unwrap_or_else(evaluated), compliant }
}

/// Why something is not as demanded, and in words.
type Failing = (Reason, String);

fn violations(found: &Found<'_>) -> Option<Failing> {
    let Found { matched, violating, .. } = found;
    let text = format!("{violating} of {matched} contacts are not as `contact` demands");
    (*violating > 0).then_some((Reason::PolicyViolation, text))
}

fn shortages(rows: &[Row<'_>]) -> Option<Failing> {
    let short: Vec<_> = rows.iter().filter(|row| !row.is_satisfied()).collect();
    let shown = short.iter().take(SHORTAGES_SHOWN).map(|row| in_words(row));
    let mut text = shown.collect::<Vec<_>>().join("; ");
    if let more @ 1.. = short.len().saturating_sub(SHORTAGES_SHOWN) {
        text = format!("{text}; and {more} more");
    }
    (!short.is_empty()).then_some((Reason::CoverageMissing, text))
}

/// What a rule of `coverage` demands, and what there is.
#[must_use]
pub fn in_words(row: &Row<'_>) -> String {
    let Row { rule, message_type, among, member, required, actual } = row;
    let counted = among.in_words();
    let member = member.map_or(String::new(), |member| format!(" in {member}"));
    let type_ = message_type.as_str();
    format!("`{rule}`: {actual} of {required} {counted} hear of {type_}{member}")
}

fn too_many(policy: &Policy, unmanaged: &[(String, Option<i64>)]) -> Option<Failing> {
    let max = policy.unmanaged_max?;
    let known = unmanaged.iter().filter_map(|(name, count)| Some((name, (*count)?)));
    let texts = known.filter(|(_, count)| *count > i64::from(max));
    let texts: Vec<_> =
        texts.map(|(name, count)| too_many_in(name, count, i64::from(max))).collect();
    (!texts.is_empty()).then(|| (Reason::TooManyUnmanaged, texts.join("; ")))
}

/// That a ResourceDirectory has more contacts that no object holds than are allowed.
#[must_use]
pub fn too_many_in(directory: &str, count: i64, max: i64) -> String {
    format!(
        "`{directory}` has {count} contacts that no MessageContact holds, and at most {max} are \
         allowed"
    )
}

fn not_listed(unmanaged: &[(String, Option<i64>)]) -> Option<Finding> {
    let (name, _) = unmanaged.iter().find(|(_, count)| count.is_none())?;
    Some(Finding::unmet(Reason::DirectoryNotReady, not_known(name)))
}

/// That nothing is known of the contacts of a ResourceDirectory.
#[must_use]
pub fn not_known(directory: &str) -> String {
    format!("what is in the ResourceDirectory `{directory}` is not known; see its conditions")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::contact::{MemberId, MessageType};
    use crate::domain::policy::{ContactRules, CoverageRule, Enforcement, Scope};
    use crate::domain::verdict::Status;
    use crate::plan::coverage::Among;

    fn policy(coverage: usize, unmanaged_max: Option<u32>) -> Policy {
        let rule = CoverageRule {
            name: "any".to_owned(),
            message_types: [MessageType::SecurityMessage].into(),
            titles: [].into(),
            members: [].into(),
            min_contacts: 1,
            min_verified: 0,
            distinct_mailboxes: false,
        };
        Policy {
            name: "policy".to_owned(),
            enforcement: Enforcement::Audit,
            scope: Scope::default(),
            contact: ContactRules::default(),
            coverage: vec![rule; coverage],
            unmanaged_max,
        }
    }

    fn nothing() -> Found<'static> {
        Found {
            looked_at: 0,
            matched: 0,
            violating: 0,
            unknown: 0,
            rows: &[],
            no_tree: None,
            unmanaged: &[],
        }
    }

    fn row(rule: &str, actual: u32) -> Row<'_> {
        let message_type = MessageType::SecurityMessage;
        Row { rule, message_type, among: Among::Verified, member: None, required: 2, actual }
    }

    /// Whether and why it is ready, whether and why it is compliant, and in words.
    fn said(policy: &Policy, found: &Found<'_>) -> (Reason, Status, Reason, String) {
        let Evaluation { ready, compliant } = evaluate(policy, found);
        assert_eq!(ready.status == Status::True, ready.reason == Reason::Evaluated);
        (ready.reason, compliant.status, compliant.reason, compliant.message)
    }

    #[test]
    fn what_judges_nobody_and_nothing_is_not_called_compliant() {
        let said = |policy: &Policy, found: &Found<'_>| {
            let (_, status, reason, _) = said(policy, found);
            (status, reason)
        };
        let nobody = (Status::Unknown, Reason::NothingMatches);
        let met = (Status::True, Reason::Compliant);
        assert_eq!(said(&policy(0, None), &nothing()), nobody);
        // Those who only report are there, and are not judged.
        assert_eq!(said(&policy(0, None), &Found { looked_at: 3, ..nothing() }), nobody);
        assert_eq!(said(&policy(0, Some(0)), &nothing()), nobody, "without any directory");
        assert_eq!(said(&policy(0, None), &Found { matched: 1, ..nothing() }), met);
        let empty = [("main".to_owned(), Some(0))];
        assert_eq!(said(&policy(0, Some(0)), &Found { unmanaged: &empty, ..nothing() }), met);
        assert_eq!(said(&policy(1, None), &Found { rows: &[row("any", 2)], ..nothing() }), met);
        let unknown = Found { matched: 2, unknown: 1, ..nothing() };
        assert_eq!(said(&policy(0, None), &unknown), (Status::Unknown, Reason::SecretNotFound));
    }

    #[test]
    fn everything_that_fails_is_told_the_worst_first() {
        let member = MemberId::from("1000");
        let in_member = Row { member: Some(&member), ..row("b", 1) };
        let rows = [row("a", 0), row("met", 2), in_member, row("c", 0), row("d", 0), row("e", 0)];
        let unmanaged = [("main".to_owned(), Some(3)), ("other".to_owned(), Some(2))];
        let found = Found {
            looked_at: 4,
            matched: 4,
            violating: 1,
            unknown: 1,
            rows: &rows,
            no_tree: None,
            unmanaged: &unmanaged,
        };
        let (ready, status, reason, message) = said(&policy(1, Some(2)), &found);
        let expected = (Reason::Evaluated, Status::False, Reason::PolicyViolation);
        assert_eq!((ready, status, reason), expected);
        assert_eq!(
            message,
            "1 of 4 contacts are not as `contact` demands; \
             `a`: 0 of 2 verified contacts hear of SecurityMessage; \
             `b`: 1 of 2 verified contacts hear of SecurityMessage in 1000; \
             `c`: 0 of 2 verified contacts hear of SecurityMessage; and 2 more; \
             `main` has 3 contacts that no MessageContact holds, and at most 2 are allowed"
        );
    }

    #[test]
    fn what_cannot_be_told_is_neither_met_nor_missing_and_what_can_is_told() {
        let no_tree = Some(Finding::unmet(Reason::Forbidden, "grant it"));
        let short = [row("a", 0)];
        let found = Found { matched: 1, rows: &short, no_tree, ..nothing() };
        let forbidden = (Reason::Forbidden, Status::Unknown, Reason::Forbidden, "grant it".into());
        assert_eq!(said(&policy(1, None), &found), forbidden);
        let (ready, status, reason, _) = said(&policy(1, None), &Found { violating: 1, ..found });
        let expected = (Reason::Forbidden, Status::False, Reason::PolicyViolation);
        assert_eq!((ready, status, reason), expected);
        let silent = [("main".to_owned(), Some(9)), ("other".to_owned(), None)];
        let found = Found { unmanaged: &silent, ..nothing() };
        let (ready, status, reason, _) = said(&policy(0, Some(0)), &found);
        let expected = (Reason::DirectoryNotReady, Status::False, Reason::TooManyUnmanaged);
        assert_eq!((ready, status, reason), expected);
    }
}
