//! Which cards a job gets, and which nodes: kinds, islands, shares, slices, images. Each table is a rule.

use crate::harness::{World, inventory, submission};
use crate::text;

/// First come, first served: then a table shows in which order jobs choose.
fn check(table: &str) {
    text::check(&format!("qmgr set server policy = easy\n{table}"));
}

#[test]
fn a_model_is_asked_for_without_anybody_declaring_it() {
    check(
        "nodes  a: 2 gpu of NVIDIA_GeForce_RTX_3090/24   b: 2 gpu of NVIDIA_GeForce_RTX_4090/24
         queue  j1: nodes=1:gpus=1:rtx4090   j2: nodes=1:gpus=1:3090   j3: nodes=1:gpus=2:RTX4090   j4: nodes=rtx4090
         =>     j1 on b/0 gpu 0
                j2 on a/0 gpu 0
                j4 on b/1
                j3 waits: wants 2 cards on 1 node; b has 1 free",
    );
}

#[test]
fn any_of_several_models_will_do() {
    check(
        "nodes  a: 1 gpu of A40/48   b: 1 gpu of RTX_3090/24   c: 1 gpu of RTX_2080_Ti/11
         queue  j1: nodes=2:gpus=1:3090|a40   j2: nodes=1:gpus=1:3090|a40
         =>     j1 on a/0 gpu 0 + b/0 gpu 0
                j2 waits: wants 1 card on 1 node; a has 0 free",
    );
}

#[test]
fn a_property_of_the_node_stands_for_a_model() {
    check(
        "nodes  a: 1 gpu of RTX_3090/24   b: 1 gpu of A40/48 fast
         queue  j1: nodes=1:gpus=1:fast|3090   j2: nodes=1:gpus=1:fast
         =>     j1 on a/0 gpu 0
                j2 on b/0 gpu 0",
    );
}

#[test]
fn minimums_choose_nodes_whose_cards_have_so_much() {
    check(
        "nodes  a: 2 gpu of RTX_2080_Ti/11/7.5/12.2   b: 2 gpu of RTX_3090/24/8.6/11.4   c: 2 gpu of A40/48/8.6/12.4
         queue  j1: nodes=1:gpus=1:gpumem>=24gb   j2: nodes=1:gpus=1:cuda>=12.1   j3: nodes=1:gpus=1:cc>=8.0:cuda>=12.1
                j4: nodes=1:gpus=2:gpumem>=25gb
         =>     j1 on b/0 gpu 0
                j2 on a/0 gpu 0
                j3 on c/0 gpu 0
                j4 waits: wants 2 cards on 1 node; c has 1 free",
    );
}

#[test]
fn what_minus_l_says_of_cards_counts_for_all_parts() {
    check(
        "nodes  a: 2 gpu of RTX_2080_Ti/11/7.5/12.2   b: 2 gpu of A40/48/8.6/12.4
         queue  j1: nodes=1:gpus=1 gpumem=24gb   j2: gres=gpus:1:a40   j3: nodes=1 gpu_model=a40
                j4: select=1:ngpus=1:gpu_mem=12gb
         =>     j1 on b/0 gpu 0
                j2 on b/1 gpu 1
                j3 on b/2
                j4 waits: wants 1 card on 1 node; b has 0 free",
    );
}

#[test]
fn of_a_node_with_several_kinds_a_job_gets_only_cards_that_suit_it() {
    check(
        "nodes  a: 2 gpu of RTX_2080_Ti/11 2 gpu of A40/48
         queue  j1: nodes=1:gpus=1:a40   j2: nodes=1:gpus=1   j3: nodes=1:gpus=2:gpumem>=40gb   j4: nodes=1:gpus=2
         =>     j1 on a/0 gpu 2
                j2 on a/1 gpu 0
                j4 on a/2 gpu 1,3
                j3 waits: wants 2 cards on 1 node; a has 1 free",
    );
}

#[test]
fn cards_come_from_one_island_the_smallest_that_has_enough() {
    check(
        "nodes  a: 8 gpu islands 00001122
         queue  j1: 2 gpu   j2: 3 gpu   j3: 3 gpu
         =>     j1 on a/0 gpu 4,5
                j2 on a/1 gpu 0,1,2
                j3 on a/2 gpu 3,6,7",
    );
}

#[test]
fn slots_are_near_the_cards() {
    check(
        "nodes  a: 4 gpu 16 slots islands 0011 numa 0011
         queue  j1: 2 gpu 2 slots   j2: 2 gpu 2 slots   j3: 1 slots
         =>     j1 on a/0,1 gpu 0,1
                j2 on a/8,9 gpu 2,3
                j3 on a/2",
    );
}

#[test]
fn a_card_is_one_jobs_own_unless_all_its_jobs_said_shared() {
    check(
        "nodes  a: 2 gpu of A40/48 16 slots
         queue  j1: nodes=1:gpus=1:shared   j2: nodes=1:gpus=1:shared:gpumem=12gb   j3: nodes=1:gpus=1
                j4: nodes=1:gpus=1:shared:gpumem=24gb   j5: nodes=1:gpus=1:shared   j6: nodes=1:gpus=1
         =>     j1 on a/0 gpu 0~250
                j2 on a/1 gpu 0~250
                j3 on a/2 gpu 1
                j4 on a/3 gpu 0~500
                j5 waits: wants 1 card on 1 node; a has 0 free
                j6 waits: wants 1 card on 1 node; a has 0 free",
    );
}

#[test]
fn shares_of_running_jobs_count() {
    check(
        "nodes  a: 1 gpu of A40/48 8 slots
         run    j1 on a: nodes=1:gpus=1:shared:gpumem=30gb
         queue  j2: nodes=1:gpus=1:shared:gpumem=20gb   j3: nodes=1:gpus=1:shared:gpumem=18gb
         =>     j3 on a/1 gpu 0~375
                j2 waits: wants 1 card on 1 node; a has 0 free",
    );
}

#[test]
fn a_shared_job_that_would_outlast_the_others_does_not_delay_who_waits_for_the_card() {
    check(
        "nodes  a: 1 gpu of A40/48 8 slots
         run    j1 on a: nodes=1:gpus=1:shared walltime=100
         queue  j2: nodes=1:gpus=1   j3: nodes=1:gpus=1:shared walltime=200   j4: nodes=1:gpus=1:shared walltime=50
         =>     j4 on a/1 gpu 0~250
                j2 waits: wants 1 card on 1 node; a has 0 free
                j3 waits: its nodes are kept for job 2",
    );
}

#[test]
fn work_without_cards_leaves_each_card_its_slice() {
    check(
        "nodes  a: 4 gpu 18 slots   b: 4 slots
         queue  j1: 4 slots   j2: 2 slots   j3: 1 slots   j4: nodes=1:gpus=4:ppn=16
         =>     j1 on b/0,1,2,3
                j2 on a/0,1
                j4 on a/2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17 gpu 0,1,2,3
                j3 waits: wants 1 slot on 1 node; a has 0 free",
    );
}

#[test]
fn what_a_job_takes_beyond_the_slices_of_its_cards_is_work_without_cards() {
    check(
        "nodes  a: 4 gpu 18 slots
         queue  j1: 1 gpu 6 slots   j2: 1 gpu 5 slots   j3: 1 gpu 4 slots   j4: 1 gpu 4 slots
         =>     j1 on a/0,1,2,3,4,5 gpu 0
                j3 on a/6,7,8,9 gpu 1
                j4 on a/10,11,12,13 gpu 2
                j2 waits: wants 5 slots on 1 node; a has 4 free",
    );
}

#[test]
fn who_could_never_start_beside_slices_may_take_those_of_others() {
    check(
        "nodes  a: 4 gpu 16 slots
         queue  j1: 6 slots   j2: 1 gpu 7 slots
         =>     j1 on a/0,1,2,3,4,5
                j2 on a/6,7,8,9,10,11,12 gpu 0",
    );
}

#[test]
fn slices_of_memory_are_kept_too() {
    check(
        "nodes  a: 4 gpu 10 slots 66 gb   b: 2 slots 66 gb
         queue  j1: nodes=1 mem=60gb   j2: nodes=1 mem=2gb   j3: nodes=1 mem=8gb   j4: nodes=1:gpus=1 mem=16gb
         =>     j1 on b/0
                j2 on b/1
                j4 on a/0 gpu 0
                j3 waits: wants 8192mb of memory on 1 node; b has 4096mb of memory free",
    );
}

#[test]
fn slices_are_kept_only_where_the_site_wants_it() {
    check(
        "nodes  a: 4 gpu 16 slots   b: 4 slots
         qmgr   set server card_slices = False
         queue  j1: 4 slots   j2: 8 slots
         =>     j1 on b/0,1,2,3
                j2 on a/0,1,2,3,4,5,6,7",
    );
    check(
        "fifo
         nodes  a: 4 gpu 16 slots   b: 4 slots
         queue  j1: 4 slots   j2: 4 slots
         =>     j1 on a/0,1,2,3
                j2 on a/4,5,6,7",
    );
}

#[test]
fn of_equally_tight_nodes_one_that_is_in_use_and_one_that_holds_the_image_win() {
    check(
        "nodes  a: 2 gpu 4 slots   b: 2 gpu 4 slots image python:3.12   c: 2 gpu 4 slots
         queue  j1: nodes=1:gpus=1 image=python:3.12   j2: nodes=1:gpus=1 image=docker.io/library/python:3.12
                j3: nodes=1:gpus=1 image=python:3.12   j4: nodes=1:gpus=1 image=nobody/has:this
         =>     j1 on b/0 gpu 0
                j2 on b/1 gpu 1
                j3 on a/0 gpu 0
                j4 on a/1 gpu 1",
    );
    check(
        "nodes  a: 1 gpu 4 slots   b: 2 gpu 5 slots
         run    j1 on b: 1 gpu
         queue  j2: 1 gpu
         =>     j2 on b/1 gpu 1",
    );
}

#[test]
fn what_no_card_is_is_refused_when_it_is_asked_for() {
    let mut world = World::with_nodes(&[("a", 8, 2)]);
    let mut refuse = |resources: &str, why: &str| {
        let refused = world.submit(submission(resources)).unwrap_err();
        assert_eq!(
            refused.to_string(),
            format!("the cluster can never run this: {why}")
        );
    };
    refuse("nodes=1:gpus=1:rtx4090", "no node has the property rtx4090");
    refuse(
        "nodes=1:gpus=1:3090|a40",
        "no node has the property 3090|a40",
    );
    refuse(
        "nodes=1:gpus=1:gpumem>=200gb",
        "no node has cards with gpumem>=200gb",
    );
    refuse(
        "nodes=1:gpus=1:h200:cuda>=99",
        "no node has cards with cuda>=99.0 and all of h200",
    );
    refuse(
        "nodes=1:gpus=3:h200",
        "asks for 3 cards on one node; a has the most with 2",
    );
    let mut mixed = inventory("b", 8, 4);
    mixed.cards[3].model = "A40".into();
    world.attach("b", mixed, Vec::new());
    let refused = world.submit(submission("nodes=1:gpus=2:a40")).unwrap_err();
    let why = "asks for 2 cards on one node; b has the most with 1";
    assert_eq!(
        refused.to_string(),
        format!("the cluster can never run this: {why}")
    );
    world.queue("nodes=1:gpus=1:a40");
}
