"""docs/security.md: each thing that it says is done has a test that would fail otherwise.

The rows of its table stand here with what each one claims, and the tests that attack that. So a row
can neither be added without one nor keep one that is gone.
"""

import ast
import functools
import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TABLE = HERE.parent / "docs/security.md"

CLAIMS: dict[str, dict[str, str]] = {
    "A posted value becomes shell or a directive": {
        "typed": "config/test_parameters.py::test_a_value_of_another_type_is_refused",
        "bounded": "config/test_parameters.py::"
        "test_numbers_have_bounds_that_are_allowed_themselves",
        "of some length": "config/test_parameters.py::test_text_has_a_greatest_length",
        "no control characters": "config/test_parameters.py::"
        "test_text_with_anything_that_could_begin_a_line_is_refused",
        "nor from elsewhere": "jobscripts/test_render.py::"
        "test_control_characters_are_refused_and_the_parameter_is_named",
        "sandboxed": "jobscripts/test_render.py::test_a_template_cannot_reach_behind_the_values",
        "rendered once": "jobscripts/test_render.py::test_values_are_never_templates",
        "quoted": "jobscripts/test_render.py::"
        "test_every_hostile_value_arrives_in_bash_as_one_unchanged_word",
        "narrow alphabet": "jobscripts/test_render.py::"
        "test_a_directive_refuses_what_cannot_be_quoted_there",
        "no directive more": "jobscripts/test_options.py::"
        "test_no_option_can_hold_a_second_directive_or_a_second_word",
    },
    "A posted key replaces a setting": {
        "values apart": "jobscripts/test_render.py::test_user_and_admin_values_cannot_meet",
        "no effect": "web/test_requests.py::"
        "test_a_key_named_like_a_value_of_the_servers_changes_nothing",
    },
    "An argument becomes an option": {
        "Slurm": "schedulers/slurm/test_scheduler.py::"
        "test_values_of_a_request_cannot_become_options",
        "PBS": "schedulers/pbs/test_scheduler.py::"
        "test_a_name_that_is_more_than_a_name_never_reaches_a_command",
        "Grid Engine": "schedulers/gridengine/test_adapter.py::"
        "test_only_ids_are_handed_to_commands_that_also_take_names_and_patterns",
    },
    "The job names a host or port (SSRF)": {
        "host": "test_tunnels.py::test_what_is_no_node_is_not_connected_to",
        "pattern": "test_tunnels.py::test_a_sites_own_pattern_narrows_it_but_never_to_this_host",
        "port": "clusters/test_readiness.py::test_only_sensible_numbers_are_taken_from_a_job",
    },
    "A neighbour is faster at the port, or takes it after the application's end": {
        "whose": "jobscripts/test_listener.py::"
        "test_the_listener_of_another_account_is_not_the_jobs",
        "tried again": "test_readyprograms.py::"
        "test_a_neighbour_that_takes_the_port_gets_nothing_and_the_launch_is_tried_again",
        "before the epilogue": "test_readyprograms.py::"
        "test_the_end_of_a_program_ends_its_session_while_a_slow_epilogue_runs",
    },
    "A line in the map that means something else": {
        "made": "frontends/test_table.py::"
        "test_a_route_that_could_mean_something_else_cannot_be_made",
        "read back": "frontends/test_textmap.py::"
        "test_a_map_that_reads_back_differently_is_not_used",
    },
    "An open rewrite rule": {
        "ids": "frontends/test_apache.py::test_ids_of_another_shape_lead_nowhere",
        "unknown": "frontends/test_apache.py::test_an_unknown_session_is_not_found",
        "paths": "frontends/test_apache.py::test_a_websocket_cannot_choose_its_path",
        "plain paths": "frontends/test_apache.py::test_a_plain_path_stays_below_the_root",
    },
    "The secret is seen": {
        "trusted file": "jobscripts/test_launch.py::"
        "test_a_secret_file_that_cannot_be_trusted_is_refused",
        "kept output": "sessions/test_logs.py::"
        "test_where_nobody_knows_the_secret_all_that_could_be_one_is_blotted_out",
        "process": "jobscripts/test_prelude.py::"
        "test_the_secret_is_in_no_process_and_no_environment",
        "script": "jobscripts/test_render.py::test_a_context_has_no_place_for_a_secret",
        "logs": "jobscripts/test_launch.py::test_a_secret_that_the_application_prints_is_masked",
        "job records": "cluster/test_secrets.py::"
        "test_even_root_finds_no_secret_in_arguments_environments_and_job_records",
        "forgotten": "cluster/test_secrets.py::"
        "test_the_database_is_private_and_forgets_the_secret_with_the_session",
    },
    "The session id is seen": {
        "another account": "cluster/test_secrets.py::test_another_user_finds_neither_secret_nor_id",
        "random": "web/test_responses.py::test_ids_and_secrets_differ_and_fit_everywhere",
        "GET": "web/test_responses.py::test_no_secret_is_told_twice",
        "GET with users": "auth/test_owners.py::"
        "test_the_secret_of_a_ready_session_is_told_to_its_user_alone",
    },
    "Another page uses the client's browser": {
        "scripts": "browser/test_csrf.py::test_a_script_of_another_site_launches_and_stops_nothing",
        "forms": "browser/test_csrf.py::test_a_form_of_another_site_launches_nothing",
        "no Origin": "browser/test_csrf.py::test_a_page_without_an_origin_launches_nothing",
        "WebSockets, Apache": "browser/test_csrf.py::"
        "test_a_websocket_of_another_site_reaches_no_session",
        "WebSockets": "frontends/test_embedded.py::"
        "test_pages_of_this_host_and_of_listed_ones_are_welcome",
        "no switch": "auth/test_auth.py::"
        "test_only_pages_of_this_site_act_for_a_user_whom_the_front_end_knows",
        "listed": "web/test_origins.py::"
        "test_pages_of_other_sites_may_only_launch_where_they_are_listed",
    },
    "A page's name is made to lead to the service (DNS rebinding)": {
        "TCP": "test_attacks.py::test_a_page_whose_name_was_made_to_lead_here_may_do_nothing",
        "everywhere": "test_attacks.py::"
        "test_nor_does_such_a_page_get_anything_in_any_other_deployment",
        "unix socket": "test_attacks.py::test_nor_behind_a_unix_socket",
        "Apache": "frontends/test_apache_service.py::"
        "test_a_page_whose_name_was_made_to_lead_here_gets_nothing",
    },
    "A request that a proxy and the service read differently": {
        "lengths": "test_attacks.py::test_a_body_of_two_lengths_hides_no_second_request",
        "heads": "test_attacks.py::test_a_head_that_could_be_read_in_two_ways_ends_the_connection",
        "exact names": "auth/test_auth.py::test_what_is_written_otherwise_is_another_header",
        "what follows": "frontends/test_embedded.py::"
        "test_a_second_request_on_a_sessions_connection_reaches_nobody",
    },
    "Somebody names another user": {
        "address": "auth/test_auth.py::test_a_header_from_elsewhere_names_nobody",
        "unix socket": "auth/test_auth.py::test_a_front_end_on_a_unix_socket_needs_no_address",
        "secret": "auth/test_auth.py::"
        "test_whoever_is_not_named_as_agreed_is_refused_and_written_down",
        "everybody": "auth/test_auth.py::"
        "test_a_configuration_that_would_believe_everybody_is_refused",
        "Apache": "frontends/test_apache_users.py::"
        "test_the_service_hears_who_logged_in_whatever_the_client_claims",
    },
    "A name that means something else": {
        "alphabet": "auth/test_auth.py::test_a_site_may_allow_other_names_but_never_everything",
        "accounts": "auth/test_auth.py::"
        "test_whoever_is_not_named_as_agreed_is_refused_and_written_down",
        "tokens": "auth/test_tokens.py::"
        "test_a_token_of_somebody_who_may_be_no_user_any_more_is_refused",
    },
    "A token is stolen or guessed": {
        "digest": "auth/test_tokens.py::test_a_token_is_printed_once_and_kept_as_a_digest",
        "scopes": "auth/test_tokens.py::test_a_token_is_good_for_its_scopes_only",
        "on the way": "auth/test_tokens.py::"
        "test_a_token_leads_to_sessions_only_where_it_is_for_using_them",
        "life": "auth/test_tokens.py::test_a_token_that_should_not_be_is_not_made",
        "streams": "auth/test_tokens.py::test_an_open_stream_of_events_ends_with_its_token",
        "WebSockets": "frontends/test_embedded.py::test_a_visitor_who_may_not_any_more_is_cut_off",
        "forgotten": "auth/test_tokens.py::test_tokens_that_ended_long_ago_are_forgotten",
        "one answer": "auth/test_tokens.py::"
        "test_what_is_no_valid_token_is_refused_in_the_same_words",
        "not logged": "auth/test_tokens.py::"
        "test_a_token_works_on_a_service_that_runs_and_is_in_none_of_its_words",
    },
    "Guessing goes on and on": {
        "addresses": "auth/test_auth.py::test_an_address_that_guesses_is_slowed_down_and_no_other",
        "bounded": "auth/test_auth.py::test_failures_are_counted_in_bounded_memory",
        "IPv6": "auth/test_auth.py::test_a_network_of_ipv6_is_one_place",
        "ids of tokens": "auth/test_tokens.py::"
        "test_guesses_at_a_token_end_and_its_owner_elsewhere_is_not_shut_out",
        "at once": "auth/test_tokens.py::"
        "test_a_guess_among_many_at_once_learns_no_more_than_one_alone",
        "/proxy": "auth/test_tokens.py::"
        "test_guesses_on_the_way_to_a_session_shut_out_nobody_else_behind_the_front_end",
    },
    "A user looks into another's session": {
        "API": "auth/test_owners.py::test_nobody_but_the_owner_and_operators_learns_of_a_session",
        "time": "auth/test_owners.py::"
        "test_another_users_session_costs_the_questions_that_an_unknown_one_costs",
        "events": "auth/test_owners.py::test_the_events_of_a_session_are_its_owners",
        "events of all": "client/test_client.py::test_all_ones_sessions_are_told_of_in_one_stream",
        "lists": "web/test_listing.py::test_others_sessions_are_listed_for_operators_alone",
        "parameters": "web/test_listing.py::"
        "test_what_has_ended_is_told_with_all_that_launches_it_again",
        "keys": "auth/test_owners.py::test_a_key_opens_no_other_users_session",
        "/proxy": "frontends/test_embedded_users.py::"
        "test_only_its_owner_and_operators_get_to_a_session",
    },
    "Without users, another browser finds a session": {
        "others": "web/test_visitors.py::test_nobody_elses_browser_is_told_of_a_session",
        "forged": "web/test_visitors.py::test_a_cookie_that_was_not_given_lists_nothing",
        "cross-site": "web/test_visitors.py::test_pages_of_other_sites_act_for_no_visitor",
        "digest": "web/test_visitors.py::test_the_database_has_no_cookie",
        "no other right": "web/test_visitors.py::test_the_list_has_no_secret",
        "attributes": "web/test_visitors.py::test_the_cookie_is_as_closed_as_a_cookie_can_be",
        "applications": "frontends/test_border.py::test_only_the_applications_own_cookies_reach_it",
        "browsers": "browser/test_visitors.py::"
        "test_the_same_browser_finds_its_session_and_another_does_not",
    },
    "Somebody who is no operator announces or drains, or an announcement runs in browsers": {
        "operators": "web/test_announcements.py::test_nobody_but_operators_announces_or_withdraws",
        "no users": "web/test_announcements.py::test_without_users_nobody_is_an_operator",
        "audit log": "web/test_announcements.py::"
        "test_what_was_said_and_by_whom_is_in_the_audit_log",
        "one line": "web/test_announcements.py::test_what_cannot_be_announced_is_told",
        "text": "browser/test_announcements.py::"
        "test_what_operators_say_is_read_on_the_cards_and_never_runs",
        "policy": "browser/test_portal.py::test_the_page_may_load_and_run_only_its_own_files",
    },
    "What a job, a log or a parameter says runs in the portal": {
        "lists": "browser/test_sessions.py::"
        "test_what_jobs_and_users_wrote_is_text_and_why_it_ended_is_told",
        "output": "browser/test_sessions.py::test_output_is_followed_searched_and_downloaded",
        "links": "browser/test_sessions.py::"
        "test_launching_again_opens_the_form_filled_in_and_launches_nothing",
        "policy": "browser/test_portal.py::test_the_page_may_load_and_run_only_its_own_files",
    },
    "A user takes all there is": {
        "sessions": "auth/test_owners.py::"
        "test_a_user_has_so_many_sessions_and_takes_none_from_others",
        "queue": "auth/test_owners.py::test_a_user_fills_no_queue",
    },
    "The front end's secret is seen": {
        "file": "auth/test_auth.py::"
        "test_a_secret_that_others_can_reach_or_guess_is_refused_at_the_start",
        "links": "auth/test_auth.py::test_a_secret_must_be_a_file_of_ours",
        "sessions": "frontends/test_apache_users.py::"
        "test_a_session_hears_neither_the_user_nor_the_secret",
        "record": "auth/test_auth.py::test_a_user_whom_the_front_end_names_gets_a_session",
    },
    "Nobody knows who did it": {
        "private": "auth/test_auth.py::test_the_audit_log_is_private_and_outlives_its_rotation",
        "no file": "auth/test_auth.py::test_without_a_file_the_record_goes_to_the_log",
        "refusals": "auth/test_auth.py::"
        "test_whoever_is_not_named_as_agreed_is_refused_and_written_down",
        "tokens": "auth/test_tokens.py::test_a_token_is_printed_once_and_kept_as_a_digest",
    },
    "A job's output or a client puts a line into the log": {
        "output": "cli/test_logformat.py::test_a_jobs_output_puts_no_line_into_the_log",
        "objects": "cli/test_logformat.py::test_structured_logs_are_an_object_a_line",
        "tracebacks": "cli/test_logformat.py::"
        "test_a_traceback_is_one_line_and_nothing_acts_on_a_terminal",
        "request ids": "web/test_replies.py::test_a_reply_has_the_id_of_its_request_or_a_new_one",
    },
    "Cookies and passwords reach the application": {
        "/proxy": "frontends/test_embedded.py::"
        "test_a_plain_request_reaches_the_session_without_what_is_the_visitors",
        "own address": "frontends/test_border.py::"
        "test_what_says_who_the_user_is_does_not_reach_the_session",
        "its cookies": "frontends/test_border.py::test_only_the_applications_own_cookies_reach_it",
        "Apache": "frontends/test_apache_service.py::"
        "test_a_websocket_crosses_apache_and_nothing_of_its_client_with_it",
    },
    "A session is opened at its own address by another user": {
        "once": "frontends/test_ownaddress_users.py::"
        "test_a_ticket_opens_the_session_once_and_leaves_a_cookie",
        "replicas": "postgres/test_store.py::"
        "test_a_ticket_admits_once_whatever_replica_it_comes_to",
        "whose": "frontends/test_ownaddress_users.py::"
        "test_tickets_are_for_one_session_one_user_and_a_minute",
        "TLS": "frontends/test_ownaddress_users.py::"
        "test_over_tls_the_cookie_is_one_that_nobody_else_can_set",
        "browsers": "browser/test_ownpages.py::"
        "test_a_users_page_has_neither_ticket_nor_secret_in_its_address",
    },
    "A secret stays in an address": {
        "browsers": "browser/test_ownpages.py::"
        "test_a_users_page_has_neither_ticket_nor_secret_in_its_address",
    },
    "A session's page acts for more than itself, at its own address": {
        "replies": "frontends/test_border.py::test_no_reply_speaks_for_more_than_its_own_address",
        "101 and 103": "frontends/test_border.py::test_neither_101_nor_103_nor_others_say_more",
        "cookies": "frontends/test_border.py::test_a_sessions_cookie_is_its_own_hosts_alone",
        "redirects": "frontends/test_border.py::test_a_redirect_stays_at_the_sessions_address",
        "next door": "frontends/test_border.py::"
        "test_pages_of_other_addresses_may_link_here_and_nothing_more",
        "browsers": "browser/test_ownpages.py::test_a_sessions_page_cannot_act_as_the_portal",
    },
    "The front end passes on what it must not": {
        "lists": "frontends/test_localend.py::test_only_what_is_on_the_list_crosses_both_ways",
        "own host": "frontends/test_localend.py::test_at_the_sessions_own_host_cookies_are_its_own",
    },
    "Something is smuggled to a session": {
        "requests": "frontends/test_border.py::"
        "test_a_request_that_could_be_read_differently_reaches_nobody",
        "chunks": "frontends/test_border.py::test_chunks_that_are_none_end_the_request",
        "second answers": "frontends/test_border.py::test_what_follows_an_answer_is_nobodys",
    },
    "A session's page acts as the portal's, at `/proxy`": {
        "sandbox": "frontends/test_embedded.py::test_a_sessions_error_page_is_no_less_sandboxed",
        "sandbox, Apache": "frontends/test_apache.py::"
        "test_a_sessions_error_page_is_no_less_sandboxed",
        "origin": "frontends/test_embedded.py::"
        "test_a_session_does_not_speak_for_the_portals_whole_origin",
        "heads": "frontends/test_embedded.py::"
        "test_a_reply_that_browsers_would_read_otherwise_is_not_passed_on",
    },
    "What is told of sessions stays in a cache": {
        "headers": "test_attacks.py::test_what_is_told_of_sessions_is_kept_by_no_cache",
    },
    "Somebody puts another directory or file in the place of ours": {
        "writable": "files/test_directories.py::test_a_directory_that_others_can_write_to_is_found",
        "owned": "files/test_directories.py::"
        "test_a_directory_of_somebody_elses_is_found_whatever_its_mode",
        "links": "files/test_directories.py::test_links_are_walked_along_to_where_they_lead",
        "sticky": "files/test_directories.py::test_in_a_sticky_directory_what_is_ones_own_is_safe",
        "staging": "transports/test_conformance.py::"
        "test_nothing_is_staged_where_others_could_put_theirs_in_its_place",
        "sudo": "transports/test_sudo.py::"
        "test_nothing_is_staged_where_others_could_put_theirs_in_its_place",
        "start": "test_service.py::test_what_others_could_replace_two_directories_above_is_told",
    },
    "The database's password is seen": {
        "address": "test_store.py::test_an_address_that_leads_nowhere_is_told_without_its_password",
        "server": "test_store.py::test_a_server_that_is_not_there_is_told_without_the_password",
    },
    "A job's log is a link to something else": {
        "links, devices": "transports/test_conformance.py::"
        "test_what_is_no_plain_file_of_the_owner_is_not_there",
        "two names": "transports/test_local.py::"
        "test_a_file_of_two_names_is_not_read_and_keeps_its_locks",
        "sudo": "transports/test_sudo.py::test_links_devices_and_what_is_no_file_are_not_read",
        "sshd": "cluster/test_stalled.py::test_a_file_of_two_names_is_not_read",
        "database": "test_service.py::"
        "test_a_job_that_links_the_database_into_its_log_shows_and_breaks_nothing",
        "codes": "clusters/test_readiness.py::test_terminal_and_control_codes_are_removed",
    },
    "What a job, a queue or a user wrote acts on the terminal of who looks": {
        "commands": "client/test_commands.py::test_nothing_that_a_job_prints_acts_on_the_terminal",
        "cut": "client/test_commands.py::test_escape_sequences_and_characters_may_be_cut_anywhere",
        "markup": "client/test_commands.py::test_words_of_the_service_are_no_markup",
        "addresses": "client/test_commands.py::test_only_addresses_of_the_web_are_opened",
    },
    "The token of a person is seen": {
        "arguments": "client/test_commands.py::"
        "test_the_token_goes_to_nothing_that_is_not_the_service",
        "file": "client/test_commands.py::test_a_login_is_tried_and_kept_for_its_owner_alone",
        "used": "client/test_commands.py::test_a_login_that_others_can_read_is_not_used",
        "encrypted": "client/test_client.py::test_addresses_and_tokens_that_cannot_be_are_refused",
        "redirections": "client/test_client.py::"
        "test_another_servers_answer_is_not_taken_for_the_services",
        "log": "client/test_client.py::test_the_token_is_in_no_log",
    },
    "A false host": {
        "known": "transports/test_connection.py::"
        "test_no_line_of_an_ssh_config_turns_the_check_of_host_keys_off",
        "jump hosts": "transports/test_connection.py::test_a_jump_host_is_checked_as_every_host_is",
        "changed": "transports/test_connection.py::test_a_host_with_a_changed_key_is_refused",
    },
    "The ssh_config weakens us": {
        "given": "transports/test_connection.py::"
        "test_what_an_ssh_config_would_give_to_the_host_is_not_given",
        "cryptography": "transports/test_connection.py::"
        "test_no_line_of_an_ssh_config_weakens_the_cryptography",
    },
    "Others write the ssh_config, or read a key": {
        "files": "transports/test_connection.py::"
        "test_a_file_that_others_can_change_is_not_believed",
        "directories": "transports/test_connection.py::"
        "test_a_file_in_a_directory_of_others_is_not_believed",
        "keys": "transports/test_connection.py::test_a_key_that_others_can_reach_is_not_used",
    },
    "SSH is used up": {
        "closed": "transports/test_used_up.py::test_sftp_that_does_not_start_costs_nothing",
        "killed": "transports/test_used_up.py::"
        "test_a_command_that_outlives_its_time_is_ended_there",
        "replaced": "transports/test_used_up.py::"
        "test_a_connection_that_refuses_every_session_is_replaced",
        "sshd": "cluster/test_stalled.py::test_a_stalled_command_is_killed_at_once_and_leaves_room",
    },
    "The service's environment reaches jobs": {
        "commands": "transports/test_local.py::"
        "test_a_secret_of_the_service_does_not_reach_a_command",
        "jobs": "schedulers/local/test_ends.py::"
        "test_jobs_do_not_inherit_the_services_secrets_or_ignored_signals",
    },
    "A job of the embedded runner acts as the service": {
        "run_as": "test_runas.py::"
        "test_a_job_has_its_own_account_and_reaches_nothing_of_the_services",
        "refused": "test_runas.py::"
        "test_users_and_jobs_of_the_services_own_account_go_together_only_where_that_is_said",
        "links": "test_runas.py::test_what_a_job_puts_in_the_services_way_leads_root_nowhere",
        "doctor": "doctor/test_doctor.py::test_as_whom_jobs_run_here_and_what_ends_them_is_told",
    },
    "A job's processes outlive it": {
        "group": "schedulers/local/test_daemons.py::"
        "test_no_process_outlives_its_job_where_it_has_a_group",
        "sessions": "schedulers/local/test_daemons.py::"
        "test_who_cleared_its_environment_in_the_jobs_session_ends_with_it",
    },
    "ssh(1) as the back end of tunnels tells, trusts or leaves more": {
        "host keys": "transports/test_openssh.py::"
        "test_several_hops_are_each_a_master_and_each_checked",
        "as strict as ours": "transports/test_connection.py::"
        "test_no_line_of_an_ssh_config_turns_the_check_of_host_keys_off",
        "nothing handed on": "transports/test_openssh.py::"
        "test_a_ticket_logs_in_and_is_not_handed_on",
        "arguments, environment": "transports/test_openssh.py::"
        "test_arguments_and_environment_of_ssh_tell_nothing",
        "dies with the service": "transports/test_openssh.py::"
        "test_a_service_that_is_killed_leaves_no_ssh_and_the_next_one_tidies_up",
        "control socket": "transports/test_openssh.py::test_a_control_socket_of_others_is_not_used",
        "local end": "test_tunnels.py::test_a_unix_socket_has_its_mode_and_goes_with_the_tunnel",
    },
    "Somebody changes the queue of machines without a batch system": {
        "refused": "schedulers/hosts/test_kills.py::"
        "test_a_machine_that_others_can_write_to_is_refused",
        "its files": "schedulers/hosts/test_silence.py::"
        "test_a_machine_that_sees_other_files_is_told_and_gets_no_job",
        "configured machines": "schedulers/hosts/test_lives.py::"
        "test_a_machine_that_is_not_configured_any_more_has_ended_its_jobs",
    },
    "The service's own TLS is weak, or its key is another's": {
        "versions and ciphers": "web/test_tls.py::test_old_versions_and_weak_ciphers_are_refused",
        "key": "web/test_tls.py::test_a_key_that_others_can_read_stops_the_start",
        "read again": "web/test_tls.py::test_a_renewed_certificate_is_used_and_a_broken_one_is_not",
        "handshake": "web/test_tls.py::"
        "test_visitors_who_never_end_their_handshake_are_counted_and_given_up",
        "cookies": "browser/test_tls.py::"
        "test_a_page_opened_by_a_ticket_runs_over_tls_with_secure_cookies_alone",
        "hsts": "web/test_tls.py::test_clients_hear_https_everywhere_and_that_it_shall_stay_so",
    },
    "A backup is read by others": {
        "private": "cli/test_backup.py::"
        "test_a_backup_is_whole_private_and_without_the_secrets_of_what_is_over",
        "tokens": "cli/test_backup.py::"
        "test_sessions_go_on_from_a_backup_and_what_it_does_not_know_is_ended",
        "warm": "cli/test_backup.py::test_a_session_that_waited_for_its_user_is_nobodys_again",
    },
    "Orphan jobs burn an allocation": {
        "intent": "sessions/test_restarts.py::"
        "test_a_stop_is_not_forgotten_by_a_service_that_is_killed",
        "cleaning": "sessions/test_teardown.py::"
        "test_a_cluster_that_stays_silent_is_given_up_by_who_waits_but_cleaned_up",
        "marked": "clusters/test_orphans.py::"
        "test_a_job_of_ours_without_a_session_is_ended_with_its_directory",
        "two sightings": "clusters/test_orphans.py::test_one_sighting_is_not_enough",
        "others": "clusters/test_orphans.py::test_jobs_of_others_are_not_touched",
        "Slurm": "cluster/test_sessions.py::"
        "test_a_service_that_was_killed_goes_on_with_its_sessions",
    },
    "All jobs are one account's": {
        "own": "cluster/test_users.py::test_each_user_s_job_files_and_tunnel_are_the_user_s_own",
        "others": "cluster/test_users.py::test_a_user_finds_nothing_of_another_s_session",
        "kept": "cluster/test_users.py::"
        "test_a_mapping_that_changes_does_not_move_a_session_that_lives",
    },
    "A user's name leads to root, an option or a path": {
        "names": "identity/test_names.py::"
        "test_a_hostile_name_is_refused_even_where_the_pattern_allows_all",
        "maps": "identity/test_names.py::test_a_map_file_cannot_lead_where_names_cannot",
        "system": "identity/test_names.py::test_an_account_of_the_system_is_refused",
        "cluster": "cluster/test_users.py::"
        "test_a_name_that_is_no_user_s_is_refused_and_nothing_is_done",
        "uids there": "cluster/test_certificates.py::"
        "test_an_account_with_a_small_number_on_the_cluster_is_not_used",
    },
    "The CA's key, a user's key or the map is somebody else's": {
        "CA": "identity/test_logins.py::test_a_ca_key_that_others_can_reach_stops_the_start",
        "passphrase": "identity/test_logins.py::test_a_ca_key_with_a_passphrase_is_told",
        "keys": "identity/test_logins.py::test_a_user_s_key_that_others_can_reach_stops_the_start",
        "map": "identity/test_names.py::test_a_map_file_that_others_can_write_stops_the_start",
        "certificates": "identity/test_logins.py::"
        "test_a_certificate_is_for_one_account_for_minutes_and_for_as_little_as_can_be",
        "sshd": "cluster/test_certificates.py::"
        "test_a_certificate_for_nodes_forwards_ports_and_runs_nothing",
        "memory": "identity/test_logins.py::test_no_private_key_is_in_what_a_login_shows",
    },
    "sudo's rules allow too much": {
        "rules": "identity/test_identity.py::"
        "test_the_rules_allow_what_the_adapter_runs_and_one_helper",
        "visudo": "identity/test_identity.py::test_the_rules_are_valid_in_the_eyes_of_visudo",
        "below": "transports/test_sudo.py::test_a_directory_elsewhere_is_refused",
        "links": "transports/test_sudo.py::test_links_devices_and_what_is_no_file_are_not_read",
    },
    "A session that was kept ready is used by another than its user": {
        "nobody's": "warm/test_users.py::"
        "test_it_is_nobodys_until_a_user_has_it_and_then_that_ones_alone",
        "one": "warm/test_store.py::test_each_goes_to_one_launch_of_many",
        "new secret": "warm/test_launches.py::"
        "test_the_user_gets_a_secret_that_is_new_and_not_left_on_disk",
        "old secret, cut": "warm/test_flow.py::"
        "test_the_demos_session_is_its_users_alone_after_the_hand_over",
        "configuration": "warm/test_users.py::"
        "test_warm_sessions_that_could_be_somebody_elses_are_refused",
        "replicas": "postgres/test_warm.py::"
        "test_a_follower_gives_the_session_a_new_secret_and_the_leader_keeps_it",
        "SSH": "cluster/test_warm.py::test_the_services_session_gets_a_new_secret_over_ssh",
    },
    "Connections until there are no descriptors": {
        "taken": "network/test_limits.py::"
        "test_all_descriptors_are_taken_and_children_get_what_is_usual",
        "told": "network/test_limits.py::test_failed_accepts_are_told_once_in_a_while",
        "counted": "frontends/test_ownaddress.py::"
        "test_connections_are_bounded_in_all_by_address_and_by_session",
        "silent": "web/test_crowds.py::"
        "test_idle_connections_of_one_address_deny_service_to_nobody_else",
    },
    "An uploaded file is put where it must not be": {
        "names": "web/test_uploads.py::"
        "test_a_name_that_could_mean_something_else_is_refused_with_the_rule",
        "links": "web/test_uploads.py::test_a_users_folder_that_leads_elsewhere_is_not_used",
        "replaces nothing": "web/test_uploads.py::"
        "test_of_two_at_once_with_one_name_the_second_replaces_nothing",
        "start": "web/test_uploads.py::test_a_directory_that_others_may_write_to_stops_the_start",
    },
    "Uploads fill the disk": {
        "a file": "web/test_uploads.py::test_a_file_over_its_limit_is_refused_and_leaves_nothing",
        "all": "web/test_uploads.py::test_all_files_together_have_a_limit",
        "at once": "web/test_uploads.py::"
        "test_uploads_at_once_never_have_more_than_the_limit_on_the_disk",
        "how many": "web/test_uploads.py::test_there_are_only_so_many_uploads_at_once",
        "silence": "web/test_uploads.py::test_who_sends_nothing_is_not_waited_for",
        "known": "web/test_uploads.py::test_ten_gigabytes_are_refused_by_their_length",
        "grows": "web/test_uploads.py::test_a_body_that_grows_over_the_limit_is_cut_off",
        "breaks off": "web/test_uploads.py::"
        "test_an_upload_that_is_cut_in_the_middle_leaves_nothing",
    },
    "Too much of everything": {
        "bodies": "web/test_requests.py::test_a_large_request_is_refused",
        "events": "web/test_events.py::"
        "test_who_opens_stream_after_stream_is_refused_until_one_is_closed",
        "at once": "web/test_events.py::"
        "test_of_many_streams_at_once_no_more_are_let_in_than_one_after_the_other",
        "output": "transports/test_conformance.py::test_too_much_output_is_an_unexpected_reply",
        "heads": "frontends/test_embedded.py::"
        "test_a_visitor_who_never_finishes_the_head_is_dropped",
    },
}


def rows() -> dict[str, str]:
    """What a row says, by its threat."""
    lines = TABLE.read_text().splitlines()
    table = [line.split(" | ") for line in lines if line.startswith("| ")][2:]
    return {cells[0].removeprefix("| "): cells[-1] for cells in table}


@functools.cache
def named_in(file: Path) -> set[str]:
    """The names of the tests in a file."""
    tree = ast.parse(file.read_text())
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    return {each.name for each in tree.body if isinstance(each, kinds)}


def test_each_row_has_its_claims_here_and_none_is_left_over() -> None:
    assert set(rows()) == set(CLAIMS)


@pytest.mark.parametrize("threat", CLAIMS)
def test_each_claim_has_a_test_that_there_is_and_the_row_names_its_place(threat: str) -> None:
    named = re.findall(r"`(tests/[^`]+)`", rows()[threat])
    used = set()
    for claim, test in CLAIMS[threat].items():
        file, _, name = test.partition("::")
        assert name in named_in(HERE / file), f"{claim}: there is no {test}"
        places = [each for each in named if f"tests/{file}/".startswith(f"{each}/")]
        assert places, f"{claim}: the row does not name tests/{file}"
        used |= set(places)
    assert set(named) == used, "the row names a place without a test of its claims"
