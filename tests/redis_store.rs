//! The checkpoint store and stage against a real Redis.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::env;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use pgsyncd::checkpoint::{
    Checkpoint, CheckpointError, CheckpointStore, DeadLetter, EntryState, Listeners, LoadProgress,
    LoadState, Progress, RedisSettings, StoreSettings, run,
};
use pgsyncd::plan::{Finished, Job, RootKey, Sealed};
use pgsyncd::postgres::Lsn;
use pgsyncd::schema::tree::IndexName;
use redis::Commands;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(30);

fn url() -> String {
    env::var("PGSYNCD_TEST_REDIS_URL").unwrap()
}

async fn open(url: &str, name: &str, database: &str) -> CheckpointStore {
    let settings = StoreSettings::Redis(RedisSettings { url: url.to_owned() });
    CheckpointStore::open(&settings, name, database).await.unwrap()
}

/// A service name that no other test and no earlier run has.
fn unique(test: &str) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    format!("{test}-{}-{}", std::process::id(), now.as_nanos())
}

fn checkpoint(generation: u64, lsn: u64) -> Checkpoint {
    Checkpoint {
        system_identifier: "7".to_owned(),
        timeline: 1,
        slot: "pgsyncd_x".to_owned(),
        generation,
        lsn: Lsn(lsn),
        postmaster_started: String::new(),
        saved_at: SystemTime::UNIX_EPOCH,
    }
}

fn entry() -> EntryState {
    EntryState {
        index: IndexName("books".to_owned()),
        concrete: "books-1".to_owned(),
        schema_digest: "a".to_owned(),
        shape_digest: "b".to_owned(),
        load: LoadState::Running { floor: None, done_upto: None, rows: 0, ranges: 0 },
    }
}

#[tokio::test]
#[ignore = "needs Redis: tests/services.sh"]
async fn a_checkpoint_never_moves_back() {
    let store = open(&url(), &unique("back"), "shop").await;
    assert_eq!(store.load_checkpoint().await.unwrap(), None);
    // 2^53 is where Lua's numbers lose digits.
    let precise = 1_u64 << 53;
    for (generation, lsn) in
        [(1, 10), (1, 10), (1, precise), (1, precise + 1), (1, u64::MAX), (2, 9), (2, 10)]
    {
        store.save_checkpoint(&checkpoint(generation, lsn)).await.unwrap();
    }
    for (generation, lsn) in [(2, 9), (1, u64::MAX)] {
        let error = store.save_checkpoint(&checkpoint(generation, lsn)).await.unwrap_err();
        assert!(matches!(error, CheckpointError::Superseded { .. }), "{error:?}");
    }
    assert_eq!(store.load_checkpoint().await.unwrap(), Some(checkpoint(2, 10)));
    store.clear().await.unwrap();
}

#[tokio::test]
#[ignore = "needs Redis: tests/services.sh"]
async fn of_many_savers_the_highest_position_stays() {
    let store = Arc::new(open(&url(), &unique("race"), "shop").await);
    let mut savers = JoinSet::new();
    for saver in 0..8 {
        let store = Arc::clone(&store);
        savers.spawn(async move {
            for step in 0..50 {
                let saved = store.save_checkpoint(&checkpoint(1, step * 8 + saver)).await;
                assert!(matches!(saved, Ok(()) | Err(CheckpointError::Superseded { .. })));
            }
        });
    }
    savers.join_all().await;
    assert_eq!(store.load_checkpoint().await.unwrap(), Some(checkpoint(1, 399)));
    store.clear().await.unwrap();
}

#[tokio::test]
#[ignore = "needs Redis: tests/services.sh"]
async fn entries_dead_letters_and_schema_copies_are_kept() {
    let store = open(&url(), &unique("kept"), "shop").await;
    let progress = LoadProgress {
        index: entry().index,
        concrete: entry().concrete,
        done_upto: Some(RootKey(Box::new(["7".into()]))),
        rows: 7,
        ranges: 1,
    };
    store.save_entry(&entry()).await.unwrap();
    store.save_progress(&progress).await.unwrap();
    let mut advanced = entry();
    advanced.advance(progress);
    assert_eq!(store.load_entries().await.unwrap(), [advanced]);
    store.save_entry(&entry()).await.unwrap();
    assert_eq!(store.load_entries().await.unwrap(), [entry()]);
    store.remove_entry(&entry().index).await.unwrap();
    assert_eq!(store.load_entries().await.unwrap(), []);

    let letter = |number: u64| DeadLetter {
        index: entry().index,
        id: format!("{number}|ü"),
        key: RootKey(Box::new([number.to_string().into(), "ü".into()])),
        reason: "mapper_parsing_exception".to_owned(),
        at: SystemTime::UNIX_EPOCH + Duration::from_secs(number),
        lsn: Some(Lsn(number)),
    };
    // More than Redis keeps in one compact block, so that HSCAN takes several calls.
    for number in 0..1500 {
        store.put_dead_letter(&letter(number)).await.unwrap();
    }
    store.put_dead_letter(&letter(3)).await.unwrap();
    assert_eq!(store.dead_letter_count().await.unwrap(), 1500);
    assert_eq!(store.dead_letters(10).await.unwrap().len(), 10);
    let all = store.dead_letters(usize::MAX).await.unwrap();
    assert!(all.iter().eq((0..1500).map(letter).collect::<Vec<_>>().iter()));
    store.remove_dead_letter(&entry().index, "3|ü").await.unwrap();
    assert_eq!(store.dead_letter_count().await.unwrap(), 1499);

    store.cache_schema("https://x/y", "[]").await.unwrap();
    assert_eq!(store.cached_schema("https://x/y").await.unwrap().as_deref(), Some("[]"));
    assert_eq!(store.cached_schema("https://x").await.unwrap(), None);
    store.clear().await.unwrap();
}

#[tokio::test]
#[ignore = "needs Redis: tests/services.sh"]
async fn clearing_leaves_every_other_key_alone() {
    let name = unique("clear");
    let ours = open(&url(), &name, "shop").await;
    let theirs = open(&url(), &name, "shop2").await;
    for store in [&ours, &theirs] {
        store.save_checkpoint(&checkpoint(1, 10)).await.unwrap();
        store.save_entry(&entry()).await.unwrap();
    }
    ours.clear().await.unwrap();
    let mut client = redis::Client::open(url()).unwrap();
    let left: Vec<String> = client.keys(format!("pgsyncd:{name}:*")).unwrap();
    assert!(left.iter().all(|key| key.contains(":shop2:")) && left.len() == 2, "{left:?}");
    theirs.clear().await.unwrap();
}

#[tokio::test]
#[ignore = "needs Redis: tests/services.sh"]
async fn a_wrong_password_is_told_apart_from_a_dead_server_and_never_shown() {
    let mut wrong = url::Url::parse(&url()).unwrap();
    wrong.set_username("nobody").unwrap();
    wrong.set_password(Some("s3cret")).unwrap();
    let store = open(wrong.as_str(), "p", "shop").await;
    let error = store.load_checkpoint().await.unwrap_err();
    assert!(matches!(error, CheckpointError::RedisDenied { .. }), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("s3cret"));
    let store = open("redis://:s3cret@127.0.0.1:1/0", "p", "shop").await;
    let error = store.load_checkpoint().await.unwrap_err();
    assert!(matches!(error, CheckpointError::RedisUnreachable { .. }), "{error:?}");
    assert!(error.is_transient() && !format!("{error} {error:?}").contains("s3cret"));
}

/// Passes connections on to Redis while it lives.
async fn forward(listener: TcpListener, target: String) {
    let mut connections = JoinSet::new();
    loop {
        let (mut inside, _) = listener.accept().await.unwrap();
        let target = target.clone();
        connections.spawn(async move {
            let mut outside = TcpStream::connect(target).await.unwrap();
            drop(copy_bidirectional(&mut inside, &mut outside).await);
        });
    }
}

#[tokio::test]
#[ignore = "needs Redis: tests/services.sh"]
async fn the_stage_counts_through_an_outage_and_saves_after_it() {
    let parsed = url::Url::parse(&url()).unwrap();
    let target = format!("{}:{}", parsed.host_str().unwrap(), parsed.port().unwrap_or(6379));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut through = parsed.clone();
    through.set_host(Some("127.0.0.1")).unwrap();
    through.set_port(Some(address.port())).unwrap();
    let store = Arc::new(open(through.as_str(), &unique("outage"), "shop").await);

    let (input, receiver) = mpsc::channel(4);
    let (durable_sender, mut durable) = watch::channel(Lsn(100));
    let (finished_sender, mut finished) = watch::channel(Finished::default());
    let base = checkpoint(1, 100);
    let listeners = Listeners {
        durable: durable_sender,
        finished: finished_sender,
        commit_to_written: Arc::default(),
    };
    let stage = run(receiver, Arc::clone(&store), base, listeners);
    let seal = |round: u64| {
        let job = Job::Round(round);
        Progress::Sealed(Sealed { job, parts: 0, upto: Some(Lsn(100 + round)), commits: None })
    };
    let steps = async {
        let mut proxy = JoinSet::new();
        proxy.spawn(forward(listener, target.clone()));
        input.send(seal(1)).await.unwrap();
        durable.wait_for(|lsn| *lsn == Lsn(101)).await.unwrap();
        proxy.shutdown().await;
        for round in 2..=50 {
            input.send(seal(round)).await.unwrap();
        }
        finished.wait_for(|finished| finished.rounds == 50).await.unwrap();
        assert!(timeout(Duration::from_secs(1), durable.changed()).await.is_err());
        let listener = TcpListener::bind(address).await.unwrap();
        proxy.spawn(forward(listener, target.clone()));
        durable.wait_for(|lsn| *lsn == Lsn(150)).await.unwrap();
        assert_eq!(store.load_checkpoint().await.unwrap().unwrap().lsn, Lsn(150));
        store.clear().await.unwrap();
        drop(input);
    };
    let both = Box::pin(async { tokio::join!(stage, steps) });
    timeout(PATIENCE, both).await.unwrap().0.unwrap();
}
