//! What kind of failure an answer is: one table of codes, then prefixes, then the HTTP status.
//!
//! Sources: error tables of the operations in the RPC reference of `ResourceDirectoryMaster`
//! 2022-04-19 and of Sts 2015-04-01, and the common error codes of the RPC gateway.

use jiff::fmt::rfc2822::DateTimeParser;
use jiff::{SignedDuration, Timestamp};
use reqwest::header::HeaderMap;

use crate::domain::call::{
    Action, CallError, ErrorCode, FailureClass, KeyCause, KeyFailure, KeyStep, RequestId, Skew,
};

use super::transport::Answer;
use super::wire::Private;

/// What a code or a status means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// The call was refused; the class is the same for every operation.
    Refused(FailureClass),
    /// No usable answer: see [`no_answer`].
    NoAnswer,
}

use FailureClass::{
    ClientBug, Clock, Conflict, ContactNotFound, Credentials, InvalidInput, NameTaken, NoDirectory,
    NotFound, NothingPending, Permission, Quota, SendsExhausted, Throttled, TokenExpired,
    UnknownMember, WrongState,
};
use Meaning::{NoAnswer, Refused};

/// Every documented code. A code that stands here is decided here, whatever status it came with.
const CODES: &[(&str, Meaning)] = &[
    // The operations.
    ("MissingParameter.ContactId", Refused(InvalidInput)),
    ("MissingParameter.Name", Refused(InvalidInput)),
    ("MissingParameter.EmailAddress", Refused(InvalidInput)),
    ("MissingParameter.PhoneNumber", Refused(InvalidInput)),
    ("MissingParameter.Title", Refused(InvalidInput)),
    ("MissingParameter.MessageTypes", Refused(InvalidInput)),
    ("InvalidParameter.ContactId", Refused(InvalidInput)),
    ("InvalidParameter.Name", Refused(InvalidInput)),
    ("InvalidParameter.Name.Length", Refused(InvalidInput)),
    ("InvalidParameter.Name.AlreadyUsed", Refused(NameTaken)),
    ("InvalidParameter.EmailAddress", Refused(InvalidInput)),
    ("InvalidParameter.EmailAddress.Length", Refused(InvalidInput)),
    ("InvalidParameter.PhoneNumber", Refused(InvalidInput)),
    ("InvalidParameter.MobileCountryCode", Refused(InvalidInput)),
    ("InvalidParameter.Title", Refused(InvalidInput)),
    ("InvalidParameter.MessageTypes", Refused(InvalidInput)),
    ("InvalidParameter.Member", Refused(InvalidInput)),
    ("InvalidParameter.Members", Refused(InvalidInput)),
    ("InvalidParameter.Members.Duplicate", Refused(InvalidInput)),
    ("InvalidParameter.Members.Length", Refused(InvalidInput)),
    ("InvalidParameter.ParentFolderId", Refused(InvalidInput)),
    // Too many members in one call, not a limit of the directory.
    ("QuotaExceeded.Members", Refused(InvalidInput)),
    ("LimitExceeded.Contacts", Refused(Quota)),
    ("LimitExceeded.ContactMembers", Refused(Quota)),
    ("InvalidMember", Refused(UnknownMember)),
    ("ContactStatusMismatchAction", Refused(WrongState)),
    ("EntityNotExists.Contact", Refused(ContactNotFound)),
    ("EntityNotExists.Contact.Verification", Refused(NothingPending)),
    ("EntityNotExists.Member", Refused(NotFound)),
    ("EntityNotExists.Folder", Refused(NotFound)),
    ("EntityNotExists.ResourceDirectory", Refused(NoDirectory)),
    ("ResourceDirectoryNotInUse", Refused(NoDirectory)),
    ("SendValidateCodeExceedsLimitForAccount", Refused(SendsExhausted)),
    ("ConcurrentCallNotSupported", Refused(Conflict)),
    // Not in the tables of this API; seen from other clients. Unverified (A27): which one it is.
    ("MemberAccountAccessDenied", Refused(Permission)),
    ("MemberAccountOperationNotAllowed", Refused(Permission)),
    ("CallerIdentityError", Refused(Permission)),
    // The gateway.
    ("SignatureDoesNotMatch", Refused(Credentials)),
    ("IncompleteSignature", Refused(Credentials)),
    // The first copy of these bytes may have arrived: something on the way sent them twice.
    ("SignatureNonceUsed", NoAnswer),
    ("InvalidTimeStamp.Expired", Refused(Clock(Skew(None)))),
    ("InvalidTimeStamp.Format", Refused(ClientBug)),
    ("InvalidSignatureMethod", Refused(ClientBug)),
    ("InvalidAccessKeyId.NotFound", Refused(Credentials)),
    ("InvalidAccessKeyId.Inactive", Refused(Credentials)),
    ("Forbidden.AccessKeyDisabled", Refused(Credentials)),
    ("MissingSecurityToken", Refused(Credentials)),
    ("InvalidSecurityToken.Expired", Refused(TokenExpired)),
    ("InvalidSecurityToken.Malformed", Refused(Credentials)),
    ("InvalidSecurityToken.MismatchWithAccessKey", Refused(Credentials)),
    ("NoPermission", Refused(Permission)),
    ("Forbidden.RAM", Refused(Permission)),
    ("Forbidden", Refused(Permission)),
    ("Forbidden.RiskControl", Refused(Permission)),
    ("Throttling", Refused(Throttled)),
    ("Throttling.User", Refused(Throttled)),
    ("Throttling.Api", Refused(Throttled)),
    ("Throttling.User.Flow", Refused(Throttled)),
    ("Rejected.Throttling", Refused(Throttled)),
    ("MissingParameter", Refused(ClientBug)),
    ("InvalidAction.NotFound", Refused(ClientBug)),
    ("InvalidApi.NotFound", Refused(ClientBug)),
    ("InvalidVersion", Refused(ClientBug)),
    ("NoSuchVersion", Refused(ClientBug)),
    ("InvalidProduct.NotFound", Refused(ClientBug)),
    ("UnsupportedHTTPMethod", Refused(ClientBug)),
    ("InvalidProtocol.NeedSsl", Refused(ClientBug)),
    ("ContentMD5NotMatched", NoAnswer),
    ("ServiceUnavailable", NoAnswer),
    ("InternalError", NoAnswer),
    ("UnknownError", NoAnswer),
];

/// What a code means that is not in the table; the first prefix that fits decides.
const PREFIXES: &[(&str, FailureClass)] = &[
    ("InvalidParameter.", InvalidInput),
    ("MissingParameter.", InvalidInput),
    ("EntityNotExists.", NotFound),
    ("LimitExceeded.", Quota),
    ("QuotaExceeded.", Quota),
    ("Throttling", Throttled),
    ("InvalidAccessKeyId.", Credentials),
    ("InvalidSecurityToken.", Credentials),
    ("Forbidden.", Permission),
    // `Missing<Name>` of a common parameter.
    ("Missing", ClientBug),
];

/// Longest wait that an answer can ask for. Source: the official SDKs.
const RETRY_AFTER_MAX: SignedDuration = SignedDuration::from_secs(120);

/// What a code of the token service means that is not, or not so, in [`CODES`].
const STS_CODES: &[(&str, KeyCause)] = &[
    ("NoPermission", KeyCause::Forbidden),
    ("EntityNotExist.Role", KeyCause::NoRole),
    ("InvalidParameter.RoleArn", KeyCause::Refused),
    ("InvalidParameter.RoleSessionName", KeyCause::Refused),
    ("InvalidParameter.DurationSeconds", KeyCause::Refused),
    ("InvalidParameter.PolicyGrammar", KeyCause::Refused),
    ("InvalidParameter.PolicySize", KeyCause::Refused),
    ("InvalidParameter.ExternalId", KeyCause::Refused),
    ("InvalidParameter.ContentType", KeyCause::Refused),
    // Who has the token may not take the role: its trust policy does not name the token's subject.
    ("AuthenticationFail.NoPermission", KeyCause::Forbidden),
    ("AuthenticationFail.OIDCToken.Expired", KeyCause::Refused),
    ("AuthenticationFail.OIDCToken.Invalid", KeyCause::Refused),
    ("AuthenticationFail.OIDCToken.InvalidSignature", KeyCause::Refused),
    ("AuthenticationFail.OIDCToken.AudienceNotMatch", KeyCause::Refused),
    ("AuthenticationFail.OIDCToken.HttpsUrlInvalid", KeyCause::Refused),
];

/// What an error answer (status 400 and above) means. The body may be anything: HTML of a proxy,
/// cut, empty. The body's `Message` is not read: the gateway repeats addresses and phones in it.
pub(super) fn refused(
    action: Action,
    answer: &Answer,
    private: &Private,
    now: Timestamp,
) -> CallError {
    let Answer { status, headers, body } = answer;
    let Envelope { code, request_id } = Envelope::parse(body.as_deref().unwrap_or_default());
    // The gateway's hint says throttled whatever the code is (source: the official SDKs), with two
    // exceptions: another operation in the directory says nothing of the rate, and where the answer
    // leaves open whether a write was executed, a hint does not settle it.
    let asked = header_text(headers, "x-acs-retry-after").and_then(positive);
    let known =
        code.as_ref().and_then(by_code).unwrap_or_else(|| by_status(*status, code.as_ref()));
    let meaning = match (asked, known) {
        (None, known) | (Some(_), known @ Refused(Conflict)) => known,
        (Some(_), NoAnswer) if !action.is_read() => NoAnswer,
        (Some(_), _) => Refused(Throttled),
    };
    let class = match meaning {
        Refused(Clock(_)) => Clock(skew(headers, now)),
        Refused(class) => class,
        NoAnswer => no_answer(action),
    };
    let retry_after = asked
        .map(milliseconds)
        .or_else(|| (class == Throttled).then(|| time_left(headers)).flatten())
        .or_else(|| standard_retry_after(headers));
    let (code, request_id) = shown(code, request_id, private);
    CallError { action, class, code, request_id, retry_after }
}

/// What an error answer of the token service means for the keys that were asked for. A hint that
/// STS is too busy says nothing of the API's rate: it is no usable answer, to be asked again later.
pub(super) fn keys_refused(
    step: KeyStep,
    answer: &Answer,
    private: &Private,
    now: Timestamp,
) -> CallError {
    let Answer { status, headers, body } = answer;
    let Envelope { code, request_id } = Envelope::parse(body.as_deref().unwrap_or_default());
    let asked = header_text(headers, "x-acs-retry-after").and_then(positive);
    let cause = match &code {
        _ if asked.is_some() => KeyCause::Unanswered,
        // Not made by STS.
        None => KeyCause::Unanswered,
        Some(code) => match (documented_by_sts(code.as_str()), by_code(code), *status) {
            (Some(cause), ..) => cause,
            (None, Some(Refused(Clock(_))), _) => KeyCause::Clock(skew(headers, now)),
            (None, Some(Refused(Permission)), _) => KeyCause::Forbidden,
            (None, Some(Refused(Credentials | TokenExpired | InvalidInput)), _)
            | (None, None, 400..=404) => KeyCause::Refused,
            (None, ..) => KeyCause::Unanswered,
        },
    };
    let retry_after = asked.map(milliseconds).or_else(|| standard_retry_after(headers));
    let (code, request_id) = shown(code, request_id, private);
    CallError { code, request_id, retry_after, ..no_keys(step, cause) }
}

/// The keys for a call could not be had. The identity is what cannot be asked for without them.
pub(super) fn no_keys(step: KeyStep, cause: KeyCause) -> CallError {
    bare(Action::GetResourceDirectory, FailureClass::NoKeys(KeyFailure { step, cause }))
}

/// By how much this machine's clock is ahead of the one that stamped the answer. Less than a minute
/// is not what was refused: then the answer was stamped by somebody else.
fn skew(headers: &HeaderMap, now: Timestamp) -> Skew {
    let ahead = header_text(headers, "date")
        .and_then(|date| DateTimeParser::new().parse_timestamp(date).ok())
        .map(|date| now.duration_since(date));
    let minutes = |ahead: SignedDuration| {
        let half = SignedDuration::from_secs(30 * i64::from(ahead.signum()));
        ahead.saturating_add(half).as_mins()
    };
    Skew(ahead.map(minutes).filter(|minutes| *minutes != 0))
}

/// The parts of an envelope that may be shown.
fn shown(
    code: Option<ErrorCode>,
    request_id: Option<RequestId>,
    private: &Private,
) -> (Option<ErrorCode>, Option<RequestId>) {
    let code = code.filter(|code| may_be_shown(code, private));
    let request_id =
        request_id.filter(|id| is_uuid(id.as_str()) && !private.appears_in(id.as_str()));
    (code, request_id)
}

fn standard_retry_after(headers: &HeaderMap) -> Option<SignedDuration> {
    header_text(headers, "retry-after").and_then(positive).map(seconds)
}

/// The request was sent, or part of it, and no usable answer came: time-out, reset, a cut or
/// unreadable success, or a redirect. A redirect is never followed, and the API sends none: it
/// came from something between, which may have passed the request on.
pub(super) fn unanswered(action: Action) -> CallError {
    bare(action, no_answer(action))
}

/// No connection stood, so nothing was executed: a write is as harmless as a read.
pub(super) fn unsent(action: Action) -> CallError {
    bare(action, FailureClass::Unavailable)
}

fn bare(action: Action, class: FailureClass) -> CallError {
    CallError { action, class, code: None, request_id: None, retry_after: None }
}

/// A read can be read again; a write may have happened.
fn no_answer(action: Action) -> FailureClass {
    if action.is_read() { FailureClass::Unavailable } else { FailureClass::OutcomeUnknown }
}

fn by_code(code: &ErrorCode) -> Option<Meaning> {
    documented(code.as_str()).or_else(|| {
        let fits = |(prefix, _): &&(&str, FailureClass)| code.as_str().starts_with(prefix);
        PREFIXES.iter().find(fits).map(|(_, class)| Refused(*class))
    })
}

fn documented(code: &str) -> Option<Meaning> {
    CODES.iter().find(|(known, _)| *known == code).map(|(_, meaning)| *meaning)
}

fn documented_by_sts(code: &str) -> Option<KeyCause> {
    STS_CODES.iter().find(|(known, _)| *known == code).map(|(_, cause)| *cause)
}

/// What a status means when the code does not tell.
///
/// An answer without any code was not made by the API. It is not called a refused value: that
/// would stop an object until its spec changes, because of a proxy.
fn by_status(status: u16, code: Option<&ErrorCode>) -> Meaning {
    match (status, code) {
        (429, _) => Refused(Throttled),
        (500.., _) | (408, None) => NoAnswer,
        (401 | 403, _) => Refused(Permission),
        (404, Some(code)) if code.as_str().starts_with("EntityNotExist") => Refused(NotFound),
        (404, _) | (_, None) => Refused(ClientBug),
        (_, Some(_)) => Refused(InvalidInput),
    }
}

/// Code and request id of an error body.
#[derive(Debug, Default)]
struct Envelope {
    code: Option<ErrorCode>,
    request_id: Option<RequestId>,
}

impl Envelope {
    /// JSON with keys in any case, or the XML form; anything else has neither code nor id.
    fn parse(body: &[u8]) -> Self {
        let Ok(text) = std::str::from_utf8(body) else { return Self::default() };
        let text = text.trim_start_matches('\u{FEFF}').trim();
        let field = |name: &str| {
            if text.starts_with('<') { xml_child(text, name) } else { json_member(text, name) }
        };
        Self {
            code: field("Code").and_then(|code| ErrorCode::parse(code.trim())),
            request_id: field("RequestId").and_then(|id| RequestId::parse(id.trim())),
        }
    }
}

fn json_member(text: &str, name: &str) -> Option<String> {
    let members: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text).ok()?;
    let member = members.get(name).or_else(|| {
        members.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    });
    member?.as_str().map(str::to_owned)
}

/// The text of a child of `<Error>`. No parser: an envelope has no nesting and no attributes, and
/// what comes out passes the same checks as any other text.
fn xml_child(text: &str, name: &str) -> Option<String> {
    let (_, inside) = text.split_once("<Error")?;
    let (_, rest) = inside.split_once(&format!("<{name}>"))?;
    let (value, _) = rest.split_once(&format!("</{name}>"))?;
    Some(value.to_owned())
}

/// A documented code is only a code. Any other text could be a value that the answer repeats:
/// one that this call sent, or one with more digits than a code has.
fn may_be_shown(code: &ErrorCode, private: &Private) -> bool {
    const DIGITS_MAX: usize = 4;
    let text = code.as_str();
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    documented(text).is_some()
        || documented_by_sts(text).is_some()
        || (digits <= DIGITS_MAX && !private.appears_in(text))
}

/// Request ids are UUIDs. The looser [`RequestId`] would let a phone number through.
fn is_uuid(text: &str) -> bool {
    text.len() == uuid::fmt::Hyphenated::LENGTH && uuid::Uuid::try_parse(text).is_ok()
}

fn header_text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// A positive whole number; a longer one than fits is the greatest.
fn positive(text: &str) -> Option<i64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(i64::MAX)).filter(|number| *number > 0)
}

fn milliseconds(number: i64) -> SignedDuration {
    SignedDuration::from_millis(number).min(RETRY_AFTER_MAX)
}

fn seconds(number: i64) -> SignedDuration {
    SignedDuration::from_secs(number).min(RETRY_AFTER_MAX)
}

/// The older hint: comma-separated parts, one of them `TimeLeft:<milliseconds>`. Only asked for
/// when the answer is a throttled one, because other answers show their windows too.
fn time_left(headers: &HeaderMap) -> Option<SignedDuration> {
    let left = |name| {
        header_text(headers, name)?
            .split(',')
            .find_map(|part| part.trim().strip_prefix("TimeLeft:"))
            .and_then(|value| positive(value.trim()))
    };
    ["x-ratelimit-user-api", "x-ratelimit-user"]
        .into_iter()
        .filter_map(left)
        .max()
        .map(milliseconds)
}
