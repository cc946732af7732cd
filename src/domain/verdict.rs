//! What is said about a contact: findings with closed reasons. Texts hold nothing private.

use std::fmt;

/// Everything that is said about a contact. One field per condition type: one that is missing from
/// [`Self::findings`] does not compile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The cloud has what the spec says.
    pub synced: Finding,
    /// The mailbox was confirmed by its owner.
    pub email_verified: Finding,
    /// The phone was confirmed by its owner; `None` without a phone.
    pub phone_verified: Option<Finding>,
    /// The contact is bound to exactly the members of the spec; `None` without members.
    pub bound: Option<Finding>,
    /// The policies that match are met; `None` when none matches. Under `Deny` a violation is why
    /// `synced` is not met; under the others `Ready` does not wait for it.
    pub policy_compliant: Option<Finding>,
    /// Whether `Ready` waits for the verifications.
    pub ready_waits_for_verification: bool,
}

impl Verdict {
    /// Each condition type but `Ready`, with what is said of it, in the order in which they are shown.
    pub fn findings(&self) -> impl Iterator<Item = (&'static str, &Finding)> {
        let Self {
            synced,
            email_verified,
            phone_verified,
            bound,
            policy_compliant,
            ready_waits_for_verification: _,
        } = self;
        let all = [
            ("Synced", Some(synced)),
            ("EmailVerified", Some(email_verified)),
            ("PhoneVerified", phone_verified.as_ref()),
            ("Bound", bound.as_ref()),
            ("PolicyCompliant", policy_compliant.as_ref()),
        ];
        all.into_iter().filter_map(|(type_, finding)| finding.map(|finding| (type_, finding)))
    }

    /// `Ready` is not stored anywhere: it is the first finding that is not met.
    #[must_use]
    pub fn ready(&self) -> &Finding {
        let Self {
            synced,
            email_verified,
            phone_verified,
            bound,
            policy_compliant: _,
            ready_waits_for_verification,
        } = self;
        let verified = [Some(email_verified), phone_verified.as_ref()]
            .into_iter()
            .filter(|_| *ready_waits_for_verification);
        std::iter::once(Some(synced))
            .chain(verified)
            .chain([bound.as_ref()])
            .flatten()
            .find(|finding| finding.status != Status::True)
            .unwrap_or(synced)
    }
}

/// One finding: whether it is met, why, and in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Whether the condition is met.
    pub status: Status,
    /// Why, from the closed list.
    pub reason: Reason,
    /// A sentence for people: what, why, and what comes next.
    pub message: String,
}

impl Finding {
    /// The condition is met.
    #[must_use]
    pub fn met(reason: Reason, message: impl Into<String>) -> Self {
        Self { status: Status::True, reason, message: message.into() }
    }

    /// The condition is not met.
    #[must_use]
    pub fn unmet(reason: Reason, message: impl Into<String>) -> Self {
        Self { status: Status::False, reason, message: message.into() }
    }

    /// It is not known whether the condition is met.
    #[must_use]
    pub fn unknown(reason: Reason, message: impl Into<String>) -> Self {
        Self { status: Status::Unknown, reason, message: message.into() }
    }
}

/// The status of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Met.
    True,
    /// Not met.
    False,
    /// Not known.
    Unknown,
}

impl Status {
    /// The word as Kubernetes spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// Declares the closed list of reasons. A reason marked `stalls` promises that waiting alone will
/// not help: it ends when this object, or one that it depends on, is changed by somebody.
macro_rules! reasons {
    ($($(#[doc = $meaning:literal])+ $name:ident $($stalls:ident)? => $advice:literal;)+) => {
        /// Why a condition is as it is. Renaming one is a breaking change.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason { $($(#[doc = $meaning])+ $name),+ }

        impl Reason {
            /// All reasons.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The reason as users see it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name)),+ }
            }

            /// What it means, in a sentence.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($meaning),+).trim_ascii()),+ }
            }

            /// What a person does about it.
            #[must_use]
            pub fn advice(self) -> &'static str {
                match self { $(Self::$name => $advice),+ }
            }

            /// Whether it sets `Stalled`.
            #[must_use]
            pub fn stalls(self) -> bool {
                match self { $(Self::$name => reasons!(@stalls $($stalls)?)),+ }
            }
        }
    };
    (@stalls stalls) => { true };
    (@stalls) => { false };
}

reasons! {
    /// The operator has not looked at this object yet.
    Pending => "Wait; if it stays, check that the operator runs and watches this namespace.";
    /// The cloud has what the spec says.
    InSync => "Nothing.";
    /// The contact is being created.
    Creating => "Wait.";
    /// A difference is being put right.
    Updating => "Wait.";
    /// The cloud differs, or has a contact of that name that would first be taken over, and `ReportOnly` of the object or of its directory forbids it.
    Drifted => "Read `status.drift`; change the spec, the cloud or the policy.";
    /// Somebody else's operation holds the directory; the operator tries again soon.
    CloudBusy => "Wait; if it lasts, find out who else writes to this directory.";
    /// The API asked to slow down; the operator goes on more slowly.
    Throttled => "Wait; lower `requestsPerSecond` if others share the account's limit.";
    /// The API gave no usable answer; the operator tries again with growing pauses.
    CloudUnavailable => "Wait; if it lasts, check the network and the endpoint.";
    /// A write got no answer; the operator looks before it does anything again.
    OutcomeUnknown => "Wait about a minute.";
    /// The spec, or the cloud's answer to it, says that a value is not acceptable.
    InvalidContact stalls => "Change the field that the message names.";
    /// A contact of that name is in the cloud and may not be taken over.
    NameTaken stalls => "Choose another name, delete that contact, or allow to take it over.";
    /// Another MessageContact holds the contact of that name.
    NameClaimed stalls => "Choose another name, or delete the other MessageContact.";
    /// A contact of that name is in the cloud, and is not as the spec says, or bound to members that the directory does not allow.
    AdoptionRefused stalls => "Make the spec equal to the contact, or allow `Always` here and in the ResourceDirectory.";
    /// Two contacts in the cloud match; nothing is written.
    Ambiguous stalls => "Delete or rename one of the two in the cloud.";
    /// The status points to a contact of another directory; nothing is written.
    WrongDirectory stalls => "Point the ResourceDirectory back; or set `deletionPolicy: Retain`, delete the object and create it anew.";
    /// Every ContactPolicy that speaks of the contact is met.
    Compliant => "Nothing.";
    /// A ContactPolicy is violated; under `enforcement: Deny` nothing is created or updated for it.
    PolicyViolation stalls => "Change the field that the message names, or have the policy changed.";
    /// The directory does not admit this namespace.
    NamespaceNotAllowed stalls => "Have the namespace labelled, or `spec.namespaces` of the ResourceDirectory changed.";
    /// The directory does not allow a member that the spec names.
    MemberNotAllowed stalls => "Take the member out, or have `allowedMembers` of the ResourceDirectory changed.";
    /// The directory has no room for another contact, or the contact none for another member.
    QuotaExceeded => "Delete contacts or take members out, or ask for a higher quota in the vendor's quota centre.";
    /// A member of the spec is not in the directory.
    UnknownMember => "Correct the id, or wait for the account to join.";
    /// The cloud keeps a phone number that the spec no longer has.
    NotRemovable => "Take the number out in the console, or create the contact anew.";
    /// There is no ResourceDirectory of that name.
    DirectoryNotFound => "Create it, or correct `directoryRef.name`.";
    /// The ResourceDirectory is not ready.
    DirectoryNotReady => "Look at its conditions.";
    /// A Secret, or its key, is missing, or the operator may not read it.
    SecretNotFound => "Create the Secret with the key, or grant the right, that the message names.";
    /// There are no access keys, they were refused, or they may not do this.
    Unauthorized => "Correct the credentials, or grant the permission that the message names.";
    /// Somebody keeps changing a field back, or the cloud keeps another value than was written.
    DriftContested => "Find out who changes the contact; message-contacts.dev/requestedAt asks for one more try.";
    /// `suspend` is set: nothing is read or written for this object.
    Suspended => "Set `suspend: false` to go on.";
    /// The object is being deleted, and with it the contact in the cloud, unless it is retained.
    Deleting => "Wait.";
    /// The contact could not be deleted in the cloud.
    DeletionFailed => "Do what the message says, or set `deletionPolicy: Retain`.";
    /// The owner has confirmed the value.
    Verified => "Nothing.";
    /// The value waits for its owner; no message was sent yet.
    VerificationPending => "Wait, or verify it in the console.";
    /// A verification message was sent; its owner must confirm.
    VerificationSent => "Ask the owner to confirm.";
    /// `maxSends` messages were sent and the value is still not confirmed.
    VerificationExhausted stalls => "Ask the owner, then annotate the object with message-contacts.dev/resendRequestedAt.";
    /// The directory's verification messages of the day are used up.
    VerificationQuotaExhausted => "Wait for the next day.";
    /// `verification.send: Never` forbids to send.
    NotSent => "Verify the value in the console, or allow sending.";
    /// Not known before the contact is in sync.
    NotSynced => "Look at `Synced`.";
    /// The policy was evaluated on everything that it speaks of.
    Evaluated => "Nothing.";
    /// No MessageContact is in the directories and namespaces of the policy.
    NothingMatches => "Correct `match` of the policy, or wait for contacts.";
    /// The contacts of a policy do not give together what its `coverage` demands.
    CoverageMissing => "Add contacts, have owners confirm, or change the rule that the message names.";
    /// More contacts are in the cloud that no MessageContact holds than the policy allows.
    TooManyUnmanaged => "Write MessageContacts for those in `status.unmanaged` of the ResourceDirectory, or delete them.";
    /// The spec of the policy cannot be followed.
    InvalidPolicy stalls => "Change the field that the message names.";
    /// The directory answers.
    Connected => "Nothing.";
    /// The keys, or the operator in the cluster, may not do this.
    Forbidden => "Grant the permission that the message names.";
    /// The directory does not answer, or the spec does not say how to ask it.
    Unreachable => "Check the network and the endpoint, or correct the field that the message names.";
    /// The clocks of this machine and of the API differ too much.
    ClockSkewed => "Set the clock of the node.";
    /// The endpoint is neither built in nor allowed.
    EndpointNotAllowed => "Use `site`, or start the operator with --allow-endpoint.";
    /// The account has no resource directory.
    NoDirectory => "Use the keys of the management account, or enable the resource directory.";
    /// Another directory answers than the pinned one, or than the one in which the contacts live.
    DirectoryChanged => "Correct the credentials or the endpoint; or write the id that answers in `directoryId`, to go on with that directory.";
    /// Another ResourceDirectory reaches the same directory, and works on it.
    DuplicateDirectory => "Delete or suspend one of the two.";
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
