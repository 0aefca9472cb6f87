//! `kill -9` between any two system calls of an operation: nothing acknowledged is lost or hidden, and the operation
//! can be repeated.

use super::operations::{Operation, Site};

/// More calls than any of the operations makes.
const CALLS_MAX: usize = 200;

async fn killed_at_every_call(operation: Operation) {
    for calls in 0..CALLS_MAX {
        let mut site = Site::prepared(operation).await;
        let before = site.faults.made().len();
        let store = site.open();
        site.faults.kill_after(calls);
        let done = site.attempt(&store).await;
        drop(store);
        let was_killed = site.faults.is_over();
        site.faults.heal();
        let made = site.faults.made();
        let context = format!("{operation:?} killed after {:?}", &made[before.min(made.len())..]);
        if !was_killed {
            done.unwrap_or_else(|error| panic!("{operation:?} without a fault: {error}"));
            assert!(calls > 3, "{operation:?} consists of more than {calls} calls");
            return;
        }
        let store = site.open();
        site.check(&store, &context).await;
        site.check_events(&store, &context).await;
        let again = site.attempt(&store).await;
        again.unwrap_or_else(|error| panic!("{context}, tried again: {error}"));
        site.check_done(&store, &context).await;
    }
    panic!("{operation:?} does not end");
}

// proves: TOK-OFF-03
#[tokio::test]
async fn a_creation_killed_at_any_call_can_be_repeated() {
    killed_at_every_call(Operation::Create).await;
}

#[tokio::test]
async fn a_creation_with_all_content_killed_at_any_call_can_be_repeated() {
    killed_at_every_call(Operation::CreateWhole).await;
}

// proves: TOK-OFF-03
#[tokio::test]
async fn an_append_killed_at_any_call_keeps_acknowledged_bytes() {
    killed_at_every_call(Operation::Append).await;
}

#[tokio::test]
async fn a_truncation_killed_at_any_call_damages_nothing() {
    killed_at_every_call(Operation::Truncate).await;
}

// proves: TUS1-CHK-03
#[tokio::test]
async fn dropping_unverified_bytes_killed_at_any_call_verifies_none() {
    killed_at_every_call(Operation::DropUnverified).await;
}

#[tokio::test]
async fn verifying_bytes_killed_at_any_call_keeps_acknowledged_bytes() {
    killed_at_every_call(Operation::VerifyBytes).await;
}

#[tokio::test]
async fn a_commit_killed_at_any_call_leaves_the_old_record_or_the_new() {
    killed_at_every_call(Operation::Commit).await;
}

#[tokio::test]
async fn a_join_killed_at_any_call_has_all_content_or_none() {
    killed_at_every_call(Operation::JoinOnePart).await;
    killed_at_every_call(Operation::JoinSeveralParts).await;
}

#[tokio::test]
async fn a_delivery_killed_at_any_call_delivers_once() {
    killed_at_every_call(Operation::Deliver).await;
}

#[tokio::test]
async fn a_delivery_of_shared_content_killed_at_any_call_delivers_once() {
    killed_at_every_call(Operation::DeliverShared).await;
}

#[tokio::test]
async fn a_removal_with_events_killed_at_any_call_keeps_the_events_of_what_happened() {
    killed_at_every_call(Operation::RemoveWithEvents).await;
}

#[tokio::test]
async fn events_settled_or_revived_by_a_killed_process_are_not_lost() {
    killed_at_every_call(Operation::SettleEvents).await;
    killed_at_every_call(Operation::ReviveEvent).await;
}

#[tokio::test]
async fn a_removal_killed_at_any_call_leaves_all_or_nothing() {
    killed_at_every_call(Operation::Remove).await;
}
