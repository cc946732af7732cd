//! What the cloud's documentation leaves open, each behind a named switch.
//!
//! Every field carries the number of the assumption it stands for. The default is the answer that
//! the operator assumes; the other answers exist so that it can be shown to be right under all.

use serde::{Deserialize, Serialize};

/// One answer for each open question about the cloud's behaviour.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Switches {
    /// A1: are operation parameters in a form body read.
    pub form_body: FormBody,
    /// A2: the zone of `CreateDate`, `AssociatedDate` and `ModifyDate`, which print none.
    pub dates: Zone,
    /// A4: what Update does to a phone number that is left out.
    pub update_without_phone: UpdateWithoutPhone,
    /// A5: a page size or number outside its limits.
    pub page_size: PageSize,
    /// A6: what `GetMessageContactDeletionStatus` answers once the deletion is over.
    pub deletion_end: DeletionEnd,
    /// A7: how text messages count against the limits of verification mails.
    pub phone_limits: PhoneLimits,
    /// A9: when the daily number of sends begins again.
    pub send_day: SendDay,
    /// A10: when a contact becomes `Active`.
    pub active_when: ActiveWhen,
    /// A11: Update with the value that is already effective or pending.
    pub same_value: SameValue,
    /// A12: what Get and List show while a confirmed value has a pending successor.
    pub shown_while_pending: Shown,
    /// A13: the status meanwhile.
    pub status_while_pending: StatusWhilePending,
    /// A14: Update with `PhoneNumber=` empty.
    pub empty_phone: EmptyPhone,
    /// A15: Cancel while nothing is effective, or of a value that is not pending.
    pub cancel_of_nothing: Leniency,
    /// A16: how long a verification link lives, in seconds; absent: for ever.
    pub link_seconds: LinkSeconds,
    /// A17: Bind and Unbind of a contact that is still `Verifying`.
    pub bind_while_verifying: Tolerance,
    /// A18: Bind of a bound target, Unbind of one that is not bound.
    pub bind_again: BindAgain,
    /// A19: writes to a contact that is being deleted.
    pub write_while_deleting: Leniency,
    /// A20: Delete with `RetainContactInMembers=false` of a contact bound to nothing.
    pub delete_unbound: DeleteUnbound,
    /// A21: which operations exclude each other.
    pub overlap: Overlap,
    /// A22: how names are compared.
    pub name_case: NameCase,
    /// A23: how far `ListMessageContacts` and `ListMessageContactVerifications` lag behind, in
    /// milliseconds.
    pub list_lag_ms: u64,
    /// A23: how far `GetMessageContact` lags behind, in milliseconds.
    pub get_lag_ms: u64,
    /// A24: `ListMessageContactVerifications` without `ContactId`.
    pub verifications_without_contact: VerificationsWithoutContact,
    /// A25: is the case of mail addresses kept.
    pub email_case: EmailCase,
    /// A26: does `Members` list direct bindings only.
    pub members_shown: Members,
    /// A26: does the filter `Member` of List find inherited bindings too.
    pub member_filter: Members,
    /// A27: the code for a caller that is a member account.
    pub member_account_code: MemberAccountCode,
    /// A28: how an absent phone number looks in an answer.
    pub absent_phone: AbsentPhone,
    /// A29: which letters a name may have.
    pub name_letters: NameLetters,
    /// A29: the same message type twice in one list.
    pub repeated_types: RepeatedTypes,
    /// A30: when a value that waits for confirmation is listed.
    pub pending_listed: PendingListed,
    /// A31: `GetMessageContactDeletionStatus` of a contact that is not being deleted.
    pub deletion_status_without_deletion: DeletionStatusWithoutDeletion,
    /// A31: the contact after its deletion failed.
    pub after_failed_deletion: AfterFailedDeletion,
    /// A32: what two operations must share to exclude each other.
    pub lane: Lane,
    /// A33: which error comes first when several apply.
    pub error_order: ErrorOrder,
    /// Not numbered: a phone number is optional on Add, yet `MissingParameter.PhoneNumber` is
    /// listed there.
    pub add_without_phone: AddWithoutPhone,
    /// Not numbered: the code for a key that lacks a permission.
    pub permission_code: PermissionCode,
    /// Not numbered: the code for too many ids in `DisassociateMembers`; two are listed.
    pub unbind_of_too_many: UnbindOfTooMany,
}

impl Switches {
    /// Every setting that differs from the default in one switch, with a name for it: for tests
    /// that must hold whatever the cloud does.
    #[must_use]
    pub fn each() -> Vec<(&'static str, Self)> {
        type Turn = fn(&mut Switches);
        let turns: [(&'static str, Turn); 45] = [
            ("A1 form ignored", |s| s.form_body = FormBody::Ignored),
            ("A2 dates in UTC", |s| s.dates = Zone::Utc),
            ("A4 clears the phone", |s| s.update_without_phone = UpdateWithoutPhone::Clear),
            ("A5 page size clamped", |s| s.page_size = PageSize::Clamp),
            ("A6 ends without a status", |s| s.deletion_end = DeletionEnd::EmptyStatus),
            ("A7 one budget for both", |s| s.phone_limits = PhoneLimits::Shared),
            ("A7 texts unlimited", |s| s.phone_limits = PhoneLimits::None),
            ("A9 day in UTC", |s| s.send_day = SendDay::Utc),
            ("A9 day rolls", |s| s.send_day = SendDay::Rolling),
            ("A10 active when all confirmed", |s| s.active_when = ActiveWhen::AllConfirmed),
            ("A11 verifies again", |s| s.same_value = SameValue::ReVerify),
            ("A12 shows pending", |s| s.shown_while_pending = Shown::Pending),
            ("A13 verifying", |s| s.status_while_pending = StatusWhilePending::Verifying),
            ("A14 clears", |s| s.empty_phone = EmptyPhone::Clear),
            ("A14 ignores", |s| s.empty_phone = EmptyPhone::Ignore),
            ("A15 ok", |s| s.cancel_of_nothing = Leniency::Ok),
            ("A16 one hour", |s| s.link_seconds = LinkSeconds(Some(3600))),
            ("A16 never", |s| s.link_seconds = LinkSeconds(None)),
            ("A17 mismatch", |s| s.bind_while_verifying = Tolerance::Reject),
            ("A18 refused", |s| s.bind_again = BindAgain::Duplicate),
            ("A19 allowed", |s| s.write_while_deleting = Leniency::Ok),
            ("A20 in background", |s| s.delete_unbound = DeleteUnbound::Deleting),
            ("A21 writes behind anything", |s| s.overlap = Overlap::WritesBehindAnything),
            ("A21 all calls", |s| s.overlap = Overlap::AllCalls),
            ("A21 off", |s| s.overlap = Overlap::Off),
            ("A22 case-insensitive", |s| s.name_case = NameCase::Insensitive),
            ("A23 lists lag", |s| s.list_lag_ms = 2000),
            ("A23 get lags", |s| s.get_lag_ms = 2000),
            ("A24 lists all", |s| {
                s.verifications_without_contact = VerificationsWithoutContact::All;
            }),
            ("A25 lower case", |s| s.email_case = EmailCase::Lower),
            ("A26 expanded", |s| s.members_shown = Members::Inherited),
            ("A26 filter inherited", |s| s.member_filter = Members::Inherited),
            ("A27 not allowed", |s| s.member_account_code = MemberAccountCode::NotAllowed),
            ("A28 null", |s| s.absent_phone = AbsentPhone::Null),
            ("A28 empty", |s| s.absent_phone = AbsentPhone::Empty),
            ("A29 latin letters only", |s| s.name_letters = NameLetters::LatinOnly),
            ("A29 repeats refused", |s| s.repeated_types = RepeatedTypes::Reject),
            ("A30 after first send", |s| s.pending_listed = PendingListed::AfterFirstSend),
            ("A31 not found", |s| {
                s.deletion_status_without_deletion = DeletionStatusWithoutDeletion::NotFound;
            }),
            ("A31 stays deleting", |s| {
                s.after_failed_deletion = AfterFailedDeletion::Deleting;
            }),
            ("A32 per contact", |s| s.lane = Lane::Contact),
            ("A33 existence first", |s| s.error_order = ErrorOrder::EntityFirst),
            ("RAM forbids", |s| s.permission_code = PermissionCode::ForbiddenRam),
            ("members exceed a quota", |s| s.unbind_of_too_many = UnbindOfTooMany::Quota),
            ("phone needed", |s| s.add_without_phone = AddWithoutPhone::Missing),
        ];
        turns
            .into_iter()
            .map(|(name, turn)| {
                let mut switches = Self::default();
                turn(&mut switches);
                (name, switches)
            })
            .collect()
    }
}

/// A switch: an enum whose first variant is the assumed answer.
macro_rules! switch {
    ($(#[$doc:meta])* $name:ident { $(#[$first_doc:meta])* $first:ident
        $(, $(#[$other_doc:meta])* $other:ident)+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum $name {
            $(#[$first_doc])*
            #[default]
            $first,
            $($(#[$other_doc])* $other,)+
        }
    };
}

switch! {
    /// A1: are operation parameters in a form body read.
    FormBody {
        /// As those in the query.
        Accepted,
        /// Covered by the signature, but the operation does not see them.
        Ignored,
    }
}
switch! {
    /// A2: the zone of dates that print none.
    Zone {
        /// UTC+8.
        Utc8,
        /// UTC.
        Utc,
    }
}
switch! {
    /// A4: what Update does to a phone number that is left out.
    UpdateWithoutPhone {
        /// The contact keeps it.
        Keep,
        /// The contact loses it.
        Clear,
    }
}
switch! {
    /// A5: a page size or number outside its limits.
    PageSize {
        /// 400 `InvalidParameter.PageSize` or `.PageNumber`.
        Reject,
        /// The nearest allowed figure is used.
        Clamp,
    }
}
switch! {
    /// A6: the end of a deletion in the background.
    DeletionEnd {
        /// 404 `EntityNotExists.Contact`.
        NotFound,
        /// 200 without `Status`.
        EmptyStatus,
    }
}
switch! {
    /// A7: limits of text messages.
    PhoneLimits {
        /// The figures of the mails, counted apart.
        Separate,
        /// One count for mails and text messages.
        Shared,
        /// No limit.
        None,
    }
}
switch! {
    /// A9: when the daily number of sends begins again.
    SendDay {
        /// Midnight UTC+8.
        Utc8,
        /// Midnight UTC.
        Utc,
        /// The last 24 hours count.
        Rolling,
    }
}
switch! {
    /// A10: when a contact becomes `Active`.
    ActiveWhen {
        /// Once its mail address is confirmed.
        EmailConfirmed,
        /// Once every given channel is.
        AllConfirmed,
    }
}
switch! {
    /// A11: Update with the value that is already there.
    SameValue {
        /// Nothing happens.
        Ignore,
        /// It must be confirmed again.
        ReVerify,
    }
}
switch! {
    /// A12: which of two values is shown.
    Shown {
        /// The confirmed one.
        Effective,
        /// The one that waits.
        Pending,
    }
}
switch! {
    /// A13: the status of a confirmed contact with a pending change.
    StatusWhilePending {
        /// `Active`.
        Active,
        /// `Verifying`.
        Verifying,
    }
}
switch! {
    /// A14: Update with an empty phone number.
    EmptyPhone {
        /// 400 `InvalidParameter.PhoneNumber`.
        Reject,
        /// The contact loses its phone number.
        Clear,
        /// As if left out.
        Ignore,
    }
}
switch! {
    /// Refused with `ContactStatusMismatchAction`, or let through.
    Leniency {
        /// Refused.
        Reject,
        /// Let through.
        Ok,
    }
}
switch! {
    /// Let through, or refused with `ContactStatusMismatchAction`.
    Tolerance {
        /// Let through.
        Allow,
        /// Refused.
        Reject,
    }
}
switch! {
    /// A18: Bind of a bound target, Unbind of an unbound one.
    BindAgain {
        /// Accepted without a change.
        Ok,
        /// 400 `InvalidParameter.Members.Duplicate`.
        Duplicate,
    }
}
switch! {
    /// A20: Delete from the members too, with nothing bound.
    DeleteUnbound {
        /// Gone at once.
        Deleted,
        /// Runs in the background as any other.
        Deleting,
    }
}
switch! {
    /// A21: which operations get 429 `ConcurrentCallNotSupported` behind which.
    Overlap {
        /// Add, Update, Delete and Bind, behind any operation that changes or sends something.
        Writes,
        /// Add, Update, Delete and Bind, behind any operation at all.
        WritesBehindAnything,
        /// Any operation behind any other.
        AllCalls,
        /// None.
        Off,
    }
}
switch! {
    /// A22: how names are compared.
    NameCase {
        /// Letter by letter.
        Exact,
        /// Upper and lower case are the same.
        Insensitive,
    }
}
switch! {
    /// A24: the list of verifications without a contact id.
    VerificationsWithoutContact {
        /// 400 `MissingParameter.ContactId`.
        Missing,
        /// Those of all contacts.
        All,
    }
}
switch! {
    /// A25: the case of mail addresses.
    EmailCase {
        /// As sent.
        Kept,
        /// Stored in lower case.
        Lower,
    }
}
switch! {
    /// A26: which bindings count.
    Members {
        /// Those made by `AssociateMembers`.
        Direct,
        /// Also those that follow from a folder or the directory.
        Inherited,
    }
}
switch! {
    /// A27: the code for a caller that is a member account.
    MemberAccountCode {
        /// 403 `MemberAccountAccessDenied`.
        AccessDenied,
        /// 403 `MemberAccountOperationNotAllowed`.
        NotAllowed,
    }
}
switch! {
    /// A28: an absent phone number in an answer.
    AbsentPhone {
        /// No such field.
        Missing,
        /// `null`.
        Null,
        /// `""`.
        Empty,
    }
}
switch! {
    /// A29: which letters a name may have.
    NameLetters {
        /// `A-Z`, `a-z` and Chinese characters, mixed freely.
        LatinAndHan,
        /// `A-Z` and `a-z`, as the English page says.
        LatinOnly,
    }
}
switch! {
    /// A29: the same message type twice in one list.
    RepeatedTypes {
        /// Kept once.
        Once,
        /// 400 `InvalidParameter.MessageTypes`.
        Reject,
    }
}
switch! {
    /// A30: when a value that waits for confirmation is listed.
    PendingListed {
        /// From the write on.
        AtOnce,
        /// From the first verification message on.
        AfterFirstSend,
    }
}
switch! {
    /// A31: the deletion status of a contact that is not being deleted.
    DeletionStatusWithoutDeletion {
        /// 200 without `Status`.
        Empty,
        /// 404 `EntityNotExists.Contact`.
        NotFound,
    }
}
switch! {
    /// A31: the contact after its deletion failed.
    AfterFailedDeletion {
        /// As before the deletion.
        Active,
        /// Still `Deleting`.
        Deleting,
    }
}
switch! {
    /// A32: what two operations must share to exclude each other.
    Lane {
        /// The directory.
        Directory,
        /// The contact.
        Contact,
    }
}
switch! {
    /// A33: which error comes first when several apply.
    ErrorOrder {
        /// Missing, then field by field, then existence, state, name taken, limits.
        InputFirst,
        /// Missing, then existence and state, then field by field, name taken, limits.
        EntityFirst,
    }
}
switch! {
    /// Add without a phone number.
    AddWithoutPhone {
        /// Accepted, as the parameter is optional.
        Accepted,
        /// 400 `MissingParameter.PhoneNumber`.
        Missing,
    }
}

switch! {
    /// The code for a key that lacks a permission.
    PermissionCode {
        /// 403 `NoPermission`.
        NoPermission,
        /// 403 `Forbidden.RAM`.
        ForbiddenRam,
    }
}
switch! {
    /// More ids in `DisassociateMembers` than allowed.
    UnbindOfTooMany {
        /// 400 `InvalidParameter.Members.Length`.
        Length,
        /// 400 `QuotaExceeded.Members`.
        Quota,
    }
}

/// A16: how long a verification link lives. 24 hours unless set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LinkSeconds(pub Option<u32>);

impl Default for LinkSeconds {
    fn default() -> Self {
        Self(Some(24 * 3600))
    }
}
