//! The contract of a ledger: what every engine guarantees, as tests that know only the traits.
//!
//! An engine implements [`OpenLedger`] for a store of its own and declares [`ledger_contract!`] once in its tests; each
//! rule becomes one test there. What an engine does beyond the contract (its files, its schema, its migrations) is
//! tested beside it. A rule is added here, with its line in [`ledger_contract!`]; without that line the compiler reports
//! it as unused.

use std::sync::Arc;

use crate::ledger::error::LedgerError;
use crate::ledger::store::{Ledger, OpenMode};

pub(crate) mod audit;
pub(crate) mod clock_skew;
pub(crate) mod closing;
pub(crate) mod consumers;
pub(crate) mod credentials;
pub(crate) mod dead_request_removal;
pub(crate) mod dead_requests;
pub(crate) mod decision_fixtures;
pub(crate) mod decision_limits;
pub(crate) mod decision_retention;
pub(crate) mod decisions;
pub(crate) mod deliveries;
pub(crate) mod delivery_fixtures;
pub(crate) mod delivery_requeues;
pub(crate) mod delivery_writes;
pub(crate) mod epochs;
pub(crate) mod fences;
pub(crate) mod fixtures;
pub(crate) mod guard;
pub(crate) mod leases;
pub(crate) mod opening;
pub(crate) mod outbox;
pub(crate) mod pages;
pub(crate) mod partitions;
pub(crate) mod payout_fixtures;
pub(crate) mod payout_restores;
pub(crate) mod payout_simulation;
pub(crate) mod payouts;
mod planned_payouts;
pub(crate) mod probes;
pub(crate) mod queries;
pub(crate) mod quotas;
pub(crate) mod rate_buckets;
pub(crate) mod raw;
pub(crate) mod records;
pub(crate) mod requests;
pub(crate) mod route_changes;
pub(crate) mod runs;
pub(crate) mod sources;
pub(crate) mod webhooks;
pub(crate) mod windows;
pub(crate) mod write_kinds;
pub(crate) mod writes;

pub(crate) use fixtures::{TTL, at, audit_entry, books, commit, count, cursor_key, row, run_id, state, take};

/// A store, and handles on it.
pub(crate) trait OpenLedger {
    /// Creates an empty store.
    async fn create() -> Self;

    /// Opens a handle on the store. Each one is independent, as that of another process is.
    async fn open(&self, mode: OpenMode) -> Result<Arc<dyn Ledger>, LedgerError>;

    /// Opens a handle that reads and writes.
    async fn writer(&self) -> Arc<dyn Ledger> {
        self.open(OpenMode::Migrate).await.unwrap()
    }
}

/// Declares one test per rule of the contract, for the engine whose [`OpenLedger`] is `$store`.
macro_rules! ledger_contract {
    ($store:ty) => {
        $crate::ledger::contract::rules! { $store, opening:
            a_committed_page_is_read_after_reopening
            a_read_only_handle_sees_committed_rows_and_cannot_write
            an_existing_store_is_opened_without_migrating
            a_closed_handle_fails
        }
        $crate::ledger::contract::rules! { $store, leases:
            a_lease_is_acquired_once_until_it_expires
            each_acquisition_increments_the_fence
            a_renewed_lease_outlives_its_first_expiry
            a_lost_lease_is_neither_renewed_nor_released
            a_holder_takes_its_own_lease_again
            a_stale_lease_can_be_acquired_after_the_wall_clock_went_back
            concurrent_attempts_acquire_a_lease_once
        }
        $crate::ledger::contract::rules! { $store, epochs:
            the_epoch_is_raised_above_itself_and_above_the_lease
            a_ledger_behind_the_lease_is_raised_once_after_its_loss_is_accepted
        }
        $crate::ledger::contract::rules! { $store, fences:
            every_write_under_a_lease_is_refused_after_its_loss
            the_holder_of_the_lease_prunes_what_a_former_holder_may_not
        }
        $crate::ledger::contract::rules! { $store, pages:
            every_field_is_read_back_unchanged
            a_repeated_page_writes_nothing_and_an_edit_updates_one_row
            a_repeated_document_writes_nothing_and_an_edit_updates_it
            equal_content_is_unchanged_whatever_its_spelling
            a_document_keeps_its_row_when_its_derived_key_changes
            ids_are_case_sensitive_and_scoped_to_the_account
            an_old_fence_cannot_write
            a_stale_cursor_version_rejects_the_page
            a_page_of_another_process_rejects_the_version_it_replaced
            a_rejected_page_leaves_nothing
            pages_of_one_commit_are_stored_in_their_order_or_none_of_them
            a_rejected_record_read_again_is_one_dead_letter
            a_commit_dropped_at_any_step_is_complete_or_absent
        }
        $crate::ledger::contract::rules! { $store, records:
            a_record_of_each_kind_is_read_back_and_written_only_when_it_changes
            an_unchanged_record_keeps_the_time_of_its_last_change
            keys_of_two_accounts_are_two_records
            a_page_of_several_kinds_counts_all_of_them
            texts_that_an_engine_cannot_store_are_repaired_and_large_ones_are_kept
            records_are_listed_by_stream_and_last_change
            the_values_of_a_field_are_distinct_ordered_and_of_one_job
            a_deleted_job_takes_the_records_of_every_kind_with_it
            records_of_every_kind_are_merged_into_their_source
        }
        $crate::ledger::contract::rules! { $store, closing:
            a_booked_row_closes_the_pending_one_that_it_names
            a_pending_row_that_is_booked_under_its_own_id_is_updated
            pending_rows_that_are_no_longer_listed_are_closed
            a_withdrawn_transaction_stays_and_comes_back_when_it_is_sent_again
            a_withdrawn_record_of_another_kind_is_marked_and_no_longer_counted
            events_are_made_of_the_rows_that_changed_and_of_no_other
        }
        $crate::ledger::contract::rules! { $store, windows:
            a_window_takes_effect_with_its_last_page
            a_restarted_window_drops_what_it_had_staged
            a_key_of_several_pages_counts_once_with_its_last_content
            what_a_window_withdraws_after_it_listed_it_never_takes_effect
            a_window_of_many_rows_is_merged_in_pieces
            a_merge_after_the_loss_of_the_lease_or_of_the_version_changes_nothing
            two_jobs_stage_apart_and_a_deleted_job_takes_its_own
        }
        $crate::ledger::contract::rules! { $store, queries:
            transactions_are_listed_newest_first_within_a_day
            a_filter_selects_by_stream_and_by_day
            documents_are_listed_in_insertion_order
            documents_and_dead_letters_are_listed_newest_first_for_people
            identities_are_replaced_in_pieces_and_a_duplicate_is_merged
        }
        $crate::ledger::contract::rules! { $store, runs:
            streaks_count_provider_outcomes_and_survive_a_restart
            the_end_of_another_job_ends_no_run
            runs_of_all_jobs_are_listed_newest_first_for_people
            an_unfinished_run_is_interrupted_when_the_next_starts
            a_frozen_former_holder_cannot_interrupt_the_new_holders_run
            a_slot_or_a_request_is_served_once
            old_runs_are_pruned
            a_deleted_job_leaves_the_rows_that_another_job_reads
            a_frozen_former_holder_cannot_delete_a_job
        }
        $crate::ledger::contract::rules! { $store, partitions:
            the_streak_of_each_partition_is_counted_and_survives_a_restart
            a_removed_partition_loses_its_streak_with_the_next_good_run
            a_resync_counts_for_no_streak_and_its_id_is_kept_for_ever
            a_deleted_job_takes_its_streaks_and_resyncs_with_it
            every_trigger_is_read_back
        }
        $crate::ledger::contract::rules! { $store, sources:
            rows_of_two_sources_with_equal_ids_stay_apart
            the_only_rows_of_a_stream_become_those_of_its_source
            mixed_rows_of_several_sources_are_not_adopted
            rows_of_an_older_version_are_merged_into_their_source
        }
        $crate::ledger::contract::rules! { $store, probes:
            results_are_listed_newest_first_per_connection
            old_results_are_pruned_in_batches
            a_connection_with_regular_checks_keeps_its_newest_result
        }
        $crate::ledger::contract::rules! { $store, dead_requests:
            a_repeated_failure_is_one_row_until_it_is_settled
            failures_of_two_processes_are_counted_in_one_row
            at_the_limit_new_requests_are_rejected_and_known_ones_counted
            one_connection_cannot_use_up_the_limit_or_the_retries
            connections_that_used_up_the_total_leave_another_its_part
            namespaces_have_their_turns_with_due_requests
            a_request_is_retried_parked_with_an_audit_entry_and_replayed
            a_failure_equal_to_a_parked_request_is_counted_there
            a_worker_that_lost_its_lease_cannot_settle
            lists_are_newest_first_filtered_and_paged_by_seq
        }
        $crate::ledger::contract::rules! { $store, dead_request_removal:
            discarded_and_purged_requests_are_deleted_with_audit_entries
            a_request_that_a_user_deletes_during_its_retry_stays_deleted
            a_request_that_was_replayed_is_not_purged_as_parked
            orphaned_requests_are_deleted_by_the_connections_uid
            a_worker_that_lost_its_lease_cannot_delete_orphans
            settled_and_parked_requests_are_pruned_by_age
        }
        $crate::ledger::contract::rules! { $store, audit:
            entries_are_listed_newest_first_by_namespace
            a_batch_that_is_appended_again_is_stored_once
            old_entries_are_pruned
            the_oldest_calls_are_pruned_by_size_and_other_entries_by_age_alone
            calls_of_one_namespace_do_not_displace_those_of_another
            pruning_deletes_a_bounded_number_of_rows_at_a_time
            daily_licence_usage_is_granted_up_to_the_limit
            two_processes_share_the_days_limit
        }
        $crate::ledger::contract::rules! { $store, clock_skew:
            a_lease_taken_while_the_clock_was_ahead_expires_after_its_ttl
            a_live_holder_whose_clock_is_ahead_keeps_its_lease
            a_run_of_the_future_neither_hides_later_runs_nor_blocks_their_slots
            a_history_that_cannot_be_corrected_is_read_as_of_now
            dead_requests_stored_while_the_clock_was_ahead_are_due_after_their_delay
            a_repetition_does_not_prolong_a_review_of_the_future
            a_retry_planned_for_the_far_future_is_due_within_a_day
            a_request_parked_while_the_clock_was_ahead_is_pruned_in_time
            an_audit_entry_of_the_future_is_pruned_with_its_successor
            licence_usage_of_a_day_far_ahead_does_not_use_up_that_day
            health_checks_of_the_future_do_not_keep_the_log_from_being_pruned
            a_delivery_whose_try_was_planned_by_a_clock_ahead_is_due_at_once
        }
        $crate::ledger::contract::rules! { $store, quotas:
            counts_of_two_processes_are_added_and_survive_a_restart
            another_object_of_the_name_has_counted_nothing
            counts_of_other_days_are_pruned_by_the_holder_of_the_lease
        }
        $crate::ledger::contract::rules! { $store, outbox:
            events_are_listed_once_and_in_their_order
            events_are_filtered_by_what_they_say
            a_pages_events_are_stored_with_it_or_not_at_all
            a_runs_events_are_stored_with_its_start_and_its_end
            old_events_are_pruned_in_pieces_by_the_holder_of_the_lease
            a_reader_that_goes_on_misses_no_event_of_concurrent_writers
            an_event_of_the_future_is_pruned_with_one_that_follows_it
        }
        $crate::ledger::contract::rules! { $store, consumers:
            a_consumer_is_found_by_its_name_and_by_its_key
            a_rotated_key_works_for_the_overlap_and_a_still_older_one_does_not
            a_rename_keeps_keys_and_deliveries_and_the_old_name
            a_removed_name_is_retired_until_its_queues_are_gone
            a_removed_consumer_gets_nothing_and_its_rows_are_pruned
            every_change_of_a_consumer_or_a_key_raises_the_version
            a_new_consumer_gets_no_history_unless_it_asks_for_it
            history_is_filled_before_anything_is_published
            a_history_of_several_pieces_misses_no_event_of_concurrent_writers
        }
        $crate::ledger::contract::rules! { $store, deliveries:
            a_delivery_is_made_with_its_event_or_not_at_all
            a_consumer_gets_the_events_of_its_namespaces_and_types
            every_way_of_storing_an_event_makes_its_deliveries
            a_delivery_that_waits_holds_back_its_aggregate_alone
            pending_deliveries_are_read_by_aggregate_in_turns
            a_try_is_recorded_once_and_only_by_the_holder_of_the_lease
            deliveries_go_with_their_events
            usage_counts_what_is_pending_and_what_fails
            a_reader_is_told_of_events_once_they_are_committed
        }
        $crate::ledger::contract::rules! { $store, delivery_requeues:
            a_confirmation_counts_once_and_what_is_processed_stays_so
            a_consumer_confirms_and_reads_its_own_deliveries_alone
            two_replicas_that_confirm_at_once_agree
            resend_and_redeliver_choose_by_state_filter_and_tries
            a_dry_run_counts_what_a_requeue_changes
        }
        $crate::ledger::contract::rules! { $store, webhooks:
            any_number_of_webhooks_is_one_row_until_it_is_closed
            a_webhook_that_came_meanwhile_stays_open
            a_signed_webhook_counts_once_within_its_window
            webhooks_of_one_connection_do_not_touch_another
            a_process_that_lost_its_lease_closes_and_prunes_nothing
        }
        $crate::ledger::contract::rules! { $store, rate_buckets:
            two_replicas_share_a_bucket
            a_bucket_is_never_more_than_empty
            full_buckets_are_pruned_by_the_holder_of_the_lease
        }
        $crate::ledger::contract::rules! { $store, raw:
            a_payload_is_stored_with_its_page_and_read_until_it_expires
            a_page_that_is_fetched_again_is_the_next_attempt
            a_payload_of_the_future_is_kept_for_its_time_and_not_longer
            expired_payloads_are_pruned_in_pieces_by_the_holder_of_the_lease
            a_dead_letter_says_whether_it_can_be_replayed
            dead_letters_are_resolved_by_hand_or_with_their_replayed_rows
            a_row_is_newer_than_a_time_if_it_changed_after_it
            a_withdrawn_record_is_newer_although_it_never_was_a_row
            a_preview_counts_what_a_commit_would_change_and_changes_nothing
        }
        $crate::ledger::contract::rules! { $store, requests:
            a_repeated_request_is_one_row_and_another_one_is_a_conflict
            a_run_id_that_is_in_use_is_replaced
            the_id_of_a_resync_is_used_once_for_each_job
            a_request_is_closed_once_and_survives_a_restart
            closed_runs_are_pruned_and_resyncs_are_not
        }
        $crate::ledger::contract::rules! { $store, decisions:
            a_repeated_request_is_the_same_decision_and_another_one_a_conflict
            a_batch_that_is_committed_again_stores_nothing_twice
            every_entry_of_a_batch_has_its_own_outcome
            of_two_writers_with_one_key_one_decides
            a_further_attempt_needs_proof_for_every_earlier_one
            an_override_replaces_the_last_decision_of_its_payout_once
            an_outcome_is_stored_once_with_the_decision_as_it_was
            outcomes_of_a_decision_are_bounded_unless_they_change_the_gate
            decisions_are_listed_newest_first_by_filter_and_page
            a_snapshot_is_stored_once_with_the_decision_that_names_it
            the_chain_is_one_across_writers_and_restarts
        }
        $crate::ledger::contract::rules! { $store, decision_limits:
            a_daily_limit_admits_up_to_its_amount_and_its_number
            a_reservation_is_given_back_once_and_taken_again_if_contradicted
            a_further_attempt_takes_what_the_earlier_one_gave_back
            amounts_of_two_currencies_are_counted_apart
            two_writers_share_a_daily_limit
        }
        $crate::ledger::contract::rules! { $store, decision_retention:
            old_entries_become_a_checkpoint_and_the_rest_verifies
            a_snapshot_is_kept_while_a_decision_names_it
            a_chain_of_checkpoints_alone_does_not_grow
            an_entry_of_the_future_is_deleted_with_an_older_one_behind_it
            a_payout_is_not_decided_anew_while_a_later_attempt_is_kept
            old_counters_of_daily_limits_go_with_their_decisions
            a_pruner_that_lost_its_lease_deletes_nothing
        }
        $crate::ledger::contract::rules! { $store, payouts:
            a_payout_is_registered_with_its_decision_or_not_at_all
            a_payout_that_was_decided_before_is_registered_with_that_decision
            an_idempotency_key_is_used_for_one_payout
            an_act_on_an_old_version_changes_nothing
            of_concurrent_acts_one_moves_a_payout_on
            a_followed_payout_is_attempted_again_only_with_proof
            the_submitters_success_closes_the_gate_before_the_payout_knows
            what_was_decided_of_an_attempt_cannot_be_changed
            a_lost_lease_moves_no_payout_on
            the_timeline_the_events_and_the_chain_tell_of_each_act_once
            payouts_that_are_due_are_read_in_their_order_and_in_pieces
            payouts_are_listed_newest_first_and_counted_while_they_are_open
        }
        $crate::ledger::contract::rules! { $store, payout_restores:
            after_a_loss_nothing_is_decided_until_a_person_resumes_payouts
            payouts_under_review_after_a_loss_are_reviewed_once
            final_payouts_are_pruned_in_pieces_and_open_ones_kept
            an_open_payout_closes_the_gate_although_its_decision_is_past_its_retention
            a_followed_attempt_gives_its_limit_back_once_for_state_and_outcome
        }
        $crate::ledger::contract::rules! { $store, payout_simulation:
            no_simulated_payout_is_paid_twice_or_lost
        }
        $crate::ledger::contract::rules! { $store, route_changes:
            an_adjustment_is_in_effect_until_it_ends_or_is_deleted
            a_namespace_has_so_many_adjustments_at_a_time
            a_proposal_is_settled_once_and_a_route_has_one_that_is_pending
            scores_are_replaced_by_newer_ones_and_deleted_by_age
        }
        $crate::ledger::contract::rules! { $store, credentials:
            a_credential_is_replaced_only_with_the_expected_version
            of_two_concurrent_replacements_one_is_stored
        }
    };
}

/// Declares the tests of one group of rules; see [`ledger_contract!`].
macro_rules! rules {
    ($store:ty, $group:ident: $($rule:ident)*) => {
        mod $group {
            use super::*;
            use $crate::ledger::contract::OpenLedger;

            $(
                #[tokio::test]
                async fn $rule() {
                    let store = <$store as OpenLedger>::create().await;
                    Box::pin($crate::ledger::contract::$group::$rule(&store)).await;
                }
            )*
        }
    };
}

pub(crate) use {ledger_contract, rules};
