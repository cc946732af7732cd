//! One resource directory and its message contacts, as a pure state machine: operations go in,
//! replies come out, and the time is an argument. Knows nothing of HTTP, signatures or sockets.
//!
//! Per channel (mail, phone) a contact has an effective and a pending value:
//!
//! ```text
//!            Add/Update                 Send                    the owner clicks
//!  nothing ------------> pending value ------> + live messages ----------------> effective value
//!                         |  ^  |                 | link too old, or a new value
//!             Cancel -----+  +--+ Update          v
//!                                               dead messages, the value still pends
//! ```
//!
//! Source: RPC reference of `ResourceDirectoryMaster` 2022-04-19; what it leaves open is decided by
//! [`Switches`].

mod checks;
mod contact;
mod execute;
mod operation;
mod rules;
mod tree;

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp, tz};

use self::checks::without_repeats;
pub use self::contact::*;
pub(crate) use self::operation::*;
pub use self::rules::{MESSAGE_TYPES, TITLES};
pub use self::tree::{Account, Folder, Tree};
use crate::switches::{
    ActiveWhen, AfterFailedDeletion, EmailCase, Members, SameValue, StatusWhilePending, Switches,
    Zone,
};

/// The directory.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    /// Folders and accounts.
    pub tree: Tree,
    /// Limits.
    pub quotas: Quotas,
    /// How deletions end.
    pub deletion: DeletionPlan,
    /// Does the account have a directory at all.
    pub in_use: bool,
    switches: Switches,
    contacts: BTreeMap<String, Contact>,
    /// Earlier states, oldest first; kept only while reads lag.
    history: Vec<(Timestamp, BTreeMap<String, Contact>)>,
    deleted: BTreeSet<String>,
    outbox: Vec<Message>,
    serial: u64,
}

impl Directory {
    /// A directory without contacts.
    #[must_use]
    pub(crate) fn new(tree: Tree, quotas: Quotas, switches: Switches) -> Self {
        let mut directory = Self {
            tree,
            quotas,
            deletion: DeletionPlan::default(),
            in_use: true,
            switches: Switches::default(),
            contacts: BTreeMap::new(),
            history: Vec::new(),
            deleted: BTreeSet::new(),
            outbox: Vec::new(),
            serial: 0,
        };
        directory.set_switches(switches);
        directory
    }

    /// How the open questions are answered.
    #[must_use]
    pub(crate) fn switches(&self) -> &Switches {
        &self.switches
    }

    /// Answers the open questions anew.
    pub(crate) fn set_switches(&mut self, switches: Switches) {
        let lagged = self.lags();
        self.switches = switches;
        match (lagged, self.lags()) {
            (_, false) => self.history.clear(),
            (false, true) => self.history = vec![(Timestamp::MIN, self.contacts.clone())],
            (true, true) => {}
        }
    }

    /// Does what was asked, or says why not.
    ///
    /// # Errors
    /// With a documented code; nothing has changed then.
    pub(crate) fn execute(
        &mut self,
        operation: &Operation,
        now: Timestamp,
    ) -> Result<Reply, Refusal> {
        self.settle(now);
        match operation {
            Operation::Add(fields) => self.add(fields, now),
            Operation::Update { id, fields } => self.update(id.as_deref(), fields, now),
            Operation::Get { id } => self.get(id.as_deref(), now),
            Operation::List { id, member, page } => {
                self.list(id.as_deref(), member.as_deref(), *page, now)
            }
            Operation::Delete { id, retain } => self.delete(id.as_deref(), *retain, now),
            Operation::DeletionStatus { id } => self.deletion_status(id.as_deref()),
            Operation::Send { channel, id, target } => {
                self.send(*channel, id.as_deref(), target.as_deref(), now)
            }
            Operation::ListVerifications { id, page } => {
                self.list_verifications(id.as_deref(), *page, now)
            }
            Operation::Cancel { id, email, phone } => {
                self.cancel(id.as_deref(), email.as_deref(), phone.as_deref(), now)
            }
            Operation::Bind { id, members } => self.bind(id.as_deref(), members, now),
            Operation::Unbind { id, members } => self.unbind(id.as_deref(), members, now),
            Operation::GetDirectory => self.get_directory(),
            Operation::Folders { parent, filter, page } => {
                self.folders(parent.as_deref(), filter, *page)
            }
            Operation::Accounts { filter, page, max_results, next_token, include_tags } => {
                let token = max_results.map(|size| (size, next_token.as_deref()));
                self.accounts(filter, *page, token, *include_tags)
            }
            Operation::AccountsIn { parent, filter, page, include_tags } => {
                self.accounts_in(parent.as_deref(), filter, *page, *include_tags)
            }
        }
    }

    /// All contacts as they are, in the order in which they were made.
    #[must_use]
    pub(crate) fn contacts(&mut self, now: Timestamp) -> Vec<Contact> {
        self.settle(now);
        self.contacts.values().cloned().collect()
    }

    /// The status that Get and List show.
    #[must_use]
    pub(crate) fn status(&self, contact: &Contact) -> &'static str {
        let failed_stays = self.switches.after_failed_deletion == AfterFailedDeletion::Deleting;
        match &contact.deletion {
            Deletion::Running { .. } => return "Deleting",
            Deletion::Failed { .. } if failed_stays => return "Deleting",
            Deletion::Failed { .. } | Deletion::None => {}
        }
        let channels = [&contact.email, &contact.phone];
        let all_confirmed = channels
            .iter()
            .filter(|channel| channel.is_given())
            .all(|channel| channel.effective.is_some());
        let changing =
            channels.iter().any(|channel| channel.effective.is_some() && channel.pending.is_some());
        let confirmed = contact.email.effective.is_some()
            && (self.switches.active_when == ActiveWhen::EmailConfirmed || all_confirmed);
        let verifying =
            changing && self.switches.status_while_pending == StatusWhilePending::Verifying;
        if confirmed && !verifying { "Active" } else { "Verifying" }
    }

    /// Every verification message that was ever sent, oldest first.
    #[must_use]
    pub(crate) fn outbox(&self, now: Timestamp) -> Vec<Message> {
        let message = |message: &Message| Message {
            state: self.message_state(message, now),
            ..message.clone()
        };
        self.outbox.iter().map(message).collect()
    }

    /// The owner of an address clicks the newest message of each contact that has one there.
    pub(crate) fn confirm(&mut self, target: &str, now: Timestamp) -> Click {
        let mut newest = BTreeMap::new();
        for message in self.outbox.iter().filter(|message| message.target == target) {
            newest.insert(message.contact_id.clone(), message.id);
        }
        let clicks: Vec<_> = newest.into_values().map(|id| self.click(id, now)).collect();
        if clicks.contains(&Click::Confirmed) {
            Click::Confirmed
        } else {
            clicks.first().copied().unwrap_or(Click::NoMessage)
        }
    }

    /// The owner clicks one message.
    pub(crate) fn click(&mut self, message_id: u64, now: Timestamp) -> Click {
        self.settle(now);
        let Some(at) = self.outbox.iter().position(|message| message.id == message_id) else {
            return Click::NoMessage;
        };
        if self.message_state(&self.outbox[at], now) != MessageState::Live {
            return Click::DeadLink;
        }
        let message = &mut self.outbox[at];
        message.state = MessageState::Confirmed;
        let channel = message.channel;
        if let Some(contact) = self.contacts.get_mut(&message.contact_id) {
            let channel = contact.channel_mut(channel);
            channel.effective = channel.pending.take().map(|pending| pending.value);
        }
        self.changed(now);
        Click::Confirmed
    }

    /// All messages to an address become too old. Says how many were alive.
    pub(crate) fn expire(&mut self, target: &str, now: Timestamp) -> usize {
        let live: Vec<_> = self
            .outbox(now)
            .into_iter()
            .filter(|message| message.target == target && message.state == MessageState::Live)
            .map(|message| message.id)
            .collect();
        for message in self.outbox.iter_mut().filter(|message| live.contains(&message.id)) {
            message.state = MessageState::Expired;
        }
        live.len()
    }

    /// Somebody else adds a contact. No quota, name or shape is checked. Returns its id.
    pub(crate) fn insert_contact(&mut self, new: NewContact, now: Timestamp) -> String {
        let id = self.next_id();
        let email = self.channel(new.email, new.confirmed);
        let phone = new.phone.map(|phone| self.channel(phone, new.confirmed)).unwrap_or_default();
        let contact = Contact {
            id: id.clone(),
            name: new.name,
            email,
            phone,
            title: new.title,
            message_types: new.message_types,
            associated_at: (!new.members.is_empty()).then_some(now),
            members: new.members,
            created_at: now,
            deletion: Deletion::None,
        };
        self.contacts.insert(id.clone(), contact);
        self.changed(now);
        id
    }

    /// Somebody else changes a contact. False if there is none.
    pub(crate) fn change_contact(
        &mut self,
        id: &str,
        change: ContactChange,
        now: Timestamp,
    ) -> bool {
        let email = change.pending_email.map(|value| self.pending(value));
        let phone = change.pending_phone.map(|value| self.pending(value));
        let Some(contact) = self.contacts.get_mut(id) else { return false };
        if let Some(name) = change.name {
            contact.name = name;
        }
        if let Some(title) = change.title {
            contact.title = title;
        }
        if let Some(message_types) = change.message_types {
            contact.message_types = message_types;
        }
        if let Some(members) = change.members {
            contact.members = members;
            contact.associated_at = Some(now);
        }
        if let Some(value) = change.email {
            contact.email = Channel { effective: Some(value), pending: None };
        }
        if let Some(value) = change.phone {
            let effective = Some(value).filter(|value| !value.is_empty());
            contact.phone = Channel { effective, pending: None };
        }
        contact.email.pending = email.or(contact.email.pending.take());
        contact.phone.pending = phone.or(contact.phone.pending.take());
        self.changed(now);
        true
    }

    /// Somebody else deletes a contact at once. False if there is none.
    pub(crate) fn remove_contact(&mut self, id: &str, now: Timestamp) -> bool {
        let removed = self.remove(id);
        self.changed(now);
        removed
    }
}

/// What operations share.
impl Directory {
    fn view(&self, contact: &Contact) -> ContactView {
        let shown = self.switches.shown_while_pending;
        let mut members = contact.members.clone();
        if self.switches.members_shown == Members::Inherited {
            members.extend(contact.members.iter().flat_map(|member| self.tree.below(member)));
            members = without_repeats(&members);
        }
        ContactView {
            id: contact.id.clone(),
            name: contact.name.clone(),
            email: contact.email.shown(shown).unwrap_or_default(),
            phone: contact.phone.shown(shown),
            title: contact.title.clone(),
            message_types: contact.message_types.clone(),
            members,
            status: self.status(contact),
            created_at: contact.created_at,
            associated_at: contact.associated_at.filter(|_| !contact.members.is_empty()),
        }
    }

    /// A11: a value that is already there changes nothing, or must be confirmed again.
    fn set_channel(&mut self, channel: &mut Channel, value: String) {
        let known = channel.values().contains(&Some(value.as_str()));
        if !known || self.switches.same_value == SameValue::ReVerify {
            channel.pending = Some(self.pending(value));
        }
    }

    fn set_members(&mut self, id: &str, members: Vec<String>, now: Timestamp) {
        if let Some(contact) = self.contacts.get_mut(id) {
            if members.len() > contact.members.len() {
                contact.associated_at = Some(now);
            }
            contact.members = members;
        }
        self.changed(now);
    }

    fn channel(&mut self, value: String, confirmed: bool) -> Channel {
        if confirmed {
            Channel { effective: Some(value), pending: None }
        } else {
            Channel { effective: None, pending: Some(self.pending(value)) }
        }
    }

    fn pending(&mut self, value: String) -> Pending {
        self.serial += 1;
        Pending { value, generation: self.serial, sends: 0 }
    }

    fn stored_email(&self, email: &str) -> String {
        match self.switches.email_case {
            EmailCase::Kept => email.to_owned(),
            EmailCase::Lower => email.to_lowercase(),
        }
    }

    fn message_state(&self, message: &Message, now: Timestamp) -> MessageState {
        if message.state != MessageState::Live {
            return message.state;
        }
        let pending = self
            .contacts
            .get(&message.contact_id)
            .and_then(|contact| contact.channel(message.channel).pending.as_ref());
        let age = now.duration_since(message.sent_at).as_secs();
        let link = self.switches.link_seconds.0;
        if pending.is_none_or(|pending| pending.generation != message.generation) {
            MessageState::Superseded
        } else if link.is_some_and(|link| age >= i64::from(link)) {
            MessageState::Expired
        } else {
            MessageState::Live
        }
    }

    fn next_id(&mut self) -> String {
        self.serial += 1;
        format!("c-sim{:013}", self.serial)
    }

    fn remove(&mut self, id: &str) -> bool {
        self.deleted.insert(id.to_owned());
        self.contacts.remove(id).is_some()
    }

    /// Ends the deletions whose time has come.
    fn settle(&mut self, now: Timestamp) {
        let ended: Vec<_> = self
            .contacts
            .values()
            .filter_map(|contact| match &contact.deletion {
                Deletion::Running { until, reasons } if *until <= now => {
                    Some((contact.id.clone(), *until, reasons.clone()))
                }
                _ => None,
            })
            .collect();
        for (id, at, reasons) in ended {
            if reasons.is_empty() {
                self.remove(&id);
            } else if let Some(contact) = self.contacts.get_mut(&id) {
                contact.deletion = Deletion::Failed { reasons };
            }
            self.changed(at);
        }
    }

    fn lags(&self) -> bool {
        self.lag_max_ms() > 0
    }

    fn lag_max_ms(&self) -> u64 {
        self.switches.list_lag_ms.max(self.switches.get_lag_ms)
    }

    /// Remembers the new state for reads that lag.
    fn changed(&mut self, now: Timestamp) {
        if !self.lags() {
            return;
        }
        self.history.push((now, self.contacts.clone()));
        let oldest = now - milliseconds(self.lag_max_ms());
        let still_seen = self.history.iter().rposition(|(at, _)| *at <= oldest).unwrap_or(0);
        self.history.drain(..still_seen);
    }

    /// The contacts as a read that lags sees them.
    fn seen(&self, lag_ms: u64, now: Timestamp) -> &BTreeMap<String, Contact> {
        if lag_ms == 0 {
            return &self.contacts;
        }
        let then = now - milliseconds(lag_ms);
        let seen = self.history.iter().rev().find(|(at, _)| *at <= then);
        seen.or(self.history.first()).map_or(&self.contacts, |(_, contacts)| contacts)
    }
}

fn milliseconds(ms: u64) -> SignedDuration {
    SignedDuration::from_millis(i64::try_from(ms).unwrap_or(i64::MAX))
}

/// A date as the contact operations print it, without a zone (A2).
#[must_use]
pub(crate) fn zoneless_date(at: Timestamp, zone: Zone) -> String {
    let hours = match zone {
        Zone::Utc8 => 8,
        Zone::Utc => 0,
    };
    tz::Offset::constant(hours).to_datetime(at).strftime("%Y-%m-%d %H:%M:%S").to_string()
}
