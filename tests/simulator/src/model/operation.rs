//! What goes in and what comes out.

use jiff::Timestamp;

use crate::model::{Account, ChannelKind, FailReason, Folder};

/// What somebody asks of the directory. Values are as sent: nothing has been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// `AddMessageContact`.
    Add(Fields),
    /// `UpdateMessageContact`.
    Update {
        /// `ContactId`.
        id: Option<String>,
        /// What is to change.
        fields: Fields,
    },
    /// `GetMessageContact`.
    Get {
        /// `ContactId`.
        id: Option<String>,
    },
    /// `ListMessageContacts`.
    List {
        /// `ContactId`.
        id: Option<String>,
        /// `Member`.
        member: Option<String>,
        /// Which page.
        page: PageRequest,
    },
    /// `DeleteMessageContact`.
    Delete {
        /// `ContactId`.
        id: Option<String>,
        /// `RetainContactInMembers`; true when left out.
        retain: bool,
    },
    /// `GetMessageContactDeletionStatus`.
    DeletionStatus {
        /// `ContactId`.
        id: Option<String>,
    },
    /// `SendEmailVerificationForMessageContact` or `SendPhoneVerificationForMessageContact`.
    Send {
        /// By mail or text message.
        channel: ChannelKind,
        /// `ContactId`.
        id: Option<String>,
        /// `EmailAddress` or `PhoneNumber`.
        target: Option<String>,
    },
    /// `ListMessageContactVerifications`.
    ListVerifications {
        /// `ContactId`.
        id: Option<String>,
        /// Which page.
        page: PageRequest,
    },
    /// `CancelMessageContactUpdate`.
    Cancel {
        /// `ContactId`.
        id: Option<String>,
        /// `EmailAddress`.
        email: Option<String>,
        /// `PhoneNumber`.
        phone: Option<String>,
    },
    /// `AssociateMembers`.
    Bind {
        /// `ContactId`.
        id: Option<String>,
        /// `Members`.
        members: Vec<String>,
    },
    /// `DisassociateMembers`.
    Unbind {
        /// `ContactId`.
        id: Option<String>,
        /// `Members`.
        members: Vec<String>,
    },
    /// `GetResourceDirectory`.
    GetDirectory,
    /// `ListFoldersForParent`.
    Folders {
        /// `ParentFolderId`; the root when left out or empty.
        parent: Option<String>,
        /// Which of them.
        filter: Filter,
        /// Which page.
        page: PageRequest,
    },
    /// `ListAccounts`.
    Accounts {
        /// Which of them.
        filter: Filter,
        /// Which page.
        page: PageRequest,
        /// `MaxResults`: pages by token.
        max_results: Option<i64>,
        /// `NextToken`.
        next_token: Option<String>,
        /// `IncludeTags`.
        include_tags: bool,
    },
    /// `ListAccountsForParent`.
    AccountsIn {
        /// `ParentFolderId`; the root when left out or empty.
        parent: Option<String>,
        /// Which of them.
        filter: Filter,
        /// Which page.
        page: PageRequest,
        /// `IncludeTags`.
        include_tags: bool,
    },
}

/// The fields of a contact in Add and Update. Empty text was sent as empty text.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Fields {
    /// `Name`.
    pub name: Option<String>,
    /// `EmailAddress`.
    pub email: Option<String>,
    /// `PhoneNumber`.
    pub phone: Option<String>,
    /// `Title`.
    pub title: Option<String>,
    /// `MessageTypes`; empty is the same as not sent.
    pub message_types: Vec<String>,
}

/// `PageNumber` and `PageSize`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct PageRequest {
    /// From 1; 1 when left out.
    pub number: Option<i64>,
    /// 1 to 100; 10 when left out.
    pub size: Option<i64>,
}

/// `QueryKeyword` and `Tag`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Filter {
    /// Part of the name.
    pub keyword: Option<String>,
    /// Tags that must all be there; without a value any will do.
    pub tags: Vec<(String, Option<String>)>,
}

/// What the directory says to an [`Operation`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// Nothing but "done".
    Done,
    /// A new contact.
    Added {
        /// `ContactId`.
        id: String,
        /// `CreateDate`.
        created_at: Timestamp,
    },
    /// One contact.
    Contact(Box<ContactView>),
    /// A page of contacts.
    Contacts(Page<ContactView>),
    /// `Deleting` or `Deleted`.
    Deletion(&'static str),
    /// How far a deletion is.
    DeletionStatus {
        /// `ContactId`.
        id: String,
        /// `Deleting`, `Failed` or none.
        status: Option<&'static str>,
        /// Why it failed.
        reasons: Vec<FailReason>,
    },
    /// Contact ids and the values that wait for confirmation.
    Verifications(Page<(String, String)>),
    /// Bindings made or undone.
    Members {
        /// `ContactId`.
        id: String,
        /// The members named in the request.
        members: Vec<String>,
        /// `ModifyDate`.
        at: Timestamp,
    },
    /// The directory itself.
    Directory,
    /// A page of folders.
    Folders(Page<Folder>),
    /// A page of accounts.
    Accounts {
        /// The accounts.
        page: Page<Account>,
        /// Where to go on; the page came by token.
        next_token: Option<String>,
        /// Are their tags shown.
        include_tags: bool,
        /// Are their paths shown.
        include_paths: bool,
    },
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page<T> {
    /// How many there are in all.
    pub total: usize,
    /// From 1.
    pub number: i64,
    /// How many fit in a page.
    pub size: i64,
    /// Those of this page.
    pub items: Vec<T>,
}

/// A contact as Get and List show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ContactView {
    /// `ContactId`.
    pub id: String,
    /// `Name`.
    pub name: String,
    /// `EmailAddress`.
    pub email: String,
    /// `PhoneNumber`.
    pub phone: Option<String>,
    /// `Title`.
    pub title: String,
    /// `MessageTypes`, in the order in which they were sent.
    pub message_types: Vec<String>,
    /// `Members`.
    pub members: Vec<String>,
    /// `Status`.
    pub status: &'static str,
    /// `CreateDate`.
    pub created_at: Timestamp,
    /// `AssociatedDate`; only List shows it.
    pub associated_at: Option<Timestamp>,
}

/// Why an operation was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// `Code`.
    pub code: String,
    /// What the message repeats of the request. The real gateway does so too: clients that log
    /// messages leak private values.
    pub about: String,
    /// Extra headers of the answer.
    pub headers: Vec<(String, String)>,
}

impl Refusal {
    /// A refusal of that status and code.
    #[must_use]
    pub(crate) fn new(status: u16, code: impl Into<String>, about: &str) -> Self {
        Self { status, code: code.into(), about: about.to_owned(), headers: Vec::new() }
    }

    pub(crate) fn invalid(parameter: &str, value: &str) -> Self {
        Self::new(400, format!("InvalidParameter.{parameter}"), value)
    }

    pub(crate) fn missing(parameter: &str) -> Self {
        Self::new(400, format!("MissingParameter.{parameter}"), parameter)
    }

    pub(super) fn unknown(entity: &str, id: &str) -> Self {
        Self::new(404, format!("EntityNotExists.{entity}"), id)
    }

    pub(super) fn wrong_state(id: &str) -> Self {
        Self::new(400, "ContactStatusMismatchAction", id)
    }
}

impl Filter {
    pub(super) fn admits(&self, name: &str, tags: &[(String, String)]) -> bool {
        let keyword = self.keyword.as_deref().unwrap_or("").to_lowercase();
        let has = |key: &str, value: Option<&str>| {
            tags.iter().any(|tag| tag.0 == key && value.is_none_or(|value| tag.1 == value))
        };
        name.to_lowercase().contains(&keyword)
            && self.tags.iter().all(|(key, value)| has(key, value.as_deref()))
    }
}

impl<T> Page<T> {
    /// One page of a list.
    pub(super) fn cut<S>(all: &[S], number: i64, size: i64, show: impl Fn(&S) -> T) -> Self {
        let before = usize::try_from((number - 1).saturating_mul(size)).unwrap_or(usize::MAX);
        let count = usize::try_from(size).unwrap_or(usize::MAX);
        let items = all.iter().skip(before).take(count).map(show).collect();
        Self { total: all.len(), number, size, items }
    }
}
