//! Where jobs go and why others wait. Each table is a rule.

use crate::text::check;

#[test]
fn the_tightest_fit_by_cards_wins() {
    check(
        "nodes  a: 8 gpu   b: 2 gpu   c: 4 gpu
         queue  j1: 2 gpu
         =>     j1 on b/0 gpu 0,1",
    );
}

#[test]
fn jobs_are_packed_and_not_spread() {
    check(
        "nodes  a: 8 gpu   b: 8 gpu
         queue  j1: 2 gpu   j2: 2 gpu   j3: 2 gpu
         =>     j1 on a/0 gpu 0,1
                j2 on a/1 gpu 2,3
                j3 on a/2 gpu 4,5",
    );
}

#[test]
fn work_without_cards_goes_where_cards_are_few() {
    check(
        "nodes  a: 2 gpu   b:   c: 1 gpu
         queue  j1: 2 slots
         =>     j1 on b/0,1",
    );
}

#[test]
fn of_equal_nodes_the_one_with_fewer_free_slots_then_the_first_name_wins() {
    check(
        "nodes  a: 2 gpu 8 slots   b: 2 gpu 4 slots   c: 2 gpu 4 slots
         queue  j1: 2 gpu   j2: 2 gpu
         =>     j1 on b/0 gpu 0,1
                j2 on c/0 gpu 0,1",
    );
}

#[test]
fn the_lowest_free_slots_and_cards_are_lent() {
    check(
        "nodes  a: 4 gpu
         run    j1 on a: 1 gpu   j2 on a: 1 gpu 2 slots
         queue  j3: 2 gpu 3 slots
         =>     j3 on a/3,4,5 gpu 2,3",
    );
}

#[test]
fn nodes_are_reserved_for_a_job_that_does_not_fit_and_who_would_run_into_that_waits() {
    check(
        "nodes  a: 8 gpu
         run    j1 on a: 6 gpu walltime=2:00:00
         queue  j2: 8 gpu walltime=1:00:00   j3: 2 gpu walltime=2:00:01
         =>     j2 waits: wants 8 cards on 1 node; a has 2 free
                j3 waits: its nodes are kept for job 2",
    );
}

#[test]
fn who_has_ended_when_a_reservation_begins_may_use_its_nodes() {
    check(
        "nodes  a: 8 gpu
         run    j1 on a: 6 gpu walltime=2:00:00
         queue  j2: 8 gpu walltime=0:10:00   j3: 2 gpu walltime=2:00:00
         =>     j3 on a/1 gpu 6,7
                j2 waits: wants 8 cards on 1 node; a has 2 free",
    );
}

#[test]
fn who_uses_what_a_reservation_leaves_of_its_node_may_go_on_for_long() {
    check(
        "nodes  a: 8 gpu
         run    j1 on a: 6 gpu walltime=2:00:00
         queue  j2: 7 gpu walltime=0:10:00   j3: 1 gpu walltime=90:00:00   j4: 1 gpu walltime=91:00:00
         =>     j3 on a/1 gpu 6
                j2 waits: wants 7 cards on 1 node; a has 2 free
                j4 waits: its nodes are kept for job 2",
    );
}

#[test]
fn a_reservation_is_where_and_when_the_nodes_come_free_first() {
    check(
        "nodes  a: 4 gpu   b: 4 gpu
         run    j1 on a: 2 gpu walltime=5:00:00   j2 on b: 2 gpu walltime=1:00:00
         queue  j3: 4 gpu walltime=1:00:00   j4: 2 gpu walltime=40:00:00
         =>     j4 on a/1 gpu 2,3
                j3 waits: wants 4 cards on 1 node; a has 2 free",
    );
}

#[test]
fn those_behind_may_use_what_is_not_kept() {
    check(
        "nodes  a: 8 gpu   b: 2 gpu
         run    j1 on a: 6 gpu
         queue  j2: 8 gpu   j3: 2 gpu walltime=169:00:00   j4: 1 gpu walltime=170:00:00
         =>     j3 on b/0 gpu 0,1
                j2 waits: wants 8 cards on 1 node; a has 2 free
                j4 waits: its nodes are kept for job 2",
    );
}

#[test]
fn the_node_that_lacks_least_is_kept() {
    check(
        "nodes  a: 8 gpu   b: 8 gpu
         run    j1 on a: 6 gpu   j2 on b: 2 gpu
         queue  j3: 8 gpu   j4: 2 gpu
         =>     j4 on a/1 gpu 6,7
                j3 waits: wants 8 cards on 1 node; b has 6 free",
    );
}

#[test]
fn nodes_are_reserved_for_the_first_who_does_not_fit_alone() {
    check(
        "nodes  a: 4 gpu   b: 4 gpu
         run    j1 on a: 1 gpu   j2 on b: 1 gpu
         queue  j3: 4 gpu   j4: 4 gpu   j5: 2 gpu walltime=200:00:00   j6: 2 gpu walltime=201:00:00
         =>     j5 on b/1 gpu 1,2
                j3 waits: wants 4 cards on 1 node; a has 3 free
                j4 waits: wants 4 cards on 1 node; a has 3 free
                j6 waits: its nodes are kept for job 3",
    );
}

#[test]
fn with_a_depth_of_two_nodes_are_reserved_for_the_second_too() {
    check(
        "qmgr   set server backfill_depth = 2
         nodes  a: 4 gpu   b: 4 gpu
         run    j1 on a: 1 gpu   j2 on b: 1 gpu
         queue  j3: 4 gpu   j4: 4 gpu   j5: 2 gpu walltime=200:00:00
         =>     j3 waits: wants 4 cards on 1 node; a has 3 free
                j4 waits: wants 4 cards on 1 node; a has 3 free
                j5 waits: its nodes are kept for job 3",
    );
}

#[test]
fn where_gaps_are_filled_only_with_what_ends_before_nothing_runs_beside_a_reservation() {
    let cluster = "nodes  a: 4 gpu   b: 4 gpu
         run    j1 on a: 1 gpu   j2 on b: 1 gpu
         queue  j3: 4 gpu   j4: 2 gpu walltime=200:00:00   j5: 2 gpu walltime=00:30:00";
    check(&format!(
        "qmgr   set server policy = easy
         {cluster}
         =>     j4 on b/1 gpu 1,2
                j5 on a/1 gpu 1,2
                j3 waits: wants 4 cards on 1 node; a has 3 free"
    ));
    check(&format!(
        "qmgr   set server policy = easy
                set server backfill_spare = False
         {cluster}
         =>     j5 on a/1 gpu 1,2
                j3 waits: wants 4 cards on 1 node; a has 3 free
                j4 waits: its nodes are kept for job 3"
    ));
}

#[test]
fn in_strict_order_nobody_overtakes() {
    check(
        "qmgr   set server policy = fifo
         nodes  a: 4 gpu   b: 4 gpu
         run    j1 on a: 1 gpu   j2 on b: 1 gpu
         queue  j3: 4 gpu   j4: 1 gpu walltime=0:01:00
         =>     j3 waits: wants 4 cards on 1 node; a has 3 free
                j4 waits: its nodes are kept for job 3",
    );
}

#[test]
fn short_work_goes_first_and_waiting_makes_up_for_it() {
    let queue = "nodes  a: 1 gpu
         queue  j1: 1 gpu walltime=24:00:00";
    check(&format!(
        "{queue}   j2: 1 gpu walltime=1:00:00
         =>     j2 on a/0 gpu 0
                j1 waits: wants 1 card on 1 node; a has 0 free"
    ));
    check(&format!(
        "{queue}
         pass   144000
         queue  j2: 1 gpu walltime=1:00:00
         =>     j1 on a/0 gpu 0
                j2 waits: wants 1 card on 1 node; a has 0 free"
    ));
}

#[test]
fn who_has_waited_too_long_goes_first_whatever_else() {
    check(
        "qmgr   set server starve_after = 7200
         nodes  a: 1 gpu
         queue  j1: 1 gpu walltime=500:00:00
         pass   7200
         queue  j2: 1 gpu walltime=0:01:00 prio 1000
         =>     j1 on a/0 gpu 0
                j2 waits: wants 1 card on 1 node; a has 0 free",
    );
}

#[test]
fn a_queue_in_strict_order_overtakes_nobody_of_its_own() {
    check(
        "qmgr   set queue high strict_fifo = True
         nodes  a: 4 gpu
         run    j1 on a: 2 gpu
         queue  j2: 4 gpu in high   j3: 1 gpu in high walltime=0:01:00   j4: 1 gpu walltime=0:01:00
         =>     j4 on a/1 gpu 2
                j2 waits: wants 4 cards on 1 node; a has 2 free
                j3 waits: its nodes are kept for job 2",
    );
}

#[test]
fn higher_queue_then_higher_job_priority_then_age_goes_first() {
    check(
        "nodes  a: 1 gpu   b: 1 gpu   c: 1 gpu
         queue  j1: 1 gpu   j2: 1 gpu prio 7   j3: 1 gpu   j4: 1 gpu in high prio -1
         =>     j4 on a/0 gpu 0
                j2 on b/0 gpu 0
                j1 on c/0 gpu 0
                j3 waits: wants 1 card on 1 node; a has 0 free",
    );
}

#[test]
fn a_job_gets_all_its_nodes_or_none() {
    check(
        "nodes  a: 2 gpu   b: 2 gpu   c: 2 gpu
         run    j1 on c: 1 gpu
         queue  j2: nodes=3:gpus=2   j3: nodes=2:gpus=2 walltime=200:00:00
         =>     j2 waits: wants 2 cards on 3 nodes; a has 2 free
                j3 waits: its nodes are kept for job 2",
    );
}

#[test]
fn nodes_come_in_the_order_of_the_request() {
    check(
        "nodes  a: 2 gpu   b:   c: 1 gpu S
         queue  j1: nodes=1:ppn=2+1:gpus=2+1:gpus=1:S
         =>     j1 on b/0,1 + a/0 gpu 0,1 + c/0 gpu 0",
    );
}

#[test]
fn the_part_with_the_least_choice_chooses_first() {
    check(
        "nodes  a: 2 gpu S   b: 2 gpu
         queue  j1: nodes=1:gpus=2+1:gpus=1:S
         =>     j1 on b/0 gpu 0,1 + a/0 gpu 0",
    );
}

#[test]
fn a_named_node_is_that_node_and_a_name_of_none_is_a_property() {
    check(
        "nodes  a: 2 gpu   b: 2 gpu fast
         queue  j1: nodes=b:gpus=1   j2: nodes=fast:gpus=1   j3: nodes=fast:gpus=1
         =>     j1 on b/0 gpu 0
                j2 on b/1 gpu 1
                j3 waits: wants 1 card on 1 node; b has 0 free",
    );
}

#[test]
fn one_node_named_twice_gives_both_parts() {
    check(
        "nodes  a: 2 gpu   b: 2 gpu
         queue  j1: nodes=a:ppn=2+a:ppn=1:gpus=1
         =>     j1 on a/0,1,2 gpu 0",
    );
}

#[test]
fn a_named_node_that_is_down_or_offline_says_so() {
    check(
        "nodes  a: 2 gpu down   b: 2 gpu offline   c: 2 gpu
         queue  j1: nodes=a   j2: nodes=b   j3: nodes=c
         =>     j3 on c/0
                j1 waits: a is down
                j2 waits: b is offline",
    );
}

#[test]
fn too_few_nodes_up_keep_nothing_from_others() {
    check(
        "nodes  a: 2 gpu   b: 2 gpu down
         queue  j1: nodes=2:gpus=2   j2: nodes=1:gpus=2
         =>     j2 on a/0 gpu 0,1
                j1 waits: wants 2 nodes, 1 of the right type up",
    );
}

#[test]
fn no_node_up_is_said_plainly() {
    check(
        "nodes  a: 2 gpu down   b: 2 gpu down
         queue  j1: 1 gpu   j2: procs=2
         =>     j1 waits: no node is up
                j2 waits: no node is up",
    );
}

#[test]
fn cards_that_are_not_clean_are_not_lent() {
    check(
        "nodes  a: 2 gpu unclean 0
         queue  j1: 2 gpu   j2: 1 gpu
         =>     j1 waits: 1 card of a still in use by ended jobs
                j2 waits: its nodes are kept for job 1",
    );
}

#[test]
fn the_clean_card_of_a_node_is_lent() {
    check(
        "nodes  a: 2 gpu unclean 0
         queue  j1: 1 gpu
         =>     j1 on a/0 gpu 1",
    );
}

#[test]
fn slots_and_memory_count_as_well() {
    check(
        "nodes  a: 4 slots 8 gb   b: 2 slots 16 gb
         queue  j1: 3 slots mem=2gb   j2: 3 slots   j3: mem=12gb   j4: mem=12gb
         =>     j1 on a/0,1,2
                j3 on b/0
                j2 waits: wants 3 slots on 1 node; a has 1 free
                j4 waits: wants 12288mb of memory on 1 node; b has 4096mb of memory free",
    );
}

#[test]
fn memory_is_shared_evenly_over_the_nodes() {
    check(
        "nodes  a: 8 gb   b: 8 gb
         queue  j1: nodes=2 mem=12gb   j2: mem=3gb
         =>     j1 on a/0 + b/0
                j2 waits: wants 3072mb of memory on 1 node; a has 2048mb of memory free",
    );
}

#[test]
fn enough_of_everything_on_different_nodes_is_not_enough() {
    check(
        "nodes  a: 2 gpu 4 slots   b: 2 gpu 4 slots
         run    j1 on a: 3 slots   j2 on b: 2 gpu
         queue  j3: 2 gpu 2 slots
         =>     j3 waits: wants 1 node, 0 could take it now",
    );
}

#[test]
fn loose_slots_stay_together_if_they_can() {
    check(
        "nodes  a: 4 slots   b: 6 slots
         queue  j1: procs=5   j2: procs=4   j3: procs=2
         =>     j1 on b/0,1,2,3,4
                j2 on a/0,1,2,3
                j3 waits: wants 2 slots in all, 1 free",
    );
}

#[test]
fn loose_slots_spread_over_as_few_nodes_as_will_do() {
    check(
        "nodes  a: 2 slots   b: 6 slots   c: 4 slots
         queue  j1: procs=9
         =>     j1 on b/0,1,2,3,4,5 + c/0,1,2",
    );
}

#[test]
fn loose_slots_that_are_not_there_keep_nodes_too() {
    check(
        "nodes  a: 4 slots   b: 4 slots
         run    j1 on a: 3 slots
         queue  j2: procs=6   j3: 4 slots walltime=200:00:00
         =>     j2 waits: wants 6 slots in all, 5 free
                j3 waits: its nodes are kept for job 2",
    );
}

#[test]
fn ncpus_are_slots_of_one_node() {
    check(
        "nodes  a: 4 slots   b: 6 slots
         queue  j1: ncpus=5
         =>     j1 on b/0,1,2,3,4",
    );
}

#[test]
fn held_and_stopped_jobs_stand_aside_and_keep_nothing() {
    check(
        "nodes  a: 2 gpu
         queue  j1: 2 gpu held   j2: 2 gpu in stopped   j3: 1 gpu
         =>     j3 on a/0 gpu 0
                j1 waits: hold types u
                j2 waits: queue stopped is stopped",
    );
}

#[test]
fn a_node_of_one_user_runs_no_others() {
    check(
        "nodes  a: 1 gpu only 1001   b: 2 gpu
         queue  j1: 2 gpu   j2: 1 gpu   j3: 1 gpu uid 1001
         =>     j1 on b/0 gpu 0,1
                j3 on a/0 gpu 0
                j2 waits: wants 1 card on 1 node; b has 0 free",
    );
}

#[test]
fn members_of_an_array_are_placed_as_jobs_are() {
    check(
        "nodes  a: 2 gpu   b: 2 gpu
         queue  j1: 1 gpu array 0-9   j2: 1 gpu
         =>     j1[0] on a/0 gpu 0
                j1[1] on a/1 gpu 1
                j1[2] on b/0 gpu 0
                j1[3] on b/1 gpu 1
                j1[] waits: wants 1 card on 1 node; a has 0 free
                j2 waits: wants 1 card on 1 node; a has 0 free",
    );
}

#[test]
fn an_array_uses_and_keeps_no_more_than_its_slot_limit() {
    check(
        "nodes  a: 4 gpu   b: 4 gpu
         run    j1 on a: 2 gpu   j2 on b: 2 gpu
         queue  j3: 4 gpu array 0-9%1   j4: 1 gpu array 0-9%2
         =>     j4[0] on a/1 gpu 2
                j4[1] on a/2 gpu 3
                j3[] waits: wants 4 cards on 1 node; a has 2 free
                j4[] waits: 2 members may run at once",
    );
}

#[test]
fn for_a_job_of_several_nodes_as_many_are_reserved() {
    check(
        "nodes  a: 2 gpu   b: 2 gpu   c: 2 gpu
         run    j1 on a: 1 gpu   j2 on b: 1 gpu   j3 on c: 1 gpu
         queue  j4: nodes=2:gpus=2   j5: 1 gpu walltime=200:00:00   j6: 1 gpu walltime=201:00:00
         =>     j5 on c/1 gpu 1
                j4 waits: wants 2 cards on 2 nodes; a has 1 free
                j6 waits: its nodes are kept for job 4",
    );
}
