//! Redis Streams: every entry counts once, and none stays pending.

use redis::{Client, Connection, RedisResult, Value};

use crate::broker::Broker;
use crate::harness::Server;
use crate::proxy;
use crate::record::{Record, total, wait_until};

const GROUP: &str = "pulso";

/// A stream of its own for a test.
struct Stream {
    broker: Broker,
    name: String,
}

impl Stream {
    fn new(test: &str) -> Self {
        let broker = Broker::redis();
        let stream = Self { broker, name: format!("pulses-{test}-{}", std::process::id()) };
        let _: i64 =
            redis::cmd("DEL").arg(&stream.name).query(&mut stream.connect()).expect("Redis is there");
        stream
    }

    fn url(&self) -> String {
        format!("redis://{}", self.broker.address())
    }

    /// Connects, also while Redis is coming back.
    fn connect(&self) -> Connection {
        let client = Client::open(self.url()).expect("a URL");
        let mut connection = None;
        wait_until("Redis does not answer", || {
            connection = client.get_connection().ok();
            connection.is_some()
        });
        connection.expect("connected")
    }

    fn flags(&self, url: &str) -> Vec<String> {
        let pairs = [("--redis-url", url), ("--redis-stream", &self.name), ("--redis-group", GROUP)];
        let pairs = pairs.into_iter().chain([("--redis-claim-after", "1s"), ("--redis-batch", "100")]);
        pairs.flat_map(|(flag, value)| [flag.to_owned(), value.to_owned()]).collect()
    }

    fn serve(&self, data: &std::path::Path, url: &str) -> Server {
        let flags = self.flags(url);
        Server::start_with(data, &flags.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Adds a message, again until Redis has confirmed it.
    fn add(&self, connection: &mut Connection, body: &str) {
        loop {
            let mut command = redis::cmd("XADD");
            let added: RedisResult<String> =
                command.arg(&self.name).arg("*").arg("body").arg(body).query(connection);
            if added.is_ok() {
                return;
            }
            *connection = self.connect();
        }
    }

    /// Entries that somebody read and nobody settled.
    fn pending(&self) -> i64 {
        let summary: RedisResult<Vec<Value>> =
            redis::cmd("XPENDING").arg(&self.name).arg(GROUP).query(&mut self.connect());
        match summary.as_deref() {
            Ok([Value::Int(pending), ..]) => *pending,
            other => panic!("no summary: {other:?}"),
        }
    }
}

#[test]
fn g03_redis_and_server_killed_mid_batch_lose_nothing_and_double_nothing() {
    let stream = Stream::new("kills");
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let mut record = Record::new();
    let mut connection = stream.connect();
    let mut server = stream.serve(&data, &stream.url());
    for round in 0..6 {
        for number in 0..500 {
            let body = record.pulse();
            stream.add(&mut connection, &body);
            if number % 50 == 0 {
                stream.add(&mut connection, &record.again(1 + number / 2));
                let poison = record.poison();
                stream.add(&mut connection, &poison);
            }
        }
        match round {
            1 | 4 => {
                stream.broker.kill_and_start();
                connection = stream.connect();
            }
            2 | 3 => {
                server.kill();
                server = stream.serve(&data, &stream.url());
            }
            _ => {}
        }
    }
    record.wait_until_folded(&server);
    wait_until("entries stay pending", || stream.pending() == 0);
    record.settle(server, &data);
}

#[test]
fn g03_what_a_dead_consumer_left_is_taken_over() {
    let stream = Stream::new("dead");
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let mut record = Record::new();
    let mut connection = stream.connect();
    for _ in 0..250 {
        stream.add(&mut connection, &record.pulse());
    }
    let create = ["CREATE", &stream.name, GROUP, "0"];
    let () = redis::cmd("XGROUP").arg(&create).query(&mut connection).expect("a group");
    let read = ["GROUP", GROUP, "dead", "COUNT", "200", "STREAMS", &stream.name, ">"];
    let _: Value = redis::cmd("XREADGROUP").arg(&read).query(&mut connection).expect("entries");
    assert_eq!(stream.pending(), 200);
    let server = stream.serve(&data, &stream.url());
    record.wait_until_folded(&server);
    wait_until("entries stay pending", || stream.pending() == 0);
    record.settle(server, &data);
}

#[test]
fn g03_dying_between_the_append_and_xack_counts_nothing_twice() {
    let stream = Stream::new("between");
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let mut record = Record::new();
    let mut connection = stream.connect();
    for _ in 0..80 {
        stream.add(&mut connection, &record.pulse());
    }
    let proxy = proxy::without_acknowledgements(stream.broker.address(), proxy::redis);
    let mut server = stream.serve(&data, &format!("redis://{proxy}"));
    record.wait_until_folded(&server);
    assert_eq!(stream.pending(), 80, "nothing was acknowledged");
    server.kill();
    let server = stream.serve(&data, &stream.url());
    wait_until("entries stay pending", || stream.pending() == 0);
    wait_until("all come again", || total(&server)["duplicate"].as_u64() >= Some(record.pulses()));
    record.settle(server, &data);
}

#[test]
fn an_entry_may_have_the_fields_of_a_pulse_and_a_wrong_password_is_told() {
    let stream = Stream::new("flat");
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let at = crate::harness::now();
    let fields = [
        "id",
        "f-1",
        "tenant_id",
        "acme",
        "product_sku",
        "vm",
        "used_amount",
        "1.50",
        "use_unit",
        "Hours",
        "occurred_at",
        &at,
        "tags.team",
        "blue",
    ];
    let mut command = redis::cmd("XADD");
    let _: String =
        command.arg(&stream.name).arg("*").arg(&fields).query(&mut stream.connect()).expect("adds");
    let server = stream.serve(&data, &stream.url());
    wait_until("the entry is not counted", || total(&server)["counted"] == 1);
    let (_, pulse) = server.get("/v1/tenants/acme/pulses/f-1");
    assert_eq!(pulse["pulse"]["tags"]["team"], "blue", "{pulse}");
    assert_eq!(server.admin("/readyz").0, 200);
    assert_eq!(server.stop(), 0);

    let url = format!("redis://:hunter2@{}", stream.broker.address());
    let server = stream.serve(&data, &url);
    wait_until("it says why", || server.admin("/readyz").1.contains("--redis-url"));
    let (status, readiness) = server.admin("/readyz");
    assert_eq!(status, 503, "{readiness}");
    assert!(!readiness.contains("hunter2") && !server.stderr().contains("hunter2"), "{readiness}");
    assert_eq!(server.stop(), 0);
}
