//! Where only users may be named, a name that is nobody's is refused on every way to it, until there is such a user.

use rookery_client::wire::admin::AdminOutcome;
use rookery_client::{Client, ClientError, Options, Outgoing};
use rookery_wire::request::Role;
use rookery_wire::{AdminAction, ErrorCode, GroupId, RelationState, RequestKey};

use super::fixture::{Cluster, Plan, play};
use super::people::{app, device, direct, group, say, texts, user};

fn unknown<T: std::fmt::Debug>(refused: Result<T, ClientError>) {
    match refused {
        Err(ClientError::Refused(body)) => {
            assert_eq!(body.code, ErrorCode::UnknownUser, "{body}");
            assert!(body.message().contains("norbert"), "{body}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_name_that_is_nobodys_is_refused_until_there_is_such_a_user() {
    play(async {
        let cluster = Cluster::up(Plan::new(3, 4).with("limits", "users = \"created\"")).await;
        let (mona, _m) = app(&cluster, &[1, 2, 3], "mona", "phone").await;
        let (lars, _l) = app(&cluster, &[3, 1, 2], "lars", "phone").await;
        let mut options = Options::new(vec![cluster.client(2)], user("shop"), device("backend"));
        options.role = Role::Service;
        let (shop, _events) = Client::connect(options).await.expect("welcome");
        let key = |name: &str| RequestKey::new(name).expect("a key");
        let (id, both) = (|name: &str| GroupId::new(name).expect("a name"), [user("lars"), user("norbert")]);
        let with_nobody = direct("mona", "norbert");

        unknown(mona.send(&with_nobody, Outgoing::text("hi")).await);
        unknown(mona.create_group(id("team"), &both).await);
        unknown(mona.request_friend(user("norbert"), "hi").await);
        assert_eq!(mona.create_group(id("team"), &[user("lars")]).await.expect("its name is free").seq, 1);
        unknown(mona.add_members(&group("team"), &both).await);
        let add = AdminAction::AddMembers { group: id("team"), users: both.to_vec() };
        unknown(shop.admin(key("a1"), None, add.clone()).await);
        // Those who are there have nothing of all that, and go on.
        say(&mona, &group("team"), texts("without him", 1)).await;
        say(&lars, &direct("mona", "lars"), texts("who is norbert?", 1)).await;
        assert_eq!(mona.request_friend(user("lars"), "").await.expect("asked"), RelationState::Requested);

        // The name was not taken by being called.
        let create = AdminAction::CreateUser { user: user("norbert") };
        let made = shop.admin(key("c1"), None, create.clone()).await.expect("created").outcome;
        assert!(matches!(made, AdminOutcome::Done { value: 1, .. }), "{made:?}");
        match shop.admin(key("c2"), None, create).await {
            Err(ClientError::Refused(body)) => assert_eq!(body.code, ErrorCode::UserExists),
            other => panic!("{other:?}"),
        }
        say(&mona, &with_nobody, texts("welcome", 1)).await;
        shop.admin(key("a2"), None, add).await.expect("added");
        let there = mona.members(&group("team"), None, 9).await.expect("a page").users;
        assert_eq!(there, [user("lars"), user("mona"), user("norbert")]);
        assert_eq!(mona.request_friend(user("norbert"), "").await.expect("asked"), RelationState::Requested);
        let (_norbert, mut his) = app(&cluster, &[2, 3, 1], "norbert", "phone").await;
        assert_eq!(his.up_to(&with_nobody, "welcome 1").await, texts("welcome", 1));
    });
}
