//! The devices: each sends in bursts to its sessions until the storm is over, and writes down what it hears.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rookery_client::wire::request::{Consistency, Direction};
use rookery_client::wire::{GroupId, SessionId};
use rookery_client::{Client, Event, Events, Options, Outgoing, StartAt};

use super::net::SimNetwork;
use super::{CAST, NODES, Stage, client_addr, sessions, until, user};

/// How long one request may take: longer than any storm, so that every send must end in an acknowledgement.
pub const DEADLINE: Duration = Duration::from_secs(100);

/// Options of a simulated device.
pub fn options(name: &str, seeds: Vec<String>, seed: u64) -> Options {
    let mut options = Options::new(seeds, user(name), "phone".parse().expect("a name"));
    options.connector = Arc::new(SimNetwork);
    options.request_deadline = DEADLINE;
    options.start = StartAt::Beginning;
    options.random_seed = Some(seed);
    options
}

/// One device's part, from its connection to the moment when it has heard everything.
pub async fn play(name: &'static str, stage: Rc<Stage>, seed: u64) -> turmoil::Result {
    let mut random = StdRng::seed_from_u64(seed);
    let first = random.random_range(0..NODES);
    let seeds = (0..NODES).map(|turn| client_addr((first + turn) % NODES + 1)).collect();
    let (client, events) = Client::connect(options(name, seeds, seed)).await?;
    let hearing = tokio::task::spawn_local(hear(name, events, stage.clone()));
    stage.connected.set(stage.connected.get() + 1);
    if name == CAST[0] {
        let others: Vec<_> = CAST[1..].iter().map(|name| user(name)).collect();
        client.create_group(GroupId::new("team").expect("a name"), &others).await?;
        stage.group_stands.set(true);
    }
    until(|| stage.ready()).await;
    let mine: Vec<SessionId> = sessions()
        .into_iter()
        .filter(|(_, members)| members.contains(&name))
        .map(|(session, _)| session)
        .collect();
    let mut number = 0;
    while !stage.calm.get() {
        let session = mine.choose(&mut random).expect("a session");
        let burst = number + random.random_range(1..=5);
        let mut waiting = Vec::new();
        while number < burst {
            number += 1;
            let text = format!("{name} {number}");
            waiting.push((client.send_pipelined(session, Outgoing::text(&text)).await?, text));
        }
        for (ack, text) in waiting {
            let seq = ack.await?.seq;
            let twice = stage.acks.borrow_mut().entry(session.clone()).or_default().insert(seq, text.clone());
            if let Some(other) = twice {
                return Err(format!("seq {seq} of {session} was given to '{other}' and to '{text}'").into());
            }
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(5..100))).await;
    }
    stage.done_sending.set(stage.done_sending.get() + 1);
    until(|| stage.done_sending.get() == CAST.len()).await;
    for session in &mine {
        let page = client.pull(session, 1, Direction::Forward, 1, Consistency::Linearizable).await?;
        let key = (name, session.clone());
        until(|| stage.heard.borrow().get(&key).is_some_and(|heard| heard.len() as u64 >= page.last_seq))
            .await;
    }
    stage.done_hearing.set(stage.done_hearing.get() + 1);
    client.close().await;
    hearing.await?;
    Ok(())
}

/// Writes down what the device is given, in the order in which it is given.
async fn hear(name: &'static str, mut events: Events, stage: Rc<Stage>) {
    while let Some(event) = events.recv().await {
        if let Event::Message { session, record } = event {
            let text = String::from_utf8_lossy(&record.content.0).into_owned();
            stage.heard.borrow_mut().entry((name, session)).or_default().push((record.seq, text));
        }
    }
}
