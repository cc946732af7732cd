//! The life of contacts, under the assumed answers and under the others.

use super::script::{check, check_default};
use crate::switches::*;

#[test]
fn a_new_contact_is_verifying_until_its_mail_is_confirmed() {
    check_default(
        r#"
        new zhang z@example.com 86-13800138000
        Get ContactId=$zhang -> /Contact/Status "Verifying"; /Contact/EmailAddress "z@example.com"
        ListVer ContactId=$zhang -> /TotalCount 2; /ContactVerifications/0/Target "z@example.com"
        ! unsent z@example.com
        SendEmail ContactId=$zhang EmailAddress=z@example.com
        ! confirm z@example.com
        Get ContactId=$zhang -> /Contact/Status "Active"
        ListVer ContactId=$zhang -> /TotalCount 1; /ContactVerifications/0/Target "86-13800138000"
        SendEmail ContactId=$zhang EmailAddress=z@example.com -> 404 EntityNotExists.Contact.Verification
        "#,
    );
}

#[test]
fn a_contact_may_have_to_confirm_all_its_channels_to_be_active() {
    check(
        |s| s.active_when = ActiveWhen::AllConfirmed,
        r#"
        new zhang z@example.com 86-13800138000
        SendEmail ContactId=$zhang EmailAddress=z@example.com
        ! confirm z@example.com
        Get ContactId=$zhang -> /Contact/Status "Verifying"
        SendPhone ContactId=$zhang PhoneNumber=86-13800138000
        ! confirm 86-13800138000
        Get ContactId=$zhang -> /Contact/Status "Active"
        new li l@example.com
        SendEmail ContactId=$li EmailAddress=l@example.com
        ! confirm l@example.com
        Get ContactId=$li -> /Contact/Status "Active"
        "#,
    );
}

#[test]
fn a_confirmed_phone_alone_does_not_make_a_contact_active() {
    check_default(
        r#"
        new zhang z@example.com 86-13800138000
        SendPhone ContactId=$zhang PhoneNumber=86-13800138000
        ! confirm 86-13800138000
        Get ContactId=$zhang -> /Contact/Status "Verifying"
        "#,
    );
}

const CHANGING: &str = "
    new zhang z@example.com
    SendEmail ContactId=$zhang EmailAddress=z@example.com
    ! confirm z@example.com
    Update ContactId=$zhang EmailAddress=y@example.com
";

#[test]
fn a_changed_address_waits_beside_the_old_one() {
    check_default(&format!(
        r#"{CHANGING}
        Get ContactId=$zhang -> /Contact/EmailAddress "z@example.com"; /Contact/Status "Active"
        ListVer ContactId=$zhang -> /ContactVerifications/0/Target "y@example.com"
        SendEmail ContactId=$zhang EmailAddress=z@example.com -> 404 EntityNotExists.Contact.Verification
        SendEmail ContactId=$zhang EmailAddress=y@example.com
        ! confirm y@example.com
        Get ContactId=$zhang -> /Contact/EmailAddress "y@example.com"
        ListVer ContactId=$zhang -> /TotalCount 0
        "#
    ));
}

#[test]
fn a_changed_address_may_be_shown_before_it_is_confirmed() {
    check(
        |s| s.shown_while_pending = Shown::Pending,
        &format!(r#"{CHANGING} Get ContactId=$zhang -> /Contact/EmailAddress "y@example.com""#),
    );
}

#[test]
fn a_contact_may_be_verifying_while_a_change_is_pending() {
    check(
        |s| s.status_while_pending = StatusWhilePending::Verifying,
        &format!(
            r#"{CHANGING}
            Get ContactId=$zhang -> /Contact/Status "Verifying"
            SendEmail ContactId=$zhang EmailAddress=y@example.com
            ! confirm y@example.com
            Get ContactId=$zhang -> /Contact/Status "Active"
            "#
        ),
    );
}

#[test]
fn an_address_that_was_never_confirmed_is_replaced_at_once() {
    check_default(
        r#"
        new zhang z@example.com
        SendEmail ContactId=$zhang EmailAddress=z@example.com
        Update ContactId=$zhang EmailAddress=y@example.com
        Get ContactId=$zhang -> /Contact/EmailAddress "y@example.com"
        ! dead z@example.com
        ListVer ContactId=$zhang -> /TotalCount 1; /ContactVerifications/0/Target "y@example.com"
        "#,
    );
}

const UNCHANGED: &str = "
    new zhang z@example.com
    SendEmail ContactId=$zhang EmailAddress=z@example.com
    ! confirm z@example.com
    Update ContactId=$zhang Name=zhang EmailAddress=z@example.com
";

#[test]
fn an_unchanged_address_is_not_verified_again() {
    check_default(&format!("{UNCHANGED} ListVer ContactId=$zhang -> /TotalCount 0"));
}

#[test]
fn an_unchanged_address_may_be_verified_again() {
    check(
        |s| s.same_value = SameValue::ReVerify,
        &format!("{UNCHANGED} ListVer ContactId=$zhang -> /TotalCount 1"),
    );
}

#[test]
fn going_back_to_the_effective_address_leaves_the_pending_one() {
    check_default(&format!(
        "{CHANGING}
        Update ContactId=$zhang EmailAddress=z@example.com
        ListVer ContactId=$zhang -> /ContactVerifications/0/Target \"y@example.com\"
        "
    ));
}

const EMPTY_PHONE: &str = "
    new zhang z@example.com 86-13800138000
    Update ContactId=$zhang PhoneNumber=";

#[test]
fn an_empty_phone_number_is_refused_cleared_or_ignored() {
    check_default(&format!("{EMPTY_PHONE} -> 400 InvalidParameter.PhoneNumber"));
    check(
        |s| s.empty_phone = EmptyPhone::Clear,
        &format!("{EMPTY_PHONE}\n Get ContactId=$zhang -> /Contact/PhoneNumber null"),
    );
    check(
        |s| s.empty_phone = EmptyPhone::Ignore,
        &format!("{EMPTY_PHONE}\n Get ContactId=$zhang -> /Contact/PhoneNumber \"86-13800138000\""),
    );
}

#[test]
fn fields_left_out_keep_their_value() {
    let script = r#"
        new zhang z@example.com 86-13800138000
        Update ContactId=$zhang Title=CEO
        Get ContactId=$zhang -> /Contact/Name "zhang"; /Contact/EmailAddress "z@example.com"; /Contact/Title "CEO"; /Contact/MessageTypes ["SecurityMessage"]; /Contact/PhoneNumber "#;
    check_default(&format!("{script}\"86-13800138000\""));
    let clear = |s: &mut Switches| s.update_without_phone = UpdateWithoutPhone::Clear;
    check(clear, &format!("{script}null"));
}

#[test]
fn message_types_are_replaced_as_a_whole_and_keep_their_order() {
    check_default(
        r#"
        new zhang z@example.com
        Update ContactId=$zhang MessageTypes.1=ProductMessage MessageTypes.2=FaultMessage
        Get ContactId=$zhang -> /Contact/MessageTypes ["ProductMessage", "FaultMessage"]
        "#,
    );
}

#[test]
fn repeated_message_types_are_kept_once_or_refused() {
    let script = "
        new zhang z@example.com
        Update ContactId=$zhang MessageTypes.1=FaultMessage MessageTypes.2=FaultMessage";
    let kept = "Get ContactId=$zhang -> /Contact/MessageTypes [\"FaultMessage\"]";
    check_default(&format!("{script}\n{kept}"));
    check(
        |s| s.repeated_types = RepeatedTypes::Reject,
        &format!("{script} -> 400 InvalidParameter.MessageTypes"),
    );
}

#[test]
fn a_pending_change_can_be_dropped_only_beside_a_confirmed_value() {
    check_default(&format!(
        "{CHANGING}
        Cancel ContactId=$zhang EmailAddress=z@example.com -> 400 ContactStatusMismatchAction
        Cancel ContactId=$zhang -> 400 ContactStatusMismatchAction
        Cancel ContactId=$zhang EmailAddress=y@example.com
        ListVer ContactId=$zhang -> /TotalCount 0
        new li l@example.com
        Cancel ContactId=$li EmailAddress=l@example.com -> 400 ContactStatusMismatchAction
        "
    ));
    check(
        |s| s.cancel_of_nothing = Leniency::Ok,
        "
        new li l@example.com
        Cancel ContactId=$li EmailAddress=l@example.com
        ListVer ContactId=$li -> /TotalCount 1
        ",
    );
}

const SENT: &str = "
    new zhang z@example.com
    SendEmail ContactId=$zhang EmailAddress=z@example.com
";

#[test]
fn a_link_dies_after_a_day_and_a_new_message_works() {
    check_default(&format!(
        "{SENT}
        ! wait 86399
        ! wait 1
        ! dead z@example.com
        ListVer ContactId=$zhang -> /TotalCount 1
        SendEmail ContactId=$zhang EmailAddress=z@example.com
        ! confirm z@example.com
        "
    ));
    let never = |s: &mut Switches| s.link_seconds = LinkSeconds(None);
    check(never, &format!("{SENT}\n ! wait 8640000\n ! confirm z@example.com"));
    let short = |s: &mut Switches| s.link_seconds = LinkSeconds(Some(60));
    check(short, &format!("{SENT}\n ! wait 59\n ! confirm z@example.com"));
    check(short, &format!("{SENT}\n ! wait 60\n ! dead z@example.com"));
}

#[test]
fn a_link_can_be_made_to_expire() {
    check_default(&format!("{SENT}\n ! expire z@example.com\n ! dead z@example.com"));
}

#[test]
fn a_pending_value_may_be_listed_only_once_a_message_was_sent() {
    check(
        |s| s.pending_listed = PendingListed::AfterFirstSend,
        "
        new zhang z@example.com
        ListVer ContactId=$zhang -> /TotalCount 0
        SendEmail ContactId=$zhang EmailAddress=z@example.com
        ListVer ContactId=$zhang -> /TotalCount 1
        ",
    );
}

#[test]
fn verifications_need_a_contact_id_or_list_those_of_all() {
    let two = "
        new zhang z@example.com
        new li l@example.com
        ListVer";
    check_default(&format!("{two} -> 400 MissingParameter.ContactId"));
    let all = |s: &mut Switches| s.verifications_without_contact = VerificationsWithoutContact::All;
    check(all, &format!("{two} -> /TotalCount 2"));
}

#[test]
fn sends_have_a_daily_and_a_minutely_limit() {
    check_default(&format!(
        "{SENT}
        ! sends per-minute 2
        SendEmail ContactId=$zhang EmailAddress=z@example.com
        SendEmail ContactId=$zhang EmailAddress=z@example.com -> 409 SendValidateCodeExceedsLimitForAccount
        ! wait 60
        SendEmail ContactId=$zhang EmailAddress=z@example.com
        ! sends per-day 3
        ! wait 60
        SendEmail ContactId=$zhang EmailAddress=z@example.com -> 409 SendValidateCodeExceedsLimitForAccount
        "
    ));
}

#[test]
fn the_day_of_the_sends_begins_at_midnight_somewhere() {
    // 01:00 UTC is 09:00 in UTC+8: that day ends in 15 hours, the day of UTC in 23.
    let after = |hours: u32, outcome: &str| {
        format!(
            "{SENT}\n ! sends per-day 1\n ! wait {}
            SendEmail ContactId=$zhang EmailAddress=z@example.com -> {outcome}",
            hours * 3600
        )
    };
    let refused = "409 SendValidateCodeExceedsLimitForAccount";
    check_default(&after(14, refused));
    check_default(&after(15, "OK"));
    check(|s| s.send_day = SendDay::Utc, &after(22, refused));
    check(|s| s.send_day = SendDay::Utc, &after(23, "OK"));
    check(|s| s.send_day = SendDay::Rolling, &after(23, refused));
    check(|s| s.send_day = SendDay::Rolling, &after(24, "OK"));
}

#[test]
fn text_messages_count_apart_together_or_not_at_all() {
    let script = |mails: &str, texts: &str| {
        format!(
            "
            new zhang z@example.com 86-13800138000
            ! sends per-day 1
            SendPhone ContactId=$zhang PhoneNumber=86-13800138000
            SendEmail ContactId=$zhang EmailAddress=z@example.com -> {mails}
            SendPhone ContactId=$zhang PhoneNumber=86-13800138000 -> {texts}
            "
        )
    };
    let refused = "409 SendValidateCodeExceedsLimitForAccount";
    check_default(&script("OK", refused));
    check(|s| s.phone_limits = PhoneLimits::Shared, &script(refused, refused));
    check(|s| s.phone_limits = PhoneLimits::None, &script("OK", "OK"));
}

#[test]
fn a_name_is_unique_exactly_or_whatever_its_case() {
    let script = "
        new zhang z@example.com
        new zhang y@example.com -> 400 InvalidParameter.Name.AlreadyUsed
        new li l@example.com
        Update ContactId=$li Name=zhang -> 400 InvalidParameter.Name.AlreadyUsed
        Update ContactId=$zhang Name=zhang
        new Zhang x@example.com";
    check_default(script);
    check(
        |s| s.name_case = NameCase::Insensitive,
        &format!("{script} -> 400 InvalidParameter.Name.AlreadyUsed"),
    );
}

#[test]
fn each_field_has_its_shape() {
    let script = |parameter: &str, code: &str| {
        format!("new zhang z@example.com\n Update ContactId=$zhang {parameter} -> {code}")
    };
    for (parameter, code) in [
        ("Name=a", "400 InvalidParameter.Name.Length"),
        ("Name=abcdefghijklm", "400 InvalidParameter.Name.Length"),
        ("Name=abcdefghijkl", "OK"),
        ("Name=李雷", "OK"),
        ("Name=李lei", "OK"),
        ("Name=ab1", "400 InvalidParameter.Name"),
        ("Name=a-b", "400 InvalidParameter.Name"),
        ("Name=été", "400 InvalidParameter.Name"),
        ("EmailAddress=nobody", "400 InvalidParameter.EmailAddress"),
        ("EmailAddress=@example.com", "400 InvalidParameter.EmailAddress"),
        ("EmailAddress=a@b@example.com", "400 InvalidParameter.EmailAddress"),
        ("EmailAddress=", "400 InvalidParameter.EmailAddress"),
        ("PhoneNumber=13800138000", "400 InvalidParameter.PhoneNumber"),
        ("PhoneNumber=86-23800138000", "400 InvalidParameter.PhoneNumber"),
        ("PhoneNumber=86-1380013800", "400 InvalidParameter.PhoneNumber"),
        ("PhoneNumber=49-15112345678", "400 InvalidParameter.MobileCountryCode"),
        ("PhoneNumber=86-13800138001", "OK"),
        ("Title=Boss", "400 InvalidParameter.Title"),
        ("Title=FinanceDirector", "OK"),
        ("MessageTypes.1=Gossip", "400 InvalidParameter.MessageTypes"),
    ] {
        check_default(&script(parameter, code));
    }
    let long = format!("EmailAddress={}@example.com", "a".repeat(243));
    check_default(&script(&long, "400 InvalidParameter.EmailAddress.Length"));
    check(
        |s| s.name_letters = NameLetters::LatinOnly,
        &script("Name=李雷", "400 InvalidParameter.Name"),
    );
}

#[test]
fn mail_addresses_keep_their_case_or_lose_it() {
    let script = "
        new zhang Zhang@Example.com
        SendEmail ContactId=$zhang EmailAddress=Zhang@Example.com
        Get ContactId=$zhang -> /Contact/EmailAddress";
    check_default(&format!("{script} \"Zhang@Example.com\""));
    check(|s| s.email_case = EmailCase::Lower, &format!("{script} \"zhang@example.com\""));
}

#[test]
fn the_directory_is_full_at_its_quota() {
    check_default(
        "
        ! contacts 1
        new zhang z@example.com
        new li l@example.com -> 400 LimitExceeded.Contacts
        Delete ContactId=$zhang
        new li l@example.com
        ",
    );
}

#[test]
fn adding_needs_all_but_the_phone() {
    let script =
        "Add Name=zhang EmailAddress=z@example.com Title=Other MessageTypes.1=FaultMessage";
    check_default(script);
    check(
        |s| s.add_without_phone = AddWithoutPhone::Missing,
        &format!("{script} -> 400 MissingParameter.PhoneNumber"),
    );
    check_default(
        "
        Add EmailAddress=z Title=Boss -> 400 MissingParameter.Name
        Add Name=1 Title=Boss -> 400 MissingParameter.EmailAddress
        Add Name=1 EmailAddress=z -> 400 MissingParameter.Title
        Add Name=1 EmailAddress=z Title=Boss -> 400 MissingParameter.MessageTypes
        ",
    );
}

#[test]
fn errors_come_field_by_field_then_existence_then_state_then_the_name() {
    check_default(
        "
        new zhang z@example.com
        Update Name=1 -> 400 MissingParameter.ContactId
        Update ContactId=c-1 Name=1 -> 400 InvalidParameter.ContactId
        Update ContactId=c-0000000000000000 Name=1 EmailAddress=z -> 400 InvalidParameter.Name
        Update ContactId=c-0000000000000000 EmailAddress=z PhoneNumber=1 -> 400 InvalidParameter.EmailAddress
        Update ContactId=c-0000000000000000 PhoneNumber=1 Title=Boss -> 400 InvalidParameter.PhoneNumber
        Update ContactId=c-0000000000000000 Title=Boss MessageTypes.1=x -> 400 InvalidParameter.Title
        Update ContactId=c-0000000000000000 MessageTypes.1=x -> 400 InvalidParameter.MessageTypes
        Update ContactId=c-0000000000000000 Name=zhang -> 404 EntityNotExists.Contact
        new li l@example.com
        Bind ContactId=$li Members.1=rd-sim001
        Delete ContactId=$li RetainContactInMembers=false -> /Status \"Deleting\"
        Update ContactId=$li Name=zhang -> 400 ContactStatusMismatchAction
        ! contacts 2
        new zhang y@example.com -> 400 InvalidParameter.Name.AlreadyUsed
        ",
    );
    check(
        |s| s.error_order = ErrorOrder::EntityFirst,
        "
        Update Name=1 -> 400 MissingParameter.ContactId
        Update ContactId=c-0000000000000000 Name=1 -> 404 EntityNotExists.Contact
        Bind ContactId=c-0000000000000000 Members.1=x -> 404 EntityNotExists.Contact
        new zhang z@example.com
        Update ContactId=$zhang Name=1 -> 400 InvalidParameter.Name
        ",
    );
}

#[test]
fn every_operation_on_a_contact_needs_an_id_that_exists() {
    for call in [
        "Update Name=zhang",
        "Get",
        "Delete",
        "DelStatus",
        "SendEmail EmailAddress=z@example.com",
        "SendPhone PhoneNumber=86-13800138000",
        "ListVer",
        "Cancel EmailAddress=z@example.com",
        "Bind Members.1=rd-sim001",
        "Unbind Members.1=rd-sim001",
    ] {
        check_default(&format!(
            "{call} -> 400 MissingParameter.ContactId
            {call} ContactId=x -> 400 InvalidParameter.ContactId
            {call} ContactId=c-0000000000000000 -> 404 EntityNotExists.Contact"
        ));
    }
    check_default("SendEmail ContactId=c-0000000000000000 -> 400 MissingParameter.EmailAddress");
    check_default("SendPhone ContactId=c-0000000000000000 -> 400 MissingParameter.PhoneNumber");
}

#[test]
fn members_are_bound_and_unbound() {
    check_default(
        r#"
        new zhang z@example.com
        List ContactId=$zhang -> /Contacts/0/AssociatedDate null
        Bind ContactId=$zhang Members.1=rd-sim001 Members.2=fd-sim0000001 Members.3=2000000000000001 -> /Members/2/MemberId "2000000000000001"; /Members/0/ModifyDate "2026-01-10 09:00:00"
        Get ContactId=$zhang -> /Contact/Members ["rd-sim001", "fd-sim0000001", "2000000000000001"]; /Contact/AssociatedDate null
        List -> /Contacts/0/AssociatedDate "2026-01-10 09:00:00"
        Unbind ContactId=$zhang Members.1=rd-sim001 Members.2=fd-sim0000001
        Get ContactId=$zhang -> /Contact/Members ["2000000000000001"]
        "#,
    );
}

#[test]
fn members_that_cannot_be_bound_are_refused() {
    check_default(
        "
        new zhang z@example.com
        Bind ContactId=$zhang -> 400 InvalidParameter.Members
        Bind ContactId=$zhang Members.1=nobody -> 400 InvalidParameter.Members
        Bind ContactId=$zhang Members.1=rd-sim001 Members.2=rd-sim001 -> 400 InvalidParameter.Members.Duplicate
        Bind ContactId=$zhang Members.1=rd-other1 -> 400 InvalidMember
        Bind ContactId=$zhang Members.1=2999999999999999 -> 400 InvalidMember
        Unbind ContactId=$zhang Members.1=2999999999999999 -> 400 InvalidMember
        Unbind ContactId=$zhang Members.1=a Members.2=b Members.3=c Members.4=d Members.5=e Members.6=f -> 400 InvalidParameter.Members.Length
        Bind ContactId=$zhang Members.1=rd-sim001 Members.2=r-sim001 Members.3=fd-sim0000001 Members.4=fd-sim0000002 Members.5=fd-sim0000003
        Bind ContactId=$zhang Members.1=2000000000000001 Members.2=2000000000000002 Members.3=2000000000000003 Members.4=2000000000000004 Members.5=2000000000000005
        Get ContactId=$zhang -> /Contact/Members/9 \"2000000000000005\"
        ",
    );
}

#[test]
fn a_contact_has_ten_members_at_most() {
    let mut stage = super::script::Stage::new(Switches::default());
    stage.directory.quotas.members_per_contact = 1;
    let (_, body) = stage.call("new zhang z@example.com");
    let id = body["Contact"]["ContactId"].as_str().expect("an id").to_owned();
    let (status, _) = stage.call(&format!("Bind ContactId={id} Members.1=rd-sim001"));
    assert_eq!(status, 200);
    let (_, body) = stage.call(&format!("Bind ContactId={id} Members.1=r-sim001"));
    assert_eq!(body["Code"], "LimitExceeded.ContactMembers");
    let (status, _) = stage.call(&format!("Bind ContactId={id} Members.1=rd-sim001"));
    assert_eq!(status, 200, "a member that is there already takes no place");
}

#[test]
fn binding_twice_is_harmless_or_refused() {
    let script = |outcome: &str| {
        format!(
            "
            new zhang z@example.com
            Bind ContactId=$zhang Members.1=rd-sim001
            Bind ContactId=$zhang Members.1=rd-sim001 -> {outcome}
            Unbind ContactId=$zhang Members.1=r-sim001 -> {outcome}
            Get ContactId=$zhang -> /Contact/Members [\"rd-sim001\"]
            "
        )
    };
    check_default(&script("OK"));
    check(
        |s| s.bind_again = BindAgain::Duplicate,
        &script("400 InvalidParameter.Members.Duplicate"),
    );
}

#[test]
fn a_contact_that_is_verifying_can_be_bound_or_not() {
    let script = "
        new zhang z@example.com
        Bind ContactId=$zhang Members.1=rd-sim001";
    check_default(script);
    check(
        |s| s.bind_while_verifying = Tolerance::Reject,
        &format!("{script} -> 400 ContactStatusMismatchAction"),
    );
}

#[test]
fn members_are_listed_directly_or_with_all_below() {
    let script = "
        new zhang z@example.com
        Bind ContactId=$zhang Members.1=fd-sim0000001
        Get ContactId=$zhang -> /Contact/Members";
    check_default(&format!("{script} [\"fd-sim0000001\"]"));
    check(
        |s| s.members_shown = Members::Inherited,
        &format!(
            r#"{script} ["fd-sim0000001","fd-sim0000003","2000000000000001","2000000000000002","2000000000000003"]"#
        ),
    );
}

#[test]
fn the_list_is_filtered_by_contact_and_member() {
    let script = |inherited: usize| {
        format!(
            "
            new zhang z@example.com
            new li l@example.com
            Bind ContactId=$zhang Members.1=fd-sim0000001
            List -> /TotalCount 2
            List ContactId=$li -> /TotalCount 1; /Contacts/0/Name \"li\"
            List Member=fd-sim0000001 -> /TotalCount 1
            List Member=2000000000000003 -> /TotalCount {inherited}
            List Member=2000000000000004 -> /TotalCount 0
            List Member=x -> 400 InvalidParameter.Member
            List Member=2999999999999999 -> 404 EntityNotExists.Member
            List ContactId=x -> 400 InvalidParameter.ContactId
            List ContactId=c-0000000000000000 -> 404 EntityNotExists.Contact
            "
        )
    };
    check_default(&script(0));
    check(|s| s.member_filter = Members::Inherited, &script(1));
}

#[test]
fn lists_come_in_pages() {
    check_default(
        "
        new aa a@example.com
        new bb b@example.com
        new cc c@example.com
        List -> /PageNumber 1; /PageSize 10; /TotalCount 3
        List PageSize=2 PageNumber=2 -> /Contacts/0/Name \"cc\"; /PageSize 2; /PageNumber 2
        List PageSize=2 PageNumber=3 -> /Contacts []
        List PageSize=101 -> 400 InvalidParameter.PageSize
        List PageSize=0 -> 400 InvalidParameter.PageSize
        List PageNumber=0 -> 400 InvalidParameter.PageNumber
        List PageSize=many -> 400 InvalidParameter.PageSize
        ListVer ContactId=$aa PageSize=101 -> 400 InvalidParameter.PageSize
        ",
    );
    check(
        |s| s.page_size = PageSize::Clamp,
        "
        List PageSize=101 -> /PageSize 100
        List PageSize=0 PageNumber=0 -> /PageSize 1; /PageNumber 1
        ",
    );
}

const BOUND: &str = "
    new zhang z@example.com
    Bind ContactId=$zhang Members.1=rd-sim001
";

#[test]
fn a_deletion_that_leaves_the_members_alone_is_done_at_once() {
    check_default(&format!(
        "{BOUND}
        Delete ContactId=$zhang -> /Status \"Deleted\"
        Get ContactId=$zhang -> 404 EntityNotExists.Contact
        Delete ContactId=$zhang -> 404 EntityNotExists.Contact
        "
    ));
}

#[test]
fn a_deletion_from_the_members_runs_in_the_background() {
    check_default(&format!(
        "{BOUND}
        DelStatus ContactId=$zhang -> /ContactDeletionStatus/Status null; /ContactDeletionStatus/FailReasonList []
        Delete ContactId=$zhang RetainContactInMembers=False -> /Status \"Deleting\"
        Get ContactId=$zhang -> /Contact/Status \"Deleting\"
        DelStatus ContactId=$zhang -> /ContactDeletionStatus/Status \"Deleting\"
        Delete ContactId=$zhang RetainContactInMembers=false -> /Status \"Deleting\"
        Update ContactId=$zhang Title=CEO -> 400 ContactStatusMismatchAction
        Cancel ContactId=$zhang EmailAddress=z@example.com -> 400 ContactStatusMismatchAction
        Bind ContactId=$zhang Members.1=r-sim001 -> 400 ContactStatusMismatchAction
        Unbind ContactId=$zhang Members.1=rd-sim001 -> 400 ContactStatusMismatchAction
        ! wait 1
        DelStatus ContactId=$zhang -> 404 EntityNotExists.Contact
        Get ContactId=$zhang -> 404 EntityNotExists.Contact
        new zhang z@example.com
        "
    ));
}

#[test]
fn a_contact_bound_to_nothing_is_deleted_at_once_or_in_the_background() {
    let script = "
        new zhang z@example.com
        Delete ContactId=$zhang RetainContactInMembers=false -> /Status";
    check_default(&format!("{script} \"Deleted\""));
    check(
        |s| s.delete_unbound = DeleteUnbound::Deleting,
        &format!("{script} \"Deleting\"\n Delete ContactId=$zhang -> /Status \"Deleting\""),
    );
}

#[test]
fn writes_to_a_contact_that_is_being_deleted_may_be_let_through() {
    check(
        |s| s.write_while_deleting = Leniency::Ok,
        &format!(
            "{BOUND}
            Delete ContactId=$zhang RetainContactInMembers=false
            Update ContactId=$zhang Title=CEO
            "
        ),
    );
}

const FAILED: &str = "
    new zhang z@example.com
    SendEmail ContactId=$zhang EmailAddress=z@example.com
    ! confirm z@example.com
    Bind ContactId=$zhang Members.1=rd-sim001
    ! deletions fail 2000000000000001
    Delete ContactId=$zhang RetainContactInMembers=false
    ! wait 1
    DelStatus ContactId=$zhang -> /ContactDeletionStatus/Status \"Failed\"; /ContactDeletionStatus/FailReasonList/0/AccountId \"2000000000000001\"; /ContactDeletionStatus/FailReasonList/0/MessageTypes [\"SecurityMessage\"]
";

#[test]
fn a_failed_deletion_names_the_members_and_can_be_tried_again() {
    check_default(&format!(
        "{FAILED}
        Get ContactId=$zhang -> /Contact/Status \"Active\"
        Update ContactId=$zhang Title=CEO
        Delete ContactId=$zhang RetainContactInMembers=false -> /Status \"Deleting\"
        ! wait 1
        DelStatus ContactId=$zhang -> 404 EntityNotExists.Contact
        "
    ));
    check(
        |s| s.after_failed_deletion = AfterFailedDeletion::Deleting,
        &format!(
            "{FAILED}
            Get ContactId=$zhang -> /Contact/Status \"Deleting\"
            Update ContactId=$zhang Title=CEO -> 400 ContactStatusMismatchAction
            Delete ContactId=$zhang RetainContactInMembers=false -> /Status \"Deleting\"
            ! wait 1
            Get ContactId=$zhang -> 404 EntityNotExists.Contact
            "
        ),
    );
}

#[test]
fn the_deletion_status_knows_other_words_for_nothing_and_for_the_end() {
    check(
        |s| s.deletion_status_without_deletion = DeletionStatusWithoutDeletion::NotFound,
        "new zhang z@example.com\n DelStatus ContactId=$zhang -> 404 EntityNotExists.Contact",
    );
    check(
        |s| s.deletion_end = DeletionEnd::EmptyStatus,
        "
        new zhang z@example.com
        Delete ContactId=$zhang
        DelStatus ContactId=$zhang -> /ContactDeletionStatus/Status null; /ContactDeletionStatus/FailReasonList []
        Get ContactId=$zhang -> 404 EntityNotExists.Contact
        DelStatus ContactId=c-0000000000000000 -> 404 EntityNotExists.Contact
        ",
    );
}

#[test]
fn reads_may_lag_behind_writes() {
    check(
        |s| s.list_lag_ms = 2000,
        "
        new zhang z@example.com
        List -> /TotalCount 0
        ListVer ContactId=$zhang -> 404 EntityNotExists.Contact
        Get ContactId=$zhang
        new zhang z@example.com -> 400 InvalidParameter.Name.AlreadyUsed
        ! wait 1
        List -> /TotalCount 0
        Update ContactId=$zhang Name=zhao
        ! wait 1
        List -> /TotalCount 1; /Contacts/0/Name \"zhang\"
        ! wait 1
        List -> /Contacts/0/Name \"zhao\"
        Delete ContactId=$zhang
        List -> /TotalCount 1
        ! wait 2
        List -> /TotalCount 0
        ",
    );
    check(
        |s| s.get_lag_ms = 2000,
        "
        new zhang z@example.com
        List -> /TotalCount 1
        Get ContactId=$zhang -> 404 EntityNotExists.Contact
        ! wait 2
        Get ContactId=$zhang
        ",
    );
}

#[test]
fn dates_are_in_one_zone_or_another_and_do_not_say() {
    let script = "new zhang z@example.com\n Get ContactId=$zhang -> /Contact/CreateDate";
    check_default(&format!("{script} \"2026-01-10 09:00:00\""));
    check(|s| s.dates = Zone::Utc, &format!("{script} \"2026-01-10 01:00:00\""));
}

#[test]
fn an_absent_phone_number_looks_one_of_three_ways() {
    let has_phone = |phone: AbsentPhone| {
        let switches = Switches { absent_phone: phone, ..Switches::default() };
        let mut stage = super::script::Stage::new(switches);
        stage.call("new zhang z@example.com");
        let (_, body) = stage.call("List");
        body["Contacts"][0].get("PhoneNumber").cloned()
    };
    assert_eq!(has_phone(AbsentPhone::Missing), None);
    assert_eq!(has_phone(AbsentPhone::Null), Some(serde_json::Value::Null));
    assert_eq!(has_phone(AbsentPhone::Empty), Some("".into()));
}

#[test]
fn folders_and_accounts_are_listed_level_by_level() {
    check_default(
        r#"
        GetRD -> /ResourceDirectory/ResourceDirectoryId "rd-sim001"; /ResourceDirectory/MasterAccountId "1000000000000001"
        Folders -> /TotalCount 2; /Folders/Folder/0/FolderId "fd-sim0000001"
        Folders ParentFolderId= -> /TotalCount 2
        Folders ParentFolderId=fd-sim0000001 -> /Folders/Folder/0/FolderName "Payments"
        Folders QueryKeyword=sand -> /TotalCount 1
        Folders Tag.1.Key=team Tag.1.Value=sandbox -> /TotalCount 1
        Folders ParentFolderId=x -> 400 InvalidParameter.ParentFolderId
        Folders ParentFolderId=fd-0000000000 -> 404 EntityNotExists.Folder
        AccountsIn ParentFolderId=fd-sim0000001 -> /TotalCount 2; /Accounts/Account/0/AccountId "2000000000000001"; /Accounts/Account/0/Tags null; /Accounts/Account/0/ResourceDirectoryPath null
        AccountsIn ParentFolderId=fd-sim0000001 IncludeTags=True -> /Accounts/Account/0/Tags/Tag/0/Key "env"
        Accounts -> /TotalCount 5; /Accounts/Account/2/ResourceDirectoryPath "rd-sim001/r-sim001/fd-sim0000001/fd-sim0000003/2000000000000003"
        Accounts Tag.1.Key=env Tag.1.Value=test -> /TotalCount 2
        Accounts MaxResults=3 -> /NextToken "page=2"; /Accounts/Account/2/DisplayName "pay-prod"
        Accounts MaxResults=3 NextToken=page=2 -> /NextToken null; /Accounts/Account/0/DisplayName "play-test"
        ! unused
        GetRD -> 404 ResourceDirectoryNotInUse
        Folders -> 404 EntityNotExists.ResourceDirectory
        Accounts -> 404 EntityNotExists.ResourceDirectory
        AccountsIn -> 404 EntityNotExists.ResourceDirectory
        "#,
    );
}

#[test]
fn each_switch_changes_one_thing() {
    let each = Switches::each();
    for (name, switches) in &each {
        assert_ne!(*switches, Switches::default(), "{name}");
        let json = serde_json::to_value(switches).expect("JSON");
        let back: Switches = serde_json::from_value(json.clone()).expect("the same");
        assert_eq!(back, *switches, "{name}");
        let default = serde_json::to_value(Switches::default()).expect("JSON");
        let (json, default) = (json.as_object().expect("object"), default.as_object().expect("it"));
        let changed = json.iter().filter(|(field, value)| default[*field] != **value);
        assert_eq!(changed.count(), 1, "{name}");
    }
    let fields = serde_json::to_value(Switches::default()).expect("JSON");
    for field in fields.as_object().expect("an object").keys() {
        let turned = |switches: &Switches| {
            serde_json::to_value(switches).expect("JSON")[field] != fields[field]
        };
        assert!(each.iter().any(|(_, switches)| turned(switches)), "{field}");
    }
}
