"""Rules of safety, each broken on purpose: what the simulation, or a test of its own, must catch.

A mutation patches one rule of consensus/ or storage/ for the whole cluster, for as long as `patch` lives.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from consensus import limits
from consensus.messages import VoteResponse
from tests.consensus import (
    test_changes,
    test_defects,
    test_elections,
    test_incarnations,
    test_lease,
    test_old_copies,
    test_pre_vote,
    test_replication,
    test_snapshot_defects,
    test_transfer,
)
from tests.consensus.cores import append, entries
from tests.simulation import broken_elections as elections
from tests.simulation import broken_machine as machine
from tests.simulation import broken_membership as membership
from tests.simulation import broken_reads as reads
from tests.simulation import broken_replication as replication
from tests.simulation import broken_snapshots as snapshots
from tests.simulation import test_disk


class Mutation(NamedTuple):
    """`seeds` is within how many the simulation must find it. With `test` it is that test which finds it,
    because nothing that was promised to anybody breaks, or because the rule guards against what the other
    rules already exclude."""

    rule: str
    patch: Callable[[pytest.MonkeyPatch], None]
    seeds: int = 100
    test: Callable[[Path], None] | None = None


def compacted_in_one_step(path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        test_snapshot_defects.test_f6_compaction_is_one_step(path, patch, "after", 14)


def compacted_when_everybody_has_it(path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "LOG_RETAINED_ENTRIES", 5)
        patch.setattr(limits, "LOG_COMPACTION_STEP_ENTRIES", 5)
        test_replication.test_the_log_is_cut_only_behind_what_every_member_holds(path)


MUTATIONS = [
    Mutation("F1: a commit index from a message that proves nothing", replication.stock_commit_index),
    Mutation(
        "F1: a commit index beyond what the message proved",
        replication.uncapped_commit_index,
        test=test_defects.test_f1_nothing_is_committed_that_the_message_does_not_show,
    ),
    Mutation(
        "F1: a leader tells a commit index beyond its message", replication.commit_index_beyond_the_message
    ),
    Mutation("F1: a commit index that falls", replication.commit_index_falls),
    Mutation("F2: all entries after prev_index deleted", replication.stock_deletion),
    Mutation(
        "F2: committed entries are deleted",
        replication.committed_entries_are_replaced,
        test=lambda path: test_defects.test_f2_contradicting_a_committed_entry_stops_the_node(
            path, append(2, (1, 0), entries(2, 2))
        ),
    ),
    Mutation(
        "F3: acknowledgements of older terms count",
        replication.acknowledgement_of_any_term,
        test=test_defects.test_f3_an_acknowledgement_of_another_term_does_not_count,
    ),
    Mutation(
        "F6: compaction in two steps",
        replication.compaction_in_two_steps,
        test=compacted_in_one_step,
    ),
    Mutation("F7: nothing is synced", replication.no_sync),
    Mutation("F7: entries are acknowledged before they are synced", replication.acknowledged_before_sync),
    Mutation("F7: a leader counts itself before its sync", replication.leader_counts_itself_before_its_sync),
    Mutation("F7: entries are applied before they are synced", replication.applied_before_synced),
    Mutation("F7: a vote leaves before it is on disk", elections.vote_before_sync),
    Mutation(
        "F10: a jump behind the log's beginning",
        replication.jump_behind_the_logs_beginning,
        test=lambda path: test_defects.test_f10_no_jump_goes_behind_the_logs_beginning(),
    ),
    Mutation(
        "F10: a jump that is too short",
        replication.jump_over_the_conflict,
        test=test_defects.test_f10_a_diverged_log_of_hundreds_of_entries_is_repaired_in_two_steps,
    ),
    Mutation("F11: the proposer of another entry is told", replication.proposer_of_another_entry_is_told),
    Mutation(
        "F12: checksums are not checked",
        replication.checksums_ignored,
        test=test_defects.test_f12_a_record_damaged_on_the_wire_is_not_staged,
    ),
    Mutation("a vote is not on disk", elections.lost_vote, 200),
    Mutation("a term is not on disk", elections.term_not_on_disk),
    Mutation("a vote for a candidate whose log is behind", elections.vote_for_any_log),
    Mutation("a vote that arrives twice counts twice", elections.vote_counted_twice),
    Mutation(
        "a vote of another term counts",
        elections.votes_of_any_term,
        test=test_elections.test_votes_of_another_term_do_not_count,
    ),
    Mutation("two votes in one term", elections.two_votes_in_a_term),
    Mutation("a leader without a majority of votes", elections.half_is_enough),
    Mutation(
        "a leader ignores a higher term",
        elections.higher_term_ignored_by_a_leader,
        test=lambda path: test_defects.test_f3_a_higher_term_in_any_message_ends_the_leadership(
            path, VoteResponse(99, False)
        ),
    ),
    Mutation(
        "a term rises before anybody was asked",
        elections.no_pre_vote,
        test=test_pre_vote.test_a_silent_leader_is_asked_about_before_the_term_rises,
    ),
    Mutation(
        "members that hear a leader depose it",
        elections.pre_vote_against_a_leader,
        test=test_pre_vote.test_whoever_hears_a_leader_grants_nothing_and_keeps_its_term,
    ),
    Mutation(
        "a leader without a majority stays",
        elections.no_check_quorum,
        test=test_elections.test_a_leader_that_no_majority_answers_steps_down,
    ),
    Mutation(
        "a transfer before the target has everything",
        elections.transfer_to_who_lacks_entries,
        test=test_transfer.test_the_target_is_told_to_stand_once_it_has_everything_and_everything_is_answered,
    ),
    Mutation(
        "a transfer is not marked as one",
        elections.transfer_is_not_marked,
        test=test_pre_vote.test_a_follower_that_its_leader_tells_to_stand_does_so_at_once,
    ),
    Mutation(
        "a member stands for whoever tells it to",
        elections.stands_for_anybody,
        test=test_pre_vote.test_a_follower_that_its_leader_tells_to_stand_does_so_at_once,
    ),
    Mutation(
        "proposals are taken during a transfer",
        elections.proposals_during_a_transfer,
        test=test_transfer.test_no_proposals_meanwhile_and_again_when_it_is_given_up,
    ),
    Mutation("entries behind another past", replication.no_consistency_check),
    Mutation("followers count before they have answered", replication.followers_count_unasked),
    Mutation("entries of old terms are committed by counting", replication.old_terms_by_counting, 200),
    Mutation(
        "compaction before every member has the entries, without snapshots",
        replication.early_compaction,
        test=compacted_when_everybody_has_it,
    ),
    Mutation("compaction of entries that are not applied", replication.compaction_of_unapplied_entries),
    Mutation(
        "a read does not ask a quorum",
        reads.read_without_quorum,
        test=test_replication.test_a_read_waits_for_a_round_begun_after_it,
    ),
    Mutation("a read before the term's no-op is committed", reads.read_before_no_op),
    Mutation("a read before its index is applied", reads.read_before_applied),
    Mutation(
        "a read in a round that has left",
        reads.read_joins_a_round_under_way,
        test=test_replication.test_a_read_waits_for_a_round_begun_after_it,
    ),
    Mutation(
        "any answer confirms a round",
        reads.answer_of_any_round,
        test=test_replication.test_a_read_waits_for_a_round_begun_after_it,
    ),
    Mutation(
        "the answer to an old term confirms a round",
        reads.refusal_echoes_the_round,
        test=test_elections.test_an_old_candidate_and_an_old_leader_learn_the_term,
    ),
    Mutation(
        "a lease begins with the answers",
        reads.lease_from_the_answers,
        test=test_lease.test_a_lease_lasts_from_the_start_of_the_round_that_was_answered,
    ),
    Mutation(
        "a lease outlives a transfer",
        reads.lease_of_who_gives_its_place_away,
        test=test_lease.test_who_gives_its_place_away_has_no_lease_again,
    ),
    Mutation(
        "nobody keeps what a lease rests on",
        reads.lease_that_nobody_promised,
        test=lambda path: test_lease.test_who_has_heard_a_leader_elects_nobody_meanwhile(
            path, "closed connection"
        ),
    ),
    Mutation(
        "a lease on answers without a promise",
        reads.lease_on_answers_without_a_promise,
        test=lambda path: test_lease.test_who_does_not_promise_enough_confirms_rounds_and_no_lease(path, 0),
    ),
    Mutation(
        "a promise is forgotten in a restart",
        reads.promise_forgotten_in_a_restart,
        test=test_lease.test_a_promise_is_kept_by_whoever_starts_without_leases,
    ),
    Mutation("F9: two changes at once", membership.two_changes_at_once),
    Mutation(
        "F9: a change before the no-op",
        membership.change_before_the_no_op,
        test=test_changes.test_no_change_before_the_no_op_of_the_term_is_committed,
    ),
    Mutation("F9: two votes in one change", membership.two_votes_in_one_change),
    Mutation(
        "a membership is used when it is committed",
        membership.membership_used_when_committed,
        test=test_changes.test_a_change_that_another_leader_overwrites_is_forgotten,
    ),
    Mutation(
        "a membership is not taken back",
        membership.membership_not_taken_back,
        test=test_changes.test_a_change_that_another_leader_overwrites_is_forgotten,
    ),
    Mutation(
        "learners are counted",
        membership.learners_are_counted,
        test=test_changes.test_the_leadership_goes_to_voters_only,
    ),
    Mutation("ids are used again", membership.ids_are_used_again),
    Mutation(
        "a lost disk keeps its vote",
        membership.lost_disk_keeps_its_vote,
        test=test_incarnations.test_a_lost_disk_is_not_counted_and_comes_back_by_itself,
    ),
    Mutation(
        "incarnations are not checked",
        membership.incarnations_are_not_checked,
        test=test_incarnations.test_a_lost_disk_is_not_counted_and_comes_back_by_itself,
    ),
    Mutation(
        "a server without its disk counts itself",
        membership.disk_lost_and_still_a_voter,
        test=test_incarnations.test_a_server_without_its_disk_neither_stands_nor_counts_itself,
    ),
    Mutation(
        "who has forgotten what it acknowledged keeps its vote",
        membership.forgotten_and_still_a_voter,
        test=test_old_copies.test_who_lacks_what_it_acknowledged_loses_its_vote_until_it_has_caught_up,
    ),
    Mutation("the first leader has a majority only", membership.first_leader_by_majority),
    Mutation(
        "a new disk is believed to hold what the former held",
        membership.match_of_the_former_disk,
        test=test_incarnations.test_a_lost_disk_is_not_counted_and_comes_back_by_itself,
    ),
    Mutation(
        "a vote for who lacks the log",
        membership.promoted_unready,
        test=test_changes.test_a_learner_is_promoted_when_it_has_caught_up,
    ),
    Mutation(
        "a change that too few are there to commit",
        membership.change_that_nobody_could_commit,
        test=test_changes.test_no_removal_that_the_rest_could_not_commit,
    ),
    Mutation(
        "a removed leader stays",
        membership.removed_leader_stays,
        test=test_changes.test_a_leader_that_removes_itself_hands_over_once_that_is_committed,
    ),
    Mutation(
        "the leadership goes to a learner",
        membership.transfer_to_a_learner,
        test=test_changes.test_the_leadership_goes_to_voters_only,
    ),
    Mutation("F1: a chunk acknowledges the log", snapshots.chunk_acknowledges_the_log),
    Mutation(
        "F4: a snapshot takes the log's tail",
        snapshots.tail_thrown_away,
        test=test_snapshot_defects.test_f4_a_log_that_holds_the_snapshots_last_entry_is_kept,
    ),
    Mutation(
        "F5: a snapshot below the commit index",
        snapshots.older_than_the_commit,
        test=lambda path: test_snapshot_defects.test_f5_a_snapshot_of_what_is_committed_is_ignored(
            path, 3, 7
        ),
    ),
    Mutation(
        "F8: a snapshot's digest is not checked",
        snapshots.digest_not_checked,
        test=lambda path: test_disk.test_what_is_not_as_it_was_sent_is_not_installed(),
    ),
    Mutation("a snapshot brings another's term and vote", snapshots.vote_of_the_leader_taken_over),
    Mutation("a snapshot brings another's incarnation", snapshots.incarnation_of_the_leader_taken_over),
    Mutation(
        "a snapshot without its membership",
        snapshots.membership_left_out,
        test=test_snapshot_defects.test_the_membership_comes_with_the_snapshot,
    ),
    Mutation("rows and applied index in two batches", replication.split_batch),
    Mutation("a node skips an entry", machine.skipped_entry),
    Mutation("apply is not deterministic", machine.nondeterminism),
    Mutation("idempotency records are lost", machine.lost_idempotency_record),
    Mutation("idempotency records are not seen within an entry", machine.unseen_idempotency_record),
    Mutation("entries are applied again after a restart", machine.applied_index_not_stored),
]
