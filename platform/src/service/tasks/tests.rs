//! Ends of processes: asked for, by a task's own fault, too slow, and impatient.

use super::*;

const GRACE: Duration = Duration::from_secs(20);

type Order = Arc<Mutex<Vec<&'static str>>>;

/// A task that notes its stop.
fn waits(tasks: &Tasks, stage: Stage, name: &'static str, order: &Order) {
    let (stop, order) = (tasks.stop_of(stage), order.clone());
    tasks.spawn(stage, name, async move {
        stop.cancelled().await;
        order.lock().push(name);
        Ok(())
    });
}

#[tokio::test]
async fn g16_a_signal_stops_stage_by_stage_and_ends_clean() {
    let (signal, signals) = Signals::manual();
    let (tasks, supervisor) = Tasks::new(signals);
    let (health, order) = (Health::new(), Order::default());
    waits(&tasks, Stage::Close, "store", &order);
    waits(&tasks, Stage::Flush, "flusher", &order);
    waits(&tasks, Stage::Accept, "ingest", &order);
    let (stop, noted) = (tasks.stop_of(Stage::Work), order.clone());
    tasks
        .spawn_blocking(Stage::Work, "fold", move || {
            while !stop.is_cancelled() {
                std::thread::yield_now();
            }
            noted.lock().push("fold");
            Ok(())
        })
        .unwrap();
    assert!(health.readiness().ready);
    signal.send(()).unwrap();
    assert_eq!(supervisor.run(&health, GRACE).await, Exit::Clean);
    assert_eq!(*order.lock(), ["ingest", "fold", "flusher", "store"]);
    assert!(!health.readiness().ready);
}

#[tokio::test]
async fn a_request_to_stop_ends_clean_too() {
    let (tasks, supervisor) = Tasks::new(Signals::manual().1);
    waits(&tasks, Stage::Accept, "ingest", &Order::default());
    tasks.stop();
    assert_eq!(supervisor.run(&Health::new(), GRACE).await.code(), 0);
}

#[tokio::test]
async fn a_task_that_ends_unasked_stops_the_process_with_1() {
    let (tasks, supervisor) = Tasks::new(Signals::manual().1);
    let order = Order::default();
    waits(&tasks, Stage::Close, "store", &order);
    tasks.spawn(Stage::Work, "reader", async { Ok(()) });
    let exit = supervisor.run(&Health::new(), GRACE).await;
    assert_eq!((exit, exit.code()), (Exit::Failed, 1));
    assert_eq!(*order.lock(), ["store"], "the others are stopped in order all the same");
}

#[tokio::test]
async fn a_panic_in_a_task_or_a_thread_stops_the_process_with_1() {
    let (tasks, supervisor) = Tasks::new(Signals::manual().1);
    tasks.spawn(Stage::Work, "reader", async { panic!("a broken invariant") });
    assert_eq!(supervisor.run(&Health::new(), GRACE).await, Exit::Failed);

    let (tasks, supervisor) = Tasks::new(Signals::manual().1);
    tasks.spawn_blocking(Stage::Work, "fold", || panic!("a broken invariant")).unwrap();
    assert_eq!(supervisor.run(&Health::new(), GRACE).await, Exit::Failed);
}

#[tokio::test]
async fn an_error_during_the_shutdown_is_exit_1() {
    let (signal, signals) = Signals::manual();
    let (tasks, supervisor) = Tasks::new(signals);
    let stop = tasks.stop_of(Stage::Flush);
    tasks.spawn(Stage::Flush, "flusher", async move {
        stop.cancelled().await;
        Err("the disk is full".into())
    });
    signal.send(()).unwrap();
    assert_eq!(supervisor.run(&Health::new(), GRACE).await, Exit::Failed);
}

#[tokio::test]
async fn a_worker_that_ends_early_within_a_shutdown_is_no_failure() {
    let (signal, signals) = Signals::manual();
    let (tasks, supervisor) = Tasks::new(signals);
    // Its input ends when the stage before it ends.
    let accept = tasks.stop_of(Stage::Accept);
    tasks.spawn(Stage::Work, "fold", async move {
        accept.cancelled().await;
        Ok(())
    });
    waits(&tasks, Stage::Close, "store", &Order::default());
    signal.send(()).unwrap();
    assert_eq!(supervisor.run(&Health::new(), GRACE).await, Exit::Clean);
}

#[tokio::test]
async fn a_second_signal_forces_the_end() {
    let (signal, signals) = Signals::manual();
    let (tasks, supervisor) = Tasks::new(signals);
    tasks.spawn(Stage::Accept, "stuck", std::future::pending());
    signal.send(()).unwrap();
    signal.send(()).unwrap();
    let exit = supervisor.run(&Health::new(), GRACE).await;
    assert_eq!((exit, exit.code()), (Exit::Forced, 1));
}

#[tokio::test]
async fn g16_the_grace_period_bounds_the_end_and_what_is_done_is_flushed() {
    let (signal, signals) = Signals::manual();
    let (tasks, supervisor) = Tasks::new(signals);
    let order = Order::default();
    tasks.spawn(Stage::Accept, "a client that never ends", std::future::pending());
    waits(&tasks, Stage::Flush, "flusher", &order);
    waits(&tasks, Stage::Close, "store", &order);
    signal.send(()).unwrap();
    assert_eq!(supervisor.run(&Health::new(), Duration::from_millis(200)).await, Exit::Forced);
    assert_eq!(*order.lock(), ["flusher", "store"]);
}

#[tokio::test]
async fn sigterm_of_the_process_is_a_signal() {
    let (tasks, supervisor) = Tasks::new(Signals::of_process().unwrap());
    waits(&tasks, Stage::Accept, "ingest", &Order::default());
    let me = rustix::process::getpid();
    rustix::process::kill_process(me, rustix::process::Signal::TERM).unwrap();
    assert_eq!(supervisor.run(&Health::new(), GRACE).await, Exit::Clean);
}
