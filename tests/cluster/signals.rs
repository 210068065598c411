//! Signals to nodes that lead: an orderly stop, a freeze and a thaw, and one death after the other.

use std::time::{Duration, Instant};

use rookery::check::link::body;
use rookery_client::Client;
use rookery_wire::reply::GoAway;
use rookery_wire::request::Consistency;
use rookery_wire::{ErrorCode, GroupId, Kind, SessionId};
use rustix::process::Signal;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::fixture::{Cluster, Plan, play, until};
use super::people::{ANSWER, Wire, app, contents, direct, group, replicas, say, texts, user};

/// Somebody who says one thing after the other until told to stop, and how long the longest took.
struct Talker {
    stop: watch::Sender<bool>,
    count: watch::Receiver<usize>,
    talk: JoinHandle<(Vec<String>, Duration)>,
}

impl Talker {
    /// Returns once the talk is under way.
    async fn begin(client: Client, session: SessionId, label: &'static str) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (counted, count) = watch::channel(0);
        let talk = tokio::spawn(async move {
            let (mut said, mut longest) = (Vec::new(), Duration::ZERO);
            while !*stopped.borrow() {
                let text = format!("{label} {}", said.len() + 1);
                let began = Instant::now();
                say(&client, &session, [text.clone()]).await;
                longest = longest.max(began.elapsed());
                said.push(text);
                counted.send_replace(said.len());
            }
            (said, longest)
        });
        let mut talker = Self { stop, count, talk };
        talker.goes_on().await;
        talker
    }

    /// Waits until so much more has been said that some of it was asked after this call.
    async fn goes_on(&mut self) {
        let more = *self.count.borrow() + 5;
        let said = tokio::time::timeout(ANSWER, self.count.wait_for(|count| *count >= more)).await;
        said.expect("sends are acknowledged in time").expect("every send is acknowledged");
    }

    async fn end(mut self) -> (Vec<String>, Duration) {
        self.goes_on().await;
        self.stop.send(true).expect("it talks");
        self.talk.await.expect("every send was acknowledged")
    }
}

/// The two nodes that are not this one.
fn others(node: u16) -> [u16; 2] {
    match node {
        1 => [2, 3],
        2 => [1, 3],
        _ => [1, 2],
    }
}

#[test]
fn leaders_are_stopped_frozen_and_killed_under_load() {
    play(async {
        let mut cluster = Cluster::up(Plan::new(3, 4)).await;
        let session = group("team");
        let (ann, mut anns) = app(&cluster, &[1, 2, 3], "ann", "phone").await;
        ann.create_group(GroupId::new("team").unwrap(), &[user("bob")]).await.expect("created");
        let mut said = texts("hello", 5);
        say(&ann, &session, texts("hello", 5)).await;
        orderly_stop(&mut cluster, &session, &mut said).await;
        freeze_and_thaw(&mut cluster, &session, &mut said).await;
        two_deaths(&mut cluster, &session, &mut said).await;
        // One app saw it all, through every reconnection: once, in order.
        assert_eq!(anns.up_to(&session, said.last().unwrap()).await, said);
        assert_eq!(contents(&replicas(&cluster, &[1, 2, 3], &session).await), said);
    });
}

/// A planned stop while many speak, half of them through the node that stops: every send is answered with an ack
/// (`say` fails on anything else), and when the node is gone the others already lead what it led.
#[test]
fn a_planned_stop_under_load_answers_every_send_and_leaves_the_leads_elsewhere() {
    play(async {
        let mut cluster = Cluster::up(Plan::new(3, 4)).await;
        let session = group("team");
        let (ann, mut anns) = app(&cluster, &[1, 2, 3], "ann", "phone").await;
        let names: Vec<String> = (1..=6).map(|number| format!("user{number}")).collect();
        let users: Vec<_> = names.iter().map(|name| user(name)).collect();
        ann.create_group(GroupId::new("team").unwrap(), &users).await.expect("created");
        // Every node in turn, without a rest between: the next one goes while the one before has just come back.
        for (label, round) in ["first", "second", "third"].into_iter().zip(1..) {
            let victim = cluster.leader_of(&session).await;
            let [one, two] = others(victim);
            let mut talks = Vec::new();
            for (name, at) in names.iter().zip(0..) {
                let seeds = if at % 2 == 0 { [victim, one, two] } else { [one, two, victim] };
                let (client, _) = app(&cluster, &seeds, name, &format!("phone{round}")).await;
                assert_eq!(client.node(), Some(seeds[0]));
                talks.push(Talker::begin(client, session.clone(), label).await);
            }
            cluster.stop(victim).await;
            let board = cluster.board().await;
            for shard in 1..=cluster.shards {
                let leader = board.leader(shard);
                assert!(leader.is_some_and(|leader| leader != victim), "shard {shard} is led by {leader:?}");
            }
            let log = cluster.log(victim);
            let at = |what: &str| log.rfind(what).unwrap_or_else(|| panic!("no `{what}` in {log}"));
            let handed = &log[at("leads handed over")..];
            assert!(handed.lines().next().is_some_and(|line| line.contains("kept=0")), "{handed}");
            assert!(at("leads handed over") < at(" stopped"), "{log}");
            for talk in talks {
                talk.end().await;
            }
            cluster.start(victim);
            cluster.serving().await;
        }
        say(&ann, &session, ["the last word".to_owned()]).await;
        let seen = anns.up_to(&session, "the last word").await;
        assert_eq!(contents(&replicas(&cluster, &[1, 2, 3], &session).await), seen);
    });
}

async fn orderly_stop(cluster: &mut Cluster, session: &SessionId, said: &mut Vec<String>) {
    let leader = cluster.leader_of(session).await;
    let (bob, _) = app(cluster, &others(leader), "bob", "phone").await;
    let mut held = Wire::of(cluster, leader, "eve", "phone").await;
    let talk = Talker::begin(bob, session.clone(), "stop").await;
    cluster.stop(leader).await;
    let away: GoAway = body(&held.push(Kind::GoAway).await).expect("a GOAWAY");
    assert_eq!(away.code, ErrorCode::ShuttingDown);
    assert!(held.rest().await.is_empty(), "GOAWAY is the last word");
    let (new, longest) = talk.end().await;
    let log = cluster.log(leader);
    let handed = log.lines().rev().find(|line| line.contains("leads handed over"));
    assert!(handed.is_some_and(|line| line.contains("kept=0")), "leads moved before the end: {log}");
    // A bound for a busy machine; the measured figure is the business of the benchmarks.
    assert!(longest < Duration::from_secs(2), "a planned stop cost somebody {longest:?}");
    println!("orderly stop: longest ack {longest:?} of {}", new.len());
    said.extend(new);
    cluster.start(leader);
    cluster.serving().await;
}

async fn freeze_and_thaw(cluster: &mut Cluster, session: &SessionId, said: &mut Vec<String>) {
    let shard = cluster.shard_of(session);
    let leader = cluster.leader_of(session).await;
    let (bob, _) = app(cluster, &others(leader), "bob", "laptop").await;
    // One whose node freezes under it: it notices the silence and goes elsewhere.
    let [one, two] = others(leader);
    let (held, _) = app(cluster, &[leader, one, two], "bob", "watch").await;
    assert_eq!(held.node(), Some(leader));
    let talk = Talker::begin(bob, session.clone(), "freeze").await;
    cluster.signal(leader, Signal::STOP);
    let stuck = tokio::spawn(async move {
        let began = Instant::now();
        say(&held, &direct("bob", "eve"), ["from the frozen node".to_owned()]).await;
        assert_ne!(held.node(), Some(leader));
        began.elapsed()
    });
    let mut heir = None;
    until("another node leads", async || {
        heir = cluster.board().await.leader(shard);
        heir.is_some_and(|heir| heir != leader)
    })
    .await;
    let (new, longest) = talk.end().await;
    println!("frozen leader: longest ack {longest:?} of {}", new.len());
    said.extend(new);
    let moved = stuck.await.expect("acknowledged through another node");
    println!("the client of the frozen node was served elsewhere after {moved:?}");
    cluster.signal(leader, Signal::CONT);
    // The first thing it is asked: it led when it fell asleep, and must not answer from what it knew then.
    let mut awake = Wire::of(cluster, leader, "bob", "glasses").await;
    let read = awake.pull(session, Consistency::Linearizable).await.expect("a page");
    assert_eq!(contents(&read), *said, "a linearizable read at the thawed node");
    until("the thawed leader follows", async || {
        cluster.replica(leader, shard).await.is_some_and(|replica| !replica.leading && replica.leader == heir)
    })
    .await;
    cluster.serving().await;
    assert_eq!(contents(&replicas(cluster, &[1, 2, 3], session).await), *said);
    let once = replicas(cluster, &[1, 2, 3], &direct("bob", "eve")).await;
    assert_eq!(contents(&once), ["from the frozen node"]);
}

async fn two_deaths(cluster: &mut Cluster, session: &SessionId, said: &mut Vec<String>) {
    let victim = cluster.leader_of(session).await;
    let (bob, _) = app(cluster, &others(victim), "bob", "tablet").await;
    for label in ["first death", "second death"] {
        let talk = Talker::begin(bob.clone(), session.clone(), label).await;
        cluster.kill(victim);
        let (more, longest) = talk.end().await;
        assert_ne!(cluster.leader_of(session).await, victim);
        println!("{label}: longest ack {longest:?} of {}", more.len());
        said.extend(more);
        cluster.start(victim);
        // The second time it dies while it is still catching up.
        if label == "second death" {
            cluster.serving().await;
        } else {
            until("it answers", async || cluster.status(victim).await.is_some()).await;
        }
    }
}
