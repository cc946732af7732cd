//! What is checked before anything changes.

use std::collections::BTreeSet;

use crate::model::{Contact, Directory, Fields, PageRequest, Refusal, rules};
use crate::model::{MESSAGE_TYPES, TITLES};
use crate::switches::{
    BindAgain, EmptyPhone, ErrorOrder, Leniency, NameCase, PageSize, RepeatedTypes, Tolerance,
};

impl Directory {
    /// A33: the input first or the entity first.
    pub(super) fn in_order(
        &self,
        input: impl Fn(&Self) -> Result<(), Refusal>,
        entity: impl Fn(&Self) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        match self.switches.error_order {
            ErrorOrder::InputFirst => input(self).and_then(|()| entity(self)),
            ErrorOrder::EntityFirst => entity(self).and_then(|()| input(self)),
        }
    }

    pub(super) fn check_fields(&self, fields: &Fields) -> Result<(), Refusal> {
        let Fields { name, email, phone, title, message_types } = fields;
        if let Some(name) = name {
            rules::name(name, self.switches.name_letters)?;
        }
        if let Some(email) = email {
            rules::email(email, &self.quotas)?;
        }
        let empty_is_fine = self.switches.empty_phone != EmptyPhone::Reject;
        if let Some(phone) = phone.as_ref().filter(|phone| !(phone.is_empty() && empty_is_fine)) {
            rules::phone(phone, &self.quotas)?;
        }
        if let Some(title) = title.as_ref().filter(|title| !TITLES.contains(&title.as_str())) {
            return Err(Refusal::invalid("Title", title));
        }
        let strange = |kind: &&String| !MESSAGE_TYPES.contains(&kind.as_str());
        if let Some(strange) = message_types.iter().find(strange) {
            return Err(Refusal::invalid("MessageTypes", strange));
        }
        let repeats = without_repeats(message_types).len() != message_types.len();
        if repeats && self.switches.repeated_types == RepeatedTypes::Reject {
            return Err(Refusal::invalid("MessageTypes", &message_types.join(",")));
        }
        Ok(())
    }

    pub(super) fn check_name_free(&self, name: &str, but: Option<&str>) -> Result<(), Refusal> {
        let same = |other: &str| match self.switches.name_case {
            NameCase::Exact => other == name,
            NameCase::Insensitive => other.eq_ignore_ascii_case(name),
        };
        let taken = self
            .contacts
            .values()
            .any(|other| but.is_none_or(|but| other.id != but) && same(&other.name));
        if taken { Err(Refusal::invalid("Name.AlreadyUsed", name)) } else { Ok(()) }
    }

    pub(super) fn check_members(
        &self,
        members: &[String],
        too_many: Refusal,
    ) -> Result<(), Refusal> {
        if members.is_empty() {
            return Err(Refusal::invalid("Members", ""));
        }
        if members.len() > self.quotas.members_per_call {
            return Err(too_many);
        }
        if let Some(strange) = members.iter().find(|member| !rules::is_member_id(member)) {
            return Err(Refusal::invalid("Members", strange));
        }
        if without_repeats(members).len() != members.len() {
            return Err(Refusal::invalid("Members.Duplicate", &members.join(",")));
        }
        Ok(())
    }

    /// A18.
    pub(super) fn check_bound_again(
        &self,
        members: &[String],
        again: impl Fn(&String) -> bool,
    ) -> Result<(), Refusal> {
        match members.iter().find(|member| again(member)) {
            Some(member) if self.switches.bind_again == BindAgain::Duplicate => {
                Err(Refusal::invalid("Members.Duplicate", member))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn check_writable(&self, id: &str) -> Result<(), Refusal> {
        let contact = self.find(id)?;
        let refused = self.status(contact) == "Deleting"
            && self.switches.write_while_deleting == Leniency::Reject;
        if refused { Err(Refusal::wrong_state(id)) } else { Ok(()) }
    }

    pub(super) fn check_bindable(&self, id: &str) -> Result<(), Refusal> {
        self.check_writable(id)?;
        let refused = self.status(self.find(id)?) == "Verifying"
            && self.switches.bind_while_verifying == Tolerance::Reject;
        if refused { Err(Refusal::wrong_state(id)) } else { Ok(()) }
    }

    pub(super) fn check_in_use(&self) -> Result<(), Refusal> {
        if self.in_use {
            Ok(())
        } else {
            Err(Refusal::unknown("ResourceDirectory", &self.tree.directory_id))
        }
    }

    pub(super) fn parent(&self, parent: Option<&str>) -> Result<String, Refusal> {
        let parent = parent.filter(|parent| !parent.is_empty());
        let parent = parent.unwrap_or(&self.tree.root_folder_id);
        if !rules::is_folder_id(parent) {
            return Err(Refusal::invalid("ParentFolderId", parent));
        }
        self.check_in_use()?;
        if !self.tree.has_folder(parent) {
            return Err(Refusal::unknown("Folder", parent));
        }
        Ok(parent.to_owned())
    }

    /// Number and size of a page.
    pub(super) fn page(&self, page: PageRequest) -> Result<(i64, i64), Refusal> {
        let limit = |value: i64, max: i64, parameter: &str| match (
            value == value.clamp(1, max),
            self.switches.page_size,
        ) {
            (true, _) => Ok(value),
            (false, PageSize::Clamp) => Ok(value.clamp(1, max)),
            (false, PageSize::Reject) => Err(Refusal::invalid(parameter, &value.to_string())),
        };
        let number = limit(page.number.unwrap_or(1), 1_000_000, "PageNumber")?;
        let size = page.size.unwrap_or(self.quotas.page_size_default);
        Ok((number, limit(size, self.quotas.page_size_max, "PageSize")?))
    }

    pub(super) fn find(&self, id: &str) -> Result<&Contact, Refusal> {
        self.contacts.get(id).ok_or_else(|| Refusal::unknown("Contact", id))
    }
}

pub(super) fn contact_id(id: Option<&str>) -> Result<&str, Refusal> {
    let id = id.filter(|id| !id.is_empty()).ok_or_else(|| Refusal::missing("ContactId"))?;
    if rules::is_contact_id(id) { Ok(id) } else { Err(Refusal::invalid("ContactId", id)) }
}

pub(super) fn without_repeats(list: &[String]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    list.iter().filter(|item| seen.insert(item.as_str())).cloned().collect()
}
