//! A device behind the client library: it only listens, and writes down what an application would have seen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rookery_client::{Client, Event, Options, StartAt};

use super::history::{DeviceIx, Handed, Micros, SessionIx};
use super::print::print_of;
use super::stage::{Phase, Stage};

/// How often a listener looks whether it may leave.
const LOOK: Duration = Duration::from_millis(50);

/// Listens until it has everything and the run ends. With it comes why the client ended before, which it must not.
pub async fn run(stage: Arc<Stage>, me: DeviceIx) -> (Handed, Option<(Micros, String)>) {
    let mut ended = None;
    let mut handed = Handed { device: me, records: Vec::new() };
    let mut phase = stage.phase();
    while !matches!(*phase.borrow(), Phase::End) {
        let Some((user, device)) = stage.cast.hello_of(me) else { break };
        let mut options = Options::new(stage.nodes.iter().map(|(_, addr)| addr.clone()), user, device);
        options.start = StartAt::Beginning;
        options.token = Some(stage.token.clone()).filter(|token| !token.is_empty());
        options.agent = "rookery check listener".to_owned();
        // Connecting is patient, for the rounds may be the reason that no node answers; the end of the run is not.
        let connected = tokio::select! {
            connected = Client::connect(options) => connected,
            _ = phase.wait_for(|phase| matches!(phase, Phase::End)) => break,
        };
        match connected {
            Ok((client, events)) => {
                let end = listen(&stage, events, &mut phase, &mut handed).await;
                ended = end.map(|why| (stage.now(), format!("the library's client ended by itself: {why}")));
                client.close().await;
                break;
            }
            // No node answered: the run's own rounds may be the reason.
            Err(_) => tokio::time::sleep(LOOK).await,
        }
    }
    (handed, ended)
}

async fn listen(
    stage: &Stage,
    mut events: rookery_client::Events,
    phase: &mut tokio::sync::watch::Receiver<Phase>,
    handed: &mut Handed,
) -> Option<String> {
    let mut trouble = String::new();
    let mut last: BTreeMap<SessionIx, u64> = BTreeMap::new();
    let mut left = BTreeSet::new();
    let mut look = tokio::time::interval(LOOK);
    loop {
        let event = tokio::select! {
            event = events.recv() => event,
            _ = look.tick() => {
                let has = |(session, seq): (&SessionIx, &u64), heads: &BTreeMap<SessionIx, u64>| {
                    left.contains(session) || heads.get(session).is_none_or(|head| seq >= head)
                };
                match &*phase.borrow() {
                    Phase::End => return None,
                    Phase::Quiet(heads) if last.iter().all(|seen| has(seen, heads)) => return None,
                    _ => continue,
                }
            }
        };
        match event {
            Some(Event::Message { session, record }) => {
                let Some(session) = stage.cast.find_session(&session) else { continue };
                stage.note();
                handed.records.push((session, record.seq, print_of(&record)));
                last.insert(session, record.seq);
            }
            Some(Event::Joined(session)) => {
                if let Some(session) = stage.cast.find_session(&session) {
                    left.remove(&session);
                    last.entry(session).or_default();
                }
            }
            Some(Event::Left(session)) => left.extend(stage.cast.find_session(&session)),
            Some(Event::Disconnected { reason }) => trouble = reason,
            Some(_) => {}
            None => return Some(trouble),
        }
    }
}
