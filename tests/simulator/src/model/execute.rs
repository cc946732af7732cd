//! What each operation does.

use jiff::{SignedDuration, Timestamp};

use crate::model::checks::{contact_id, without_repeats};
use crate::model::{
    Channel, ChannelKind, Contact, ContactView, Deletion, Directory, FailReason, Fields, Filter,
    Message, MessageState, Page, PageRequest, Pending, Refusal, Reply, milliseconds, rules,
};
use crate::switches::{
    AddWithoutPhone, DeleteUnbound, DeletionEnd, DeletionStatusWithoutDeletion, EmptyPhone,
    Leniency, Members, PendingListed, PhoneLimits, SendDay, UnbindOfTooMany, UpdateWithoutPhone,
    VerificationsWithoutContact,
};

impl Directory {
    pub(super) fn add(&mut self, fields: &Fields, now: Timestamp) -> Result<Reply, Refusal> {
        let given = |value: &Option<String>, parameter| {
            value.clone().ok_or_else(|| Refusal::missing(parameter))
        };
        let name = given(&fields.name, "Name")?;
        let email = given(&fields.email, "EmailAddress")?;
        if self.switches.add_without_phone == AddWithoutPhone::Missing {
            given(&fields.phone, "PhoneNumber")?;
        }
        let title = given(&fields.title, "Title")?;
        if fields.message_types.is_empty() {
            return Err(Refusal::missing("MessageTypes"));
        }
        self.check_fields(fields)?;
        self.check_name_free(&name, None)?;
        if self.contacts.len() >= self.quotas.contacts {
            return Err(Refusal::new(400, "LimitExceeded.Contacts", ""));
        }
        let id = self.next_id();
        let email = self.channel(self.stored_email(&email), false);
        let phone = fields.phone.clone().filter(|phone| !phone.is_empty());
        let phone = phone.map(|phone| self.channel(phone, false)).unwrap_or_default();
        let contact = Contact {
            id: id.clone(),
            name,
            email,
            phone,
            title,
            message_types: without_repeats(&fields.message_types),
            members: Vec::new(),
            created_at: now,
            associated_at: None,
            deletion: Deletion::None,
        };
        self.contacts.insert(id.clone(), contact);
        self.changed(now);
        Ok(Reply::Added { id, created_at: now })
    }

    pub(super) fn update(
        &mut self,
        id: Option<&str>,
        fields: &Fields,
        now: Timestamp,
    ) -> Result<Reply, Refusal> {
        let id = contact_id(id)?;
        self.in_order(|this| this.check_fields(fields), |this| this.check_writable(id))?;
        if let Some(name) = &fields.name {
            self.check_name_free(name, Some(id))?;
        }
        let email = fields.email.as_deref().map(|email| self.stored_email(email));
        let phone = match (fields.phone.as_deref(), self.switches.empty_phone) {
            (None, _) if self.switches.update_without_phone == UpdateWithoutPhone::Clear => {
                Some(None)
            }
            (Some(""), EmptyPhone::Clear) => Some(None),
            (None | Some(""), _) => None,
            (Some(phone), _) => Some(Some(phone.to_owned())),
        };
        let mut contact = self.find(id)?.clone();
        if let Some(email) = email {
            self.set_channel(&mut contact.email, email);
        }
        match phone {
            Some(Some(phone)) => self.set_channel(&mut contact.phone, phone),
            Some(None) => contact.phone = Channel::default(),
            None => {}
        }
        if let Some(name) = &fields.name {
            contact.name.clone_from(name);
        }
        if let Some(title) = &fields.title {
            contact.title.clone_from(title);
        }
        if !fields.message_types.is_empty() {
            contact.message_types = without_repeats(&fields.message_types);
        }
        self.contacts.insert(id.to_owned(), contact);
        self.changed(now);
        Ok(Reply::Done)
    }

    pub(super) fn get(&self, id: Option<&str>, now: Timestamp) -> Result<Reply, Refusal> {
        let id = contact_id(id)?;
        let contact = self
            .seen(self.switches.get_lag_ms, now)
            .get(id)
            .ok_or_else(|| Refusal::unknown("Contact", id))?;
        Ok(Reply::Contact(Box::new(ContactView { associated_at: None, ..self.view(contact) })))
    }

    pub(super) fn list(
        &self,
        id: Option<&str>,
        member: Option<&str>,
        page: PageRequest,
        now: Timestamp,
    ) -> Result<Reply, Refusal> {
        let id = id.filter(|id| !id.is_empty());
        let member = member.filter(|member| !member.is_empty());
        if let Some(id) = id {
            contact_id(Some(id))?;
        }
        if let Some(member) = member.filter(|member| !rules::is_member_id(member)) {
            return Err(Refusal::invalid("Member", member));
        }
        let (number, size) = self.page(page)?;
        let contacts = self.seen(self.switches.list_lag_ms, now);
        if let Some(id) = id.filter(|id| !contacts.contains_key(*id)) {
            return Err(Refusal::unknown("Contact", id));
        }
        if let Some(member) = member.filter(|member| !self.tree.has_member(member)) {
            return Err(Refusal::unknown("Member", member));
        }
        let above = member
            .filter(|_| self.switches.member_filter == Members::Inherited)
            .map(|member| self.tree.above(member))
            .unwrap_or_default();
        let bound = |contact: &Contact, member: &str| {
            contact.members.iter().any(|bound| bound == member || above.contains(bound))
        };
        let found = contacts
            .values()
            .filter(|contact| id.is_none_or(|id| contact.id == id))
            .filter(|contact| member.is_none_or(|member| bound(contact, member)));
        let found: Vec<_> = found.collect();
        Ok(Reply::Contacts(Page::cut(&found, number, size, |contact| self.view(contact))))
    }

    pub(super) fn delete(
        &mut self,
        id: Option<&str>,
        retain: bool,
        now: Timestamp,
    ) -> Result<Reply, Refusal> {
        let id = contact_id(id)?;
        let contact = self.find(id)?;
        if matches!(contact.deletion, Deletion::Running { .. }) {
            return Ok(Reply::Deletion("Deleting"));
        }
        let unbound =
            contact.members.is_empty() && self.switches.delete_unbound == DeleteUnbound::Deleted;
        if retain || unbound {
            self.remove(id);
            self.changed(now);
            return Ok(Reply::Deletion("Deleted"));
        }
        let mut reasons = self.deletion.reasons.clone();
        match &mut self.deletion.times {
            Some(0) => reasons.clear(),
            Some(times) => *times -= 1,
            None => {}
        }
        let until = now + milliseconds(self.deletion.after_ms);
        if let Some(contact) = self.contacts.get_mut(id) {
            contact.deletion = Deletion::Running { until, reasons };
        }
        self.changed(now);
        Ok(Reply::Deletion("Deleting"))
    }

    pub(super) fn deletion_status(&self, id: Option<&str>) -> Result<Reply, Refusal> {
        let id = contact_id(id)?;
        let answer = |status, reasons: &[FailReason]| {
            Ok(Reply::DeletionStatus { id: id.to_owned(), status, reasons: reasons.to_vec() })
        };
        let ended =
            self.deleted.contains(id) && self.switches.deletion_end == DeletionEnd::EmptyStatus;
        match self.contacts.get(id).map(|contact| &contact.deletion) {
            Some(Deletion::Running { .. }) => answer(Some("Deleting"), &[]),
            Some(Deletion::Failed { reasons }) => answer(Some("Failed"), reasons),
            Some(Deletion::None)
                if self.switches.deletion_status_without_deletion
                    == DeletionStatusWithoutDeletion::Empty =>
            {
                answer(None, &[])
            }
            None if ended => answer(None, &[]),
            Some(Deletion::None) | None => Err(Refusal::unknown("Contact", id)),
        }
    }

    pub(super) fn send(
        &mut self,
        channel: ChannelKind,
        id: Option<&str>,
        target: Option<&str>,
        now: Timestamp,
    ) -> Result<Reply, Refusal> {
        let given = |value: Option<&str>| value.is_some_and(|value| !value.is_empty());
        if !given(id) {
            return Err(Refusal::missing("ContactId"));
        }
        let target = target.filter(|target| !target.is_empty());
        let target = target.ok_or_else(|| Refusal::missing(channel.parameter()))?;
        let id = contact_id(id)?;
        self.in_order(
            |this| match channel {
                ChannelKind::Email => rules::email_shape(target),
                ChannelKind::Phone => rules::phone(target, &this.quotas),
            },
            |this| this.find(id).map(|_| ()),
        )?;
        let target = match channel {
            ChannelKind::Email => self.stored_email(target),
            ChannelKind::Phone => target.to_owned(),
        };
        let pending = self.find(id)?.channel(channel).pending.clone();
        let pending = pending
            .filter(|pending| pending.value == target)
            .ok_or_else(|| Refusal::unknown("Contact.Verification", &target))?;
        self.check_sends(channel, &target, now)?;
        if let Some(contact) = self.contacts.get_mut(id)
            && let Some(pending) = &mut contact.channel_mut(channel).pending
        {
            pending.sends += 1;
        }
        self.outbox.push(Message {
            id: self.outbox.len() as u64 + 1,
            channel,
            target,
            contact_id: id.to_owned(),
            sent_at: now,
            state: MessageState::Live,
            generation: pending.generation,
        });
        self.changed(now);
        Ok(Reply::Done)
    }

    /// The limits of verification messages.
    fn check_sends(
        &self,
        channel: ChannelKind,
        target: &str,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let counts = |message: &&Message| match self.switches.phone_limits {
            PhoneLimits::Shared => true,
            PhoneLimits::Separate | PhoneLimits::None => message.channel == channel,
        };
        if channel == ChannelKind::Phone && self.switches.phone_limits == PhoneLimits::None {
            return Ok(());
        }
        let day = |at: Timestamp| match self.switches.send_day {
            SendDay::Utc8 => (at.as_second() + 8 * 3600).div_euclid(86_400),
            SendDay::Utc => at.as_second().div_euclid(86_400),
            // Counted in days before now: 0 is the last 24 hours.
            SendDay::Rolling => now.duration_since(at).as_secs().div_euclid(86_400),
        };
        let today =
            self.outbox.iter().filter(counts).filter(|message| day(message.sent_at) == day(now));
        let minute_ago = now - SignedDuration::from_mins(1);
        let last_minute = self
            .outbox
            .iter()
            .filter(|message| message.target == target && message.sent_at > minute_ago);
        if today.count() >= self.quotas.sends_per_day
            || last_minute.count() >= self.quotas.sends_per_minute_and_target
        {
            return Err(Refusal::new(409, "SendValidateCodeExceedsLimitForAccount", target));
        }
        Ok(())
    }

    pub(super) fn list_verifications(
        &self,
        id: Option<&str>,
        page: PageRequest,
        now: Timestamp,
    ) -> Result<Reply, Refusal> {
        let all = self.switches.verifications_without_contact == VerificationsWithoutContact::All;
        let id = id.filter(|id| !id.is_empty());
        let id = if id.is_none() && all { None } else { Some(contact_id(id)?) };
        let (number, size) = self.page(page)?;
        let contacts = self.seen(self.switches.list_lag_ms, now);
        if let Some(id) = id.filter(|id| !contacts.contains_key(*id)) {
            return Err(Refusal::unknown("Contact", id));
        }
        let listed = |pending: &&Pending| {
            pending.sends > 0 || self.switches.pending_listed == PendingListed::AtOnce
        };
        let mut found = Vec::new();
        for contact in contacts.values().filter(|contact| id.is_none_or(|id| contact.id == id)) {
            for channel in [&contact.email, &contact.phone] {
                let pending = channel.pending.as_ref().filter(listed);
                found.extend(pending.map(|value| (contact.id.clone(), value.value.clone())));
            }
        }
        Ok(Reply::Verifications(Page::cut(&found, number, size, Clone::clone)))
    }

    pub(super) fn cancel(
        &mut self,
        id: Option<&str>,
        email: Option<&str>,
        phone: Option<&str>,
        now: Timestamp,
    ) -> Result<Reply, Refusal> {
        let id = contact_id(id)?;
        self.in_order(
            |this| {
                email.map_or(Ok(()), rules::email_shape)?;
                phone.map_or(Ok(()), |phone| rules::phone(phone, &this.quotas))
            },
            |this| this.check_writable(id),
        )?;
        let email = email.map(|email| (ChannelKind::Email, self.stored_email(email)));
        let phone = phone.map(|phone| (ChannelKind::Phone, phone.to_owned()));
        let values: Vec<_> = email.into_iter().chain(phone).collect();
        let contact = self.find(id)?;
        let cancellable = |(kind, value): &(ChannelKind, String)| {
            let channel = contact.channel(*kind);
            channel.effective.is_some()
                && channel.pending.as_ref().is_some_and(|pending| pending.value == *value)
        };
        if self.switches.cancel_of_nothing == Leniency::Reject
            && (values.is_empty() || !values.iter().all(cancellable))
        {
            return Err(Refusal::wrong_state(id));
        }
        let dropped: Vec<_> =
            values.iter().filter(|value| cancellable(value)).map(|(kind, _)| *kind).collect();
        if let Some(contact) = self.contacts.get_mut(id) {
            for kind in dropped {
                contact.channel_mut(kind).pending = None;
            }
        }
        self.changed(now);
        Ok(Reply::Done)
    }

    pub(super) fn bind(
        &mut self,
        id: Option<&str>,
        members: &[String],
        now: Timestamp,
    ) -> Result<Reply, Refusal> {
        let id = contact_id(id)?;
        self.in_order(
            |this| this.check_members(members, Refusal::invalid("Members", &members.join(","))),
            |this| this.check_bindable(id),
        )?;
        let mut bound = self.find(id)?.members.clone();
        self.check_bound_again(members, |member| bound.contains(member))?;
        if let Some(stranger) = members.iter().find(|member| !self.tree.has_member(member)) {
            return Err(Refusal::new(400, "InvalidMember", stranger));
        }
        for member in members {
            if !bound.contains(member) {
                bound.push(member.clone());
            }
        }
        if bound.len() > self.quotas.members_per_contact {
            return Err(Refusal::new(400, "LimitExceeded.ContactMembers", id));
        }
        self.set_members(id, bound, now);
        Ok(Reply::Members { id: id.to_owned(), members: members.to_vec(), at: now })
    }

    pub(super) fn unbind(
        &mut self,
        id: Option<&str>,
        members: &[String],
        now: Timestamp,
    ) -> Result<Reply, Refusal> {
        let id = contact_id(id)?;
        let code = match self.switches.unbind_of_too_many {
            UnbindOfTooMany::Length => "InvalidParameter.Members.Length",
            UnbindOfTooMany::Quota => "QuotaExceeded.Members",
        };
        let too_many = Refusal::new(400, code, &members.join(","));
        self.in_order(
            |this| this.check_members(members, too_many.clone()),
            |this| this.check_bindable(id),
        )?;
        let mut bound = self.find(id)?.members.clone();
        self.check_bound_again(members, |member| !bound.contains(member))?;
        // A member that has left the directory can still be taken out.
        let known = |member: &String| bound.contains(member) || self.tree.has_member(member);
        if let Some(stranger) = members.iter().find(|member| !known(member)) {
            return Err(Refusal::new(400, "InvalidMember", stranger));
        }
        bound.retain(|member| !members.contains(member));
        self.set_members(id, bound, now);
        Ok(Reply::Members { id: id.to_owned(), members: members.to_vec(), at: now })
    }

    pub(super) fn get_directory(&self) -> Result<Reply, Refusal> {
        if !self.in_use {
            return Err(Refusal::new(404, "ResourceDirectoryNotInUse", ""));
        }
        Ok(Reply::Directory)
    }

    pub(super) fn folders(
        &self,
        parent: Option<&str>,
        filter: &Filter,
        page: PageRequest,
    ) -> Result<Reply, Refusal> {
        let parent = self.parent(parent)?;
        let (number, size) = self.page(page)?;
        let found =
            self.tree.folders.iter().filter(|folder| {
                folder.parent == parent && filter.admits(&folder.name, &folder.tags)
            });
        let found: Vec<_> = found.collect();
        Ok(Reply::Folders(Page::cut(&found, number, size, |&folder| folder.clone())))
    }

    pub(super) fn accounts(
        &self,
        filter: &Filter,
        page: PageRequest,
        token: Option<(i64, Option<&str>)>,
        include_tags: bool,
    ) -> Result<Reply, Refusal> {
        self.check_in_use()?;
        let found: Vec<_> = self
            .tree
            .accounts
            .iter()
            .filter(|account| filter.admits(&account.name, &account.tags))
            .collect();
        let page = match token {
            Some((size, token)) => {
                let after = token.filter(|token| !token.is_empty()).map_or(Ok(1), |token| {
                    let number = token.strip_prefix("page=").and_then(|n| n.parse().ok());
                    number.ok_or_else(|| Refusal::invalid("NextToken", token))
                })?;
                PageRequest { number: Some(after), size: Some(size) }
            }
            None => page,
        };
        let (number, size) = self.page(page)?;
        let page = Page::cut(&found, number, size, |&account| account.clone());
        let seen = usize::try_from(number * size).unwrap_or(usize::MAX);
        let next_token =
            (token.is_some() && seen < page.total).then(|| format!("page={}", number + 1));
        Ok(Reply::Accounts { page, next_token, include_tags, include_paths: true })
    }

    pub(super) fn accounts_in(
        &self,
        parent: Option<&str>,
        filter: &Filter,
        page: PageRequest,
        include_tags: bool,
    ) -> Result<Reply, Refusal> {
        let parent = self.parent(parent)?;
        let (number, size) = self.page(page)?;
        let found = self.tree.accounts.iter().filter(|account| {
            account.folder == parent && filter.admits(&account.name, &account.tags)
        });
        let found: Vec<_> = found.collect();
        let page = Page::cut(&found, number, size, |&account| account.clone());
        Ok(Reply::Accounts { page, next_token: None, include_tags, include_paths: false })
    }
}
