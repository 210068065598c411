//! Starts that cannot go well: one error each, with the thing and the remedy, while the others serve on.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use rookery::fleet::{Fleet, PidFile};

use super::fixture::{Cluster, Plan, free_addresses, play, serve_fails};
use super::people::{app, contents, direct, replicas, say, texts};

/// The error of `serve` under a configuration that cannot be used.
fn bad_configuration(folder: &Path, text: &str) -> String {
    let path = folder.join("bad.toml");
    fs::write(&path, text).expect("written");
    let words = serve_fails(&path, 1);
    assert!(words.starts_with("error: "), "one error and nothing else: {words}");
    words
}

#[test]
fn a_bad_key_is_refused_by_name_with_the_right_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let good = include_str!("../../cluster.toml");
    let cases = [
        ("secret = \"rookery-sample", "secert = \"rookery-sample", "did you mean cluster.secret?"),
        ("secret = \"rookery-sample", "# \"", "cluster.secret is missing"),
        ("shards = 16", "shards = 0", "allowed: 1 to 256"),
        ("shards = 16", "shards = \"many\"", "cluster.shards"),
        ("mode = \"open\"", "mode = \"opne\"", "\"open\" or \"token\""),
        ("mode = \"open\"", "mode = \"token\"", "auth.secret is missing"),
        ("[auth]", "[auht]", "did you mean [auth]?"),
        ("client = \"127.0.0.1:7401\"", "clinet = \"127.0.0.1:7401\"", "did you mean node.client?"),
        ("client = \"127.0.0.1:7401\"", "", "client"),
        ("\"127.0.0.1:7501\"", "\"0.0.0.0:7501\"", "cluster.insecure_no_tls = true"),
        ("\"127.0.0.1:7502\"", "\"127.0.0.1:7401\"", "each listener has its own port"),
        ("replication = 3", "replication = 5", "allowed: 1 to 3"),
    ];
    for (from, to, said) in cases {
        assert!(good.contains(from), "{from}");
        let error = bad_configuration(folder.path(), &good.replacen(from, to, 1));
        assert!(error.contains("bad.toml") && error.contains(said), "{from} -> {to}: {error}");
    }
}

#[test]
fn a_taken_port_or_folder_and_another_number_of_shards_stop_one_node_and_not_the_others() {
    play(async {
        let mut cluster = Cluster::up(Plan::new(3, 2)).await;
        let fleet = cluster.fleet.clone();
        let session = direct("ann", "bob");
        let (ann, _) = app(&cluster, &[2, 3], "ann", "phone").await;
        let mut said = texts("hello", 5);
        say(&ann, &session, texts("hello", 5)).await;

        // A running node's folder, under another configuration: known by its pid file, and by its lock without one.
        let beside = beside(&cluster);
        let twice = cluster.fleet.node(1).expect("node 1").data.clone();
        let pid_file = PidFile::of(&twice);
        let pid = fs::read(pid_file.path()).expect("a pid file");
        let program = serve_fails(&beside.path, 1);
        assert!(program.contains("runs already, as process"), "{program}");
        assert!(program.contains("node.data") && program.contains(&twice.display().to_string()), "{program}");
        fs::remove_file(pid_file.path()).expect("removed");
        let locked = serve_fails(&beside.path, 1);
        assert!(locked.contains("is in use by a running node") && locked.contains("`data`"), "{locked}");
        fs::write(pid_file.path(), pid).expect("written");
        assert!(cluster.runs(1), "the true node 1 noticed nothing");
        say(&ann, &session, ["after a locked folder".to_owned()]).await;
        said.push("after a locked folder".to_owned());

        // Each of its ports in use.
        cluster.stop(1).await;
        let node = cluster.node(1).clone();
        for (key, address) in [("client", &node.client), ("peer", &node.peer), ("http", &node.http)] {
            let held = TcpListener::bind(address).expect("free a moment ago");
            let error = cluster.refused(&fleet, 1).await;
            assert!(error.contains(address) && error.contains(key), "{key}: {error}");
            assert!(error.contains("in use") && error.contains("cluster.toml"), "{key}: {error}");
            drop(held);
            say(&ann, &session, [format!("after a taken {key} port")]).await;
            said.push(format!("after a taken {key} port"));
        }

        // Another number of shards than the cluster was formed with.
        let more = cluster.variant("more.toml", &[("shards = 2", "shards = 3")]);
        let error = cluster.refused(&more, 1).await;
        assert!(error.contains("set cluster.shards = 2"), "{error}");
        cluster.start(1);
        cluster.serving().await;
        assert_eq!(contents(&replicas(&cluster, &[1, 2, 3], &session).await), said);
    });
}

/// Node 1 on addresses of its own, over the same folder.
fn beside(cluster: &Cluster) -> Fleet {
    let fresh = free_addresses(3);
    let node = cluster.node(1).clone();
    let moved = [(&node.client, &fresh[0]), (&node.peer, &fresh[1]), (&node.http, &fresh[2])];
    cluster.variant("beside.toml", &moved.map(|(from, to)| (from.as_str(), to.as_str())))
}
