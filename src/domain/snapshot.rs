//! What is known of one resource directory: the answers of its calls, put together.
//!
//! ```text
//!              list, get                    write sent
//!   (unknown) ----------->  read  ------------------------->  unread
//!       ^                    ^  ^                               |
//!       |   list lacks it    |  +--------------- get ----------+
//!   unlisted <---------------+                                  |
//!       |                      get: not found                   |
//!       +------------------------> gone <-----------------------+
//! ```
//! Nothing is decided from an unread contact, and nothing is decided gone from a list alone.
//! A list may show what was true a moment ago (A23), so it does not end the doubt after a write.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::call::{
    Call, CallError, DeletionState, DirectoryIdentity, FailureClass, Page, Reply, Target,
};
use super::contact::{ContactId, ContactName, ContactStatus, MemberId, ObservedContact};

/// What is known of one resource directory.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    identity: Option<DirectoryIdentity>,
    entries: BTreeMap<ContactId, Entry>,
    ids_by_folded_name: HashMap<String, BTreeSet<ContactId>>,
    gone: BTreeMap<ContactId, Absence>,
    /// Contacts that an Add made and that no Get has shown since. One that lacks it may be late (A23),
    /// and to believe it would lose the contact: its id is known to nobody else.
    added: BTreeMap<ContactId, Added>,
    /// Which waiting values were taken back, and when: a list may still show them (A23).
    dropped: BTreeMap<ContactId, Pending>,
    lists: Lists,
    pass: Option<ListPass>,
    /// The last list ended before it was complete.
    list_broken: bool,
}

/// What is known of one contact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The contact as last shown, or as sent if it was never shown.
    pub contact: Arc<ObservedContact>,
    /// A change was sent since: it must be read before anything is decided. A contact that was
    /// just added counts as read: the API's answer says that it has what was sent, and the next
    /// list looks. A read after each of a thousand creates would double their time.
    pub unread: bool,
    /// When a Get last showed it, or an Add made it; `None` if only lists showed it so far. A late
    /// list (A23) may still show a contact that is gone.
    pub read_at: Option<Timestamp>,
    /// The values that wait for confirmation, if they were asked for since the last write.
    pub pending: Option<Pending>,
    /// The last answer about its deletion.
    pub deletion: Option<Deletion>,
}

/// What is known of a contact that a Get did not find.
#[derive(Debug, Clone, Copy)]
struct Absence {
    /// When the Get was answered.
    at: Timestamp,
    /// Whether something else says so as well; see [`Sight::Gone`].
    confirmed: bool,
}

/// A contact that an Add has made.
#[derive(Debug, Clone, Copy)]
struct Added {
    at: Timestamp,
    /// A list has shown it since: a later one that lacks it says something.
    listed: bool,
}

/// The values of a contact that wait for their owners.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// The values.
    pub targets: Vec<Target>,
    /// When they were asked for.
    pub at: Timestamp,
}

/// The last answer about the deletion of a contact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deletion {
    /// What it said.
    pub state: DeletionState,
    /// When it came.
    pub at: Timestamp,
}

/// When the last two complete lists began. A list that began after a moment has seen everything
/// that was done before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lists {
    /// The last one.
    pub last: Option<Timestamp>,
    /// The one before it.
    pub before: Option<Timestamp>,
}

/// A list of all pages under way.
#[derive(Debug, Clone)]
struct ListPass {
    begun_at: Timestamp,
    next_page: u32,
    /// Contacts that its pages showed.
    found: BTreeSet<ContactId>,
    /// Contacts that something was learnt of since it began: that its pages lack them says nothing.
    touched: BTreeSet<ContactId>,
    /// How many contacts there are, as the last page said.
    total: u32,
    /// The directory shrank meanwhile. Later contacts moved to pages that were read before, so that
    /// a contact the pages lack may well be there.
    shrank: bool,
}

/// How the cloud has just shown a contact.
#[derive(Debug, Clone, Copy)]
enum Shown {
    /// In the answer to a call for it alone.
    Alone {
        /// When the answer came.
        at: Timestamp,
    },
    /// In a list.
    Listed {
        /// When the list began.
        begun_at: Timestamp,
    },
}

/// How long a list may show what was true before a Get or an Add. A difference that a list shows
/// sooner is read before it is believed, or the last write would be made again.
///
/// Unverified (A23): whether lists are late at all.
const LISTS_SETTLE_AFTER: SignedDuration = SignedDuration::from_secs(60);

/// Whether an answer may still show what was true before that.
fn is_unsettled(at: Timestamp, now: Timestamp) -> bool {
    now.duration_since(at) < LISTS_SETTLE_AFTER
}

/// Whose knowledge changed, for waking the objects that depend on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changed {
    /// Contacts that changed, came or went.
    pub ids: BTreeSet<ContactId>,
    /// Folded names that were taken or set free.
    pub names: BTreeSet<String>,
    /// Something that concerns every contact of the directory.
    pub everything: bool,
    /// Whether the directory can be reached, or how fast: concerns the directory alone.
    pub health: bool,
}

impl Changed {
    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty() && self.names.is_empty() && !self.everything && !self.health
    }
}

/// What one object can see of a contact id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sight {
    /// The directory knows the contact.
    Known(Entry),
    /// The last list lacks it; only a Get can tell that it is gone.
    Unlisted,
    /// A Get said that it does not exist.
    Gone {
        /// Whether there is a second witness: a complete list lacks it too, or the cloud had said
        /// of its deletion that it is done.
        confirmed: bool,
    },
}

impl Snapshot {
    /// Most pages of one list; a longer one is a fault of the other side.
    const PAGES_MAX: u32 = 1000;

    /// The directory, once it was asked for.
    #[must_use]
    pub fn identity(&self) -> Option<&DirectoryIdentity> {
        self.identity.as_ref()
    }

    /// When the last complete lists began.
    #[must_use]
    pub fn lists(&self) -> Lists {
        self.lists
    }

    /// What is known of the contact of that id.
    #[must_use]
    pub fn sight(&self, id: &ContactId) -> Sight {
        match (self.entries.get(id), self.gone.get(id)) {
            (Some(entry), _) => Sight::Known(entry.clone()),
            (None, Some(absence)) => Sight::Gone { confirmed: absence.confirmed },
            (None, None) => Sight::Unlisted,
        }
    }

    /// Contacts whose name is this one, letter case aside.
    pub fn namesakes(&self, name: &ContactName) -> impl Iterator<Item = &Entry> {
        let ids = self.ids_by_folded_name.get(&name.folded());
        ids.into_iter().flatten().filter_map(|id| self.entries.get(id))
    }

    /// All contacts.
    #[must_use]
    pub fn contacts(&self) -> impl ExactSizeIterator<Item = &ObservedContact> {
        self.entries.values().map(|entry| entry.contact.as_ref())
    }

    /// Begins to list all pages; the first page is number 1. A pass under way is dropped.
    pub fn begin_list(&mut self, now: Timestamp) {
        self.added.retain(|_, added| is_unsettled(added.at, now));
        self.pass = Some(ListPass {
            begun_at: now,
            next_page: 1,
            found: BTreeSet::new(),
            touched: BTreeSet::new(),
            total: 0,
            shrank: false,
        });
    }

    /// The page to ask for next; `None` when no list is under way.
    #[must_use]
    pub fn next_page(&self) -> Option<u32> {
        self.pass.as_ref().map(|pass| pass.next_page)
    }

    /// Whether the list that ended last was complete. One that was not has shown some contacts, but
    /// says nothing of those it lacks, and is not among [`Self::lists`].
    #[must_use]
    pub fn last_list_was_complete(&self) -> bool {
        !self.list_broken
    }

    /// Gives up the list under way, for instance after a failure. What was known stays.
    pub fn abandon_list(&mut self) {
        self.pass = None;
    }

    /// Forgets which values wait for confirmation where some did, so that they are asked for again:
    /// a value that was confirmed need not change anything that a list shows (A12, A13). The caller
    /// does it once a poll, after the list.
    pub fn doubt_pending(&mut self) -> Changed {
        let mut changed = Changed::default();
        for (id, entry) in &mut self.entries {
            if entry.pending.take_if(|pending| !pending.targets.is_empty()).is_some() {
                changed.ids.insert(id.clone());
            }
        }
        changed
    }

    /// A deletion of the contact that failed may be tried again at once. That it failed stays
    /// known: the contact may still say that it is being deleted (A31).
    pub fn retry_failed_deletion(&mut self, id: &ContactId) {
        if let Some(deletion) = self.entries.get_mut(id).and_then(|entry| entry.deletion.as_mut())
            && matches!(deletion.state, DeletionState::Failed(_))
        {
            deletion.at = Timestamp::MIN;
        }
    }

    /// Takes in how a call ended. `now` is when the answer came; calls MUST NOT overlap, so that
    /// every answer is newer than all before it. Another directory than the one known before makes
    /// everything forgotten.
    pub fn record(
        &mut self,
        call: &Call,
        result: &Result<Reply, CallError>,
        now: Timestamp,
    ) -> Changed {
        if let Call::DeleteMessageContact { id, .. } = call {
            // That it is not there any more is no surprise from here on.
            self.added.remove(id);
        }
        self.taken_in(call, result, now)
    }

    fn taken_in(
        &mut self,
        call: &Call,
        result: &Result<Reply, CallError>,
        now: Timestamp,
    ) -> Changed {
        let mut changed = Changed::default();
        match (call, result) {
            (Call::GetResourceDirectory, Ok(Reply::Directory(identity))) => {
                let known = self.identity.as_ref().map(|known| &known.directory_id);
                if known.is_some_and(|known| *known != identity.directory_id) {
                    *self = Self::default();
                }
                changed.everything = self.identity.as_ref() != Some(identity);
                self.identity = Some(identity.clone());
            }
            (Call::ListMessageContacts { page }, Ok(Reply::Contacts(contacts))) => {
                self.record_page(*page, contacts, &mut changed);
            }
            (Call::AddMessageContact(new), Ok(Reply::Added(id))) => {
                let contact = ObservedContact {
                    id: id.clone(),
                    name: new.name.clone(),
                    email: Some(new.email.clone()),
                    phone: new.phone.clone(),
                    title: new.title.as_str().to_owned(),
                    message_types: new.message_types.iter().map(|t| t.as_str().into()).collect(),
                    members: BTreeSet::<MemberId>::new(),
                    status: ContactStatus::Verifying,
                };
                self.insert(contact, Shown::Alone { at: now }, &mut changed);
                self.added.insert(id.clone(), Added { at: now, listed: false });
            }
            (Call::GetMessageContact(id), Ok(Reply::Contact(contact))) if contact.id == *id => {
                self.insert(contact.clone(), Shown::Alone { at: now }, &mut changed);
            }
            (
                Call::GetMessageContact(id),
                Err(CallError { class: FailureClass::ContactNotFound, .. }),
            ) => {
                if self.may_be_late(id, now) {
                    self.mark_unread(id, &mut changed);
                    return changed;
                }
                self.added.remove(id);
                let is_done = |known: &Deletion| known.state == DeletionState::Deleted;
                let confirmed = match (self.entries.get(id), self.gone.get(id)) {
                    (Some(entry), _) => entry.deletion.as_ref().is_some_and(is_done),
                    (None, Some(absence)) => absence.confirmed,
                    (None, None) => self.lists.last.is_some(),
                };
                self.remove(id, &mut changed);
                if self.gone.insert(id.clone(), Absence { at: now, confirmed }).is_none() {
                    changed.ids.insert(id.clone());
                }
            }
            (
                Call::DeleteMessageContact { id, .. } | Call::GetMessageContactDeletionStatus(id),
                Ok(Reply::Deletion(state)),
            ) => {
                if *state != DeletionState::Deleting {
                    self.mark_unread(id, &mut changed);
                }
                self.set_deletion(id, state, now, &mut changed);
            }
            (
                Call::ListMessageContactVerifications { id, page },
                Ok(Reply::Verifications(targets)),
            ) => {
                self.record_pending(id, *page, &targets.items, now);
            }
            // Nothing is being deleted, or nothing is left of it (A6, A31): the Get tells which.
            (
                Call::GetMessageContactDeletionStatus(id),
                Err(CallError {
                    class: FailureClass::ContactNotFound | FailureClass::NotFound,
                    ..
                }),
            ) => {
                self.mark_unread(id, &mut changed);
                self.set_deletion(id, &DeletionState::Unclear, now, &mut changed);
            }
            // A message changes nothing of the contact, but its value may be listed from now on (A30).
            (Call::SendEmailVerificationForMessageContact(id, email), Ok(_)) => {
                self.asked(id, &Target::Email(email.clone()), &mut changed);
            }
            (Call::SendPhoneVerificationForMessageContact(id, phone), Ok(_)) => {
                self.asked(id, &Target::Phone(phone.clone()), &mut changed);
            }
            (call, Ok(_)) if !call.action().is_read() => {
                self.written(call, now, &mut changed);
            }
            (call, Err(error)) => {
                // Bindings may be refused because they are there already (A18).
                let look_again = match error.class {
                    FailureClass::OutcomeUnknown
                    | FailureClass::ContactNotFound
                    | FailureClass::NothingPending
                    | FailureClass::WrongState => true,
                    FailureClass::InvalidInput => call.members().is_some(),
                    _ => false,
                };
                if let (true, Some(id)) = (look_again, call.contact_id()) {
                    self.mark_unread(id, &mut changed);
                }
            }
            (_, Ok(_)) => {}
        }
        changed
    }

    /// Whether a Get that lacks the contact may show how it was before the contact was added. It does
    /// not once a list that had the contact lacks it, too.
    fn may_be_late(&self, id: &ContactId, now: Timestamp) -> bool {
        self.added.get(id).is_some_and(|added| {
            let missed = added.listed && !self.entries.contains_key(id);
            is_unsettled(added.at, now) && !missed
        })
    }

    fn record_pending(&mut self, id: &ContactId, page: u32, targets: &[Target], now: Timestamp) {
        if let Some(entry) = self.entries.get_mut(id) {
            let earlier = entry.pending.take().filter(|_| page > 1);
            let earlier = earlier.map(|pending| pending.targets).unwrap_or_default();
            let mut targets: Vec<_> = earlier.into_iter().chain(targets.iter().cloned()).collect();
            self.dropped.retain(|_, dropped| is_unsettled(dropped.at, now));
            if let Some(dropped) = self.dropped.get(id) {
                targets.retain(|target| !dropped.targets.contains(target));
            }
            entry.pending = Some(Pending { targets, at: now });
        }
    }

    /// A contact was changed: it must be read, and what waits must be asked for if that may differ.
    fn written(&mut self, call: &Call, now: Timestamp, changed: &mut Changed) {
        let Some(id) = call.contact_id() else { return };
        self.note_dropped(id, call, now);
        let waits = self.entries.get_mut(id).and_then(|entry| entry.pending.take());
        self.mark_unread(id, changed);
        if let Some(entry) = self.entries.get_mut(id).filter(|_| !call.sets_channels()) {
            entry.pending = waits;
        }
    }

    /// The owner of a value was asked: a look that lacked it is outdated.
    fn asked(&mut self, id: &ContactId, target: &Target, changed: &mut Changed) {
        if let Some(entry) = self.entries.get_mut(id)
            && entry.pending.take_if(|look| !look.targets.contains(target)).is_some()
        {
            changed.ids.insert(id.clone());
        }
    }

    /// What was taken back waits no longer, until it is written again.
    fn note_dropped(&mut self, id: &ContactId, call: &Call, now: Timestamp) {
        if let Call::CancelMessageContactUpdate { email, phone, .. } = call {
            let email = email.clone().map(Target::Email);
            let targets = email.into_iter().chain(phone.clone().map(Target::Phone)).collect();
            self.dropped.insert(id.clone(), Pending { targets, at: now });
        } else if call.sets_channels() {
            self.dropped.remove(id);
        }
    }

    fn record_page(&mut self, page: u32, contacts: &Page<ObservedContact>, changed: &mut Changed) {
        let Some(mut pass) = self.pass.take_if(|pass| pass.next_page == page) else { return };
        let found_before = pass.found.len();
        pass.found.extend(contacts.items.iter().map(|contact| contact.id.clone()));
        for contact in &contacts.items {
            self.insert(contact.clone(), Shown::Listed { begun_at: pass.begun_at }, changed);
        }
        pass.shrank |= contacts.total < pass.total;
        pass.total = contacts.total;
        pass.next_page += 1;
        // Contacts that are added meanwhile may push others to a later page, so that one is shown
        // twice: only different ones count. A page without a new one ends the list, or a total that
        // is wrong would never let it end.
        let total = usize::try_from(contacts.total).unwrap_or(usize::MAX);
        let all_found = pass.found.len() >= total && total >= contacts.items.len();
        if all_found || pass.found.len() == found_before {
            self.finish_list(pass, changed);
        } else if pass.next_page > Self::PAGES_MAX {
            self.list_broken = true;
        } else {
            self.pass = Some(pass);
        }
    }

    fn finish_list(&mut self, pass: ListPass, changed: &mut Changed) {
        let ListPass { begun_at, next_page: _, found, touched, total: _, shrank } = pass;
        self.list_broken = shrank;
        if shrank {
            return;
        }
        let known = |id: &&ContactId| found.contains(*id) || touched.contains(*id);
        let missing: Vec<ContactId> =
            self.entries.keys().filter(|id| !known(id)).cloned().collect();
        for id in &missing {
            self.remove(id, changed);
        }
        changed.everything |= self.lists.last.is_none();
        self.lists = Lists { last: Some(begun_at), before: self.lists.last };
        if let Some(before) = self.lists.before {
            self.gone.retain(|_, absence| absence.at >= before);
        }
        // It would have come back if a page had shown it.
        for (id, absence) in &mut self.gone {
            if !absence.confirmed && begun_at >= absence.at {
                absence.confirmed = true;
                changed.ids.insert(id.clone());
            }
        }
    }

    /// Takes in a contact that the cloud has just shown.
    fn insert(&mut self, contact: ObservedContact, shown: Shown, changed: &mut Changed) {
        let id = contact.id.clone();
        self.touch(&id);
        self.gone.remove(&id);
        match shown {
            Shown::Alone { .. } => {
                self.added.remove(&id);
            }
            Shown::Listed { .. } => {
                if let Some(added) = self.added.get_mut(&id) {
                    added.listed = true;
                }
            }
        }
        let read_at = match shown {
            Shown::Alone { at } => Some(at),
            Shown::Listed { .. } => None,
        };
        let Some(entry) = self.entries.get_mut(&id) else {
            self.index(&id, &contact.name, changed);
            changed.ids.insert(id.clone());
            let contact = Arc::new(contact);
            let entry = Entry { contact, unread: false, read_at, pending: None, deletion: None };
            self.entries.insert(id, entry);
            return;
        };
        let before = entry.contact.clone();
        let was_read = entry.unread && read_at.is_some();
        entry.unread = match shown {
            Shown::Alone { .. } => false,
            Shown::Listed { begun_at } => {
                let settled = |read_at: Timestamp| {
                    let settles_at = read_at.saturating_add(LISTS_SETTLE_AFTER);
                    settles_at.is_ok_and(|settles_at| begun_at >= settles_at)
                };
                let may_be_late = *before != contact && !entry.read_at.is_none_or(settled);
                entry.unread || may_be_late
            }
        };
        entry.read_at = read_at.or(entry.read_at);
        if !was_read && *before == contact {
            return;
        }
        let confirmed_or_changed = before.status != contact.status
            || before.email != contact.email
            || before.phone != contact.phone;
        if confirmed_or_changed {
            entry.pending = None;
        }
        changed.ids.insert(id.clone());
        entry.contact = Arc::new(contact.clone());
        // Who wants the name may take the contact over now.
        changed.names.insert(contact.name.folded());
        if before.name != contact.name {
            self.unindex(&id, &before.name, changed);
            self.index(&id, &contact.name, changed);
        }
    }

    fn remove(&mut self, id: &ContactId, changed: &mut Changed) {
        self.touch(id);
        let Some(entry) = self.entries.remove(id) else { return };
        self.unindex(id, &entry.contact.name, changed);
        changed.ids.insert(id.clone());
    }

    fn index(&mut self, id: &ContactId, name: &ContactName, changed: &mut Changed) {
        let folded = name.folded();
        changed.names.insert(folded.clone());
        self.ids_by_folded_name.entry(folded).or_default().insert(id.clone());
    }

    fn unindex(&mut self, id: &ContactId, name: &ContactName, changed: &mut Changed) {
        let folded = name.folded();
        if let Some(ids) = self.ids_by_folded_name.get_mut(&folded) {
            ids.remove(id);
            if ids.is_empty() {
                self.ids_by_folded_name.remove(&folded);
            }
        }
        changed.names.insert(folded);
    }

    fn mark_unread(&mut self, id: &ContactId, changed: &mut Changed) {
        self.touch(id);
        if let Some(entry) = self.entries.get_mut(id) {
            entry.unread = true;
            entry.pending = None;
            changed.ids.insert(id.clone());
        }
    }

    fn set_deletion(
        &mut self,
        id: &ContactId,
        state: &DeletionState,
        now: Timestamp,
        changed: &mut Changed,
    ) {
        if let Some(entry) = self.entries.get_mut(id) {
            if entry.deletion.as_ref().is_none_or(|known| known.state != *state) {
                changed.ids.insert(id.clone());
            }
            entry.deletion = Some(Deletion { state: state.clone(), at: now });
        }
    }

    /// A list under way may show this contact as it was before: what is known now is newer.
    fn touch(&mut self, id: &ContactId) {
        if let Some(pass) = &mut self.pass {
            pass.touched.insert(id.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::contact::{AccountId, DirectoryId};
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).expect("a time")
    }

    fn contact(number: u32) -> ObservedContact {
        ObservedContact {
            id: ContactId(format!("c-{number}")),
            name: ContactName::observed(format!("name-{number}")),
            email: None,
            phone: None,
            title: "CEO".to_owned(),
            message_types: BTreeSet::new(),
            members: BTreeSet::new(),
            status: ContactStatus::Active,
        }
    }

    fn page(
        snapshot: &mut Snapshot,
        page: u32,
        numbers: impl IntoIterator<Item = u32>,
        total: u32,
    ) -> Changed {
        let items = numbers.into_iter().map(contact).collect();
        let reply = Ok(Reply::Contacts(Page { items, total }));
        snapshot.record(&Call::ListMessageContacts { page }, &reply, at(0))
    }

    fn listed(numbers: impl IntoIterator<Item = u32> + Clone) -> Snapshot {
        let mut snapshot = Snapshot::default();
        let total = u32::try_from(numbers.clone().into_iter().count()).expect("few");
        snapshot.begin_list(at(0));
        page(&mut snapshot, 1, numbers, total);
        assert_eq!(snapshot.lists().last, Some(at(0)));
        snapshot
    }

    fn verifications(snapshot: &mut Snapshot, targets: Vec<Target>) {
        let call = Call::ListMessageContactVerifications { id: contact(1).id, page: 1 };
        let total = u32::try_from(targets.len()).expect("few");
        let reply = Ok(Reply::Verifications(Page { items: targets, total }));
        snapshot.record(&call, &reply, at(0));
    }

    fn pending(snapshot: &Snapshot) -> Option<Vec<Target>> {
        match snapshot.sight(&contact(1).id) {
            Sight::Known(entry) => entry.pending.map(|pending| pending.targets),
            Sight::Unlisted | Sight::Gone { .. } => None,
        }
    }

    #[test]
    fn a_contact_that_a_list_lacks_is_unlisted_and_only_a_get_makes_it_gone() {
        let mut snapshot = listed(1..=3);
        snapshot.begin_list(at(10));
        let changed = page(&mut snapshot, 1, [1, 3], 2);
        assert_eq!(changed.ids, BTreeSet::from([contact(2).id]));
        assert_eq!(snapshot.sight(&contact(2).id), Sight::Unlisted);
        let error = CallError {
            action: super::super::call::Action::GetMessageContact,
            class: FailureClass::ContactNotFound,
            code: None,
            request_id: None,
            retry_after: None,
        };
        let call = Call::GetMessageContact(contact(2).id);
        let changed = snapshot.record(&call, &Err(error), at(11));
        assert_eq!(snapshot.sight(&contact(2).id), Sight::Gone { confirmed: true });
        assert_eq!(changed.ids, BTreeSet::from([contact(2).id]));
    }

    #[test]
    fn a_list_that_saw_the_directory_shrink_says_nothing_of_what_it_lacks() {
        let mut snapshot = listed(1..=250);
        snapshot.begin_list(at(10));
        page(&mut snapshot, 1, 1..=100, 250);
        // Contact 5 is deleted by somebody: 101 moves to the page that was read already.
        page(&mut snapshot, 2, 102..=201, 249);
        page(&mut snapshot, 3, 202..=250, 249);
        page(&mut snapshot, 4, [], 249);
        assert_eq!(snapshot.next_page(), None);
        assert!(!snapshot.last_list_was_complete());
        assert!(matches!(snapshot.sight(&contact(101).id), Sight::Known(_)));
        assert_eq!(snapshot.lists().last, Some(at(0)));
    }

    #[test]
    fn a_contact_that_is_shown_twice_ends_no_list_early() {
        let mut snapshot = Snapshot::default();
        snapshot.begin_list(at(0));
        page(&mut snapshot, 1, 1..=100, 101);
        // One was added in front: 100 is shown again, 101 is on the page too.
        page(&mut snapshot, 2, [100], 102);
        assert_eq!(snapshot.next_page(), None, "a page without a new contact ends the list");
        snapshot.begin_list(at(1));
        page(&mut snapshot, 1, 1..=99, 101);
        page(&mut snapshot, 2, [99, 100], 102);
        assert_eq!(snapshot.next_page(), Some(3));
    }

    #[test]
    fn a_contact_that_was_added_while_the_list_ran_stays() {
        let mut snapshot = listed(1..=2);
        snapshot.begin_list(at(10));
        let call = Call::GetMessageContact(contact(9).id);
        snapshot.record(&call, &Ok(Reply::Contact(contact(9))), at(11));
        page(&mut snapshot, 1, 1..=2, 2);
        assert!(matches!(snapshot.sight(&contact(9).id), Sight::Known(_)));
    }

    #[test]
    fn another_directory_makes_everything_forgotten() {
        let identity = |id: &str| {
            Ok(Reply::Directory(DirectoryIdentity {
                directory_id: DirectoryId::from(id),
                root_folder_id: MemberId::from("r-1"),
                management_account_id: AccountId::from("1"),
            }))
        };
        let mut snapshot = listed(1..=2);
        snapshot.record(&Call::GetResourceDirectory, &identity("rd-a"), at(1));
        assert_eq!(snapshot.contacts().len(), 2);
        let changed = snapshot.record(&Call::GetResourceDirectory, &identity("rd-b"), at(2));
        assert!(changed.everything);
        assert_eq!((snapshot.contacts().len(), snapshot.lists()), (0, Lists::default()));
    }

    #[test]
    fn only_what_waits_for_confirmation_is_asked_again() {
        let mut snapshot = listed(1..=2);
        verifications(&mut snapshot, vec![]);
        assert!(snapshot.doubt_pending().is_empty());
        assert_eq!(pending(&snapshot), Some(vec![]));
        let target = Target::Email(super::super::channel::EmailAddress::observed("x".to_owned()));
        verifications(&mut snapshot, vec![target]);
        assert_eq!(snapshot.doubt_pending().ids, BTreeSet::from([contact(1).id]));
        assert_eq!(pending(&snapshot), None);
    }
}
