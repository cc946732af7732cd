//! From HTTP requests to operations, and from replies to JSON.
//!
//! Takes what real clients send: GET and POST, parameters in the query or in a form body, common
//! parameters (V1) or headers (V3), arrays with an index from 1, booleans in any case.

use serde_json::{Map, Value, json};

use crate::model::{
    Account, ChannelKind, ContactView, Directory, Fields, Filter, Folder, Operation, Page,
    PageRequest, Refusal, Reply, zoneless_date,
};
use crate::switches::{AbsentPhone, FormBody, Switches};

/// The API version of the contact operations.
pub(crate) const DIRECTORY_VERSION: &str = "2022-04-19";
/// The API version of the token service.
pub(crate) const STS_VERSION: &str = "2015-04-01";

/// One HTTP request, read to its end.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Request {
    /// As sent.
    pub method: String,
    /// Path and query, as sent.
    pub target: String,
    /// As sent, in order.
    pub headers: Vec<(String, String)>,
    /// All of it.
    pub body: Vec<u8>,
}

impl Request {
    /// The value of a header; several are joined with a comma.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        let values: Vec<_> = self
            .headers
            .iter()
            .filter(|(header, _)| header.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
            .collect();
        (!values.is_empty()).then(|| values.join(","))
    }

    /// The path without the query.
    #[must_use]
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or("/")
    }

    /// The pairs of the query, decoded.
    #[must_use]
    pub fn query(&self) -> Vec<(String, String)> {
        self.target.split_once('?').map(|(_, query)| pairs(query)).unwrap_or_default()
    }

    /// The pairs of a form body, decoded; none if the body is something else.
    #[must_use]
    pub fn form(&self) -> Vec<(String, String)> {
        let is_form = self.header("content-type").is_some_and(|kind| {
            kind.to_ascii_lowercase().starts_with("application/x-www-form-urlencoded")
        });
        if is_form { pairs(&String::from_utf8_lossy(&self.body)) } else { Vec::new() }
    }
}

/// Decodes `a=b&c=d`; `+` is a space.
#[must_use]
pub(crate) fn pairs(text: &str) -> Vec<(String, String)> {
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        })
        .collect()
}

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        decoded.push(match (escaped, bytes[at]) {
            (None, b'+') => b' ',
            (escaped, byte) => escaped.unwrap_or(byte),
        });
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// An operation that the simulator knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Action {
    /// As in the API.
    pub name: &'static str,
    /// The version it belongs to.
    pub version: &'static str,
    /// Does it change or send something.
    pub writes: bool,
    /// Is `ConcurrentCallNotSupported` documented for it.
    pub excludes: bool,
}

const fn read(name: &'static str) -> Action {
    Action { name, version: DIRECTORY_VERSION, writes: false, excludes: false }
}

const fn write(name: &'static str, excludes: bool) -> Action {
    Action { name, version: DIRECTORY_VERSION, writes: true, excludes }
}

const fn sts(name: &'static str) -> Action {
    Action { name, version: STS_VERSION, writes: false, excludes: false }
}

/// All of them.
pub(crate) const ACTIONS: [Action; 19] = [
    write("AddMessageContact", true),
    write("UpdateMessageContact", true),
    read("GetMessageContact"),
    read("ListMessageContacts"),
    write("DeleteMessageContact", true),
    read("GetMessageContactDeletionStatus"),
    write("SendEmailVerificationForMessageContact", false),
    write("SendPhoneVerificationForMessageContact", false),
    read("ListMessageContactVerifications"),
    write("CancelMessageContactUpdate", false),
    write("AssociateMembers", true),
    write("DisassociateMembers", false),
    read("GetResourceDirectory"),
    read("ListFoldersForParent"),
    read("ListAccounts"),
    read("ListAccountsForParent"),
    sts("AssumeRole"),
    sts("AssumeRoleWithOIDC"),
    sts("GetCallerIdentity"),
];

impl Action {
    /// The operation of that name.
    #[must_use]
    pub(crate) fn find(name: &str) -> Option<Self> {
        ACTIONS.into_iter().find(|action| action.name == name)
    }
}

/// The parameters of an operation, without the common ones.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Parameters(pub Vec<(String, String)>);

/// The common parameters of V1: not the operation's own.
const COMMON: [&str; 13] = [
    "Action",
    "Version",
    "Format",
    "AccessKeyId",
    "SignatureMethod",
    "SignatureVersion",
    "SignatureNonce",
    "Timestamp",
    "SecurityToken",
    "Signature",
    "SignatureType",
    "BearerToken",
    "RegionId",
];

impl Parameters {
    /// The operation's own parameters in a request.
    ///
    /// # Errors
    /// 400 `InvalidParameter` if a name comes twice.
    pub(crate) fn of(request: &Request, switches: &Switches) -> Result<Self, Refusal> {
        let mut pairs = request.query();
        let form = request.form();
        let mut names: Vec<_> = pairs.iter().chain(&form).map(|(name, _)| name).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|two| two[0] == two[1]) {
            return Err(Refusal::new(400, "InvalidParameter", twice[0]));
        }
        if switches.form_body == FormBody::Accepted {
            pairs.extend(form);
        }
        pairs.retain(|(name, _)| !COMMON.contains(&name.as_str()));
        Ok(Self(pairs))
    }

    /// The value of a parameter.
    #[must_use]
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone())
    }

    /// The items `name.1`, `name.2`, ... up to the first gap.
    #[must_use]
    pub(crate) fn list(&self, name: &str) -> Vec<String> {
        (1..).map_while(|index| self.get(&format!("{name}.{index}"))).collect()
    }

    fn number(&self, name: &str) -> Result<Option<i64>, Refusal> {
        let text = self.get(name).filter(|text| !text.is_empty());
        text.map(|text| text.parse().map_err(|_| Refusal::invalid(name, &text))).transpose()
    }

    fn boolean(&self, name: &str, default: bool) -> Result<bool, Refusal> {
        match self.get(name).map(|text| text.to_ascii_lowercase()).as_deref() {
            None | Some("") => Ok(default),
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            Some(other) => Err(Refusal::invalid(name, other)),
        }
    }

    fn page(&self) -> Result<PageRequest, Refusal> {
        Ok(PageRequest { number: self.number("PageNumber")?, size: self.number("PageSize")? })
    }

    fn filter(&self) -> Filter {
        let tag = |index: u32| {
            let key = self.get(&format!("Tag.{index}.Key"))?;
            Some((key, self.get(&format!("Tag.{index}.Value"))))
        };
        Filter { keyword: self.get("QueryKeyword"), tags: (1..).map_while(tag).collect() }
    }
}

/// The operation that an action and its parameters ask for; none for those of the token service.
///
/// # Errors
/// 400 for a number or boolean that is none. Everything else is the model's to refuse.
pub(crate) fn operation(
    action: Action,
    parameters: &Parameters,
) -> Result<Option<Operation>, Refusal> {
    let text = |name: &str| parameters.get(name);
    let id = text("ContactId");
    let fields = || Fields {
        name: text("Name"),
        email: text("EmailAddress"),
        phone: text("PhoneNumber"),
        title: text("Title"),
        message_types: parameters.list("MessageTypes"),
    };
    Ok(Some(match action.name {
        "AddMessageContact" => Operation::Add(fields()),
        "UpdateMessageContact" => Operation::Update { id, fields: fields() },
        "GetMessageContact" => Operation::Get { id },
        "ListMessageContacts" => {
            Operation::List { id, member: text("Member"), page: parameters.page()? }
        }
        "DeleteMessageContact" => {
            let retain = parameters.boolean("RetainContactInMembers", true)?;
            Operation::Delete { id, retain }
        }
        "GetMessageContactDeletionStatus" => Operation::DeletionStatus { id },
        "SendEmailVerificationForMessageContact" => {
            Operation::Send { channel: ChannelKind::Email, id, target: text("EmailAddress") }
        }
        "SendPhoneVerificationForMessageContact" => {
            Operation::Send { channel: ChannelKind::Phone, id, target: text("PhoneNumber") }
        }
        "ListMessageContactVerifications" => {
            Operation::ListVerifications { id, page: parameters.page()? }
        }
        "CancelMessageContactUpdate" => {
            Operation::Cancel { id, email: text("EmailAddress"), phone: text("PhoneNumber") }
        }
        "AssociateMembers" => Operation::Bind { id, members: parameters.list("Members") },
        "DisassociateMembers" => Operation::Unbind { id, members: parameters.list("Members") },
        "GetResourceDirectory" => Operation::GetDirectory,
        "ListFoldersForParent" => Operation::Folders {
            parent: text("ParentFolderId"),
            filter: parameters.filter(),
            page: parameters.page()?,
        },
        "ListAccounts" => Operation::Accounts {
            filter: parameters.filter(),
            page: parameters.page()?,
            max_results: parameters.number("MaxResults")?,
            next_token: text("NextToken"),
            include_tags: parameters.boolean("IncludeTags", false)?,
        },
        "ListAccountsForParent" => Operation::AccountsIn {
            parent: text("ParentFolderId"),
            filter: parameters.filter(),
            page: parameters.page()?,
            include_tags: parameters.boolean("IncludeTags", false)?,
        },
        _ => return Ok(None),
    }))
}

/// The JSON of a reply.
#[must_use]
pub(crate) fn body(reply: &Reply, directory: &Directory, request_id: &str) -> Value {
    let switches = directory.switches();
    let date = |at| zoneless_date(at, switches.dates);
    let mut body = match reply {
        Reply::Done => json!({}),
        Reply::Added { id, created_at } => {
            json!({"Contact": {"ContactId": id, "CreateDate": date(*created_at)}})
        }
        Reply::Contact(view) => json!({"Contact": contact(view, switches)}),
        Reply::Contacts(page) => {
            let mut body = counts(page);
            let contacts = page.items.iter().map(|view| contact(view, switches));
            body["Contacts"] = contacts.collect();
            body
        }
        Reply::Deletion(status) => json!({"Status": status}),
        Reply::DeletionStatus { id, status, reasons } => {
            let reasons: Vec<_> = reasons
                .iter()
                .map(|reason| {
                    json!({"AccountId": reason.account_id, "MessageTypes": reason.message_types})
                })
                .collect();
            let mut deletion = json!({"ContactId": id, "FailReasonList": reasons});
            if let Some(status) = status {
                deletion["Status"] = json!(status);
            }
            json!({"ContactDeletionStatus": deletion})
        }
        Reply::Verifications(page) => {
            let mut body = counts(page);
            let one = |(id, target): &(String, String)| json!({"ContactId": id, "Target": target});
            body["ContactVerifications"] = page.items.iter().map(one).collect();
            body
        }
        Reply::Members { id, members, at } => {
            let one = |member: &String| json!({"ContactId": id, "MemberId": member, "ModifyDate": date(*at)});
            json!({"Members": members.iter().map(one).collect::<Value>()})
        }
        Reply::Directory => json!({"ResourceDirectory": resource_directory(directory)}),
        Reply::Folders(page) => {
            let mut body = counts(page);
            body["Folders"] = json!({"Folder": page.items.iter().map(folder).collect::<Value>()});
            body
        }
        Reply::Accounts { page, next_token, include_tags, include_paths } => {
            let mut body = counts(page);
            let one = |it: &Account| account(it, directory, *include_tags, *include_paths);
            body["Accounts"] = json!({"Account": page.items.iter().map(one).collect::<Value>()});
            if let Some(token) = next_token {
                body["NextToken"] = json!(token);
            }
            body
        }
    };
    body["RequestId"] = json!(request_id);
    body
}

/// The JSON of a refusal.
///
/// The message repeats what was sent, as the real gateway's may: whoever logs it leaks.
#[must_use]
pub(crate) fn error_body(refusal: &Refusal, host: &str, product: &str, request_id: &str) -> Value {
    let Refusal { code, about, .. } = refusal;
    let mut body = json!({
        "RequestId": request_id,
        "HostId": host,
        "Code": code,
        "Message": format!("The specified parameter or request is not valid: {about}"),
        "Recommend": format!(
            "https://api.aliyun.com/troubleshoot?q={code}&product={product}&requestId={request_id}"
        ),
    });
    if ["NoPermission", "Forbidden.RAM"].contains(&code.as_str()) && product != "Sts" {
        body["AccessDeniedDetail"] = json!({
            "AuthAction": about,
            "AuthPrincipalDisplayName": "simulated",
            "AuthPrincipalOwnerId": crate::MANAGEMENT_ACCOUNT_ID,
            "AuthPrincipalType": "SubUser",
            "NoPermissionType": "ImplicitDeny",
            "PolicyType": "AccountLevelIdentityBasedPolicy",
            "EncodedDiagnosticMessage": "SIMencodedDiagnosticMessage==",
        });
    }
    body
}

fn counts<T>(page: &Page<T>) -> Value {
    json!({"TotalCount": page.total, "PageNumber": page.number, "PageSize": page.size})
}

fn contact(view: &ContactView, switches: &Switches) -> Value {
    let mut contact = json!({
        "ContactId": view.id,
        "Name": view.name,
        "EmailAddress": view.email,
        "Title": view.title,
        "MessageTypes": view.message_types,
        "Members": view.members,
        "Status": view.status,
        "CreateDate": zoneless_date(view.created_at, switches.dates),
    });
    match (&view.phone, switches.absent_phone) {
        (Some(phone), _) => contact["PhoneNumber"] = json!(phone),
        (None, AbsentPhone::Missing) => {}
        (None, AbsentPhone::Null) => contact["PhoneNumber"] = Value::Null,
        (None, AbsentPhone::Empty) => contact["PhoneNumber"] = json!(""),
    }
    if let Some(at) = view.associated_at {
        contact["AssociatedDate"] = json!(zoneless_date(at, switches.dates));
    }
    contact
}

fn resource_directory(directory: &Directory) -> Value {
    let tree = &directory.tree;
    json!({
        "ResourceDirectoryId": tree.directory_id,
        "RootFolderId": tree.root_folder_id,
        "MasterAccountId": tree.management_account_id,
        "MasterAccountName": "owner@example.com",
        "CreateTime": "2026-01-01T00:00:00.123Z",
        "ControlPolicyStatus": "Disabled",
        "MemberDeletionStatus": "Disabled",
        "IdentityInformation": "Example Company Ltd",
        "MemberAccountDisplayNameSyncStatus": "Enabled",
    })
}

fn folder(folder: &Folder) -> Value {
    let mut body = json!({
        "FolderId": folder.id,
        "FolderName": folder.name,
        "CreateTime": "2026-01-01T01:00:00.001Z",
    });
    if !folder.tags.is_empty() {
        body["Tags"] = tags(&folder.tags);
    }
    body
}

fn account(account: &Account, directory: &Directory, with_tags: bool, with_path: bool) -> Value {
    let tree = &directory.tree;
    let mut body = json!({
        "AccountId": account.id,
        "AccountName": format!("{}@{}.example.com", account.name, tree.directory_id),
        "DisplayName": account.name,
        "FolderId": account.folder,
        "ResourceDirectoryId": tree.directory_id,
        "Type": "ResourceAccount",
        "Status": "CreateSuccess",
        "JoinMethod": "created",
        "JoinTime": "2026-01-02T03:04:05.678Z",
        "ModifyTime": "2026-01-02T03:04:05.678Z",
        "DeletionStatus": "",
    });
    if with_path {
        body["ResourceDirectoryPath"] = json!(tree.path(account));
    }
    if with_tags && !account.tags.is_empty() {
        body["Tags"] = tags(&account.tags);
    }
    body
}

fn tags(tags: &[(String, String)]) -> Value {
    let one = |(key, value): &(String, String)| json!({"Key": key, "Value": value});
    json!({"Tag": tags.iter().map(one).collect::<Value>()})
}

/// A parameter as it may be shown: addresses, numbers, names and tokens are masked.
#[must_use]
pub(crate) fn masked(name: &str, value: &str) -> String {
    let first = |text: &str| text.chars().next().map(String::from).unwrap_or_default();
    match name {
        "EmailAddress" => {
            let (local, domain) = value.split_once('@').unwrap_or((value, ""));
            format!("{}***@{domain}", first(local))
        }
        "PhoneNumber" => {
            let kept: String = value.chars().take(6).collect();
            format!("{kept}****")
        }
        "Name" | "QueryKeyword" => format!("{}***", first(value)),
        "OIDCToken" | "ExternalId" | "Policy" | "NextToken" => "***".to_owned(),
        _ => value.to_owned(),
    }
}

/// An object with its pairs, for logs.
#[must_use]
pub(crate) fn masked_parameters(parameters: &Parameters) -> Map<String, Value> {
    let shown = |(name, value): &(String, String)| (name.clone(), json!(masked(name, value)));
    parameters.0.iter().map(shown).collect()
}
