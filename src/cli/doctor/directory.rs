//! What can be seen of one directory with its keys.

use super::{Check, Findings, assumptions};
use crate::cli::cloud::{Failure, Progress, Session, Target};
use crate::clock::Clock;
use crate::domain::access::Endpoint;
use crate::domain::call::{Action, Call, FailureClass};
use crate::domain::contact::ContactId;
use crate::domain::verdict::Reason;

/// Contacts of a directory if nobody has asked for more. Source: limits of the operations.
const CONTACTS_DEFAULT: usize = 20;

/// An id that no contact has: what may be called tells that it is not there.
const NOBODY: &str = "c-0000000000000000";

/// The operations that only writing would show.
const WRITES: &str = "AddMessageContact, UpdateMessageContact, CancelMessageContactUpdate, \
                      SendEmailVerificationForMessageContact, \
                      SendPhoneVerificationForMessageContact, AssociateMembers, \
                      DisassociateMembers, DeleteMessageContact";

/// All checks of a directory, and of the assumptions that it shows something of.
pub(super) async fn look(
    area: &str,
    target: anyhow::Result<Target>,
    progress: &dyn Progress,
) -> Vec<Check> {
    let mut findings = Findings::of(area);
    let target = match target {
        Ok(target) => target,
        Err(problem) => {
            findings.failed("settings", format!("{problem:#}"), "correct what the text names");
            return findings.checks;
        }
    };
    settings(&target, &mut findings);
    let mut session = match Session::begin(&target, Clock::system(), progress) {
        Ok(session) => session,
        Err(failure) => {
            findings.failed("connection", failure.message, "check SSL_CERT_FILE and SSL_CERT_DIR");
            return findings.checks;
        }
    };
    let listed = session.list().await;
    let mut assumed = Vec::new();
    if let Err(failure) = listed {
        not_listed(&failure, &mut findings);
    } else {
        reached(&session, &target, &mut findings);
        let probes = permissions(&session, &mut findings).await;
        quota(&session, &mut findings);
        assumed = assumptions::look(area, &session.snapshot(), &probes);
    }
    session.close().await;
    findings.checks.into_iter().chain(assumed).collect()
}

fn settings(target: &Target, findings: &mut Findings) {
    let endpoint = target.desired.endpoint.as_str();
    let built_in = [Endpoint::CHINA, Endpoint::INTERNATIONAL, Endpoint::VPC].contains(&endpoint);
    if built_in {
        findings.ok("endpoint", format!("{endpoint} is built in"));
    } else if endpoint.starts_with("https://") {
        findings.ok("endpoint", format!("{endpoint} is allowed by --allow-endpoint"));
    } else {
        findings.warning(
            "endpoint",
            format!("{endpoint} is allowed by --allow-endpoint, and is not https"),
            "addresses travel in the open; use it for a simulator only",
        );
    }
    for note in &target.notes {
        findings.warning("credentials", note.clone(), "give the Secret to check its own keys");
    }
}

/// The checks up to the one that failed.
fn not_listed(failure: &Failure, findings: &mut Findings) {
    let Failure { reason, message, .. } = failure;
    let (check, advice) = match reason {
        Reason::ClockSkewed => ("clock", "set this machine's clock, for instance by NTP"),
        Reason::Unauthorized => {
            ("credentials", "correct the access keys, or choose another source")
        }
        Reason::Forbidden => ("permissions", "grant what the text names, and run this again"),
        Reason::NoDirectory => {
            ("identity", "use keys of the management account, or enable the resource directory")
        }
        Reason::DirectoryChanged => ("identity", "correct `directoryId`, or the access keys"),
        _ => ("reachable", "check the name, the network, the proxy (HTTPS_PROXY) and egress rules"),
    };
    if check != "reachable" {
        findings.ok("reachable", "the endpoint answers");
    }
    findings.failed(check, message.clone(), advice);
    findings.skipped("everything else", "it shows only once this is mended");
}

fn reached(session: &Session<'_>, target: &Target, findings: &mut Findings) {
    findings.ok("reachable", "the endpoint answers");
    findings.ok("clock", "signed calls are accepted: it is off by less than 15 minutes");
    findings.ok("credentials", "the access keys are accepted");
    let Some(identity) = session.identity() else { return };
    let (id, account) = (&identity.directory_id, &identity.management_account_id);
    let seen = format!("the keys reach the directory {id} of the management account {account}");
    if target.desired.pin.is_some() {
        findings.ok("identity", format!("{seen}, which is pinned"));
    } else {
        let advice = format!("write `directoryId: {id}`, so that other keys never write elsewhere");
        findings.warning("identity", format!("{seen}, which is not pinned"), advice);
    }
}

/// What single calls have told that assumptions are about.
#[derive(Debug, Default)]
pub(super) struct Probes {
    /// The deletion of a contact that is there and is not being deleted was asked for: whether there
    /// was an answer (A31).
    pub(super) deletion_of_active: Option<bool>,
    /// The same of a contact that is not there: whether it was called not there (A6).
    pub(super) deletion_of_nobody: Option<bool>,
}

/// Each operation that reads, called once. The list has been called already.
async fn permissions(session: &Session<'_>, findings: &mut Findings) -> Probes {
    let snapshot = session.snapshot();
    let known = snapshot.contacts().next().map(|contact| contact.id.clone());
    let id = known.clone().unwrap_or_else(|| ContactId::from(NOBODY));
    for action in [Action::GetResourceDirectory, Action::ListMessageContacts] {
        findings.ok("permissions", format!("{action} is allowed"));
    }
    let calls = [
        Call::GetMessageContact(id.clone()),
        Call::ListMessageContactVerifications { id: id.clone(), page: 1 },
        Call::GetMessageContactDeletionStatus(id),
        Call::ListAccounts { page: 1 },
    ];
    let mut probes = Probes::default();
    for call in calls {
        let action = call.action();
        let told = session.read(call).await;
        if action == Action::GetMessageContactDeletionStatus && known.is_some() {
            probes.deletion_of_active = match &told {
                Ok(_) => Some(true),
                Err(failure) if is_absence(failure) => Some(false),
                Err(_) => None,
            };
        }
        permission(action, told.err(), findings);
    }
    for contact in snapshot.contacts() {
        // What waits is asked for: that cannot be seen in a list.
        let call = Call::ListMessageContactVerifications { id: contact.id.clone(), page: 1 };
        let _ = session.read(call).await;
    }
    let call = Call::GetMessageContactDeletionStatus(ContactId::from(NOBODY));
    probes.deletion_of_nobody = match session.read(call).await {
        Ok(_) => Some(false),
        Err(failure) if is_absence(&failure) => Some(true),
        Err(_) => None,
    };
    let seen = format!("{WRITES} are not tried: only writing would show whether they are allowed");
    findings.skipped("permissions", seen);
    probes
}

fn is_absence(failure: &Failure) -> bool {
    matches!(failure.class, Some(FailureClass::ContactNotFound | FailureClass::NotFound))
}

fn permission(action: Action, failure: Option<Failure>, findings: &mut Findings) {
    match failure {
        None => findings.ok("permissions", format!("{action} is allowed")),
        Some(failure) if is_absence(&failure) => {
            findings
                .ok("permissions", format!("{action} is allowed: it says that it is not there"));
        }
        Some(failure) if failure.reason == Reason::Forbidden => {
            let advice = format!("grant resourcemanager:{action} to this identity");
            if action == Action::ListAccounts {
                let seen = format!(
                    "{action} is not allowed; policies whose coverage names members, \
                                    and `report`, need it"
                );
                findings.warning("permissions", seen, advice);
            } else {
                findings.failed("permissions", format!("{action} is not allowed"), advice);
            }
        }
        Some(failure) => {
            findings.warning("permissions", failure.message, "run this again");
        }
    }
}

fn quota(session: &Session<'_>, findings: &mut Findings) {
    let count = session.snapshot().contacts().len();
    let seen = format!(
        "{count} contacts; a directory holds {CONTACTS_DEFAULT} unless more were asked for"
    );
    if count < CONTACTS_DEFAULT {
        findings.ok("quota", seen);
    } else {
        let advice = "ask for more in the quota centre before the next contact is created";
        findings.warning("quota", seen, advice);
    }
}
