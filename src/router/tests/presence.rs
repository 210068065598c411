//! Who is online where, over links that break and fill up: in the end every node that watches knows what is so.

use std::collections::HashSet;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rookery_wire::{SessionId, UserId};

use super::subscriptions::phone;
use super::*;

/// Whose devices are connected to a node, and of whom it was told that they may have moved.
#[derive(Default)]
struct Crowd {
    here: Mutex<HashSet<UserId>>,
    moved: Mutex<HashSet<UserId>>,
    companies: Mutex<HashSet<SessionId>>,
}

impl Places for Crowd {
    fn taken(&self, _: &[Arrival]) -> Vec<Arrival> {
        Vec::new()
    }
    fn here(&self) -> Vec<Arrival> {
        Vec::new()
    }
    fn online(&self, user: &UserId) -> bool {
        self.here.lock().contains(user)
    }
    fn moved(&self, users: &[UserId]) {
        self.moved.lock().extend(users.iter().cloned());
    }
    fn companies_moved(&self, sessions: &[SessionId]) {
        self.companies.lock().extend(sessions.iter().cloned());
    }
}

fn user(number: u32) -> UserId {
    UserId::new(&format!("u{number}")).unwrap()
}

struct People {
    cluster: Cluster,
    crowds: HashMap<u16, Arc<Crowd>>,
    watched: HashMap<u16, HashSet<UserId>>,
}

impl People {
    fn on(nodes: u16) -> Self {
        let cluster = cluster(nodes, 1);
        let crowds: HashMap<u16, Arc<Crowd>> = (1..=nodes).map(|node| (node, Arc::default())).collect();
        for (node, crowd) in &crowds {
            let places: Arc<dyn Places> = Arc::clone(crowd) as Arc<dyn Places>;
            cluster.nodes[node].router.set_places(Arc::downgrade(&places));
        }
        Self { cluster, crowds, watched: HashMap::new() }
    }

    fn move_to(&self, node: u16, user: &UserId, online: bool) {
        let mut here = self.crowds[&node].here.lock();
        let _ = if online { here.insert(user.clone()) } else { here.remove(user) };
        drop(here);
        self.cluster.nodes[&node].router.presence_moved(user);
    }

    fn watch(&mut self, node: u16, user: UserId, on: bool) -> u64 {
        let watched = self.watched.entry(node).or_default();
        let changed = if on { watched.insert(user.clone()) } else { watched.remove(&user) };
        let (add, remove) = match (changed, on) {
            (false, _) => (vec![], vec![]),
            (true, true) => (vec![user], vec![]),
            (true, false) => (vec![], vec![user]),
        };
        self.cluster.nodes[&node].router.watch(add, remove)
    }

    /// Whether a node knows of everybody it watches what is so at the others.
    fn is_right(&self, node: u16) -> bool {
        let elsewhere = |user: &UserId| {
            self.crowds.iter().any(|(other, crowd)| *other != node && crowd.here.lock().contains(user))
        };
        let router = &self.cluster.nodes[&node].router;
        let watched = self.watched.get(&node).into_iter().flatten();
        watched.into_iter().all(|user| router.online_elsewhere(user) == elsewhere(user))
    }
}

#[tokio::test(start_paused = true)]
async fn who_begins_to_watch_waits_for_the_answers() {
    let mut people = People::on(3);
    people.move_to(3, &user(1), true);
    until("the links were used", || people.is_right(1)).await;
    let asked = people.watch(1, user(1), true);
    people.cluster.nodes[&1].router.watch_answered(asked).await;
    assert!(people.cluster.nodes[&1].router.online_elsewhere(&user(1)));
    people.move_to(3, &user(1), false);
    until("it has gone", || people.is_right(1)).await;
    assert!(people.crowds[&1].moved.lock().contains(&user(1)), "and the connections are told");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_cut_off_takes_its_users_with_it_until_it_is_back() {
    let mut people = People::on(2);
    people.move_to(2, &user(1), true);
    people.watch(1, user(1), true);
    until("it is seen", || people.cluster.nodes[&1].router.online_elsewhere(&user(1))).await;
    people.cluster.net.cut(1, 2);
    until("it is not", || !people.cluster.nodes[&1].router.online_elsewhere(&user(1))).await;
    people.move_to(2, &user(1), false);
    people.move_to(2, &user(1), true);
    people.cluster.net.heal(1, 2);
    until("it is seen again", || people.cluster.nodes[&1].router.online_elsewhere(&user(1))).await;
}

#[tokio::test(start_paused = true)]
async fn after_random_moves_cuts_and_full_links_everybody_knows_what_is_so() {
    for seed in 0..20 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut people = People::on(3);
        people.cluster.net.full.store(rng.random_range(0..6), Ordering::Relaxed);
        for _ in 0..300 {
            let (node, user) = (rng.random_range(1..=3), user(rng.random_range(0..8)));
            let other = node % 3 + 1;
            match rng.random_range(0..20) {
                0..8 => people.move_to(node, &user, rng.random_bool(0.5)),
                8..15 => drop(people.watch(node, user, rng.random_bool(0.7))),
                15 => people.cluster.net.cut(node, other),
                16 | 17 => people.cluster.net.heal(node, other),
                _ => tokio::time::sleep(Duration::from_millis(rng.random_range(0..300))).await,
            }
        }
        people.cluster.net.full.store(0, Ordering::Relaxed);
        for (node, other) in [(1, 2), (2, 3), (3, 1)] {
            people.cluster.net.heal(node, other);
        }
        until(&format!("seed {seed}: all is known"), || (1..=3).all(|node| people.is_right(node))).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!((1..=3).all(|node| people.is_right(node)), "seed {seed}: and stays so");
    }
}

fn hall(number: u32) -> SessionId {
    SessionId::group(format!("g{number}").parse().unwrap())
}

/// Who is in which session at which node, and which nodes watch which sessions.
#[derive(Default)]
struct Halls {
    there: HashMap<(u16, SessionId), HashSet<UserId>>,
    watched: HashSet<(u16, SessionId)>,
}

impl Halls {
    fn go(&mut self, people: &People, node: u16, hall: &SessionId, user: UserId, comes: bool) {
        let there = self.there.entry((node, hall.clone())).or_default();
        let delivery = &people.cluster.nodes[&node].delivery;
        match comes {
            true => delivery.member_added(hall, &user, 0),
            false => delivery.member_removed(hall, &user),
        }
        let _ = if comes { there.insert(user) } else { there.remove(&user) };
    }

    fn watch(&mut self, people: &People, node: u16, hall: &SessionId, on: bool) {
        let place = (node, hall.clone());
        let changed = if on { self.watched.insert(place) } else { self.watched.remove(&place) };
        let (add, remove) = if on { (vec![hall.clone()], vec![]) } else { (vec![], vec![hall.clone()]) };
        if changed {
            people.cluster.nodes[&node].router.watch_sessions(add, remove);
        }
    }

    /// Whether every node that watches a session knows who is there: three are named, all are counted, and those twice of whom
    /// several nodes know and not all name.
    fn are_right(&self, people: &People) -> bool {
        self.watched.iter().all(|(node, hall)| {
            let parts: Vec<&HashSet<UserId>> =
                (1..=3).filter_map(|node| self.there.get(&(node, hall.clone()))).collect();
            let there: HashSet<&UserId> = parts.iter().copied().flatten().collect();
            let most = parts.iter().map(|part| part.len()).sum();
            let known = people.cluster.nodes[node].router.company(hall, &Default::default());
            let all_named = parts.iter().all(|part| part.len() <= 3);
            known.named.iter().all(|user| there.contains(user))
                && known.named.len() == there.len().min(3)
                && (there.len()..=most).contains(&known.total)
                && (known.total == there.len() || !all_named)
        })
    }
}

#[tokio::test(start_paused = true)]
async fn everybody_knows_who_is_there_in_sessions_after_random_moves_and_cuts() {
    for seed in 0..20 {
        let mut rng = StdRng::seed_from_u64(seed);
        let (people, mut halls) = (People::on(3), Halls::default());
        for node in 1..=3 {
            for number in 0..6 {
                people.cluster.nodes[&node].delivery.connect(phone(&format!("u{number}")));
            }
        }
        people.cluster.net.full.store(rng.random_range(0..6), Ordering::Relaxed);
        for _ in 0..300 {
            let (node, user, hall) =
                (rng.random_range(1..=3), user(rng.random_range(0..6)), hall(rng.random_range(0..3)));
            let other = node % 3 + 1;
            match rng.random_range(0..20) {
                0..9 => halls.go(&people, node, &hall, user, rng.random_bool(0.5)),
                9..14 => halls.watch(&people, node, &hall, rng.random_bool(0.7)),
                14 => people.cluster.net.cut(node, other),
                15 | 16 => people.cluster.net.heal(node, other),
                _ => tokio::time::sleep(Duration::from_millis(rng.random_range(0..300))).await,
            }
        }
        people.cluster.net.full.store(0, Ordering::Relaxed);
        for (node, other) in [(1, 2), (2, 3), (3, 1)] {
            people.cluster.net.heal(node, other);
        }
        until(&format!("seed {seed}: all is known"), || halls.are_right(&people)).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(halls.are_right(&people), "seed {seed}: and stays so");
        let told = |node| people.crowds[node].companies.lock().clone();
        assert!(
            halls.watched.iter().all(|(node, hall)| told(node).contains(hall)),
            "seed {seed}: and is told"
        );
    }
}
