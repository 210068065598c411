//! A server that goes on pushing and does not read: its pushes are no answer to a PING.

use super::*;

/// A connection that stands, with the list read.
fn up(now: Millis) -> Engine {
    let mut engine = Engine::new(settings(), 1, 1);
    engine.connected(now);
    let hello = requests(&mut engine).pop().unwrap();
    hear(&mut engine, now, &frame_bytes(Kind::Welcome, hello.request_id, &welcome(10_000)));
    let sync = requests(&mut engine).pop().unwrap();
    let page = SyncPage {
        sessions: Vec::new(),
        total: 0,
        unresolved: Vec::new(),
        next: Blob::default(),
        badge: None,
        left: Vec::new(),
        mark: Blob::default(),
        full: true,
    };
    hear(&mut engine, now, &frame_bytes(Kind::SyncPage, sync.request_id, &page));
    assert!(engine.synced());
    engine
}

fn requests(engine: &mut Engine) -> Vec<Frame> {
    let mut out: BytesMut = engine.out.split();
    std::iter::from_fn(|| Decoder::new(1 << 20).next(&mut out).unwrap()).collect()
}

fn hear(engine: &mut Engine, now: Millis, bytes: &Bytes) {
    let mut input = BytesMut::from(bytes.as_ref());
    let frame = Decoder::new(1 << 20).next(&mut input).unwrap().unwrap();
    engine.frame(now, &frame).unwrap();
}

/// Runs it among pushes until it gives the connection up, at most for `most`; `reads` says whether the application takes
/// events. When the PING left, and when the connection was given up and why.
fn among_pushes(most: Millis, reads: impl Fn(Millis) -> bool) -> (Millis, Option<(Millis, String)>) {
    let mut engine = up(0);
    let push = frame_bytes(Kind::Lagged, 0, &Lagged { sessions: vec![(sessions()[0].clone(), 1)] });
    let mut pinged = None;
    for now in (20..most).step_by(20) {
        if let Err(broken) = engine.tick(now, 0) {
            return (pinged.unwrap(), Some((now, broken.reason)));
        }
        for frame in requests(&mut engine) {
            assert_eq!(Kind::from_number(frame.kind), Some(Kind::Ping));
            pinged.get_or_insert(now);
        }
        match reads(now) {
            true => hear(&mut engine, now, &push),
            false => engine.excuse_silence(now),
        }
    }
    (pinged.unwrap(), None)
}

#[test]
fn a_ping_without_its_pong_ends_the_connection_though_pushes_go_on_coming() {
    let (pinged, ended) = among_pushes(100_000, |_| true);
    let (ended, reason) = ended.unwrap();
    assert!((ended - pinged).abs_diff(5 * settings().silence) <= 20, "{pinged} to {ended}");
    assert!(reason.contains("PONG"), "{reason}");
}

#[test]
fn while_the_application_takes_no_events_no_pong_is_missed() {
    let (pinged, ended) = among_pushes(100_000, |now| now < 21_000);
    assert!(pinged < 21_000 && ended.is_none(), "{pinged} {ended:?}");
    let (_, ended) = among_pushes(200_000, |now| !(21_000..100_000).contains(&now));
    let (ended, _) = ended.unwrap();
    assert!(ended.abs_diff(100_000 + 5 * settings().silence) <= 40, "{ended}");
}
