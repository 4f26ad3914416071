"""The fault matrix: everything that can go wrong, and the tests that show what is done about it.

python -m tests.fault_matrix --figures FILE.json [--chaos FILE.json] --write docs/reliability.md

writes it as a table, with how often the seeded worlds (`python -m tests.simulation --json FILE.json`) and the chaos run
injected each fault. A fault is counted by its kind: rows of one kind share its number.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- fault matrix: generated -->", "<!-- end -->"

# Where a fault is injected.
EXCHANGE, MARKET, PROCESS, QUEUE = "exchange", "market data", "process", "queue"
DATABASE, HOST, PEOPLE = "database", "host", "people"


@dataclass(frozen=True, slots=True)
class Row:
    """One fault. `invariants`: what must hold all the same, as docs/reliability.md names them. `seeded` and `chaos`:
    the kinds of fault that inject it in the seeded worlds and in the chaos run. `gap`: what no test shows, and `theme`
    the work that will bring it. `shown`: the tests that show it, a line each: `execution/faults::a_cancel` stands for
    `tests/execution/test_faults.py::test_a_cancel`."""

    number: int
    fault: str
    where: str
    invariants: str = ""
    seeded: str = ""
    chaos: str = ""
    gap: str = ""
    theme: str = ""
    shown: str = ""

    @property
    def tests(self) -> list[str]:
        """As pytest names them."""
        return [_node(line) for line in self.shown.split()]


def _node(short: str) -> str:
    place, _, name = short.partition("::")
    room, _, stem = place.rpartition("/")
    return f"{Path('tests', room, f'test_{stem}.py').as_posix()}::test_{name}"


# fmt: off
MATRIX = (
    # --- orders at the exchange ---------------------------------------------------------------------------------------
    Row(1, "an entry is taken, its answer is lost", EXCHANGE, "I1 I3 I6 I8", seeded="drop_after", chaos="drop_after",
        shown="""
    execution/faults::an_entry_whose_answer_is_lost_is_found_and_not_sent_again
    contract/faults::a_write_without_a_usable_answer_is_unknown_and_is_found_by_its_name
    """),
    Row(2, "an entry is lost on its way", EXCHANGE, "I1 I6", seeded="drop_before lost_request", chaos="drop_before",
        shown="""
    execution/faults::an_entry_that_never_arrived_is_given_up_after_two_looks_and_not_sent_again
    execution/resolve::what_the_rungs_answer_decides
    execution/entries::an_order_of_unknown_fate_blocks_its_market_for_150_seconds
    """),
    Row(3, "an entry arrives after everybody stopped waiting", EXCHANGE, "I1 I8", seeded="late", chaos="delay",
        shown="""
    execution/exchange_faults::an_entry_that_arrives_twenty_seconds_late_is_found_and_protected
    """),
    Row(4, "an entry arrives after it was given up", EXCHANGE, "I3 I8 I15", seeded="late", shown="""
    execution/reconcile::an_entry_given_up_and_found_alive_is_adopted_and_sold_again
    execution/reconcile::an_account_in_doubt_is_looked_after_every_ten_seconds_although_nothing_is_open
    """),
    Row(5, "a filled order is not found under our name any more", EXCHANGE, "I1", seeded="drop_after",
        chaos="drop_after", shown="""
    execution/faults::an_entry_is_known_by_its_looks_where_lists_forget_the_names_of_closed_orders
    execution/faults::an_entry_whose_answer_is_lost_is_found_and_not_sent_again
    contract/orders::a_closed_order_is_found_by_client_id_only_where_the_capabilities_say_so
    """),
    Row(6, "a stop's answer is lost, or the stop itself", EXCHANGE, "I6 I8 I9",
        seeded="drop_after drop_before lost_request", chaos="drop_after drop_before", shown="""
    execution/faults::a_stop_whose_answer_is_lost_is_found
    execution/faults::a_stop_that_never_arrived_is_sent_again_under_the_same_name
    """),
    Row(7, "a stop and its second sending both arrive", EXCHANGE, "I9 I10", seeded="late", shown="""
    execution/exchange_faults::a_stop_that_is_sent_again_just_when_its_first_sending_arrives_rests_once
    contract/orders::a_name_that_is_in_use_is_never_a_second_order
    execution/faults::a_duplicate_answer_to_an_entry_means_look_it_up
    """),
    Row(8, "a stop's first sending arrives after the second one has filled", EXCHANGE, "I9 I15 I28", seeded="late",
        shown="""
    execution/reconcile::the_late_twin_of_a_stop_is_taken_down_after_its_deal_is_over
    """),
    Row(9, "a cancel works, its answer is lost", EXCHANGE, "I3", seeded="drop_after", chaos="drop_after", shown="""
    execution/faults::a_cancel_that_goes_wrong_is_followed_through
    providers/nobitex_client::a_cancel_that_does_not_show_the_end_is_read_back
    """),
    Row(10, "a cancel is lost on its way", EXCHANGE, "I9", seeded="drop_before lost_request", chaos="drop_before",
        shown="""
    execution/faults::a_cancel_that_goes_wrong_is_followed_through
    execution/decide::a_cancel_that_has_not_worked_is_asked_for_again
    """),
    Row(11, "a fill is quicker than a cancel", EXCHANGE, "I10 I11", seeded="cancel_loses_to_fill",
        chaos="cancel_loses_to_fill", shown="""
    execution/faults::a_cancel_that_a_fill_outran_sells_nothing_twice
    contract/faults::a_cancel_that_comes_too_late_leaves_a_filled_order
    execution/ledger_orm::a_fill_may_outrun_a_cancel
    """),
    Row(12, "a cancelled order had filled in part", EXCHANGE, "I10", seeded="cancel_loses_to_fill",
        chaos="cancel_loses_to_fill", shown="""
    execution/exchange_faults::a_stop_that_sold_a_part_before_its_cancel_arrived_is_replaced_for_the_rest
    contract/faults::a_cancel_that_loses_to_a_fill_reports_the_fill
    execution/advance_paper::a_target_that_is_not_filled_gives_the_stop_its_place_back
    """),
    Row(13, "an entry fills in part, the exchange cancels the rest", EXCHANGE, "I8", seeded="partial_then_cancel",
        chaos="partial_then_cancel", shown="""
    execution/advance_paper::a_partly_filled_entry_is_protected_for_what_it_got
    contract/faults::a_market_order_may_be_cut_short_by_the_system
    """),
    Row(14, "an entry is taken and fills nothing", EXCHANGE, "I19", seeded="partial_then_cancel reject_after_accept",
        chaos="partial_then_cancel reject_after_accept", shown="""
    execution/exchange_faults::an_entry_that_was_accepted_and_filled_nothing_ends_its_deal
    execution/entries::a_deal_that_never_filled_does_not_count
    """),
    Row(15, "an order is taken, and refused a moment later", EXCHANGE, "I8", seeded="reject_after_accept",
        chaos="reject_after_accept", shown="""
    execution/exchange_faults::an_entry_that_is_refused_after_it_was_accepted_ends_its_deal
    execution/exchange_faults::a_stop_that_is_refused_after_it_was_accepted_is_placed_again
    """),
    Row(16, "a stop is refused: the price is through it", EXCHANGE, "I8", seeded="gap price_gap", chaos="price_gap",
        shown="""
    execution/exchange_faults::a_stop_refused_because_the_price_is_through_it_becomes_an_exit
    providers/nobitex_client::a_failed_price_condition_of_a_stop_means_that_it_is_crossed
    """),
    Row(17, "a stop is refused: more than the account holds", EXCHANGE, "I8", seeded="read_lag", chaos="read_lag",
        shown="""
    execution/faults::a_stop_refused_for_its_balance_makes_the_orders_be_read_again
    execution/faults::balances_that_cannot_be_read_do_not_keep_a_deal_from_its_stop
    execution/faults::a_report_without_a_fee_makes_no_stop_larger_than_the_balance
    """),
    Row(18, "a stop is refused: too small", EXCHANGE, seeded="partial_then_cancel", chaos="partial_then_cancel",
        shown="""
    risk/gate::the_exit_must_clear_the_minimum_with_a_margin
    execution/advance_paper::what_is_too_small_to_protect_is_closed_as_dust
    """),
    Row(19, "a stop is refused: outside the price band", EXCHANGE,
        gap="The stop is not moved into the band: the guardian watches in its place, and a person is called.",
        shown="""
    risk/gate::a_stop_outside_the_price_band_is_not_placeable_unless_nothing_rests
    execution/exchange_faults::a_stop_that_the_exchange_never_takes_is_minded_by_the_guardian
    """),
    Row(20, "a stop triggers and sells a part, or nothing", EXCHANGE, "I8 I14", seeded="triggered_stop_band_cancel",
        chaos="triggered_stop_band_cancel", shown="""
    execution/exchange_faults::what_a_triggered_stop_leaves_is_sold_at_once
    """),
    Row(21, "the price jumps over the stop, or the stop sleeps on", EXCHANGE, "I8 I14",
        seeded="gap price_gap stop_never_triggers", chaos="price_gap stop_never_triggers", shown="""
    execution/exchange_faults::a_price_that_jumps_over_the_stop_fills_it_where_the_market_is
    execution/exchange_faults::what_a_triggered_stop_leaves_is_sold_at_once
    execution/decide::a_crossed_stop_that_rests_gets_three_seconds_to_fill
    execution/faults::an_order_that_cannot_be_read_does_not_keep_its_deal_from_an_emergency_exit
    """),
    Row(22, "one leg of a pair is gone", EXCHANGE, "I8 I11", seeded="stop_canceled_by_hand", shown="""
    execution/decide::a_pair_with_one_leg_gone_is_taken_down
    execution/exchange_faults::a_pair_whose_target_was_filled_in_part_is_placed_anew_for_the_rest
    """),
    Row(23, "a pair's target fills in part, then both legs end", EXCHANGE, "I10 I14", seeded="cancel_loses_to_fill",
        chaos="cancel_loses_to_fill", shown="""
    execution/exchange_faults::a_pair_whose_target_was_filled_in_part_is_placed_anew_for_the_rest
    """),
    Row(24, "a pair's answer is lost; its second leg has no name", EXCHANGE, "I3", seeded="drop_after",
        chaos="drop_after", shown="""
    execution/faults::a_pair_that_executed_before_anybody_heard_of_it_is_found
    execution/faults::a_pair_is_found_even_where_the_lists_do_not_say_what_belongs_together
    execution/reconcile::the_leg_of_a_pair_that_nobody_heard_of_yet_is_no_foreign_order
    """),
    Row(25, "stop and target fill in the same instant", EXCHANGE, "I10 I11", seeded="gap price_gap", chaos="price_gap",
        shown="""
    execution/exchange_faults::stop_and_target_that_both_meet_their_price_sell_no_more_than_there_is
    """),
    Row(26, "429, with or without a stated wait", EXCHANGE, seeded="rate_limited", chaos="rate_limited", shown="""
    contract/faults::a_429_is_a_definite_no_with_a_time_to_wait
    providers/http::after_a_429_nothing_is_sent_until_the_wait_is_over
    providers/http::the_stated_wait_is_read_from_wherever_it_stands
    """),
    Row(27, "429 over and over while a position has no stop", EXCHANGE, "I8", seeded="rate_limited",
        chaos="rate_limited", shown="""
    execution/faults::a_stop_that_provably_was_not_sent_goes_out_at_the_next_look
    providers/http::an_exit_does_not_wait_for_the_doubling_that_is_our_own_guess
    live/budgets::entries_leave_the_reserve_to_exits
    """),
    Row(28, "502 as a web page, done or not done", EXCHANGE, "I3 I6", seeded="http_error", chaos="http_error",
        shown="""
    contract/faults::a_write_without_a_usable_answer_is_unknown_and_is_found_by_its_name
    contract/faults::a_write_that_was_lost_on_the_way_is_unknown_too_and_is_not_there
    """),
    Row(29, "200 that says \"failed\" for a reason nobody documented", EXCHANGE, "I6", seeded="success_false_200",
        chaos="success_false_200", shown="""
    contract/faults::a_refusal_that_nobody_documented_proves_nothing
    providers/nobitex_client::what_an_answer_to_an_order_means
    providers/wallex_client::what_a_refusal_means
    """),
    Row(30, "an answer that dribbles", EXCHANGE, "I7", seeded="slow_trickle delay", chaos="slow_trickle delay",
        shown="""
    contract/faults::a_write_without_a_usable_answer_is_unknown_and_is_found_by_its_name
    providers/http::a_trickling_peer_is_cut_off_at_the_deadline
    """),
    Row(31, "JSON cut off or garbled after the order was taken", EXCHANGE, "I3", seeded="malformed_json",
        chaos="malformed_json", shown="""
    contract/faults::a_write_without_a_usable_answer_is_unknown_and_is_found_by_its_name
    contract/faults::a_read_that_cannot_be_understood_is_no_answer
    """),
    Row(32, "wrong types, nulls, NaN, numbers without end", EXCHANGE, "I4", seeded="wrong_types", chaos="wrong_types",
        shown="""
    providers/fuzz::a_damaged_answer_gives_values_or_our_errors
    providers/fuzz::any_json_at_all_gives_values_or_our_errors
    providers/wire::what_is_no_amount_is_refused
    """),
    Row(33, "an unknown status, fields too many or too few", EXCHANGE, "I5", seeded="wrong_types", chaos="wrong_types",
        shown="""
    providers/wallex_mapping::an_unknown_status_raises
    providers/nobitex_calls::an_unknown_status_raises_wherever_an_order_is_read
    execution/faults::an_order_that_cannot_be_read_does_not_keep_its_deal_from_an_emergency_exit
    providers/wallex_mapping::the_oldest_replies_have_only_the_required_fields
    """),
    Row(34, "the answer is about another order", EXCHANGE, "I3", shown="""
    providers/wallex_client::an_answer_about_another_order_leaves_the_outcome_open
    providers/nobitex_client::what_an_answer_to_an_order_means
    execution/reconcile::one_order_that_cannot_be_settled_does_not_hide_the_others
    """),
    Row(35, "lists with rows twice, out of order or pages missing", EXCHANGE, "I3 I4", seeded="duplicate_fill",
        chaos="duplicate_fill", shown="""
    contract/faults::a_fill_that_is_listed_twice_is_one_fill
    contract/orders::lists_hold_every_order_once_over_all_pages
    providers/nobitex_client::a_full_page_that_is_not_the_next_one_is_no_list
    providers/wallex_client::a_repeated_page_is_not_the_whole_list_where_the_exchange_counts_more
    """),
    Row(36, "lists are seconds behind", EXCHANGE, "I1", seeded="read_lag accept_delayed",
        chaos="read_lag accept_delayed", shown="""
    contract/faults::an_accepted_order_may_not_be_visible_yet
    execution/resolve::what_the_rungs_answer_decides
    execution/faults::an_order_the_exchange_does_not_know_once_keeps_its_state
    """),
    Row(37, "an order's state goes back: open, filled, open", EXCHANGE, "I4 I5", seeded="read_lag", chaos="read_lag",
        shown="""
    execution/faults::a_stale_read_does_not_undo_a_fill
    execution/ledger_orm::what_is_filled_never_goes_back
    execution/reconcile::a_list_that_is_behind_reopens_nothing
    """),
    Row(38, "maintenance, for seconds or for days", EXCHANGE, "I24", seeded="maintenance outage",
        chaos="maintenance exchange_kill", shown="""
    contract/faults::an_exchange_in_maintenance_is_unavailable_and_nothing_was_done
    execution/kill_switch::flatten_in_an_outage_is_done_when_it_is_over_and_not_called_flat_before
    execution/guardian::without_redis_it_protects_a_deal_through_a_restart_of_the_exchange_and_stops_at_once
    providers/breaker::an_entry_is_refused_where_an_exit_passes
    """),
    Row(39, "one market is closed", EXCHANGE, "I24",
        gap="Known within ten minutes; of Wallex only where it lists a market no more. Until then it is refused there.",
        shown="""
    risk/gate::a_closed_market_is_blocked_before_anything_is_asked_about_the_strategy_or_the_data
    execution/entries::no_entry_on_a_closed_market_and_the_opposite_signal_closes_its_deal_all_the_same
    execution/exchange_faults::a_market_that_is_closed_refuses_its_own_entry_only
    providers/nobitex_client::what_an_answer_to_an_order_means
    """),
    Row(40, "the key is revoked or has expired", EXCHANGE, "I24", seeded="key_revoked", shown="""
    execution/faults::a_refused_key_stops_the_account_at_once
    execution/refused_key::one_refusal_in_all_under_four_workers
    risk/gate::a_key_opens_nothing_in_its_last_day
    services/accounts::each_warning_is_given_once
    """),
    Row(41, "403: the key may not trade, or not from here", EXCHANGE, "I24", seeded="key_revoked", shown="""
    providers/http::each_outcome_of_the_wire_has_one_class
    services/probe::a_key_that_may_not_trade_is_an_error_and_one_that_may_withdraw_a_warning
    admin/accounts::a_key_that_may_not_trade_wakes_nothing_up
    """),
    Row(42, "no TLS, no name, connection refused", EXCHANGE, "I6", seeded="outage", chaos="exchange_kill", shown="""
    providers/http::a_refused_connection_is_provably_not_sent
    providers/http::a_name_that_does_not_resolve_is_provably_not_sent
    providers/http::a_failed_tls_handshake_is_provably_not_sent
    execution/faults::an_entry_that_provably_was_not_sent_goes_out_later_while_it_is_young
    """),
    Row(43, "the connection is reset after the request was written", EXCHANGE, "I6", seeded="drop_after drop_before",
        chaos="drop_after drop_before", shown="""
    contract/faults::a_write_without_a_usable_answer_is_unknown_and_is_found_by_its_name
    simulation/venue::whether_a_byte_left_decides_what_a_failed_write_means
    """),
    Row(44, "a redirect in answer to an order", EXCHANGE, shown="""
    providers/http::each_outcome_of_the_wire_has_one_class
    """),
    Row(45, "the peer closes an idle connection just as an order is sent", EXCHANGE, "I6", seeded="drop_before",
        chaos="drop_before", shown="""
    providers/http::a_connection_the_peer_closed_while_idle_is_replaced_before_a_write
    providers/http::each_outcome_of_the_wire_has_one_class
    """),
    Row(46, "grids and minimums change during a deal", EXCHANGE, "I8", shown="""
    execution/exchange_faults::a_coarser_grid_leaves_the_stop_alone_and_rules_the_next_one
    execution/exchange_faults::a_coarser_step_leaves_the_stop_alone_and_rules_the_next_one
    execution/decide::what_rests_stays_when_the_exchange_would_take_nothing_in_its_place
    execution/decide::a_stop_that_is_placed_again_is_moved_to_the_coarser_tick_first_toward_safety
    market_data/markets::a_second_refresh_updates_the_same_rows
    """),
    Row(47, "a market leaves the list during a deal", EXCHANGE, "I15",
        gap="No exit is forced and nobody is called: the deal ends by its own rules.", shown="""
    execution/exchange_faults::a_market_that_is_not_listed_any_more_keeps_its_deal_protected_to_the_end
    market_data/markets::a_market_that_is_not_listed_any_more_is_closed_and_opens_again_when_it_is
    """),
    Row(48, "another fee than expected, or in a third asset", EXCHANGE, "I10 I28", shown="""
    execution/ledger_orm::a_fee_in_another_asset_takes_nothing_from_the_position
    execution/ledger_orm::while_fees_are_not_known_they_are_estimated_and_then_taken_from_the_fills
    execution/faults::fills_that_cannot_be_read_yet_do_not_hold_up_protection
    """),
    Row(49, "a person sells or withdraws what a deal holds", EXCHANGE, "I9 I28", shown="""
    execution/faults::what_a_person_took_away_by_hand_is_not_insisted_on
    execution/kill_switch::a_balance_moved_by_hand_is_no_proof
    """),
    Row(50, "a person cancels our stop", EXCHANGE, "I8", seeded="stop_canceled_by_hand", shown="""
    execution/advance_paper::a_stop_cancelled_at_the_exchange_is_placed_again
    execution/reconcile::an_order_that_works_for_us_and_ended_at_the_exchange_is_corrected
    """),
    Row(51, "a person places an order beside ours", EXCHANGE, "I9", seeded="order_by_hand", shown="""
    execution/reconcile::a_foreign_order_is_one_ticket_left_alone_and_blocks_its_market_only
    execution/reconcile::a_foreign_order_does_not_disturb_the_deal_beside_it
    """),
    Row(52, "the exchange's clock is wrong", EXCHANGE, seeded="clock_skew",
        gap="Entries end with the age of the book (5 s), not by a limit on the clock.", shown="""
    execution/exchange_faults::an_exchange_whose_clock_is_wrong_costs_no_deal_its_protection
    services/probe::clocks_apart
    risk/gate::no_decision_on_data_that_cannot_be_believed
    """),
    # --- market data --------------------------------------------------------------------------------------------------
    Row(53, "a price that is not true any more: a frozen book, a silent or disordered stream", MARKET,
        seeded="stale_book stream_silent stream_disconnect stream_duplicate stream_out_of_order stream_gap "
        "stream_no_ping",
        chaos="stale_book stream_silent stream_disconnect stream_duplicate stream_out_of_order stream_gap "
        "kill_stream stop_stream", shown="""
    execution/quotes::an_old_book_alone_is_no_price
    risk/gate::no_decision_on_data_that_cannot_be_believed
    live/board::nothing_is_refreshed_across_a_disconnect
    providers/streams_with_paper::no_candle_is_missing_and_no_book_crossed_after_disconnects_and_disorder
    """),
    Row(54, "an empty, one-sided or crossed book", MARKET, seeded="empty_book crossed_book",
        chaos="empty_book crossed_book", shown="""
    contract/faults::an_empty_or_crossed_book_is_told_as_unusable
    risk/gate::no_decision_on_data_that_cannot_be_believed
    live/board::a_crossed_book_changes_nothing
    """),
    Row(55, "a price off by ten, zero, negative or NaN", MARKET, shown="""
    risk/gate::rial_taken_for_toman_is_named
    risk/gate::a_close_that_is_no_price_is_denied
    market_data/candle_units::live_a_candle_off_by_ten_waits_for_the_one_after_it
    providers/wire::impossible_values_in_a_chart_are_no_answer
    """),
    Row(56, "candles missing, or fewer than needed", MARKET, shown="""
    execution/entries::too_short_a_history_is_said_and_not_filled_up
    execution/entries::a_candle_that_stays_away_is_said_once_for_each_that_is_missing
    market_data/candles_live::a_gap_stays_a_gap
    """),
    Row(57, "the last candle twice, or still running", MARKET, shown="""
    market_data/candles_live::the_running_candle_is_never_stored
    market_data/candles_live::of_two_candles_at_one_time_the_first_is_kept
    execution/entries::nobody_decides_over_a_candle_that_may_still_be_cut_short
    """),
    Row(58, "a candle is revised after the decision", MARKET, "I1", shown="""
    market_data/candles_live::a_revised_candle_keeps_its_first_version_and_is_reported
    execution/entries::a_signal_plans_a_deal_with_its_entry_once_for_a_candle
    """),
    Row(59, "candles out of order, columns of unequal length, long ranges", MARKET, shown="""
    market_data/candles_live::candles_out_of_order_are_stored_all_the_same
    providers/wire::a_chart_that_contradicts_itself_is_no_answer
    market_data/candles_history::a_long_range_is_asked_for_in_pages_that_join
    strategies/breakout::candles_must_be_in_order_and_of_one_length
    """),
    Row(60, "indicators without a value: a flat market, no volume", MARKET, shown="""
    strategies/breakout::what_is_not_known_gives_no_signal
    strategies/breakout::a_market_without_volume_has_no_breakout
    indicators/indicators::rsi_of_a_market_that_only_does_one_thing
    """),
    Row(61, "the day begins at midnight in Tehran, with summer time in old years", MARKET, "I19", shown="""
    market_data/candles_live::days_begin_at_the_midnight_of_tehran_and_have_no_gap_in_the_night_of_summer_time
    execution/entries::the_trading_day_begins_at_midnight_in_tehran
    backtest/engine::days_follow_the_zone_through_a_change_of_its_clock
    """),
    # --- processes ----------------------------------------------------------------------------------------------------
    Row(62, "death after a signal, before anything is written", PROCESS, "I1", seeded="kill", chaos="kill_worker",
        shown="""
    execution/entries_at_once::a_worker_that_dies_inside_leaves_nothing_and_holds_nothing
    """),
    Row(63, "death after the plan is committed", PROCESS, "I1 I8", seeded="crash_point kill",
        chaos="kill_guardian kill_worker", shown="""
    execution/crashes::a_death_after_any_step_changes_nothing_in_the_end
    execution/decide::a_planned_entry_is_withdrawn_when_it_has_grown_too_old
    """),
    Row(64, "death between the claim to send and the request", PROCESS, "I1 I6", seeded="crash_point kill",
        chaos="kill_guardian kill_worker", shown="""
    execution/crashes::a_death_after_any_step_changes_nothing_in_the_end
    execution/exchange_faults::a_commit_whose_answer_is_lost_is_neither_undone_nor_done_twice
    """),
    Row(65, "death with the request on the wire", PROCESS, "I1 I3", seeded="crash_point kill",
        chaos="kill_guardian kill_worker", shown="""
    execution/crashes::a_death_after_any_step_changes_nothing_in_the_end
    execution/faults::an_entry_whose_answer_is_lost_is_found_and_not_sent_again
    """),
    Row(66, "death with the answer in hand, not booked", PROCESS, "I1 I3", seeded="crash_point kill",
        chaos="kill_guardian kill_worker", shown="""
    execution/crashes::a_death_after_any_step_changes_nothing_in_the_end
    """),
    Row(67, "death with a filled entry and no stop", PROCESS, "I8", seeded="crash_point kill",
        chaos="kill_guardian kill_worker", shown="""
    execution/crashes::a_death_after_any_step_changes_nothing_in_the_end
    execution/crashes::dying_all_the_time_it_still_comes_to_the_right_end
    """),
    Row(68, "death with a stop that was not read back", PROCESS, "I8", seeded="crash_point kill",
        chaos="kill_guardian kill_worker", shown="""
    execution/crashes::a_death_after_any_step_changes_nothing_in_the_end
    execution/decide::a_new_stop_is_read_back_at_once
    execution/ledger_orm::the_answer_to_a_create_is_not_a_reading_back
    """),
    Row(69, "death in a replacement, the cancel sent", PROCESS, "I8 I9", seeded="crash_point kill",
        chaos="kill_guardian kill_worker", shown="""
    execution/crashes::a_death_after_any_step_changes_nothing_in_the_end
    """),
    Row(70, "death in a replacement, the cancel confirmed", PROCESS, "I8 I9", seeded="crash_point kill",
        chaos="kill_guardian kill_worker", shown="""
    execution/crashes::a_death_after_any_step_changes_nothing_in_the_end
    """),
    Row(71, "death in a swap: the stop is down, the exit in doubt", PROCESS, "I8 I11", seeded="crash_point kill",
        chaos="kill_guardian kill_worker", shown="""
    execution/crashes::a_death_after_any_step_changes_nothing_in_the_end
    execution/faults::an_exit_that_goes_wrong_is_done_once
    """),
    Row(72, "death with the position closed and an order left", PROCESS, "I11", seeded="crash_point kill",
        chaos="kill_guardian kill_worker", shown="""
    execution/crashes::a_death_after_any_step_changes_nothing_in_the_end
    execution/decide::when_the_stop_has_filled_the_target_of_mode_2_is_taken_back_then_the_deal_closes
    """),
    Row(73, "the switch is turned when a send is already claimed", PROCESS, "I23", seeded="kill_switch crash_point",
        shown="""
    execution/kill_switch::an_entry_claimed_before_the_switch_and_sent_late_is_taken_back
    execution/kill_switch::a_switch_waits_for_a_claim_that_is_being_made
    """),
    Row(74, "a commit of which the process never hears", PROCESS, "I6", seeded="database_blip",
        chaos="postgres_immediate", shown="""
    execution/exchange_faults::a_commit_whose_answer_is_lost_is_neither_undone_nor_done_twice
    """),
    Row(75, "a holder of the lock stands still", PROCESS, "I7 I8 I25", seeded="stall stall_point",
        chaos="stop_guardian stop_worker", shown="""
    execution/two_guardians::a_holder_that_hangs_is_evicted_writes_nothing_more_and_lives_on
    execution/locks::a_silent_holder_loses_the_account_writes_nothing_more_and_lives_on
    """),
    Row(76, "a stall between the commit and the send", PROCESS, "I7", seeded="stall_point",
        chaos="stop_guardian stop_worker", shown="""
    execution/send_deadline::a_process_that_stalls_between_commit_and_send_does_not_send
    execution/faults::a_process_that_stalls_before_sending_sends_nothing_late
    """),
    Row(77, "an orderly end in the middle of work", PROCESS, "I8",
        gap="How long a deploy leaves a stop down is measured with the rolling update.", theme="operations", shown="""
    execution/guardian::told_to_stop_it_finishes_what_is_in_hand_and_leaves_the_rest_to_its_successor
    execution/locks::a_process_that_ends_lets_go_between_two_steps_and_not_within_one
    """),
    Row(78, "death again and again", PROCESS, "I1", seeded="kill crash_point",
        chaos="kill_guardian kill_worker kill_beat kill_stream", shown="""
    execution/crashes::dying_all_the_time_it_still_comes_to_the_right_end
    launcher/supervisor::a_crashed_service_comes_back_after_its_back_off_and_it_is_said
    """),
    Row(79, "one account or deal fails every time", PROCESS, shown="""
    execution/guardian::one_accounts_trouble_does_not_keep_the_others_from_being_looked_after
    execution/guardian::an_account_that_fails_again_and_again_is_left_for_longer_and_tells_once
    execution/faults::one_deals_trouble_does_not_keep_the_next_one_from_its_protection
    """),
    Row(80, "two guardians, one account", PROCESS, "I25", seeded="stall kill", chaos="kill_guardian stop_guardian",
        shown="""
    execution/two_guardians::lost_sessions_are_replaced_and_a_killed_holder_within_two_seconds_and_nothing_is_sent_twice
    execution/locks::of_many_who_find_a_silent_holder_one_takes_the_account
    """),
    Row(81, "no guardian for minutes", PROCESS, "I8", seeded="kill", chaos="kill_guardian",
        gap="The missing heartbeat is shown and served; calling somebody because of it comes with notifications.",
        shown="""
    execution/exchange_faults::a_deal_nobody_looks_after_for_five_minutes_is_closed_by_its_stop_at_the_exchange
    end_to_end::a_signal_becomes_a_protected_deal_that_its_stop_closes
    admin/home::a_process_that_is_silent_or_never_reported_is_red
    api/system::health_tells_how_old_each_heartbeat_is
    """),
    Row(82, "memory, threads or connections leak", HOST,
        gap="Shows only over many hours: an accelerated day of running is part of the scaling work.", theme="scaling"),
    # --- queue, Redis and beat ----------------------------------------------------------------------------------------
    Row(83, "a task is delivered twice", QUEUE, "I1 I19", seeded="duplicate_task", shown="""
    execution/entries_at_once::eight_workers_over_one_candle_plan_one_deal
    execution/ledger_orm::two_workers_claim_an_order_once
    execution/advance_paper::an_account_held_by_somebody_else_is_left_alone
    """),
    Row(84, "a task is lost", QUEUE, seeded="lost_task", chaos="valkey_flush valkey_lose_files", shown="""
    execution/guardian::without_redis_it_protects_a_deal_through_a_restart_of_the_exchange_and_stops_at_once
    platform/celery::a_hint_that_cannot_be_sent_does_not_fail_what_was_committed
    """),
    Row(85, "Redis dies, or comes back empty", QUEUE, "I8", seeded="lost_task",
        chaos="valkey_restart valkey_lose_files", shown="""
    execution/guardian::without_redis_it_protects_a_deal_through_a_restart_of_the_exchange_and_stops_at_once
    live/stream_process::it_outlives_a_dead_redis_and_a_restart_of_the_exchange
    live/budgets::without_redis_a_process_keeps_to_a_small_share_and_does_not_ask_each_time
    """),
    Row(86, "Redis is flushed", QUEUE, "I8", seeded="lost_task", chaos="valkey_flush", shown="""
    live/market_feed::a_server_that_lost_everything_gets_everything_again
    live/budgets::a_redis_that_lost_its_data_is_counted_from_anew
    """),
    Row(87, "a worker hangs after Redis came back", QUEUE, chaos="valkey_restart",
        gap="A hung worker costs entries and latency, not protection; its container's health check ends it.", shown="""
    docs/containers::everything_that_stays_up_is_watched_and_started_again
    execution/guardian::without_redis_it_protects_a_deal_through_a_restart_of_the_exchange_and_stops_at_once
    """),
    Row(88, "two beats", QUEUE, "I1 I19", seeded="duplicate_task", shown="""
    execution/entries::two_workers_over_the_same_candle_plan_one_deal
    execution/entries_at_once::entries_of_a_day_stay_within_the_limit
    """),
    Row(89, "beat is away, then all its ticks come at once", QUEUE, seeded="lost_task duplicate_task",
        chaos="kill_beat stop_beat", shown="""
    platform/celery::every_scheduled_task_exists_and_expires_before_its_next_tick
    execution/entries_at_once::a_candle_older_than_the_last_one_is_not_decided_any_more
    """),
    Row(90, "two workers, one strategy, one candle", QUEUE, "I1", seeded="duplicate_task", shown="""
    execution/entries_at_once::eight_workers_over_one_candle_plan_one_deal
    models/database_refuses::a_second_entry_for_a_candle_and_a_second_live_deal_are_refused
    """),
    Row(91, "a task comes again after it was done", QUEUE, "I1", seeded="duplicate_task", shown="""
    execution/reconcile::a_second_run_changes_nothing
    execution/entries::a_signal_plans_a_deal_with_its_entry_once_for_a_candle
    """),
    Row(92, "a message that would run code", QUEUE, shown="""
    platform/celery::only_json_is_read_from_the_broker
    """),
    Row(93, "Redis answers slowly, or not at all", QUEUE, shown="""
    live/market_feed::a_reader_waits_for_a_hanging_redis_once_in_a_few_seconds
    live/market_feed::telling_never_waits_for_redis
    api/access::without_redis_the_api_answers_and_the_login_limit_still_holds
    """),
    # --- database and host --------------------------------------------------------------------------------------------
    Row(94, "PostgreSQL is restarted", DATABASE, "I2 I25", seeded="database_down",
        chaos="postgres_fast postgres_immediate", shown="""
    execution/two_guardians::lost_sessions_are_replaced_and_a_killed_holder_within_two_seconds_and_nothing_is_sent_twice
    execution/guardian::it_outlives_whatever_looking_for_accounts_meets
    execution/locks::a_dead_session_lets_go_at_once
    """),
    Row(95, "a server takes over without the last commits", DATABASE, "I3 I19",
        gap="Shown with rows taken away, not by a second server; counts of the day begin with what is left.", shown="""
    execution/exchange_faults::a_stop_that_the_database_forgot_is_found_under_its_name_and_not_placed_twice
    execution/exchange_faults::a_deal_that_the_database_forgot_is_a_ticket_that_blocks_its_market
    execution/identity::after_a_restore_a_deal_that_gets_an_old_number_gets_no_old_name
    """),
    Row(96, "the database is restored from an hour ago", DATABASE,
        gap="The restore drill is still to come; until then: kill switch first, then restore.", theme="operations"),
    Row(97, "a deadlock, or a lock that is not had in time", DATABASE, "I6", seeded="database_blip", shown="""
    execution/entries_at_once::decisions_exits_and_people_at_once_never_lock_each_other_out
    execution/locks::statements_and_transactions_are_bounded_while_an_account_is_held_and_only_then
    execution/guardian::what_the_database_or_another_worker_does_is_no_failure_of_the_account
    """),
    Row(98, "the connection ends between a commit and its answer", DATABASE, "I6", seeded="database_blip",
        chaos="postgres_immediate", shown="""
    execution/exchange_faults::a_commit_whose_answer_is_lost_is_neither_undone_nor_done_twice
    execution/entries_at_once::a_worker_that_is_killed_by_the_database_in_the_middle_lets_the_next_one_in
    """),
    Row(99, "a disk is full", HOST, "I2 I8",
        gap="Shown under the logs. Under the database it needs a file system of its own to fill; without a commit "
        "nothing is sent: row 94.", shown="""
    execution/guardian::a_full_disk_under_its_log_does_not_keep_it_from_protecting
    """),
    Row(100, "a read from a replica by mistake", DATABASE, "I25", shown="""
    platform/checks::there_is_one_database_and_nothing_reads_elsewhere
    """),
    Row(101, "a migration holds a table for long", DATABASE, "I8",
        gap="Waits end after two seconds; protection during a migration is for the rolling update to show.",
        theme="operations", shown="""
    execution/locks::statements_and_transactions_are_bounded_while_an_account_is_held_and_only_then
    """),
    Row(102, "our clock is set forward or back", HOST, "I7", seeded="skew", shown="""
    execution/send_deadline::a_wall_clock_that_is_set_meanwhile_holds_nothing_back
    execution/send_deadline::a_wall_clock_that_is_set_back_lets_no_stalled_process_send
    execution/quotes::a_clock_that_lies_does_no_harm
    live/budgets::a_wall_clock_that_is_set_back_blocks_nobody_for_as_long
    """),
    Row(103, "the machine's time zone is Tehran's", HOST, shown="""
    simulation/time_zone::a_world_is_the_same_in_every_time_zone
    """),
    Row(104, "no network to the database, or to the exchange", HOST, "I8 I24", seeded="outage database_down",
        chaos="exchange_kill postgres_fast postgres_immediate", shown="""
    execution/guardian::an_exchange_that_hangs_costs_the_other_nothing_and_does_not_keep_the_guardian_from_ending
    execution/guardian::it_outlives_whatever_looking_for_accounts_meets
    live/stream_process::it_waits_for_a_database_that_is_not_there
    """),
    Row(105, "the whole machine loses power", HOST, "I3 I8", seeded="kill",
        chaos="kill_guardian kill_worker postgres_immediate valkey_lose_files",
        gap="Everything at once is shown part by part: no test pulls the plug of a machine.", shown="""
    launcher/embedded::postgresql_keeps_its_data_over_a_kill_and_a_stale_lock_file
    execution/guardian::the_first_pass_looks_at_every_account_and_reconciles_later_ones_only_at_what_is_due
    execution/crashes::a_death_after_any_step_changes_nothing_in_the_end
    """),
    # --- people and releases ------------------------------------------------------------------------------------------
    Row(106, "a strategy's rules are edited during its deal", PEOPLE, "I27", seeded="config_edit", shown="""
    execution/config_changes::an_open_deal_ends_where_its_own_rules_say
    execution/config_changes::a_trailing_stop_goes_on_by_its_own_rules
    """),
    Row(107, "what a deal hangs on is deleted or switched off", PEOPLE, "I15 I27", shown="""
    execution/config_changes::nothing_an_open_deal_hangs_on_can_be_deleted
    execution/config_changes::a_deal_whose_strategy_left_the_factory_is_protected_and_closes
    admin/deletion::a_row_with_a_live_deal_is_not_deleted_and_the_page_says_why
    """),
    Row(108, "the key is exchanged during a deal", PEOPLE, "I8", seeded="key_revoked",
        gap="A key typed into a page is tried at its first use, not before it is stored.", shown="""
    execution/faults::after_a_new_key_the_account_goes_on_where_it_was
    execution/refused_key::a_new_key_is_not_stopped_by_a_worker_that_still_held_the_old_one
    admin/accounts::a_stopped_account_wakes_up_only_with_a_key_that_works
    """),
    Row(109, "the new key is another person's", PEOPLE,
        gap="A new key is tried before it is used, and not compared yet with the account that the old one "
        "belonged to.", theme="operations"),
    Row(110, "the switch is turned during an entry, a replacement, an outage", PEOPLE, "I8 I23", seeded="kill_switch",
        shown="""
    execution/kill_switch::an_entry_that_was_planned_before_the_switch_is_never_sent
    execution/kill_switch::a_claim_waits_for_a_switch_that_is_being_turned_and_obeys_it
    execution/kill_switch::flatten_in_an_outage_is_done_when_it_is_over_and_not_called_flat_before
    execution/kill_switch::a_stop_that_got_lost_is_placed_again_under_the_switch
    """),
    Row(111, "the switch is released by mistake, twice, or from an old page", PEOPLE,
        gap="The proof of being flat stands in for a second person.", shown="""
    admin/control::page_that_is_out_of_date_releases_nothing
    admin/control::double_click_counts_once
    admin/control::not_turned_without_a_reason
    admin/control::flatten_is_not_left_without_a_proof
    """),
    Row(112, "two builds run at once", PEOPLE,
        gap="A build has no name that the database knows yet; the rolling update brings it.", theme="operations"),
    Row(113, "a release that sends a thousand signals a minute", PEOPLE, "I19", shown="""
    execution/entries_at_once::an_account_that_plans_as_if_mad_is_paused_and_people_are_told_once
    execution/entries_at_once::what_a_sound_account_plans_is_no_runaway
    """),
    Row(114, "a slip of the hand: a thousandfold size, no stop, a stop on the wrong side", PEOPLE, shown="""
    risk/fat_fingers::a_parameter_beyond_reason_is_refused_beside_its_field
    risk/fat_fingers::the_database_refuses_a_plan_with_its_stop_or_target_on_the_wrong_side
    risk/fat_fingers::the_database_refuses_what_is_no_number
    """),
    Row(115, "two people say opposite things", PEOPLE, shown="""
    admin/control::two_at_once_are_two_versions
    admin/control::page_that_is_out_of_date_may_still_make_it_stricter
    admin/control::every_turn_leaves_an_entry_in_the_log
    """),
    Row(116, "a receiver of webhooks is slow, down or leads elsewhere", PEOPLE, shown="""
    notifications/deliver::receiver_that_is_away_is_left_alone_and_asked_again_later
    notifications/webhook::silent_receiver_does_not_hold_the_sender
    notifications/webhook::anything_but_2xx_is_a_failure_and_redirects_are_not_followed
    notifications/addresses::bad_address_is_refused_with_a_reason_and_nothing_is_sent
    """),
    Row(117, "the services for errors or mail are down", PEOPLE,
        gap="Nothing is sent to either yet: both come with notifications and operations.", theme="notifications"),
    Row(118, "paper is taken for live", PEOPLE, shown="""
    execution/identity::paper_and_live_never_share_a_name
    execution/advance_paper::an_account_of_the_other_environment_is_refused
    launcher/session::a_test_session_never_points_at_a_real_exchange
    """),
)
# fmt: on


# --- figures ---------------------------------------------------------------------------------------------------------


def seeded_counts(figures: Mapping[str, Any]) -> Counter[str]:
    """How often each kind was injected into the seeded worlds, from their figures."""
    return Counter(figures["faults"])


def chaos_counts(figures: Mapping[str, Any]) -> Counter[str]:
    """The same of a chaos run: `kill_guardian` counts both guardians."""
    counts = Counter(figures["faults_injected"])
    for how in ("kill", "stop"):
        for process, count in figures[f"{how}s"].items():
            counts["exchange_kill" if process == "paper" else f"{how}_{re.split('[-_]', process)[0]}"] += count
    counts.update({f"postgres_{how}": count for how, count in figures["postgres_restarts"].items()})
    counts.update({f"valkey_{how}": count for how, count in figures["valkey"].items()})
    return counts


# --- the table -------------------------------------------------------------------------------------------------------

HEADINGS = ("#", "Fault", "Where", "Must hold", "Shown by", "Seeded worlds", "Chaos run")
NEVER, NOT_RUN = "–", "not run"


def table(seeded: Mapping[str, int], chaos: Mapping[str, int] | None, folder: Path) -> str:
    """The matrix in Markdown, with links as seen from `folder`."""
    lines = ["| " + " | ".join(HEADINGS) + " |", "|" + " --- |" * len(HEADINGS)]
    for row in MATRIX:
        counts = (_count(row.seeded, seeded), _count(row.chaos, chaos))
        cells = (str(row.number), row.fault, row.where, row.invariants or NEVER, _shown(row, folder), *counts)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _count(kinds: str, counts: Mapping[str, int] | None) -> str:
    if not kinds:
        return NEVER
    if counts is None:
        return NOT_RUN
    return "<br>".join(f"{counts.get(kind, 0):,} `{kind}`" for kind in kinds.split())


def _shown(row: Row, folder: Path) -> str:
    parts = [_link(each, folder) for each in row.tests]
    if row.gap:
        parts.append(row.gap + (f" Theme: {row.theme}." if row.theme else ""))
    return "<br>".join(parts)


def _link(node: str, folder: Path) -> str:
    file, _, name = node.partition("::")
    path = Path(os.path.relpath(ROOT / file, folder)).as_posix()
    place = Path(file).relative_to("tests")
    return f"[{place.with_stem(place.stem.removeprefix('test_')).with_suffix('')}]({path}): {_words(name)}"


def _words(name: str) -> str:
    """A test's name as the sentence it is: a table with words in it wraps."""
    return name.removeprefix("test_").replace("_", " ")


def counts_in(text: str) -> tuple[Counter[str], Counter[str] | None]:
    """The counts that a written table tells, so that it can be made again: of the seeded worlds, and of the chaos run
    (None where none was given)."""
    seeded, chaos, was_run = Counter[str](), Counter[str](), False
    for cells in _cells(text):
        seeded |= _counted(cells[-2])
        chaos |= _counted(cells[-1])
        was_run = was_run or cells[-1] not in (NEVER, NOT_RUN)
    return seeded, chaos if was_run else None


def _cells(text: str) -> Iterator[list[str]]:
    for line in section(text).splitlines()[2:]:
        yield [cell.strip() for cell in line.strip("|").split("|")]


def _counted(cell: str) -> Counter[str]:
    found = (part.split(" ") for part in cell.split("<br>") if cell not in (NEVER, NOT_RUN))
    return Counter({kind.strip("`"): int(number.replace(",", "")) for number, kind in found})


def section(text: str) -> str:
    """What stands between the markers."""
    return text.partition(BEGIN)[2].partition(END)[0].strip("\n")


def with_table(text: str, made: str) -> str:
    """The document with this table between its markers."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"there are no two lines {BEGIN} and {END} to write between")
    return f"{before}{BEGIN}\n\n{made}\n\n{END}{after}"


NEW_DOCUMENT = f"# Reliability\n\n## The fault matrix\n\n{BEGIN}\n{END}\n"


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fault_matrix", description="Write the fault matrix.")
    parser.add_argument("--figures", type=Path, metavar="FILE", required=True, help="of the seeded worlds, as JSON")
    parser.add_argument("--chaos", type=Path, metavar="FILE", help="of a chaos run, as JSON")
    parser.add_argument("--write", type=Path, metavar="DOCUMENT", required=True, help="where its markers stand")
    options = parser.parse_args(argv)
    seeded = seeded_counts(json.loads(options.figures.read_text()))
    chaos = chaos_counts(json.loads(options.chaos.read_text())) if options.chaos else None
    document: Path = options.write
    text = document.read_text() if document.exists() else NEW_DOCUMENT
    document.write_text(with_table(text, table(seeded, chaos, document.resolve().parent)))
    unshown = [row.number for row in MATRIX if not row.shown]
    sys.stdout.write(f"{len(MATRIX)} rows; without a test: {unshown}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
