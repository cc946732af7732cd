//! What all contacts of a policy give together, beside what its `coverage` demands.
//!
//! A [`Tally`] is kept up to date contact by contact: one that comes, goes or changes costs the rules
//! of its policies, however many other contacts there are.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::domain::call::AccountPath;
use crate::domain::contact::{MemberId, MessageType, Title};
use crate::domain::policy::CoverageRule;

/// A contact in the cloud, as far as coverage is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Covering {
    /// Its title; `None` for a word that this version does not know.
    pub title: Option<Title>,
    /// What it is told about; words that this version does not know are left out.
    pub message_types: BTreeSet<MessageType>,
    /// What it is bound to.
    pub members: BTreeSet<MemberId>,
    /// A keyed hash of its mailbox: contacts with the same one are the same person.
    pub mailbox: String,
    /// Whether the owner of the mailbox has confirmed it.
    pub verified: bool,
}

/// Where accounts and folders stand: what is bound to a folder, or to the directory, covers
/// everything below it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree(HashMap<MemberId, BTreeSet<MemberId>>);

impl Tree {
    /// From where each account stands.
    #[must_use]
    pub fn of_paths(paths: impl IntoIterator<Item = AccountPath>) -> Self {
        let mut tree: HashMap<MemberId, BTreeSet<MemberId>> = HashMap::new();
        for AccountPath(ids) in paths {
            for (depth, id) in ids.iter().enumerate() {
                tree.entry(id.clone()).or_default().extend(ids.iter().take(depth).cloned());
            }
        }
        Self(tree)
    }

    /// Whether a contact that is bound to these covers that one.
    #[must_use]
    pub fn covers(&self, bound_to: &BTreeSet<MemberId>, member: &MemberId) -> bool {
        bound_to.contains(member)
            || self.0.get(member).is_some_and(|above| !above.is_disjoint(bound_to))
    }
}

/// Which contacts are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Among {
    /// All of them.
    All,
    /// Those whose mailbox was confirmed.
    Verified,
}

impl Among {
    /// In words: `contacts` or `verified contacts`.
    #[must_use]
    pub fn in_words(self) -> &'static str {
        match self {
            Self::All => "contacts",
            Self::Verified => "verified contacts",
        }
    }
}

/// One demand of a rule, and what there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row<'a> {
    /// The name of the rule.
    pub rule: &'a str,
    /// The message type that is demanded of.
    pub message_type: MessageType,
    /// Which contacts are counted.
    pub among: Among,
    /// The member that is covered worst, where the rule names some.
    pub member: Option<&'a MemberId>,
    /// How many are demanded.
    pub required: u32,
    /// How many there are.
    pub actual: u32,
}

impl Row<'_> {
    /// Whether there are enough.
    #[must_use]
    pub fn is_satisfied(&self) -> bool {
        self.actual >= self.required
    }
}

/// How often each mailbox is there, and how many contacts that makes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Heads {
    contacts: u32,
    mailboxes: HashMap<String, u32>,
}

impl Heads {
    fn add(&mut self, mailbox: &str) {
        self.contacts += 1;
        *self.mailboxes.entry(mailbox.to_owned()).or_default() += 1;
    }

    fn take(&mut self, mailbox: &str) {
        self.contacts = self.contacts.saturating_sub(1);
        if let Some(count) = self.mailboxes.get_mut(mailbox) {
            *count -= 1;
            if *count == 0 {
                self.mailboxes.remove(mailbox);
            }
        }
    }

    fn count(&self, distinct: bool) -> u32 {
        if distinct {
            u32::try_from(self.mailboxes.len()).unwrap_or(u32::MAX)
        } else {
            self.contacts
        }
    }
}

/// What a contact counts for: a rule, one of its message types, one of its members if it names some.
type Place = (usize, MessageType, Option<MemberId>);

/// What the contacts of one policy give together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally(BTreeMap<(Place, Among), Heads>);

/// Whether the rules can be judged without knowing where accounts stand.
#[must_use]
pub fn needs_tree(rules: &[CoverageRule]) -> bool {
    rules.iter().any(|rule| !rule.members.is_empty())
}

impl Tally {
    /// Takes a contact in.
    pub fn add(&mut self, rules: &[CoverageRule], tree: &Tree, contact: &Covering) {
        each_place(rules, tree, contact, |place| {
            self.0.entry(place).or_default().add(&contact.mailbox);
        });
    }

    /// Takes a contact out again: as it was when it was taken in, with the same rules and tree.
    pub fn take(&mut self, rules: &[CoverageRule], tree: &Tree, contact: &Covering) {
        each_place(rules, tree, contact, |place| {
            if let Some(heads) = self.0.get_mut(&place) {
                heads.take(&contact.mailbox);
            }
        });
    }

    /// What each rule demands and what there is, in the order of the rules.
    #[must_use]
    pub fn rows<'a>(&self, rules: &'a [CoverageRule]) -> Vec<Row<'a>> {
        let mut rows = Vec::new();
        for (index, rule) in rules.iter().enumerate() {
            for (message_type, (among, required)) in demands(rule) {
                let actual = |member: Option<&MemberId>| {
                    let place = ((index, message_type, member.cloned()), among);
                    self.0.get(&place).map_or(0, |heads| heads.count(rule.distinct_mailboxes))
                };
                let worst = rule.members.iter().map(|member| (actual(Some(member)), Some(member)));
                let (actual, member) =
                    worst.min_by_key(|(actual, _)| *actual).unwrap_or_else(|| (actual(None), None));
                let rule = rule.name.as_str();
                rows.push(Row { rule, message_type, among, member, required, actual });
            }
        }
        rows
    }
}

/// What a rule demands for each of its message types.
fn demands(rule: &CoverageRule) -> impl Iterator<Item = (MessageType, (Among, u32))> + '_ {
    let minima = [(Among::All, rule.min_contacts), (Among::Verified, rule.min_verified)];
    rule.message_types.iter().flat_map(move |message_type| {
        let demanded = minima.into_iter().filter(|(_, required)| *required > 0);
        demanded.map(move |demand| (*message_type, demand))
    })
}

/// Calls with each place that the contact counts for.
fn each_place(
    rules: &[CoverageRule],
    tree: &Tree,
    contact: &Covering,
    mut call: impl FnMut((Place, Among)),
) {
    for (index, rule) in rules.iter().enumerate() {
        let titled = rule.titles.is_empty()
            || contact.title.is_some_and(|title| rule.titles.contains(&title));
        let places: Vec<_> = if rule.members.is_empty() {
            vec![None]
        } else {
            let covered = rule.members.iter().filter(|id| tree.covers(&contact.members, id));
            covered.cloned().map(Some).collect()
        };
        let heard = rule.message_types.intersection(&contact.message_types);
        for message_type in heard.filter(|_| titled) {
            for member in &places {
                let place = (index, *message_type, member.clone());
                if contact.verified {
                    call((place.clone(), Among::Verified));
                }
                call((place, Among::All));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Tree {
        let path = |ids: &[&str]| AccountPath(ids.iter().copied().map(MemberId::from).collect());
        Tree::of_paths([
            path(&["rd-1", "r-1", "fd-a", "fd-b", "1000"]),
            path(&["rd-1", "r-1", "2000"]),
        ])
    }

    fn covering(mailbox: &str, verified: bool, members: &[&str]) -> Covering {
        Covering {
            title: Some(Title::TechnicalDirector),
            message_types: BTreeSet::from([MessageType::SecurityMessage]),
            members: members.iter().copied().map(MemberId::from).collect(),
            mailbox: mailbox.to_owned(),
            verified,
        }
    }

    fn rule(change: impl FnOnce(&mut CoverageRule)) -> CoverageRule {
        let mut rule = CoverageRule {
            name: "security".to_owned(),
            message_types: BTreeSet::from([MessageType::SecurityMessage]),
            titles: BTreeSet::new(),
            members: BTreeSet::new(),
            min_contacts: 2,
            min_verified: 0,
            distinct_mailboxes: false,
        };
        change(&mut rule);
        rule
    }

    /// What is there of each demand, and whether it is enough.
    fn told(rules: &[CoverageRule], contacts: &[Covering]) -> Vec<(Among, u32, bool)> {
        let mut tally = Tally::default();
        for contact in contacts {
            tally.add(rules, &tree(), contact);
        }
        let rows = tally.rows(rules);
        rows.iter().map(|row| (row.among, row.actual, row.is_satisfied())).collect()
    }

    #[test]
    fn contacts_and_verified_ones_are_counted_apart() {
        let rules = [rule(|rule| rule.min_verified = 1)];
        let contacts = [covering("a", false, &[]), covering("b", false, &[])];
        assert_eq!(told(&rules, &contacts), [(Among::All, 2, true), (Among::Verified, 0, false)]);
        let contacts = [covering("a", true, &[])];
        assert_eq!(told(&rules, &contacts), [(Among::All, 1, false), (Among::Verified, 1, true)]);
        assert_eq!(told(&rules, &[]), [(Among::All, 0, false), (Among::Verified, 0, false)]);
    }

    #[test]
    fn one_mailbox_counts_once_where_people_are_meant() {
        let contacts = [covering("a", true, &[]), covering("a", true, &[])];
        assert_eq!(told(&[rule(|_| {})], &contacts), [(Among::All, 2, true)]);
        let distinct = rule(|rule| rule.distinct_mailboxes = true);
        assert_eq!(told(&[distinct], &contacts), [(Among::All, 1, false)]);
    }

    #[test]
    fn only_the_titles_and_types_of_the_rule_count() {
        let contacts = [covering("a", true, &[]), covering("b", true, &[])];
        let titled = rule(|rule| rule.titles = BTreeSet::from([Title::CEO]));
        assert_eq!(told(&[titled], &contacts), [(Among::All, 0, false)]);
        let unknown = Covering { title: None, ..covering("a", true, &[]) };
        let any = rule(|rule| rule.titles = Title::ALL.iter().copied().collect());
        assert_eq!(told(&[any], &[unknown]), [(Among::All, 0, false)]);
        let types = [MessageType::SecurityMessage, MessageType::FaultMessage];
        let both = rule(|rule| rule.message_types = BTreeSet::from(types));
        let told = told(&[both], &contacts);
        assert_eq!(told.iter().map(|(_, actual, _)| *actual).sum::<u32>(), 2);
        assert_eq!(told.len(), 2);
    }

    #[test]
    fn a_folder_and_the_directory_cover_what_is_below_them() {
        let of = |members: &[&str]| {
            rule(|rule| rule.members = members.iter().copied().map(MemberId::from).collect())
        };
        let covers = |bound_to: &str, member: &str| {
            told(&[of(&[member])], &[covering("a", true, &[bound_to])])[0].1 == 1
        };
        for above in ["rd-1", "r-1", "fd-a", "fd-b", "1000"] {
            assert!(covers(above, "1000"), "{above}");
        }
        assert!(covers("rd-1", "2000") && covers("fd-a", "fd-b"));
        for aside in ["fd-b", "1000", "fd-unknown"] {
            assert!(!covers(aside, "2000") && !covers(aside, "fd-a"), "{aside}");
        }
        // An id that no path knows is covered by itself alone: an account that has left, a mistake,
        // or an empty folder, in which nobody hears of anything.
        assert!(covers("3000", "3000") && !covers("rd-1", "3000"));
        assert!(covers("fd-empty", "fd-empty") && !covers("r-1", "fd-empty"));
        // The worst of several members counts, and is named.
        let rules = [of(&["1000", "2000"])];
        let mut tally = Tally::default();
        tally.add(&rules, &tree(), &covering("a", true, &["fd-a"]));
        let rows = tally.rows(&rules);
        assert_eq!((rows[0].actual, rows[0].member), (0, Some(&MemberId::from("2000"))));
    }

    /// Numbers that look random; a generator of 64 bits with the constants of Knuth's MMIX.
    fn next(state: &mut u64) -> u64 {
        *state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *state >> 33
    }

    #[test]
    fn whatever_comes_and_goes_the_tally_is_that_of_what_is_there() {
        let rules = [
            rule(|rule| rule.min_verified = 1),
            rule(|rule| rule.distinct_mailboxes = true),
            rule(|rule| rule.members = ["1000", "2000", "fd-b"].map(MemberId::from).into()),
        ];
        let (tree, mut state) = (tree(), 7);
        let (mut tally, mut there) = (Tally::default(), Vec::new());
        for _ in 0..2000 {
            if next(&mut state).is_multiple_of(2) && !there.is_empty() {
                let index = usize::try_from(next(&mut state)).unwrap() % there.len();
                let contact = there.swap_remove(index);
                tally.take(&rules, &tree, &contact);
            } else {
                let mailbox = (next(&mut state) % 5).to_string();
                let members = [["rd-1"], ["fd-a"], ["2000"], ["fd-z"]];
                let members = members[usize::try_from(next(&mut state)).unwrap() % 4];
                let contact = covering(&mailbox, next(&mut state).is_multiple_of(3), &members);
                tally.add(&rules, &tree, &contact);
                there.push(contact);
            }
            let mut anew = Tally::default();
            for contact in &there {
                anew.add(&rules, &tree, contact);
            }
            assert_eq!(tally.rows(&rules), anew.rows(&rules));
        }
    }
}
