//! How the owner of a channel is asked to confirm it, and how many messages may be sent for that.

use jiff::{SignedDuration, Timestamp};

/// How the owner of a channel is asked to confirm, as a spec wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerificationPolicy {
    /// Whether the operator has the cloud send messages at all.
    pub send: bool,
    /// Wait between two messages for one channel; at least [`Self::RESEND_AFTER_MIN`].
    pub resend_after: SignedDuration,
    /// How many messages are sent before a person must act, from 1 to 20.
    pub max_sends: u32,
}

impl VerificationPolicy {
    /// The wait between two messages when the spec does not say.
    pub const RESEND_AFTER: SignedDuration = SignedDuration::from_hours(24);
    /// The shortest allowed wait.
    pub const RESEND_AFTER_MIN: SignedDuration = SignedDuration::from_mins(10);
    /// How many messages are sent when the spec does not say.
    pub const MAX_SENDS: u32 = 5;
}

impl Default for VerificationPolicy {
    fn default() -> Self {
        let (resend_after, max_sends) = (Self::RESEND_AFTER, Self::MAX_SENDS);
        Self { send: true, resend_after, max_sends }
    }
}

/// What our own status says about the confirmation of both channels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verification {
    /// The mailbox.
    pub email: Option<ChannelRecord>,
    /// The phone.
    pub phone: Option<ChannelRecord>,
}

/// What must be remembered of one channel across restarts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelRecord {
    /// A keyed hash of the value that this is about: the one that was written last.
    pub target: String,
    /// Where its confirmation stands.
    pub state: ChannelState,
    /// How many messages were sent for it, those included of which nobody knows whether they were.
    pub sends: u32,
    /// When the last of them was sent; also the moment from which an adopted value counts as sent.
    pub last_sent: Option<Timestamp>,
    /// What will show, once the value no longer waits, that it was confirmed since it was written.
    pub evidence: Option<Evidence>,
    /// A keyed hash of the value that was last known to be confirmed. It is forgotten before that
    /// value is written again.
    pub verified_target: Option<String>,
}

/// Where the confirmation of a value stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelState {
    /// A message is owed.
    Pending,
    /// One was sent, and the owner has until `resendAfter` before the next.
    Sent,
    /// The owner has confirmed.
    Verified,
    /// All messages were sent and their time is over.
    Exhausted,
    /// A message is owed, and none may be sent in this directory for now.
    QuotaExhausted,
}

impl ChannelState {
    /// All states.
    pub const ALL: [Self; 5] =
        [Self::Pending, Self::Sent, Self::Verified, Self::Exhausted, Self::QuotaExhausted];

    /// The state as users see it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Sent => "Sent",
            Self::Verified => "Verified",
            Self::Exhausted => "Exhausted",
            Self::QuotaExhausted => "QuotaExhausted",
        }
    }

    /// The state of that word, if it is one.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }
}

/// What shows that a value was confirmed since it was written, once it no longer waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// None yet: the cloud has taken the value, and nothing has shown since that it waits.
    WriteAnswered,
    /// It was seen waiting for its owner.
    SeenPending,
    /// The cloud has taken the order to send a message, which it does only for a value that waits.
    SendAnswered,
    /// The cloud has said that nothing waits: no further look is needed.
    NothingPending,
    /// The contact was in force when it was adopted: holds for a mailbox only.
    Active,
}

impl Evidence {
    /// All kinds.
    pub const ALL: [Self; 5] = [
        Self::WriteAnswered,
        Self::SeenPending,
        Self::SendAnswered,
        Self::NothingPending,
        Self::Active,
    ];

    /// The evidence as users see it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WriteAnswered => "WriteAnswered",
            Self::SeenPending => "SeenPending",
            Self::SendAnswered => "SendAnswered",
            Self::NothingPending => "NothingPending",
            Self::Active => "Active",
        }
    }

    /// The evidence of that word, if it is one.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|evidence| evidence.as_str() == word)
    }
}

/// What is to be seen of both channels beside what must be remembered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outlook {
    /// The mailbox.
    pub email: ChannelOutlook,
    /// The phone.
    pub phone: ChannelOutlook,
}

/// What is to be seen of one channel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChannelOutlook {
    /// When the next message is sent at the earliest, if one will be.
    pub next_send: Option<Timestamp>,
    /// The value that waits for its owner while another one is in force, masked.
    pub waiting: Option<String>,
}

/// The second in which a time lies: Kubernetes stores no fractions, and what is remembered must
/// equal what was stored.
#[must_use]
pub fn whole_second(at: Timestamp) -> Timestamp {
    let fraction = SignedDuration::from_nanos(at.subsec_nanosecond().into());
    at.checked_sub(fraction).unwrap_or(at)
}
