//! People as they are now, on three nodes: receipts, ephemeral messages and presence, through the death of a node.

use rookery_client::wire::live::{Passing, PresenceLine, SessionPresence, WatchMode, Which};
use rookery_client::wire::own::{RelationFilter, ShowTo};
use rookery_client::{Client, Event, Outgoing};
use rookery_wire::{ErrorCode, GroupId, SessionId, UserAction, UserId};
use tokio::time::Instant;

use super::fixture::{Cluster, Plan, find, play};
use super::people::{ANSWER, Inbox, app, direct, group, say, texts, user};

/// Who has read a message is told by cursors: of members in memory and of those that only rows know, through the death
/// of a leader, in pages, and the same by every node.
#[test]
fn receipts_tell_who_has_read_and_who_has_not() {
    play(async {
        let plan = Plan::new(3, 4).with("limits", "resident_idle_ms = 1000");
        let mut cluster = Cluster::up(plan).await;
        let team = group("team");
        let (ann, _) = app(&cluster, &[1, 2, 3], "ann", "phone").await;
        let (bob, _) = app(&cluster, &[2, 3, 1], "bob", "phone").await;
        let (cid, _) = app(&cluster, &[3, 1, 2], "cid", "phone").await;
        let quiet: Vec<UserId> = (0..30).map(|number| user(&format!("m{number:02}"))).collect();
        let members: Vec<UserId> = [user("bob"), user("cid")].into_iter().chain(quiet.clone()).collect();
        ann.create_group(GroupId::new("team").expect("a name"), &members).await.expect("created");
        let told = say(&ann, &team, texts("news", 1)).await.remove(0).seq;
        assert_eq!(readers(&ann, &team, told, Which::Read).await, Vec::<UserId>::new());
        assert_eq!(readers(&ann, &team, told, Which::Unread).await, members);
        bob.read(&team, told).await.expect("read");
        // Who writes has seen what is before it.
        cid.send(&team, Outgoing::text("an answer")).await.expect("sent");
        assert_eq!(readers(&bob, &team, told, Which::Read).await, [user("bob"), user("cid")]);
        let page = ann.receipts(&team, told, Which::Unread, None, 1_000).await.expect("a page");
        let counts = page.counts.expect("all are known");
        assert_eq!((counts.read, counts.unread, counts.hidden), (2, 30, 0));
        // Newcomers are not among those whom an older message concerns.
        ann.add_members(&team, &[user("late")]).await.expect("added");
        assert_eq!(readers(&ann, &team, told, Which::Unread).await, quiet);

        let leader = cluster.leader_of(&team).await;
        cluster.kill(leader);
        assert_eq!(readers(&bob, &team, told, Which::Read).await, [user("bob"), user("cid")]);
        assert_eq!(readers(&bob, &team, told, Which::Unread).await, quiet);
        cluster.start(leader);
        cluster.serving().await;
        let (eve, _) = app(&cluster, &[1, 2, 3], "eve", "phone").await;
        let refused = eve.receipts(&team, told, Which::Read, None, 10).await.expect_err("a stranger");
        assert_eq!(refused.code(), Some(ErrorCode::NotMember));
        let beyond = ann.receipts(&team, 1_000, Which::Read, None, 10).await.expect_err("beyond the end");
        assert_eq!(beyond.code(), Some(ErrorCode::NoSuchMessage));
    });
}

/// All pages, of seven lines each.
async fn readers(client: &Client, session: &SessionId, seq: u64, which: Which) -> Vec<UserId> {
    let end = Instant::now() + ANSWER;
    'again: loop {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let page = client.receipts(session, seq, which, after, 7).await;
            let page = page.unwrap_or_else(|why| panic!("{why}"));
            if !page.unresolved.is_empty() {
                // A shard has no leader yet: nobody is left out silently.
                assert!(Instant::now() < end, "never known: {:?}", page.unresolved);
                continue 'again;
            }
            all.extend(page.users.into_iter().map(|line| line.user));
            after = page.next;
            if after.is_none() {
                return all;
            }
        }
    }
}

/// What passes reaches the members' devices on all nodes, that somebody types also without the leader of their session, and is
/// judged like a message; a read in a direct session is told to the other one.
#[test]
fn what_passes_reaches_who_is_there_on_every_node() {
    play(async {
        let mut cluster = Cluster::up(Plan::new(3, 3)).await;
        let team = group("team");
        let leader = cluster.leader_of(&team).await;
        let others: Vec<u16> = cluster.ids().into_iter().filter(|id| *id != leader).collect();
        let (ann, mut anns) = app(&cluster, &[others[0]], "ann", "phone").await;
        let (bob, mut bobs) = app(&cluster, &[others[1]], "bob", "phone").await;
        let (_, mut eves) = app(&cluster, &[leader], "eve", "phone").await;
        ann.create_group(GroupId::new("team").expect("a name"), &[user("bob"), user("eve")])
            .await
            .expect("created");
        say(&ann, &team, texts("hello", 1)).await;
        for inbox in [&mut bobs, &mut eves] {
            inbox.up_to(&team, "hello 1").await;
        }
        ann.typing(&team, true).await.expect("passed on");
        ann.ephemeral(&team, "x/stroke", "drawn".into()).await.expect("passed on");
        for inbox in [&mut bobs, &mut eves] {
            assert_eq!(passed(inbox).await, ("ann".to_owned(), "typing".to_owned()));
            assert_eq!(passed(inbox).await, ("ann".to_owned(), "drawn".to_owned()));
        }
        // However far the replica of bob's node is behind.
        ann.mute(&team, user("bob"), u64::MAX).await.expect("muted");
        let refused = bob.ephemeral(&team, "x/stroke", "unheard".into()).await.expect_err("muted");
        assert_eq!(refused.code(), Some(ErrorCode::Muted));
        cluster.level().await;
        assert_eq!(bob.typing(&team, true).await.expect_err("muted").code(), Some(ErrorCode::Muted));
        ann.mute(&team, user("bob"), 0).await.expect("unmuted");
        ann.remove_members(&team, &[user("eve")]).await.expect("removed");
        cluster.level().await;
        cluster.kill(leader);
        bob.typing(&team, true).await.expect("passed on without a leader");
        assert_eq!(passed(&mut anns).await, ("bob".to_owned(), "typing".to_owned()));
        bob.ephemeral(&team, "x/stroke", "again".into()).await.expect("passed on");
        assert_eq!(passed(&mut anns).await, ("bob".to_owned(), "again".to_owned()));
        let pair = direct("ann", "bob");
        let seq = say(&ann, &pair, texts("you", 1)).await[0].seq;
        bob.read(&pair, seq).await.expect("read");
        let told = anns.event(|event| match event {
            Event::Receipt(receipt) => Some((receipt.session.clone(), receipt.user.clone(), receipt.seq)),
            _ => None,
        });
        assert_eq!(told.await, (pair, user("bob"), seq));
        let page = bob.sync().await.expect("a list");
        assert!(page.sessions.iter().all(|line| line.last_seq <= 8), "nothing that passed has a seq");
    });
}

async fn passed(inbox: &mut Inbox) -> (String, String) {
    let event = inbox.event(|event| match event {
        Event::Ephemeral(message) => Some((
            message.sender.to_string(),
            match &message.body {
                Passing::Typing { .. } => "typing".to_owned(),
                Passing::Content { content, .. } => String::from_utf8_lossy(content.as_ref()).into_owned(),
            },
        )),
        _ => None,
    });
    event.await
}

/// One who is watched from another node goes offline when its node dies and comes back with the next one; the watcher's
/// own node may die as well, and it is told everything anew.
#[test]
fn presence_is_true_again_after_nodes_died() {
    play(async {
        let mut cluster = Cluster::up(Plan::new(3, 3)).await;
        let (ann, mut anns) = app(&cluster, &[1, 2], "ann", "phone").await;
        let (bob, _bobs) = app(&cluster, &[3], "bob", "phone").await;
        let (_cid, _cids) = app(&cluster, &[2], "cid", "phone").await;
        for peer in ["bob", "cid"] {
            say(&ann, &direct("ann", peer), texts("hello", 1)).await;
        }
        let page = ann.watch(WatchMode::Replace, &["bob", "cid", "eve"].map(user)).await.expect("a page");
        let seen: Vec<_> = page.users.iter().map(|line| (line.user.as_str(), line.online)).collect();
        assert_eq!(seen, [("bob", true), ("cid", true)]);
        assert_eq!(page.refused, [(user("eve"), ErrorCode::NotAllowed)], "ann does not know eve");

        cluster.kill(3);
        assert!(until_seen(&mut anns, "bob", false).await.last_seen_ms > 0, "and when that was");
        cluster.start(3);
        cluster.serving().await;
        until_seen(&mut anns, "bob", true).await;
        // Back by the client library's own doing, with the same device.
        bob.ping().await.expect("connected");

        cluster.kill(1);
        until_seen(&mut anns, "bob", true).await;
        assert_ne!(ann.node(), Some(1));
        bob.close().await;
        until_seen(&mut anns, "bob", false).await;
        cluster.start(1);
        cluster.serving().await;
        let (_bob, _inbox) = app(&cluster, &[1], "bob", "tablet").await;
        until_seen(&mut anns, "bob", true).await;
    });
}

/// The next word about somebody, which must be this one sooner or later.
async fn until_seen(inbox: &mut Inbox, name: &str, online: bool) -> PresenceLine {
    let event = inbox.event(|event| match event {
        Event::Presence(lines) => {
            lines.iter().find(|line| line.user == user(name) && line.online == online).cloned()
        }
        _ => None,
    });
    event.await
}

/// Nodes without a replica of the session are passed everything too, and are told who is where.
#[test]
fn a_node_without_a_replica_hears_what_passes_and_who_is_there() {
    play(async {
        let cluster = Cluster::up(Plan::new(5, 5)).await;
        // Shard 1 is of nodes 1, 2 and 3.
        let name = find(|number| format!("bob-{number}"), |name| cluster.shard_of(&direct("ann", name)) == 1);
        let pair = direct("ann", &name);
        let (ann, mut anns) = app(&cluster, &[4], "ann", "phone").await;
        let (bob, mut bobs) = app(&cluster, &[5], &name, "phone").await;
        say(&ann, &pair, texts("hello", 1)).await;
        assert_eq!(bobs.up_to(&pair, "hello 1").await, ["hello 1"]);
        ann.typing(&pair, true).await.expect("passed on");
        assert_eq!(passed(&mut bobs).await.1, "typing");
        bob.typing(&pair, true).await.expect("passed on");
        assert_eq!(passed(&mut anns).await.0, name);
        let page = ann.watch(WatchMode::Add, &[user(&name)]).await.expect("a page");
        assert!(page.users[0].online);
        bob.close().await;
        until_seen(&mut anns, &name, false).await;
    });
}

/// From a block on the blocked user passes nothing to the other, and is told neither that it reads nor that it comes and
/// goes; the blocking one is.
#[test]
fn a_user_who_blocks_another_is_hidden_from_it() {
    play(async {
        let cluster = Cluster::up(Plan::new(3, 3)).await;
        let pair = direct("ann", "bob");
        let (ann, _anns) = app(&cluster, &[1], "ann", "phone").await;
        let (bob, mut bobs) = app(&cluster, &[2], "bob", "phone").await;
        for (peer, session) in [("bob", &pair), ("cid", &direct("bob", "cid"))] {
            let from = if peer == "bob" { &ann } else { &bob };
            say(from, session, texts("hello", 1)).await;
        }
        bobs.up_to(&pair, "hello 1").await;
        assert!(bob.watch(WatchMode::Add, &[user("ann")]).await.expect("a page").users[0].online);
        assert!(ann.watch(WatchMode::Add, &[user("bob")]).await.expect("a page").users[0].online);

        // From the ACK on, however far the replica of bob's node is behind.
        ann.block(user("bob")).await.expect("blocked");
        let refused = bob.typing(&pair, true).await.expect_err("blocked");
        assert_eq!(refused.code(), Some(ErrorCode::RefusedByPeer));
        cluster.level().await;
        ann.read(&pair, 1).await.expect("read");
        let page = bob.receipts(&pair, 1, Which::Read, None, 10).await.expect("a page");
        assert!(page.users.is_empty(), "bob hears of nobody: {page:?}");
        // Who watched before, and who asks now. Cid goes after ann and from the same node: when that is told, so would be this.
        let (cid, _cids) = app(&cluster, &[1], "cid", "phone").await;
        bob.watch(WatchMode::Add, &[user("cid")]).await.expect("a page");
        ann.close().await;
        cid.close().await;
        let told = bobs.event(|event| match event {
            Event::Presence(lines) => Some(lines.clone()),
            Event::Receipt(_) => panic!("bob hears that ann reads"),
            _ => None,
        });
        let told = told.await;
        assert!(told.iter().all(|line| line.user == user("cid")), "{told:?}");
        let page = bob.watch(WatchMode::Replace, &[user("ann")]).await.expect("a page");
        assert_eq!((page.users.len(), page.refused), (0, vec![(user("ann"), ErrorCode::NotAllowed)]));
        let (ann, _anns) = app(&cluster, &[1], "ann", "tablet").await;
        assert_eq!(ann.watch(WatchMode::Add, &[user("bob")]).await.expect("a page").users.len(), 1);
        ann.unblock(user("bob")).await.expect("unblocked");
        assert!(bob.watch(WatchMode::Replace, &[user("ann")]).await.expect("a page").users[0].online);
    });
}

/// Who shows itself to friends only is not seen by others, on whichever node they ask, also after the leader has died.
#[test]
fn who_shows_itself_to_friends_is_hidden_from_others() {
    play(async {
        let mut cluster = Cluster::up(Plan::new(3, 3)).await;
        let team = group("team");
        let (ann, _anns) = app(&cluster, &[1, 2, 3], "ann", "phone").await;
        let (bob, mut bobs) = app(&cluster, &[2, 3, 1], "bob", "phone").await;
        let (cid, mut cids) = app(&cluster, &[3, 1, 2], "cid", "phone").await;
        let members = [user("bob"), user("cid")];
        ann.create_group(GroupId::new("team").expect("a name"), &members).await.expect("created");
        let told = say(&bob, &team, texts("hello", 1)).await[0].seq;
        say(&cid, &direct("ann", "cid"), texts("hello", 1)).await;
        cids.up_to(&team, "hello 1").await;
        ann.request_friend(user("bob"), "").await.expect("asked");
        bob.accept_friend(user("ann")).await.expect("accepted");
        ann.read(&team, told).await.expect("read");
        let action = UserAction::SetPrivacy { receipts: ShowTo::Friends, presence: ShowTo::Friends };
        assert_eq!(ann.manage_self(action).await.expect("set").value, 1);
        let leader = cluster.leader_of(&team).await;
        cluster.kill(leader);

        let page = ann.relations(RelationFilter::All, None, 1).await.expect("a page");
        assert_eq!((page.receipts, page.presence), (ShowTo::Friends, ShowTo::Friends));
        assert_eq!(readers(&bob, &team, told, Which::Read).await, [user("ann")], "a friend");
        assert_eq!(readers(&cid, &team, told, Which::Read).await, Vec::<UserId>::new());
        let page = cid.receipts(&team, told, Which::Unread, None, 10).await.expect("a page");
        let unread: Vec<&str> = page.users.iter().map(|line| line.user.as_str()).collect();
        let hidden = page.counts.expect("all are known").hidden;
        assert_eq!(
            (&unread[..], hidden),
            (&["cid"][..], 1),
            "ann is hidden, and not among those who have not"
        );
        // A friend without a direct session may watch; one with a session and no friend may not.
        let page = bob.watch(WatchMode::Add, &[user("ann")]).await.expect("a page");
        assert_eq!(page.users.iter().map(|line| line.user.as_str()).collect::<Vec<_>>(), ["ann"]);
        let page = cid.watch(WatchMode::Add, &[user("ann")]).await.expect("a page");
        assert_eq!(page.refused, [(user("ann"), ErrorCode::NotAllowed)]);
        ann.close().await;
        until_seen(&mut bobs, "ann", false).await;
    });
}

/// The next word about somebody in the group, which must be this one sooner or later; nothing may be said of eve.
async fn until_in(inbox: &mut Inbox, name: &str, online: bool) {
    let event = inbox.event(|event| match event {
        Event::SessionPresence(told) => {
            assert!(told.users.iter().all(|line| line.user != user("eve")), "eve shows herself to nobody");
            let lines = || told.users.iter();
            let is_said = lines().any(|line| line.user == user(name) && line.online == online);
            let is_away = !online && told.whole && lines().all(|line| line.user != user(name));
            (is_said || is_away).then_some(())
        }
        _ => None,
    });
    event.await;
}

/// A member comes to another node and goes from it; nodes die; one shows itself to nobody; one is removed and hears nothing more.
#[test]
fn who_of_a_group_is_there_is_told_to_its_members_and_to_nobody_else() {
    play(async {
        let mut cluster = Cluster::up(Plan::new(3, 3)).await;
        let team = group("team");
        let (ann, mut anns) = app(&cluster, &[1, 3], "ann", "phone").await;
        let (eve, mut eves) = app(&cluster, &[3, 1], "eve", "phone").await;
        let (cid, mut cids) = app(&cluster, &[3, 1], "cid", "phone").await;
        let hide = UserAction::SetPrivacy { receipts: ShowTo::All, presence: ShowTo::Nobody };
        eve.manage_self(hide).await.expect("set");
        let members = ["bob", "cid", "eve"].map(user);
        ann.create_group(GroupId::new("team").expect("a name"), &members).await.expect("created");
        let named = |page: &SessionPresence| {
            let online = page.users.iter().filter(|line| line.online);
            online.map(|line| line.user.to_string()).collect::<Vec<_>>()
        };
        let page = ann.watch_session(&team, true).await.expect("a page");
        assert!(page.whole && !named(&page).contains(&"eve".to_owned()), "{page:?}");
        if !named(&page).contains(&"cid".to_owned()) {
            until_in(&mut anns, "cid", true).await;
        }
        let (sam, _sams) = app(&cluster, &[2], "sam", "phone").await;
        let refused = sam.watch_session(&team, true).await.expect_err("no member");
        assert_eq!(refused.code(), Some(ErrorCode::NotMember));

        let (bob, _bobs) = app(&cluster, &[2], "bob", "phone").await;
        until_in(&mut anns, "bob", true).await;
        // These two watch by way of the same node.
        for (watcher, inbox) in [(&cid, &mut cids), (&eve, &mut eves)] {
            let page = watcher.watch_session(&team, true).await.expect("a page");
            if !named(&page).contains(&"bob".to_owned()) {
                until_in(inbox, "bob", true).await;
            }
        }
        bob.close().await;
        for inbox in [&mut anns, &mut cids, &mut eves] {
            until_in(inbox, "bob", false).await;
        }
        let (_bob, _bobs) = app(&cluster, &[2], "bob", "tablet").await;
        for inbox in [&mut anns, &mut cids, &mut eves] {
            until_in(inbox, "bob", true).await;
        }

        ann.remove_members(&team, &[user("cid")]).await.expect("removed");
        until_in(&mut anns, "cid", false).await;
        cluster.kill(2);
        // Once eve is told, cid would have been.
        until_in(&mut anns, "bob", false).await;
        until_in(&mut eves, "bob", false).await;
        let refused = cid.watch_session(&team, true).await.expect_err("no member");
        assert_eq!(refused.code(), Some(ErrorCode::NotMember));
        while let Some(event) = cids.at_once() {
            let told = matches!(&event, Event::SessionPresence(told)
                if told.users.iter().any(|line| line.user == user("bob") && !line.online));
            assert!(!told, "cid is no member any more: {event:?}");
        }
        cluster.start(2);
        cluster.serving().await;
        until_in(&mut anns, "bob", true).await;
        // On another node she is told how it is there.
        cluster.kill(1);
        until_in(&mut anns, "bob", true).await;
        assert_ne!(ann.node(), Some(1));
    });
}
