//! Chunks of PBS Pro: where they go, and what they show. Nodes of one's own, for both dialects.

use crate::harness::{World, submission};
use crate::text::check;
use capstan_core::Submission;
use capstan_types::{Place, Select};

#[test]
fn scattered_chunks_are_on_nodes_of_their_own() {
    check(
        "nodes  a: 2 gpu   b: 2 gpu
         queue  j1: select=2:ncpus=2:ngpus=1 place=scatter
         =>     j1 on a/0,1 gpu 0 + b/0,1 gpu 0",
    );
}

#[test]
fn packed_chunks_are_on_one_node() {
    check(
        "nodes  a: 2 gpu   b: 4 gpu
         queue  j1: select=3:ncpus=1:ngpus=1 place=pack   j2: select=3:ncpus=1:ngpus=1 place=pack
         =>     j1 on b/0,1,2 gpu 0,1,2
                j2 waits: wants 3 cards on 1 node; b has 1 free",
    );
}

#[test]
fn free_chunks_stay_together_if_they_can_and_spread_if_they_must() {
    check(
        "nodes  a: 2 gpu   b: 4 gpu
         queue  j1: select=3:ncpus=1:ngpus=1   j2: select=3:ncpus=1:ngpus=1
         =>     j1 on b/0,1,2 gpu 0,1,2
                j2 on a/0,1 gpu 0,1 + b/3 gpu 3",
    );
}

#[test]
fn different_chunks_may_share_a_node_or_not() {
    check(
        "nodes  a: 4 slots   b: 4 slots 1 gpu
         queue  j1: select=1:ncpus=4+1:ncpus=1:ngpus=1
         =>     j1 on b/0 gpu 0 + a/0,1,2,3",
    );
}

#[test]
fn each_chunk_has_its_own_memory() {
    check(
        "nodes  a: 8 gb   b: 16 gb
         queue  j1: select=1:ncpus=1:mem=12gb+1:ncpus=1:mem=6gb place=scatter   j2: select=2:mem=2gb
         =>     j1 on b/0 + a/0
                j2 on b/1,2",
    );
}

#[test]
fn chunks_of_a_named_host_are_there() {
    check(
        "nodes  a:   b: S
         queue  j1: select=2:ncpus=1:host=b   j2: select=1:S=True
         =>     j1 on b/0,1
                j2 on b/2",
    );
}

#[test]
fn a_node_of_ones_own_is_idle_before_and_closed_after() {
    check(
        "nodes  a: 2 gpu   b: 2 gpu
         run    j1 on a: 1 gpu
         queue  j2: select=1:ncpus=1 place=excl   j3: 1 slots   j4: nodes=1 exclusive   j5: 1 slots
         =>     j2 on b/0
                j3 on a/1
                j5 on a/2
                j4 waits: wants 1 node, 0 could take it now",
    );
}

#[test]
fn a_running_job_keeps_its_own_nodes_closed() {
    let mut world = World::with_nodes(&[("a", 4, 0), ("b", 4, 0)]);
    let alone = world.submit(chunks("2:ncpus=1", "scatter:excl")).unwrap();
    world.place();
    world.started(alone);
    let next = world.queue("ncpus=1");
    assert!(world.place().placements.is_empty());
    world.exits(alone, 0);
    world.place();
    assert_eq!(world.letter(next), 'R');
}

#[test]
fn chunks_show_their_sums_by_name() {
    let mut world = World::with_nodes(&[("a", 16, 4), ("b", 16, 4)]);
    let id = world
        .submit(chunks("2:ncpus=8:ngpus=4:mem=32gb", "scatter"))
        .unwrap();
    let job = world.job(id);
    let list: Vec<_> = job
        .spec
        .resources
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let expected = [
        "mem=64gb",
        "ncpus=16",
        "ngpus=8",
        "nodect=2",
        "place=scatter",
        "select=2:ncpus=8:ngpus=4:mem=32gb",
        "walltime=168:00:00",
    ];
    assert_eq!(list, expected);
    world.place();
    let vnodes = "(a:ncpus=8:ngpus=4:mem=33554432kb)+(b:ncpus=8:ngpus=4:mem=33554432kb)";
    assert_eq!(world.job(id).exec_vnode().as_deref(), Some(vnodes));
}

#[test]
fn each_chunk_of_a_shared_node_is_told() {
    let mut world = World::with_nodes(&[("a", 16, 0)]);
    let id = world
        .submit(chunks("1:ncpus=4+2:ncpus=1:mem=1gb", "pack"))
        .unwrap();
    world.place();
    let vnodes = "(a:ncpus=4)+(a:ncpus=1:mem=1048576kb)+(a:ncpus=1:mem=1048576kb)";
    assert_eq!(world.job(id).exec_vnode().as_deref(), Some(vnodes));
}

#[test]
fn a_job_of_torque_has_its_nodes_as_chunks_too() {
    let mut world = World::with_nodes(&[("a", 4, 2), ("b", 4, 2)]);
    let id = world.queue("nodes=2:ppn=2:gpus=1");
    assert_eq!(world.job(id).exec_vnode(), None);
    world.place();
    let vnodes = "(a:ncpus=2:ngpus=1)+(b:ncpus=2:ngpus=1)";
    assert_eq!(world.job(id).exec_vnode().as_deref(), Some(vnodes));
}

fn chunks(select: &str, place: &str) -> Submission {
    let mut job = submission("");
    job.spec.resources.set("select", select).unwrap();
    job.spec.select = Some(Select::parse(select).unwrap());
    job.spec.placing = Some(Place::parse(place).unwrap());
    job
}
