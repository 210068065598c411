//! LIST_VERSIONS while something else happens: the race is made at the step where it hurts, and not hoped for.

use std::cell::{Cell, RefCell};
use std::sync::atomic::Ordering;

use rookery_raft::{Batch, MemoryDisk, Store, StoreOptions};
use rookery_wire::versions::{ListVersions, VersionLine};
use rookery_wire::{Blob, ErrorCode};

use super::freed::acts;
use super::frozen::{both_linked, pair, send};
use super::{Shard, in_system, user};
use crate::shard::api::{ReadRefusal, ReadReply};
use crate::shard::checkpoint;
use crate::shard::reads::Reads;
use crate::shard::version_reads::{Step, TRIES};
use crate::state::VersionBounds;
use crate::state::command::Act;
use crate::state::key;

fn edit(content: &str) -> Act {
    let (content_type, content) = (Blob::from("text/plain"), Blob::from(content));
    let versions = VersionBounds { most: 3, kept: true };
    Act::Edit { seq: 1, window_ms: u64::MAX, versions, content_type, content, extensions: Vec::new() }
}

fn recall() -> Act {
    Act::Recall { seq: 1, window_ms: u64::MAX }
}

/// A shard in which ann has said "hi" to bob, then "second".
struct Scene {
    shard: Shard,
    index: Cell<u64>,
    number: Cell<u64>,
    mark: RefCell<Option<rookery_raft::Mark>>,
}

impl Scene {
    async fn over(store: Store) -> Self {
        let shard = Shard::over(store).await;
        shard.apply(1, send(pair("bob"), 1)).await;
        shard.apply(2, both_linked("bob", 1)).await;
        shard.apply(3, send(pair("bob"), 1)).await;
        let scene = Self { shard, index: Cell::new(3), number: Cell::new(1), mark: RefCell::default() };
        scene.does(edit("second")).await;
        scene
    }

    async fn does(&self, act: Act) {
        self.index.set(self.index.get() + 1);
        self.number.set(self.number.get() + 1);
        self.shard.apply(self.index.get(), acts(self.number.get(), act)).await;
    }

    async fn checkpoint(&self) {
        let last = self.mark.borrow().clone();
        let next = checkpoint::write(&self.shard.machine, last.as_ref()).await.expect("written");
        if next.is_some() {
            *self.mark.borrow_mut() = next;
        }
    }

    /// Until memory has the message no more, and rows alone know what it said.
    async fn cools(&self) {
        for _ in 0..20 {
            self.index.set(self.index.get() + 1);
            self.number.set(self.number.get() + 1);
            self.shard.apply(self.index.get(), send(pair("bob"), self.number.get())).await;
        }
        self.checkpoint().await;
    }

    fn reads(&self) -> Reads {
        Reads { shared: self.shard.shared.clone(), actor: self.shard.actor.clone() }
    }

    /// What bob is told, if this happens behind each step.
    async fn told<F: Future<Output = ()>>(
        &self,
        then: impl FnMut(Step) -> F,
    ) -> Result<Vec<VersionLine>, ReadRefusal> {
        let list = ListVersions { session: pair("bob"), seq: 1, before: 0, limit: 101 };
        match self.reads().versions_by_steps(Some(user("bob")), list, then).await? {
            ReadReply::Versions { page, .. } => Ok(page.versions),
            other => panic!("{other:?}"),
        }
    }

    /// What bob is told, if this act and a checkpoint come in between at this step of the first try.
    async fn told_with(&self, at: Step, act: &Act) -> Result<Vec<(u64, String)>, ErrorCode> {
        let done = Cell::new(false);
        let told = self.told(|step| {
            let now = step == at && !done.replace(done.get() || step == at);
            async move {
                if now {
                    self.does(act.clone()).await;
                    self.checkpoint().await;
                }
            }
        });
        match told.await {
            Ok(lines) => Ok(lines.iter().map(said).collect()),
            Err(ReadRefusal::Refused(refusal)) => Err(refusal.code),
            Err(other) => panic!("{other:?}"),
        }
    }
}

fn said(line: &VersionLine) -> (u64, String) {
    assert!(!line.is_lost(), "{line:?}");
    (line.number, String::from_utf8(line.content.as_ref().to_vec()).expect("text"))
}

fn lines(of: &[(u64, &str)]) -> Vec<(u64, String)> {
    of.iter().map(|(number, text)| (*number, (*text).to_owned())).collect()
}

#[test]
fn what_comes_between_a_look_at_memory_and_one_at_rows_is_not_passed_over() {
    in_system(async {
        for cold in [false, true] {
            for at in [Step::Remembered, Step::Listed] {
                let scene = Scene::over(Store::in_memory(MemoryDisk::new(1))).await;
                scene.checkpoint().await;
                if cold {
                    scene.cools().await;
                }
                let told = scene.told_with(at, &edit("third")).await;
                let all = lines(&[(3, "third"), (2, "second"), (1, "hi")]);
                assert_eq!(told, Ok(all), "an edit, {at:?}, cold: {cold}");
                if cold {
                    scene.cools().await;
                }
                let told = scene.told_with(at, &recall()).await;
                assert_eq!(told, Err(ErrorCode::Recalled), "a recall, {at:?}, cold: {cold}");
            }
        }
    });
}

#[test]
fn a_checkpoint_between_changes_nothing_of_what_is_told() {
    in_system(async {
        let scene = Scene::over(Store::in_memory(MemoryDisk::new(1))).await;
        let tries = Cell::new(0);
        let told = scene.told(|step| {
            tries.set(tries.get() + usize::from(step == Step::Remembered));
            scene.checkpoint()
        });
        let told: Vec<_> = told.await.expect("an answer").iter().map(said).collect();
        assert_eq!((told, tries.get()), (lines(&[(2, "second"), (1, "hi")]), 1));
    });
}

#[test]
fn who_reads_a_message_that_is_edited_all_the_time_is_sent_to_ask_again() {
    in_system(async {
        let scene = Scene::over(Store::in_memory(MemoryDisk::new(1))).await;
        let tries = Cell::new(0);
        let told = scene.told(|step| {
            let now = step == Step::Listed;
            tries.set(tries.get() + usize::from(now));
            let (nth, scene) = (tries.get(), &scene);
            async move {
                if now {
                    scene.does(edit(&format!("try {nth}"))).await;
                }
            }
        });
        let told = told.await;
        assert!(matches!(told, Err(ReadRefusal::Again { .. })), "{told:?}");
        assert_eq!(tries.get(), TRIES);
    });
}

#[test]
fn versions_that_a_replica_has_lost_are_named_and_counted() {
    in_system(async {
        let scene = Scene::over(Store::in_memory(MemoryDisk::new(1))).await;
        scene.does(edit("third")).await;
        scene.checkpoint().await;
        let mut damage = Batch::default();
        damage.delete(bytes::Bytes::from(key::version(&pair("bob"), 1, 2)));
        scene.shard.shared.map().apply(damage).await.expect("applied");
        let told = scene.told(|_| std::future::ready(())).await.expect("the rest");
        let shown: Vec<_> = told.iter().map(|line| (line.number, line.is_lost())).collect();
        assert_eq!(shown, [(3, false), (2, true), (1, false)]);
        assert_eq!(scene.shard.shared.versions_lost.load(Ordering::Relaxed), 1);
        assert!(scene.shard.faults.lock().is_empty(), "the node goes on");
    });
}

#[test]
fn who_waits_for_a_thread_to_read_holds_up_no_checkpoint() {
    in_system(async {
        let dir = tempfile::tempdir().expect("a folder");
        let mut options = StoreOptions::new(dir.path());
        options.read_threads = 1;
        options.free_disk_low_water = 0;
        let scene = Scene::over(Store::open(options).expect("a store")).await;
        // The one thread that reads is held.
        let (release, held) = std::sync::mpsc::sync_channel::<()>(1);
        let (holds, is_held) = tokio::sync::oneshot::channel();
        let map = scene.shard.shared.map();
        let holding = tokio::task::spawn_local(async move {
            map.read(move |_| {
                let _ = holds.send(());
                Ok(held.recv().is_ok())
            })
            .await
        });
        is_held.await.expect("held");
        let (reads, reaches) = (scene.reads(), tokio::sync::Notify::new());
        let reaches = std::rc::Rc::new(reaches);
        let list = ListVersions { session: pair("bob"), seq: 1, before: 0, limit: 101 };
        let reached = reaches.clone();
        let reader = tokio::task::spawn_local(async move {
            let then = |_| {
                reached.notify_one();
                std::future::ready(())
            };
            reads.versions_by_steps(None, list, then).await
        });
        // All on this thread, in turn: once it has looked at memory it goes on until it waits for the thread.
        reaches.notified().await;
        assert!(scene.shard.shared.rows_lock.try_write().is_ok(), "a checkpoint could write");
        assert!(!reader.is_finished());
        release.send(()).expect("somebody is held");
        assert!(holding.await.expect("no panic").expect("read"));
        let reply = reader.await.expect("no panic").expect("an answer");
        assert!(matches!(reply, ReadReply::Versions { page, .. } if page.versions.len() == 2));
        scene.shard.store.close().await;
    });
}
