//! A device that was ended hears of it though its user's topic lags, and though it asks for nothing.

use rookery_wire::reply::GoAway;
use rookery_wire::request::Delivered;

use super::lags::{MUCH, news, slow_bench, stall};
use super::*;

/// Its user's topic lags: from here on no notice reaches it.
async fn deaf(bench: &Bench, name: &str) {
    stall(bench, name, MUCH).await;
    let lags = bench.delivery.stats().lags;
    bench.delivery.publish_user(&user(name), &[news(Bytes::from(vec![0; 200_000]))]);
    assert_eq!(bench.delivery.stats().lags, lags + 1, "no room for that");
    let id = bench.gateway.core.devices.iter().next().unwrap().id;
    assert!(!bench.delivery.is_live(&Topic::User(user(name)), id));
}

/// The device is ended in the user's shard, and this node's connections are told so as always.
fn end(bench: &Bench) {
    bench.shard.past.troubles.ended.store(true, Ordering::Relaxed);
    let notice = crate::state::devices::end_notice(&DeviceId::new("phone").unwrap(), 1);
    bench.delivery.publish_user(&user("ada"), &[news(notice)]);
}

/// Reads on, asking nothing, until the connection ends; the code it is told.
async fn until_told(client: &mut Client) -> Option<ErrorCode> {
    let mut told = None;
    while let Some(frame) = client.next().await {
        if frame.kind == Kind::GoAway as u8 {
            told = Some(decode::<GoAway>(&frame.body).unwrap().code);
        }
    }
    told
}

#[tokio::test]
async fn a_device_ended_while_its_topic_lags_is_told_when_it_reads_on_and_asks_for_nothing() {
    let bench = slow_bench().await;
    let mut client = bench.attached("ada", &group("team")).await;
    deaf(&bench, "ada").await;
    end(&bench);
    assert_eq!(until_told(&mut client).await, Some(ErrorCode::DeviceEnded));
    bench.stop().await;
}

#[tokio::test]
async fn a_device_ended_while_its_topic_lags_is_cut_though_it_never_reads_on() {
    let bench = slow_bench().await;
    let client = bench.attached("ada", &group("team")).await;
    deaf(&bench, "ada").await;
    // It stood when its topic began to lag, and does so no more.
    until("it was looked", || bench.shard.past.troubles.looks.load(Ordering::Relaxed) > 0).await;
    end(&bench);
    until("its connection is gone", || bench.gateway.connections() == 0).await;
    drop(client);
    bench.stop().await;
}

#[tokio::test]
async fn a_look_that_learns_nothing_is_made_again_without_a_request() {
    let bench = slow_bench().await;
    let mut client = bench.attached("ada", &group("team")).await;
    let troubles = &bench.shard.past.troubles;
    *troubles.refuses.lock() = Some(|read| matches!(read, Read::Epoch { .. }));
    deaf(&bench, "ada").await;
    end(&bench);
    let asked = || troubles.refused.load(Ordering::Relaxed);
    until("it was asked in vain", || asked() > 0).await;
    let heals = async {
        until("and again", || asked() > 1).await;
        *troubles.refuses.lock() = None;
    };
    let (told, ()) = tokio::join!(until_told(&mut client), heals);
    assert_eq!(told, Some(ErrorCode::DeviceEnded));
    bench.stop().await;
}

/// It came while it was ended, so no notice was for it, and it says what needs no answer.
#[tokio::test]
async fn a_device_that_only_acknowledges_is_looked_after() {
    let bench = bench(|_, _| {}).await;
    let mut client = bench.client("ada", "phone").await;
    bench.shard.past.troubles.ended.store(true, Ordering::Relaxed);
    client.send(Kind::Delivered, 0, &Delivered { cursors: vec![(group("team"), 1)] }).await;
    assert_eq!(until_told(&mut client).await, Some(ErrorCode::DeviceEnded));
    bench.stop().await;
}

/// A topic that goes on is looked after once more, and then nothing is in doubt.
#[tokio::test]
async fn a_device_that_stands_is_looked_for_until_its_topic_goes_on_and_no_longer() {
    let bench = slow_bench().await;
    let mut client = bench.attached("ada", &group("team")).await;
    deaf(&bench, "ada").await;
    let settled = || bench.gateway.core.devices.iter().all(|entry| entry.standing.is_settled());
    assert!(!settled());
    super::lags::until_lagged(&mut client).await;
    until("nothing is in doubt", settled).await;
    client.alive().await;
    let made = || bench.shard.past.troubles.looks.load(Ordering::Relaxed);
    let (looks, now) = (made(), tokio::time::Instant::now());
    assert!(looks >= 1);
    // Longer than the pause between two looks.
    until("time passes", || now.elapsed() > Duration::from_millis(1500)).await;
    assert_eq!(made(), looks, "nobody looks any more");
    bench.stop().await;
}
